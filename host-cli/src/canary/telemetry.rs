//! What intents say about a canary: its weight, its predictions, and the others beside it.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use serde::Serialize;

use super::compare::{Comparison, Sides};
use super::weights::{Weights, fraction};
use crate::gate::Entry;
use crate::judge::{EventSource, QUALITY_EVENTS};
use crate::stream::{EventId, Gap, Item, Json, Reading, TRADE_INTENT, Window};

/// Largest distance of an effective weight from the expected one: producers round.
const WEIGHT_TOLERANCE: f64 = 1e-6;

/// Whether the canary really has its weight, as the intents tell it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct WeightProof {
    /// Intents in which the canary voted beside others and weights were told.
    pub events: u64,
    /// Of these, intents with exactly the weight that the weights in force give it among the models that voted.
    pub as_expected: u64,
    /// The newest effective weight.
    pub newest: Option<f64>,
    /// What it should have been.
    pub expected: Option<f64>,
    /// Mean of the effective weights.
    pub mean: Option<f64>,
    /// Id of the first intent from which on every weight is as expected.
    pub since: Option<String>,
}

/// Reads intents, oldest first.
#[derive(Debug)]
pub struct Telemetry {
    canary: String,
    weights: Weights,
    sides: Sides,
    proof: WeightProof,
    sum: f64,
    read: u64,
    first: Option<EventId>,
    last: Option<EventId>,
    last_canary: Option<EventId>,
}

/// What was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// Canary and baseline over the same events.
    pub comparison: Comparison,
    /// The canary's weight.
    pub proof: WeightProof,
    /// Id of the oldest event, where every event of the window was read and not only the newest ones.
    pub first: Option<EventId>,
    /// Id of the newest event.
    pub last: Option<EventId>,
    /// Id of the newest intent in which the canary was active.
    pub last_canary: Option<EventId>,
    /// Entries that were ever added to the stream, where the source counts them.
    pub entries_added: Option<u64>,
    /// The first entry ever added to the stream, where none was removed since.
    pub oldest: Option<EventId>,
}

/// What the newest intents since `after` (Unix ms) say, as many as the quality gate judges, and what of them is missing.
///
/// # Errors
/// The source cannot be read.
pub fn read(
    source: &EventSource,
    after: Option<u64>,
    canary: &str,
    weights: &Weights,
) -> anyhow::Result<(Seen, Option<Gap>)> {
    let mut telemetry = Telemetry::new(canary, weights);
    let newest = NonZeroUsize::new(usize::try_from(QUALITY_EVENTS)?);
    let window = Window { after, newest, event_types: &[TRADE_INTENT] };
    let reading = source.read(&window, |item| telemetry.observe(&item))?;
    let Reading { entries_added, oldest, gap, .. } = reading;
    Ok((Seen { entries_added, oldest, ..telemetry.finish() }, gap))
}

impl Telemetry {
    /// Looks for `canary` under the weights in force.
    #[must_use]
    pub fn new(canary: &str, weights: &Weights) -> Self {
        Self {
            canary: canary.to_owned(),
            weights: weights.clone(),
            sides: Sides::default(),
            proof: WeightProof::default(),
            sum: 0.0,
            read: 0,
            first: None,
            last: None,
            last_canary: None,
        }
    }

    /// Takes the next item. What is corrupt is the gate's to judge.
    pub fn observe(&mut self, item: &Item) {
        self.read += 1;
        let Ok(event) = item else { return };
        self.first = self.first.or(Some(event.id));
        self.last = Some(event.id);
        let Ok(payload) = Json::parse(&event.payload) else { return };
        let Some(models) = payload.get("model_breakdown").and_then(Json::as_object) else { return };
        let entries = models.iter().map(|(name, entry)| (name, Entry::read(entry)));
        let active: BTreeMap<&str, Entry<'_>> =
            entries.filter(|(_, entry)| matches!(entry, Entry::Active { .. })).collect();
        let Some(canary) = active.get(self.canary.as_str()) else { return };
        self.last_canary = Some(event.id);
        self.observe_weight(event.id, &payload, active.keys().copied());
        if active.len() > 1 {
            self.sides.events += 1;
            take(canary, &mut self.sides.canary, &mut self.sides.canary_actions);
            for (_, entry) in active.iter().filter(|(name, _)| **name != self.canary) {
                take(entry, &mut self.sides.baseline, &mut self.sides.baseline_actions);
            }
        }
    }

    fn observe_weight<'a>(&mut self, id: EventId, payload: &Json<'_>, active: impl Iterator<Item = &'a str>) {
        let told = payload.get("effective_weights").and_then(|weights| weights.get(&self.canary));
        let (Some(told), Some(own)) = (told.and_then(Json::as_number), self.weights.get(&self.canary)) else {
            return;
        };
        let beside = active.filter(|&name| name != self.canary).filter_map(|name| self.weights.get(name));
        let (own, beside) = (fraction(own), beside.map(fraction).sum::<f64>());
        // Alone it has all the weight whatever is in force.
        if beside <= 0.0 {
            return;
        }
        let expected = own / (own + beside);
        let holds = (told - expected).abs() <= WEIGHT_TOLERANCE;
        let proof = &mut self.proof;
        proof.events += 1;
        proof.as_expected += u64::from(holds);
        proof.newest = Some(told);
        proof.expected = Some(expected);
        self.sum += told;
        if !holds {
            proof.since = None;
        } else if proof.since.is_none() {
            proof.since = Some(id.to_string());
        }
    }

    /// What was read.
    #[must_use]
    pub fn finish(mut self) -> Seen {
        if self.proof.events > 0 {
            self.proof.mean = Some(self.sum / self.proof.events as f64);
        }
        Seen {
            comparison: self.sides.compare(),
            proof: self.proof,
            first: self.first.filter(|_| self.read < QUALITY_EVENTS),
            last: self.last,
            last_canary: self.last_canary,
            entries_added: None,
            oldest: None,
        }
    }
}

/// Only confidences that are one as they stand are compared; the others are the gate's to judge.
fn take(entry: &Entry<'_>, confidences: &mut Vec<f64>, actions: &mut [u64; 3]) {
    let Entry::Active { action, confidence } = entry else { return };
    confidences.extend(confidence.iter().filter(|&&confidence| confidence <= 1.0));
    if let Ok(action) = action {
        actions[usize::from(action.code())] += 1;
    }
}

impl WeightProof {
    /// One line for people.
    #[must_use]
    pub fn text(&self) -> String {
        match (self.newest, self.expected) {
            (Some(newest), Some(expected)) => {
                let since = self.since.as_ref().map_or_else(
                    || "NOT as the weights in force give it".to_owned(),
                    |id| format!("as the weights in force give it since {id}"),
                );
                format!(
                    "effective weight {newest:.6} (expected {expected:.6}), {since}; {} of {} intents as expected",
                    self.as_expected, self.events
                )
            }
            _ => "no intent tells the canary's effective weight".to_owned(),
        }
    }
}
