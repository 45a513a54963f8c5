//! Sick models, sick images and sick events: each is named, and the others go on voting.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::cell::Cell;
use std::fs;

use qsc_cli::engine::panic_guard::PanicGuard;
use qsc_cli::engine::{Candidate, Engine, Reject};
use qsc_cli::replay::{Outlet, Replay};
use qsc_cli::stream::{LinkOptions, MARKET_FEATURES, Source, SourceSpec, Window};
use qsc_kernel::ensemble::{ConfidenceRule, Predict};
use qsc_kernel::image::SectionKind;
use qsc_kernel::{Inactive, Model, Prediction, Scratch};
use qsc_tests::engine::{CONFIDENCES, Ensemble, NOW_MS, assert_contract, classifier, one_probability};
use qsc_tests::qsc;
use qsc_tests::surgery::{Anatomy, reseal};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

const BUY: &str = r#"{"pick": 1.5, "sure": 2.5}"#;

/// Entries of `MODELS.toml`: name, image, further lines.
fn models(entries: &[(&str, &str, &str)]) -> String {
    let entry = |(name, image, more): &(&str, &str, &str)| {
        format!("[[model]]\nname = \"{name}\"\nimage = \"{image}\"\n{more}\n")
    };
    entries.iter().map(entry).collect()
}

/// Three classifiers with weights 0.2, 0.3 and 0.5.
fn three() -> Ensemble {
    let image = classifier();
    let text = models(&[
        ("a", "c.qsm", "weight = 0.2"),
        ("b", "c.qsm", "weight = 0.3"),
        ("c", "c.qsm", "weight = 0.5"),
    ]);
    Ensemble::new(&[("c.qsm", image.as_bytes())], &text)
}

/// One classifier under these rules, `weight` etc. as lines.
fn one(more: &str) -> Ensemble {
    let image = classifier();
    Ensemble::new(&[("c.qsm", image.as_bytes())], &models(&[("a", "c.qsm", more)]))
}

fn features(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn reason<'i>(intent: &'i Value, model: &str) -> &'i str {
    intent["model_breakdown"][model]["inactive_reason"].as_str().unwrap_or("active")
}

fn near(value: &Value, expected: f64) -> bool {
    value.as_f64().is_some_and(|value| (value - expected).abs() < 1e-4)
}

/// What goes wrong at a call.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    Errs,
    Panics,
    /// Nothing does.
    Never,
}

/// A model that fails at chosen calls, counted from 1.
struct Faulty<P> {
    inner: P,
    calls: Cell<u32>,
    at: u32,
    fault: Fault,
}

impl<P: Predict> Predict for Faulty<P> {
    fn row_len(&self) -> usize {
        self.inner.row_len()
    }

    fn n_features(&self) -> usize {
        self.inner.n_features()
    }

    fn predict(
        &self,
        row: &[f32],
        rule: ConfidenceRule,
        scratch: Scratch<'_>,
    ) -> Result<Prediction, Inactive> {
        self.calls.set(self.calls.get() + 1);
        match self.fault {
            Fault::Errs if self.calls.get() == self.at => Err(Inactive::ExceptionInPredict),
            Fault::Panics if self.calls.get() == self.at => panic!("injected"),
            _ => self.inner.predict(row, rule, scratch),
        }
    }
}

/// The candidates with faults: (call, fault) by model.
fn with_faults<'i>(
    candidates: Vec<Candidate<PanicGuard<Model<'i>>>>,
    faults: &[(u32, Fault)],
) -> Vec<Candidate<PanicGuard<Faulty<Model<'i>>>>> {
    let wrap = |(candidate, &(at, fault)): (Candidate<PanicGuard<Model<'i>>>, &(u32, Fault))| Candidate {
        config: candidate.config,
        feature_names: candidate.feature_names,
        scratch_bytes: candidate.scratch_bytes,
        predictor: candidate
            .predictor
            .map(|PanicGuard(inner)| PanicGuard(Faulty { inner, calls: Cell::new(0), at, fault })),
    };
    candidates.into_iter().zip(faults).map(wrap).collect()
}

#[test]
fn a_model_that_errs_and_one_that_panics_are_left_out_of_that_event_only() {
    let ensemble = three();
    let faults = [(2, Fault::Errs), (3, Fault::Panics), (0, Fault::Never)];
    let mut engine = ensemble.engine_of(with_faults(ensemble.candidates().0, &faults));
    let weights =
        |intent: &Value| ["a", "b", "c"].map(|name| intent["effective_weights"][name].as_f64().unwrap());
    let close =
        |got: [f64; 3], want: [f64; 3]| got.iter().zip(want).all(|(got, want)| (got - want).abs() < 1e-12);

    let healthy = engine.features(&features(BUY));
    assert!(close(weights(&healthy), [0.2, 0.3, 0.5]), "{healthy}");
    assert_eq!((&healthy["side"], &healthy["consensus"]), (&json!("BUY"), &json!("unanimous")));
    assert!(near(&healthy["confidence"], CONFIDENCES[2]));

    let errs = engine.features(&features(BUY));
    assert_eq!(
        [reason(&errs, "a"), reason(&errs, "b"), reason(&errs, "c")],
        ["exception_in_predict", "active", "active"]
    );
    assert!(close(weights(&errs), [0.0, 0.375, 0.625]), "{errs}");
    assert!(errs["model_breakdown"]["a"].get("action").is_none(), "nothing is invented: {errs}");
    assert_eq!((&errs["side"], &errs["active_models"]), (&json!("BUY"), &json!(2)));

    let panics = engine.features(&features(BUY));
    assert_eq!([reason(&panics, "a"), reason(&panics, "b")], ["active", "exception_in_predict"]);
    assert!(close(weights(&panics), [0.2 / 0.7, 0.0, 0.5 / 0.7]), "{panics}");
    assert_eq!(panics["side"], "BUY");

    let again = engine.features(&features(BUY));
    assert_eq!(again["active_models"], 3, "a fault lasts one event: {again}");
}

#[test]
fn every_model_failing_says_nothing() {
    let ensemble = three();
    let faults = [(1, Fault::Errs), (1, Fault::Panics), (1, Fault::Panics)];
    let mut engine = ensemble.engine_of(with_faults(ensemble.candidates().0, &faults));
    let silent = engine.features(&features(BUY));
    assert_eq!(silent["consensus"], "no_active_model");
    assert!(silent.get("side").is_none() && silent.get("confidence").is_none(), "{silent}");
    assert_eq!(engine.features(&features(BUY))["side"], "BUY", "and recovers");
}

#[test]
fn images_that_cannot_be_trusted_are_not_loaded() {
    let good = classifier();
    let altered = |alter: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.as_bytes().to_vec();
        alter(&mut bytes);
        bytes
    };
    let anatomy = |alter: &dyn Fn(&mut Anatomy)| {
        let mut anatomy = Anatomy::of(good.as_bytes());
        alter(&mut anatomy);
        anatomy.assemble().as_bytes().to_vec()
    };
    let golden = [SectionKind::GoldenRows, SectionKind::GoldenRaw, SectionKind::GoldenOutputs];
    let sick: [(&str, Option<Vec<u8>>, &str); 8] = [
        ("absent", None, "cannot read"),
        ("empty", Some(Vec::new()), "is empty"),
        ("text", Some(b"not an image".to_vec()), "not a model image"),
        ("torn", Some(altered(&|bytes| bytes.truncate(1000))), "header says"),
        ("flipped", Some(altered(&|bytes| bytes[900] ^= 4)), "SHA-256"),
        (
            "newer",
            Some(altered(&|bytes| {
                bytes[10] = 1;
                reseal(bytes);
            })),
            "format 1.1",
        ),
        ("golden", Some(anatomy(&|image| image.section(SectionKind::GoldenRaw)[0] ^= 1)), "golden row 0"),
        (
            "bare",
            Some(anatomy(&|image| {
                golden.into_iter().for_each(|kind| image.section(kind).clear());
                image.set(SectionKind::Model, 16, 0);
            })),
            "no golden vectors",
        ),
    ];
    for (name, bytes, words) in sick {
        let mut files = vec![("good.qsm", good.as_bytes())];
        files.extend(bytes.as_deref().map(|bytes| ("sick.qsm", bytes)));
        let text = models(&[("sick", "sick.qsm", "weight = 0.9"), ("good", "good.qsm", "weight = 0.1")]);
        let ensemble = Ensemble::new(&files, &text);
        let (candidates, log) = ensemble.candidates();
        let line = log
            .lines()
            .find(|line| line.contains("model_not_loaded"))
            .unwrap_or_else(|| panic!("{name}: {log}"));
        assert!(line.starts_with("[SICK-INIT]") && line.contains(words), "{name}: {line}");

        let intent = ensemble.engine_of(candidates).features(&features(BUY));
        assert_eq!(
            [reason(&intent, "sick"), reason(&intent, "good")],
            ["model_not_loaded", "active"],
            "{name}"
        );
        assert_eq!(
            (&intent["side"], &intent["effective_weights"]["good"]),
            (&json!("BUY"), &json!(1.0)),
            "{name}"
        );
    }
}

#[test]
fn no_loaded_image_at_all_still_answers_every_event() {
    let ensemble = Ensemble::new(&[], &models(&[("a", "a.qsm", ""), ("b", "b.qsm", "mode = \"shadow\"")]));
    let intent = ensemble.engine().features(&features(BUY));
    assert_eq!([reason(&intent, "a"), reason(&intent, "b")], ["model_not_loaded"; 2]);
    assert_eq!((&intent["consensus"], &intent["features"]), (&json!("no_active_model"), &json!({})));
}

#[test]
fn sick_features_are_named_per_model() {
    let (classes, single) = (classifier(), one_probability());
    let files: [(&str, &[u8]); 2] = [("c.qsm", classes.as_bytes()), ("p.qsm", single.as_bytes())];
    let text = models(&[
        ("rejects", "c.qsm", ""),
        ("native", "c.qsm", "missing = \"native\""),
        ("other", "p.qsm", ""),
    ]);
    let ensemble = Ensemble::new(&files, &text);
    let mut engine = ensemble.engine();
    // The third model never looks at `pick`, and goes on voting.
    for (pick, rejects, native) in [
        ("1.5", "active", "active"),
        ("NaN", "nan_input", "active"),
        ("null", "nan_input", "active"),
        ("Infinity", "inf_input", "inf_input"),
        ("-Infinity", "inf_input", "inf_input"),
        ("1e39", "inf_input", "inf_input"),
        ("\"1.5\"", "nan_input", "nan_input"),
        ("\"NaN\"", "nan_input", "nan_input"),
        ("true", "nan_input", "nan_input"),
        ("[1.5]", "nan_input", "nan_input"),
        ("{}", "nan_input", "nan_input"),
    ] {
        let payload = format!(
            r#"{{"symbol": "ETHUSDT", "timestamp": "2026-03-02T00:00:00Z", "features": {{"pick": {pick}, "sure": 0.5, "x": 3, "more": 9}}}}"#
        );
        let intent = engine.decide(&payload).unwrap();
        let reasons = ["rejects", "native", "other"].map(|name| reason(&intent, name));
        assert_eq!(reasons, [rejects, native, "active"], "{pick}");
        assert!(intent["features"].get("more").is_none(), "no model reads it: {intent}");
        if matches!(pick, "NaN" | "null") {
            // The tree's own branch: a missing `pick` is SELL.
            assert_eq!(intent["model_breakdown"]["native"]["action"], "SELL", "{intent}");
        }
    }
    for (payload_features, rejects, other) in [
        (r#"{"sure": 0.5, "x": 3}"#, "missing_feature", "active"),
        // The graver reason is named first, whatever the order.
        (r#"{"sure": "text", "x": 3}"#, "missing_feature", "active"),
        (r#"{"pick": "text", "x": 3}"#, "missing_feature", "active"),
        (r#"{"pick": 1.5, "sure": 0.5}"#, "active", "missing_feature"),
        (r#"{"PICK": 1.5, "SURE": 0.5, "X": 3}"#, "missing_feature", "missing_feature"),
        (r"{}", "missing_feature", "missing_feature"),
    ] {
        let payload = format!(r#"{{"symbol": "ETHUSDT", "features": {payload_features}}}"#);
        let intent = engine.decide(&payload).unwrap();
        assert_eq!([reason(&intent, "rejects"), reason(&intent, "other")], [rejects, other], "{payload}");
        assert_eq!(intent.get("timestamp"), None, "the event had none: {intent}");
    }
}

#[test]
fn events_that_cannot_be_decided_are_rejected_by_name() {
    let ensemble = one("");
    let mut engine = ensemble.engine();
    for payload in [
        "",
        "{",
        "nonsense",
        r#"{"symbol": "B", "features": {"pick": 1, "pick": 2}}"#,
        "{\"symbol\": \"B\"} x",
    ] {
        assert!(matches!(engine.decide(payload), Err(Reject::NoJson(_))), "{payload}");
    }
    for payload in [
        r"{}",
        "[]",
        "7",
        "null",
        r#"{"features": {}}"#,
        r#"{"symbol": "", "features": {}}"#,
        r#"{"symbol": 7, "features": {}}"#,
        r#"{"symbol": null, "features": {}}"#,
    ] {
        assert!(matches!(engine.decide(payload), Err(Reject::NoSymbol)), "{payload}");
    }
    for payload in
        [r#"{"symbol": "B"}"#, r#"{"symbol": "B", "features": null}"#, r#"{"symbol": "B", "features": [1]}"#]
    {
        assert!(matches!(engine.decide(payload), Err(Reject::NoFeatures)), "{payload}");
    }
}

#[test]
fn stale_events_silence_every_model_but_stay_intents() {
    let image = classifier();
    let text =
        format!("[ensemble]\nmax_age_ms = 1000\n{}", models(&[("a", "c.qsm", ""), ("b", "gone.qsm", "")]));
    let ensemble = Ensemble::new(&[("c.qsm", image.as_bytes())], &text);
    let mut engine = ensemble.engine();
    let mut at = |timestamp: Value| {
        let payload = json!({"symbol": "B", "timestamp": timestamp, "features": features(BUY)});
        let intent = engine.decide(&payload.to_string()).unwrap();
        assert_eq!(reason(&intent, "b"), "model_not_loaded", "there is nothing that could be stale");
        reason(&intent, "a").to_owned()
    };
    assert_eq!(at(json!(NOW_MS)), "active");
    assert_eq!(at(json!(NOW_MS - 1000)), "active");
    assert_eq!(at(json!(NOW_MS + 1000)), "active");
    assert_eq!(at(json!("2023-11-14T22:13:20Z")), "active");
    for stale in [
        json!(NOW_MS - 1001),
        json!(NOW_MS + 1001),
        json!("2023-11-14T22:13:21.001Z"),
        json!("soon"),
        json!(null),
        json!(-1),
        json!(true),
    ] {
        assert_eq!(at(stale.clone()), "stale_input", "{stale}");
    }
    let payload = json!({"symbol": "B", "features": features(BUY)});
    let silent = engine.decide(&payload.to_string()).unwrap();
    assert_eq!((reason(&silent, "a"), &silent["consensus"]), ("stale_input", &json!("no_active_model")));

    // Without max_age_ms the age of an event is never judged.
    let ensemble = one("");
    assert_eq!(ensemble.engine().features(&features(BUY))["side"], "BUY");
}

/// Feeds the same features `times` times; the last intent.
fn repeat(engine: &mut qsc_tests::engine::Deciding<PanicGuard<Model<'_>>>, text: &str, times: u32) -> Value {
    (0..times).map(|_| engine.features(&features(text))).last().unwrap()
}

#[test]
fn a_frozen_model_is_thrown_out_observed_or_left_alone() {
    let image = classifier();
    for mode in ["enforce", "observe", "off"] {
        let text = format!(
            "[ensemble]\ndegeneracy = \"{mode}\"\n{}",
            models(&[("a", "c.qsm", ""), ("s", "c.qsm", "mode = \"shadow\"")])
        );
        let ensemble = Ensemble::new(&[("c.qsm", image.as_bytes())], &text);
        let mut engine = ensemble.engine();
        let early = repeat(&mut engine, BUY, 99);
        assert_eq!(
            (reason(&early, "a"), reason(&early, "s")),
            ("active", "shadow_mode"),
            "the window is not full"
        );

        let full = repeat(&mut engine, BUY, 1);
        let entry = &full["model_breakdown"]["a"];
        assert_eq!((&entry["action"], near(&entry["confidence"], CONFIDENCES[2])), (&json!("BUY"), true));
        match mode {
            "enforce" => {
                assert_eq!([reason(&full, "a"), reason(&full, "s")], ["degenerate_output"; 2]);
                assert_eq!(full["consensus"], "no_active_model");
            }
            "observe" => {
                assert_eq!((reason(&full, "a"), &entry["degenerate"]), ("active", &json!(true)));
                assert_eq!((reason(&full, "s"), &full["side"]), ("shadow_mode", &json!("BUY")));
                assert_eq!(full["model_breakdown"]["s"]["degenerate"], true, "a shadow is reported too");
            }
            _ => assert_eq!(
                (reason(&full, "a"), entry.get("degenerate"), &full["side"]),
                ("active", None, &json!("BUY"))
            ),
        }

        // Sick input never enters the window; five other answers do, and the model votes again.
        assert_eq!(reason(&repeat(&mut engine, r#"{"pick": null, "sure": 1}"#, 50), "a"), "nan_input");
        let sell = r#"{"pick": 2.5, "sure": 2.5}"#;
        let fourth = repeat(&mut engine, sell, 4);
        assert_eq!(reason(&fourth, "a") == "degenerate_output", mode == "enforce", "96 of 100: {fourth}");
        let fifth = repeat(&mut engine, sell, 1);
        assert_eq!((reason(&fifth, "a"), &fifth["side"]), ("active", &json!("SELL")), "95 of 100 is allowed");
        assert_eq!(fifth["model_breakdown"]["a"].get("degenerate"), None);
    }
}

#[test]
fn one_sided_but_moving_confidence_is_no_freeze() {
    let ensemble = one("");
    let mut engine = ensemble.engine();
    for at in 0..300 {
        let sure = f64::from(at % 2) * 3.0 + 0.5;
        let intent = engine.features(&json!({"pick": 1.5, "sure": sure}));
        assert_eq!(reason(&intent, "a"), "active", "event {at}");
    }
}

#[test]
fn a_shadow_is_asked_and_reported_and_never_votes() {
    let image = classifier();
    let text = models(&[("a", "c.qsm", "weight = 0.1"), ("s", "c.qsm", "weight = 0.9\nmode = \"shadow\"")]);
    let ensemble = Ensemble::new(&[("c.qsm", image.as_bytes())], &text);
    let mut engine = ensemble.engine();
    let intent = engine.features(&features(BUY));
    assert_eq!(
        (reason(&intent, "s"), &intent["model_breakdown"]["s"]["action"]),
        ("shadow_mode", &json!("BUY"))
    );
    assert_eq!((&intent["effective_weights"]["a"], &intent["active_models"]), (&json!(1.0), &json!(1)));
    let sick = engine.features(&json!({"pick": 1.5}));
    assert_eq!(reason(&sick, "s"), "missing_feature", "a sickness is the more telling reason");

    let alone =
        Ensemble::new(&[("c.qsm", image.as_bytes())], &models(&[("s", "c.qsm", "mode = \"shadow\"")]));
    assert_eq!(alone.engine().features(&features(BUY))["consensus"], "no_active_model");
}

#[test]
fn the_dead_zone_is_no_answer_and_never_enters_the_window() {
    let image = one_probability();
    let ensemble = Ensemble::new(&[("p.qsm", image.as_bytes())], &models(&[("p", "p.qsm", "")]));
    let mut engine = ensemble.engine();
    let (buy, dead, sell) = (r#"{"x": 5}"#, r#"{"x": 0}"#, r#"{"x": -5}"#);
    let bought = repeat(&mut engine, buy, 1);
    assert_eq!((&bought["side"], near(&bought["confidence"], 0.8808)), (&json!("BUY"), true), "{bought}");
    let sold = repeat(&mut engine, sell, 1);
    assert_eq!((&sold["side"], near(&sold["confidence"], 0.8808)), (&json!("SELL"), true), "{sold}");
    let silent = repeat(&mut engine, dead, 150);
    assert_eq!((reason(&silent, "p"), &silent["consensus"]), ("dead_zone", &json!("no_active_model")));
    assert!(silent["model_breakdown"]["p"].get("action").is_none(), "{silent}");

    // Two answers are in the window; 97 more leave one place, which no dead answer takes.
    assert_eq!(reason(&repeat(&mut engine, buy, 97), "p"), "active");
    assert_eq!(reason(&repeat(&mut engine, dead, 300), "p"), "dead_zone");
    assert_eq!(reason(&repeat(&mut engine, buy, 1), "p"), "degenerate_output", "the hundredth answer");
    assert_eq!(reason(&repeat(&mut engine, dead, 1), "p"), "dead_zone");
}

#[test]
fn exact_ties_have_no_side() {
    // The same image with its classes renamed votes the other way.
    let image = classifier();
    let mut anatomy = Anatomy::of(image.as_bytes());
    anatomy.section(SectionKind::Classes).copy_from_slice(&[0, 1, 2]);
    let other = anatomy.assemble();
    let files: [(&str, &[u8]); 2] = [("c.qsm", image.as_bytes()), ("d.qsm", other.as_bytes())];
    // `pick` 0.5: HOLD by one, BUY by the other.
    let hold = json!({"pick": 0.5, "sure": 1.5});
    let split = |weights: [&str; 2]| {
        let ensemble =
            Ensemble::new(&files, &models(&[("a", "c.qsm", weights[0]), ("b", "d.qsm", weights[1])]));
        ensemble.engine().features(&hold)
    };
    let tie = split(["", ""]);
    assert_eq!((&tie["consensus"], &tie["active_models"]), (&json!("tie"), &json!(2)));
    // 0.1 + 0.2 and 0.3 are the same weight: parts per million are exact where f64 sums are not.
    let ensemble = Ensemble::new(
        &files,
        &models(&[
            ("a", "c.qsm", "weight = 0.1"),
            ("b", "c.qsm", "weight = 0.2"),
            ("c", "d.qsm", "weight = 0.3"),
        ]),
    );
    assert_eq!(ensemble.engine().features(&hold)["consensus"], "tie");
    let by_one = split(["weight = 0.500001", "weight = 0.5"]);
    assert_eq!((&by_one["side"], &by_one["consensus"]), (&json!("HOLD"), &json!("split")));
}

#[test]
fn confidence_is_the_mean_of_the_side_by_its_rule() {
    let ensemble = one("confidence = \"margin\"");
    let intent = ensemble.engine().features(&features(BUY));
    let runner_up = (1.0 - CONFIDENCES[2]) / 2.0;
    assert!(near(&intent["confidence"], 0.5 + (CONFIDENCES[2] - runner_up) * 0.45), "{intent}");

    let image = classifier();
    let rules = |more: &str| {
        let text = format!(
            "[ensemble]\n{more}\n{}",
            models(&[("a", "c.qsm", ""), ("b", "c.qsm", "confidence = \"margin\"")])
        );
        let ensemble = Ensemble::new(&[("c.qsm", image.as_bytes())], &text);
        ensemble.engine().features(&features(BUY))["confidence"].clone()
    };
    let mean = (CONFIDENCES[2] + 0.5 + (CONFIDENCES[2] - runner_up) * 0.45) / 2.0;
    assert!(near(&rules(""), mean));
    assert!(near(&rules("multipliers = { unanimous = 0.5 }"), mean / 2.0));
    assert!(near(&rules("multipliers = { strong = 0.5, split = 0.5, weak = 0.5 }"), mean));
    assert!(near(&rules("multipliers = { unanimous = 100.0 }"), 0.95), "at most max_confidence");
    assert!(near(&rules("max_confidence = 0.6"), 0.6));
}

#[test]
fn consensus_counts_heads_not_weight() {
    let image = classifier();
    let mut anatomy = Anatomy::of(image.as_bytes());
    anatomy.section(SectionKind::Classes).copy_from_slice(&[0, 1, 2]);
    let other = anatomy.assemble();
    let files: [(&str, &[u8]); 2] = [("c.qsm", image.as_bytes()), ("d.qsm", other.as_bytes())];
    for (dissenters, side, consensus, count) in [
        (0, "HOLD", "unanimous", 4),
        (1, "HOLD", "strong", 3),
        (2, "HOLD", "split", 2),
        (3, "BUY", "strong", 3),
    ] {
        let names = ["a", "b", "c", "d"];
        let entries: Vec<(&str, &str, &str)> = names
            .iter()
            .enumerate()
            .map(|(at, name)| {
                let dissents = at < dissenters;
                (
                    *name,
                    if dissents { "d.qsm" } else { "c.qsm" },
                    if dissents { "weight = 0.2" } else { "weight = 0.3" },
                )
            })
            .collect();
        let ensemble = Ensemble::new(&files, &models(&entries));
        let intent = ensemble.engine().features(&json!({"pick": 0.5, "sure": 1.5}));
        assert_eq!(
            (&intent["side"], &intent["consensus"]),
            (&json!(side), &json!(consensus)),
            "{dissenters}"
        );
        assert_eq!(intent["consensus_count"], count);
    }
}

/// FORMAT.md, "Feature hash", written down a second time.
#[test]
fn the_feature_hash_is_the_one_of_the_format() {
    let ensemble = one("missing = \"native\"");
    let mut engine = ensemble.engine();
    for (pick, text) in
        [(1.5, "1.5"), (-0.000_04, "-0.00004"), (0.00005, "0.00005"), (f64::NAN, "null"), (2.5, "2.5000001")]
    {
        let mut hash = Sha256::new();
        for (name, value) in [("pick", pick), ("sure", 0.1)] {
            let value = f64::from(value as f32);
            let units = if value.is_nan() {
                f64::from_bits(0x7ff8_0000_0000_0000)
            } else {
                (value * 1e4).round_ties_even() + 0.0
            };
            hash.update((name.len() as u32).to_le_bytes());
            hash.update(name.as_bytes());
            hash.update(units.to_le_bytes());
        }
        let expected: String = hash.finalize()[..4].iter().map(|byte| format!("{byte:02x}")).collect();
        let payload = format!(r#"{{"symbol": "B", "features": {{"sure": 0.1, "pick": {text}}}}}"#);
        assert_eq!(engine.decide(&payload).unwrap()["feature_hash"], expected, "{text}");
    }
}

/// The bundled, really trained models over their capture, with every eighth event made sick.
#[test]
fn bundled_models_survive_a_sick_capture() {
    let sick = |at: usize, line: &str| match at % 8 {
        1 => line.replace("\\\"rsi_14\\\":", "\\\"rsi\\\":"),
        3 => line.replacen("\\\"ema_10\\\":", "\\\"ema_10\\\":NaN,\\\"ema_10_was\\\":", 1),
        5 => line.replacen("\\\"symbol\\\"", "\\\"sym\\\"", 1),
        7 => line[..line.len() / 2].to_owned(),
        _ => line.to_owned(),
    };
    let lines: Vec<&str> = qsc_models::FEATURES_CAPTURE.lines().take(400).collect();
    let text: String = lines.iter().enumerate().map(|(at, line)| sick(at, line) + "\n").collect();

    let files: Vec<(String, &[u8])> =
        qsc_models::IMAGES.iter().map(|(name, bytes)| (format!("{name}.qsm"), *bytes)).collect();
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (name.as_str(), *bytes)).collect();
    let ensemble = Ensemble::new(&files, &models(&[("xgb", "xgb.qsm", ""), ("lgbm", "lgbm.qsm", "")]));
    let capture = ensemble.models_toml().with_file_name("features.jsonl");
    fs::write(&capture, text).unwrap();

    let engine = Engine::new(&ensemble.config, ensemble.candidates().0).unwrap();
    let mut replay = Replay::new(engine);
    let spec = SourceSpec::parse(&format!("file:{}", capture.display())).unwrap();
    let window = Window { after: None, newest: None, event_types: &[MARKET_FEATURES] };
    let (mut intents, mut rejects) = (Vec::new(), 0);
    Source::open(&spec, "", &LinkOptions::default())
        .unwrap()
        .for_each(&window, &mut |item| {
            replay.feed(&item, |outlet| {
                match outlet {
                    Outlet::Intent(event) => intents.push(serde_json::from_str::<Value>(&event.payload)?),
                    Outlet::Reject { .. } => rejects += 1,
                }
                Ok(())
            })
        })
        .unwrap();
    assert_eq!((intents.len(), rejects), (300, 100), "every event is an intent or a reject");
    let mut reasons = std::collections::BTreeMap::<&str, u32>::new();
    for intent in &intents {
        assert_contract(intent, &["xgb", "lgbm"]);
        *reasons.entry(reason(intent, "xgb")).or_default() += 1;
    }
    assert_eq!(
        (reasons["missing_feature"], reasons["nan_input"], reasons["active"]),
        (50, 50, 200),
        "{reasons:?}"
    );
}

/// The same through the binary: it goes on with what is left, and loses no event.
#[test]
fn the_binary_goes_on_without_a_sick_model() {
    let mut flipped = qsc_models::LGBM.to_vec();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    let files: [(&str, &[u8]); 2] = [("xgb.qsm", qsc_models::XGB), ("lgbm.qsm", &flipped)];
    let ensemble = Ensemble::new(
        &files,
        &models(&[("xgb", "xgb.qsm", ""), ("lgbm", "lgbm.qsm", ""), ("gone", "gone.qsm", "")]),
    );
    let path = |name: &str| ensemble.models_toml().with_file_name(name);
    let mut text: String =
        qsc_models::FEATURES_CAPTURE.lines().take(20).map(|line| format!("{line}\n")).collect();
    text += "{\"id\":\"1-0\",\"fields\":{\"event_type\":\"market.features\",\"payload\":\"torn";
    fs::write(path("features.jsonl"), &text).unwrap();

    let file = |name: &str| format!("file:{}", path(name).display());
    let (source, sink, rejects) = (file("features.jsonl"), file("intents.jsonl"), path("rejects.jsonl"));
    let models_toml = ensemble.models_toml();
    let arguments = [
        "run",
        "--format",
        "json",
        "--source",
        &source,
        "--sink",
        &sink,
        "--models",
        models_toml.to_str().unwrap(),
        "--rejects",
        rejects.to_str().unwrap(),
    ];
    let run = qsc::run(arguments);
    assert_eq!(run.code, Some(0), "{run:?}");
    let summary = run.json();
    assert_eq!((&summary["intents"], &summary["rejects"]), (&json!(20), &json!(1)), "{summary}");
    assert!(
        run.stderr.contains("[LGBM-INIT] model_not_loaded")
            && run.stderr.contains("[GONE-INIT] model_not_loaded"),
        "{run:?}"
    );
    assert!(run.stderr.lines().next().is_some_and(|line| line.starts_with("AI_ENGINE_BUILD: ")), "{run:?}");

    let intents = fs::read_to_string(path("intents.jsonl")).unwrap();
    assert_eq!(intents.lines().count(), 20);
    for line in intents.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        let intent: Value = serde_json::from_str(event["fields"]["payload"].as_str().unwrap()).unwrap();
        assert_contract(&intent, &["xgb", "lgbm", "gone"]);
        assert_eq!(
            [reason(&intent, "xgb"), reason(&intent, "lgbm"), reason(&intent, "gone")],
            ["active", "model_not_loaded", "model_not_loaded"]
        );
    }
    assert_eq!(fs::read_to_string(&rejects).unwrap().lines().count(), 1);
}
