//! Firmware from cargo, and a board from QEMU.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

use anyhow::{Context as _, bail, ensure};

use crate::Build;

/// Longest a run may take; QEMU is ended then.
const SECONDS: &str = "600";

/// Builds the firmware; the path of its ELF file.
pub(crate) fn build(build: &Build) -> anyhow::Result<PathBuf> {
    let package =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("this package lies in the firmware's")?;
    let executable = env::current_exe()?;
    // target/<profile>/<this program>. Builds at the same time need a directory each.
    let directory = executable.ancestors().nth(2).context("a program of cargo lies in a target directory")?;
    let directory = directory.join(format!("{}-{}", build.target, build.variant()));
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args([
        "build",
        "--quiet",
        "--release",
        "--locked",
        "--package",
        "qsc-firmware",
        "--target",
        build.target,
    ]);
    if !build.nets {
        cargo.arg("--no-default-features");
    }
    // What the caller builds with is not what firmware builds with.
    cargo.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    let status = cargo.arg("--target-dir").arg(&directory).current_dir(package).status()?;
    ensure!(
        status.success(),
        "the firmware does not build: with `qsc_panic_is_reachable` undefined, a panic is reachable in it"
    );
    Ok(directory.join(build.target).join("release/qsc-firmware"))
}

/// Runs the firmware; what it wrote.
pub(crate) fn run(build: &Build, firmware: &Path) -> anyhow::Result<Vec<u8>> {
    let output = Command::new("timeout")
        .args([SECONDS, "qemu-system-arm", "-machine", build.machine])
        .args(["-nographic", "-monitor", "none", "-serial", "none"])
        .args(["-semihosting-config", "enable=on,target=native"])
        // One instruction takes one nanosecond: the board's clock counts them.
        .args(["-icount", "shift=0", "-kernel"])
        .arg(firmware)
        .stdin(Stdio::null())
        .output()
        .context("qemu-system-arm is not here")?;
    if !output.status.success() {
        let log = crate::log::read(&fs::read(firmware)?, &output.stdout);
        let said = log.map(|log| log.lines.last().cloned().unwrap_or_default());
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!("{}: {errors}the last it said was {said:?}", output.status);
    }
    Ok(output.stdout)
}
