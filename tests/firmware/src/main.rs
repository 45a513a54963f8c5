//! Trained models, their guards and the vote on a Cortex-M: no std, no allocator, and no reachable panic, since the panic handler calls a
//! symbol that nobody defines. `tests/tests/no_alloc.rs` links it, `check/` runs it in QEMU and compares what it logs with the
//! same work done by the host.

#![no_std]
#![no_main]

mod measure;
mod semihosting;
mod work;

use core::cell::UnsafeCell;
use core::hint::black_box;

use qsc_kernel::ensemble::Decided;
use qsc_kernel::model::Body;
use qsc_kernel::observe::{Observer, Stage};
use qsc_kernel::{Model, Output, PredictError, Scratch};
use work::{Images, Machine, Memory};

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    unsafe extern "C" {
        safe fn qsc_panic_is_reachable() -> !;
    }
    qsc_panic_is_reachable()
}

/// Images and scratch memory on the boundary they need.
#[repr(C, align(64))]
struct Aligned<T: ?Sized>(T);

#[cfg(feature = "nets")]
mod size {
    use super::{Aligned, Images};

    pub(super) const IMAGES: Images<'static> = &qsc_models::IMAGES;
    /// Complete trees of six levels.
    pub(super) const ALONE: Images<'static> = {
        static DEPTH_6: &Aligned<[u8]> = &Aligned(*include_bytes!("../depth-6.qsm"));
        &[("depth-6", &DEPTH_6.0)]
    };
    pub(super) const MEMBERS: usize = 4;
    pub(super) const SCRATCH: usize = 64 * 1024;
    /// 120 steps of 14 features, 128 of 8.
    pub(super) const ROW: usize = 120 * 14;
    pub(super) const WINDOWS: usize = 2 * (ROW + 128 * 8);
}

#[cfg(not(feature = "nets"))]
mod size {
    use super::Images;

    pub(super) const IMAGES: Images<'static> = &[("xgb", qsc_models::XGB), ("lgbm", qsc_models::LGBM)];
    pub(super) const ALONE: Images<'static> = &[];
    pub(super) const MEMBERS: usize = 2;
    pub(super) const SCRATCH: usize = 512;
    pub(super) const ROW: usize = 24;
    pub(super) const WINDOWS: usize = 0;
}

use size::{ALONE, IMAGES, MEMBERS, ROW, SCRATCH, WINDOWS};

/// Names and values of the vector.
const LAYOUT: usize = 528;

struct Static(UnsafeCell<(Aligned<[u8; SCRATCH]>, [f32; ROW], [u8; LAYOUT], [f32; WINDOWS])>);

// SAFETY: `main` alone takes it, once.
unsafe impl Sync for Static {}

static MEMORY: Static =
    Static(UnsafeCell::new((Aligned([0; SCRATCH]), [0.0; ROW], [0; LAYOUT], [0.0; WINDOWS])));

/// Logs what happens, and what it cost.
struct Board;

impl Machine for Board {
    fn call<R>(&mut self, entry: &'static str, of: &'static str, work: impl FnOnce() -> R) -> R {
        let (result, cost) = measure::measure(work);
        let ticks = cost.ticks.unwrap_or(u32::MAX);
        defmt::println!("call {=str} {=str}: {=usize} {=u32}", of, entry, cost.stack, ticks);
        result
    }

    fn predict<'s>(
        &mut self,
        name: &'static str,
        model: &Model<'_>,
        row: &[f32],
        scratch: Scratch<'s>,
    ) -> Result<Output<'s>, PredictError> {
        let mut walk = Walk::default();
        let result = self.call("predict", name, || model.predict_observed(row, scratch, &mut walk));
        if let Body::Trees(trees) = model.body() {
            let ticks = walk.end.wrapping_sub(walk.begin);
            defmt::println!("walk {=str}: {=usize} {=u32}", name, trees.n_trees(), ticks);
        }
        result
    }

    fn decided<const N: usize>(&mut self, event: usize, decided: &Decided<N>) {
        for (at, outcome) in decided.round.outcomes.iter().enumerate() {
            defmt::println!("event {=usize}, member {=usize}: {}", event, at, outcome);
        }
        let fingerprint = u32::from_be_bytes(decided.fingerprint.0);
        defmt::println!("event {=usize}: {}, {=u32:08x}", event, decided.round.vote, fingerprint);
    }

    fn digest(&mut self, of: &'static str, digest: [u8; 32]) {
        let mut words = digest.as_chunks().0.iter().map(|&word| u64::from_be_bytes(word));
        let mut next = || words.next().unwrap_or(0);
        let (a, b, c, d) = (next(), next(), next(), next());
        defmt::println!("digest of {=str}: {=u64:016x}{=u64:016x}{=u64:016x}{=u64:016x}", of, a, b, c, d);
    }
}

/// When ranks were known and when leaves were summed.
#[derive(Default)]
struct Walk {
    begin: u32,
    end: u32,
}

impl Observer for Walk {
    fn ended(&mut self, stage: Stage) {
        match stage {
            Stage::Quantize => self.begin = measure::ticks(),
            Stage::Walk => self.end = measure::ticks(),
            _ => {}
        }
    }
}

#[cortex_m_rt::entry]
fn main() -> ! {
    measure::prepare();
    defmt::println!("calibrated: {=u32} ticks", measure::calibrate().unwrap_or(u32::MAX));
    // SAFETY: cortex-m-rt calls this once.
    let (scratch, row, layout, windows) = unsafe { &mut *MEMORY.0.get() };
    let mut memory = Memory { scratch: &mut scratch.0, row, layout, windows };
    // Inputs are opaque, so that no path can be decided at compile time.
    let outcome = work::work::<MEMBERS>(&mut Board, black_box(IMAGES), black_box(ALONE), &mut memory);
    control();
    defmt::println!("stack: {=usize}", measure::deepest());
    if let Err(reason) = outcome {
        defmt::println!("failed: {=str}", reason);
    }
    semihosting::exit(outcome.is_ok())
}

#[cfg(feature = "panic-control")]
fn control() {
    let row = black_box([0.5_f32; 32]);
    black_box(row[black_box(7_usize)]);
}

#[cfg(feature = "alloc-control")]
fn control() {
    extern crate alloc;
    black_box(alloc::vec::Vec::<u8>::with_capacity(black_box(7)));
}

#[cfg(not(any(feature = "panic-control", feature = "alloc-control")))]
const fn control() {}
