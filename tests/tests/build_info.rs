//! `qsc build-info` says which commit, compiler and target the binary is of, and what this machine can run.

use qsc_cli::identity;
use qsc_tests::qsc;
use serde_json::json;

#[test]
fn json_has_every_field() {
    let run = qsc::run(["build-info", "--format", "json"]);
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{run:?}");
    let info = run.json();
    // This test is built from the same tree as the binary.
    assert_eq!(
        info,
        json!({
            "contract": 1,
            "command": "build-info",
            "version": env!("CARGO_PKG_VERSION"),
            "git_sha": identity::git_sha(),
            "dirty": identity::is_dirty(),
            "build": identity::build(),
            "rustc": identity::RUSTC,
            "target": identity::TARGET,
            "backends": identity::backends().collect::<Vec<_>>(),
        })
    );
    assert!(info["backends"].as_array().is_some_and(|names| names.contains(&json!("scalar"))), "{info}");
}

#[test]
fn text_says_the_same() {
    let info = qsc::run(["build-info", "--format", "json"]).json();
    let run = qsc::run(["build-info"]);
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{run:?}");
    for field in ["version", "git_sha", "rustc", "target"] {
        let value = info[field].as_str().expect("text");
        assert!(run.stdout.contains(value), "{field} {value} is not in {}", run.stdout);
    }
    assert_eq!(run.stdout.contains("dirty"), info["dirty"] == json!(true));
}

#[test]
fn a_full_disk_is_an_error_not_a_panic() {
    let Ok(full) = std::fs::OpenOptions::new().write(true).open("/dev/full") else {
        return qsc_tests::skip("there is no /dev/full here");
    };
    let output = qsc::command(["build-info"]).stdout(full).output().expect("qsc runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("QSC FAIL-CLOSED: "), "{output:?}");
}
