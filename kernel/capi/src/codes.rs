//! The numbers of the kernel's small enums in C, and the names telemetry knows them by.
//!
//! Zero is what a caller's `= {0}` means: the standard rule going in, and nothing at all coming out.

use qsc_kernel::ensemble::{ConfidenceRule, Consensus, Degeneracy, Mode};
use qsc_kernel::guard::input::Missing;
use qsc_kernel::{Action, Inactive};

use crate::{qsc_status, qsc_str};

/// What to do: `QSC_ACTION_…`.
pub type qsc_action = u32;
/// No action: there is no decision or prediction.
pub const QSC_ACTION_NONE: qsc_action = 0;
/// Buy.
pub const QSC_ACTION_BUY: qsc_action = 1;
/// Sell.
pub const QSC_ACTION_SELL: qsc_action = 2;
/// Hold.
pub const QSC_ACTION_HOLD: qsc_action = 3;

pub(crate) const fn action(action: Action) -> qsc_action {
    match action {
        Action::Buy => QSC_ACTION_BUY,
        Action::Sell => QSC_ACTION_SELL,
        Action::Hold => QSC_ACTION_HOLD,
    }
}

/// Why a member has no vote: `QSC_INACTIVE_…`.
pub type qsc_inactive = u32;
/// It has one; as `refused`: the event is refused to nobody.
pub const QSC_INACTIVE_NONE: qsc_inactive = 0;
/// The model erred on its way.
pub const QSC_INACTIVE_EXCEPTION_IN_PREDICT: qsc_inactive = 1;
/// A feature is NaN or no number.
pub const QSC_INACTIVE_NAN_INPUT: qsc_inactive = 2;
/// A feature is infinite.
pub const QSC_INACTIVE_INF_INPUT: qsc_inactive = 3;
/// The row has not the length the model needs.
pub const QSC_INACTIVE_FEATURE_DIM_MISMATCH: qsc_inactive = 4;
/// A feature the model needs is absent.
pub const QSC_INACTIVE_MISSING_FEATURE: qsc_inactive = 5;
/// The window of a sequence model is not full yet.
pub const QSC_INACTIVE_INSUFFICIENT_HISTORY: qsc_inactive = 6;
/// A one-probability model answered between its two thresholds.
pub const QSC_INACTIVE_DEAD_ZONE: qsc_inactive = 7;
/// The model keeps giving one answer.
pub const QSC_INACTIVE_DEGENERATE_OUTPUT: qsc_inactive = 8;
/// The model's output is NaN or infinite, or no probability where it must be one.
pub const QSC_INACTIVE_NON_FINITE_OUTPUT: qsc_inactive = 9;
/// The member has no model.
pub const QSC_INACTIVE_MODEL_NOT_LOADED: qsc_inactive = 10;
/// The member only shadows.
pub const QSC_INACTIVE_SHADOW_MODE: qsc_inactive = 11;
/// The event is older than allowed: the one reason a caller may give as `refused`.
pub const QSC_INACTIVE_STALE_INPUT: qsc_inactive = 12;
/// Telemetry of other producers; never given here.
pub const QSC_INACTIVE_FALLBACK_RULES: qsc_inactive = 13;

pub(crate) const fn inactive(reason: Inactive) -> qsc_inactive {
    match reason {
        Inactive::ExceptionInPredict => QSC_INACTIVE_EXCEPTION_IN_PREDICT,
        Inactive::NanInput => QSC_INACTIVE_NAN_INPUT,
        Inactive::InfInput => QSC_INACTIVE_INF_INPUT,
        Inactive::FeatureDimMismatch => QSC_INACTIVE_FEATURE_DIM_MISMATCH,
        Inactive::MissingFeature => QSC_INACTIVE_MISSING_FEATURE,
        Inactive::InsufficientHistory => QSC_INACTIVE_INSUFFICIENT_HISTORY,
        Inactive::DeadZone => QSC_INACTIVE_DEAD_ZONE,
        Inactive::DegenerateOutput => QSC_INACTIVE_DEGENERATE_OUTPUT,
        Inactive::NonFiniteOutput => QSC_INACTIVE_NON_FINITE_OUTPUT,
        Inactive::ModelNotLoaded => QSC_INACTIVE_MODEL_NOT_LOADED,
        Inactive::ShadowMode => QSC_INACTIVE_SHADOW_MODE,
        Inactive::StaleInput => QSC_INACTIVE_STALE_INPUT,
        Inactive::FallbackRules => QSC_INACTIVE_FALLBACK_RULES,
    }
}

fn inactive_of(code: qsc_inactive) -> Option<Inactive> {
    Inactive::ALL.into_iter().find(|&reason| inactive(reason) == code)
}

/// Why an event is refused to every member, if it is: all other reasons are found, not given.
pub(crate) const fn refusal(code: qsc_inactive) -> Result<Option<Inactive>, qsc_status> {
    match code {
        QSC_INACTIVE_NONE => Ok(None),
        QSC_INACTIVE_STALE_INPUT => Ok(Some(Inactive::StaleInput)),
        _ => Err(qsc_status::Argument),
    }
}

/// How far the active members agree: `QSC_CONSENSUS_…`.
pub type qsc_consensus = u32;
/// There is no side to agree on.
pub const QSC_CONSENSUS_NONE: qsc_consensus = 0;
/// All of them.
pub const QSC_CONSENSUS_UNANIMOUS: qsc_consensus = 1;
/// At least three quarters.
pub const QSC_CONSENSUS_STRONG: qsc_consensus = 2;
/// At least half.
pub const QSC_CONSENSUS_SPLIT: qsc_consensus = 3;
/// Fewer.
pub const QSC_CONSENSUS_WEAK: qsc_consensus = 4;

pub(crate) const fn consensus(consensus: Consensus) -> qsc_consensus {
    match consensus {
        Consensus::Unanimous => QSC_CONSENSUS_UNANIMOUS,
        Consensus::Strong => QSC_CONSENSUS_STRONG,
        Consensus::Split => QSC_CONSENSUS_SPLIT,
        Consensus::Weak => QSC_CONSENSUS_WEAK,
    }
}

/// Whether a member votes: `QSC_MODE_…`.
pub type qsc_mode = u32;
/// It votes.
pub const QSC_MODE_VOTE: qsc_mode = 0;
/// It is asked and reported, but never votes.
pub const QSC_MODE_SHADOW: qsc_mode = 1;

pub(crate) const fn mode(code: qsc_mode) -> Result<Mode, qsc_status> {
    match code {
        QSC_MODE_VOTE => Ok(Mode::Vote),
        QSC_MODE_SHADOW => Ok(Mode::Shadow),
        _ => Err(qsc_status::Argument),
    }
}

/// What a member does with NaN: `QSC_MISSING_…`.
pub type qsc_missing = u32;
/// NaN makes the member inactive.
pub const QSC_MISSING_REJECT: qsc_missing = 0;
/// NaN takes the tree's own missing-value branch.
pub const QSC_MISSING_NATIVE: qsc_missing = 1;

pub(crate) const fn missing(code: qsc_missing) -> Result<Missing, qsc_status> {
    match code {
        QSC_MISSING_REJECT => Ok(Missing::Reject),
        QSC_MISSING_NATIVE => Ok(Missing::Native),
        _ => Err(qsc_status::Argument),
    }
}

/// How probabilities become a confidence: `QSC_CONFIDENCE_…`.
pub type qsc_confidence = u32;
/// The largest probability.
pub const QSC_CONFIDENCE_MAX: qsc_confidence = 0;
/// 0.50 + min(p1 − p2, 1) · 0.45 of the two largest.
pub const QSC_CONFIDENCE_MARGIN: qsc_confidence = 1;

pub(crate) const fn confidence(code: qsc_confidence) -> Result<ConfidenceRule, qsc_status> {
    match code {
        QSC_CONFIDENCE_MAX => Ok(ConfidenceRule::Max),
        QSC_CONFIDENCE_MARGIN => Ok(ConfidenceRule::Margin),
        _ => Err(qsc_status::Argument),
    }
}

/// What the degeneracy windows do: `QSC_DEGENERACY_…`.
pub type qsc_degeneracy = u32;
/// A degenerate model is inactive.
pub const QSC_DEGENERACY_ENFORCE: qsc_degeneracy = 0;
/// A degenerate model is reported and votes.
pub const QSC_DEGENERACY_OBSERVE: qsc_degeneracy = 1;
/// Nothing is watched.
pub const QSC_DEGENERACY_OFF: qsc_degeneracy = 2;

pub(crate) const fn degeneracy(code: qsc_degeneracy) -> Result<Degeneracy, qsc_status> {
    match code {
        QSC_DEGENERACY_ENFORCE => Ok(Degeneracy::Enforce),
        QSC_DEGENERACY_OBSERVE => Ok(Degeneracy::Observe),
        QSC_DEGENERACY_OFF => Ok(Degeneracy::Off),
        _ => Err(qsc_status::Argument),
    }
}

/// The name of an action on the wire: `BUY`, `SELL`, `HOLD`; empty for any other number.
#[unsafe(no_mangle)]
pub extern "C" fn qsc_action_name(code: qsc_action) -> qsc_str {
    let known = Action::ALL.into_iter().find(|&known| action(known) == code);
    qsc_str::new(known.map_or("", Action::wire_name))
}

/// The name of a reason on the wire, e.g. `nan_input`; empty for any other number.
#[unsafe(no_mangle)]
pub extern "C" fn qsc_inactive_name(code: qsc_inactive) -> qsc_str {
    qsc_str::new(inactive_of(code).map_or("", Inactive::wire_name))
}

/// The name of a consensus on the wire, e.g. `strong`; empty for any other number.
#[unsafe(no_mangle)]
pub extern "C" fn qsc_consensus_name(code: qsc_consensus) -> qsc_str {
    let known = Consensus::ALL.into_iter().find(|&known| consensus(known) == code);
    qsc_str::new(known.map_or("", Consensus::wire_name))
}
