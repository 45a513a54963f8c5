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
    assert_eq!(reports(directory.path()).len(), 9);
    assert_drift_is_shown(directory.path(), &json["canary_gate"]);
    assert_nothing_was_activated(directory.path(), &json["canary_dry_run"]);
}

/// Every step of an activation is real and holds, but for the one that no simulated event can pass.
fn assert_nothing_was_activated(directory: &Path, dry_run: &Value) {
    assert_eq!((&dry_run["activated"], &dry_run["blocked_by"]), (&json!(false), &json!(["origin"])));
    let checks = dry_run["checks"].as_array().unwrap();
    let names: Vec<&str> = checks.iter().map(|check| check["check"].as_str().unwrap()).collect();
    for name in ["ensemble", "infra", "gate", "feature_sanity", "result", "header", "digests", "eligible"] {
        assert!(names.contains(&name), "{name} was not made: {names:?}");
    }
    assert_eq!(checks.len(), 18, "{names:?}");
    let left = names_in(&directory.join("reports/demo"));
    assert!(!left.iter().any(|name| name == "state"), "no state is made: {left:?}");

    // Nor do the intents activate anything where they are named as a source like any other.
    let cutover = dry_run["cutover"].as_str().unwrap();
    let mut activate =
        qsc::command(["canary", "activate", "--dry-run", "--format", "json", "--model", "xgb"]);
    activate.args(["--cutover", cutover, "--models", "reports/demo/MODELS.toml"]);
    activate.args(["--source", "file:reports/demo/intents.jsonl"]).current_dir(directory);
    let run = qsc::finish(activate, &[]);
    assert_eq!((run.code, &run.json()["status"]), (Some(2), &json!("blocked")), "{run:?}");
    let blocked = run.json()["blocked_by"].clone();
    assert_eq!(blocked.as_array().unwrap().len(), 1, "{blocked}");
    assert!(blocked[0].as_str().unwrap().starts_with("origin: SYNTHETIC"), "{blocked}");
    let payload = fs::read_to_string(directory.join("reports/demo/intents.jsonl")).unwrap();
    let event: Value = serde_json::from_str(payload.lines().next().unwrap()).unwrap();
    let payload: Value = serde_json::from_str(event["fields"]["payload"].as_str().unwrap()).unwrap();
    assert_eq!(payload["synthetic"], true, "also without the fields around it");

    // The same report is refused wherever it is shown, also with the word taken out of its data.
    let report = dry_run["report"].as_str().unwrap().replace(".md", ".json");
    let verify = || {
        let mut command = qsc::command(["report", "verify", &report, "--format", "json"]);
        command.current_dir(directory);
        let run = qsc::finish(command, &[]);
        let checks = run.json()["checks"].as_array().unwrap().clone();
        let failed = checks.iter().filter(|check| check["passed"] == false);
        (run.code, failed.map(|check| check["check"].as_str().unwrap().to_owned()).collect::<Vec<_>>())
    };
    assert_eq!(verify(), (Some(2), vec!["origin".to_owned()]));
    let path = directory.join(&report);
    let honest = fs::read_to_string(&path).unwrap();
    assert!(honest.contains("\"synthetic\": true"), "{honest}");
    fs::write(&path, honest.replace("\"synthetic\": true", "\"synthetic\": false")).unwrap();
    assert_eq!(verify(), (Some(2), vec!["origin".to_owned()]), "its header still says it");
}

/// The models' images hold the deciles of their training rows: a report says how far the features have moved.
fn assert_drift_is_shown(directory: &Path, gate: &Value) {
    let report = gate["report"].as_str().unwrap().replace(".md", ".json");
    let report: Value = serde_json::from_str(&fs::read_to_string(directory.join(report)).unwrap()).unwrap();
    assert_eq!(report["drift"]["uncalibrated"], json!([]));
    for model in ["xgb", "lgbm", "nhits", "patchtst"] {
        let features = report["drift"]["models"][model].as_object().unwrap();
        assert!(features.len() >= 8, "{model}: {features:?}");
        for (name, figures) in features {
            assert_eq!(figures["seen"], 2000, "{model} {name}");
            // A later stretch of the same simulated market: it has moved, and not far.
            assert!((0.0..0.5).contains(&figures["psi"].as_f64().unwrap()), "{model} {name}: {figures}");
        }
    }
}

#[test]
fn the_text_says_the_same_and_nothing_is_overwritten() {
    let directory = TempDir::new().unwrap();
    // The gate and the dry run write theirs within one second, run after run into the same directory.
    let runs: Vec<Run> = (0..2).map(|_| demo(directory.path(), &[])).collect();
    for run in &runs {
        assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{run:?}");
        assert!(run.stdout.starts_with("QSC demo, SYNTHETIC data\n"), "{run:?}");
        assert!(run.stdout.ends_with("Everything came out as it must: exit 0\n"), "{run:?}");
        for part in ["patchtst is frozen", "thrown out as degenerate_output after ", "votes again after "] {
            assert!(run.stdout.contains(part), "{part}: {run:?}");
        }
        let named: Vec<&str> =
            run.stdout.lines().filter_map(|line| line.trim().strip_prefix("reports/demo/")).collect();
        assert_eq!(named.len(), 4, "intents and three reports: {run:?}");
        let file = |line: &str| line.split(' ').next().unwrap().to_owned();
        assert!(
            named.iter().all(|line| directory.path().join("reports/demo").join(file(line)).exists()),
            "{named:?}"
        );
        assert!(run.stdout.contains("  FAIL origin          SYNTHETIC: "), "{run:?}");
        assert!(run.stdout.contains("Nothing was activated: every step held but"), "{run:?}");
    }
    assert_eq!(reports(directory.path()).len(), 2 * 9, "each run has three reports, as text, page and data");
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
    // But for the word that they are simulated.
    let intents = String::from_utf8(read("d/intents.jsonl")).unwrap().replace(r#"\"synthetic\":true,"#, "");
    assert!(read("again.jsonl") == intents.as_bytes(), "the demo replays as `run` runs");
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
