//! Stack and instructions of a call, on the machine itself.
//!
//! The stack below the caller is painted, and what a call has overwritten is what it used. SysTick counts the processor's clock: under
//! `qemu -icount shift=0` one instruction takes one nanosecond, and `calibrate` tells how many a tick is.

use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering};

/// SysTick control, reload and current value: Armv6-M and Armv7-M, B3.3.
const CONTROL: *mut u32 = ptr::without_provenance_mut(0xe000_e010);
const RELOAD: *mut u32 = ptr::without_provenance_mut(0xe000_e014);
const CURRENT: *mut u32 = ptr::without_provenance_mut(0xe000_e018);
/// Processor clock, no interrupt, running.
const RUN: u32 = 0b101;
const WRAPPED: u32 = 1 << 16;
const LONGEST: u32 = 0x00ff_ffff;

const PAINT: u32 = 0xdead_57ac;
/// How far below a caller is painted, in bytes.
const DEPTH: usize = 16 * 1024;

unsafe extern "C" {
    /// The end of what is not stack, and where the stack begins: symbols of cortex-m-rt's linker script.
    static mut __sheap: u32;
    static _stack_start: u32;
}

/// What a call took.
pub(crate) struct Cost {
    /// Bytes of stack below the caller.
    pub(crate) stack: usize,
    /// Ticks of the clock; `None` if there were more than the counter holds.
    pub(crate) ticks: Option<u32>,
}

/// Runs `work` and says what it took.
#[inline(always)]
pub(crate) fn measure<R>(work: impl FnOnce() -> R) -> (R, Cost) {
    let top = stack_pointer();
    let low = begin(top);
    let result = apart(work);
    (result, end(low, top))
}

/// The lowest word of the stack that was ever found touched.
static LOWEST: AtomicUsize = AtomicUsize::new(usize::MAX);

/// Paints what lies below `top`, as far as `DEPTH`, and starts the clock; says where the paint begins.
#[inline(never)]
fn begin(top: usize) -> usize {
    let low = limit().max(top.saturating_sub(DEPTH));
    deepest();
    // This function's own frame lies there too: none of it is used once it is painted.
    for at in (low..stack_pointer()).step_by(4) {
        // SAFETY: memory between the last static and the stack pointer is nobody's.
        unsafe { place(at).write_volatile(PAINT) };
    }
    start();
    low
}

/// What the call took that `begin` began.
#[inline(never)]
fn end(low: usize, top: usize) -> Cost {
    let ticks = elapsed();
    let touched = touched(low, top);
    LOWEST.store(LOWEST.load(Ordering::Relaxed).min(touched), Ordering::Relaxed);
    Cost { stack: top - touched, ticks }
}

/// Paints the stack as far as anything here goes, once, before `deepest` is asked.
#[inline(never)]
pub(crate) fn prepare() {
    let top = stack_pointer();
    for at in (limit().max(top.saturating_sub(4 * DEPTH))..top).step_by(4) {
        // SAFETY: as in `begin`.
        unsafe { place(at).write_volatile(PAINT) };
    }
}

/// Bytes of stack used so far, from where it begins to the lowest word touched.
pub(crate) fn deepest() -> usize {
    let top = stack_pointer();
    let lowest = LOWEST.load(Ordering::Relaxed).min(touched(limit().max(top.saturating_sub(DEPTH)), top));
    LOWEST.store(lowest, Ordering::Relaxed);
    (&raw const _stack_start).addr() - lowest
}

/// The lowest word between `low` and `top` that is not painted.
fn touched(low: usize, top: usize) -> usize {
    // SAFETY: as in `begin`; a frame of this function is the highest part of what is searched.
    let painted = |at: &usize| unsafe { place(*at).read_volatile() } == PAINT;
    (low..top).step_by(4).find(|at| !painted(at)).unwrap_or(top)
}

/// Where the stack must end.
fn limit() -> usize {
    (&raw const __sheap).addr().next_multiple_of(4)
}

/// How many ticks a million instructions take.
pub(crate) fn calibrate() -> Option<u32> {
    start();
    // SAFETY: a loop of two instructions between registers.
    unsafe {
        core::arch::asm!("2: subs {count}, #1", "bne 2b", count = inout(reg) 500_000 => _, options(nomem, nostack));
    }
    elapsed()
}

/// A call the compiler cannot look through.
#[inline(never)]
fn apart<R>(work: impl FnOnce() -> R) -> R {
    work()
}

fn start() {
    // SAFETY: these are the registers of SysTick, which nothing else uses; writing CURRENT clears it and the flag.
    unsafe {
        RELOAD.write_volatile(LONGEST);
        CURRENT.write_volatile(0);
        CONTROL.write_volatile(RUN);
    }
}

/// Ticks since the call being measured began.
pub(crate) fn ticks() -> u32 {
    // SAFETY: as in `start`.
    LONGEST.wrapping_sub(unsafe { CURRENT.read_volatile() })
}

fn elapsed() -> Option<u32> {
    let ticks = ticks();
    // SAFETY: as in `start`.
    let control = unsafe { CONTROL.read_volatile() };
    (control & WRAPPED == 0).then_some(ticks)
}

#[inline(always)]
fn stack_pointer() -> usize {
    let top: usize;
    // SAFETY: reads a register.
    unsafe { core::arch::asm!("mov {}, sp", out(reg) top, options(nomem, nostack, preserves_flags)) };
    top
}

/// A word of the stack.
fn place(at: usize) -> *mut u32 {
    let end = &raw mut __sheap;
    end.with_addr(at)
}
