//! A batch has the bits of its rows one by one: every layout, every backend, around every size at which a block of rows ends.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::cell::RefCell;
use std::collections::BTreeSet;

use proptest::prelude::*;
use qsc_cli::compile::pack::PackOptions;
use qsc_kernel::trees::TreeLayout;
use qsc_kernel::{Backend, BatchError, Model, PredictError, Scratch};
use qsc_tests::property;
use qsc_tests::tree_cases::{cases, packed_as};

const CASES: u32 = 200;
/// None, one, about the fewest that AVX-512 takes at once, whole registers of 64 and whole blocks of 256.
const SIZES: [usize; 12] = [0, 1, 31, 33, 63, 64, 65, 128, 129, 255, 256, 257];

/// What a model says of rows one by one on the scalar backend: raw outputs and outputs, as bits.
fn one_by_one(model: &Model<'_>, rows: &[f32]) -> (Vec<u64>, Vec<u32>) {
    let model = model.clone().with_backend(Backend::SCALAR);
    let mut scratch = vec![0; model.scratch_bytes() + 64];
    let (mut raw, mut values) = (Vec::new(), Vec::new());
    for row in rows.chunks_exact(model.row_len()) {
        let output = model.predict(row, Scratch::new(&mut scratch)).unwrap();
        raw.extend(output.raw.iter().map(|value| value.to_bits()));
        values.extend(output.values.iter().map(|value| value.to_bits()));
    }
    (raw, values)
}

/// The same as a batch, in memory of exactly the size asked for, whatever lies in it.
fn at_once(model: &Model<'_>, rows: &[f32]) -> (Vec<u64>, Vec<u32>) {
    let n = rows.len() / model.row_len();
    let (mut raw, mut values) = (vec![f64::NAN; n * model.n_raw()], vec![f32::NAN; n * model.n_outputs()]);
    let mut memory = vec![0xA5; model.batch_scratch_bytes() + 64];
    let skip = memory.as_ptr().align_offset(64);
    let scratch = Scratch::new(&mut memory[skip..][..model.batch_scratch_bytes()]);
    model.predict_batch(rows, &mut raw, &mut values, scratch).unwrap();
    (raw.into_iter().map(f64::to_bits).collect(), values.into_iter().map(f32::to_bits).collect())
}

#[test]
fn batches_of_trees_have_the_bits_of_single_rows() {
    let seen = RefCell::new(BTreeSet::new());
    property::check(CASES, &cases(257), |case| {
        for (exact, layout) in
            TreeLayout::ALL.into_iter().flat_map(|layout| [(false, layout), (true, layout)])
        {
            let options = PackOptions {
                name: "m".to_owned(),
                classes: None,
                exact,
                source_file: "m".to_owned(),
                source_sha256: [0; 32],
            };
            // Not every layout can hold every model.
            let Some(image) = packed_as(&case.model, &options, layout) else { continue };
            let model = Model::check(image.as_bytes()).unwrap();
            let rows = case.rows.concat();
            let expected = one_by_one(&model, &rows);
            for backend in Backend::available() {
                let model = model.clone().with_backend(backend);
                for n in SIZES {
                    let (raw, values) = at_once(&model, &rows[..n * model.row_len()]);
                    prop_assert_eq!(
                        (&raw[..], &values[..]),
                        (&expected.0[..n * model.n_raw()], &expected.1[..n * model.n_outputs()]),
                        "{} rows, {} on {}",
                        n,
                        layout,
                        backend.name()
                    );
                }
                seen.borrow_mut().insert(format!("{layout} {exact} {}", backend.name()));
            }
        }
        Ok(())
    });
    let seen = seen.into_inner();
    println!("{seen:?}");
    for layout in TreeLayout::ALL {
        for (exact, backend) in Backend::available().flat_map(|backend| [(false, backend), (true, backend)]) {
            let name = format!("{layout} {exact} {}", backend.name());
            assert!(seen.contains(&name), "never tried: {name}");
        }
    }
}

#[test]
fn batches_of_networks_have_the_bits_of_single_rows() {
    for (name, bytes) in qsc_models::IMAGES {
        let model = Model::check(bytes).unwrap();
        let rows: Vec<f32> =
            (0..3 * model.row_len()).map(|at| 100.0 + (at as f32 * 0.37).sin() + at as f32 * 1e-3).collect();
        assert_eq!(at_once(&model, &rows), one_by_one(&model, &rows), "{name}");
    }
}

#[test]
fn what_is_no_batch_is_refused_by_name() {
    for (name, bytes) in qsc_models::IMAGES {
        let model = Model::check(bytes).unwrap();
        let (row_len, n_raw, n_outputs) = (model.row_len(), model.n_raw(), model.n_outputs());
        let mut memory = vec![0; model.batch_scratch_bytes() + 64];
        let mut ask = |rows: usize, raw: usize, values: usize, bytes: usize| {
            let (rows, mut raw, mut values) = (vec![1.0; rows], vec![0.0; raw], vec![0.0; values]);
            model.predict_batch(&rows, &mut raw, &mut values, Scratch::new(&mut memory[..bytes]))
        };
        let enough = model.batch_scratch_bytes() + 64;
        assert_eq!(
            ask(2 * row_len - 1, 2 * n_raw, 2 * n_outputs, enough),
            Err(BatchError::Lengths),
            "{name}"
        );
        assert_eq!(
            ask(2 * row_len, 2 * n_raw + 1, 2 * n_outputs, enough),
            Err(BatchError::Lengths),
            "{name}"
        );
        assert_eq!(ask(2 * row_len, 2 * n_raw, n_outputs, enough), Err(BatchError::Lengths), "{name}");
        let short = ask(2 * row_len, 2 * n_raw, 2 * n_outputs, 64).unwrap_err();
        let too_small = BatchError::Row { row: 0, error: PredictError::ScratchTooSmall };
        assert!(short == BatchError::ScratchTooSmall || short == too_small, "{name}: {short:?}");
    }
}

#[test]
fn a_row_a_network_cannot_take_is_named() {
    for (name, bytes) in qsc_models::IMAGES {
        let model = Model::check(bytes).unwrap();
        if model.seq_len() == 1 {
            continue;
        }
        let mut rows = vec![1.0; 3 * model.row_len()];
        rows[2 * model.row_len() - 1] = f32::NAN;
        let (mut raw, mut values) = (vec![0.0; 3 * model.n_raw()], vec![0.0; 3 * model.n_outputs()]);
        let mut memory = vec![0; model.batch_scratch_bytes() + 64];
        let refused = model.predict_batch(&rows, &mut raw, &mut values, Scratch::new(&mut memory));
        assert_eq!(refused, Err(BatchError::Row { row: 1, error: PredictError::NonFiniteInput }), "{name}");
    }
}
