//! How far the models of one event agree.

use qsc_kernel::Action;
use serde::Serialize;

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
    /// Sum of the shares.
    shares: f64,
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
        self.shares += f64::from(buy.max(sell).max(hold)) / f64::from(all);
    }

    pub(super) fn figures(&self) -> Ensemble {
        let percent = |sum: f64| (self.events > 0).then(|| sum * 100.0 / self.events as f64);
        Ensemble {
            events: self.events,
            agreement_pct: percent(self.shares),
            hard_disagreement_pct: percent(self.hard as f64),
            hard_disagreements: self.hard,
        }
    }
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
}
