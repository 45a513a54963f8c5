//! QSC: an image in flash, checked once, and scratch memory of the size that the image states.

use qsc_kernel::{Model, ScratchBuffer};

use crate::job::{FEATURES, IMAGE, OUTPUTS, SCRATCH};

pub struct Engine {
    model: Model<'static>,
    scratch: &'static mut ScratchBuffer<SCRATCH>,
}

impl Engine {
    pub fn start() -> Self {
        let model = Model::check(&IMAGE.0);
        let scratch = cortex_m::singleton!(: ScratchBuffer<SCRATCH> = ScratchBuffer::new());
        match (model, scratch) {
            (Ok(model), Some(scratch)) => Self { model, scratch },
            _ => crate::fail(),
        }
    }

    pub fn predict(&mut self, row: &[f32; FEATURES], out: &mut [f32; OUTPUTS]) {
        match self.model.predict(row, self.scratch.scratch()) {
            Ok(output) if output.values.len() == OUTPUTS => out.copy_from_slice(output.values),
            _ => crate::fail(),
        }
    }
}
