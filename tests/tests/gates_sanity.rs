//! `feature-sanity`: exit codes, bounds, and every form a dead feature takes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use qsc_tests::capture::{Capture, spread};
use qsc_tests::qsc::{self, Run};
use serde_json::{Value, json};
use tempfile::TempDir;

fn sanity(capture: &Capture, more: &[&str]) -> Run {
    let directory = TempDir::new().unwrap();
    let path = capture.write(directory.path(), "capture.jsonl");
    let source = format!("file:{}", path.display());
    let mut arguments = vec!["feature-sanity", "--after", "0", "--source", &source];
    arguments.extend(more);
    qsc::run(arguments)
}

/// Exit code and JSON, which must agree; and the names of the failed checks.
fn judge(capture: &Capture, more: &[&str]) -> (i32, Value, Vec<String>) {
    let mut arguments = vec!["--format", "json"];
    arguments.extend(more);
    let run = sanity(capture, &arguments);
    let json = run.json();
    assert_eq!(json["exit_code"], json!(run.code), "{run:?}");
    let failures = json["failures"].as_array().unwrap();
    let names = failures.iter().map(|failure| failure["check"].as_str().unwrap().to_owned()).collect();
    (run.code.unwrap(), json, names)
}

/// `count` feature events whose features are `features(index)`, as JSON text.
fn features(count: usize, features: impl Fn(usize) -> String) -> Capture {
    let mut capture = Capture::new();
    for index in 0..count {
        capture.push("market.features", &format!("{{\"symbol\":\"B\",\"features\":{}}}", features(index)));
    }
    capture
}

fn alive(index: usize) -> String {
    format!("{{\"a\":{},\"b\":{}}}", spread(index), 5.0 - spread(index + 3))
}

#[test]
fn fifty_events_are_enough_and_forty_nine_are_not() {
    let (code, json, failures) = judge(&features(50, alive), &[]);
    assert_eq!((code, &json["verdict"], failures.len()), (0, &json!("pass"), 0));
    assert_eq!(
        (&json["contract"], &json["command"], &json["events"]),
        (&json!(1), &json!("feature-sanity"), &json!(50))
    );
    let (code, json, failures) = judge(&features(49, alive), &[]);
    assert_eq!((code, &json["verdict"]), (2, &json!("inconclusive")));
    assert_eq!(failures, ["insufficient_events"]);
    let (code, json, failures) = judge(&Capture::new(), &[]);
    assert_eq!((code, &json["verdict"]), (2, &json!("inconclusive")));
    assert_eq!(failures, ["insufficient_events"]);
}

#[test]
fn text_ends_with_the_exit_line() {
    let run = sanity(&features(60, alive), &[]);
    assert_eq!(run.stdout.lines().last(), Some("[EXIT] CODE 0 - PASS (features are alive)"));
    assert!(run.stdout.contains("\nUnique hashes: 50/50 (100.0% unique)\n"), "{}", run.stdout);
    let run = sanity(&features(49, alive), &[]);
    assert_eq!(run.stdout.lines().last(), Some("[EXIT] CODE 2 - FAIL (blockers detected)"));
}

#[test]
fn one_value_that_is_no_number_fails() {
    for (text, nan, inf) in [
        ("NaN", 1, 0),
        ("null", 1, 0),
        ("\"NaN\"", 1, 0),
        ("\"text\"", 1, 0),
        ("\"0.5\"", 1, 0),
        ("true", 1, 0),
        ("[]", 1, 0),
        ("Infinity", 0, 1),
        ("-Infinity", 0, 1),
        ("\"Infinity\"", 0, 1),
        ("\"-inf\"", 0, 1),
    ] {
        let capture =
            features(
                60,
                |index| if index == 30 { format!("{{\"a\":{text},\"b\":0.5}}") } else { alive(index) },
            );
        let (code, json, failures) = judge(&capture, &[]);
        assert_eq!((code, &json["verdict"]), (2, &json!("fail")), "{text}");
        assert_eq!(failures, ["nan_inf"], "{text}");
        assert_eq!(
            (&json["features"]["a"]["nan"], &json["features"]["a"]["inf"]),
            (&json!(nan), &json!(inf)),
            "{text}"
        );
        assert_eq!(json["features"]["b"]["nan"], 0);
        assert!(json["features"]["a"]["mean"].is_f64(), "figures are those of the other values");
    }
}

#[test]
fn features_must_be_the_same_in_every_event() {
    for odd in ["{\"a\":0.5}", "{\"a\":0.5,\"c\":0.5}", "{\"a\":0.5,\"b\":0.5,\"c\":0.5}"] {
        let capture = features(60, |index| if index == 30 { odd.to_owned() } else { alive(index) });
        let (code, json, failures) = judge(&capture, &[]);
        assert_eq!((code, failures), (2, vec!["feature_set".to_owned()]), "{odd}");
        assert_eq!(json["failures"][0]["value"], 1.0);
    }
    // The order of names is none of them.
    let capture =
        features(60, |index| if index == 30 { "{\"b\":0.5,\"a\":0.25}".to_owned() } else { alive(index) });
    assert_eq!(judge(&capture, &[]).0, 0);
}

#[test]
fn flat_features_count_unless_they_may_be_flat() {
    let flat = |index: usize| {
        format!(
            "{{\"a\":{},\"b\":{},\"c\":7.25,\"d\":{}}}",
            spread(index),
            -spread(index),
            spread(index + 50)
        )
    };
    let (code, json, failures) = judge(&features(60, flat), &[]);
    assert_eq!((code, failures, &json["flatlines"]), (2, vec!["flatline".to_owned()], &json!(["c"])));
    assert_eq!((&json["features"]["c"]["flat"], &json["features"]["c"]["std"]), (&json!(true), &json!(0.0)));
    assert_eq!(json["failures"][0]["value"], 25.0);
    let (code, json, _) = judge(&features(60, flat), &["--allow-flat", "c"]);
    assert_eq!((code, &json["flatlines"], &json["allowed_flat"]), (0, &json!([]), &json!(["c"])));
    assert_eq!(judge(&features(60, flat), &["--max-flatline-pct", "25"]).0, 0, "a share on its bound holds");
    assert_eq!(judge(&features(60, flat), &["--max-flatline-pct", "24.9999"]).0, 2);
}

#[test]
fn the_flatline_bound_is_on_the_population_std() {
    let of = |low: f64, high: f64| {
        features(60, |index| format!("{{\"a\":{}}}", if index % 2 == 0 { low } else { high }))
    };
    // Half low, half high: the std is half the difference.
    for (low, high) in [(0.0, 2e-6), (-1e-6, 1e-6), (3.0, 3.000_003)] {
        assert_eq!(judge(&of(low, high), &[]).0, 0, "{low} {high}");
    }
    for (low, high) in
        [(0.0, 2e-6_f64.next_down()), (-1e-6, 1e-6_f64.next_down().next_down()), (3.0, 3.000_001_9)]
    {
        let (code, json, _) = judge(&of(low, high), &[]);
        assert_eq!((code, &json["flatlines"]), (2, &json!(["a"])), "{low} {high}");
    }
}

#[test]
fn figures_are_those_of_numpy() {
    // >>> a = numpy.array([i * 37 % 101 / 101 for i in range(100)]); a.mean(), a.std(), a.min(), a.max()
    let (_, json, _) = judge(&features(100, alive), &[]);
    let figures = &json["features"]["a"];
    for (name, expected) in
        [("mean", 0.4936633663366338), ("std", 0.2897660374088785), ("min", 0.0), ("max", 0.9900990099009901)]
    {
        let found = figures[name].as_f64().unwrap();
        assert!((found - expected).abs() < 1e-15, "{name} {found:e} {expected:e}");
    }
}

#[test]
fn repeated_vectors_warn_above_half_and_never_fail() {
    let of = |different: usize| {
        features(80, |index| {
            // Only the last 50 are looked at: index 30 on. Below the fourth decimal nothing counts.
            let value =
                if index < 30 { 9.0 } else { (index - 30).min(different - 1) as f64 + 1e-6 * spread(index) };
            format!("{{\"a\":{value}}}")
        })
    };
    let (code, json, _) = judge(&of(25), &[]);
    assert_eq!(
        (code, &json["duplicates"]),
        (0, &json!({"window": 50, "unique": 25, "duplicate_pct": 50.0, "warning": false}))
    );
    let (code, json, _) = judge(&of(24), &[]);
    assert_eq!(
        (code, &json["duplicates"]),
        (0, &json!({"window": 50, "unique": 24, "duplicate_pct": 52.0, "warning": true}))
    );
    assert!(sanity(&of(48), &[]).stdout.contains("Unique hashes: 48/50 (96.0% unique)"));
    assert!(sanity(&of(24), &[]).stdout.contains("Unique hashes: 24/50 (48.0% unique)  WARNING"));
}

#[test]
fn both_event_types_and_the_known_members_are_read() {
    let mut capture = Capture::new();
    for index in 0..60 {
        let (value, kind) = (spread(index), if index % 2 == 0 { "trade.intent" } else { "market.features" });
        capture
            .push(kind, &format!("{{\"atr_value\":{value},\"funding_rate\":{},\"price\":7}}", value * 0.01));
        capture.push("order.filled", "no json");
    }
    let (code, json, _) = judge(&capture, &[]);
    assert_eq!((code, &json["events"]), (0, &json!(60)));
    let names: Vec<&String> = json["features"].as_object().unwrap().keys().collect();
    assert_eq!(names, ["atr_value", "funding_rate"]);
}

#[test]
fn more_than_one_percent_of_corrupt_events_fails() {
    let corrupt = [
        "text",
        "null",
        "{}",
        "{\"features\":null}",
        "{\"features\":[1]}",
        "{\"features\":{}}",
        "{\"features\":{\"a\":1,\"a\":2}}",
    ];
    let of = |corrupt_count: usize| {
        let mut capture = features(200, alive);
        (0..corrupt_count).for_each(|index| capture.push("market.features", corrupt[index % corrupt.len()]));
        capture
    };
    let (code, json, _) = judge(&of(2), &["--count", "0"]);
    assert_eq!((code, &json["malformed"], &json["events"]), (0, &json!(2), &json!(200)));
    let (code, json, failures) = judge(&of(3), &["--count", "0"]);
    assert_eq!((code, &json["verdict"], failures), (2, &json!("fail"), vec!["malformed_events".to_owned()]));
    for payload in corrupt {
        let mut capture = Capture::new();
        (0..60).for_each(|_| capture.push("market.features", payload));
        let (code, json, failures) = judge(&capture, &[]);
        assert_eq!((code, &json["events"]), (2, &json!(0)), "{payload}");
        assert_eq!(failures, ["insufficient_events", "malformed_events"], "{payload}");
    }
}

#[test]
fn count_and_after_choose_the_newest() {
    let capture =
        features(300, |index| if index < 100 { "{\"a\":NaN,\"b\":1}".to_owned() } else { alive(index) });
    let (code, json, _) = judge(&capture, &[]);
    assert_eq!((code, &json["events"]), (0, &json!(200)), "200 by default");
    assert_eq!(judge(&capture, &["--count", "201"]).0, 2);
    assert_eq!(judge(&capture, &["--count", "0"]).0, 2);
}
