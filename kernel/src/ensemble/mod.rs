//! Members, the vote, and the one path from features to it.
//!
//! | file | does |
//! | --- | --- |
//! | `decision` | a model's output becomes an action with a confidence |
//! | `member` | one model with its weight and guards |
//! | `vote` | integer weights, exact ties, no default |
//! | `window` | the last steps of one symbol |
//! | `pipeline` | all of it in one call |

mod decision;
mod member;
mod pipeline;
mod vote;
mod window;

use heapless::Vec;

pub use crate::answer::{Action, Inactive, NotAConfidence, Prediction};
pub use decision::ConfidenceRule;
pub use member::{Degeneracy, Input, Member, Mode, Outcome, Predict};
pub use pipeline::{Decided, Feature, Pipeline, PushError};
pub use vote::{Consensus, Decision, Multipliers, NoActiveModel, NotARule, Ppm, Side, VoteRules};
pub use window::{Window, WindowTooSmall};

use crate::guard::input::Row;
use crate::scratch::Scratch;
use crate::simd::with_default_float_environment;

/// Up to `N` members and the rules they vote by.
///
/// `P` is what predicts: a [`crate::Model`], or a wrapper of it (a host catches panics there).
#[derive(Clone, Debug)]
pub struct Ensemble<P, const N: usize> {
    members: Vec<Member<P>, N>,
    rules: VoteRules,
    degeneracy: Degeneracy,
}

/// What one event came to: every member's outcome, and the vote over the active ones.
#[derive(Clone, Debug, PartialEq)]
pub struct Round<const N: usize> {
    /// One outcome per member, in member order.
    pub outcomes: Vec<Outcome, N>,
    /// Weight of each member in this vote, renormalized to 1 over the active ones; 0 for inactive members.
    pub effective_weights: Vec<f64, N>,
    /// The vote.
    pub vote: Result<Decision, NoActiveModel>,
}

/// All places of an ensemble are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct EnsembleFull;

impl core::fmt::Display for EnsembleFull {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("the ensemble has no place for another member")
    }
}

impl core::error::Error for EnsembleFull {}

impl<P: Predict, const N: usize> Ensemble<P, N> {
    /// An ensemble without members.
    #[must_use]
    pub const fn new(rules: VoteRules, degeneracy: Degeneracy) -> Self {
        Self { members: Vec::new(), rules, degeneracy }
    }

    /// Adds a member.
    ///
    /// # Errors
    /// All `N` places are taken.
    pub fn push(&mut self, member: Member<P>) -> Result<(), EnsembleFull> {
        self.members.push(member).map_err(|_| EnsembleFull)
    }

    /// The members, in the order they were added.
    #[must_use]
    pub fn members(&self) -> &[Member<P>] {
        &self.members
    }

    /// Gives member `at` another weight; false if there is none.
    pub fn set_weight(&mut self, at: usize, weight: Ppm) -> bool {
        self.members.get_mut(at).map(|member| member.set_weight(weight)).is_some()
    }

    /// Asks every member and votes. `inputs` are in member order; a member without input is
    /// [`Inactive::MissingFeature`].
    ///
    /// Members that err, are sick or only shadow have weight 0; the others are renormalized. There is no
    /// default: with no active member the vote is [`NoActiveModel`].
    pub fn decide(&mut self, inputs: &[Input<'_>], mut scratch: Scratch<'_>) -> Round<N> {
        with_default_float_environment(|| {
            self.round(|at, member, degeneracy| {
                let input = inputs.get(at).copied().unwrap_or(Input::Unavailable(Inactive::MissingFeature));
                let bound = match input {
                    Input::Row(row) => Ok((Row::of(row), scratch.reborrow())),
                    Input::Unavailable(reason) => Err(reason),
                };
                let answer = member.predict(bound, at, &mut ());
                member.guard(answer, degeneracy)
            })
        })
    }

    /// Asks every member by `ask`, and votes.
    fn round(&mut self, mut ask: impl FnMut(usize, &mut Member<P>, Degeneracy) -> Outcome) -> Round<N> {
        let mut outcomes = Vec::new();
        let mut effective_weights = Vec::new();
        let mut ballot = vote::Ballot::new();
        for (at, member) in self.members.iter_mut().enumerate() {
            let outcome = ask(at, member, self.degeneracy);
            if let Outcome::Active { prediction, .. } = outcome {
                ballot.cast(prediction, member.weight());
            }
            // A place per member: both vectors have the members' capacity.
            let _ = outcomes.push(outcome);
        }
        for (outcome, member) in outcomes.iter().zip(&self.members) {
            let weight = if outcome.is_active() { ballot.share(member.weight()) } else { 0.0 };
            let _ = effective_weights.push(weight);
        }
        Round { outcomes, effective_weights, vote: ballot.count(&self.rules) }
    }
}
