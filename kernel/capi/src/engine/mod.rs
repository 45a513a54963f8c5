//! An engine: members, their weights and guards, over one vector of named features; a decision in one call.
//!
//! | file | decides |
//! | --- | --- |
//! | [`config`] | what a configuration may say, and how much memory it takes |
//! | [`windows`] | the history of one symbol for all sequence models |
//! | [`decide`] | values in, a decision out |

pub mod config;
pub mod decide;
pub mod windows;

use core::ffi::c_void;

use qsc_kernel::ensemble::{Feature, Member, Pipeline, Ppm, PushError};
use qsc_kernel::guard::FingerprintLayout;
use qsc_kernel::{Model, Scratch};

use crate::memory::{Handle, fill, get, get_mut, many, place, put, room, vacate};
use crate::qsc_status;
use crate::status::status;

use config::Plan;
pub use config::{QSC_MAX_MEMBERS, qsc_engine_config, qsc_member};
pub use decide::{qsc_decision, qsc_outcome};

/// An ensemble with everything one decision needs. Opaque; lives in memory of the caller.
///
/// It holds copies of its models and names: only the images must stay. One thread at a time may use an engine.
pub struct qsc_engine(());

impl Handle for qsc_engine {
    type Content = Engine;
    const TAG: u64 = u64::from_le_bytes(*b"QSCengin");
}

/// What lies behind a `qsc_engine`; the slices are the rest of its memory.
pub(crate) struct Engine {
    pipeline: Pipeline<Model<'static>, &'static [u16], &'static mut [u8], QSC_MAX_MEMBERS>,
    features: &'static mut [Feature],
    scratch: &'static mut [u8],
}

/// What is to be known of an engine.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct qsc_engine_facts {
    /// Members.
    pub n_members: usize,
    /// Features of its vector.
    pub n_features: usize,
    /// Sequence models among its members: windows of each symbol.
    pub n_windows: usize,
    /// Bytes of memory `qsc_windows_init` needs; 0 without sequence models, which need no windows.
    pub windows_bytes: usize,
    /// Vectors among the last 50 that were remembered.
    pub fingerprints: usize,
    /// Different ones among them.
    pub unique_fingerprints: usize,
    /// Zero.
    pub reserved: [u64; 4],
}

/// Bytes of memory `qsc_engine_init` needs for this configuration.
///
/// # Safety
/// Pointers are null or valid, also those in `config`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qsc_engine_bytes(config: *const qsc_engine_config, bytes: *mut usize) -> qsc_status {
    status(|| {
        // SAFETY: the caller's configuration.
        let plan = unsafe { Plan::of(config) }?;
        // SAFETY: the caller's pointer for the result.
        unsafe { put(bytes, plan.bytes()) }
    })
}

/// Makes an engine in `memory`, after holding every model to its golden vectors.
///
/// The configuration, its names and model handles are not needed afterwards; the images are. After an error `*engine` is null, and an
/// engine that was in `memory` may be lost: its handle then is none any more. To replace an engine make the new one in other memory.
///
/// # Safety
/// Pointers are null or valid for the sizes given, also those in `config`; images stay where they are, unchanged, while the engine is
/// used; `memory` holds nothing of the configuration.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qsc_engine_init(
    memory: *mut c_void,
    memory_bytes: usize,
    config: *const qsc_engine_config,
    engine: *mut *mut qsc_engine,
) -> qsc_status {
    status(|| {
        // SAFETY: the caller's pointer for the result.
        unsafe { put(engine, core::ptr::null_mut()) }?;
        // SAFETY: the caller's configuration.
        let plan = unsafe { Plan::of(config) }?;
        room::<qsc_engine>(memory, memory_bytes, plan.bytes())?;
        // SAFETY: `room` has held, and the memory is the caller's to give.
        unsafe { vacate::<qsc_engine>(memory) };
        let base = memory.cast::<u8>();
        // SAFETY: `room` has held for the whole plan, whose parts lie one behind the other, each aligned; the memory is the caller's
        // to give for as long as the engine is used.
        let features = unsafe { fill::<'static>(base, plan.features, plan.n_features(), Feature::Absent) };
        // SAFETY: likewise.
        let names = unsafe { fill::<'static>(base, plan.names, plan.names_bytes, 0_u8) };
        // SAFETY: likewise.
        let indices = unsafe { fill::<'static>(base, plan.indices, plan.n_indices, 0_u16) };
        // SAFETY: likewise.
        let scratch = unsafe { fill::<'static>(base, plan.scratch, plan.scratch_bytes, 0_u8) };
        let content = assemble(&plan, features, names, indices, scratch)?;
        // SAFETY: `room` has held, and the memory is the caller's to give.
        let handle = unsafe { place(memory, content) };
        // SAFETY: the caller's pointer for the result, as above.
        unsafe { put(engine, handle) }
    })
}

fn assemble(
    plan: &Plan<'_>,
    features: &'static mut [Feature],
    names: &'static mut [u8],
    mut indices: &'static mut [u16],
    scratch: &'static mut [u8],
) -> Result<Engine, qsc_status> {
    let layout = FingerprintLayout::new(plan.names(), names).map_err(|_| qsc_status::TooSmall)?;
    let mut pipeline = Pipeline::new(plan.rules, plan.degeneracy, layout);
    let mut model_bytes = 0;
    for member in plan.members() {
        let member = member?;
        let (own, rest) = indices.split_at_mut_checked(member.n_indices()).ok_or(qsc_status::TooSmall)?;
        indices = rest;
        member.bind(plan, own)?;
        if let Some(model) = member.model {
            model.check_golden(Scratch::new(scratch))?;
            model_bytes = model_bytes.max(model.scratch_bytes());
        }
        let kernel = Member::new(member.model.cloned(), member.weight)
            .with_mode(member.mode)
            .with_missing(member.missing)
            .with_confidence(member.confidence);
        pipeline.push(kernel, &*own).map_err(|error| match error {
            PushError::Full => qsc_status::Members,
            PushError::Indices { .. } => qsc_status::Length,
        })?;
    }
    // The plan foresaw what the kernel says it needs.
    if crate::model::unaligned(pipeline.scratch_bytes(model_bytes)) > scratch.len() {
        return Err(qsc_status::TooSmall);
    }
    Ok(Engine { pipeline, features, scratch })
}

/// Fills `facts`.
///
/// # Safety
/// Pointers are null or valid; nobody decides on the engine meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qsc_engine_describe(
    engine: *const qsc_engine,
    facts: *mut qsc_engine_facts,
) -> qsc_status {
    status(|| {
        // SAFETY: the caller's handle.
        let engine = unsafe { get(engine) }?;
        let described = qsc_engine_facts {
            n_members: engine.pipeline.ensemble().members().len(),
            n_features: engine.features.len(),
            n_windows: engine.pipeline.windows().count(),
            windows_bytes: windows::Plan::of(engine)?.bytes(),
            fingerprints: engine.pipeline.fingerprints().len(),
            unique_fingerprints: engine.pipeline.fingerprints().unique(),
            reserved: [0; 4],
        };
        // SAFETY: the caller's pointer for the result.
        unsafe { put(facts, described) }
    })
}

/// Gives every member another weight, in parts per million, 1 to 1 000 000: all of them or, after an error, none.
///
/// # Safety
/// Pointers are null or valid for the length given; nobody else uses the engine meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qsc_engine_set_weights(
    engine: *mut qsc_engine,
    weights_ppm: *const u32,
    n_members: usize,
) -> qsc_status {
    status(|| {
        // SAFETY: the caller's handle, nobody else's meanwhile.
        let engine = unsafe { get_mut(engine) }?;
        // SAFETY: the caller's array.
        let weights = unsafe { many(weights_ppm, n_members) }?;
        if weights.len() != engine.pipeline.ensemble().members().len() {
            return Err(qsc_status::Length);
        }
        if weights.iter().any(|&parts| Ppm::new(parts).is_none()) {
            return Err(qsc_status::Argument);
        }
        for (at, weight) in weights.iter().filter_map(|&parts| Ppm::new(parts)).enumerate() {
            engine.pipeline.set_weight(at, weight);
        }
        Ok(())
    })
}
