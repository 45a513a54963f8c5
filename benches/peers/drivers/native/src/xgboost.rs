//! XGBoost's C API: `XGBoosterPredictFromDense`, in place, on one thread.

use std::ffi::{CString, c_char, c_int, c_void};
use std::ptr::{null, null_mut};

use anyhow::{Result, ensure};
use measure::{Engine, Job, Rows};

use crate::{Api, c_path, ok};

/// Margins of all trees; NaN is a missing value.
const CONFIG: *const c_char = cr#"{"type":1,"training":false,"iteration_begin":0,"iteration_end":0,
    "strict_shape":false,"missing":NaN,"cache_id":0}"#
    .as_ptr();

type Predict = unsafe extern "C" fn(
    *mut c_void,
    *const c_char,
    *const c_char,
    *mut c_void,
    *mut *const u64,
    *mut u64,
    *mut *const f32,
) -> c_int;

pub(crate) struct XgBoost {
    booster: *mut c_void,
    predict: Predict,
    /// What `array` points to: one row, or all.
    values: Vec<f32>,
    array: CString,
}

pub(crate) fn open(api: &Api, job: &Job, rows: &Rows) -> Result<XgBoost> {
    type Create = unsafe extern "C" fn(*const *mut c_void, u64, *mut *mut c_void) -> c_int;
    type Load = unsafe extern "C" fn(*mut c_void, *const c_char) -> c_int;
    type Set = unsafe extern "C" fn(*mut c_void, *const c_char, *const c_char) -> c_int;
    // SAFETY: the type is that of c_api.h.
    let create = unsafe { api.get::<Create>("XGBoosterCreate") }?;
    // SAFETY: the type is that of c_api.h.
    let load = unsafe { api.get::<Load>("XGBoosterLoadModel") }?;
    // SAFETY: the type is that of c_api.h.
    let set = unsafe { api.get::<Set>("XGBoosterSetParam") }?;
    // SAFETY: the type is that of c_api.h.
    let predict = unsafe { api.get::<Predict>("XGBoosterPredictFromDense") }?;

    let path = c_path(&job.model)?;
    let mut booster = null_mut();
    // SAFETY: no matrices are passed; the booster is an out-parameter.
    ok(unsafe { create(null(), 0, &raw mut booster) }, "creating a booster")?;
    // SAFETY: the booster was just made, the path ends with a zero.
    ok(unsafe { load(booster, path.as_ptr()) }, "loading the model")?;
    // SAFETY: both strings end with a zero.
    ok(unsafe { set(booster, c"nthread".as_ptr(), c"1".as_ptr()) }, "setting one thread")?;

    let count = if job.batch { rows.count() } else { 1 };
    let values = vec![0.0; count * rows.row_len()];
    let array = CString::new(format!(
        r#"{{"data":[{},true],"shape":[{count},{}],"typestr":"<f4","version":3}}"#,
        values.as_ptr().addr(),
        rows.row_len()
    ))?;
    Ok(XgBoost { booster, predict, values, array })
}

impl Engine for XgBoost {
    fn predict(&mut self, rows: &[f32], answers: &mut [f32]) -> Result<()> {
        let (mut shape, mut axes, mut margins) = (null(), 0, null());
        self.values.copy_from_slice(rows);
        let (out, array) = (&raw mut margins, self.array.as_ptr());
        // SAFETY: `array` describes `values`, which stays where it is; the rest are out-parameters.
        let code = unsafe {
            (self.predict)(self.booster, array, CONFIG, null_mut(), &raw mut shape, &raw mut axes, out)
        };
        ok(code, "predicting")?;
        ensure!(!margins.is_null(), "no answer came back");
        // SAFETY: on success the booster holds one margin per row and output until its next call.
        answers.copy_from_slice(unsafe { std::slice::from_raw_parts(margins, answers.len()) });
        Ok(())
    }
}
