//! The vote: integer weights, exact ties, no default.

use core::fmt;

use super::{Action, Prediction};
use crate::num::single;

/// A weight in parts per million; above zero, at most one million.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Ppm(u32);

impl Ppm {
    /// Weight 1.
    pub const ONE: Self = Self(1_000_000);

    /// A weight of `parts` per million; `None` for zero or more than a million.
    #[must_use]
    pub const fn new(parts: u32) -> Option<Self> {
        if parts == 0 || parts > Self::ONE.0 { None } else { Some(Self(parts)) }
    }

    /// Parts per million.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// No member is active: there is no side and no confidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct NoActiveModel;

impl NoActiveModel {
    /// The name of this outcome in the `consensus` field.
    pub const WIRE_NAME: &'static str = "no_active_model";
}

impl fmt::Display for NoActiveModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no model is active")
    }
}

impl core::error::Error for NoActiveModel {}

/// How far the active members agree; a of n chose the side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Consensus {
    /// a = n.
    Unanimous,
    /// a ≥ 0.75 n.
    Strong,
    /// a ≥ 0.5 n.
    Split,
    /// Fewer.
    Weak,
}

impl Consensus {
    /// Every consensus, from the closest.
    pub const ALL: [Self; 4] = [Self::Unanimous, Self::Strong, Self::Split, Self::Weak];

    const fn of(chose: u32, active: u32) -> Self {
        // Products of small counts: no overflow for any N that fits in memory.
        if chose == active {
            Self::Unanimous
        } else if chose.saturating_mul(4) >= active.saturating_mul(3) {
            Self::Strong
        } else if chose.saturating_mul(2) >= active {
            Self::Split
        } else {
            Self::Weak
        }
    }

    /// The name on the wire.
    #[must_use]
    pub const fn wire_name(self) -> &'static str {
        match self {
            Self::Unanimous => "unanimous",
            Self::Strong => "strong",
            Self::Split => "split",
            Self::Weak => "weak",
        }
    }
}

/// Factors on the confidence, by consensus.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Multipliers {
    /// All active members agree.
    pub unanimous: f32,
    /// At least three quarters agree.
    pub strong: f32,
    /// At least half agree.
    pub split: f32,
    /// Fewer agree.
    pub weak: f32,
}

/// The rules of the vote: they make a confidence of confidences, whatever the votes.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct VoteRules {
    max_confidence: f32,
    multipliers: Multipliers,
}

/// What is no rule of a vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum NotARule {
    /// The largest confidence is NaN or outside [0, 1].
    MaxConfidence,
    /// The factor for this consensus is negative, infinite or NaN.
    Multiplier(Consensus),
}

impl fmt::Display for NotARule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MaxConfidence => f.write_str("max_confidence must be from 0 to 1"),
            Self::Multiplier(consensus) => {
                write!(f, "the multiplier {} must be a finite number, 0 or more", consensus.wire_name())
            }
        }
    }
}

impl core::error::Error for NotARule {}

impl VoteRules {
    /// At most 0.95, no factors.
    pub const STANDARD: Self = Self {
        max_confidence: 0.95,
        multipliers: Multipliers { unanimous: 1.0, strong: 1.0, split: 1.0, weak: 1.0 },
    };

    /// Decisions of at most this confidence, after these factors.
    ///
    /// # Errors
    /// A maximum outside [0, 1], or a factor that is no finite number from 0 up.
    pub fn new(max_confidence: f32, multipliers: Multipliers) -> Result<Self, NotARule> {
        if !(0.0..=1.0).contains(&max_confidence) {
            return Err(NotARule::MaxConfidence);
        }
        let rules = Self { max_confidence, multipliers };
        let holds = |consensus: &Consensus| {
            let factor = rules.multiplier(*consensus);
            factor.is_finite() && factor >= 0.0
        };
        match Consensus::ALL.into_iter().find(|consensus| !holds(consensus)) {
            Some(consensus) => Err(NotARule::Multiplier(consensus)),
            None => Ok(rules),
        }
    }

    /// The confidence of a decision is at most this, from 0 to 1.
    #[must_use]
    pub const fn max_confidence(&self) -> f32 {
        self.max_confidence
    }

    /// Factors by consensus.
    #[must_use]
    pub const fn multipliers(&self) -> Multipliers {
        self.multipliers
    }

    const fn multiplier(&self, consensus: Consensus) -> f32 {
        match consensus {
            Consensus::Unanimous => self.multipliers.unanimous,
            Consensus::Strong => self.multipliers.strong,
            Consensus::Split => self.multipliers.split,
            Consensus::Weak => self.multipliers.weak,
        }
    }
}

/// The outcome of a vote with at least one active member.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Decision {
    /// One action has the largest weight.
    Side(Side),
    /// Two or more actions share the largest weight exactly: no side, no confidence.
    Tie {
        /// Active members.
        active: u32,
    },
}

/// The action with the largest weight.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Side {
    /// The action, with the mean confidence of the members that chose it, times the multiplier, at most the maximum.
    pub prediction: Prediction,
    /// How far the active members agree.
    pub consensus: Consensus,
    /// Active members that chose the action.
    pub chose: u32,
    /// Active members.
    pub active: u32,
}

impl Decision {
    /// The `consensus` field on the wire.
    #[must_use]
    pub const fn consensus_name(&self) -> &'static str {
        match self {
            Self::Side(side) => side.consensus.wire_name(),
            Self::Tie { .. } => "tie",
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Pile {
    action: Action,
    weight: u64,
    count: u32,
    confidence: f64,
}

/// Votes being collected.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ballot {
    piles: [Pile; 3],
    total: u64,
}

impl Ballot {
    pub(super) fn new() -> Self {
        Self {
            piles: Action::ALL.map(|action| Pile { action, weight: 0, count: 0, confidence: 0.0 }),
            total: 0,
        }
    }

    pub(super) fn cast(&mut self, prediction: Prediction, weight: Ppm) {
        let weight = u64::from(weight.get());
        self.total = self.total.saturating_add(weight);
        for pile in self.piles.iter_mut().filter(|pile| pile.action == prediction.action()) {
            pile.weight = pile.weight.saturating_add(weight);
            pile.count = pile.count.saturating_add(1);
            pile.confidence += f64::from(prediction.confidence());
        }
    }

    /// A cast weight as its share of all cast weights.
    pub(super) fn share(&self, weight: Ppm) -> f64 {
        // Sums of at most 2^32 weights of a million stay below 2^53.
        crate::num::float(i64::from(weight.get())) / crate::num::float(self.total.cast_signed())
    }

    pub(super) fn count(&self, rules: &VoteRules) -> Result<Decision, NoActiveModel> {
        let active = self.piles.iter().fold(0_u32, |sum, pile| sum.saturating_add(pile.count));
        let largest = self.piles.iter().map(|pile| pile.weight).max().unwrap_or(0);
        if active == 0 || largest == 0 {
            return Err(NoActiveModel);
        }
        let mut leaders = self.piles.iter().filter(|pile| pile.weight == largest);
        let (Some(leader), None) = (leaders.next(), leaders.next()) else {
            return Ok(Decision::Tie { active });
        };
        let consensus = Consensus::of(leader.count, active);
        let mean = leader.confidence / f64::from(leader.count);
        let confidence = single(mean * f64::from(rules.multiplier(consensus)));
        let confidence = if confidence < rules.max_confidence { confidence } else { rules.max_confidence };
        // Rules are such that a mean of confidences stays one.
        let prediction = Prediction::new(leader.action, confidence).map_err(|_| NoActiveModel)?;
        Ok(Decision::Side(Side { prediction, consensus, chose: leader.count, active }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vote(ballots: &[(Action, f32, u32)]) -> Result<Decision, NoActiveModel> {
        let mut ballot = Ballot::new();
        for &(action, confidence, weight) in ballots {
            ballot.cast(Prediction::new(action, confidence).unwrap(), Ppm::new(weight).unwrap());
        }
        ballot.count(&VoteRules::STANDARD)
    }

    fn side(ballots: &[(Action, f32, u32)]) -> Side {
        match vote(ballots).unwrap() {
            Decision::Side(side) => side,
            tie @ Decision::Tie { .. } => panic!("{tie:?}"),
        }
    }

    use Action::{Buy, Hold, Sell};

    #[test]
    fn nobody_votes_nothing_is_said() {
        assert_eq!(vote(&[]), Err(NoActiveModel));
    }

    #[test]
    fn weight_decides_not_heads() {
        let side = side(&[(Buy, 0.9, 600_000), (Sell, 0.8, 200_000), (Sell, 0.7, 200_000)]);
        assert_eq!(
            (side.prediction.action(), side.chose, side.active, side.consensus),
            (Buy, 1, 3, Consensus::Weak)
        );
    }

    #[test]
    fn exact_ties_have_no_side() {
        assert_eq!(vote(&[(Buy, 0.9, 333_333), (Hold, 0.4, 333_333)]), Ok(Decision::Tie { active: 2 }));
        let all = [(Buy, 0.9, 250_000), (Sell, 0.9, 250_000), (Hold, 0.9, 250_000)];
        assert_eq!(vote(&all), Ok(Decision::Tie { active: 3 }));
        assert_eq!(side(&[(Buy, 0.9, 333_334), (Hold, 0.4, 333_333)]).prediction.action(), Buy);
    }

    #[test]
    fn consensus_bounds() {
        let of = |chose, active| Consensus::of(chose, active);
        assert_eq!(of(4, 4), Consensus::Unanimous);
        assert_eq!(of(3, 4), Consensus::Strong);
        assert_eq!(of(2, 3), Consensus::Split);
        assert_eq!(of(2, 4), Consensus::Split);
        assert_eq!(of(1, 3), Consensus::Weak);
    }

    #[test]
    fn confidence_is_the_mean_of_the_side_and_capped() {
        let side_of = side(&[(Buy, 0.6, 250_000), (Buy, 0.8, 250_000), (Sell, 1.0, 250_000)]);
        assert!((side_of.prediction.confidence() - 0.7).abs() < 1e-6);
        assert_eq!(side(&[(Buy, 1.0, 1)]).prediction.confidence(), 0.95);
    }

    #[test]
    fn rules_that_could_make_no_confidence_are_refused() {
        let Multipliers { unanimous, .. } = VoteRules::STANDARD.multipliers();
        let all = |factor| Multipliers { unanimous: factor, strong: factor, split: factor, weak: factor };
        for bad in [f32::NAN, -0.1, 1.1, f32::INFINITY] {
            assert_eq!(VoteRules::new(bad, all(1.0)), Err(NotARule::MaxConfidence));
        }
        for bad in [f32::NAN, -0.1, f32::INFINITY] {
            assert_eq!(VoteRules::new(0.95, all(bad)), Err(NotARule::Multiplier(Consensus::Unanimous)));
            let weak = Multipliers { weak: bad, ..all(1.0) };
            assert_eq!(VoteRules::new(0.95, weak), Err(NotARule::Multiplier(Consensus::Weak)));
        }
        assert_eq!(VoteRules::new(0.95, all(unanimous)), Ok(VoteRules::STANDARD));
        // The largest factor there is stays within the maximum.
        let rules = VoteRules::new(1.0, all(f32::MAX)).unwrap();
        let mut ballot = Ballot::new();
        ballot.cast(Prediction::new(Buy, 1.0).unwrap(), Ppm::ONE);
        let Ok(Decision::Side(side)) = ballot.count(&rules) else { panic!("no side") };
        assert_eq!(side.prediction.confidence(), 1.0);
    }
}
