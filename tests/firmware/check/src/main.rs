//! What `./ci.sh embedded` runs: builds the firmware for two instruction sets, runs it on three emulated boards, and compares.
//!
//! ```text
//! work.rs ─▶ firmware ─▶ QEMU ─▶ defmt log ─┬─▶ events and digests ═ those of work.rs on this machine
//!                   └──▶ ELF ─▶ sizes ──────┴─▶ stacks, instructions ═ FOOTPRINT.toml, within 2 %, and the limits
//! ```

mod board;
mod footprint;
mod host;
mod log;
#[path = "../../src/work.rs"]
mod work;

use std::process::ExitCode;
use std::thread;

use anyhow::{Context as _, anyhow, ensure};
use footprint::Footprint;

/// A build of the firmware and the board it runs on.
struct Build {
    target: &'static str,
    /// With networks, or trees alone in 256 KiB of flash and 16 KiB of RAM.
    nets: bool,
    /// QEMU's machine, and what it is.
    machine: &'static str,
    processor: &'static str,
}

/// Code for Armv6-M is a part of Armv7-M: QEMU has a Cortex-M0 only with the memory of a micro:bit, so that networks in software
/// floating point run on a Cortex-M3.
const BUILDS: [Build; 4] = [
    Build { target: "thumbv7em-none-eabihf", nets: true, machine: "mps2-an386", processor: "Cortex-M4F" },
    Build { target: "thumbv7em-none-eabihf", nets: false, machine: "mps2-an386", processor: "Cortex-M4F" },
    Build { target: "thumbv6m-none-eabi", nets: true, machine: "mps2-an385", processor: "Cortex-M3" },
    Build { target: "thumbv6m-none-eabi", nets: false, machine: "microbit", processor: "Cortex-M0" },
];

impl Build {
    const fn variant(&self) -> &'static str {
        if self.nets { "nets" } else { "trees" }
    }
}

fn main() -> anyhow::Result<ExitCode> {
    // Each is one long optimization of one whole program.
    let firmware = thread::scope(|scope| {
        let builds = BUILDS.each_ref().map(|build| scope.spawn(|| board::build(build)));
        builds.map(|build| build.join().unwrap_or_else(|_| Err(anyhow!("a thread died"))))
    });
    let mut measured = Footprint::default();
    for (build, firmware) in BUILDS.iter().zip(firmware) {
        let name = format!("{}, {}", build.target, build.variant());
        println!("{name}: {} ({})", build.processor, build.machine);
        let firmware = firmware.with_context(|| format!("{name}: building"))?;
        let bytes = board::run(build, &firmware).with_context(|| format!("{name}: running"))?;
        let elf = std::fs::read(&firmware)?;
        let log = log::read(&elf, &bytes).with_context(|| format!("{name}: reading the log"))?;
        let here = host::work(build.nets)?;
        for (line, (there, here)) in log.lines.iter().zip(&here).enumerate() {
            ensure!(
                there == here,
                "{name}: line {line} of the log is\n  {there}\nand this machine says\n  {here}"
            );
        }
        ensure!(
            log.lines.len() == here.len(),
            "{name}: {} lines of the log, {} on this machine: {:?}",
            log.lines.len(),
            here.len(),
            log.lines.last()
        );
        println!("  {} lines as on this machine; {}", here.len(), here.last().context("nothing was done")?);
        measured.add(build, &elf, &log)?;
    }
    footprint::judge(&measured)
}
