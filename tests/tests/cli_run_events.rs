//! `qsc run` on what is sick: events, models, configurations, files. Nothing is lost and nothing invented.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use qsc_tests::bundle::{self, names_in, push_features, reseal, section, small, text};
use qsc_tests::capture::Capture;
use qsc_tests::qsc::{self, Run};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A scratch directory with `capture` and an ensemble of both bundled models.
fn with(capture: &Capture, ensemble: &str, member: &str) -> TempDir {
    let directory = TempDir::new().unwrap();
    capture.write(directory.path(), "features.jsonl");
    bundle::write_models(directory.path(), ensemble, member);
    directory
}

fn run(directory: &Path, more: &[&str]) -> Run {
    let mut command =
        qsc::command(["run", "--source", "file:features.jsonl", "--sink", "file:intents.jsonl"]);
    command.args(["--models", "MODELS.toml"]).args(more).current_dir(directory);
    qsc::finish(command, &[])
}

fn lines(path: &Path) -> Vec<Value> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Payloads of the intents a run must have written.
fn intents(directory: &TempDir, more: &[&str]) -> Vec<Value> {
    let run = run(directory.path(), more);
    assert_eq!(run.code, Some(0), "{run:?}");
    let payload = |event: Value| serde_json::from_str(event["fields"]["payload"].as_str().unwrap()).unwrap();
    lines(&directory.path().join("intents.jsonl")).into_iter().map(payload).collect()
}

/// Reason why `model` is inactive in `intent`, if it is.
fn reason<'a>(intent: &'a Value, model: &str) -> Option<&'a str> {
    let entry = &intent["model_breakdown"][model];
    let reason = entry.get("inactive_reason").map(|reason| reason.as_str().unwrap());
    assert_eq!(entry.get("inactive"), reason.map(|_| &json!(true)), "{entry}");
    let weight = intent["effective_weights"][model].as_f64().unwrap();
    assert_eq!(weight == 0.0, reason.is_some(), "only what is active has weight: {intent}");
    reason
}

/// A payload of the bundled capture with the features `(name, value)` written so, which JSON may have no word for;
/// an empty value takes the name out.
fn features_with(changes: &[(&str, &str)]) -> String {
    let mut payload = bundle::captured_payloads().next().unwrap();
    let features = payload["features"].as_object_mut().unwrap();
    for (name, value) in changes {
        assert!(features.remove(*name).is_some(), "{name}");
        if !value.is_empty() {
            features.insert((*name).to_owned(), json!(format!("<{name}>")));
        }
    }
    let text = payload.to_string();
    changes.iter().fold(text, |text, (name, value)| text.replace(&format!("\"<{name}>\""), value))
}

#[test]
fn sick_features_silence_the_models_that_need_them() {
    // `macd` is of xgb alone, `di_spread` of lgbm alone, `rsi_14` of both, `atr_value` of none.
    let (both, neither) = ("both", "neither");
    let cases = [
        (vec![("rsi_14", "NaN")], both, "nan_input"),
        (vec![("rsi_14", "null")], both, "nan_input"),
        (vec![("rsi_14", "\"46.19\"")], both, "nan_input"),
        (vec![("rsi_14", "true")], both, "nan_input"),
        (vec![("rsi_14", "[1]")], both, "nan_input"),
        (vec![("rsi_14", "Infinity")], both, "inf_input"),
        (vec![("rsi_14", "-Infinity")], both, "inf_input"),
        (vec![("rsi_14", "1e39")], both, "inf_input"),
        (vec![("rsi_14", "")], both, "missing_feature"),
        (vec![("macd", "NaN")], "xgb", "nan_input"),
        (vec![("macd", "")], "xgb", "missing_feature"),
        (vec![("di_spread", "Infinity")], "lgbm", "inf_input"),
        (vec![("di_spread", ""), ("rsi_14", "1")], "lgbm", "missing_feature"),
        (vec![("atr_value", "NaN")], neither, ""),
        (vec![("atr_value", "")], neither, ""),
    ];
    let mut capture = Capture::new();
    for (replace, _, _) in &cases {
        capture.push("market.features", &features_with(replace));
    }
    let directory = with(&capture, "", "");
    let intents = intents(&directory, &[]);
    assert_eq!(intents.len(), cases.len());
    for (intent, (replace, sick, why)) in intents.iter().zip(&cases) {
        let expected = |model: &str| (*sick == model || *sick == both).then_some(*why);
        for model in ["xgb", "lgbm"] {
            assert_eq!(reason(intent, model), expected(model), "{replace:?}: {intent}");
        }
        let active = match *sick {
            sick if sick == both => 0,
            sick if sick == neither => 2,
            _ => 1,
        };
        assert_eq!(intent["active_models"], active);
        let sum: f64 =
            intent["effective_weights"].as_object().unwrap().values().filter_map(Value::as_f64).sum();
        assert!((sum - if active == 0 { 0.0 } else { 1.0 }).abs() < 1e-9, "{intent}");
        match active {
            0 => {
                assert_eq!(intent["consensus"], "no_active_model");
                assert_eq!((intent.get("side"), intent.get("confidence")), (None, None));
            }
            1 => {
                assert_eq!(
                    (&intent["consensus"], &intent["consensus_count"]),
                    (&json!("unanimous"), &json!(1))
                );
                let healthy = if *sick == "xgb" { "lgbm" } else { "xgb" };
                assert_eq!(intent["side"], intent["model_breakdown"][healthy]["action"]);
            }
            _ => {}
        }
        let (name, value) = replace[0];
        let told = intent["features"].get(name);
        match value {
            "" => assert_eq!(told, None, "what was not there is not told"),
            "1" => assert_eq!(told.and_then(Value::as_f64), Some(1.0)),
            _ if name == "atr_value" => assert_eq!(told, None, "only features of a model are told"),
            _ => assert_eq!(told, Some(&Value::Null), "the vector is told as it was"),
        }
    }
}

#[test]
fn native_missing_values_are_answered() {
    let mut capture = Capture::new();
    capture.push("market.features", &features_with(&[("rsi_14", "NaN")]));
    capture.push("market.features", &features_with(&[("rsi_14", "")]));
    capture.push("market.features", &features_with(&[("rsi_14", "Infinity")]));
    let intents = intents(&with(&capture, "", "missing = 'native'"), &[]);
    for model in ["xgb", "lgbm"] {
        assert_eq!(reason(&intents[0], model), None, "NaN is a missing value to a tree");
        assert_eq!(reason(&intents[1], model), Some("missing_feature"), "an absent name is none");
        assert_eq!(reason(&intents[2], model), Some("inf_input"));
    }
}

#[test]
fn no_event_is_lost() {
    let good = features_with(&[]);
    let mut capture = Capture::new();
    let undecidable = [
        ("no JSON", "the payload is no JSON"),
        ("", "the payload is no JSON"),
        ("{\"symbol\":\"X\",\"symbol\":\"Y\",\"features\":{}}", "\"symbol\" appears twice"),
        ("[]", "no symbol"),
        ("{}", "no symbol"),
        ("{\"features\":{}}", "no symbol"),
        ("{\"symbol\":\"\",\"features\":{}}", "no symbol"),
        ("{\"symbol\":5,\"features\":{}}", "no symbol"),
        ("{\"symbol\":\"X\"}", "no features"),
        ("{\"symbol\":\"X\",\"features\":[1,2]}", "no features"),
        ("{\"symbol\":\"X\",\"features\":{\"a\":1e999}}", "the payload is no JSON"),
    ];
    for (payload, _) in undecidable {
        capture.push("market.features", payload);
        capture.push("market.features", &good);
    }
    capture.push("market.ticks", "no JSON, but nobody asks");
    capture.push("trade.intent", &good);
    let whole = capture.text().lines().count();
    let unreadable = [
        (
            "{\"id\":\"1-0\",\"fields\":{\"event_type\":\"market.features\",\"payload\":\"{}\"}}\n",
            "not greater than",
        ),
        (
            "{\"id\":\"9999999999999-0\",\"fields\":{\"event_type\":\"market.features\"}}\n",
            "payload is missing",
        ),
        ("{\"id\":\"9999999999999-1\",\"fields\":{\"payload\":\"{}\"}}\n", "event_type is missing"),
        (
            "{\"id\":\"yesterday\",\"fields\":{\"event_type\":\"market.features\",\"payload\":\"{}\"}}\n",
            "yesterday",
        ),
        ("no capture line\n", "no capture line"),
        ("{\"id\":\"9999999999999-2\",\"fields\":{\"event_type\":\"market.fea", "cut off"),
    ];
    unreadable.iter().for_each(|(line, _)| capture.push_tail(line));

    let directory = with(&capture, "", "");
    let run = run(directory.path(), &["--rejects", "rejects.jsonl", "--format", "json"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    let json = run.json();
    let count = |name: &str| usize::try_from(json[name].as_u64().unwrap()).unwrap();
    assert_eq!(count("intents"), undecidable.len());
    assert_eq!(count("rejects"), undecidable.len() + unreadable.len());
    assert_eq!(count("other_types"), 2);
    assert_eq!(count("intents") + count("rejects") + count("other_types"), whole + unreadable.len());
    assert_eq!(lines(&directory.path().join("intents.jsonl")).len(), count("intents"));

    let events = capture.text();
    let sent: Vec<Value> =
        events.lines().take(whole).map(|line| serde_json::from_str(line).unwrap()).collect();
    let rejects = lines(&directory.path().join("rejects.jsonl"));
    assert_eq!(rejects.len(), count("rejects"));
    for (at, (reject, (payload, reason))) in rejects.iter().zip(undecidable).enumerate() {
        assert_eq!(reject["id"], sent[2 * at]["id"]);
        assert!(reject["reason"].as_str().unwrap().contains(reason), "{reject}");
        assert_eq!(reject["fields"]["event_type"], "market.features");
        assert_eq!(reject["fields"]["payload"], payload, "the event is kept whole");
        let logged = format!("rejected event {}: ", reject["id"].as_str().unwrap());
        assert!(run.stderr.contains(&logged), "{logged}");
    }
    for (at, (reject, (_, reason))) in rejects[undecidable.len()..].iter().zip(unreadable).enumerate() {
        assert_eq!(reject["line"], whole + at + 1);
        assert!(reject["reason"].as_str().unwrap().contains(reason), "{reject}");
    }
}

#[test]
fn many_rejects_do_not_flood_the_log() {
    let mut capture = Capture::new();
    (0..100).for_each(|_| capture.push("market.features", "{}"));
    let directory = with(&capture, "", "");
    let run = run(directory.path(), &["--rejects", "rejects.jsonl"]);
    assert_eq!(run.stderr.lines().filter(|line| line.starts_with("rejected ")).count(), 20);
    assert!(run.stderr.contains("0 intents, 100 rejected"), "{run:?}");
    assert_eq!(lines(&directory.path().join("rejects.jsonl")).len(), 100);
    assert_eq!(fs::read_to_string(directory.path().join("intents.jsonl")).unwrap(), "");
}

/// Two healthy events, and an ensemble whose first model has `image`.
fn with_image(image: &Path) -> TempDir {
    let mut capture = Capture::new();
    bundle::captured_features().iter().take(2).for_each(|features| push_features(&mut capture, features));
    let directory = with(&capture, "", "");
    let models = fs::read_to_string(directory.path().join("MODELS.toml")).unwrap();
    let bundled = bundle::file("images/xgb.qsm");
    fs::write(directory.path().join("MODELS.toml"), models.replace(text(&bundled), text(image))).unwrap();
    directory
}

#[test]
fn a_model_without_a_sound_image_is_out_and_the_others_vote() {
    const GOLDEN_OUTPUTS: u32 = 7;
    let scratch = TempDir::new().unwrap();
    let image = scratch.path().join("sick.qsm");
    let whole = fs::read(bundle::file("images/xgb.qsm")).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    let mut golden = whole.clone();
    golden[section(&whole, GOLDEN_OUTPUTS).start] ^= 1;
    let cases: [(Option<Vec<u8>>, &str); 5] = [
        (None, "cannot read"),
        (Some(Vec::new()), "is empty"),
        (Some(whole[..whole.len() / 2].to_vec()), "refused"),
        (Some(flipped), "refused"),
        (Some(reseal(golden)), "golden"),
    ];
    for (bytes, why) in cases {
        match bytes {
            Some(bytes) => fs::write(&image, bytes).unwrap(),
            None => assert!(!image.exists()),
        }
        let directory = with_image(&image);
        let intents = intents(&directory, &[]);
        assert_eq!(intents.len(), 2);
        for intent in &intents {
            assert_eq!((reason(intent, "xgb"), reason(intent, "lgbm")), (Some("model_not_loaded"), None));
            assert_eq!((&intent["active_models"], &intent["total_models"]), (&json!(1), &json!(2)));
            assert_eq!(intent["side"], intent["model_breakdown"]["lgbm"]["action"]);
            assert_eq!(intent["model_breakdown"]["xgb"].get("action"), None, "nothing is invented");
        }
        let log = run(directory.path(), &[]).stderr;
        let line = log.lines().find(|line| line.starts_with("[XGB-INIT] model_not_loaded: ")).unwrap();
        assert!(line.contains(why), "{line}");
        assert!(!log.contains("[XGB-INIT] Expected feature_dim"), "{log}");
    }
}

#[test]
fn without_any_model_there_is_no_side() {
    let mut capture = Capture::new();
    bundle::captured_features().iter().take(3).for_each(|features| push_features(&mut capture, features));
    let directory = with(&capture, "", "");
    let models =
        "[[model]]\nname = 'a'\nimage = 'absent-a.qsm'\n[[model]]\nname = 'b'\nimage = 'absent-b.qsm'\n";
    fs::write(directory.path().join("MODELS.toml"), models).unwrap();
    let intents = intents(&directory, &[]);
    assert_eq!(intents.len(), 3);
    for intent in &intents {
        assert_eq!((intent.get("side"), intent.get("confidence")), (None, None));
        assert_eq!((&intent["consensus"], &intent["active_models"]), (&json!("no_active_model"), &json!(0)));
        assert_eq!(
            (reason(intent, "a"), reason(intent, "b")),
            (Some("model_not_loaded"), Some("model_not_loaded"))
        );
    }
}

#[test]
fn a_frozen_input_makes_the_output_degenerate_unless_told_otherwise() {
    let frozen = &bundle::captured_features()[0];
    let mut capture = Capture::new();
    (0..120).for_each(|_| push_features(&mut capture, frozen));
    let enforced = intents(&with(&capture, "", ""), &[]);
    for (at, intent) in enforced.iter().enumerate() {
        let expected = (at >= 99).then_some("degenerate_output");
        for model in ["xgb", "lgbm"] {
            assert_eq!(reason(intent, model), expected, "event {at}");
            assert!(intent["model_breakdown"][model]["action"].is_string(), "its answer is told");
        }
    }
    assert_eq!(enforced[119]["consensus"], "no_active_model");
    for (setting, reported) in [("observe", Some(&json!(true))), ("off", None)] {
        let intents = intents(&with(&capture, &format!("degeneracy = '{setting}'"), ""), &[]);
        for model in ["xgb", "lgbm"] {
            assert_eq!(reason(&intents[119], model), None, "{setting}: it still votes");
            assert_eq!(intents[119]["model_breakdown"][model].get("degenerate"), reported, "{setting}");
            assert_eq!(
                intents[98]["model_breakdown"][model].get("degenerate"),
                None,
                "the window is not full"
            );
        }
    }
}

#[test]
fn an_age_is_judged_only_where_a_limit_is_set() {
    let mut capture = Capture::new();
    push_features(&mut capture, &bundle::captured_features()[0]);
    let undated = features_with(&[]).replacen("\"timestamp\"", "\"time\"", 1);
    capture.push("market.features", &undated);
    for intent in intents(&with(&capture, "", ""), &[]) {
        assert_eq!(reason(&intent, "xgb"), None);
    }
    for intent in intents(&with(&capture, "max_age_ms = 60000", ""), &[]) {
        assert_eq!(reason(&intent, "xgb"), Some("stale_input"));
    }
}

#[test]
fn a_one_probability_model_has_a_dead_zone() {
    let directory = TempDir::new().unwrap();
    let mut capture = Capture::new();
    for at in 0..60 {
        let at = f64::from(at) / 10.0 - 3.0;
        push_features(&mut capture, &json!({"rsi_14": at, "macd": 0.0, "ema_10": 0.0}));
    }
    capture.write(directory.path(), "features.jsonl");
    let image = directory.path().join("binary.qsm");
    let compiled = qsc::run(["model", "compile", text(&small("binary.txt")), "--output", text(&image)]);
    assert_eq!(compiled.code, Some(0));
    fs::write(directory.path().join("MODELS.toml"), "[[model]]\nname = 'b'\nimage = 'binary.qsm'\n").unwrap();
    let mut seen = [0; 3];
    for intent in intents(&directory, &[]) {
        let entry = &intent["model_breakdown"]["b"];
        match reason(&intent, "b") {
            Some(why) => {
                assert_eq!((why, &intent["consensus"]), ("dead_zone", &json!("no_active_model")));
                seen[0] += 1;
            }
            None => {
                assert!(entry["confidence"].as_f64().is_some_and(|confidence| confidence > 0.6), "{entry}");
                assert_eq!(intent["side"], entry["action"]);
                seen[if entry["action"] == "BUY" { 1 } else { 2 }] += 1;
            }
        }
    }
    assert!(seen.iter().all(|&seen| seen > 0), "dead zone, BUY, SELL: {seen:?}");
}

/// Runs in `directory` what must be refused; its last line has every one of `parts`. No intents are left.
fn refused(directory: &Path, more: &[&str], parts: &[&str]) {
    let run = run(directory, more);
    assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""), "{run:?}");
    let (log, last) = run.stderr.trim_end().rsplit_once('\n').unwrap_or(("", run.stderr.trim_end()));
    assert!(last.starts_with("QSC FAIL-CLOSED: "), "{run:?}");
    assert!(
        log.lines().all(|line| line.starts_with("AI_ENGINE_BUILD: ") || line.contains("-INIT] ")),
        "{run:?}"
    );
    for part in parts {
        assert!(last.contains(part), "{part:?} is not in {run:?}");
    }
    assert!(
        !names_in(directory).iter().any(|name| name.contains("intents") || name.starts_with('.')),
        "{run:?}"
    );
}

#[test]
fn a_wrong_configuration_is_refused_in_one_sentence() {
    let mut capture = Capture::new();
    push_features(&mut capture, &bundle::captured_features()[0]);
    let directory = with(&capture, "", "");
    let good = fs::read_to_string(directory.path().join("MODELS.toml")).unwrap();
    let of_image = |image: &str| format!("[[model]]\nname = 'm'\nimage = '{image}'\n");
    for (content, parts) in [
        (String::new(), &["MODELS.toml", "names no model"][..]),
        ("[[model]".to_owned(), &["MODELS.toml", "line 1"]),
        (format!("{good}\nweight = 0.5\nweight = 0.6\n"), &["MODELS.toml", "line 13"]),
        (format!("{good}\nwieght = 0.5\n"), &["MODELS.toml", "wieght"]),
        (format!("[ensemble]\ndegeneracy = 'maybe'\n{}", of_image("x")), &["MODELS.toml", "line 2", "maybe"]),
        (format!("[ensemble]\nmax_confidence = 2.0\n{}", of_image("x")), &["max_confidence"]),
        (of_image("x") + "weight = 0", &["weight of \"m\""]),
        (of_image("x") + &of_image("y"), &["two models are named \"m\""]),
        ("[[model]]\nname = 'm'\n".to_owned(), &["MODELS.toml", "image"]),
    ] {
        fs::write(directory.path().join("MODELS.toml"), &content).unwrap();
        refused(directory.path(), &[], parts);
        let one = run(directory.path(), &[]);
        assert_eq!(one.stderr.lines().count(), 1, "one sentence: {one:?}");
    }
    let many: String = (0..17).map(|at| format!("[[model]]\nname = 'm{at}'\nimage = 'x'\n")).collect();
    fs::write(directory.path().join("MODELS.toml"), many).unwrap();
    refused(directory.path(), &[], &["17 models", "at most 16"]);
    fs::remove_file(directory.path().join("MODELS.toml")).unwrap();
    refused(directory.path(), &[], &["cannot read", "MODELS.toml"]);
}

#[test]
fn a_model_that_cannot_vote_is_refused() {
    let mut capture = Capture::new();
    push_features(&mut capture, &bundle::captured_features()[0]);
    let directory = with(&capture, "", "");
    let image = directory.path().join("regression.qsm");
    let compiled = qsc::run(["model", "compile", text(&small("regression.txt")), "--output", text(&image)]);
    assert_eq!(compiled.code, Some(0));
    fs::write(directory.path().join("MODELS.toml"), "[[model]]\nname = 'r'\nimage = 'regression.qsm'\n")
        .unwrap();
    refused(directory.path(), &[], &["\"r\" cannot vote", "regression", "MODELS.toml"]);
}

#[test]
fn sources_and_sinks_that_cannot_be_used_are_refused() {
    let mut capture = Capture::new();
    push_features(&mut capture, &bundle::captured_features()[0]);
    let directory = with(&capture, "", "");
    let started = |source: &str, sink: &str, more: &[&str]| {
        let mut command =
            qsc::command(["run", "--source", source, "--sink", sink, "--models", "MODELS.toml"]);
        command.args(more).current_dir(directory.path());
        let run = qsc::finish(command, &[]);
        assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""), "{run:?}");
        run.stderr.lines().last().unwrap().to_owned()
    };
    let good = "file:features.jsonl";
    for (source, sink, more, parts) in [
        ("file:absent.jsonl", "file:out", &[][..], &["cannot open the capture", "absent.jsonl"][..]),
        ("file:.", "file:out", &[], &["cannot read the capture"]),
        (
            "redis://u:hunter2@127.0.0.1:1",
            "file:out",
            &[],
            &["on the same server only", "--source file:PATH"],
        ),
        (good, "file:absent/out", &[], &["cannot write", "absent/out"]),
        (good, "file:/proc/out", &[], &["cannot write", "/proc/out"]),
        (good, "file:.", &[], &["cannot write", "directory"]),
        (good, "file:out", &["--rejects", "absent/rejects"], &["cannot write", "absent/rejects"]),
        (good, "file:features.jsonl", &[], &["--sink would overwrite", "--source"]),
        (good, "file:./MODELS.toml", &[], &["--sink would overwrite", "--models"]),
        (good, "file:out", &["--rejects", "./out"], &["--rejects would overwrite", "--sink"]),
        (good, "file:out", &["--rejects", "features.jsonl"], &["--rejects would overwrite", "--source"]),
    ] {
        let last = started(source, sink, more);
        assert!(last.starts_with("QSC FAIL-CLOSED: ") && !last.contains("hunter2"), "{last}");
        for part in parts {
            assert!(last.contains(part), "{part:?} is not in {last}");
        }
        assert_eq!(names_in(directory.path()), ["MODELS.toml", "features.jsonl"], "nothing is left behind");
    }
    assert_eq!(fs::read_to_string(directory.path().join("features.jsonl")).unwrap(), capture.text());

    let mut command =
        qsc::command(["run", "--source", good, "--sink", "file:/dev/null", "--models", "MODELS.toml"]);
    command.args(["--rejects", "/dev/null"]).current_dir(directory.path());
    assert_eq!(qsc::finish(command, &[]).code, Some(0), "a device may be named twice");
}

#[test]
fn an_image_is_no_sink() {
    let directory = TempDir::new().unwrap();
    let image = directory.path().join("xgb.qsm");
    fs::copy(bundle::file("images/xgb.qsm"), &image).unwrap();
    fs::write(directory.path().join("MODELS.toml"), "[[model]]\nname = 'xgb'\nimage = 'xgb.qsm'\n").unwrap();
    let command = ["run", "--source", "-", "--sink", "file:xgb.qsm", "--models", "MODELS.toml"];
    let mut command = qsc::command(command);
    command.current_dir(directory.path());
    qsc::finish(command, &[]).assert_refused(&["--sink would overwrite", "xgb.qsm", "the image of a model"]);
    assert_eq!(fs::read(&image).unwrap(), fs::read(bundle::file("images/xgb.qsm")).unwrap());
}
