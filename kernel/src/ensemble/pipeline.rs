//! From one event's features to the vote, in one call: bind, validate, predict, guard, vote, and fingerprint the vector.

use heapless::Vec;

use super::{Degeneracy, Ensemble, EnsembleFull, Inactive, Member, Ppm, Predict, Round, VoteRules, Window};
use crate::guard::input::{Row, Unusual};
use crate::guard::{Fingerprint, FingerprintLayout, FingerprintRing};
use crate::observe::{Observer, Stage};
use crate::scratch::{Scratch, padded};
use crate::simd::with_default_float_environment;

/// A feature of an event.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Feature {
    /// The event lacks it.
    Absent,
    /// There is a value, but it is no number.
    NotANumber,
    /// A number, rounded to f32 once; NaN for a missing value.
    Number(f32),
}

impl Feature {
    /// The value as it is shown and hashed: NaN for what is no number; `None` for what is absent.
    #[must_use]
    pub const fn shown(self) -> Option<f32> {
        match self {
            Self::Absent => None,
            Self::NotANumber => Some(f32::NAN),
            Self::Number(number) => Some(number),
        }
    }
}

impl From<f32> for Feature {
    fn from(number: f32) -> Self {
        Self::Number(number)
    }
}

/// An ensemble over one vector of named features: every member knows which of them make up its row, and every vector is hashed.
///
/// `I` holds the indices of a member's features (`&[u16]`, an array, a vector), `B` the bytes that are hashed: all memory is the
/// caller's. Nothing is allocated, locked or asked of the operating system.
///
/// ```
/// use qsc_kernel::ensemble::{Decision, Degeneracy, Feature, Member, Pipeline, Ppm, VoteRules, Window};
/// use qsc_kernel::guard::FingerprintLayout;
/// use qsc_kernel::{Model, ScratchBuffer};
///
/// let model = Model::check(qsc_models::XGB)?;
/// let places: [u16; 23] = std::array::from_fn(|at| at as u16);
/// let layout = FingerprintLayout::new(model.feature_names(), [0; 1024])?;
/// let mut pipeline: Pipeline<Model<'_>, _, _, 4> = Pipeline::new(VoteRules::STANDARD, Degeneracy::Enforce, layout);
/// pipeline.push(Member::new(Some(model), Ppm::ONE), places)?;
///
/// let mut scratch = ScratchBuffer::<16384>::new();
/// // A sequence model would have a window for each symbol.
/// let windows: &mut [Window<[f32; 0]>] = &mut [];
/// let decided = pipeline.decide(&[Feature::Number(0.5); 23], windows, None, scratch.scratch());
/// assert!(matches!(decided.round.vote, Ok(Decision::Side(side)) if side.active == 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Pipeline<P, I, B, const N: usize> {
    ensemble: Ensemble<P, N>,
    bindings: Vec<I, N>,
    layout: FingerprintLayout<B>,
    fingerprints: FingerprintRing,
}

/// Why a member was not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum PushError {
    /// All places are taken.
    Full,
    /// A step of the model has another number of features than there are indices.
    Indices {
        /// Features of the model.
        expected: usize,
        /// Indices given.
        actual: usize,
    },
}

impl From<EnsembleFull> for PushError {
    fn from(EnsembleFull: EnsembleFull) -> Self {
        Self::Full
    }
}

impl core::fmt::Display for PushError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Full => EnsembleFull.fmt(f),
            Self::Indices { expected, actual } => {
                write!(
                    f,
                    "the model has {expected} features, and {actual} indices were given: bind each of them once"
                )
            }
        }
    }
}

impl core::error::Error for PushError {}

/// What one event came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Decided<const N: usize> {
    /// The outcomes and the vote.
    pub round: Round<N>,
    /// The fingerprint of the features that were there.
    pub fingerprint: Fingerprint,
}

impl<P: Predict, I: AsRef<[u16]>, B: AsRef<[u8]> + AsMut<[u8]>, const N: usize> Pipeline<P, I, B, N> {
    /// A pipeline without members over the vector whose names `layout` holds.
    #[must_use]
    pub const fn new(rules: VoteRules, degeneracy: Degeneracy, layout: FingerprintLayout<B>) -> Self {
        let ensemble = Ensemble::new(rules, degeneracy);
        Self { ensemble, bindings: Vec::new(), layout, fingerprints: FingerprintRing::new() }
    }

    /// Adds a member whose step is made of these features, by their place in the vector, in row order.
    ///
    /// A member is a sequence model if its row is longer than its step.
    ///
    /// # Errors
    /// All `N` places are taken, or the indices are not as many as its model has features. Then nothing was added.
    pub fn push(&mut self, member: Member<P>, indices: I) -> Result<(), PushError> {
        let actual = indices.as_ref().len();
        if let Some(expected) = member.predictor().map(P::n_features).filter(|&expected| expected != actual) {
            return Err(PushError::Indices { expected, actual });
        }
        self.ensemble.push(member)?;
        self.bindings.push(indices).map_err(|_| PushError::Full)
    }

    /// The ensemble.
    #[must_use]
    pub const fn ensemble(&self) -> &Ensemble<P, N> {
        &self.ensemble
    }

    /// Gives member `at` another weight; false if there is none.
    pub fn set_weight(&mut self, at: usize, weight: Ppm) -> bool {
        self.ensemble.set_weight(at, weight)
    }

    /// Fingerprints of the last vectors.
    #[must_use]
    pub const fn fingerprints(&self) -> &FingerprintRing {
        &self.fingerprints
    }

    /// `seq_len` and `n_features` of each sequence model, in member order: the windows a symbol needs.
    pub fn windows(&self) -> impl Iterator<Item = (usize, usize)> {
        let members = self.ensemble.members().iter().zip(&self.bindings);
        members.filter_map(|(member, indices)| steps(member, indices.as_ref()))
    }

    /// Scratch memory of one decision in bytes, where the greediest model needs `model_bytes`.
    #[must_use]
    pub fn scratch_bytes(&self, model_bytes: usize) -> usize {
        let bytes = |indices: &I| indices.as_ref().len().saturating_mul(size_of::<f32>());
        let row = |indices: &I| padded(bytes(indices)).unwrap_or(usize::MAX);
        self.bindings.iter().map(row).max().unwrap_or(0).saturating_add(model_bytes)
    }

    /// Decides one event. `features` is the whole vector; `windows` are those of the event's symbol, as [`Self::windows`] lists
    /// them. They are kept up even if the event is `refused` to every member, e.g. because it is stale.
    ///
    /// A step that cannot be made clears its window: the model waits rather than see time jump.
    pub fn decide<W: AsRef<[f32]> + AsMut<[f32]>>(
        &mut self,
        features: &[Feature],
        windows: &mut [Window<W>],
        refused: Option<Inactive>,
        scratch: Scratch<'_>,
    ) -> Decided<N> {
        self.decide_observed(features, windows, refused, scratch, &mut ())
    }

    /// The same, telling `observer` where the time goes.
    pub fn decide_observed<W: AsRef<[f32]> + AsMut<[f32]>>(
        &mut self,
        features: &[Feature],
        windows: &mut [Window<W>],
        refused: Option<Inactive>,
        scratch: Scratch<'_>,
        observer: &mut dyn Observer,
    ) -> Decided<N> {
        // Means, shares and the fingerprint are rounded too, not only what models compute.
        with_default_float_environment(|| self.decide_inside(features, windows, refused, scratch, observer))
    }

    fn decide_inside<W: AsRef<[f32]> + AsMut<[f32]>>(
        &mut self,
        features: &[Feature],
        windows: &mut [Window<W>],
        refused: Option<Inactive>,
        mut scratch: Scratch<'_>,
        observer: &mut dyn Observer,
    ) -> Decided<N> {
        let mut windows = windows.iter_mut();
        let mut bindings = self.bindings.iter();
        let round = self.ensemble.round(|at, member, degeneracy| {
            let indices = bindings.next().map_or(&[][..], AsRef::as_ref);
            let memory = scratch.reborrow();
            let bound = if steps(member, indices).is_some() {
                slide(windows.next(), indices, features).map(|row| (row, memory))
            } else {
                collect(indices, features, memory)
            };
            let answer = member.predict(refused.map_or(bound, Err), at, observer);
            let outcome = member.guard(answer, degeneracy);
            observer.ended(Stage::Guards);
            outcome
        });
        observer.ended(Stage::Vote);
        let fingerprint = self.layout.fingerprint(features.iter().map(|feature| feature.shown()));
        self.fingerprints.observe(fingerprint);
        observer.ended(Stage::Fingerprint);
        Decided { round, fingerprint }
    }
}

/// `seq_len` and `n_features` of a sequence model: its row is more than one step.
fn steps<P: Predict>(member: &Member<P>, indices: &[u16]) -> Option<(usize, usize)> {
    let row_len = member.predictor()?.row_len();
    let seq_len = row_len.checked_div(indices.len())?;
    (seq_len > 1).then_some((seq_len, indices.len()))
}

/// The row of a tabular model, collected in scratch memory.
fn collect<'s>(
    indices: &[u16],
    features: &[Feature],
    scratch: Scratch<'s>,
) -> Result<(Row<'s>, Scratch<'s>), Inactive> {
    let (values, rest) = scratch.take::<f32>(indices.len())?;
    let unusual = gather(indices, features, values)?;
    Ok((Row { values, unusual }, rest))
}

/// The row of a sequence model: its window with one more step.
fn slide<'w, W: AsRef<[f32]> + AsMut<[f32]>>(
    window: Option<&'w mut Window<W>>,
    indices: &[u16],
    features: &[Feature],
) -> Result<Row<'w>, Inactive> {
    let window = window.ok_or(Inactive::InsufficientHistory)?;
    window.push_with(|step| gather(indices, features, step))?;
    window.checked_row().ok_or(Inactive::InsufficientHistory)
}

/// Writes the features with these indices into `step`. A missing name is the graver reason: it is named before a value that is no
/// number.
fn gather(indices: &[u16], features: &[Feature], step: &mut [f32]) -> Result<Unusual, Inactive> {
    if indices.len() != step.len() {
        return Err(Inactive::FeatureDimMismatch);
    }
    let mut unusual = Unusual::default();
    let mut numbers = true;
    for (&index, place) in indices.iter().zip(step) {
        match features.get(usize::from(index)) {
            Some(&Feature::Number(number)) => {
                unusual = unusual.and(number);
                *place = number;
            }
            Some(Feature::NotANumber) => numbers = false,
            Some(Feature::Absent) | None => return Err(Inactive::MissingFeature),
        }
    }
    if numbers { Ok(unusual) } else { Err(Inactive::NanInput) }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::ensemble::{Action, ConfidenceRule, Outcome, Prediction};
    use crate::guard::input::Missing;
    use crate::simd::with_hostile_float_environment;
    use Feature::{Absent, NotANumber, Number};
    use std::vec;
    use std::vec::Vec;

    /// Buys with the last value of its row, of so many values and features, as confidence.
    struct Last(usize, usize);

    impl Predict for Last {
        fn row_len(&self) -> usize {
            self.0
        }

        fn n_features(&self) -> usize {
            self.1
        }

        fn predict(&self, row: &[f32], _: ConfidenceRule, _: Scratch<'_>) -> Result<Prediction, Inactive> {
            assert_eq!(row.len(), self.0);
            let last = *row.last().ok_or(Inactive::ExceptionInPredict)?;
            Prediction::new(Action::Buy, last).map_err(|_| Inactive::NonFiniteOutput)
        }
    }

    const NAMES: [&str; 3] = ["a", "b", "c"];

    /// A tabular model over b and a, and a sequence model of two steps over c.
    fn pipeline(missing: Missing) -> Pipeline<Last, &'static [u16], Vec<u8>, 3> {
        let bytes = vec![0; FingerprintLayout::<Vec<u8>>::bytes(NAMES).unwrap()];
        let layout = FingerprintLayout::new(NAMES, bytes).unwrap();
        let mut pipeline: Pipeline<_, &[u16], _, 3> =
            Pipeline::new(VoteRules::STANDARD, Degeneracy::Off, layout);
        let member = |n_features| Member::new(Some(Last(2, n_features)), Ppm::ONE).with_missing(missing);
        // A tabular model that is bound to half of its features is no sequence model.
        assert_eq!(pipeline.push(member(2), &[1]), Err(PushError::Indices { expected: 2, actual: 1 }));
        pipeline.push(member(2), &[1, 0]).unwrap();
        pipeline.push(member(1), &[2]).unwrap();
        pipeline.push(Member::new(None, Ppm::ONE), &[]).unwrap();
        assert_eq!(pipeline.push(member(1), &[2]), Err(PushError::Full));
        pipeline
    }

    /// What each member came to: its confidence, or its reason.
    fn outcomes(round: &Round<3>) -> Vec<Result<f32, Inactive>> {
        let of = |outcome: &Outcome| match *outcome {
            Outcome::Active { prediction, .. } => Ok(prediction.confidence()),
            Outcome::Inactive { reason, .. } => Err(reason),
        };
        round.outcomes.iter().map(of).collect()
    }

    #[test]
    fn rows_follow_the_member_and_each_reason_is_named() {
        use Inactive::{
            InfInput, InsufficientHistory as Waiting, MissingFeature, ModelNotLoaded, NanInput, StaleInput,
        };
        let mut pipeline = pipeline(Missing::Reject);
        assert_eq!(pipeline.windows().collect::<Vec<_>>(), [(2, 1)]);
        let mut windows = [Window::new(2, 1, [0.0; 4]).unwrap()];
        let mut memory = vec![0; pipeline.scratch_bytes(0) + 63];
        let mut see = |features: &[Feature], refused: Option<Inactive>| {
            let decided = pipeline.decide(features, &mut windows, refused, Scratch::new(&mut memory));
            let shown = NAMES.into_iter().zip(features).filter_map(|(name, of)| Some((name, of.shown()?)));
            assert_eq!(decided.fingerprint, Fingerprint::of(shown));
            let outcomes = outcomes(&decided.round);
            assert_eq!(outcomes[2], Err(ModelNotLoaded));
            [outcomes[0], outcomes[1]]
        };
        let numbers = |a, b, c| [Number(a), Number(b), Number(c)];
        assert_eq!(see(&numbers(0.25, 0.5, 0.75), None), [Ok(0.25), Err(Waiting)]);
        assert_eq!(see(&numbers(0.5, 0.5, 0.625), None), [Ok(0.5), Ok(0.625)]);
        assert_eq!(see(&numbers(0.5, f32::NAN, 0.5), None), [Err(NanInput), Ok(0.5)]);
        assert_eq!(see(&numbers(0.5, f32::INFINITY, 0.5), None), [Err(InfInput), Ok(0.5)]);
        assert_eq!(see(&[NotANumber, Absent, Number(0.5)], None), [Err(MissingFeature), Ok(0.5)]);
        assert_eq!(see(&[NotANumber, Number(0.5), Number(0.5)], None), [Err(NanInput), Ok(0.5)]);
        // NaN in a window is named while it is inside, a gap ends the window, and a stale event keeps it up.
        assert_eq!(see(&numbers(0.5, 0.5, f32::NAN), None)[1], Err(NanInput));
        assert_eq!(see(&numbers(0.5, 0.5, 0.5), None)[1], Err(NanInput));
        assert_eq!(see(&numbers(0.5, 0.5, 0.5), None)[1], Ok(0.5));
        assert_eq!(see(&[Number(0.5), Number(0.5), NotANumber], None)[1], Err(NanInput));
        assert_eq!(see(&numbers(0.5, 0.5, 0.5), Some(StaleInput)), [Err(StaleInput); 2]);
        assert_eq!(see(&numbers(0.5, 0.5, 0.5), None)[1], Ok(0.5));
        // Fewer features than were promised are missing ones.
        assert_eq!(see(&[Number(0.5), Number(0.5)], None), [Ok(0.5), Err(MissingFeature)]);
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no float environment")]
    fn a_callers_float_environment_changes_no_bit() {
        // Means and decimals that no binary fraction holds.
        let event = |at: u8| [1.0, 3.1, 0.7].map(|factor| Number(f32::from(at) / 211.0 * factor));
        let events: Vec<_> = (1..200).map(event).collect();
        let decide = || {
            let mut pipeline = pipeline(Missing::Reject);
            let mut windows = [Window::new(2, 1, [0.0; 4]).unwrap()];
            let mut memory = vec![0; pipeline.scratch_bytes(0) + 63];
            let mut one = |features: &[Feature; 3]| {
                pipeline.decide(features, &mut windows, None, Scratch::new(&mut memory))
            };
            events.iter().map(&mut one).collect::<Vec<_>>()
        };
        assert_eq!(decide(), with_hostile_float_environment(decide), "in a hostile float environment");
    }

    #[test]
    fn missing_values_are_the_trees_affair_but_text_is_not() {
        let mut pipeline = pipeline(Missing::Native);
        let mut memory = vec![0; pipeline.scratch_bytes(0) + 63];
        let mut see = |features: &[Feature]| {
            let windows: &mut [Window<[f32; 4]>] = &mut [];
            outcomes(&pipeline.decide(features, windows, None, Scratch::new(&mut memory)).round)
        };
        assert_eq!(see(&[Number(0.5), Number(f32::NAN), Number(0.5)])[0], Ok(0.5));
        assert_eq!(see(&[Number(0.5), NotANumber, Number(0.5)])[0], Err(Inactive::NanInput));
        // No window was brought, no memory was brought: nothing is guessed.
        assert_eq!(see(&[Number(0.5), Number(0.5), Number(0.5)])[1], Err(Inactive::InsufficientHistory));
        let windows: &mut [Window<[f32; 4]>] = &mut [];
        let decided = pipeline.decide(&[Number(0.5); 3], windows, None, Scratch::new(&mut []));
        assert_eq!(outcomes(&decided.round)[0], Err(Inactive::ExceptionInPredict));
    }
}
