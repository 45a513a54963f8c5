//! Sequence models in the engine: windows per symbol, their votes, and what becomes of a frozen one.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use qsc_kernel::{Model, Scratch};
use qsc_tests::engine::{Ensemble, NOW_MS};
use qsc_tests::nets;
use serde_json::{Value, json};

const MODELS: &str = "[[model]]\nname = 'nhits'\nimage = 'nhits.qsm'\n";

/// An event of one step, `[n_features]`, under the model's feature names.
fn payload(symbol: &str, names: &[&str], step: &[f32]) -> String {
    let features: serde_json::Map<String, Value> =
        names.iter().zip(step).map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
    json!({"symbol": symbol, "timestamp": NOW_MS, "features": features}).to_string()
}

#[test]
fn a_window_fills_then_the_model_votes_as_it_predicts() {
    let case = nets::cases().into_iter().find(|case| case.name == "simple-nhits").unwrap();
    let image = case.image();
    let model = Model::check(image.as_bytes()).unwrap();
    let names: Vec<&str> = model.feature_names().collect();
    let ensemble = Ensemble::new(&[("nhits.qsm", image.as_bytes())], MODELS);
    let mut engine = ensemble.engine();
    let mut scratch = vec![0; model.scratch_bytes() + 64];
    let row = case.rows.row(0);
    // Two symbols side by side: each waits for its own window.
    for (at, step) in row.chunks(names.len()).enumerate() {
        let last = at + 1 == model.seq_len();
        for symbol in ["BTCUSDT", "ETHUSDT"] {
            let intent = engine.decide(&payload(symbol, &names, step)).unwrap();
            let breakdown = &intent["model_breakdown"]["nhits"];
            if !last {
                assert_eq!(breakdown["inactive_reason"], "insufficient_history", "{symbol} step {at}");
                assert!(intent.get("side").is_none());
                continue;
            }
            let output = model.predict(row, Scratch::new(&mut scratch)).unwrap();
            let (best, p) = output
                .values
                .iter()
                .enumerate()
                .max_by(|a, b| a.1.total_cmp(b.1))
                .map(|(at, p)| (at, *p))
                .unwrap();
            let action = model.classes().nth(best).unwrap();
            assert_eq!(breakdown["action"], action.wire_name(), "{symbol}");
            assert_eq!(breakdown["confidence"].as_f64().unwrap() as f32, p, "{symbol}");
        }
    }
}

#[test]
fn a_gap_starts_the_window_anew_and_nan_is_named_while_it_is_inside() {
    let case = nets::cases().into_iter().find(|case| case.name == "simple-nhits").unwrap();
    let image = case.image();
    let model = Model::check(image.as_bytes()).unwrap();
    let names: Vec<&str> = model.feature_names().collect();
    let ensemble = Ensemble::new(&[("nhits.qsm", image.as_bytes())], MODELS);
    let mut engine = ensemble.engine();
    let mut reason = |payload: &str| {
        let intent = engine.decide(payload).unwrap();
        intent["model_breakdown"]["nhits"].get("inactive_reason").and_then(Value::as_str).map(str::to_owned)
    };
    let steps: Vec<String> =
        case.rows.row(1).chunks(names.len()).map(|step| payload("X", &names, step)).collect();
    let count = steps.len();
    let fill: Vec<_> = steps.iter().map(|step| reason(step)).collect();
    assert!(fill[..count - 1].iter().all(|reason| reason.as_deref() == Some("insufficient_history")));
    assert_eq!(fill[count - 1], None);
    let nan =
        steps[0].replacen(&format!("\"{}\":", names[0]), &format!("\"{}\":NaN,\"unused\":", names[0]), 1);
    assert_eq!(reason(&nan).as_deref(), Some("nan_input"));
    for step in &steps[..count - 1] {
        assert_eq!(reason(step).as_deref(), Some("nan_input"));
    }
    assert_eq!(reason(&steps[count - 1]), None, "the NaN has left the window");
    assert_eq!(reason(&payload("X", &names[1..], &[0.0; 4])).as_deref(), Some("missing_feature"));
    assert_eq!(reason(&steps[0]).as_deref(), Some("insufficient_history"));
}

#[test]
fn a_frozen_net_is_degenerate_after_its_window_and_its_weight_goes_to_the_others() {
    let case = nets::cases().into_iter().find(|case| case.name == "simple-nhits").unwrap();
    let image = case.image();
    let model = Model::check(image.as_bytes()).unwrap();
    let names: Vec<&str> = model.feature_names().collect();
    let other = qsc_tests::engine::classifier();
    let models = format!("{MODELS}[[model]]\nname = 'xgb'\nimage = 'xgb.qsm'\n");
    let ensemble = Ensemble::new(&[("nhits.qsm", image.as_bytes()), ("xgb.qsm", other.as_bytes())], &models);
    let mut engine = ensemble.engine();
    let step = &case.rows.row(2)[..names.len()];
    let mut reasons = Vec::new();
    for event in 0..model.seq_len() + 100 {
        let mut payload: Value = serde_json::from_str(&payload("X", &names, step)).unwrap();
        // The other model is alive: it changes its mind and its confidence.
        payload["features"]["pick"] = json!(0.5 + (event % 3) as f64);
        payload["features"]["sure"] = json!(0.5 + (event % 4) as f64);
        let intent = engine.decide(&payload.to_string()).unwrap();
        let reason = intent["model_breakdown"]["nhits"].get("inactive_reason").cloned();
        if reason.is_some() {
            assert_eq!(intent["effective_weights"], json!({"nhits": 0.0, "xgb": 1.0}), "event {event}");
        }
        reasons
            .push(reason.map_or_else(|| "active".to_owned(), |reason| reason.as_str().unwrap().to_owned()));
    }
    let waiting = model.seq_len() - 1;
    assert!(reasons[..waiting].iter().all(|reason| reason == "insufficient_history"));
    assert!(reasons[waiting..waiting + 99].iter().all(|reason| reason == "active"), "{reasons:?}");
    assert!(reasons[waiting + 99..].iter().all(|reason| reason == "degenerate_output"), "{reasons:?}");
}

#[test]
fn the_log_says_how_a_patchtst_cuts_its_window() {
    for (name, expected) in [
        ("patchtst", "Patch config: 4 patches x 8 timesteps"),
        ("patchtst-eight-patches", "Patch config: 8 patches x 16 timesteps"),
        ("hf-eight-channels", "Patch config: 8 patches x 16 timesteps"),
        ("simple-nhits", ""),
    ] {
        let case = nets::cases().into_iter().find(|case| case.name == name).unwrap();
        let image = case.image();
        let models = "[[model]]\nname = 'net'\nimage = 'net.qsm'\n";
        let ensemble = Ensemble::new(&[("net.qsm", image.as_bytes())], models);
        let (_, log) = ensemble.candidates();
        assert!(log.contains(expected) && log.contains("[NET-INIT] Window: "), "{name}: {log}");
        assert_eq!(log.contains("Patch config"), !expected.is_empty(), "{name}: {log}");
    }
}
