//! One model's predictions, and what is wrong with them.

use std::collections::BTreeMap;

use qsc_kernel::Action;
use serde::{Serialize, Serializer};

use super::check::{Check, CheckKind, beside};
use super::excerpt;
use super::payload::Entry;
use super::rules::{Percent, Rules};
use super::stats::{Moments, percentile};
use super::timeline::{Axis, Counts, Tick};

/// Different `inactive_reason`s kept per model; producers that put variable text there share one entry beyond.
const MAX_REASONS: usize = 32;

/// Bins of a confidence histogram, of equal width over [0, 1].
pub const HISTOGRAM_BINS: usize = 40;
/// The newest confidences a verdict keeps for a live view.
const RECENT: usize = 120;

/// What counts of a model's entry in one event.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Said {
    /// It takes no part.
    Inactive,
    /// It votes; `None` for an unknown action or a confidence that is none. The confidence is in [0, 1].
    Active { action: Option<Action>, confidence: Option<f64> },
}

/// What one model said over all events: 8 bytes per active prediction.
#[derive(Debug, Default)]
pub(super) struct ModelTelemetry {
    /// By action code.
    actions: [Counts; Action::ALL.len()],
    unknown_actions: Noted,
    confidences: Vec<f64>,
    violations: Noted,
    normalized: u64,
    predictions: u64,
    inactive: u64,
    inactive_reasons: BTreeMap<String, Counts>,
}

/// How often something was seen, and the first time in words.
#[derive(Debug, Default)]
struct Noted {
    count: u64,
    first: String,
}

impl Noted {
    fn note(&mut self, words: impl FnOnce() -> String) {
        if self.count == 0 {
            self.first = words();
        }
        self.count += 1;
    }
}

/// Active predictions by action.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub struct Actions {
    /// BUY.
    pub buy: u64,
    /// SELL.
    pub sell: u64,
    /// HOLD.
    pub hold: u64,
}

impl Actions {
    pub(super) const fn add(&mut self, action: Action) {
        match action {
            Action::Buy => self.buy += 1,
            Action::Sell => self.sell += 1,
            Action::Hold => self.hold += 1,
        }
    }
}

/// A model's counts in the buckets of the verdict's timeline.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct OverTime {
    /// BUY.
    #[serde(rename = "BUY")]
    pub buy: Vec<u64>,
    /// SELL.
    #[serde(rename = "SELL")]
    pub sell: Vec<u64>,
    /// HOLD.
    #[serde(rename = "HOLD")]
    pub hold: Vec<u64>,
    /// Inactive entries by reason.
    pub inactive: BTreeMap<String, Vec<u64>>,
}

/// What a model said before the cutover: figures to compare with, never judged.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelFigures {
    /// Active predictions.
    pub predictions: u64,
    /// Entries marked inactive.
    pub inactive: u64,
    /// Active predictions by action.
    pub actions: Actions,
    /// Figures of the confidences.
    pub confidence: ConfidenceFigures,
}

/// Figures of the confidences of a model's active predictions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct ConfidenceFigures {
    /// Mean; `None`, like the others, without a valid confidence.
    pub mean: Option<f64>,
    /// Population standard deviation.
    pub std: Option<f64>,
    /// 10th percentile, linearly interpolated.
    pub p10: Option<f64>,
    /// 90th percentile.
    pub p90: Option<f64>,
    /// `p90 − p10`.
    pub p10_p90_range: Option<f64>,
}

/// The verdict on one model. It passed if there is no failure.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelVerdict {
    /// Whether every check was made and held.
    #[serde(rename = "verdict", serialize_with = "pass_or_fail")]
    pub passed: bool,
    /// The checks that did not hold.
    pub failures: Vec<Check>,
    /// Active predictions.
    pub predictions: u64,
    /// Entries marked inactive: counted, not judged.
    pub inactive: u64,
    /// Inactive entries by reason.
    pub inactive_reasons: BTreeMap<String, u64>,
    /// Confidences above 1, taken through a sigmoid.
    pub normalized: u64,
    /// Confidences that are none.
    pub violations: u64,
    /// Active predictions by action.
    pub actions: Actions,
    /// Figures of the confidences.
    pub confidence: ConfidenceFigures,
    /// Every check there is, in order, also those that held or could not be made.
    pub checks: Vec<Check>,
    /// Confidences per 40th of [0, 1]; 1.0 is in the last bin.
    pub histogram: Vec<u64>,
    /// Counts over time.
    pub over_time: OverTime,
    /// The newest confidences, oldest first.
    #[serde(skip)]
    pub recent: Vec<f64>,
}

fn pass_or_fail<S: Serializer>(passed: &bool, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(if *passed { "pass" } else { "fail" })
}

impl ModelTelemetry {
    /// Takes the model's entry in one event.
    pub(super) fn observe(&mut self, entry: Entry<'_>, tick: Tick) -> Said {
        let (action, confidence) = match entry {
            Entry::Inactive(reason) => {
                self.inactive += 1;
                self.count_reason(reason, tick);
                return Said::Inactive;
            }
            Entry::Active { action, confidence } => (action, confidence),
        };
        self.predictions += 1;
        match action {
            Ok(action) => self.actions[usize::from(action.code())].add(tick),
            Err(other) => self.unknown_actions.note(|| other.map_or_else(|| "none".to_owned(), excerpt)),
        }
        let confidence = match confidence {
            Ok(value) if value > 1.0 => {
                self.normalized += 1;
                Some(1.0 / (1.0 + libm::exp(-value)))
            }
            Ok(value) => Some(value),
            Err(what) => {
                self.violations.note(|| what);
                None
            }
        };
        self.confidences.extend(confidence);
        Said::Active { action: action.ok(), confidence }
    }

    fn count_reason(&mut self, reason: &str, tick: Tick) {
        if let Some(counts) = self.inactive_reasons.get_mut(reason) {
            return counts.add(tick);
        }
        let name = if self.inactive_reasons.len() < MAX_REASONS { reason } else { "other" };
        self.inactive_reasons.entry(name.to_owned()).or_default().add(tick);
    }

    fn action_counts(&self) -> Actions {
        let [buy, sell, hold] = self.actions.each_ref().map(Counts::total);
        Actions { buy, sell, hold }
    }

    /// Figures of the confidences, which are then in ascending order.
    fn confidence_figures(&mut self) -> ConfidenceFigures {
        self.confidences.sort_unstable_by(f64::total_cmp);
        let (mean, std) = Moments::of(&self.confidences).mean_std().unzip();
        let p10 = percentile(&self.confidences, 10.0);
        let p90 = percentile(&self.confidences, 90.0);
        let p10_p90_range = p10.zip(p90).map(|(p10, p90)| p90 - p10);
        ConfidenceFigures { mean, std, p10, p90, p10_p90_range }
    }

    /// What was seen, unjudged.
    pub(super) fn figures(mut self) -> ModelFigures {
        ModelFigures {
            predictions: self.predictions,
            inactive: self.inactive,
            actions: self.action_counts(),
            confidence: self.confidence_figures(),
        }
    }

    /// Judges what was seen. `min_predictions` is the number of active predictions asked for.
    pub(super) fn finish(mut self, rules: &Rules, min_predictions: u64, axis: &Axis) -> ModelVerdict {
        let recent = self.confidences[self.confidences.len().saturating_sub(RECENT)..].to_vec();
        let confidence = self.confidence_figures();
        let checks = self.checks(&confidence, rules, min_predictions);
        let failures: Vec<Check> =
            checks.iter().filter(|check| check.passed == Some(false)).cloned().collect();
        let [buy, sell, hold] = self.actions.each_ref().map(|counts| axis.read(counts));
        let reasons = || self.inactive_reasons.iter();
        let inactive = reasons().map(|(reason, counts)| (reason.clone(), axis.read(counts))).collect();
        ModelVerdict {
            // Not the same as no failures: a check that could not be made is none that held.
            passed: checks.iter().all(|check| check.passed == Some(true)),
            failures,
            predictions: self.predictions,
            inactive: self.inactive,
            inactive_reasons: reasons().map(|(reason, counts)| (reason.clone(), counts.total())).collect(),
            normalized: self.normalized,
            violations: self.violations.count,
            actions: self.action_counts(),
            confidence,
            checks,
            histogram: histogram(&self.confidences),
            over_time: OverTime { buy, sell, hold, inactive },
            recent,
        }
    }

    fn checks(&self, confidence: &ConfidenceFigures, rules: &Rules, min_predictions: u64) -> Vec<Check> {
        let predictions = self.predictions;
        let valid = self.confidences.len() as u64;
        let any =
            |made: Option<Check>, check, threshold| made.unwrap_or_else(|| Check::not_made(check, threshold));
        // With no prediction at all, that is the one finding.
        let seen = (predictions > 0).then_some(());

        let violation = seen.map(|()| {
            let Noted { count, first } = &self.violations;
            let detail = if *count == 0 {
                "every confidence is a number in [0, 1] or above".to_owned()
            } else {
                format!("{count} of {predictions} confidences are none; the first is {first}")
            };
            Check::made(CheckKind::ConfidenceViolation, *count as f64, 0.0, *count > 0, detail)
                .over(predictions)
        });
        let Actions { buy, sell, hold } = self.action_counts();
        let majority = seen.map(|()| {
            let (name, most) = [("BUY", buy), ("SELL", sell), ("HOLD", hold)]
                .into_iter()
                .reduce(|most, next| if next.1 > most.1 { next } else { most })
                .expect("three actions");
            self.share(CheckKind::MajorityClass, name, most, rules.max_action_pct)
        });
        let spread = confidence.std.map(|std| {
            let least = rules.min_confidence_std;
            let shown = beside(std, least, 6);
            let detail =
                format!("the population std of the confidences is {shown}, at least {least} is needed");
            Check::made(CheckKind::ConfidenceStd, std, least, std < least, detail).over(valid)
        });
        let range = confidence.p10_p90_range.map(|range| {
            let least = rules.min_p10_p90_range;
            let shown = beside(range, least, 6);
            let detail = format!("P90 − P10 of the confidences is {shown}, at least {least} is needed");
            Check::made(CheckKind::P10P90Range, range, least, range < least, detail).over(valid)
        });
        let constant = confidence.std.zip(confidence.p10_p90_range).map(|(std, range)| {
            let by_std = std < rules.constant_std;
            let by_range = range.abs() < rules.constant_range;
            let (value, least) =
                if by_range && !by_std { (range, rules.constant_range) } else { (std, rules.constant_std) };
            let moves = if by_std || by_range { "hardly move" } else { "move" };
            let detail = format!("the confidences {moves}: std {std:.6}, P90 − P10 {range:.6}");
            Check::made(CheckKind::ConstantOutput, value, least, by_std || by_range, detail).over(valid)
        });
        let hold = seen.map(|()| self.share(CheckKind::HoldCollapse, "HOLD", hold, rules.max_hold_pct));
        let short = predictions < min_predictions || predictions == 0;
        let enough = Check::made(
            CheckKind::InsufficientPredictions,
            predictions as f64,
            min_predictions as f64,
            short,
            format!("{predictions} active predictions, at least {min_predictions} are needed"),
        )
        .over(predictions);
        let unknown = seen.map(|()| {
            let Noted { count, first } = &self.unknown_actions;
            let detail = if *count == 0 {
                "every action is BUY, SELL or HOLD".to_owned()
            } else {
                format!("{count} of {predictions} actions are not BUY, SELL or HOLD; the first is {first}")
            };
            Check::made(CheckKind::UnknownAction, *count as f64, 0.0, *count > 0, detail).over(predictions)
        });
        vec![
            any(violation, CheckKind::ConfidenceViolation, 0.0),
            any(majority, CheckKind::MajorityClass, rules.max_action_pct.value()),
            any(spread, CheckKind::ConfidenceStd, rules.min_confidence_std),
            any(range, CheckKind::P10P90Range, rules.min_p10_p90_range),
            any(constant, CheckKind::ConstantOutput, rules.constant_std),
            any(hold, CheckKind::HoldCollapse, rules.max_hold_pct.value()),
            enough,
            any(unknown, CheckKind::UnknownAction, 0.0),
        ]
    }

    fn share(&self, check: CheckKind, name: &str, part: u64, most: Percent) -> Check {
        let predictions = self.predictions;
        let value = part as f64 * 100.0 / predictions as f64;
        let shown = beside(value, most.value(), 2);
        let detail =
            format!("{name} is {part} of {predictions} predictions ({shown} %), at most {most} % is allowed");
        Check::made(check, value, most.value(), most.is_exceeded_by(part, predictions), detail)
            .over(predictions)
    }
}

fn histogram(confidences: &[f64]) -> Vec<u64> {
    let mut bins = vec![0; HISTOGRAM_BINS];
    for confidence in confidences {
        bins[((confidence * HISTOGRAM_BINS as f64) as usize).min(HISTOGRAM_BINS - 1)] += 1;
    }
    bins
}
