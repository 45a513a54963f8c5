//! The history of one symbol: a window for every sequence model of an engine, in one piece of the caller's memory.

use core::alloc::Layout;
use core::ffi::c_void;

use qsc_kernel::ensemble::Window;

use super::{Engine, qsc_engine};
use crate::memory::{Handle, Tagged, fill, get, get_mut, place, put, room, vacate};
use crate::qsc_status;
use crate::status::status;

/// The last steps of one symbol, for all sequence models of an engine. Opaque; lives in memory of the caller.
///
/// A symbol each: windows of two symbols would be one history of both. One thread at a time may use them.
pub struct qsc_windows(());

impl Handle for qsc_windows {
    type Content = Windows;
    const TAG: u64 = u64::from_le_bytes(*b"QSCwindo");
}

/// A window whose values lie further back in the memory of its `qsc_windows`.
pub(crate) type Lent = Window<&'static mut [f32]>;

/// What lies behind a `qsc_windows`.
pub(crate) struct Windows {
    pub(super) windows: &'static mut [Lent],
}

/// Where the parts lie.
pub(super) struct Plan {
    windows: usize,
    n_windows: usize,
    values: usize,
    n_values: usize,
}

impl Plan {
    pub(super) fn of(engine: &Engine) -> Result<Self, qsc_status> {
        let values = |(seq_len, n_features): (usize, usize)| seq_len.checked_mul(n_features)?.checked_mul(2);
        let mut sizes = engine.pipeline.windows().map(values);
        let n_values = sizes.try_fold(0_usize, |sum, size| sum.checked_add(size?));
        let n_windows = engine.pipeline.windows().count();
        n_values.and_then(|n_values| Self::lay_out(n_windows, n_values)).ok_or(qsc_status::Argument)
    }

    fn lay_out(n_windows: usize, n_values: usize) -> Option<Self> {
        let layout = Layout::new::<Tagged<Windows>>();
        let (layout, windows) = layout.extend(Layout::array::<Lent>(n_windows).ok()?).ok()?;
        let (_, values) = layout.extend(Layout::array::<f32>(n_values).ok()?).ok()?;
        Some(Self { windows, n_windows, values, n_values })
    }

    /// Bytes of them all; 0 where there is no sequence model.
    pub(super) const fn bytes(&self) -> usize {
        if self.n_windows == 0 {
            return 0;
        }
        // `lay_out` has seen that they fit.
        self.values.saturating_add(self.n_values.saturating_mul(size_of::<f32>()))
    }
}

/// Makes empty windows for one symbol in `memory`, of `windows_bytes` of the engine's facts.
///
/// After an error `*windows` is null, and windows that were in `memory` may be lost: their handle then is none any more.
///
/// # Safety
/// Pointers are null or valid for the sizes given; nobody decides on the engine meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qsc_windows_init(
    memory: *mut c_void,
    memory_bytes: usize,
    engine: *const qsc_engine,
    windows: *mut *mut qsc_windows,
) -> qsc_status {
    status(|| {
        // SAFETY: the caller's pointer for the result.
        unsafe { put(windows, core::ptr::null_mut()) }?;
        // SAFETY: the caller's handle.
        let engine = unsafe { get(engine) }?;
        let plan = Plan::of(engine)?;
        if plan.n_windows == 0 {
            return Err(qsc_status::Windows);
        }
        room::<qsc_windows>(memory, memory_bytes, plan.bytes())?;
        // SAFETY: `room` has held, and the memory is the caller's to give.
        unsafe { vacate::<qsc_windows>(memory) };
        let base = memory.cast::<u8>();
        // SAFETY: `room` has held for the whole plan, whose parts lie one behind the other, each aligned; the memory is the caller's
        // to give for as long as the windows are used.
        let mut values = unsafe { fill::<'static>(base, plan.values, plan.n_values, 0.0_f32) };
        // SAFETY: the array begins inside the memory.
        let first = unsafe { base.add(plan.windows) }.cast::<Lent>();
        for (at, (seq_len, n_features)) in engine.pipeline.windows().enumerate() {
            let size = seq_len.saturating_mul(n_features).saturating_mul(2);
            let (own, rest) = values.split_at_mut_checked(size).ok_or(qsc_status::TooSmall)?;
            values = rest;
            let window = Window::new(seq_len, n_features, own).map_err(|_| qsc_status::TooSmall)?;
            // SAFETY: `at` is below the number of windows, for which the array has room.
            let slot = unsafe { first.add(at) };
            // SAFETY: inside the memory, aligned, and nobody else's.
            unsafe { slot.write(window) };
        }
        // SAFETY: as many windows have been written, one behind the other, and nobody else has a pointer to them.
        let all = unsafe { core::slice::from_raw_parts_mut(first, plan.n_windows) };
        // SAFETY: `room` has held, and the memory is the caller's to give.
        let handle = unsafe { place(memory, Windows { windows: all }) };
        // SAFETY: the caller's pointer for the result, as above.
        unsafe { put(windows, handle) }
    })
}

/// Forgets all steps: after a gap in the events of the symbol, models wait for a full window rather than see time jump.
///
/// # Safety
/// `windows` is null or valid, and nobody else uses it meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qsc_windows_clear(windows: *mut qsc_windows) -> qsc_status {
    status(|| {
        // SAFETY: the caller's handle, nobody else's meanwhile.
        let content = unsafe { get_mut(windows) }?;
        content.windows.iter_mut().for_each(Window::clear);
        Ok(())
    })
}

const _: () = assert!(align_of::<Tagged<Windows>>() <= align_of::<u64>(), "malloc's alignment is enough");
