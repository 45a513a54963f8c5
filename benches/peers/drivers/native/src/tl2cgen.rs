//! A model compiled by tl2cgen: one C function from a row of entries to margins.

use std::ffi::{CStr, c_char, c_int};

use anyhow::{Result, bail, ensure};
use measure::{Engine, Job, Rows};

use crate::Api;

/// `union Entry` of the generated header: a value in the thresholds' type, or −1 for a missing one.
#[derive(Clone, Copy)]
#[repr(C)]
union Entry<T: Copy> {
    missing: c_int,
    value: T,
    rank: c_int,
}

type Predict<T> = unsafe extern "C" fn(*mut Entry<T>, c_int, *mut T);

struct Tl2cgen<T: Copy> {
    predict: Predict<T>,
    entries: Vec<Entry<T>>,
    margins: Vec<T>,
}

/// The element types a model may have.
trait Element: Copy + Default + From<f32> {
    fn to_f32(self) -> f32;
}

impl Element for f32 {
    fn to_f32(self) -> f32 {
        self
    }
}

impl Element for f64 {
    fn to_f32(self) -> f32 {
        self as f32
    }
}

pub(crate) fn open(api: &Api, job: &Job, rows: &Rows) -> Result<Box<dyn Engine>> {
    let [thresholds, leaves] =
        [type_name(api, "get_threshold_type")?, type_name(api, "get_leaf_output_type")?];
    ensure!(thresholds == leaves, "thresholds are {thresholds}, leaves {leaves}");
    Ok(match thresholds {
        "float32" => Box::new(typed::<f32>(api, job, rows)?),
        "float64" => Box::new(typed::<f64>(api, job, rows)?),
        other => bail!("thresholds are {other}"),
    })
}

fn typed<T: Element>(api: &Api, job: &Job, rows: &Rows) -> Result<Tl2cgen<T>> {
    // SAFETY: the type is that of the generated header; `T` is what the library says of itself.
    let predict = unsafe { api.get::<Predict<T>>("predict") }?;
    Ok(Tl2cgen {
        predict,
        entries: vec![Entry { missing: -1 }; rows.row_len()],
        margins: vec![T::default(); job.outputs],
    })
}

fn type_name(api: &Api, name: &str) -> Result<&'static str> {
    // SAFETY: the type is that of the generated header.
    let get = unsafe { api.get::<unsafe extern "C" fn() -> *const c_char>(name) }?;
    // SAFETY: the function only returns the address of a literal.
    let text = unsafe { get() };
    // SAFETY: it is a string literal of a library that stays loaded.
    Ok(unsafe { CStr::from_ptr(text) }.to_str()?)
}

impl<T: Element> Engine for Tl2cgen<T> {
    fn predict(&mut self, rows: &[f32], answers: &mut [f32]) -> Result<()> {
        let row_len = self.entries.len();
        for (row, answer) in rows.chunks_exact(row_len).zip(answers.chunks_exact_mut(self.margins.len())) {
            for (entry, &value) in self.entries.iter_mut().zip(row) {
                *entry = if value.is_nan() { Entry { missing: -1 } } else { Entry { value: value.into() } };
            }
            self.margins.fill(T::default());
            // SAFETY: one entry per feature, which the function may overwrite by ranks, and room for every margin.
            unsafe { (self.predict)(self.entries.as_mut_ptr(), 1, self.margins.as_mut_ptr()) };
            for (answer, &margin) in answer.iter_mut().zip(&self.margins) {
                *answer = margin.to_f32();
            }
        }
        Ok(())
    }
}
