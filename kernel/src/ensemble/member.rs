//! One model of the ensemble: its model, its weight, its guards.

use super::{ConfidenceRule, Inactive, Ppm, Prediction};
use crate::error::PredictError;
use crate::guard::DegeneracyWindow;
use crate::guard::input::{Missing, Row};
use crate::model::Model;
use crate::observe::{Observer, Stage};
use crate::scratch::Scratch;

/// What predicts a row. [`Model`] does; a host wraps it to turn panics into errors.
pub trait Predict {
    /// Values of a row: `seq_len · n_features`.
    fn row_len(&self) -> usize;

    /// Features of a step: `row_len` of them for a tabular model.
    fn n_features(&self) -> usize;

    /// Predicts a validated row, `[row_len] f32`.
    ///
    /// # Errors
    /// The reason there is no prediction.
    fn predict(
        &self,
        row: &[f32],
        rule: ConfidenceRule,
        scratch: Scratch<'_>,
    ) -> Result<Prediction, Inactive>;
}

impl Predict for Model<'_> {
    fn row_len(&self) -> usize {
        Model::row_len(self)
    }

    fn n_features(&self) -> usize {
        Model::n_features(self)
    }

    fn predict(
        &self,
        row: &[f32],
        rule: ConfidenceRule,
        scratch: Scratch<'_>,
    ) -> Result<Prediction, Inactive> {
        let output = Model::predict(self, row, scratch)?;
        self.decide(row, &output, rule)
    }
}

impl From<PredictError> for Inactive {
    fn from(error: PredictError) -> Self {
        match error {
            PredictError::RowLength { .. } => Self::FeatureDimMismatch,
            PredictError::NonFiniteInput => Self::NanInput,
            PredictError::ScratchTooSmall | PredictError::Corrupt => Self::ExceptionInPredict,
        }
    }
}

/// What a member gets to see of an event.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Input<'a> {
    /// Its row, `[row_len] f32`.
    Row(&'a [f32]),
    /// No row could be made, for this reason.
    Unavailable(Inactive),
}

/// Whether a member votes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Mode {
    /// It votes.
    Vote,
    /// It is asked and reported, but never votes.
    Shadow,
}

/// What the degeneracy window does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Degeneracy {
    /// A degenerate model is inactive.
    Enforce,
    /// A degenerate model is reported and votes.
    Observe,
    /// Nothing is watched.
    Off,
}

/// What a member came to for one event.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Outcome {
    /// It votes with this prediction.
    Active {
        /// Its prediction.
        prediction: Prediction,
        /// The degeneracy window would have thrown it out (only when observing).
        degenerate: bool,
    },
    /// It has no vote.
    Inactive {
        /// Why.
        reason: Inactive,
        /// What it predicted, if it did.
        prediction: Option<Prediction>,
        /// The degeneracy window would have thrown it out, had it a vote (only when observing).
        degenerate: bool,
    },
}

impl Outcome {
    /// True for a member that votes.
    #[must_use]
    pub const fn is_active(&self) -> bool {
        matches!(self, Self::Active { .. })
    }
}

/// A model in the ensemble.
#[derive(Clone, Debug)]
pub struct Member<P> {
    predictor: Option<P>,
    weight: Ppm,
    mode: Mode,
    missing: Missing,
    confidence: ConfidenceRule,
    window: DegeneracyWindow,
}

impl<P: Predict> Member<P> {
    /// A voting member that rejects NaN and is as confident as its largest probability.
    ///
    /// `None` is a model that could not be loaded: always [`Inactive::ModelNotLoaded`].
    #[must_use]
    pub const fn new(predictor: Option<P>, weight: Ppm) -> Self {
        Self {
            predictor,
            weight,
            mode: Mode::Vote,
            missing: Missing::Reject,
            confidence: ConfidenceRule::Max,
            window: DegeneracyWindow::new(),
        }
    }

    /// The same member in this mode.
    #[must_use]
    pub fn with_mode(self, mode: Mode) -> Self {
        Self { mode, ..self }
    }

    /// The same member with this rule for NaN.
    #[must_use]
    pub fn with_missing(self, missing: Missing) -> Self {
        Self { missing, ..self }
    }

    /// The same member with this rule for confidence.
    #[must_use]
    pub fn with_confidence(self, confidence: ConfidenceRule) -> Self {
        Self { confidence, ..self }
    }

    /// What predicts, if it was loaded.
    #[must_use]
    pub const fn predictor(&self) -> Option<&P> {
        self.predictor.as_ref()
    }

    /// The configured weight.
    #[must_use]
    pub const fn weight(&self) -> Ppm {
        self.weight
    }

    pub(super) const fn set_weight(&mut self, weight: Ppm) {
        self.weight = weight;
    }

    /// Validates and predicts. `bound` is the row and the memory to work in, or why there is no row.
    pub(super) fn predict(
        &self,
        bound: Result<(Row<'_>, Scratch<'_>), Inactive>,
        at: usize,
        observer: &mut dyn Observer,
    ) -> Result<Prediction, Inactive> {
        let predictor = self.predictor.as_ref().ok_or(Inactive::ModelNotLoaded)?;
        let (row, scratch) = bound?;
        row.validate(predictor.row_len(), self.missing)?;
        observer.ended(Stage::Bind);
        let prediction = predictor.predict(row.values, self.confidence, scratch);
        observer.ended(Stage::Member(at));
        prediction
    }

    /// Guards. A sickness that counts is named before the shadow: it is the more telling reason. One that is only observed is reported
    /// beside it.
    pub(super) fn guard(&mut self, answer: Result<Prediction, Inactive>, degeneracy: Degeneracy) -> Outcome {
        let prediction = match answer {
            Ok(prediction) => prediction,
            Err(reason) => return Outcome::Inactive { reason, prediction: None, degenerate: false },
        };
        let sick = degeneracy != Degeneracy::Off && self.window.observe(prediction);
        let degenerate = sick && degeneracy == Degeneracy::Observe;
        let reason = if sick && degeneracy == Degeneracy::Enforce {
            Inactive::DegenerateOutput
        } else if self.mode == Mode::Shadow {
            Inactive::ShadowMode
        } else {
            return Outcome::Active { prediction, degenerate };
        };
        Outcome::Inactive { reason, prediction: Some(prediction), degenerate }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::Action;

    struct Nothing;

    impl Predict for Nothing {
        fn row_len(&self) -> usize {
            1
        }

        fn n_features(&self) -> usize {
            1
        }

        fn predict(&self, _: &[f32], _: ConfidenceRule, _: Scratch<'_>) -> Result<Prediction, Inactive> {
            Err(Inactive::ExceptionInPredict)
        }
    }

    /// What a member comes to that has given one answer a hundred times.
    fn frozen(mode: Mode, degeneracy: Degeneracy) -> Outcome {
        let mut member = Member::new(Some(Nothing), Ppm::ONE).with_mode(mode);
        let prediction = Prediction::new(Action::Buy, 0.5).unwrap();
        for _ in 1..crate::guard::degeneracy::WINDOW {
            member.guard(Ok(prediction), degeneracy);
        }
        member.guard(Ok(prediction), degeneracy)
    }

    #[test]
    fn a_frozen_member_is_reported_also_in_the_shadow() {
        let inactive = |outcome| match outcome {
            Outcome::Active { .. } => None,
            Outcome::Inactive { reason, prediction, degenerate } => {
                assert!(prediction.is_some());
                Some((reason, degenerate))
            }
        };
        let frozen = |mode, degeneracy| (frozen(mode, degeneracy), inactive(frozen(mode, degeneracy)));
        use Degeneracy::{Enforce, Observe, Off};
        assert_eq!(frozen(Mode::Shadow, Observe).1, Some((Inactive::ShadowMode, true)));
        assert_eq!(frozen(Mode::Shadow, Off).1, Some((Inactive::ShadowMode, false)));
        assert_eq!(frozen(Mode::Shadow, Enforce).1, Some((Inactive::DegenerateOutput, false)));
        assert_eq!(frozen(Mode::Vote, Enforce).1, Some((Inactive::DegenerateOutput, false)));
        assert!(matches!(frozen(Mode::Vote, Observe).0, Outcome::Active { degenerate: true, .. }));
        assert!(matches!(frozen(Mode::Vote, Off).0, Outcome::Active { degenerate: false, .. }));
    }
}
