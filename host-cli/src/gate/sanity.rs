//! Feature sanity: are the features alive?

use std::collections::BTreeMap;

use serde::Serialize;

use super::Outcome;
use super::check::{Check, CheckKind};
use super::drift::{self, Drift, DriftFigures};
use super::duplicates::{Duplicates, RecentVectors};
use super::evidence::Evidence;
use super::excerpt;
use super::intake::Intake;
use super::payload::{self, Value};
use super::rules::Rules;
use super::stats::Moments;
use crate::stream::{Event, Gap, Item, Members};

/// Figures of one feature.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FeatureFigures {
    /// Mean of the finite values; `None`, like the others, without any.
    pub mean: Option<f64>,
    /// Population standard deviation.
    pub std: Option<f64>,
    /// Least value.
    pub min: Option<f64>,
    /// Largest value.
    pub max: Option<f64>,
    /// Values that are no number: NaN, null, text.
    pub nan: u64,
    /// Infinite values.
    pub inf: u64,
    /// The std is below the threshold, or cannot be told.
    pub flat: bool,
}

/// The verdict of feature-sanity; serializes as the contract has it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SanityVerdict {
    /// What the gate says; never [`Outcome::Collection`].
    #[serde(rename = "verdict")]
    pub outcome: Outcome,
    /// The exit code that goes with it.
    pub exit_code: u8,
    /// Events judged; corrupt ones do not count.
    pub events: u64,
    /// Corrupt events.
    pub malformed: u64,
    /// Figures of each feature.
    pub features: BTreeMap<String, FeatureFigures>,
    /// Flat features, without those that may be.
    pub flatlines: Vec<String>,
    /// Flat features that may be.
    pub allowed_flat: Vec<String>,
    /// Repetition among the newest vectors: a warning, never a failure.
    pub duplicates: Duplicates,
    /// Drift of the features; `None` if no models to compare with were named.
    pub drift: Option<DriftFigures>,
    /// Rules looser than their defaults.
    pub loosened: Vec<String>,
    /// The checks that did not hold.
    pub failures: Vec<Check>,
    /// The first corrupt event in words.
    pub first_malformed: Option<String>,
    /// Every check there is, in order, also those that held or could not be made.
    pub checks: Vec<Check>,
    /// The events this was made from.
    #[serde(skip)]
    pub evidence: Evidence,
    /// The rules this was made with.
    #[serde(skip)]
    pub rules: Rules,
}

impl SanityVerdict {
    /// Why it did not pass: every check that did not hold or could not be made, in words.
    #[must_use]
    pub fn reasons(&self) -> Vec<&str> {
        let open = self.checks.iter().filter(|check| check.passed != Some(true));
        open.map(|check| check.detail.as_str()).collect()
    }
}

#[derive(Debug)]
struct Series {
    moments: Moments,
    nan: u64,
    inf: u64,
}

/// Judges the features of `trade.intent` and `market.features` events, in constant memory.
#[derive(Debug, Default)]
pub struct SanityGate {
    intake: Intake,
    events: u64,
    /// The features of the first event; only these are followed.
    series: BTreeMap<String, Series>,
    different: u64,
    first_different: Option<String>,
    not_finite: u64,
    drift: Option<Drift>,
    vectors: RecentVectors,
}

impl SanityGate {
    /// A gate that has seen nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same gate, also comparing the features with the training rows of `drift`'s models.
    #[must_use]
    pub fn with_drift(self, drift: Option<Drift>) -> Self {
        Self { drift, ..self }
    }

    /// Takes the next item of the stream, oldest first.
    pub fn observe(&mut self, item: &Item) {
        let Some((event, payload)) = self.intake.open(item) else { return };
        match payload::features(&payload) {
            Ok(features) => self.observe_features(event, &features),
            Err(reason) => self.intake.refuse(event, &reason),
        }
    }

    fn observe_features(&mut self, event: &Event, features: &Members<'_>) {
        self.events += 1;
        if self.series.is_empty() {
            let series = |name: &str| (name.to_owned(), Series { moments: Moments::EMPTY, nan: 0, inf: 0 });
            self.series = features.names().map(series).collect();
        } else if !features.names().eq(self.series.keys()) {
            self.different += 1;
            if self.first_different.is_none() {
                self.first_different = Some(format!("event {}: {}", event.id, self.difference(features)));
            }
        }
        for (name, value) in features.iter() {
            let value = Value::from(value);
            self.not_finite += u64::from(!matches!(value, Value::Finite(_)));
            let Some(series) = self.series.get_mut(name) else { continue };
            match value {
                Value::Finite(value) => series.moments.add(value),
                Value::Infinite => series.inf += 1,
                Value::NotANumber => series.nan += 1,
            }
        }
        if let Some(drift) = &mut self.drift {
            drift.observe(features);
        }
        self.vectors.push(payload::vector(features));
    }

    fn difference(&self, features: &Members<'_>) -> String {
        let missing = self.series.keys().find(|name| features.get(name).is_none());
        let added = features.names().find(|name| !self.series.contains_key(*name));
        match (missing, added) {
            (Some(missing), _) => format!("{} is missing", excerpt(missing)),
            (None, Some(added)) => format!("{} is new", excerpt(added)),
            (None, None) => "another number of features".to_owned(),
        }
    }

    /// The verdict on everything observed. `gap`: entries of the window were lost before they could be read.
    #[must_use]
    pub fn finish(self, rules: &Rules, gap: Option<&Gap>) -> SanityVerdict {
        let features: BTreeMap<String, FeatureFigures> =
            self.series.iter().map(|(name, series)| (name.clone(), series.figures(rules))).collect();
        let flat = || features.iter().filter(|(_, figures)| figures.flat).map(|(name, _)| name.clone());
        let (allowed_flat, flatlines): (Vec<_>, Vec<_>) =
            flat().partition(|name| rules.allow_flat.contains(name));
        let judged = features.keys().filter(|name| !rules.allow_flat.contains(*name)).count();

        let drift = self.drift.as_ref().map(|drift| drift.finish(rules));
        let mut checks = self.checks(rules, gap, &flatlines, judged);
        checks.extend(drift::check(drift.as_ref(), rules));
        let failures: Vec<Check> =
            checks.iter().filter(|check| check.passed == Some(false)).cloned().collect();
        let outcome = if failures.iter().any(|check| !check.is_of_lack()) {
            Outcome::Fail
        } else if failures.is_empty() && checks.iter().all(|check| check.passed == Some(true)) {
            Outcome::Pass
        } else {
            Outcome::Inconclusive
        };
        let malformed = self.intake.malformed();
        let (evidence, first_malformed) = self.intake.finish();
        SanityVerdict {
            outcome,
            exit_code: outcome.exit().code(),
            events: self.events,
            malformed,
            features,
            flatlines,
            allowed_flat,
            duplicates: self.vectors.figures(rules),
            drift,
            loosened: rules.loosened_sanity(),
            failures,
            first_malformed,
            checks,
            evidence,
            rules: rules.clone(),
        }
    }

    fn checks(&self, rules: &Rules, gap: Option<&Gap>, flatlines: &[String], judged: usize) -> Vec<Check> {
        let events = self.events;
        let malformed = self.intake.malformed();
        let seen = events + malformed;
        let enough = Check::enough_events(events, rules.sanity_min_events);
        let corrupt = Check::few_corrupt(malformed, seen, rules.max_malformed_pct);
        let hole = Check::no_gap(gap, seen);
        if events == 0 {
            let unmade = [CheckKind::NanInf, CheckKind::FeatureSet].map(|check| Check::not_made(check, 0.0));
            let flat = Check::not_made(CheckKind::Flatline, rules.max_flatline_pct.value());
            return [enough, corrupt, hole].into_iter().chain(unmade).chain([flat]).collect();
        }
        let not_finite = Check::made(
            CheckKind::NanInf,
            self.not_finite as f64,
            0.0,
            self.not_finite > 0,
            match self.series.iter().find(|(_, series)| series.nan + series.inf > 0) {
                Some((name, _)) => {
                    format!(
                        "{} values are NaN, infinite or no number, e.g. of {}",
                        self.not_finite,
                        excerpt(name)
                    )
                }
                None => format!("{} values are NaN, infinite or no number", self.not_finite),
            },
        )
        .over(events);
        let same = Check::made(
            CheckKind::FeatureSet,
            self.different as f64,
            0.0,
            self.different > 0,
            match &self.first_different {
                Some(first) => {
                    format!("{} events have other features than the first; {first}", self.different)
                }
                None => "every event has the same features".to_owned(),
            },
        )
        .over(events);
        let flat_share = flatlines.len() as f64 * 100.0 / judged.max(1) as f64;
        let most = rules.max_flatline_pct;
        let flat = Check::made(
            CheckKind::Flatline,
            flat_share,
            most.value(),
            most.is_exceeded_by(flatlines.len() as u64, judged as u64),
            match flatlines.first() {
                Some(first) => {
                    format!(
                        "{} of {judged} features are flat, e.g. {}; at most {most} % may be",
                        flatlines.len(),
                        excerpt(first)
                    )
                }
                None => "no feature is flat that may not be".to_owned(),
            },
        )
        .over(events);
        vec![enough, corrupt, hole, not_finite, same, flat]
    }
}

impl Series {
    fn figures(&self, rules: &Rules) -> FeatureFigures {
        let (mean, std) = self.moments.mean_std().unzip();
        FeatureFigures {
            mean,
            std,
            min: mean.map(|_| self.moments.min),
            max: mean.map(|_| self.moments.max),
            nan: self.nan,
            inf: self.inf,
            // Negated, so that a std that is NaN or missing counts as flat.
            flat: !std.is_some_and(|std| std >= rules.flat_std),
        }
    }
}
