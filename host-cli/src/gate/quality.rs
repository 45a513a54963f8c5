//! The quality gate: is any model fit to be promoted?

use std::collections::BTreeMap;

use serde::Serialize;

use super::check::{Check, CheckKind};
use super::drift::{self, Drift, DriftFigures};
use super::duplicates::{Duplicates, RecentVectors};
use super::ensemble::{Ballot, Votes};
use super::evidence::Evidence;
use super::intake::Intake;
use super::model::{ModelFigures, ModelTelemetry, ModelVerdict, Said};
use super::payload::{self, Entry};
use super::rules::Rules;
use super::slices::{Slice, Slices};
use super::timeline::{Axis, Timeline};
use super::{Ensemble, Outcome};
use crate::stream::{Event, Gap, Item, Json, Members, format_rfc3339};

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
    /// The gate's own checks; those of a model are with it.
    pub checks: Vec<Check>,
    /// How far the models agree.
    pub ensemble: Ensemble,
    /// Models whose own verdict is pass, whatever the gate's.
    pub eligible: Vec<String>,
    /// The verdict on each model.
    pub models: BTreeMap<String, ModelVerdict>,
    /// What the buckets of `over_time` mean.
    pub timeline: Timeline,
    /// The same per symbol.
    pub slices: BTreeMap<String, Slice>,
    /// The newest events before the cutover, unjudged; `None` without a cutover, or if they cannot be read.
    pub pre_cutover: Option<PreCutover>,
    /// Drift of the features; `None` if no models to compare with were named.
    pub drift: Option<DriftFigures>,
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

/// What the models said before the cutover.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PreCutover {
    /// Events with a breakdown.
    pub events: u64,
    /// How far the models agreed.
    pub ensemble: Ensemble,
    /// By model.
    pub models: BTreeMap<String, ModelFigures>,
}

/// Judges `trade.intent` events.
#[derive(Debug)]
pub struct QualityGate {
    terms: Terms,
    intake: Intake,
    telemetry: Telemetry,
    before: Option<Telemetry>,
    drift: Option<Drift>,
    vectors: RecentVectors,
}

/// Models a gate keeps figures of; an engine runs sixteen. An event that names further ones is corrupt.
const MOST_MODELS: usize = 256;

/// What the models said in some events.
#[derive(Debug, Default)]
struct Telemetry {
    events: u64,
    axis: Axis,
    models: BTreeMap<String, ModelTelemetry>,
    votes: Votes,
    slices: Slices,
}

impl Telemetry {
    /// Names without end would be figures without end.
    fn ensure_room(&self, models: &Members<'_>) -> Result<(), String> {
        if self.models.len() + models.len() <= MOST_MODELS {
            return Ok(());
        }
        let new = models.names().filter(|name| !self.models.contains_key(*name)).count();
        if self.models.len() + new <= MOST_MODELS {
            Ok(())
        } else {
            Err(format!("with those of model_breakdown there are more than {MOST_MODELS} models"))
        }
    }

    fn observe(&mut self, event: &Event, payload: &Json<'_>) -> Result<(), String> {
        let models = payload::breakdown(payload)?;
        self.ensure_room(models)?;
        let tick = self.axis.place(event.id.ms);
        let slice = self.slices.event(payload.get("symbol").and_then(Json::as_str));
        let mut ballot = Ballot::default();
        for (name, entry) in models.iter() {
            let entry = Entry::read(entry);
            let said = match self.models.get_mut(name) {
                Some(model) => model.observe(entry, tick),
                None => self.models.entry(name.to_owned()).or_default().observe(entry, tick),
            };
            if let Said::Active { action: Some(action), .. } = said {
                ballot.cast(action);
            }
            slice.observe(name, said);
        }
        self.votes.observe(ballot);
        self.events += 1;
        Ok(())
    }
}

impl QualityGate {
    /// A gate that has seen nothing yet.
    #[must_use]
    pub fn new(terms: Terms) -> Self {
        Self {
            terms,
            intake: Intake::default(),
            telemetry: Telemetry::default(),
            before: None,
            drift: None,
            vectors: RecentVectors::default(),
        }
    }

    /// The same gate, also comparing the features with the training rows of `drift`'s models.
    #[must_use]
    pub fn with_drift(self, drift: Option<Drift>) -> Self {
        Self { drift, ..self }
    }

    /// Takes the next item of the stream, oldest first.
    pub fn observe(&mut self, item: &Item) {
        let Some((event, payload)) = self.intake.open(item) else { return };
        if let Err(reason) = self.telemetry.observe(event, &payload) {
            return self.intake.refuse(event, &reason);
        }
        if let Ok(features) = payload::features(&payload) {
            self.vectors.push(payload::vector(&features));
            if let Some(drift) = &mut self.drift {
                drift.observe(&features);
            }
        }
    }

    /// Takes an item from before the cutover, to compare with; a corrupt one is passed over.
    pub fn observe_before(&mut self, item: &Item) {
        let before = self.before.get_or_insert_default();
        if let Ok(event) = item
            && let Ok(payload) = Json::parse(&event.payload)
        {
            // What has no breakdown says nothing to compare with.
            let _ = before.observe(event, &payload);
        }
    }

    /// The verdict on everything observed. `gap`: entries of the window were lost before they could be read.
    #[must_use]
    pub fn finish(self, rules: &Rules, gap: Option<&Gap>) -> QualityVerdict {
        let Terms { mode, require, requested, cutover } = self.terms;
        let Telemetry { events: count, axis, models, votes, slices } = self.telemetry;
        let min = rules.min_events(mode);
        let models: BTreeMap<String, ModelVerdict> =
            models.into_iter().map(|(name, model)| (name, model.finish(rules, min, &axis))).collect();
        let eligible: Vec<String> =
            models.iter().filter(|(_, model)| model.passed).map(|(name, _)| name.clone()).collect();
        let drift = self.drift.map(|drift| drift.finish(rules));

        let malformed = self.intake.malformed();
        let seen = count + malformed;
        let mut checks = vec![Check::enough_events(count, min)];
        checks.push(Check::no_gap(gap, seen));
        checks.push(Check::few_corrupt(malformed, seen, rules.max_malformed_pct));
        checks.extend(healthy_models(mode, require, eligible.len(), models.len()));
        checks.extend(drift::check(drift.as_ref(), rules));
        let open: Vec<&Check> = checks.iter().filter(|check| check.passed != Some(true)).collect();
        let outcome = if open.iter().any(|check| check.passed.is_none() || check.is_of_lack()) {
            Outcome::Inconclusive
        } else if !open.is_empty() {
            Outcome::Fail
        } else {
            match mode {
                Mode::Collection => Outcome::Collection,
                Mode::Canary => Outcome::Pass,
            }
        };
        let (evidence, first_malformed) = self.intake.finish();
        let reasons = open.iter().map(|check| check.detail.clone()).collect();
        QualityVerdict {
            mode,
            require,
            outcome,
            exit_code: outcome.exit().code(),
            reasons,
            events: EventFigures { count, requested, min, malformed },
            cutover: cutover.map(format_rfc3339),
            checks,
            ensemble: votes.figures(),
            eligible,
            models,
            timeline: axis.timeline(),
            slices: slices.finish(),
            pre_cutover: self.before.map(|before| PreCutover {
                events: before.events,
                ensemble: before.votes.figures(),
                models: before.models.into_iter().map(|(name, model)| (name, model.figures())).collect(),
            }),
            drift,
            duplicates: self.vectors.figures(rules),
            first_malformed,
            loosened: rules.loosened(mode),
            evidence,
            rules: rules.clone(),
        }
    }
}

/// Whether enough models are healthy; collection mode only asks that there are models.
fn healthy_models(mode: Mode, require: Require, healthy: usize, models: usize) -> Option<Check> {
    let needed = match require {
        Require::Any => 1,
        Require::All => models,
    };
    if models == 0 {
        let detail = "no model in the telemetry".to_owned();
        return Some(Check { detail, ..Check::not_made(CheckKind::HealthyModels, 1.0) });
    }
    let detail = match (healthy, require) {
        (0, Require::Any) => "no model is healthy".to_owned(),
        (_, Require::Any) => format!("{healthy} of {models} models are healthy, one is required"),
        (_, Require::All) => format!("{healthy} of {models} models are healthy, all are required"),
    };
    let check =
        Check::made(CheckKind::HealthyModels, healthy as f64, needed as f64, healthy < needed, detail);
    (mode == Mode::Canary).then(|| check.over(models as u64))
}
