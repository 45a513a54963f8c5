//! What a configuration may say, and where an engine of it keeps what.

use core::alloc::Layout;
use core::ffi::{CStr, c_char};

use qsc_kernel::Model;
use qsc_kernel::ensemble::{ConfidenceRule, Degeneracy, Feature, Mode, Multipliers, Ppm, VoteRules};
use qsc_kernel::guard::FingerprintLayout;
use qsc_kernel::guard::input::Missing;
use qsc_kernel::model::DecisionRule;

use crate::codes::{
    confidence, degeneracy, missing, mode, qsc_confidence, qsc_degeneracy, qsc_missing, qsc_mode,
};
use crate::memory::{Tagged, get, many, one};
use crate::model::{qsc_model, unaligned};
use crate::{QSC_ABI_VERSION, qsc_status};

/// Members an engine may have.
pub const QSC_MAX_MEMBERS: usize = 16;

/// Features a vector may have: members name them by 16-bit numbers.
const MAX_FEATURES: usize = 1 << 16;

/// A model in the ensemble. Start from `= {0}`: it votes, rejects NaN, and is as confident as its largest probability.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct qsc_member {
    /// The model; null is one that could not be loaded: always `QSC_INACTIVE_MODEL_NOT_LOADED`, while the others vote.
    pub model: *const qsc_model,
    /// Where each of the model's features is in the vector, in row order; null binds them by name.
    pub indices: *const u16,
    /// The model's number of features; 0 with null.
    pub n_indices: usize,
    /// Weight in parts per million, 1 to 1 000 000.
    pub weight_ppm: u32,
    /// Whether it votes.
    pub mode: qsc_mode,
    /// What it does with NaN.
    pub missing: qsc_missing,
    /// How probabilities become a confidence.
    pub confidence: qsc_confidence,
    /// Must be zero.
    pub reserved: [u64; 4],
}

/// An engine's configuration. Start from `QSC_ENGINE_CONFIG_STANDARD`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct qsc_engine_config {
    /// `QSC_ABI_VERSION` of the header the caller was compiled with.
    pub abi_version: u32,
    /// What the degeneracy windows do.
    pub degeneracy: qsc_degeneracy,
    /// Names of the features, `[n_features]`, each ending in NUL, in the order of the vector.
    pub feature_names: *const *const c_char,
    /// Features of the vector, 1 to 65 536.
    pub n_features: usize,
    /// The members, `[n_members]`.
    pub members: *const qsc_member,
    /// 1 to `QSC_MAX_MEMBERS`.
    pub n_members: usize,
    /// The confidence of a decision is at most this, 0 to 1.
    pub max_confidence: f32,
    /// Factor on the confidence when all active members agree; 0 or more.
    pub unanimous: f32,
    /// When at least three quarters do.
    pub strong: f32,
    /// When at least half do.
    pub split: f32,
    /// When fewer do.
    pub weak: f32,
    /// Must be zero.
    pub reserved_word: u32,
    /// Must be zero.
    pub reserved: [u64; 4],
}

/// A checked configuration, and the offsets of an engine's parts in its memory.
pub(crate) struct Plan<'a> {
    names_of_features: &'a [*const c_char],
    table: &'a [qsc_member],
    pub(crate) rules: VoteRules,
    pub(crate) degeneracy: Degeneracy,
    pub(crate) features: usize,
    pub(crate) names: usize,
    pub(crate) names_bytes: usize,
    pub(crate) indices: usize,
    pub(crate) n_indices: usize,
    pub(crate) scratch: usize,
    pub(crate) scratch_bytes: usize,
}

/// A member's configuration, checked.
pub(crate) struct Checked<'a> {
    pub(crate) model: Option<&'a Model<'static>>,
    indices: Option<&'a [u16]>,
    pub(crate) weight: Ppm,
    pub(crate) mode: Mode,
    pub(crate) missing: Missing,
    pub(crate) confidence: ConfidenceRule,
}

impl<'a> Plan<'a> {
    /// Checks a configuration.
    ///
    /// # Safety
    /// `config` is null or valid, with everything it points to, during `'a`.
    pub(crate) unsafe fn of(config: *const qsc_engine_config) -> Result<Self, qsc_status> {
        // SAFETY: the caller's promise.
        let config = unsafe { one::<'a>(config) }?;
        if config.abi_version != QSC_ABI_VERSION {
            return Err(qsc_status::Abi);
        }
        if config.reserved_word != 0 || config.reserved != [0; 4] {
            return Err(qsc_status::Argument);
        }
        if !(1..=MAX_FEATURES).contains(&config.n_features) {
            return Err(qsc_status::Argument);
        }
        if !(1..=QSC_MAX_MEMBERS).contains(&config.n_members) {
            return Err(qsc_status::Members);
        }
        // SAFETY: the caller's promise reaches to what the configuration points to.
        let names = unsafe { many::<'a>(config.feature_names, config.n_features) }?;
        // SAFETY: likewise.
        let table = unsafe { many::<'a>(config.members, config.n_members) }?;
        for &name in names {
            if name.is_null() {
                return Err(qsc_status::Null);
            }
            // SAFETY: not null; the caller promises a NUL at its end.
            let text = unsafe { CStr::from_ptr::<'a>(name) };
            text.to_str().map_err(|_| qsc_status::Text)?;
        }
        let mut plan = Self {
            names_of_features: names,
            table,
            rules: rules(config)?,
            degeneracy: degeneracy(config.degeneracy)?,
            features: 0,
            names: 0,
            names_bytes: 0,
            indices: 0,
            n_indices: 0,
            scratch: 0,
            scratch_bytes: 0,
        };
        plan.lay_out().ok_or(qsc_status::Argument)??;
        Ok(plan)
    }

    /// Puts one part behind the other; `None` if they are more than memory has.
    fn lay_out(&mut self) -> Option<Result<(), qsc_status>> {
        let (mut row_bytes, mut model_bytes) = (0_usize, 0_usize);
        for member in self.members() {
            let member = match member {
                Ok(member) => member,
                Err(status) => return Some(Err(status)),
            };
            let n_indices = member.n_indices();
            self.n_indices = self.n_indices.checked_add(n_indices)?;
            row_bytes = row_bytes.max(n_indices.checked_mul(size_of::<f32>())?);
            model_bytes = model_bytes.max(member.model.map_or(0, Model::scratch_bytes));
        }
        self.names_bytes = FingerprintLayout::<&mut [u8]>::bytes(self.names())?;
        let row_bytes = row_bytes.checked_next_multiple_of(qsc_kernel::scratch::ALIGNMENT)?;
        self.scratch_bytes = unaligned(row_bytes.checked_add(model_bytes)?);

        let engine = Layout::new::<Tagged<super::Engine>>();
        let (engine, features) = engine.extend(Layout::array::<Feature>(self.n_features()).ok()?).ok()?;
        let (engine, indices) = engine.extend(Layout::array::<u16>(self.n_indices).ok()?).ok()?;
        let (engine, names) = engine.extend(Layout::array::<u8>(self.names_bytes).ok()?).ok()?;
        let (_, scratch) = engine.extend(Layout::array::<u8>(self.scratch_bytes).ok()?).ok()?;
        (self.features, self.indices, self.names, self.scratch) = (features, indices, names, scratch);
        Some(Ok(()))
    }

    /// Bytes of the whole engine.
    pub(crate) const fn bytes(&self) -> usize {
        // `lay_out` has seen that they fit.
        self.scratch.saturating_add(self.scratch_bytes)
    }

    pub(crate) const fn n_features(&self) -> usize {
        self.names_of_features.len()
    }

    /// The names of the features.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.names_of_features.iter().map(|&name| {
            // SAFETY: `of` has seen that no name is null, and was promised a NUL at the end of each.
            let text = unsafe { CStr::from_ptr::<'a>(name) };
            // Every name was UTF-8 when `of` looked.
            text.to_str().unwrap_or_default()
        })
    }

    /// The members, in order.
    pub(crate) fn members(&self) -> impl Iterator<Item = Result<Checked<'a>, qsc_status>> + use<'a> {
        // SAFETY: `of` was promised that everything in the table is null or valid.
        self.table.iter().map(|member| unsafe { Checked::of(member) })
    }
}

fn rules(config: &qsc_engine_config) -> Result<VoteRules, qsc_status> {
    let &qsc_engine_config { max_confidence, unanimous, strong, split, weak, .. } = config;
    let multipliers = Multipliers { unanimous, strong, split, weak };
    VoteRules::new(max_confidence, multipliers).map_err(|_| qsc_status::Argument)
}

impl<'a> Checked<'a> {
    /// # Safety
    /// The pointers of `member` are null or valid during `'a`.
    unsafe fn of(member: &'a qsc_member) -> Result<Self, qsc_status> {
        let model = if member.model.is_null() {
            None
        } else {
            // SAFETY: the caller's promise.
            Some(unsafe { get::<'a, qsc_model>(member.model) }?)
        };
        if model.is_some_and(|model| model.decision() == DecisionRule::None) {
            return Err(qsc_status::CannotVote);
        }
        if member.reserved != [0; 4] || (member.indices.is_null() && member.n_indices != 0) {
            return Err(qsc_status::Argument);
        }
        let indices = match model {
            Some(model) if !member.indices.is_null() => {
                if member.n_indices != model.n_features() {
                    return Err(qsc_status::Length);
                }
                // SAFETY: the caller's promise.
                Some(unsafe { many::<'a>(member.indices, member.n_indices) }?)
            }
            _ => None,
        };
        Ok(Self {
            model,
            indices,
            weight: Ppm::new(member.weight_ppm).ok_or(qsc_status::Argument)?,
            mode: mode(member.mode)?,
            missing: missing(member.missing)?,
            confidence: confidence(member.confidence)?,
        })
    }

    /// Features of its step; 0 without a model.
    pub(crate) fn n_indices(&self) -> usize {
        self.model.map_or(0, Model::n_features)
    }

    /// Writes where in the vector each feature of its step is.
    pub(crate) fn bind(&self, plan: &Plan<'_>, places: &mut [u16]) -> Result<(), qsc_status> {
        let Some(model) = self.model else { return Ok(()) };
        if let Some(indices) = self.indices {
            for (place, &index) in places.iter_mut().zip(indices) {
                if usize::from(index) >= plan.n_features() {
                    return Err(qsc_status::Index);
                }
                *place = index;
            }
            return Ok(());
        }
        for (place, wanted) in places.iter_mut().zip(model.feature_names()) {
            let mut found = plan.names().enumerate().filter(|&(_, name)| name == wanted);
            let (at, _) = found.next().ok_or(qsc_status::UnknownFeature)?;
            if found.next().is_some() {
                return Err(qsc_status::AmbiguousFeature);
            }
            *place = u16::try_from(at).map_err(|_| qsc_status::Argument)?;
        }
        Ok(())
    }
}

const _: () =
    assert!(align_of::<Tagged<super::Engine>>() <= align_of::<u64>(), "malloc's alignment is enough");
