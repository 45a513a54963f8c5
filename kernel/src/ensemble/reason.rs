//! Why a model has no vote.

use core::fmt;

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
