//! From a model's output to an action with a confidence.

use crate::answer::{Action, Inactive, NotAConfidence, Prediction};
use crate::link::Output;
use crate::model::{DecisionRule, Model};
use crate::simd::with_default_float_environment;

/// How probabilities become a confidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum ConfidenceRule {
    /// The largest probability.
    Max,
    /// `0.50 + min(p1 − p2, 1) · 0.45` of the two largest probabilities.
    Margin,
}

impl Model<'_> {
    /// Turns this model's output for `row` into a prediction.
    ///
    /// A forecast's return is (last forecast − last value) / |last value|; its confidence is the share of the larger of return
    /// and threshold in their sum: 0.5 on the threshold, more the farther from it on either side.
    ///
    /// # Errors
    /// [`Inactive::FeatureDimMismatch`] for a row or an output of another model's length; [`Inactive::NonFiniteOutput`] for NaN,
    /// infinity or a probability outside [0, 1]; [`Inactive::DeadZone`]; [`Inactive::ExceptionInPredict`] for a model whose outputs
    /// are no votes.
    pub fn decide(
        &self,
        row: &[f32],
        output: &Output<'_>,
        confidence: ConfidenceRule,
    ) -> Result<Prediction, Inactive> {
        with_default_float_environment(|| self.decide_inside(row, output, confidence))
    }

    fn decide_inside(
        &self,
        row: &[f32],
        output: &Output<'_>,
        confidence: ConfidenceRule,
    ) -> Result<Prediction, Inactive> {
        if row.len() != self.row_len() || output.values.len() != self.n_outputs() {
            return Err(Inactive::FeatureDimMismatch);
        }
        if !output.values.iter().all(|value| value.is_finite()) {
            return Err(Inactive::NonFiniteOutput);
        }
        let (action, first, second) = match self.decision() {
            DecisionRule::None => return Err(Inactive::ExceptionInPredict),
            DecisionRule::Classes => {
                let (at, first, second) = two_largest(output.values).ok_or(Inactive::NonFiniteOutput)?;
                (self.class(at).ok_or(Inactive::ExceptionInPredict)?, first, second)
            }
            DecisionRule::DeadZone { low, high } => match *output.values {
                [p] if p > high => (Action::Buy, p, 1.0 - p),
                [p] if p < low => (Action::Sell, 1.0 - p, p),
                [_] => return Err(Inactive::DeadZone),
                _ => return Err(Inactive::ExceptionInPredict),
            },
            DecisionRule::HorizonReturn { low, high } => {
                let (Some(last), Some(forecast)) = (row.last(), output.values.last()) else {
                    return Err(Inactive::ExceptionInPredict);
                };
                let change = (forecast - last) / last.abs();
                if !change.is_finite() {
                    return Err(Inactive::NonFiniteOutput);
                }
                let (action, size) = horizon_return(change, low, high);
                (action, size, 1.0 - size)
            }
        };
        if !(0.0..=1.0).contains(&first) {
            return Err(Inactive::NonFiniteOutput);
        }
        let confidence = match confidence {
            ConfidenceRule::Max => first,
            ConfidenceRule::Margin => 0.50 + (first - second).clamp(0.0, 1.0) * 0.45,
        };
        Prediction::new(action, confidence).map_err(|NotAConfidence| Inactive::NonFiniteOutput)
    }
}

/// The action of a return, and how sure it is, in [0.5, 1].
fn horizon_return(change: f32, low: f32, high: f32) -> (Action, f32) {
    let (beyond, threshold) = if change < 0.0 { (Action::Sell, -low) } else { (Action::Buy, high) };
    let size = change.abs();
    if size > threshold {
        (beyond, size / (size + threshold))
    } else {
        (Action::Hold, threshold / (size + threshold))
    }
}

/// Index of the largest value, first of equals, with it and the runner-up (0 for a single value).
fn two_largest(values: &[f32]) -> Option<(usize, f32, f32)> {
    let (mut at, mut first) = (0, *values.first()?);
    let mut second = 0.0;
    for (i, &value) in values.iter().enumerate().skip(1) {
        if value > first {
            (at, second, first) = (i, first, value);
        } else if value > second {
            second = value;
        }
    }
    Some((at, first, second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equals_wins() {
        assert_eq!(two_largest(&[0.4, 0.4, 0.2]), Some((0, 0.4, 0.4)));
        assert_eq!(two_largest(&[0.1, 0.2, 0.7]), Some((2, 0.7, 0.2)));
        assert_eq!(two_largest(&[0.7, 0.1, 0.2]), Some((0, 0.7, 0.2)));
        assert_eq!(two_largest(&[1.0]), Some((0, 1.0, 0.0)));
        assert_eq!(two_largest(&[]), None);
    }

    #[test]
    fn a_return_is_held_against_two_thresholds() {
        let of = |change| horizon_return(change, -0.01, 0.03);
        assert_eq!(of(0.09), (Action::Buy, 0.75));
        assert_eq!(of(-0.03), (Action::Sell, 0.75));
        assert_eq!(of(0.0), (Action::Hold, 1.0));
        assert_eq!(of(0.03), (Action::Hold, 0.5));
        assert_eq!(of(-0.01), (Action::Hold, 0.5));
        assert_eq!(of(0.02).0, Action::Hold);
    }

    #[test]
    #[cfg_attr(
        all(miri, not(target_feature = "sha")),
        ignore = "the image's digest takes minutes under Miri, unless it has the instructions"
    )]
    fn only_a_models_own_output_is_a_vote() {
        let model = Model::check(qsc_models::XGB).unwrap();
        let (row, rule) = ([0.5; 24], ConfidenceRule::Margin);
        let decide = |n: usize, values: &[f32]| model.decide(&row[..n], &Output { raw: &[], values }, rule);
        assert!(decide(23, &[0.2, 0.5, 0.3]).is_ok());
        for (n, values) in
            [(22, &[0.2, 0.5, 0.3][..]), (24, &[0.2, 0.5, 0.3]), (23, &[0.5, 0.5]), (23, &[0.25; 4])]
        {
            assert_eq!(decide(n, values), Err(Inactive::FeatureDimMismatch), "{n} values, {values:?}");
        }
        // A margin between numbers that are no probabilities is no confidence.
        assert_eq!(decide(23, &[5.0, 3.0, 1.0]), Err(Inactive::NonFiniteOutput));
    }
}
