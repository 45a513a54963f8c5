//! `qsc run` on the bundled capture: every event becomes one intent that tells everything the contract promises.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use qsc_cli::identity;
use qsc_tests::bundle::{self, names_in, sha256, text};
use qsc_tests::qsc::{self, Run};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Runs the bundled capture in `directory` with `ensemble` and `member` settings; the run and its intents' payloads.
fn replay(directory: &Path, ensemble: &str, member: &str) -> (Run, Vec<Value>) {
    let models = bundle::write_models(directory, ensemble, member);
    let run = run(directory, &models, &[]);
    assert_eq!((run.code, run.stdout.as_str()), (Some(0), ""), "{run:?}");
    (run, intents(&directory.join("intents.jsonl")).into_iter().map(|(_, payload)| payload).collect())
}

fn run(directory: &Path, models: &Path, more: &[&str]) -> Run {
    let source = format!("file:{}", text(&bundle::file("capture/features.jsonl")));
    let mut command = qsc::command(["run", "--source", &source, "--sink", "file:intents.jsonl"]);
    command.args(["--models", text(models)]).args(more).current_dir(directory);
    qsc::finish(command, &[])
}

/// Id and payload of every intent in a capture.
fn intents(path: &Path) -> Vec<(String, Value)> {
    let parse = |line: &str| {
        let event: Value = serde_json::from_str(line).unwrap();
        assert_eq!(event["fields"]["event_type"], "trade.intent");
        let payload = event["fields"]["payload"].as_str().unwrap();
        (event["id"].as_str().unwrap().to_owned(), serde_json::from_str(payload).unwrap())
    };
    fs::read_to_string(path).unwrap().lines().map(parse).collect()
}

fn source_events() -> Vec<Value> {
    qsc_models::FEATURES_CAPTURE.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Sums of weights are exact up to the last bits of the division.
fn near(value: &Value, expected: f64) -> bool {
    value.as_f64().is_some_and(|value| (value - expected).abs() < 1e-6)
}

#[test]
fn every_event_becomes_one_intent_with_every_field() {
    let directory = TempDir::new().unwrap();
    replay(directory.path(), "", "");
    let intents = intents(&directory.path().join("intents.jsonl"));
    let (sources, payloads) = (source_events(), bundle::captured_payloads());
    assert_eq!((intents.len(), sources.len()), (3000, 3000));
    let ids: BTreeSet<_> = intents.iter().map(|(_, intent)| intent["source_id"].as_str()).collect();
    assert_eq!(ids.len(), 3000, "each source event has one intent");

    let features: BTreeSet<String> =
        bundle::feature_names("xgb").into_iter().chain(bundle::feature_names("lgbm")).collect();
    let mut consensus: BTreeMap<String, usize> = BTreeMap::new();
    for (((id, intent), source), given) in intents.iter().zip(&sources).zip(payloads) {
        assert_eq!((json!(id), &intent["source_id"]), (source["id"].clone(), &source["id"]));
        assert_eq!((&intent["symbol"], &intent["timestamp"]), (&given["symbol"], &given["timestamp"]));
        assert_eq!((&intent["model"], &intent["build"]), (&json!("ensemble"), &json!(identity::build())));
        assert_eq!((&intent["total_models"], &intent["active_models"]), (&json!(2), &json!(2)));

        let hash = intent["feature_hash"].as_str().unwrap();
        assert!(
            hash.len() == 8 && hash.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')),
            "{hash}"
        );
        let bound = intent["features"].as_object().unwrap();
        assert_eq!(bound.keys().cloned().collect::<BTreeSet<_>>(), features);
        for (name, value) in bound {
            let given = given["features"][name].as_f64().unwrap() as f32;
            assert_eq!((value.as_f64().unwrap() as f32).to_bits(), given.to_bits(), "{id}: {name}");
        }

        let breakdown = intent["model_breakdown"].as_object().unwrap();
        assert_eq!(breakdown.keys().collect::<Vec<_>>(), ["xgb", "lgbm"]);
        for (name, entry) in breakdown {
            assert_eq!(entry["model"], format!("{name}_model"));
            assert!(matches!(entry["action"].as_str(), Some("BUY" | "SELL" | "HOLD")), "{entry}");
            assert!(
                entry["confidence"].as_f64().is_some_and(|p| p > 1.0 / 3.0 - 1e-6 && p <= 1.0),
                "{entry}"
            );
            assert_eq!((entry.get("inactive"), entry.get("inactive_reason")), (None, None));
        }
        let weights = intent["effective_weights"].as_object().unwrap();
        assert!(weights.len() == 2 && weights.values().all(|weight| near(weight, 0.5)), "{intent}");

        let name = intent["consensus"].as_str().unwrap();
        *consensus.entry(name.to_owned()).or_default() += 1;
        let (xgb, lgbm) = (&breakdown["xgb"], &breakdown["lgbm"]);
        if xgb["action"] == lgbm["action"] {
            assert_eq!(
                (name, &intent["side"], &intent["consensus_count"]),
                ("unanimous", &xgb["action"], &json!(2))
            );
            let mean = (xgb["confidence"].as_f64().unwrap() + lgbm["confidence"].as_f64().unwrap()) / 2.0;
            assert!(near(&intent["confidence"], mean.min(0.95)), "{intent}");
        } else {
            assert_eq!((name, intent.get("side"), intent.get("confidence")), ("tie", None, None), "{intent}");
            assert_eq!(intent["consensus_count"], 0);
        }
    }
    assert_eq!(consensus.len(), 2, "the capture has both: {consensus:?}");
    assert_eq!(names_in(directory.path()), ["MODELS.toml", "intents.jsonl"]);
}

#[test]
fn the_log_names_build_and_images_first() {
    let directory = TempDir::new().unwrap();
    let (run, _) = replay(directory.path(), "", "");
    let lines: Vec<&str> = run.stderr.lines().collect();
    let image = |name: &str| bundle::file(&format!("images/{name}.qsm"));
    let digest = |name: &str| sha256(&fs::read(image(name)).unwrap());
    assert_eq!(
        lines[..7],
        [
            format!("AI_ENGINE_BUILD: {}", identity::build()),
            format!("[XGB-INIT] Model file: {}", text(&image("xgb"))),
            format!("[XGB-INIT] Image sha256: {}", digest("xgb")),
            "[XGB-INIT] Expected feature_dim: 23".to_owned(),
            format!("[LGBM-INIT] Model file: {}", text(&image("lgbm"))),
            format!("[LGBM-INIT] Image sha256: {}", digest("lgbm")),
            "[LGBM-INIT] Expected feature_dim: 21".to_owned(),
        ]
    );
    assert!(lines[7].starts_with("3000 intents, 0 rejected, 0 events of other types; "), "{}", lines[7]);
}

#[test]
fn two_runs_give_the_same_bytes() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("intents.jsonl");
    replay(directory.path(), "", "");
    let first = fs::read(&path).unwrap();
    fs::write(&path, "old").unwrap();
    replay(directory.path(), "", "");
    assert!(fs::read(&path).unwrap() == first, "what was there is replaced whole, by the same bytes");
}

#[test]
fn stdout_takes_the_same_lines() {
    let directory = TempDir::new().unwrap();
    replay(directory.path(), "", "");
    let file = fs::read_to_string(directory.path().join("intents.jsonl")).unwrap();
    let models = directory.path().join("MODELS.toml");
    let command = qsc::command(["run", "--source", "-", "--sink", "-", "--models", text(&models)]);
    let run = qsc::finish(command, qsc_models::FEATURES_CAPTURE.as_bytes());
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(run.stdout == file, "stdin to stdout gives what file to file gives");
}

#[test]
fn the_summary_counts_what_is_in_the_file() {
    let directory = TempDir::new().unwrap();
    let models = bundle::write_models(directory.path(), "", "");
    let run = run(directory.path(), &models, &["--format", "json"]);
    let json = run.json();
    assert_eq!((run.code, &json["contract"], &json["command"]), (Some(0), &json!(1), &json!("run")));
    assert_eq!(
        (&json["intents"], &json["rejects"], &json["other_types"]),
        (&json!(3000), &json!(0), &json!(0))
    );
    assert_eq!(json["inactive"], json!({}));
    let mut sides: BTreeMap<String, u64> = BTreeMap::new();
    for (_, intent) in intents(&directory.path().join("intents.jsonl")) {
        let side = intent.get("side").unwrap_or(&intent["consensus"]).as_str().unwrap().to_owned();
        *sides.entry(side).or_default() += 1;
    }
    assert_eq!(json["sides"], json!(sides));
    let quantile = |name: &str| json["decision_ns"][name].as_u64().unwrap();
    assert!(0 < quantile("p50") && quantile("p50") <= quantile("p99") && quantile("p99") <= quantile("max"));
}

#[test]
fn a_shadow_reports_and_never_votes() {
    let directory = TempDir::new().unwrap();
    let xgb = bundle::file("images/xgb.qsm");
    let lgbm = bundle::file("images/lgbm.qsm");
    let models = directory.path().join("MODELS.toml");
    let shadowed = format!(
        "[[model]]\nname = 'xgb'\nimage = {:?}\n[[model]]\nname = 'lgbm'\nimage = {:?}\nmode = 'shadow'\n",
        text(&xgb),
        text(&lgbm)
    );
    fs::write(&models, shadowed).unwrap();
    assert_eq!(run(directory.path(), &models, &[]).code, Some(0));
    for (_, intent) in intents(&directory.path().join("intents.jsonl")) {
        let (xgb, lgbm) = (&intent["model_breakdown"]["xgb"], &intent["model_breakdown"]["lgbm"]);
        assert_eq!((&lgbm["inactive"], &lgbm["inactive_reason"]), (&json!(true), &json!("shadow_mode")));
        assert!(
            lgbm["action"].is_string() && lgbm["confidence"].is_number(),
            "a shadow's answer is reported"
        );
        assert_eq!((&intent["side"], &intent["active_models"]), (&xgb["action"], &json!(1)));
        assert_eq!(intent["effective_weights"]["lgbm"].as_f64(), Some(0.0));
        assert!(near(&intent["effective_weights"]["xgb"], 1.0));
    }
}

#[test]
fn the_rules_of_the_vote_take_effect() {
    let directory = TempDir::new().unwrap();
    let (_, plain) = replay(directory.path(), "", "");
    let confidence = |intent: &Value| intent.get("confidence").and_then(Value::as_f64);
    let (_, halved) = replay(directory.path(), "multipliers = { unanimous = 0.5 }", "");
    for (plain, halved) in plain.iter().zip(&halved) {
        assert_eq!(plain["side"], halved["side"]);
        // No answer of the capture is as sure as the ceiling of 0.95.
        assert!(confidence(plain).is_none_or(|plain| near(&halved["confidence"], plain / 2.0)), "{halved}");
    }
    let (_, capped) = replay(directory.path(), "max_confidence = 0.45", "");
    assert!(capped.iter().filter_map(confidence).all(|capped| capped <= 0.45 + 1e-6));
    assert!(plain.iter().filter_map(confidence).any(|plain| plain > 0.46));
    let (_, margins) = replay(directory.path(), "", "confidence = 'margin'");
    let of_models = |intents: &[Value]| -> Vec<f64> {
        let breakdown =
            intents.iter().flat_map(|intent| intent["model_breakdown"].as_object().unwrap().values());
        breakdown.map(|entry| entry["confidence"].as_f64().unwrap()).collect()
    };
    assert!(of_models(&margins).iter().all(|confidence| (0.5..=0.95 + 1e-6).contains(confidence)));
    assert!(of_models(&plain).iter().any(|confidence| *confidence < 0.5));
}

#[test]
fn weights_decide() {
    let directory = TempDir::new().unwrap();
    let models = directory.path().join("MODELS.toml");
    let entry = |name: &str, weight: f64| {
        let image: PathBuf = bundle::file(&format!("images/{name}.qsm"));
        format!("[[model]]\nname = '{name}'\nimage = {:?}\nweight = {weight}\n", text(&image))
    };
    fs::write(&models, entry("xgb", 0.6) + &entry("lgbm", 0.2)).unwrap();
    assert_eq!(run(directory.path(), &models, &[]).code, Some(0));
    for (_, intent) in intents(&directory.path().join("intents.jsonl")) {
        assert_eq!(intent["side"], intent["model_breakdown"]["xgb"]["action"]);
        let weights = &intent["effective_weights"];
        assert!(near(&weights["xgb"], 0.75) && near(&weights["lgbm"], 0.25), "{weights}");
        let consensus = if intent["consensus_count"] == 2 { "unanimous" } else { "split" };
        assert_eq!(intent["consensus"], consensus);
    }
}
