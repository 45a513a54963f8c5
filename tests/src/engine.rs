//! Ensembles of real images written by hand, events for them, and the contract every intent must keep.

use std::fs;
use std::path::PathBuf;

use qsc_cli::compile::ir::{LibraryRules, Link, Missing, Node, TreeModel};
use qsc_cli::engine::config::ModelsConfig;
use qsc_cli::engine::intent::intent;
use qsc_cli::engine::load::Images;
use qsc_cli::engine::panic_guard::PanicGuard;
use qsc_cli::engine::{Candidate, Engine, Reject};
use qsc_cli::image::ImageBytes;
use qsc_cli::stream::{Event, EventId};
use qsc_kernel::ensemble::Predict;
use qsc_kernel::{Action, Model};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::models::{image, model, number, tree};

/// Classes of [`classifier`], by the value of its feature `pick`.
pub const CLASSES: [Action; 3] = [Action::Hold, Action::Buy, Action::Sell];
/// Probability of the class picked with `sure` below 1, 2, 3 and above.
pub const CONFIDENCES: [f64; 4] = [0.4370, 0.5761, 0.7870, 0.9094];

/// Three classes: `pick` in [0, 1) is HOLD, [1, 2) BUY, [2, 3) SELL; `sure` says how sure. A missing `pick` is SELL.
#[must_use]
pub fn classifier() -> ImageBytes {
    let right = Missing::Nan { left: false };
    let mut classes = model(LibraryRules::XgBoost, &["pick", "sure"], 3, Link::Softmax);
    for group in 0..3 {
        let at = group as f64;
        // The last class has no upper end, so that what is missing lands there.
        let end = if group == 2 { f64::INFINITY } else { at + 1.0 };
        let margin = |logit: f64| Node::Leaf(f64::from(logit as f32));
        classes.trees.push(tree(
            group,
            vec![
                number(0, at, right, 1, 2),
                margin(0.0),
                number(0, end, Missing::Nan { left: group == 2 }, 3, 4),
                number(1, 2.0, right, 5, 6),
                margin(0.0),
                number(1, 1.0, right, 7, 8),
                number(1, 3.0, right, 9, 10),
                margin(0.44),
                margin(1.0),
                margin(2.0),
                margin(3.0),
            ],
        ));
    }
    image(&classes, false, Some(&CLASSES))
}

/// One probability: `x` below −1 is 0.12 (SELL), to 1 it is 0.5 (no answer), above 0.88 (BUY). A missing `x` is BUY.
#[must_use]
pub fn one_probability() -> ImageBytes {
    let right = Missing::Nan { left: false };
    let mut binary: TreeModel = model(LibraryRules::XgBoost, &["x"], 1, Link::Sigmoid { scale: 1.0 });
    binary.trees = vec![tree(
        0,
        vec![
            number(0, -1.0, right, 1, 2),
            Node::Leaf(-2.0),
            number(0, 1.0, right, 3, 4),
            Node::Leaf(0.0),
            Node::Leaf(2.0),
        ],
    )];
    image(&binary, false, None)
}

/// A directory with images and a `MODELS.toml`.
pub struct Ensemble {
    directory: TempDir,
    /// The configuration, as read from the file.
    pub config: ModelsConfig,
    images: Images,
}

impl Ensemble {
    /// Writes `files` and a `MODELS.toml` with this text, and reads them as `qsc run` does.
    ///
    /// # Panics
    /// If the configuration is refused.
    #[must_use]
    pub fn new(files: &[(&str, &[u8])], models: &str) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        for (name, bytes) in files {
            fs::write(directory.path().join(name), bytes).expect("the image is written");
        }
        let path = directory.path().join("MODELS.toml");
        fs::write(&path, models).expect("the configuration is written");
        let config = ModelsConfig::read(&path).expect("the configuration is valid");
        let images = Images::read(&config);
        Self { directory, config, images }
    }

    /// Path of its `MODELS.toml`.
    #[must_use]
    pub fn models_toml(&self) -> PathBuf {
        self.directory.path().join("MODELS.toml")
    }

    /// The loaded models and the log of loading them.
    ///
    /// # Panics
    /// If a loaded model cannot vote.
    #[must_use]
    pub fn candidates(&self) -> (Vec<Candidate<PanicGuard<Model<'_>>>>, String) {
        let mut log = String::new();
        let candidates = self.images.load(&self.config, &mut |line| log += &format!("{line}\n"));
        (candidates.expect("every loaded model can vote"), log)
    }

    /// An engine of the loaded models.
    #[must_use]
    pub fn engine(&self) -> Deciding<PanicGuard<Model<'_>>> {
        self.engine_of(self.candidates().0)
    }

    /// An engine of these models.
    ///
    /// # Panics
    /// If there are none, or too many.
    #[must_use]
    pub fn engine_of<P: Predict>(&self, candidates: Vec<Candidate<P>>) -> Deciding<P> {
        let engine = Engine::new(&self.config, candidates).expect("the ensemble has models");
        Deciding { engine, config: self.config.clone(), events: 0 }
    }
}

/// An engine that is asked payload by payload.
pub struct Deciding<P> {
    engine: Engine<P>,
    config: ModelsConfig,
    events: u64,
}

/// The wall clock of [`Deciding`], Unix ms.
pub const NOW_MS: u64 = 1_700_000_000_000;

impl<P: Predict> Deciding<P> {
    /// Decides one event with this payload text; the intent keeps the contract.
    ///
    /// # Errors
    /// Why there is no intent.
    ///
    /// # Panics
    /// If the intent breaks the contract.
    pub fn decide(&mut self, payload: &str) -> Result<Value, Reject> {
        self.events += 1;
        let event = Event {
            id: EventId { ms: NOW_MS, seq: self.events },
            event_type: "market.features".to_owned(),
            payload: payload.to_owned(),
            trace_id: Some("trace".to_owned()),
            timestamp: None,
            source: None,
        };
        let decided = self.engine.decide(&event, NOW_MS)?;
        let out = intent(&event, &decided, &self.config.models);
        assert_eq!(
            (out.id, out.event_type.as_str(), out.trace_id),
            (event.id, "trade.intent", event.trace_id)
        );
        let value: Value = serde_json::from_str(&out.payload).expect("an intent is JSON");
        let names: Vec<&str> = self.config.models.iter().map(|model| model.name.as_str()).collect();
        assert_contract(&value, &names);
        assert_eq!(value["source_id"], event.id.to_string());
        Ok(value)
    }

    /// Decides an event of these features, which must give an intent.
    ///
    /// # Panics
    /// If it is rejected or breaks the contract.
    pub fn features(&mut self, features: &Value) -> Value {
        let payload = json!({"symbol": "BTCUSDT", "timestamp": NOW_MS, "features": features});
        self.decide(&payload.to_string()).expect("an event with features is decided")
    }
}

const FIELDS: [&str; 15] = [
    "symbol",
    "side",
    "confidence",
    "timestamp",
    "model",
    "consensus",
    "consensus_count",
    "total_models",
    "active_models",
    "effective_weights",
    "features",
    "feature_hash",
    "source_id",
    "build",
    "model_breakdown",
];
/// What may be missing: there is no side, or the event had no time.
const OPTIONAL: [&str; 3] = ["side", "confidence", "timestamp"];
/// Reasons this engine gives.
const REASONS: [&str; 12] = [
    "exception_in_predict",
    "nan_input",
    "inf_input",
    "feature_dim_mismatch",
    "missing_feature",
    "insufficient_history",
    "dead_zone",
    "degenerate_output",
    "non_finite_output",
    "model_not_loaded",
    "shadow_mode",
    "stale_input",
];

/// Checks an intent against section 3 of the contract, for an ensemble of these models.
///
/// # Panics
/// With the first field that breaks it.
pub fn assert_contract(intent: &Value, models: &[&str]) {
    let fields = intent.as_object().expect("an intent is an object");
    for name in fields.keys() {
        assert!(FIELDS.contains(&name.as_str()), "unknown field {name}: {intent}");
    }
    for name in FIELDS.iter().filter(|name| !OPTIONAL.contains(name)) {
        assert!(fields.contains_key(*name), "no field {name}: {intent}");
    }
    assert!(intent["symbol"].as_str().is_some_and(|symbol| !symbol.is_empty()), "{intent}");
    assert_eq!(intent["model"], "ensemble");
    let hash = intent["feature_hash"].as_str().expect("a hash is a text");
    assert!(hash.len() == 8 && hash.bytes().all(|byte| b"0123456789abcdef".contains(&byte)), "{hash}");
    assert!(intent["build"].as_str().is_some_and(|build| !build.is_empty()), "{intent}");
    assert!(intent["features"].is_object());

    let breakdown = intent["model_breakdown"].as_object().expect("a breakdown is an object");
    assert!(breakdown.keys().eq(models), "every model, in order: {intent}");
    let weights = intent["effective_weights"].as_object().expect("weights are an object");
    assert!(weights.keys().eq(models), "every model, in order: {intent}");
    let weight = |name: &str| weights[name].as_f64().expect("a weight is a number");
    let mut votes = Vec::new();
    for (name, entry) in breakdown {
        assert_entry(name, entry);
        let active = entry.get("inactive").is_none();
        assert_eq!(weight(name) > 0.0, active, "an inactive model has weight 0: {intent}");
        if active {
            votes.push((entry["action"].as_str().expect("active models act"), weight(name)));
        }
    }
    assert_eq!(intent["total_models"], models.len());
    assert_eq!(intent["active_models"], votes.len());

    let total: f64 = votes.iter().map(|(_, weight)| weight).sum();
    assert!(votes.is_empty() || (total - 1.0).abs() < 1e-12, "weights are renormalized: {intent}");
    let consensus = intent["consensus"].as_str().expect("a consensus is a text");
    assert_eq!(consensus == "no_active_model", votes.is_empty(), "{intent}");
    let Some(side) = intent.get("side") else {
        assert!(matches!(consensus, "tie" | "no_active_model"), "{intent}");
        assert!(intent.get("confidence").is_none() && intent["consensus_count"] == 0, "{intent}");
        return;
    };
    assert!(matches!(side.as_str(), Some("BUY" | "SELL" | "HOLD")), "{intent}");
    assert!(matches!(consensus, "unanimous" | "strong" | "split" | "weak"), "{intent}");
    assert!(matches!(intent["confidence"].as_f64(), Some(0.0..=1.0)), "{intent}");
    let of = |action: &str| votes.iter().filter(|(vote, _)| *vote == action).map(|(_, w)| w).sum::<f64>();
    let chosen = of(side.as_str().unwrap());
    assert!(["BUY", "SELL", "HOLD"].iter().all(|action| of(action) <= chosen + 1e-12), "{intent}");
    let count = votes.iter().filter(|(vote, _)| side == *vote).count();
    assert_eq!(intent["consensus_count"], count, "{intent}");
}

/// One model of the breakdown.
fn assert_entry(name: &str, entry: &Value) {
    let fields = entry.as_object().expect("an entry is an object");
    let known = ["action", "confidence", "model", "inactive", "inactive_reason", "degenerate"];
    assert!(fields.keys().all(|field| known.contains(&field.as_str())), "{entry}");
    assert_eq!(entry["model"], format!("{name}_model"));
    assert_eq!(entry.get("action").is_some(), entry.get("confidence").is_some(), "{entry}");
    if let Some(action) = entry.get("action") {
        assert!(matches!(action.as_str(), Some("BUY" | "SELL" | "HOLD")), "{entry}");
        assert!(matches!(entry["confidence"].as_f64(), Some(0.0..=1.0)), "{entry}");
    }
    match entry.get("inactive") {
        None => assert!(entry.get("inactive_reason").is_none() && entry.get("action").is_some(), "{entry}"),
        Some(inactive) => {
            assert_eq!(inactive, true, "{entry}");
            let reason = entry["inactive_reason"].as_str().expect("a reason is a text");
            assert!(REASONS.contains(&reason), "{entry}");
        }
    }
}
