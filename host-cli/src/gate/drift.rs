//! Drift: how far the features have moved from the rows a model was trained on.
//!
//! The population stability index of a feature is `Σ (a − e) · ln(a / e)` over ten bins, where e and a are a bin's
//! shares of training values and of observed values, each at least [`EMPTY_SHARE`]. The bins are bounded by the nine
//! inner deciles of the training values, which the image holds; a value on a bound is in the lower bin. Values that
//! are no finite number are not counted: feature-sanity fails on them.

use std::collections::BTreeMap;

use serde::Serialize;

use super::check::{Check, CheckKind};
use super::excerpt;
use super::payload::Value;
use super::rules::Rules;
use crate::stream::Members;

/// Bins of a feature.
pub const BINS: usize = 10;
/// The share an empty bin counts as.
pub(super) const EMPTY_SHARE: f64 = 1e-4;

/// The training values of one feature.
#[derive(Clone, Debug, PartialEq)]
pub struct Reference {
    /// The inner deciles, ascending; values are compared as f32, as models see them.
    pub deciles: [f32; BINS - 1],
    /// Training values in each bin.
    pub counts: [u64; BINS],
}

impl Reference {
    /// The bin of a value: the number of deciles below it.
    #[must_use]
    pub fn bin(&self, value: f64) -> usize {
        let value = value as f32;
        self.deciles.iter().filter(|&&decile| decile < value).count()
    }
}

/// The population stability index of `observed` against `expected` counts; `None` if either is empty.
#[must_use]
pub fn psi<const N: usize>(expected: &[u64; N], observed: &[u64; N]) -> Option<f64> {
    let [expected_all, observed_all] = [expected, observed].map(|counts| counts.iter().sum::<u64>());
    if expected_all == 0 || observed_all == 0 {
        return None;
    }
    let share = |count: u64, all: u64| (count as f64 / all as f64).max(EMPTY_SHARE);
    let term = |(&expected, &observed): (&u64, &u64)| {
        let (expected, observed) = (share(expected, expected_all), share(observed, observed_all));
        (observed - expected) * libm::log(observed / expected)
    };
    Some(expected.iter().zip(observed).map(term).sum())
}

/// Counts the features of events in the bins of each model's training rows.
#[derive(Clone, Debug, Default)]
pub struct Drift {
    models: BTreeMap<String, BTreeMap<String, (Reference, [u64; BINS])>>,
    uncalibrated: Vec<String>,
}

/// Drift of the features, by model.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct DriftFigures {
    /// Of each feature of each calibrated model.
    pub models: BTreeMap<String, BTreeMap<String, FeatureDrift>>,
    /// Models whose image holds no deciles: nothing can be said about them.
    pub uncalibrated: Vec<String>,
    /// Features above the warning threshold, as `model.feature`.
    pub warnings: Vec<String>,
}

/// Drift of one feature.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FeatureDrift {
    /// The population stability index; `None` without values.
    pub psi: Option<f64>,
    /// Values counted.
    pub seen: u64,
    /// Above the warning threshold, or cannot be told.
    pub warning: bool,
}

impl Drift {
    /// Adds a model; `features` are those its image holds deciles of, by name: none if it was never calibrated.
    pub fn add_model(&mut self, name: &str, features: BTreeMap<String, Reference>) {
        if features.is_empty() {
            self.uncalibrated.push(name.to_owned());
            return;
        }
        let features = features.into_iter().map(|(name, reference)| (name, (reference, [0; BINS])));
        self.models.insert(name.to_owned(), features.collect());
    }

    pub(super) fn observe(&mut self, features: &Members<'_>) {
        for bins in self.models.values_mut() {
            for (name, (reference, counts)) in bins {
                if let Some(Value::Finite(value)) = features.get(name).map(Value::from) {
                    counts[reference.bin(value)] += 1;
                }
            }
        }
    }

    pub(super) fn finish(&self, rules: &Rules) -> DriftFigures {
        let figures = |(reference, counts): &(Reference, [u64; BINS])| {
            let psi = psi(&reference.counts, counts);
            let warning = !psi.is_some_and(|psi| psi <= rules.warn_psi);
            FeatureDrift { psi, seen: counts.iter().sum(), warning }
        };
        let models: BTreeMap<String, BTreeMap<String, FeatureDrift>> = self
            .models
            .iter()
            .map(|(model, bins)| {
                (model.clone(), bins.iter().map(|(name, bin)| (name.clone(), figures(bin))).collect())
            })
            .collect();
        let warnings = each(&models)
            .filter(|(_, _, drift)| drift.warning)
            .map(|(model, name, _)| format!("{model}.{name}"))
            .collect();
        DriftFigures { models, uncalibrated: self.uncalibrated.clone(), warnings }
    }
}

fn each(
    models: &BTreeMap<String, BTreeMap<String, FeatureDrift>>,
) -> impl Iterator<Item = (&String, &String, &FeatureDrift)> {
    models.iter().flat_map(|(model, features)| features.iter().map(move |(name, drift)| (model, name, drift)))
}

/// The check that `max_psi` of the rules asks for, also where no model was named to compare with.
pub(super) fn check(figures: Option<&DriftFigures>, rules: &Rules) -> Option<Check> {
    rules.max_psi.map(|max_psi| figures.unwrap_or(&DriftFigures::default()).check(max_psi))
}

impl DriftFigures {
    /// A feature or model whose PSI cannot be told is none that passed.
    fn check(&self, max_psi: f64) -> Check {
        let unknown = each(&self.models).find(|(_, _, drift)| drift.psi.is_none());
        let not_made = |detail: String| Check { detail, ..Check::not_made(CheckKind::Psi, max_psi) };
        if let Some(model) = self.uncalibrated.first() {
            let model = excerpt(model);
            return not_made(format!(
                "the image of {model} holds no deciles; compile it with --calibrate ROWS.npy"
            ));
        }
        if let Some((model, name, _)) = unknown {
            return not_made(format!(
                "no event has a value of {}, which {} needs",
                excerpt(name),
                excerpt(model)
            ));
        }
        let seen = each(&self.models).map(|(_, _, drift)| drift.seen).min().unwrap_or(0);
        let most = each(&self.models)
            .filter_map(|(model, name, drift)| Some((drift.psi?, model, name)))
            .max_by(|left, right| left.0.total_cmp(&right.0));
        let Some((psi, model, name)) = most else {
            return not_made("no model to compare with; name the ensemble with --models".to_owned());
        };
        let detail = format!(
            "the largest PSI is {psi:.4}, of {} against the training rows of {}; at most {max_psi} is allowed",
            excerpt(name),
            excerpt(model)
        );
        Check::made(CheckKind::Psi, psi, max_psi, psi > max_psi, detail).over(seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENTH: [u64; BINS] = [100; BINS];

    #[test]
    fn psi_is_what_a_pocket_calculator_says() {
        assert_eq!(psi(&TENTH, &[7; BINS]), Some(0.0));
        // (0.2 − 0.1)·ln 2 + (0 → 1e-4: 1e-4 − 0.1)·ln 1e-3
        let moved = psi(&TENTH, &[20, 0, 10, 10, 10, 10, 10, 10, 10, 10]).unwrap();
        assert!((moved - (0.1 * std::f64::consts::LN_2 + 0.0999 * 6.907_755_278_982_137)).abs() < 1e-12);
        // Half of everything in the first bin, the rest evenly in the others.
        let half = psi(&TENTH, &[90, 10, 10, 10, 10, 10, 10, 10, 10, 10]).unwrap();
        let expected = 0.4 * 5.0_f64.ln() + 9.0 * (1.0 / 18.0 - 0.1) * (5.0_f64 / 9.0).ln();
        assert!((half - expected).abs() < 1e-12, "{half} {expected}");
        // Everything in one bin: (1 − 0.1)·ln 10 + 9·(1e-4 − 0.1)·ln 1e-3 = 8.28…
        let collapsed = psi(&TENTH, &[0, 0, 0, 0, 5, 0, 0, 0, 0, 0]).unwrap();
        assert!((collapsed - (0.9 * 10.0_f64.ln() + 9.0 * 0.0999 * 1000.0_f64.ln())).abs() < 1e-12);
        assert_eq!((psi(&TENTH, &[0; BINS]), psi(&[0; BINS], &TENTH)), (None, None));
    }

    #[test]
    fn bins_that_ties_left_empty_add_nothing() {
        let expected = [500, 0, 0, 0, 0, 0, 0, 0, 0, 500];
        assert_eq!(psi(&expected, &[3, 0, 0, 0, 0, 0, 0, 0, 0, 3]), Some(0.0));
    }

    #[test]
    fn a_value_on_a_decile_is_below_it() {
        let deciles = [1.0, 2.0, 2.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0];
        let reference = Reference { deciles, counts: TENTH };
        for (value, bin) in
            [(-9.0, 0), (1.0, 0), (1.1, 1), (2.0, 1), (2.1, 3), (9.0, 8), (9.1, 9), (1e300, 9)]
        {
            assert_eq!(reference.bin(value), bin, "{value}");
        }
        // Rounded once to f32, as models see it.
        assert_eq!(reference.bin(1.0 + 1e-12), 0);
    }

    #[test]
    fn what_cannot_be_compared_did_not_pass() {
        let mut drift = Drift::default();
        assert_eq!(drift.finish(&Rules::default()).check(0.25).passed, None);
        let reference = Reference { deciles: [1.0; BINS - 1], counts: TENTH };
        drift.add_model("xgb", [("rsi".to_owned(), reference)].into());
        let figures = drift.finish(&Rules::default());
        assert_eq!((figures.check(0.25).passed, figures.warnings.len()), (None, 1));
        drift.add_model("lgbm", BTreeMap::new());
        assert!(drift.finish(&Rules::default()).check(9.0).detail.contains("--calibrate"));
    }
}
