//! Two really trained models, their guards and the vote in one program without std, without an allocator, and
//! without a reachable panic: the panic handler calls a symbol that nobody defines, so a program in which it
//! survives optimization does not link. Built and inspected by `tests/no_alloc.rs`; it is not run.

#![no_std]
#![no_main]

use core::hint::black_box;

use qsc_kernel::ensemble::{ConfidenceRule, Degeneracy, Ensemble, Input, Member, Mode, Ppm, VoteRules};
use qsc_kernel::guard::input::Missing;
use qsc_kernel::guard::{Fingerprint, FingerprintRing};
use qsc_kernel::{Model, ScratchBuffer};

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    unsafe extern "C" {
        safe fn qsc_panic_is_reachable() -> !;
    }
    qsc_panic_is_reachable()
}

/// Everything a firmware calls; inputs are opaque, so no path can be decided at compile time.
fn work() -> Option<()> {
    let mut scratch = ScratchBuffer::<1024>::new();
    let mut ensemble = Ensemble::<Model<'static>, 4>::new(VoteRules::STANDARD, Degeneracy::Enforce);
    for (name, image) in black_box(qsc_models::IMAGES) {
        let model = Model::check(black_box(image)).ok()?;
        model.check_golden(scratch.scratch()).ok()?;
        black_box((name, model.name(), model.scratch_bytes(), model.max_abs_error()));
        black_box(model.feature_names().count() + model.classes().count());
        let member = Member::new(Some(model), Ppm::new(black_box(500_000))?)
            .with_mode(black_box(Mode::Vote))
            .with_missing(black_box(Missing::Native))
            .with_confidence(black_box(ConfidenceRule::Margin));
        ensemble.push(member).ok()?;
    }
    let mut fingerprints = FingerprintRing::new();
    let row = black_box([0.5_f32; 32]);
    for _ in 0..black_box(1000) {
        let first = Input::Row(row.get(..black_box(23))?);
        let second = Input::Row(row.get(..black_box(21))?);
        let round = ensemble.decide(&[first, second], scratch.scratch());
        black_box(&round);
        let names = ensemble.members().first()?.predictor()?.feature_names();
        fingerprints.observe(Fingerprint::of(names.zip(row)));
        black_box(fingerprints.unique());
    }
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
