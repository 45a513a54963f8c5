//! One event: values in, a decision out.

use qsc_kernel::Scratch;
use qsc_kernel::ensemble::{Decided, Decision, Feature, Outcome, Prediction, Window};

use super::windows::{Lent, qsc_windows};
use super::{Engine, QSC_MAX_MEMBERS, qsc_engine};
use crate::codes::{
    QSC_ACTION_NONE, QSC_CONSENSUS_NONE, QSC_INACTIVE_NONE, action, consensus, inactive, qsc_action,
    qsc_consensus, qsc_inactive, refusal,
};
use crate::memory::{check, get_mut, many, put};
use crate::qsc_status;
use crate::status::status;

/// A state of `qsc_engine_decide`: the value is a number, NaN a missing one.
pub const QSC_FEATURE_NUMBER: u8 = 0;
/// The event lacks the feature.
pub const QSC_FEATURE_ABSENT: u8 = 1;
/// The event has something that is no number.
pub const QSC_FEATURE_NOT_A_NUMBER: u8 = 2;

/// What a decision came to: `QSC_VERDICT_…`.
pub type qsc_verdict = u32;
/// Nothing was decided: the call failed.
pub const QSC_VERDICT_NONE: qsc_verdict = 0;
/// One action has the largest weight.
pub const QSC_VERDICT_SIDE: qsc_verdict = 1;
/// Two or more actions share the largest weight exactly: no side.
pub const QSC_VERDICT_TIE: qsc_verdict = 2;
/// No member is active: no side.
pub const QSC_VERDICT_NO_ACTIVE_MODEL: qsc_verdict = 3;

/// What one member came to.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct qsc_outcome {
    /// What it predicted; `QSC_ACTION_NONE` if it did not.
    pub action: qsc_action,
    /// How sure it is, 0 to 1; NaN without a prediction.
    pub confidence: f32,
    /// Why it has no vote; `QSC_INACTIVE_NONE` if it has one.
    pub inactive: qsc_inactive,
    /// 1 if the degeneracy window would have thrown it out (only when observing), also one that only shadows.
    pub degenerate: u32,
    /// Its weight in this vote, renormalized to 1 over the active members; 0 if it is inactive.
    pub effective_weight: f64,
    /// Zero.
    pub reserved: [u64; 2],
}

/// What an event came to. All zero but for NaN is no decision, which is also what a failed call leaves.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct qsc_decision {
    /// Whether there is a side.
    pub verdict: qsc_verdict,
    /// The side; `QSC_ACTION_NONE` if there is none.
    pub action: qsc_action,
    /// Confidence in it, 0 to 1; NaN if there is none.
    pub confidence: f32,
    /// How far the active members agree; `QSC_CONSENSUS_NONE` without a side.
    pub consensus: qsc_consensus,
    /// Active members that chose the side.
    pub chose: u32,
    /// Active members.
    pub active: u32,
    /// Members, and outcomes below.
    pub n_members: u32,
    /// The first four bytes of the feature vector's fingerprint.
    pub fingerprint: [u8; 4],
    /// Zero.
    pub reserved: [u64; 4],
    /// What each member came to, in the order of the configuration.
    pub outcomes: [qsc_outcome; QSC_MAX_MEMBERS],
}

const NO_OUTCOME: qsc_outcome = qsc_outcome {
    action: QSC_ACTION_NONE,
    confidence: f32::NAN,
    inactive: QSC_INACTIVE_NONE,
    degenerate: 0,
    effective_weight: 0.0,
    reserved: [0; 2],
};

const NO_DECISION: qsc_decision = qsc_decision {
    verdict: QSC_VERDICT_NONE,
    action: QSC_ACTION_NONE,
    confidence: f32::NAN,
    consensus: QSC_CONSENSUS_NONE,
    chose: 0,
    active: 0,
    n_members: 0,
    fingerprint: [0; 4],
    reserved: [0; 4],
    outcomes: [NO_OUTCOME; QSC_MAX_MEMBERS],
};

/// Decides one event: binds, validates, predicts, guards and votes.
///
/// `values` is the whole vector, `[n_features]`. `states` says of each value whether it is one, `QSC_FEATURE_…`; null: all are numbers.
/// `windows` are those of the event's symbol, and null for an engine without sequence models; those of another engine are refused only
/// if their shapes differ. An event that must not be decided because it is stale is `refused` as `QSC_INACTIVE_STALE_INPUT`: no member
/// sees it, but the windows go on; a history can be replayed so. Other reasons are found here, not given.
///
/// A sick model is an outcome, not an error. After an error nothing has changed, and `*decision` says that nothing was decided.
///
/// # Safety
/// Pointers are null or valid for the length given; engine, windows and decision are this call's alone.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qsc_engine_decide(
    engine: *mut qsc_engine,
    values: *const f32,
    states: *const u8,
    n_features: usize,
    windows: *mut qsc_windows,
    refused: qsc_inactive,
    decision: *mut qsc_decision,
) -> qsc_status {
    status(|| {
        // Nothing may move on for a decision that cannot be told.
        check(decision, 1)?;
        // SAFETY: the caller's pointers.
        let told = unsafe { decide(engine, values, states, n_features, windows, refused) };
        // SAFETY: the caller's pointer for the result.
        unsafe { put(decision, told.unwrap_or(NO_DECISION)) }?;
        told.map(|_| ())
    })
}

/// # Safety
/// As [`qsc_engine_decide`].
unsafe fn decide(
    engine: *mut qsc_engine,
    values: *const f32,
    states: *const u8,
    n_features: usize,
    windows: *mut qsc_windows,
    refused: qsc_inactive,
) -> Result<qsc_decision, qsc_status> {
    // SAFETY: the caller's handle, this call's alone.
    let engine = unsafe { get_mut(engine) }?;
    let windows: &mut [Lent] = if windows.is_null() {
        &mut []
    } else {
        // SAFETY: the caller's handle, this call's alone.
        unsafe { get_mut(windows) }?.windows
    };
    if !windows.iter().map(Window::shape).eq(engine.pipeline.windows()) {
        return Err(qsc_status::Windows);
    }
    let refused = refusal(refused)?;
    // SAFETY: the caller's array.
    let values = unsafe { many(values, n_features) }?;
    let states = if states.is_null() {
        None
    } else {
        // SAFETY: the caller's array.
        Some(unsafe { many(states, n_features) }?)
    };
    engine.read(values, states)?;
    let Engine { pipeline, features, scratch } = engine;
    let decided = pipeline.decide(features, windows, refused, Scratch::new(scratch));
    Ok(told(&decided))
}

impl Engine {
    /// Takes the values of an event.
    fn read(&mut self, values: &[f32], states: Option<&[u8]>) -> Result<(), qsc_status> {
        if values.len() != self.features.len() {
            return Err(qsc_status::Length);
        }
        let Some(states) = states else {
            for (feature, &value) in self.features.iter_mut().zip(values) {
                *feature = Feature::Number(value);
            }
            return Ok(());
        };
        for (feature, (&value, &state)) in self.features.iter_mut().zip(values.iter().zip(states)) {
            *feature = match state {
                QSC_FEATURE_NUMBER => Feature::Number(value),
                QSC_FEATURE_ABSENT => Feature::Absent,
                QSC_FEATURE_NOT_A_NUMBER => Feature::NotANumber,
                _ => return Err(qsc_status::Argument),
            };
        }
        Ok(())
    }
}

/// The kernel's decision as C has it.
fn told(decided: &Decided<QSC_MAX_MEMBERS>) -> qsc_decision {
    let round = &decided.round;
    let mut decision = NO_DECISION;
    let told = decision.outcomes.iter_mut().zip(round.outcomes.iter().zip(&round.effective_weights));
    for (place, (outcome, &effective_weight)) in told {
        *place = qsc_outcome { effective_weight, ..told_outcome(outcome) };
    }
    decision.n_members = u32::try_from(round.outcomes.len()).unwrap_or(0);
    decision.fingerprint = decided.fingerprint.0;
    match round.vote {
        Ok(Decision::Side(side)) => {
            decision.verdict = QSC_VERDICT_SIDE;
            decision.action = action(side.prediction.action());
            decision.confidence = side.prediction.confidence();
            decision.consensus = consensus(side.consensus);
            (decision.chose, decision.active) = (side.chose, side.active);
        }
        Ok(Decision::Tie { active }) => (decision.verdict, decision.active) = (QSC_VERDICT_TIE, active),
        Err(qsc_kernel::NoActiveModel) => decision.verdict = QSC_VERDICT_NO_ACTIVE_MODEL,
    }
    decision
}

fn told_outcome(outcome: &Outcome) -> qsc_outcome {
    let predicted = |prediction: Prediction| qsc_outcome {
        action: action(prediction.action()),
        confidence: prediction.confidence(),
        ..NO_OUTCOME
    };
    match *outcome {
        Outcome::Active { prediction, degenerate } => {
            qsc_outcome { degenerate: degenerate.into(), ..predicted(prediction) }
        }
        Outcome::Inactive { reason, prediction, degenerate } => qsc_outcome {
            inactive: inactive(reason),
            degenerate: degenerate.into(),
            ..prediction.map_or(NO_OUTCOME, predicted)
        },
    }
}
