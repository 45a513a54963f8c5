//! The vote against its definition: random ensembles, counted once more in whole numbers by the words of the contract.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::cell::RefCell;
use std::collections::BTreeMap;

use proptest::prelude::*;
use qsc_kernel::ensemble::{
    ConfidenceRule, Decision, Degeneracy, Ensemble, Input, Member, Mode, Multipliers, NoActiveModel, Outcome,
    Ppm, Predict, VoteRules,
};
use qsc_kernel::{Action, Inactive, Prediction, Scratch};
use qsc_tests::property;

const CASES: u32 = 20_000;
const MOST: usize = 16;

/// A model that always says the same.
#[derive(Clone, Copy, Debug)]
struct Says(Result<Prediction, Inactive>);

impl Predict for Says {
    fn row_len(&self) -> usize {
        1
    }

    fn n_features(&self) -> usize {
        1
    }

    fn predict(&self, _: &[f32], _: ConfidenceRule, _: Scratch<'_>) -> Result<Prediction, Inactive> {
        self.0
    }
}

/// One member: what it says, its weight, whether it only watches, whether its input is there.
#[derive(Clone, Copy, Debug)]
struct Voter {
    says: Result<(Action, f32), Inactive>,
    weight: u32,
    shadow: bool,
    given: bool,
}

impl Voter {
    /// What it adds to the vote.
    fn vote(&self) -> Option<(Action, f32)> {
        self.says.ok().filter(|_| self.given && !self.shadow)
    }
}

fn voter() -> impl Strategy<Value = Voter> {
    let action = prop_oneof![Just(Action::Buy), Just(Action::Sell), Just(Action::Hold)];
    let confidence = prop_oneof![0.0..=1.0_f32, Just(0.0), Just(1.0), Just(0.5)];
    let says = prop_oneof![
        6 => (action, confidence).prop_map(Ok),
        1 => Just(Err(Inactive::DeadZone)),
        1 => Just(Err(Inactive::NonFiniteOutput)),
    ];
    // Few different weights make ties, any weight makes remainders.
    let weight = prop_oneof![Just(250_000), Just(500_000), Just(1), Just(1_000_000), 1..=1_000_000_u32];
    (says, weight, prop::bool::weighted(0.1), prop::bool::weighted(0.9))
        .prop_map(|(says, weight, shadow, given)| Voter { says, weight, shadow, given })
}

fn rules() -> impl Strategy<Value = VoteRules> {
    let factor = || prop_oneof![Just(1.0), Just(0.0), 0.0..2.0_f32];
    (0.0..=1.0_f32, factor(), factor(), factor(), factor()).prop_map(
        |(max_confidence, unanimous, strong, split, weak)| {
            VoteRules::new(max_confidence, Multipliers { unanimous, strong, split, weak }).unwrap()
        },
    )
}

#[test]
fn a_round_is_counted_as_the_contract_says() {
    let seen = RefCell::new(BTreeMap::<&str, u32>::new());
    let strategy = (prop::collection::vec(voter(), 0..=MOST), rules());
    property::check(CASES, &strategy, |(voters, rules)| {
        let mut ensemble = Ensemble::<Says, MOST>::new(rules, Degeneracy::Off);
        for voter in &voters {
            let says = voter.says.map(|(action, confidence)| Prediction::new(action, confidence).unwrap());
            let mode = if voter.shadow { Mode::Shadow } else { Mode::Vote };
            ensemble
                .push(Member::new(Some(Says(says)), Ppm::new(voter.weight).unwrap()).with_mode(mode))
                .unwrap();
        }
        let inputs: Vec<Input<'_>> =
            voters
                .iter()
                .map(|voter| {
                    if voter.given {
                        Input::Row(&[0.0])
                    } else {
                        Input::Unavailable(Inactive::MissingFeature)
                    }
                })
                .collect();
        let round = ensemble.decide(&inputs, Scratch::new(&mut []));

        let votes: Vec<(Action, f32, i128)> = voters
            .iter()
            .filter_map(|voter| {
                voter.vote().map(|(action, confidence)| (action, confidence, voter.weight.into()))
            })
            .collect();
        let total: i128 = votes.iter().map(|(.., weight)| weight).sum();
        prop_assert_eq!(round.outcomes.len(), voters.len());
        prop_assert_eq!(round.outcomes.iter().filter(|outcome| outcome.is_active()).count(), votes.len());
        for ((voter, outcome), share) in voters.iter().zip(&round.outcomes).zip(&round.effective_weights) {
            let exact = voter.vote().map_or(0.0, |_| f64::from(voter.weight) / total as f64);
            prop_assert_eq!(*share, exact, "{:?}", voter);
            match outcome {
                Outcome::Active { prediction, .. } => {
                    prop_assert_eq!(voter.vote(), Some((prediction.action(), prediction.confidence())));
                }
                Outcome::Inactive { reason, .. } => {
                    let wanted = match voter.says {
                        _ if !voter.given => Inactive::MissingFeature,
                        Err(reason) => reason,
                        Ok(_) => Inactive::ShadowMode,
                    };
                    prop_assert_eq!(*reason, wanted, "{:?}", voter);
                }
            }
        }

        let pile = |action: Action| {
            votes.iter().filter(|(own, ..)| *own == action).map(|(.., weight)| weight).sum::<i128>()
        };
        let largest = Action::ALL.map(pile).into_iter().max().unwrap();
        let first: Vec<Action> = Action::ALL.into_iter().filter(|action| pile(*action) == largest).collect();
        let name = match (&round.vote, votes.len(), first.as_slice()) {
            (Err(NoActiveModel), 0, _) => "none",
            (Ok(Decision::Tie { active }), 1.., [_, _, ..]) => {
                prop_assert_eq!(*active as usize, votes.len());
                "tie"
            }
            (Ok(Decision::Side(side)), active @ 1.., &[action]) => {
                let confidences: Vec<f64> = votes
                    .iter()
                    .filter(|(own, ..)| *own == action)
                    .map(|(_, confidence, _)| f64::from(*confidence))
                    .collect();
                let chose = confidences.len();
                let (name, factor) = match () {
                    () if chose == active => ("unanimous", rules.multipliers().unanimous),
                    () if 4 * chose >= 3 * active => ("strong", rules.multipliers().strong),
                    () if 2 * chose >= active => ("split", rules.multipliers().split),
                    () => ("weak", rules.multipliers().weak),
                };
                let mean = confidences.iter().sum::<f64>() / chose as f64;
                let exact = (mean * f64::from(factor)).min(f64::from(rules.max_confidence()));
                prop_assert_eq!((side.prediction.action(), side.consensus.wire_name()), (action, name));
                prop_assert_eq!((side.chose as usize, side.active as usize), (chose, active));
                prop_assert!(side.prediction.confidence() <= rules.max_confidence());
                // Two roundings to f32 at most: of the mean, and of the product.
                prop_assert!(
                    (f64::from(side.prediction.confidence()) - exact).abs() <= 1.3e-7 * exact.abs() + 1e-12,
                    "{} is not {}",
                    side.prediction.confidence(),
                    exact
                );
                name
            }
            other => return Err(TestCaseError::fail(format!("{other:?}"))),
        };
        *seen.borrow_mut().entry(name).or_default() += 1;
        Ok(())
    });
    let seen = seen.into_inner();
    println!("{seen:?}");
    for name in ["none", "tie", "unanimous", "strong", "split", "weak"] {
        assert!(seen.get(name).copied().unwrap_or(0) >= 20, "hardly ever tried: {name}");
    }
}
