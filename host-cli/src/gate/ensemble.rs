//! How far the models of one event agree.

use std::collections::BTreeMap;

use qsc_kernel::Action;
use serde::Serialize;

use super::rules::Rules;

/// Agreement of the ensemble, over events in which at least two models were active with a known action: one vote
/// cannot disagree with itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Ensemble {
    /// Events with at least two votes.
    pub events: u64,
    /// Mean share of the largest vote, in percent; `None` without such events.
    pub agreement_pct: Option<f64>,
    /// Share of events with both BUY and SELL, in percent.
    pub hard_disagreement_pct: Option<f64>,
    /// Events with both BUY and SELL.
    pub hard_disagreements: u64,
}

/// Whether a share of hard disagreement that is exactly on its bound still holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnBound {
    /// As for every check.
    Holds,
    /// A model is GO only below the bound.
    Fails,
}

impl Ensemble {
    /// What about the agreement of the models is out of the bounds of `rules`, in words.
    #[must_use]
    pub fn disagreements(&self, rules: &Rules, on_bound: OnBound) -> Vec<String> {
        let (Some(agreement), Some(hard)) = (self.agreement_pct, self.hard_disagreement_pct) else {
            return vec!["no event has two active models, so their agreement is unknown".to_owned()];
        };
        let mut found = Vec::new();
        let (least, most) = (rules.min_agreement_pct, rules.max_agreement_pct);
        if agreement < least.value() || agreement > most.value() {
            found.push(format!("the models agree by {agreement:.2} %, {least} to {most} % is allowed"));
        }
        let most = rules.max_hard_disagreement_pct;
        let (beyond, allowed) = match on_bound {
            OnBound::Holds => (most.is_exceeded_by(self.hard_disagreements, self.events), "at most"),
            OnBound::Fails => (hard >= most.value(), "less than"),
        };
        if beyond {
            found.push(format!(
                "{hard:.2} % of the events hold both BUY and SELL, {allowed} {most} % is allowed"
            ));
        }
        found
    }
}

/// The votes of one event's active models, by action code.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ballot([u32; 3]);

impl Ballot {
    pub(super) fn cast(&mut self, action: Action) {
        self.0[usize::from(action.code())] += 1;
    }
}

/// Collects [`Ensemble`].
#[derive(Debug, Default)]
pub(super) struct Votes {
    events: u64,
    hard: u64,
    /// Sum of the largest votes, by the number of votes in the event.
    largest: BTreeMap<u32, u64>,
}

impl Votes {
    /// Takes the votes of one event.
    pub(super) fn observe(&mut self, Ballot(votes): Ballot) {
        let all: u32 = votes.iter().sum();
        if all < 2 {
            return;
        }
        let [buy, sell, hold] = votes;
        self.events += 1;
        self.hard += u64::from(buy > 0 && sell > 0);
        *self.largest.entry(all).or_default() += u64::from(buy.max(sell).max(hold));
    }

    /// Mean share of the largest vote, in percent. A sum of rounded shares would be beyond a bound it is exactly on, so they
    /// are brought to one denominator and divided once; that fails only with too many different numbers of votes.
    fn agreement_pct(&self) -> Option<f64> {
        let exact = || {
            let denominator = self.largest.keys().try_fold(1_u128, |multiple, &all| {
                (multiple / gcd(multiple, all.into())).checked_mul(all.into())
            })?;
            let sum = self.largest.iter().try_fold(0_u128, |sum, (&all, &largest)| {
                sum.checked_add(u128::from(largest).checked_mul(denominator / u128::from(all))?)
            })?;
            Some(sum.checked_mul(100)? as f64 / denominator.checked_mul(self.events.into())? as f64)
        };
        let rounded = || {
            let shares = self.largest.iter().map(|(&all, &largest)| largest as f64 / f64::from(all));
            shares.sum::<f64>() * 100.0 / self.events as f64
        };
        (self.events > 0).then(|| exact().unwrap_or_else(rounded))
    }

    pub(super) fn figures(&self) -> Ensemble {
        let hard = || self.hard as f64 * 100.0 / self.events as f64;
        Ensemble {
            events: self.events,
            agreement_pct: self.agreement_pct(),
            hard_disagreement_pct: (self.events > 0).then(hard),
            hard_disagreements: self.hard,
        }
    }
}

fn gcd(left: u128, right: u128) -> u128 {
    if right == 0 { left } else { gcd(right, left % right) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Action::{Buy, Hold, Sell};

    #[test]
    fn a_share_is_of_the_models_that_voted() {
        let mut votes = Votes::default();
        for actions in [&[Buy, Buy, Sell, Hold][..], &[Hold, Hold], &[Buy], &[], &[Sell, Hold]] {
            let mut ballot = Ballot::default();
            actions.iter().for_each(|&action| ballot.cast(action));
            votes.observe(ballot);
        }
        let figures = votes.figures();
        assert_eq!((figures.events, figures.hard_disagreements), (3, 1));
        assert_eq!(figures.agreement_pct, Some(200.0 / 3.0));
        assert_eq!(figures.hard_disagreement_pct, Some(100.0 / 3.0));
        assert_eq!(Votes::default().figures(), Ensemble::default());
    }

    /// 4 of 5 in every event is 80 %, not 80.00000000000006 %.
    #[test]
    fn what_is_exactly_on_a_bound_stays_there() {
        let of = |groups: &[(&[Action], usize)]| {
            let mut votes = Votes::default();
            for (actions, count) in groups {
                for _ in 0..*count {
                    let mut ballot = Ballot::default();
                    actions.iter().for_each(|&action| ballot.cast(action));
                    votes.observe(ballot);
                }
            }
            votes.figures().agreement_pct
        };
        let four_of_five = [Buy, Buy, Buy, Buy, Hold];
        for count in [1, 3, 200, 2000] {
            assert_eq!(of(&[(&four_of_five, count)]), Some(80.0), "{count}");
        }
        let (two_of_three, all) = ([Sell, Sell, Hold], [Sell, Sell]);
        assert_eq!(of(&[(&two_of_three, 300), (&all, 200)]), Some(80.0));
        assert!(of(&[(&four_of_five, 2000), (&all, 1)]) > Some(80.0));
    }
}
