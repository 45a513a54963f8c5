//! One check: what was measured, what was allowed, and whether it held.

use serde::ser::SerializeStruct as _;
use serde::{Serialize, Serializer};

use super::rules::Percent;
use crate::stream::Gap;

/// What a check looks at; its wire name is the `check` of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckKind {
    /// Confidences that are none: negative, NaN, infinite, missing, no number.
    ConfidenceViolation,
    /// Share of the most frequent action.
    MajorityClass,
    /// Population standard deviation of the confidences.
    ConfidenceStd,
    /// Distance between the 10th and the 90th percentile of the confidences.
    P10P90Range,
    /// Confidences that do not move at all.
    ConstantOutput,
    /// Share of HOLD.
    HoldCollapse,
    /// Number of active predictions.
    InsufficientPredictions,
    /// Actions other than BUY, SELL and HOLD.
    UnknownAction,
    /// Number of events.
    InsufficientEvents,
    /// Share of corrupt events.
    MalformedEvents,
    /// NaN and infinite feature values.
    NanInf,
    /// Events whose features differ from the first one's in number or name.
    FeatureSet,
    /// Share of features that do not move.
    Flatline,
    /// Entries removed from the stream before they could be read.
    Gap,
    /// Number of models whose own verdict is pass.
    HealthyModels,
    /// Largest PSI of a feature against the training rows.
    Psi,
}

impl CheckKind {
    /// The wire name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ConfidenceViolation => "confidence_violation",
            Self::MajorityClass => "majority_class",
            Self::ConfidenceStd => "confidence_std",
            Self::P10P90Range => "p10_p90_range",
            Self::ConstantOutput => "constant_output",
            Self::HoldCollapse => "hold_collapse",
            Self::InsufficientPredictions => "insufficient_predictions",
            Self::UnknownAction => "unknown_action",
            Self::InsufficientEvents => "insufficient_events",
            Self::MalformedEvents => "malformed_events",
            Self::NanInf => "nan_inf",
            Self::FeatureSet => "feature_set",
            Self::Flatline => "flatline",
            Self::Gap => "gap",
            Self::HealthyModels => "healthy_models",
            Self::Psi => "psi",
        }
    }

    /// Whether value and threshold are percentages.
    #[must_use]
    pub const fn is_percentage(self) -> bool {
        matches!(self, Self::MajorityClass | Self::HoldCollapse | Self::MalformedEvents | Self::Flatline)
    }

    /// Whether the value must reach the threshold; otherwise it must not exceed it.
    #[must_use]
    pub const fn is_lower_bound(self) -> bool {
        matches!(
            self,
            Self::ConfidenceStd
                | Self::P10P90Range
                | Self::ConstantOutput
                | Self::InsufficientPredictions
                | Self::InsufficientEvents
                | Self::HealthyModels
        )
    }
}

/// `value` with `decimals` decimals, or with all there are where those would hide on which side of `bound` it is.
#[must_use]
pub fn beside(value: f64, bound: f64, decimals: usize) -> String {
    let short = format!("{value:.decimals$}");
    let hides = value != bound && short.parse() == Ok(bound);
    if hides { value.to_string() } else { short }
}

/// The result of one check.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// What was looked at.
    pub check: CheckKind,
    /// What was measured; `None` if there was nothing to measure. Percentages are 0–100.
    pub value: Option<f64>,
    /// The bound: fails strictly beyond it.
    pub threshold: f64,
    /// Whether it held; `None` if the check could not be made.
    pub passed: Option<bool>,
    /// Events, predictions or confidences it looked at.
    pub seen: u64,
    /// The finding in words.
    pub detail: String,
}

impl Check {
    /// A check that was made.
    pub(super) fn made(check: CheckKind, value: f64, threshold: f64, failed: bool, detail: String) -> Self {
        Self { check, value: Some(value), threshold, passed: Some(!failed), seen: 0, detail }
    }

    /// A check with nothing to measure.
    pub(super) fn not_made(check: CheckKind, threshold: f64) -> Self {
        let detail = "nothing to measure".to_owned();
        Self { check, value: None, threshold, passed: None, seen: 0, detail }
    }

    /// The same check, having looked at `seen` events, predictions or confidences.
    pub(super) fn over(self, seen: u64) -> Self {
        Self { seen, ..self }
    }

    /// Whether there were enough events.
    pub(super) fn enough_events(events: u64, min: u64) -> Self {
        let detail = format!("{events} events, at least {min} are needed");
        Self::made(CheckKind::InsufficientEvents, events as f64, min as f64, events < min, detail)
            .over(events)
    }

    /// Whether few enough of `seen` events were corrupt.
    pub(super) fn few_corrupt(malformed: u64, seen: u64, most: Percent) -> Self {
        let share = malformed as f64 * 100.0 / seen.max(1) as f64;
        let failed = most.is_exceeded_by(malformed, seen);
        let detail = format!("{malformed} of {seen} events are corrupt, at most {most} % may be");
        Self::made(CheckKind::MalformedEvents, share, most.value(), failed, detail).over(seen)
    }

    /// Whether the stream still had every event asked for.
    pub(super) fn no_gap(gap: Option<&Gap>, seen: u64) -> Self {
        let missing = f64::from(u8::from(gap.is_some()));
        let detail = gap.map_or_else(
            || "no events are missing".to_owned(),
            |gap| format!("events may be missing: {gap}"),
        );
        Self::made(CheckKind::Gap, missing, 0.0, gap.is_some(), detail).over(seen)
    }

    /// Whether a failure means that there is too little to judge, not that something is wrong.
    pub(super) const fn is_of_lack(&self) -> bool {
        matches!(self.check, CheckKind::InsufficientEvents | CheckKind::Gap)
    }

    /// How far inside its bound the value is; negative beyond it, `None` if nothing was measured.
    #[must_use]
    pub fn distance(&self) -> Option<f64> {
        let above = self.value? - self.threshold;
        // `0.0 -`, for −0 would read as beyond.
        Some(if self.check.is_lower_bound() { above } else { 0.0 - above })
    }

    /// `ok`, `fail` or `not_made`.
    #[must_use]
    pub const fn result(&self) -> &'static str {
        match self.passed {
            Some(true) => "ok",
            Some(false) => "fail",
            None => "not_made",
        }
    }
}

impl Serialize for Check {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Check", 7)?;
        fields.serialize_field("check", &self.check)?;
        fields.serialize_field("value", &self.value)?;
        fields.serialize_field("threshold", &self.threshold)?;
        fields.serialize_field("distance", &self.distance())?;
        fields.serialize_field("result", self.result())?;
        fields.serialize_field("seen", &self.seen)?;
        fields.serialize_field("detail", &self.detail)?;
        fields.end()
    }
}
