//! Where the log lines of `qsc run` go, and how they are spelled.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use qsc_tests::bundle::{self, text};
use qsc_tests::qsc::{self, Run};
use qsc_tests::systemd::Systemd;
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
    assert!(plain.stderr.contains("\n[PatchTST-INIT] Patch config: 8 patches x 16 timesteps\n"), "{plain:?}");
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

/// A real journald files every line with its priority and fields, and stderr has none of them.
#[test]
fn the_journal_has_what_stderr_would_have() {
    let Some(systemd) = Systemd::boot() else { return };
    systemd.write("/run/in.jsonl", "no capture line\n");
    let models = "/qsc/models-bin/MODELS.toml";
    let run = ["run", "--source", "file:in.jsonl", "--sink", "file:i.jsonl", "--models", models];
    let plain = systemd.qsc(&run);
    assert_eq!(plain.code, Some(0), "{plain:?}");
    let journald = systemd.qsc(&[&run[..], &["--log", "journald"]].concat());
    assert_eq!((journald.code, journald.stderr.as_str()), (Some(0), ""), "{journald:?}");
    let refused = systemd.qsc(&[&run[..], &["--log", "journald", "--metrics", "nowhere"]].concat());
    assert_eq!((refused.code, refused.stderr.as_str()), (Some(1), ""), "{refused:?}");

    let filed = systemd.sh("journalctl --sync && journalctl --output json --no-pager SYSLOG_IDENTIFIER=qsc");
    let lines: Vec<Value> = filed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (refused, lines): (Vec<_>, Vec<_>) =
        lines.iter().partition(|line| line["MESSAGE"].as_str().unwrap().contains("QSC FAIL-CLOSED"));
    let messages: Vec<&str> = lines.iter().map(|line| line["MESSAGE"].as_str().unwrap()).collect();
    let expected: Vec<&str> = plain.stderr.lines().collect();
    // The last line tells how long decisions took; then comes what the refused run has logged.
    let (_, same) = expected.split_last().unwrap();
    assert_eq!(messages[..same.len()], *same, "{filed}");
    for line in &lines {
        let priority = if line["QSC_PLACE"].is_null() { "5" } else { "4" };
        assert_eq!(line["PRIORITY"], priority, "{line}");
    }
    let rejected = lines.iter().find(|line| line["PRIORITY"] == "4").unwrap();
    assert_eq!(rejected["QSC_PLACE"], "line 1");
    assert!(rejected["QSC_REASON"].as_str().unwrap().contains("no capture line"), "{rejected}");
    assert_eq!((refused.len(), &refused[0]["PRIORITY"]), (1, &"3".into()));
}
