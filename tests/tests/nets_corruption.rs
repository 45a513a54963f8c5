//! Hostile network images: one with a valid digest cannot make the kernel panic, spin, or ask for memory without end.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::panic::{AssertUnwindSafe, catch_unwind};

use qsc_cli::image::ImageBytes;
use qsc_kernel::ensemble::ConfidenceRule;
use qsc_kernel::image::SectionKind;
use qsc_kernel::image::records::StepRecord;
use qsc_kernel::{Model, Scratch};
use qsc_tests::nets;
use qsc_tests::surgery::{Anatomy, reseal};

/// What a reader might take for a count, a size, an index or a sign.
const EXTREMES: [u32; 15] =
    [0, 1, 2, 3, 4, 7, 16, 17, 64, 255, 0xffff, 0x7fff_ffff, 0x8000_0000, 0x7fc0_0000, u32::MAX];
/// No image of these tests may ask for more, in bytes: the largest arena, and as much again for quantized rows.
const SCRATCH_LIMIT: usize = 16 << 20;

/// The smallest nets that together hold every operation.
fn images() -> Vec<(String, ImageBytes)> {
    let wanted = [
        "hf-cls-token",
        "hf-layernorm",
        "nhits-standard-scaler",
        "patchtst-window-std",
        "simple-nhits-odd-sizes",
    ];
    let cases = nets::cases().into_iter().filter(|case| wanted.contains(&case.name.as_str()));
    let images: Vec<_> = cases.map(|case| (case.name.clone(), case.image())).collect();
    assert_eq!(images.len(), wanted.len());
    images
}

/// Uses an image every way there is. True if the kernel took it.
fn survives(bytes: &[u8], what: impl Fn() -> String) -> bool {
    let used = catch_unwind(AssertUnwindSafe(|| {
        let Ok(model) = Model::check(bytes) else { return false };
        assert!(model.scratch_bytes() <= SCRATCH_LIMIT, "{} bytes of scratch", model.scratch_bytes());
        assert!(model.row_len() <= SCRATCH_LIMIT, "a row of {} values", model.row_len());
        let mut scratch = vec![0xa5; model.scratch_bytes() + 64];
        for scale in [0.0, 1.0, -3.5e4, 1e38] {
            let row: Vec<f32> =
                (0..model.row_len()).map(|at| scale * ((at % 13) as f32 - 5.0) / 8.0).collect();
            if let Ok(output) = model.predict(&row, Scratch::new(&mut scratch)) {
                let vote = model.decide(&row, &output, ConfidenceRule::Max);
                assert!(vote.is_err() || output.values.iter().all(|value| value.is_finite()));
            }
        }
        if let qsc_kernel::model::Body::Net(net) = model.body() {
            assert!(net.layers().all(|layer| layer.op != "unknown"));
        }
        true
    }));
    used.unwrap_or_else(|_| panic!("panicked on {}", what()))
}

#[test]
fn every_field_of_every_record_may_be_hostile() {
    for (name, image) in images() {
        let whole = Anatomy::of(image.as_bytes());
        let (mut tried, mut taken) = (0, 0);
        for kind in [SectionKind::Model, SectionKind::Net, SectionKind::Steps, SectionKind::Indices] {
            let words = whole.clone().section(kind).len() / 4;
            for word in 0..words.min(600) {
                for value in EXTREMES {
                    let mut anatomy = whole.clone();
                    anatomy.set(kind, 4 * word, value);
                    tried += 1;
                    let bytes = anatomy.assemble();
                    taken += u32::from(survives(bytes.as_bytes(), || {
                        format!("{name}: {kind:?} word {word} = {value:#x}")
                    }));
                }
            }
        }
        println!("{name}: {tried} changes, {taken} still an image");
        assert!(taken > 0 && taken < tried, "{name}: the sweep did not reach both sides");
    }
}

#[test]
fn every_byte_of_small_sections_may_be_hostile() {
    for (name, image) in images() {
        let mut bytes = image.clone();
        let len = image.as_bytes().len();
        for offset in (64..len).step_by(3) {
            let here = image.as_bytes()[offset];
            for value in [0x00, 0x7f, 0x80, 0xff, here ^ 0x01] {
                bytes.as_bytes_mut()[offset] = value;
                reseal(bytes.as_bytes_mut());
                survives(bytes.as_bytes(), || format!("{name}: byte {offset} = {value:#04x}"));
            }
            bytes.as_bytes_mut()[offset] = here;
        }
    }
}

#[test]
fn steps_in_another_order_or_number_never_read_what_was_not_written() {
    const STEP: usize = size_of::<StepRecord>();
    for (name, image) in images() {
        let whole = Anatomy::of(image.as_bytes());
        let steps = whole.clone().section(SectionKind::Steps).clone();
        let count = steps.len() / STEP;
        for a in 0..count {
            // Without step a.
            let mut anatomy = whole.clone();
            anatomy.section(SectionKind::Steps).drain(a * STEP..(a + 1) * STEP);
            deterministic(&anatomy, &name);
            for b in 0..count {
                let mut anatomy = whole.clone();
                let section = anatomy.section(SectionKind::Steps);
                section[a * STEP..][..STEP].copy_from_slice(&steps[b * STEP..][..STEP]);
                section[b * STEP..][..STEP].copy_from_slice(&steps[a * STEP..][..STEP]);
                deterministic(&anatomy, &name);
            }
        }
    }
}

/// An image that is taken gives the same bits whatever scratch memory held before.
fn deterministic(anatomy: &Anatomy, name: &str) {
    let bytes = anatomy.assemble();
    let Ok(model) = Model::check(bytes.as_bytes()) else { return };
    let row: Vec<f32> = (0..model.row_len()).map(|at| ((at * 7 % 23) as f32 - 11.0) / 9.0).collect();
    let answers = [0x00, 0x3c, 0xff].map(|fill| {
        let mut scratch = vec![fill; model.scratch_bytes() + 64];
        let output = model.predict(&row, Scratch::new(&mut scratch)).unwrap();
        output.raw.iter().map(|value| value.to_bits()).collect::<Vec<_>>()
    });
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{name}: stale memory reached the answer");
}
