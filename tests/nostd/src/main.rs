//! Four really trained models, their guards and the vote in one program without std, without an allocator, and
//! without a reachable panic: the panic handler calls a symbol that nobody defines, so a program in which it
//! survives optimization does not link. Built and inspected by `tests/no_alloc.rs`; it is not run.

#![no_std]
#![no_main]

use core::hint::black_box;

use qsc_kernel::ensemble::{
    ConfidenceRule, Degeneracy, Ensemble, Feature, Member, Mode, Pipeline, Ppm, VoteRules, Window,
};
use qsc_kernel::guard::FingerprintLayout;
use qsc_kernel::guard::input::Missing;
use qsc_kernel::{Model, ScratchBuffer};

/// Features of the vector, more than any model has.
const FEATURES: usize = 32;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    unsafe extern "C" {
        safe fn qsc_panic_is_reachable() -> !;
    }
    qsc_panic_is_reachable()
}

/// Everything a firmware calls; inputs are opaque, so no path can be decided at compile time.
fn work() -> Option<()> {
    let places: [u16; FEATURES] = core::array::from_fn(|at| u16::try_from(at).unwrap_or(0));
    let mut scratch = ScratchBuffer::<65536>::new();
    let xgb = Model::check(black_box(qsc_models::XGB)).ok()?;
    let names = || xgb.feature_names().take(black_box(FEATURES));
    black_box(FingerprintLayout::<[u8; 2048]>::bytes(names()));
    let layout = FingerprintLayout::new(names(), [0; 2048]).ok()?;
    let ensemble = Ensemble::<Model<'static>, 4>::new(VoteRules::STANDARD, Degeneracy::Enforce);
    let mut pipeline = Pipeline::new(ensemble, layout);
    for (name, image) in black_box(qsc_models::IMAGES) {
        let model = Model::check(black_box(image)).ok()?;
        model.check_golden(scratch.scratch()).ok()?;
        black_box((name, model.name(), model.scratch_bytes(), model.max_abs_error()));
        black_box(model.feature_names().count() + model.classes().count());
        let indices = places.get(..model.n_features())?;
        let member = Member::new(Some(model), Ppm::new(black_box(500_000))?)
            .with_mode(black_box(Mode::Vote))
            .with_missing(black_box(Missing::Native))
            .with_confidence(black_box(ConfidenceRule::Margin));
        pipeline.push(member, indices).ok()?;
    }
    black_box(pipeline.scratch_bytes(0));
    let seq_len = pipeline.windows().next()?.0;
    let window = || Window::new(seq_len, black_box(14), [0.0_f32; 3360]).ok();
    let mut windows = [window()?, window()?];
    let features = black_box([Feature::Number(0.5); FEATURES]);
    for _ in 0..black_box(1000) {
        black_box(pipeline.decide(&features, &mut windows, black_box(None), scratch.scratch()));
        black_box(pipeline.fingerprints().unique());
    }
    windows.iter_mut().for_each(Window::clear);
    Some(())
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

/// Where the linker begins.
#[unsafe(no_mangle)]
pub extern "C" fn _start() -> ! {
    black_box(work());
    control();
    loop {
        core::hint::spin_loop();
    }
}
