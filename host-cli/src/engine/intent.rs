//! A round of the ensemble as a `trade.intent` event.

use qsc_kernel::ensemble::{Decision, NoActiveModel, Outcome};
use qsc_kernel::{Action, Prediction};
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use super::Decided;
use super::bind::Schema;
use super::config::ModelConfig;
use crate::identity;
use crate::stream::{Event, Json, SYNTHETIC, TRADE_INTENT};

/// Payload of an intent, fields in the contract's order.
#[derive(Serialize)]
struct Payload<'a> {
    symbol: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    side: Option<Action>,
    #[serde(skip_serializing_if = "Option::is_none")]
    confidence: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<Time<'a>>,
    model: &'static str,
    consensus: &'static str,
    consensus_count: u32,
    total_models: usize,
    active_models: usize,
    #[serde(serialize_with = "map")]
    effective_weights: Vec<(&'a str, f64)>,
    #[serde(serialize_with = "present")]
    features: &'a Schema,
    feature_hash: String,
    source_id: String,
    build: &'static str,
    #[serde(serialize_with = "map")]
    model_breakdown: Vec<(&'a str, Breakdown)>,
}

/// A time as it was written.
#[derive(Serialize)]
#[serde(untagged)]
enum Time<'a> {
    Text(&'a str),
    /// Unix milliseconds.
    Whole(i64),
    Fraction(f64),
}

impl<'a> Time<'a> {
    /// `None` for what is no time.
    fn of(timestamp: &'a Json<'_>) -> Option<Self> {
        match timestamp {
            Json::Text(text) => Some(Self::Text(text)),
            Json::Number(ms) if ms.fract() == 0.0 && ms.abs() < 9.0e15 => Some(Self::Whole(*ms as i64)),
            Json::Number(ms) if ms.is_finite() => Some(Self::Fraction(*ms)),
            Json::Number(_) | Json::Null | Json::Bool(_) | Json::List(_) | Json::Object(_) => None,
        }
    }
}

/// One model in an intent.
#[derive(Serialize)]
struct Breakdown {
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<Action>,
    #[serde(skip_serializing_if = "Option::is_none")]
    confidence: Option<f32>,
    model: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    inactive: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inactive_reason: Option<&'static str>,
    /// Only where degeneracy is observed: the window would have thrown the model out.
    #[serde(skip_serializing_if = "Option::is_none")]
    degenerate: Option<bool>,
}

/// Pairs as a JSON object in their order.
fn map<S: Serializer, V: Serialize, P: AsRef<[(K, V)]>, K: Serialize>(
    pairs: &P,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let pairs = pairs.as_ref();
    let mut object = serializer.serialize_map(Some(pairs.len()))?;
    for (name, value) in pairs {
        object.serialize_entry(name, value)?;
    }
    object.end()
}

/// The features that are there as a JSON object. An f32 is written with the digits it needs.
fn present<S: Serializer>(schema: &Schema, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(schema.present())
}

/// The intent of a decided event, under the event's own id.
#[must_use]
pub fn intent(event: &Event, decided: &Decided<'_>, models: &[ModelConfig]) -> Event {
    let round = &decided.round;
    let side = match round.vote {
        Ok(Decision::Side(side)) => Some(side),
        Ok(Decision::Tie { .. }) | Err(NoActiveModel) => None,
    };
    let names = || models.iter().map(|model| model.name.as_str());
    let payload = Payload {
        symbol: &decided.symbol,
        side: side.map(|side| side.prediction.action()),
        confidence: side.map(|side| side.prediction.confidence()),
        timestamp: decided.timestamp.as_ref().and_then(Time::of),
        model: "ensemble",
        consensus: round.vote.as_ref().map_or(NoActiveModel::WIRE_NAME, Decision::consensus_name),
        consensus_count: side.map_or(0, |side| side.chose),
        total_models: models.len(),
        active_models: round.outcomes.iter().filter(|outcome| outcome.is_active()).count(),
        effective_weights: names().zip(round.effective_weights.iter().copied()).collect(),
        features: decided.schema,
        feature_hash: decided.fingerprint.to_string(),
        source_id: event.id.to_string(),
        build: identity::build(),
        model_breakdown: models
            .iter()
            .zip(&round.outcomes)
            .map(|(model, outcome)| (model.name.as_str(), breakdown(model, outcome)))
            .collect(),
    };
    Event {
        id: event.id,
        event_type: TRADE_INTENT.to_owned(),
        payload: serde_json::to_string(&payload).expect("names are strings and every number serializes"),
        trace_id: event.trace_id.clone(),
        timestamp: event.timestamp.clone(),
        source: Some("qsc".to_owned()),
    }
}

/// The same intent, marked in its payload as decided on simulated events: no gate takes it for a market, wherever it is
/// copied to.
#[must_use]
pub fn simulated(intent: &Event) -> Event {
    let members = intent.payload.strip_prefix('{').unwrap_or(&intent.payload);
    Event { payload: format!("{{\"{SYNTHETIC}\":true,{members}"), ..intent.clone() }
}

fn breakdown(model: &ModelConfig, outcome: &Outcome) -> Breakdown {
    let (prediction, reason, degenerate) = match *outcome {
        Outcome::Active { prediction, degenerate } => (Some(prediction), None, degenerate),
        Outcome::Inactive { reason, prediction, degenerate } => {
            (prediction, Some(reason.wire_name()), degenerate)
        }
    };
    Breakdown {
        action: prediction.map(Prediction::action),
        confidence: prediction.map(Prediction::confidence),
        model: format!("{}_model", model.name),
        inactive: reason.map(|_| true),
        inactive_reason: reason,
        degenerate: degenerate.then_some(true),
    }
}
