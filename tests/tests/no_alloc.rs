//! The kernel links into a program without std, without an allocator and without a reachable panic.
//!
//! `tests/firmware` is linked for Cortex-M: with no allocator in it, a program that needs one does not link, and its
//! panic handler calls an undefined symbol, so neither does one that can panic. Two controls show that both would fail.
//! `./ci.sh embedded` runs these very programs.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use qsc_tests::skip;

/// Bare-metal targets, the one that matters most first.
const TARGETS: [&str; 2] = ["thumbv7em-none-eabihf", "thumbv6m-none-eabi"];

/// Those whose core library is installed; none is said aloud.
fn installed() -> Vec<&'static str> {
    let has = |target: &&str| {
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let output = Command::new(rustc).args(["--print", "target-libdir", "--target", target]).output();
        output.is_ok_and(|output| Path::new(String::from_utf8_lossy(&output.stdout).trim_end()).is_dir())
    };
    let installed: Vec<_> = TARGETS.into_iter().filter(has).collect();
    if !installed.contains(&TARGETS[0]) {
        skip(&format!("no core library for {0}; install it with `rustup target add {0}`", TARGETS[0]));
    }
    if installed.is_empty() {
        skip("no bare-metal target at all: the kernel was linked without an allocator nowhere");
    }
    installed
}

/// Builds the firmware; the path of the program, and how the build ended.
fn build(target: &str, feature: &str) -> (PathBuf, Output) {
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("firmware");
    let executable = std::env::current_exe().expect("a test has an executable");
    // target/<profile>/deps/<test>: the programs lie beside the profiles.
    let directory = executable.ancestors().nth(3).expect("tests run in a target directory").join("firmware");
    let output = Command::new(env!("CARGO"))
        .args(["build", "--release", "--locked", "--package", "qsc-firmware", "--target", target])
        .args(["--features", feature, "--target-dir"])
        .arg(&directory)
        .current_dir(package)
        // What the caller builds with is not what firmware builds with.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .output()
        .expect("cargo runs");
    (directory.join(target).join("release/qsc-firmware"), output)
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn the_kernel_links_without_allocator_and_without_panic() {
    for target in installed() {
        let (program, output) = build(target, "");
        let messages = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{target}:\n{messages}");
        let bytes = std::fs::read(&program).unwrap();
        assert!(bytes.starts_with(b"\x7fELF"), "{target}");
        for symbol in [
            "rust_alloc",
            "rust_dealloc",
            "rust_realloc",
            "__rg_",
            "__rdl_",
            "5alloc",
            "qsc_panic_is_reachable",
        ] {
            assert!(!contains(&bytes, symbol), "{target}: {symbol} is in the program");
        }
        // The proof is about something: the models and the kernel's code are in the program.
        let images = qsc_models::IMAGES.iter().all(|(_, image)| {
            let part = &image[1024..4096];
            bytes.windows(part.len()).any(|window| window == part)
        });
        assert!(
            images && contains(&bytes, "__cortex_m_rt_main") && contains(&bytes, "qsc_kernel"),
            "{target}: an empty program"
        );
    }
}

#[test]
fn a_panic_or_an_allocation_would_be_noticed() {
    let Some(target) = installed().first().copied() else { return };
    for (feature, words) in
        [("panic-control", "qsc_panic_is_reachable"), ("alloc-control", "no global memory allocator found")]
    {
        let (_, output) = build(target, feature);
        let messages = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{target}: {feature} was built");
        assert!(messages.contains(words), "{target}, {feature}:\n{messages}");
    }
}
