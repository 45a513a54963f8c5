//! A model compiled by lleaves in single precision: one function from rows to margins.

use anyhow::Result;
use measure::{Engine, Rows};

use crate::Api;

type ForestRoot = unsafe extern "C" fn(*const f32, *mut f32, i32, i32);

pub(crate) struct Lleaves {
    forest_root: ForestRoot,
    row_len: usize,
}

pub(crate) fn open(api: &Api, rows: &Rows) -> Result<Lleaves> {
    // SAFETY: the type is that which lleaves calls it by, with `use_fp64=False`.
    let forest_root = unsafe { api.get::<ForestRoot>("forest_root") }?;
    Ok(Lleaves { forest_root, row_len: rows.row_len() })
}

impl Engine for Lleaves {
    fn predict(&mut self, rows: &[f32], answers: &mut [f32]) -> Result<()> {
        answers.fill(0.0);
        let count = (rows.len() / self.row_len) as i32;
        // SAFETY: rows 0 to `count` are there, and their margins have room in `answers`.
        unsafe { (self.forest_root)(rows.as_ptr(), answers.as_mut_ptr(), 0, count) };
        Ok(())
    }
}
