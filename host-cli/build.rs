//! Tells the compiler what it builds: commit, Rust version, target.

use std::env;
use std::path::Path;
use std::process::{Command, ExitCode};

#[path = "build/identity_probe.rs"]
mod identity_probe;

const OVERRIDE: &str = "QSC_GIT_SHA";

fn main() -> ExitCode {
    println!("cargo::rerun-if-env-changed={OVERRIDE}");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build");
    let variable = |name: &str| env::var(name).unwrap_or_default();
    let probed =
        match identity_probe::probe(Some(&variable(OVERRIDE)), Path::new(&variable("CARGO_MANIFEST_DIR"))) {
            Ok(probed) => probed,
            Err(error) => {
                println!("cargo::error={OVERRIDE}: {error}");
                return ExitCode::FAILURE;
            }
        };
    for path in &probed.watch {
        println!("cargo::rerun-if-changed={}", path.display());
    }
    if let Some(reason) = &probed.reason {
        println!(
            "cargo::warning=this build will call itself {}: {reason} (set {OVERRIDE} to name it)",
            probed.build
        );
    }
    println!("cargo::rustc-env=QSC_BUILD={}", probed.build);
    println!("cargo::rustc-env=QSC_RUSTC={}", rustc_version(&variable("RUSTC")));
    println!("cargo::rustc-env=QSC_TARGET={}", variable("TARGET"));
    ExitCode::SUCCESS
}

fn rustc_version(rustc: &str) -> String {
    let output = Command::new(rustc).arg("--version").output();
    let version = output.ok().and_then(|output| String::from_utf8(output.stdout).ok()).unwrap_or_default();
    if version.trim().is_empty() { "<unknown>".to_owned() } else { version.trim().to_owned() }
}
