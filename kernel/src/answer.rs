//! What a model may say: an action with a confidence, or a named reason why it says nothing.

use core::fmt;

/// What a model or the ensemble says. There is no default action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "UPPERCASE"))]
pub enum Action {
    /// Buy.
    Buy,
    /// Sell.
    Sell,
    /// Hold.
    Hold,
}

impl Action {
    /// Every action, by code.
    pub const ALL: [Self; 3] = [Self::Buy, Self::Sell, Self::Hold];

    /// The action's number in an image: 0 BUY, 1 SELL, 2 HOLD.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Buy => 0,
            Self::Sell => 1,
            Self::Hold => 2,
        }
    }

    /// The action of a number.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Buy),
            1 => Some(Self::Sell),
            2 => Some(Self::Hold),
            _ => None,
        }
    }

    /// The name on the wire: `BUY`, `SELL`, `HOLD`.
    #[must_use]
    pub const fn wire_name(self) -> &'static str {
        match self {
            Self::Buy => "BUY",
            Self::Sell => "SELL",
            Self::Hold => "HOLD",
        }
    }

    /// The action of a name on the wire, exactly as [`wire_name`](Self::wire_name) spells it.
    #[must_use]
    pub fn from_wire_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.wire_name() == name)
    }
}

/// An action with a confidence in [0, 1]: by construction never NaN.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Prediction {
    action: Action,
    confidence: f32,
}

/// The number is no confidence: NaN or outside [0, 1].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct NotAConfidence;

impl fmt::Display for NotAConfidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a confidence is a number from 0 to 1")
    }
}

impl core::error::Error for NotAConfidence {}

impl Prediction {
    /// An action with its confidence.
    ///
    /// # Errors
    /// A confidence that is NaN or outside [0, 1].
    pub fn new(action: Action, confidence: f32) -> Result<Self, NotAConfidence> {
        if (0.0..=1.0).contains(&confidence) { Ok(Self { action, confidence }) } else { Err(NotAConfidence) }
    }

    /// What to do.
    #[must_use]
    pub const fn action(self) -> Action {
        self.action
    }

    /// How sure, in [0, 1].
    #[must_use]
    pub const fn confidence(self) -> f32 {
        self.confidence
    }
}

/// The reasons a model can be inactive, by the names telemetry knows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum Inactive {
    /// The model erred or panicked on its way.
    ExceptionInPredict,
    /// A feature is NaN or no number.
    NanInput,
    /// A feature is infinite.
    InfInput,
    /// The row has not the length the model needs.
    FeatureDimMismatch,
    /// A feature the model needs is not in the event.
    MissingFeature,
    /// The window of a sequence model is not full yet.
    InsufficientHistory,
    /// A one-probability model answered between its two thresholds.
    DeadZone,
    /// The model keeps giving one answer.
    DegenerateOutput,
    /// The model's output is NaN or infinite, or no probability where it must be one.
    NonFiniteOutput,
    /// The image could not be loaded or failed its golden vectors.
    ModelNotLoaded,
    /// The model is configured to report only.
    ShadowMode,
    /// The event is older than allowed.
    StaleInput,
    /// Telemetry of other producers: a rule answered in the model's place. This kernel never gives it.
    FallbackRules,
}

impl Inactive {
    /// Every reason.
    pub const ALL: [Self; 13] = [
        Self::ExceptionInPredict,
        Self::NanInput,
        Self::InfInput,
        Self::FeatureDimMismatch,
        Self::MissingFeature,
        Self::InsufficientHistory,
        Self::DeadZone,
        Self::DegenerateOutput,
        Self::NonFiniteOutput,
        Self::ModelNotLoaded,
        Self::ShadowMode,
        Self::StaleInput,
        Self::FallbackRules,
    ];

    /// The name on the wire, e.g. `degenerate_output`.
    #[must_use]
    pub const fn wire_name(self) -> &'static str {
        match self {
            Self::ExceptionInPredict => "exception_in_predict",
            Self::NanInput => "nan_input",
            Self::InfInput => "inf_input",
            Self::FeatureDimMismatch => "feature_dim_mismatch",
            Self::MissingFeature => "missing_feature",
            Self::InsufficientHistory => "insufficient_history",
            Self::DeadZone => "dead_zone",
            Self::DegenerateOutput => "degenerate_output",
            Self::NonFiniteOutput => "non_finite_output",
            Self::ModelNotLoaded => "model_not_loaded",
            Self::ShadowMode => "shadow_mode",
            Self::StaleInput => "stale_input",
            Self::FallbackRules => "fallback_rules",
        }
    }

    /// The reason with this wire name.
    #[must_use]
    pub fn from_wire_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.wire_name() == name)
    }
}

impl fmt::Display for Inactive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.wire_name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_confidence_is_a_probability() {
        for bad in [f32::NAN, -0.1, 1.000_1, f32::INFINITY] {
            assert_eq!(Prediction::new(Action::Buy, bad), Err(NotAConfidence));
        }
        assert!(Prediction::new(Action::Buy, 1.0).is_ok());
    }
}
