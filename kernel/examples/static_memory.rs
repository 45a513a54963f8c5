//! As firmware has it: image in flash, all working memory in one static of a size known at build time, no heap.
//!
//! `cargo run --example static_memory`

use std::sync::Mutex;

use qsc_kernel::ensemble::{ConfidenceRule, Prediction, Window};
use qsc_kernel::{Inactive, Model, ScratchBuffer};

/// What a PatchTST of 128 steps of 8 features needs. On bare metal the mutex is a critical section.
struct Memory {
    scratch: ScratchBuffer<{ 64 * 1024 }>,
    window: Option<Window<[f32; 2 * 128 * 8]>>,
}

static MEMORY: Mutex<Memory> = Mutex::new(Memory { scratch: ScratchBuffer::new(), window: None });

/// One more step; a prediction once there are enough.
fn step(model: &Model<'_>, values: &[f32; 8]) -> Result<Prediction, Inactive> {
    let mut memory = MEMORY.lock().map_err(|_| Inactive::ExceptionInPredict)?;
    let Memory { scratch, window } = &mut *memory;
    if window.is_none() {
        *window = Window::new(model.seq_len(), model.n_features(), [0.0; 2 * 128 * 8]).ok();
    }
    let window = window.as_mut().ok_or(Inactive::ExceptionInPredict)?;
    window.push(values);
    let row = window.row().ok_or(Inactive::InsufficientHistory)?;
    let output = model.predict(row, scratch.scratch())?;
    model.decide(row, &output, ConfidenceRule::Max)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let model = Model::check(qsc_models::PATCHTST)?;
    assert!(model.scratch_bytes() <= 64 * 1024, "the static is as large as this image needs");
    model.check_golden(MEMORY.lock().map_err(|_| "a thread died")?.scratch.scratch())?;
    let (mut waiting, mut answers) = (0, 0);
    for at in 0..200_u8 {
        let values = core::array::from_fn(|feature| f32::from(at % 16) * 0.125 - feature as f32);
        match step(&model, &values) {
            Err(Inactive::InsufficientHistory) => waiting += 1,
            // No answer is one too: the dead zone.
            Ok(_) | Err(Inactive::DeadZone) => answers += 1,
            Err(reason) => return Err(reason.wire_name().into()),
        }
    }
    println!("{} waited {waiting} steps and answered {answers}", model.name());
    assert_eq!((waiting, answers), (127, 73));
    Ok(())
}

#[cfg(test)]
#[test]
fn runs() {
    main().unwrap();
}
