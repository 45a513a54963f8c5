//! The quality gate: is any model fit to be promoted?

use std::collections::BTreeMap;

use serde::Serialize;

use super::Outcome;
use super::duplicates::{Duplicates, RecentVectors};
use super::evidence::{Evidence, Witness};
use super::model::{ModelTelemetry, ModelVerdict};
use super::rules::Rules;
use super::sanity;
use crate::stream::{Event, Gap, Item, Json, format_rfc3339};

/// What the gate is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Gathers data; never promotes, whatever the figures.
    Collection,
    /// Decides whether a promotion is allowed.
    Canary,
}

/// How many models must be healthy in canary mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Require {
    /// At least one.
    #[default]
    Any,
    /// Every model in the telemetry.
    All,
}

/// What was asked for: part of the verdict, not of the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Collection or canary.
    pub mode: Mode,
    /// How many models must be healthy.
    pub require: Require,
    /// The number of newest events asked for; 0 is all.
    pub requested: u64,
    /// Start of the window, Unix ms, if one was asked for.
    pub cutover: Option<u64>,
}

/// How many events there were.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct EventFigures {
    /// Events judged; corrupt ones do not count.
    pub count: u64,
    /// The number of newest events asked for; 0 is all.
    pub requested: u64,
    /// Events needed.
    pub min: u64,
    /// Corrupt events.
    pub malformed: u64,
}

/// The verdict of the quality gate; serializes as the contract has it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct QualityVerdict {
    /// Collection or canary.
    pub mode: Mode,
    /// How many models had to be healthy.
    pub require: Require,
    /// What the gate says.
    #[serde(rename = "verdict")]
    pub outcome: Outcome,
    /// The exit code that goes with it.
    pub exit_code: u8,
    /// Why, in words; empty on a pass.
    pub reasons: Vec<String>,
    /// How many events there were.
    pub events: EventFigures,
    /// Start of the window, RFC 3339, if one was asked for.
    pub cutover: Option<String>,
    /// Models whose own verdict is pass, whatever the gate's.
    pub eligible: Vec<String>,
    /// The verdict on each model.
    pub models: BTreeMap<String, ModelVerdict>,
    /// Repetition among the newest feature vectors: information, never a failure.
    pub duplicates: Duplicates,
    /// The first corrupt event in words.
    pub first_malformed: Option<String>,
    /// Rules looser than their defaults.
    pub loosened: Vec<String>,
    /// The events this was made from.
    #[serde(skip)]
    pub evidence: Evidence,
    /// The rules this was made with.
    #[serde(skip)]
    pub rules: Rules,
}

/// Judges `trade.intent` events.
#[derive(Debug)]
pub struct QualityGate {
    terms: Terms,
    count: u64,
    malformed: u64,
    first_malformed: Option<String>,
    models: BTreeMap<String, ModelTelemetry>,
    vectors: RecentVectors,
    witness: Witness,
}

impl QualityGate {
    /// A gate that has seen nothing yet.
    #[must_use]
    pub fn new(terms: Terms) -> Self {
        Self {
            terms,
            count: 0,
            malformed: 0,
            first_malformed: None,
            models: BTreeMap::new(),
            vectors: RecentVectors::default(),
            witness: Witness::default(),
        }
    }

    /// Takes the next item of the stream, oldest first.
    pub fn observe(&mut self, item: &Item) {
        self.witness.observe(item);
        let judged = match item {
            Ok(event) => self.observe_event(event).map_err(|reason| format!("event {}: {reason}", event.id)),
            Err(malformed) => Err(malformed.to_string()),
        };
        match judged {
            Ok(()) => self.count += 1,
            Err(reason) => {
                self.malformed += 1;
                self.first_malformed.get_or_insert(reason);
            }
        }
    }

    fn observe_event(&mut self, event: &Event) -> Result<(), String> {
        let payload =
            Json::parse(&event.payload).map_err(|error| format!("the payload is no JSON ({error})"))?;
        let models = payload
            .get("model_breakdown")
            .ok_or("the payload has no model_breakdown")?
            .as_object()
            .ok_or("model_breakdown is no object")?;
        if models.is_empty() {
            return Err("model_breakdown names no model".to_owned());
        }
        for (name, entry) in models {
            match self.models.get_mut(name) {
                Some(model) => model.observe(entry),
                None => self.models.entry(name.clone()).or_default().observe(entry),
            }
        }
        if let Ok(features) = sanity::features_of(&payload) {
            self.vectors.push(sanity::vector_of(&features));
        }
        Ok(())
    }

    /// The verdict on everything observed. `gap`: entries of the window were lost before they could be read.
    #[must_use]
    pub fn finish(self, rules: &Rules, gap: Option<&Gap>) -> QualityVerdict {
        let Terms { mode, require, requested, cutover } = self.terms;
        let min = rules.min_events(mode);
        let models: BTreeMap<String, ModelVerdict> =
            self.models.into_iter().map(|(name, model)| (name, model.finish(rules, min))).collect();
        let eligible: Vec<String> =
            models.iter().filter(|(_, model)| model.passed).map(|(name, _)| name.clone()).collect();

        let mut missing = Vec::new();
        if self.count < min {
            missing.push(format!("{} events, at least {min} are needed", self.count));
        }
        if models.is_empty() {
            missing.push("no model in the telemetry".to_owned());
        }
        missing.extend(gap.map(|gap| format!("events may be missing: {gap}")));

        let mut blockers = Vec::new();
        let seen = self.count + self.malformed;
        if rules.max_malformed_pct.is_exceeded_by(self.malformed, seen) {
            let most = rules.max_malformed_pct;
            blockers
                .push(format!("{} of {seen} events are corrupt, at most {most} % may be", self.malformed));
        }
        if mode == Mode::Canary && !models.is_empty() {
            let healthy = eligible.len();
            match require {
                Require::Any if healthy == 0 => blockers.push("no model is healthy".to_owned()),
                Require::All if healthy < models.len() => {
                    blockers
                        .push(format!("{healthy} of {} models are healthy, all are required", models.len()));
                }
                Require::Any | Require::All => {}
            }
        }

        let outcome = match (missing.is_empty(), blockers.is_empty(), mode) {
            (false, _, _) => Outcome::Inconclusive,
            (true, false, _) => Outcome::Fail,
            (true, true, Mode::Collection) => Outcome::Collection,
            (true, true, Mode::Canary) => Outcome::Pass,
        };
        QualityVerdict {
            mode,
            require,
            outcome,
            exit_code: outcome.exit().code(),
            reasons: missing.into_iter().chain(blockers).collect(),
            events: EventFigures { count: self.count, requested, min, malformed: self.malformed },
            cutover: cutover.map(format_rfc3339),
            eligible,
            models,
            duplicates: self.vectors.figures(rules),
            first_malformed: self.first_malformed,
            loosened: rules.loosened(mode),
            evidence: self.witness.finish(),
            rules: rules.clone(),
        }
    }
}
