//! An engine in C or C++ behind two functions; its memory is static.

use crate::job::{FEATURES, OUTPUTS};

unsafe extern "C" {
    safe fn engine_start() -> i32;
    fn engine_predict(row: *const f32, out: *mut f32) -> i32;
}

pub struct Engine;

impl Engine {
    pub fn start() -> Self {
        if engine_start() != 0 {
            crate::fail();
        }
        Self
    }

    pub fn predict(&mut self, row: &[f32; FEATURES], out: &mut [f32; OUTPUTS]) {
        // SAFETY: the engine was made for rows of FEATURES and answers of OUTPUTS values, and keeps no pointer.
        if unsafe { engine_predict(row.as_ptr(), out.as_mut_ptr()) } != 0 {
            crate::fail();
        }
    }
}
