//! One check: what was measured, what was allowed, and whether it held.

use serde::Serialize;

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
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub check: CheckKind,
    /// What was measured; `None` if there was nothing to measure. Percentages are 0–100.
    pub value: Option<f64>,
    /// The bound: fails strictly beyond it.
    pub threshold: f64,
    /// Whether it held; `None` if the check could not be made.
    #[serde(skip)]
    pub passed: Option<bool>,
    /// The finding in words.
    pub detail: String,
}

impl Check {
    /// A check that was made.
    pub(super) fn made(check: CheckKind, value: f64, threshold: f64, failed: bool, detail: String) -> Self {
        Self { check, value: Some(value), threshold, passed: Some(!failed), detail }
    }

    /// A check with nothing to measure.
    pub(super) fn not_made(check: CheckKind, threshold: f64) -> Self {
        Self { check, value: None, threshold, passed: None, detail: "nothing to measure".to_owned() }
    }
}
