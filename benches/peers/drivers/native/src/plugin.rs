//! Engines with C++ interfaces only, wrapped by the small libraries of `plugins/`.

use std::ffi::{c_char, c_int, c_void};

use anyhow::{Result, ensure};
use measure::{Engine, Job, Rows};

use crate::{Api, c_path, ok};

type Predict = unsafe extern "C" fn(*mut c_void, *const f32, *mut f32) -> c_int;

pub(crate) struct Plugin {
    engine: *mut c_void,
    predict: Predict,
    row_len: usize,
    outputs: usize,
}

pub(crate) fn open(api: &Api, job: &Job, rows: &Rows) -> Result<Plugin> {
    type Open = unsafe extern "C" fn(*const c_char, *const i64, c_int, c_int) -> *mut c_void;
    // SAFETY: the type is that of plugins/plugin.h.
    let open = unsafe { api.get::<Open>("peer_open") }?;
    // SAFETY: the type is that of plugins/plugin.h.
    let predict = unsafe { api.get::<Predict>("peer_predict") }?;
    let shape: Vec<i64> = rows.shape_of(1).into_iter().map(|axis| axis as i64).collect();
    let path = c_path(&job.model)?;
    // SAFETY: the path ends with a zero; `shape` has as many axes as are named.
    let engine = unsafe { open(path.as_ptr(), shape.as_ptr(), shape.len() as c_int, job.outputs as c_int) };
    ensure!(!engine.is_null(), "the engine did not open {}", job.model.display());
    Ok(Plugin { engine, predict, row_len: rows.row_len(), outputs: job.outputs })
}

impl Engine for Plugin {
    fn predict(&mut self, rows: &[f32], answers: &mut [f32]) -> Result<()> {
        for (row, answer) in rows.chunks_exact(self.row_len).zip(answers.chunks_exact_mut(self.outputs)) {
            // SAFETY: a row of the shape, and room for the outputs, that `peer_open` was told.
            ok(unsafe { (self.predict)(self.engine, row.as_ptr(), answer.as_mut_ptr()) }, "predicting")?;
        }
        Ok(())
    }
}
