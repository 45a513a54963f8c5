//! `qsc scoreboard`: one word per model, and an exit code that opens only when every word is GO.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use qsc_tests::bundle::names_in;
use qsc_tests::capture::{Capture, healthy, spread};
use qsc_tests::qsc::{self, Run};
use serde_json::{Value, json};
use tempfile::TempDir;

fn board(directory: &Path, capture: &Capture, more: &[&str]) -> Run {
    capture.write(directory, "capture.jsonl");
    let mut command = qsc::command(["scoreboard", "--source", "file:capture.jsonl"]);
    command.current_dir(directory).env("QSC_FORMAT", "json");
    command.args(["--now", "2026-01-10T05:43:15Z"]).args(more);
    qsc::finish(command, &[])
}

fn vote(action: &str, index: usize) -> Value {
    json!({"action": action, "confidence": 0.4 + 0.5 * spread(index)})
}

/// Events of three models: `agree(index)` says whether the third agrees with the two others.
fn three(count: usize, third: impl Fn(usize, &'static str) -> &'static str) -> Capture {
    let mut capture = Capture::new();
    for index in 0..count {
        let action = ["BUY", "SELL", "HOLD"][index % 3];
        let other = third(index, action);
        capture.push_intent(&[
            ("a", vote(action, index)),
            ("b", vote(action, index + 7)),
            ("c", vote(other, index + 13)),
        ]);
    }
    capture
}

/// Never against the others, but HOLD where they act and an action where they hold.
fn softly(index: usize, action: &'static str) -> &'static str {
    match action {
        "HOLD" if index.is_multiple_of(2) => "BUY",
        "HOLD" => "SELL",
        _ => "HOLD",
    }
}

fn against(_: usize, action: &'static str) -> &'static str {
    match action {
        "BUY" => "SELL",
        "SELL" => "BUY",
        _ => "HOLD",
    }
}

#[test]
fn go_needs_a_pass_an_agreement_in_bounds_and_little_hard_disagreement() {
    let directory = TempDir::new().unwrap();
    let run = board(directory.path(), &three(300, softly), &[]);
    let json = run.json();
    assert_eq!(
        (run.code, &json["verdict"], &json["command"]),
        (Some(0), &json!("pass"), &json!("scoreboard"))
    );
    assert!((json["ensemble"]["agreement_pct"].as_f64().unwrap() - 200.0 / 3.0).abs() < 1e-9);
    assert_eq!(json["ensemble"]["hard_disagreement_pct"], 0.0);
    for name in ["a", "b", "c"] {
        assert_eq!(json["signals"][name], json!({"signal": "GO", "reasons": []}));
    }
    let names = names_in(&directory.path().join("reports/safety"));
    assert_eq!(names, ["scoreboard_20260110_054315.json", "scoreboard_20260110_054315.md"]);
    let twin = fs::read_to_string(directory.path().join("reports/safety").join(&names[0])).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&twin).unwrap()["signals"], json["signals"]);

    // Models that always agree are one model; models that fight are none.
    for (third, part) in [
        (
            (|_: usize, action: &'static str| action) as fn(usize, &'static str) -> &'static str,
            "agree by 100.00 %",
        ),
        (against, "66.67 % of the events hold both BUY and SELL"),
    ] {
        let run = board(directory.path(), &three(300, third), &[]);
        let json = run.json();
        assert_eq!((run.code, &json["verdict"]), (Some(2), &json!("inconclusive")));
        assert_eq!(json["signals"]["a"]["signal"], "WAIT");
        assert!(json["signals"]["a"]["reasons"][0].as_str().unwrap().contains(part), "{json}");
    }
}

#[test]
fn a_failed_model_is_no_go_and_the_others_are_judged_for_themselves() {
    let directory = TempDir::new().unwrap();
    let mut capture = Capture::new();
    for index in 0..300 {
        let action = ["BUY", "SELL", "HOLD"][index % 3];
        let soft = softly(index, action);
        capture.push_intent(&[
            ("a", vote(action, index)),
            ("b", vote(soft, index + 7)),
            ("frozen", json!({"action": "HOLD", "confidence": 0.615})),
        ]);
    }
    let json = board(directory.path(), &capture, &[]).json();
    assert_eq!((&json["verdict"], &json["exit_code"]), (&json!("fail"), &json!(2)));
    let signals =
        ["a", "b", "frozen"].map(|name| json["signals"][name]["signal"].as_str().unwrap().to_owned());
    assert_eq!(signals, ["GO", "GO", "NO-GO"]);
    let reasons = json["signals"]["frozen"]["reasons"].as_array().unwrap();
    assert!(reasons[0].as_str().unwrap().contains("HOLD is 300 of 300"), "{reasons:?}");
}

#[test]
fn too_little_waits_and_nothing_at_all_never_passes() {
    let directory = TempDir::new().unwrap();
    let run = board(directory.path(), &three(100, softly), &[]);
    assert_eq!((run.code, &run.json()["signals"]["a"]["signal"]), (Some(2), &json!("WAIT")));
    let run = board(directory.path(), &Capture::new(), &[]);
    assert_eq!((run.code, &run.json()["verdict"]), (Some(2), &json!("inconclusive")));
    let mut one = Capture::new();
    (0..300).for_each(|index| one.push_intent(&[("only", healthy(index))]));
    let run = board(directory.path(), &one, &[]);
    assert_eq!(run.code, Some(2), "one model cannot agree with anyone");
    assert!(run.json()["reasons"][0].as_str().unwrap().contains("agreement is unknown"));
}

#[test]
fn watch_is_refused_where_there_is_no_terminal() {
    let directory = TempDir::new().unwrap();
    let run = board(directory.path(), &three(300, softly), &["--watch"]);
    run.assert_refused(&["--watch draws on a terminal"]);
    assert_eq!(names_in(directory.path()), ["capture.jsonl"]);
}

#[test]
fn the_text_says_the_same() {
    let directory = TempDir::new().unwrap();
    let run = board(directory.path(), &three(300, against), &["--format", "text"]);
    assert_eq!(run.code, Some(2));
    for part in [
        "a      WAIT",
        "agreement 77.8 %",
        "hard disagreement 66.7 %",
        "Verdict:  INCONCLUSIVE (exit code 2)",
    ] {
        assert!(run.stdout.contains(part), "{part}: {}", run.stdout);
    }
}
