//! `qsc demo`: everything comes out as it must, the reports say what they are, and nothing is overwritten.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use qsc_tests::bundle::{self, names_in, text};
use qsc_tests::qsc::{self, Run};
use serde_json::{Value, json};
use tempfile::TempDir;

fn demo(directory: &Path, more: &[&str]) -> Run {
    let mut command = qsc::command(["demo"]);
    command.args(more).current_dir(directory);
    qsc::finish(command, &[])
}

fn reports(directory: &Path) -> Vec<String> {
    names_in(&directory.join("reports/demo"))
        .into_iter()
        .filter(|name| name.starts_with("quality_gate_"))
        .collect()
}

#[test]
fn the_story_is_told_and_checked() {
    let directory = TempDir::new().unwrap();
    let started = Instant::now();
    let run = demo(directory.path(), &["--format", "json"]);
    assert!(started.elapsed() < Duration::from_secs(60), "under a minute");
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{run:?}");
    let json = run.json();
    assert_eq!((&json["contract"], &json["command"]), (&json!(1), &json!("demo")));
    assert_eq!((&json["synthetic"], &json["exit_code"]), (&json!(true), &json!(0)));

    let replay = &json["replay"];
    assert_eq!((&replay["intents"], &replay["rejects"]), (&json!(3000), &json!(0)));
    assert_eq!(replay["models"], json!(["xgb", "lgbm", "nhits", "patchtst"]));
    assert!(replay["decisions_per_second"].as_f64().unwrap() > 0.0);
    let (p50, p99) = (&replay["decision_ns"]["p50"], &replay["decision_ns"]["p99"]);
    assert!(p50.as_u64().unwrap() > 0 && p50.as_u64() <= p99.as_u64());
    let sides: u64 = replay["sides"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum();
    assert_eq!(sides, 3000);

    let drill = &json["drill"];
    let at = |name: &str| drill[name].as_u64().unwrap();
    assert_eq!(drill["model"], "patchtst");
    assert!(at("frozen_at") < at("thrown_out_at") && at("thrown_out_at") < at("frozen_at") + 100, "{drill}");
    assert!(at("thrown_out_at") < at("thawed_at") && at("thawed_at") <= at("votes_again_at"), "{drill}");

    assert_eq!(json["feature_sanity"]["exit_code"], 0);
    for (gate, code, mode) in [
        ("collection_gate", 3, "**MODE:** 🔒 COLLECTION (DATA GATHERING ONLY)"),
        ("canary_gate", 0, "**MODE:** 🚀 CANARY (DEPLOYMENT ELIGIBLE)"),
    ] {
        assert_eq!(json[gate]["exit_code"], code);
        let path = json[gate]["report"].as_str().unwrap();
        assert_eq!(path.contains("collection"), gate == "collection_gate", "{path}");
        assert!(path.starts_with("reports/demo/quality_gate_"), "no activation looks there: {path}");
        let report = fs::read_to_string(directory.path().join(path)).unwrap();
        assert!(report.starts_with("# Quality Gate Report\n") && report.contains(mode), "{report}");
        assert!(report.lines().take(10).any(|line| line.contains("SYNTHETIC")), "{report}");
        let twin = fs::read_to_string(directory.path().join(path).with_extension("json")).unwrap();
        let twin: Value = serde_json::from_str(&twin).unwrap();
        assert_eq!(twin["exit_code"], code);
    }
    let page = reports(directory.path()).into_iter().find(|name| name.ends_with(".html")).unwrap();
    let page = fs::read_to_string(directory.path().join("reports/demo").join(page)).unwrap();
    assert!(page.split("<main>").next().unwrap().contains("SYNTHETIC"), "the page says it at its head");
    assert_eq!(reports(directory.path()).len(), 6);
}

#[test]
fn the_text_says_the_same_and_nothing_is_overwritten() {
    let directory = TempDir::new().unwrap();
    // Runs take well under a second: of several, two fall into the same one.
    let runs: Vec<Run> = (0..4).map(|_| demo(directory.path(), &[])).collect();
    for run in &runs {
        assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{run:?}");
        assert!(run.stdout.starts_with("QSC demo, SYNTHETIC data\n"), "{run:?}");
        assert!(run.stdout.ends_with("Everything came out as it must: exit 0\n"), "{run:?}");
        for part in ["patchtst is frozen", "thrown out as degenerate_output after ", "votes again after "] {
            assert!(run.stdout.contains(part), "{part}: {run:?}");
        }
        let named: Vec<&str> =
            run.stdout.lines().filter_map(|line| line.trim().strip_prefix("reports/demo/")).collect();
        assert_eq!(named.len(), 3, "intents and two reports: {run:?}");
        assert!(
            named.iter().all(|name| directory.path().join("reports/demo").join(name).exists()),
            "{named:?}"
        );
    }
    assert_eq!(reports(directory.path()).len(), 4 * 6, "each run has two reports, as text, page and data");
}

/// What the demo leaves behind is what an operator would have: it runs as it lies.
#[test]
fn its_files_are_an_ensemble_that_runs() {
    let directory = TempDir::new().unwrap();
    assert_eq!(demo(directory.path(), &["--report-dir", "d"]).code, Some(0));
    let mut command =
        qsc::command(["run", "--source", "file:d/features.jsonl", "--sink", "file:again.jsonl"]);
    command.args(["--models", "d/MODELS.toml"]).current_dir(directory.path());
    let run = qsc::finish(command, &[]);
    assert_eq!(run.code, Some(0), "{run:?}");
    let read = |name: &str| fs::read(directory.path().join(name)).unwrap();
    assert!(read("again.jsonl") == read("d/intents.jsonl"), "the demo replays as `run` runs");
    assert!(read("d/images/xgb.qsm") == fs::read(bundle::file("images/xgb.qsm")).unwrap());
    assert_eq!(names_in(directory.path()), ["again.jsonl", "d"], "it writes nowhere else");
}

#[test]
fn a_directory_it_cannot_write_is_an_error() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    for place in [text(&file), "/proc/demo"] {
        demo(directory.path(), &["--report-dir", place]).assert_refused(&[place]);
    }
    assert_eq!(names_in(directory.path()), ["file"]);
}
