//! The scoreboard: one word per model, from the verdict of the quality gate in canary mode.

use std::collections::BTreeMap;

use serde::Serialize;

use super::check::{Check, CheckKind};
use super::ensemble::OnBound;
use super::model::ModelVerdict;
use super::quality::{Mode, QualityVerdict};
use super::{Ensemble, Outcome};

/// What an operator may do with a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Signal {
    /// Passed, in an ensemble that agrees as it should.
    #[serde(rename = "GO")]
    Go,
    /// Nothing is wrong with the model, but not everything that must be shown was shown.
    #[serde(rename = "WAIT")]
    Wait,
    /// The model failed a check.
    #[serde(rename = "NO-GO")]
    NoGo,
}

impl Signal {
    /// `GO`, `WAIT` or `NO-GO`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Go => "GO",
            Self::Wait => "WAIT",
            Self::NoGo => "NO-GO",
        }
    }
}

/// A model's line on the scoreboard.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Standing {
    /// GO, WAIT or NO-GO.
    pub signal: Signal,
    /// Why not GO.
    pub reasons: Vec<String>,
}

/// The signal of every model; serializes as part of the scoreboard's document.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scoreboard {
    /// Pass if every model is GO, inconclusive if all others WAIT, else fail.
    #[serde(rename = "verdict")]
    pub outcome: Outcome,
    /// The exit code that goes with it: 0 or 2.
    pub exit_code: u8,
    /// Agreement of the models.
    pub ensemble: Ensemble,
    /// By model.
    pub signals: BTreeMap<String, Standing>,
    /// What keeps every model from GO.
    pub reasons: Vec<String>,
}

impl Scoreboard {
    /// The scoreboard of a verdict. A verdict in collection mode promotes nothing: every healthy model waits.
    #[must_use]
    pub fn of(verdict: &QualityVerdict) -> Self {
        let mut waits = Vec::new();
        if verdict.mode == Mode::Collection {
            waits.push("collection mode never promotes".to_owned());
        }
        if verdict.outcome != Outcome::Pass {
            waits.extend(verdict.reasons.iter().map(|reason| format!("the gate did not pass: {reason}")));
        }
        waits.extend(verdict.ensemble.disagreements(&verdict.rules, OnBound::Fails));
        let signals: BTreeMap<String, Standing> = verdict
            .models
            .iter()
            .map(|(name, model)| (name.clone(), Standing::of(model, verdict.outcome, &waits)))
            .collect();
        let all = |allowed: fn(Signal) -> bool| signals.values().all(|standing| allowed(standing.signal));
        let outcome = if !signals.is_empty() && all(|signal| signal == Signal::Go) {
            Outcome::Pass
        } else if all(|signal| signal != Signal::NoGo) {
            Outcome::Inconclusive
        } else {
            Outcome::Fail
        };
        Self {
            outcome,
            exit_code: outcome.exit().code(),
            ensemble: verdict.ensemble,
            signals,
            reasons: waits,
        }
    }
}

impl Standing {
    fn of(model: &ModelVerdict, gate: Outcome, waits: &[String]) -> Self {
        let lacks = |check: &&Check| check.check == CheckKind::InsufficientPredictions;
        let (lacking, failed): (Vec<&Check>, Vec<&Check>) = model.failures.iter().partition(lacks);
        let words = |checks: &[&Check]| checks.iter().map(|check| check.detail.clone()).collect();
        if !failed.is_empty() {
            return Self { signal: Signal::NoGo, reasons: words(&failed) };
        }
        let mut reasons: Vec<String> = words(&lacking);
        reasons.extend_from_slice(waits);
        let go = model.passed && gate == Outcome::Pass && reasons.is_empty();
        Self { signal: if go { Signal::Go } else { Signal::Wait }, reasons }
    }
}
