//! Shared set-up of the tests: the binary, captures of events, fixtures of real libraries, generated models, a
//! real Redis, a real systemd.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

pub mod bundle;
pub mod canary;
pub mod capture;
pub mod chromium;
pub mod engine;
pub mod fixtures;
pub mod fuzz;
pub mod ingest;
pub mod models;
pub mod nets;
pub mod property;
pub mod qsc;
pub mod redis;
pub mod serving;
pub mod surgery;
pub mod systemd;
pub mod tree_cases;

/// Says that a test could not run, so loudly that nobody takes it for passed; with `QSC_REQUIRE_ALL=1` it fails.
///
/// # Panics
/// If the environment requires every test to run.
pub fn skip(reason: &str) {
    assert!(
        std::env::var_os("QSC_REQUIRE_ALL").is_none_or(|value| value != "1"),
        "required but not run: {reason}"
    );
    eprintln!("SKIPPED: {reason}");
}
