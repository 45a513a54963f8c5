//! LightGBM's C API: `LGBM_BoosterPredictForMatSingleRowFast` for a row, `LGBM_BoosterPredictForMat` for many.

use std::ffi::{c_char, c_int, c_void};
use std::ptr::null_mut;

use anyhow::Result;
use measure::{Engine, Job, Rows};

use crate::{Api, c_path, ok};

const FLOAT32: c_int = 0;
const RAW_SCORE: c_int = 1;
const ROW_MAJOR: c_int = 1;
const ALL_TREES: c_int = -1;
const ONE_THREAD: *const c_char = c"num_threads=1".as_ptr();

type SingleRow = unsafe extern "C" fn(*mut c_void, *const f32, *mut i64, *mut f64) -> c_int;
type Matrix = unsafe extern "C" fn(
    *mut c_void, // booster
    *const f32,
    c_int,
    i32,
    i32,
    c_int,
    c_int,
    c_int,
    c_int,
    *const c_char,
    *mut i64,
    *mut f64,
) -> c_int;

pub(crate) struct LightGbm {
    booster: *mut c_void,
    fast: *mut c_void,
    single_row: SingleRow,
    matrix: Matrix,
    row_len: usize,
    margins: Vec<f64>,
}

pub(crate) fn open(api: &Api, job: &Job, rows: &Rows) -> Result<LightGbm> {
    type Load = unsafe extern "C" fn(*const c_char, *mut c_int, *mut *mut c_void) -> c_int;
    type FastInit = unsafe extern "C" fn(
        *mut c_void,
        c_int,
        c_int,
        c_int,
        c_int,
        i32,
        *const c_char,
        *mut *mut c_void,
    ) -> c_int;
    // SAFETY: the type is that of c_api.h.
    let load = unsafe { api.get::<Load>("LGBM_BoosterCreateFromModelfile") }?;
    // SAFETY: the type is that of c_api.h.
    let fast_init = unsafe { api.get::<FastInit>("LGBM_BoosterPredictForMatSingleRowFastInit") }?;
    // SAFETY: the type is that of c_api.h.
    let single_row = unsafe { api.get::<SingleRow>("LGBM_BoosterPredictForMatSingleRowFast") }?;
    // SAFETY: the type is that of c_api.h.
    let matrix = unsafe { api.get::<Matrix>("LGBM_BoosterPredictForMat") }?;

    let (path, row_len) = (c_path(&job.model)?, rows.row_len());
    let (mut booster, mut fast, mut iterations) = (null_mut(), null_mut(), 0);
    // SAFETY: the path ends with a zero, the others are out-parameters.
    ok(unsafe { load(path.as_ptr(), &raw mut iterations, &raw mut booster) }, "loading the model")?;
    // SAFETY: the booster was just made; rows have `row_len` values.
    let code = unsafe {
        fast_init(booster, RAW_SCORE, 0, ALL_TREES, FLOAT32, row_len as i32, ONE_THREAD, &raw mut fast)
    };
    ok(code, "preparing single rows")?;
    Ok(LightGbm {
        booster,
        fast,
        single_row,
        matrix,
        row_len,
        margins: vec![0.0; job.outputs * rows.count()],
    })
}

impl Engine for LightGbm {
    fn predict(&mut self, rows: &[f32], answers: &mut [f32]) -> Result<()> {
        let (count, mut length) = (rows.len() / self.row_len, 0);
        let code = if count == 1 {
            // SAFETY: a row of the length given to FastInit; `margins` has room for its outputs.
            unsafe { (self.single_row)(self.fast, rows.as_ptr(), &raw mut length, self.margins.as_mut_ptr()) }
        } else {
            // SAFETY: `count` rows of `row_len` values; `margins` has room for the outputs of all rows.
            unsafe {
                (self.matrix)(
                    self.booster,
                    rows.as_ptr(),
                    FLOAT32,
                    count as i32,
                    self.row_len as i32,
                    ROW_MAJOR,
                    RAW_SCORE,
                    0,
                    ALL_TREES,
                    ONE_THREAD,
                    &raw mut length,
                    self.margins.as_mut_ptr(),
                )
            }
        };
        for (answer, &margin) in answers.iter_mut().zip(&self.margins) {
            *answer = margin as f32;
        }
        ok(code, "predicting")
    }
}
