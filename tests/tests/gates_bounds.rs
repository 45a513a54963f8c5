//! The quality gate's bounds: what is exactly on one holds, the next value beyond does not.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use qsc_tests::capture::{Capture, healthy, healthy_capture};
use qsc_tests::qsc;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Judges `capture` in `mode`; exit code and JSON, which must agree.
fn judge(capture: &Capture, mode: &str, more: &[&str]) -> (i32, Value) {
    let directory = TempDir::new().unwrap();
    let path = capture.write(directory.path(), "capture.jsonl");
    let reports = directory.path().join("reports");
    let mut arguments = vec!["quality-gate", "--format", "json", "--mode", mode, "--source"];
    let source = format!("file:{}", path.display());
    arguments.extend([source.as_str(), "--report-dir", reports.to_str().unwrap()]);
    arguments.extend(more);
    let run = qsc::run(arguments);
    let json = run.json();
    assert_eq!(json["exit_code"], json!(run.code), "{run:?}");
    (run.code.unwrap(), json)
}

/// Intents in which the model `xgb` says `entries`, one after the other.
fn capture_of(entries: impl IntoIterator<Item = Value>) -> Capture {
    let mut capture = Capture::new();
    entries.into_iter().for_each(|entry| capture.push_intent(&[("xgb", entry)]));
    capture
}

/// Names of the checks that `xgb` failed in canary mode, after the gate was seen to agree.
fn failures(capture: &Capture) -> Vec<String> {
    let (code, json) = judge(capture, "canary", &[]);
    let model = &json["models"]["xgb"];
    let failures: Vec<String> = model["failures"]
        .as_array()
        .unwrap()
        .iter()
        .map(|failure| failure["check"].as_str().unwrap().to_owned())
        .collect();
    let passed = failures.is_empty();
    assert_eq!(model["verdict"], if passed { "pass" } else { "fail" });
    assert_eq!(json["eligible"], if passed { json!(["xgb"]) } else { json!([]) });
    assert_eq!(code, if passed { 0 } else { 2 }, "{json}");
    assert_eq!(json["verdict"], if passed { "pass" } else { "fail" });
    failures
}

/// Says `action`, as confident as a healthy model.
fn acting(action: &str, index: usize) -> Value {
    let mut entry = healthy(index);
    entry["action"] = action.into();
    entry
}

#[test]
fn seventy_percent_of_one_action_holds_and_one_more_fails() {
    let of = |buys: usize, all: usize| {
        capture_of((0..all).map(|index| acting(if index < buys { "BUY" } else { "SELL" }, index)))
    };
    assert!(failures(&of(140, 200)).is_empty());
    assert!(failures(&of(210, 300)).is_empty());
    assert_eq!(failures(&of(141, 200)), ["majority_class"]);
    let (_, json) = judge(&of(141, 200), "canary", &[]);
    let failure = &json["models"]["xgb"]["failures"][0];
    assert_eq!((failure["value"].as_f64(), failure["threshold"].as_f64()), (Some(70.5), Some(70.0)));
    assert!(failure["detail"].as_str().unwrap().contains("BUY is 141 of 200"));
}

#[test]
fn eighty_five_percent_of_hold_holds_and_one_more_fails() {
    let of = |holds: usize| {
        capture_of((0..200).map(|index| acting(if index < holds { "HOLD" } else { "SELL" }, index)))
    };
    assert_eq!(failures(&of(170)), ["majority_class"]);
    assert_eq!(failures(&of(171)), ["majority_class", "hold_collapse"]);
}

/// Confidences by turns over three actions.
fn confident(confidences: impl IntoIterator<Item = Value>) -> Capture {
    let actions = ["BUY", "SELL", "HOLD"].iter().cycle();
    capture_of(
        confidences
            .into_iter()
            .zip(actions)
            .map(|(confidence, action)| json!({"action": action, "confidence": confidence})),
    )
}

/// Half the confidences `low`, half `high`: a population std of exactly half the difference.
fn two_levels(low: f64, high: f64) -> Capture {
    confident((0..200).map(|index| json!(if index % 2 == 0 { low } else { high })))
}

#[test]
fn a_confidence_std_on_its_bound_holds() {
    // numpy.std([0.0, 0.1] * 100) is 0.05; P90 − P10 is 0.10 here, so that check fails.
    assert_eq!(failures(&two_levels(0.0, 0.1)), ["p10_p90_range"]);
    let (_, json) = judge(&two_levels(0.0, 0.1), "canary", &[]);
    assert_eq!(json["models"]["xgb"]["confidence"]["std"].as_f64(), Some(0.05));
    assert_eq!(failures(&two_levels(0.0, 0.1_f64.next_down())), ["confidence_std", "p10_p90_range"]);
    // numpy.std([0.45, 0.55] * 100) is 0.05000000000000002, numpy.std([0.4501, 0.55] * 100) 0.04995.
    assert_eq!(failures(&two_levels(0.45, 0.55)), ["p10_p90_range"]);
    assert_eq!(failures(&two_levels(0.4501, 0.55)), ["confidence_std", "p10_p90_range"]);
}

#[test]
fn a_p10_p90_range_on_its_bound_holds() {
    // P10 is the lower level, P90 the upper; 0.62 − 0.5 is 0.12 in binary too.
    assert!(failures(&two_levels(0.5, 0.62)).is_empty());
    assert_eq!(failures(&two_levels(0.5, 0.62_f64.next_down())), ["p10_p90_range"]);
}

#[test]
fn constant_confidences_fail_by_std_or_by_range() {
    assert_eq!(
        failures(&confident((0..200).map(|_| json!(0.7)))),
        ["confidence_std", "p10_p90_range", "constant_output"]
    );
    // A tenth far away at either end: a large std, but P10 = P90.
    let outliers = confident((0..200).map(|index| {
        json!(if index < 10 {
            0.0
        } else if index < 20 {
            1.0
        } else {
            0.5
        })
    }));
    assert_eq!(failures(&outliers), ["p10_p90_range", "constant_output"]);
    let (_, json) = judge(&outliers, "canary", &[]);
    let constant = &json["models"]["xgb"]["failures"][1];
    assert_eq!((constant["value"].as_f64(), constant["threshold"].as_f64()), (Some(0.0), Some(0.001)));
    // On the bounds: std 0.01, and P90 − P10 0.001 with a large std.
    assert_eq!(failures(&two_levels(0.0, 0.02)), ["confidence_std", "p10_p90_range"]);
    assert_eq!(
        failures(&two_levels(0.0, 0.02_f64.next_down())),
        ["confidence_std", "p10_p90_range", "constant_output"]
    );
    let close = |high: f64| {
        confident((0..200).map(|index| {
            json!(if index < 10 {
                1.0
            } else if index % 2 == 0 {
                0.0
            } else {
                high
            })
        }))
    };
    assert_eq!(failures(&close(0.001)), ["p10_p90_range"]);
    assert_eq!(failures(&close(0.001_f64.next_down())), ["p10_p90_range", "constant_output"]);
}

#[test]
fn the_number_of_events_is_a_bound_in_both_modes() {
    for (mode, count, code, verdict) in [
        ("canary", 200, 0, "pass"),
        ("canary", 199, 2, "inconclusive"),
        ("collection", 100, 3, "collection"),
        ("collection", 99, 2, "inconclusive"),
        ("canary", 0, 2, "inconclusive"),
    ] {
        let (found, json) = judge(&healthy_capture(count), mode, &[]);
        assert_eq!((found, json["verdict"].as_str().unwrap()), (code, verdict), "{mode} {count}");
        assert_eq!(json["events"]["count"], count);
        assert_eq!(json["events"]["min"], if mode == "canary" { 200 } else { 100 });
        assert_eq!(json["reasons"].as_array().unwrap().is_empty(), code != 2, "{json}");
    }
    let (code, json) = judge(&healthy_capture(50), "canary", &["--min-events", "50"]);
    assert_eq!((code, &json["loosened"]), (0, &json!(["min_events 50 (default 200)"])));
    assert_eq!(judge(&healthy_capture(299), "canary", &["--min-events", "300"]).0, 2);
}

#[test]
fn collection_never_promotes_and_still_judges() {
    let (code, json) = judge(&confident((0..100).map(|_| json!(0.7))), "collection", &[]);
    assert_eq!((code, json["verdict"].as_str()), (3, Some("collection")));
    assert_eq!(json["models"]["xgb"]["verdict"], "fail");
    assert_eq!(json["eligible"], json!([]));
    let (code, json) = judge(&healthy_capture(500), "collection", &[]);
    assert_eq!((code, &json["eligible"]), (3, &json!(["xgb"])));
}

#[test]
fn a_model_needs_as_many_active_predictions_as_the_gate_needs_events() {
    let capture = |active: usize| {
        let mut capture = Capture::new();
        for index in 0..300 {
            let mut late = healthy(index);
            if index >= active {
                late["inactive"] = true.into();
                late["inactive_reason"] = "insufficient_history".into();
            }
            capture.push_intent(&[("late", late), ("xgb", healthy(index))]);
        }
        capture
    };
    let (code, json) = judge(&capture(200), "canary", &["--require", "all"]);
    assert_eq!((code, &json["eligible"]), (0, &json!(["late", "xgb"])));
    let (code, json) = judge(&capture(199), "canary", &[]);
    assert_eq!((code, &json["eligible"]), (0, &json!(["xgb"])));
    let late = &json["models"]["late"];
    assert_eq!(late["failures"][0]["check"], "insufficient_predictions");
    assert_eq!((&late["predictions"], &late["inactive"]), (&json!(199), &json!(101)));
    assert_eq!(late["inactive_reasons"], json!({"insufficient_history": 101}));
    let (code, json) = judge(&capture(199), "canary", &["--require", "all"]);
    assert_eq!((code, json["verdict"].as_str()), (2, Some("fail")));
    assert_eq!(json["reasons"], json!(["1 of 2 models are healthy, all are required"]));
}

#[test]
fn a_model_that_was_never_active_fails_by_that_alone() {
    let capture = capture_of((0..200).map(|_| {
        json!({"action": "BUY", "confidence": 7, "inactive": true, "inactive_reason": "degenerate_output"})
    }));
    assert_eq!(failures(&capture), ["insufficient_predictions"]);
    let (_, json) = judge(&capture, "canary", &[]);
    let model = &json["models"]["xgb"];
    assert_eq!(model["inactive_reasons"], json!({"degenerate_output": 200}));
    assert_eq!(
        (&model["normalized"], &model["violations"], &model["predictions"]),
        (&json!(0), &json!(0), &json!(0))
    );
    assert_eq!(model["confidence"]["std"], Value::Null);
}

#[test]
fn only_a_plain_false_says_that_a_model_voted() {
    for (inactive, counted) in
        [(json!(false), 200), (Value::Null, 200), (json!(true), 0), (json!("false"), 0), (json!(0), 0)]
    {
        let capture = capture_of((0..200).map(|index| {
            let mut entry = healthy(index);
            entry["inactive"] = inactive.clone();
            entry
        }));
        let (_, json) = judge(&capture, "canary", &[]);
        assert_eq!(json["models"]["xgb"]["predictions"], counted, "{inactive}");
    }
}

/// A healthy capture of 200 with the confidence of one entry written as `text`.
fn with_confidence(text: &str) -> Capture {
    let mut capture = healthy_capture(199);
    let entry = if text.is_empty() {
        "{\"action\":\"BUY\"}".to_owned()
    } else {
        format!("{{\"action\":\"BUY\",\"confidence\":{text}}}")
    };
    capture.push("trade.intent", &format!("{{\"symbol\":\"B\",\"model_breakdown\":{{\"xgb\":{entry}}}}}"));
    capture
}

#[test]
fn one_violation_fails_the_model() {
    for text in [
        "-0.001",
        "NaN",
        "Infinity",
        "-Infinity",
        "null",
        "\"high\"",
        "\"NaN\"",
        "\"inf\"",
        "\"-1\"",
        "\"\"",
        "true",
        "[0.5]",
        "{}",
        "",
    ] {
        assert_eq!(failures(&with_confidence(text)), ["confidence_violation"], "{text}");
        let (_, json) = judge(&with_confidence(text), "canary", &[]);
        assert_eq!(json["models"]["xgb"]["violations"], 1, "{text}");
        assert_eq!(json["models"]["xgb"]["predictions"], 200, "{text}");
    }
    let mut capture = healthy_capture(199);
    capture.push("trade.intent", r#"{"model_breakdown":{"xgb":null}}"#);
    assert_eq!(failures(&capture), ["confidence_violation", "unknown_action"]);
}

#[test]
fn numbers_in_any_spelling_are_confidences() {
    for (text, normalized) in [
        ("0", 0),
        ("1", 0),
        ("1.0", 0),
        ("-0.0", 0),
        ("\"0.81\"", 0),
        ("\" 5e-1 \"", 0),
        ("1.0000001", 1),
        ("87", 1),
        ("\"2.5\"", 1),
        ("1e300", 1),
    ] {
        assert!(failures(&with_confidence(text)).is_empty(), "{text}");
        let (_, json) = judge(&with_confidence(text), "canary", &[]);
        assert_eq!(json["models"]["xgb"]["normalized"], normalized, "{text}");
    }
}

#[test]
fn confidences_above_one_go_through_a_sigmoid() {
    // >>> z = [2.0 + 0.01 * (i % 7) for i in range(200)]; s = 1 / (1 + numpy.exp(-numpy.array(z)))
    // >>> s.mean(), s.std(), numpy.percentile(s, 10), numpy.percentile(s, 90)
    let capture = confident((0..200).map(|index| json!(2.0 + 0.01 * f64::from(index % 7))));
    let (_, json) = judge(&capture, "canary", &[]);
    let model = &json["models"]["xgb"];
    assert_eq!((&model["normalized"], &model["violations"]), (&json!(200), &json!(0)));
    let expected = [
        ("mean", 0.8838645750718176),
        ("std", 0.0020497038777565267),
        ("p10", 0.8807970779778823),
        ("p90", 0.8869541699279211),
    ];
    for (name, expected) in expected {
        let found = model["confidence"][name].as_f64().unwrap();
        assert!((found - expected).abs() < 1e-15, "{name} {found:e} {expected:e}");
    }
}

#[test]
fn an_action_must_be_one_of_three() {
    for action in [json!("STRONG_BUY"), json!("buy"), json!(""), json!(1), Value::Null] {
        let mut capture = healthy_capture(199);
        capture.push_intent(&[("xgb", json!({"action": action, "confidence": 0.5}))]);
        assert_eq!(failures(&capture), ["unknown_action"], "{action}");
    }
}

/// `sound` good intents with `corrupt` corrupt ones among them.
fn partly_corrupt(sound: usize, corrupt: usize) -> Capture {
    let payloads = [
        "no json",
        "null",
        "[]",
        "{}",
        "{\"model_breakdown\":[]}",
        "{\"model_breakdown\":{}}",
        "",
        "{\"model_breakdown\":",
    ];
    let mut capture = healthy_capture(sound);
    for index in 0..corrupt {
        capture.push("trade.intent", payloads[index % payloads.len()]);
    }
    capture
}

#[test]
fn one_percent_of_corrupt_events_holds_and_more_blocks_in_every_mode() {
    for (mode, sound, good) in [("canary", 792, 0), ("collection", 792, 3)] {
        let (code, json) = judge(&partly_corrupt(sound, 8), mode, &[]);
        assert_eq!(
            (code, &json["events"]["malformed"], &json["events"]["count"]),
            (good, &json!(8), &json!(sound))
        );
        let (code, json) = judge(&partly_corrupt(sound, 9), mode, &[]);
        assert_eq!((code, json["verdict"].as_str()), (2, Some("fail")), "{mode}");
        assert_eq!(json["reasons"], json!(["9 of 801 events are corrupt, at most 1 % may be"]));
        assert_eq!(json["eligible"], json!(["xgb"]), "the models' own verdicts stand");
    }
}

#[test]
fn corrupt_events_never_count_towards_the_minimum() {
    let (code, json) = judge(&partly_corrupt(199, 2), "canary", &[]);
    assert_eq!((code, json["verdict"].as_str()), (2, Some("inconclusive")));
    let (code, json) = judge(&partly_corrupt(99, 1), "collection", &[]);
    assert_eq!((code, json["verdict"].as_str()), (2, Some("inconclusive")));
}

#[test]
fn models_without_end_are_corrupt_events() {
    let mut capture = Capture::new();
    for event in 0..300 {
        let name = format!("m{event}");
        capture.push_intent(&[(&name, healthy(event))]);
    }
    let (code, json) = judge(&capture, "canary", &[]);
    let figures = (code, &json["events"]["count"], &json["events"]["malformed"]);
    assert_eq!(figures, (2, &json!(256), &json!(44)), "{}", json["reasons"]);
    assert_eq!(json["models"].as_object().unwrap().len(), 256);
}

#[test]
fn telemetry_without_a_model_is_inconclusive() {
    let mut capture = Capture::new();
    (0..300).for_each(|_| capture.push_intent(&[]));
    for mode in ["canary", "collection"] {
        let (code, json) = judge(&capture, mode, &[]);
        assert_eq!((code, json["verdict"].as_str()), (2, Some("inconclusive")));
        assert!(json["reasons"].as_array().unwrap().contains(&json!("no model in the telemetry")), "{json}");
    }
}

#[test]
fn only_intents_count() {
    let mut capture = healthy_capture(199);
    for _ in 0..50 {
        capture.push("market.features", "{\"features\":{\"a\":1}}");
        capture.push("order.filled", "no json at all");
    }
    let (code, json) = judge(&capture, "canary", &[]);
    assert_eq!((code, &json["events"]["count"], &json["events"]["malformed"]), (2, &json!(199), &json!(0)));
    capture.push_intent(&[("xgb", healthy(7))]);
    assert_eq!(judge(&capture, "canary", &["--count", "200"]).0, 0, "others do not use up --count");
}

#[test]
fn after_and_count_choose_the_window() {
    let capture = healthy_capture(500);
    // The event at index 300 is 300 s after the first.
    let (code, json) = judge(&capture, "canary", &["--after", "2026-01-10T05:48:15Z"]);
    assert_eq!(
        (code, &json["events"]["count"], &json["cutover"]),
        (0, &json!(200), &json!("2026-01-10T05:48:15Z"))
    );
    let (code, json) = judge(&capture, "canary", &["--after", "1768024095001"]);
    assert_eq!((code, &json["events"]["count"]), (2, &json!(199)));
    let (_, json) = judge(&capture, "canary", &["--count", "250"]);
    assert_eq!((&json["events"]["count"], &json["events"]["requested"]), (&json!(250), &json!(250)));
    assert_eq!(json["evidence"]["first_id"], "1768024045000-0");
    let (_, json) = judge(&capture, "canary", &["--count", "0"]);
    assert_eq!((&json["events"]["count"], &json["events"]["requested"]), (&json!(500), &json!(0)));
}
