//! Where the log lines of `qsc run` go, and how they are spelled.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use qsc_tests::bundle::{self, text};
use qsc_tests::qsc::{self, Run};
use serde_json::Value;
use tempfile::TempDir;

fn run(directory: &Path, arguments: &[&str]) -> Run {
    let models = bundle::file("MODELS.toml");
    let mut command =
        qsc::command(["run", "--source", "-", "--sink", "file:i.jsonl", "--models", text(&models)]);
    command.args(arguments).current_dir(directory);
    qsc::finish(command, b"no capture line\n")
}

#[test]
fn json_says_line_by_line_what_text_says() {
    let directory = TempDir::new().unwrap();
    let plain = run(directory.path(), &[]);
    assert_eq!(plain.code, Some(0), "{plain:?}");
    assert!(plain.stderr.starts_with("AI_ENGINE_BUILD: "), "{plain:?}");
    assert!(plain.stderr.contains("\n[PATCHTST-INIT] Patch config: 8 patches x 16 timesteps\n"), "{plain:?}");
    assert_eq!(
        run(directory.path(), &["--log", "stderr"]).stderr.lines().count(),
        plain.stderr.lines().count()
    );

    let json = run(directory.path(), &["--log", "json"]);
    let lines: Vec<Value> = json.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let messages: Vec<&str> = lines.iter().map(|line| line["message"].as_str().unwrap()).collect();
    // The last line tells how long decisions took.
    let (_, same) = messages.split_last().unwrap();
    assert!(plain.stderr.starts_with(&same.join("\n")), "{messages:?}\n{}", plain.stderr);
    for line in &lines {
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'), "{line}");
    }
    let rejected = lines.iter().find(|line| line["level"] == "WARN").unwrap();
    assert_eq!(rejected["place"], "line 1");
    assert!(rejected["message"].as_str().unwrap().starts_with("rejected line 1: "), "{rejected}");
}

#[test]
fn a_refusal_is_a_line_like_any_other() {
    let directory = TempDir::new().unwrap();
    let json = run(directory.path(), &["--log", "json", "--metrics", "nowhere"]);
    assert_eq!(json.code, Some(1));
    let line: Value = serde_json::from_str(json.stderr.lines().last().unwrap()).unwrap();
    assert_eq!(line["level"], "ERROR");
    assert!(
        line["message"].as_str().unwrap().starts_with("QSC FAIL-CLOSED: --metrics \"nowhere\""),
        "{line}"
    );
}

#[test]
fn without_a_journal_it_is_refused() {
    if Path::new("/run/systemd/journal/socket").exists() {
        qsc_tests::skip("this machine has a journal");
        return;
    }
    let directory = TempDir::new().unwrap();
    run(directory.path(), &["--log", "journald"]).assert_refused(&["journal", "--log stderr"]);
}
