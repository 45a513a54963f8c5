//! Trained files through importer, packer and kernel, against what the libraries themselves predicted.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use qsc_cli::compile::import;
use qsc_cli::compile::ir::TreeModel;
use qsc_cli::compile::pack::{PackOptions, pack};
use qsc_cli::image::ImageBytes;
use qsc_cli::rows;
use qsc_kernel::model::Body;
use qsc_kernel::{Model, Scratch};
use qsc_tests::fixtures::{self, ModelCase};

/// The tolerance.
fn is_close(ours: f64, theirs: f64) -> bool {
    (ours - theirs).abs() <= 5e-6 * (1.0 + theirs.abs())
}

fn image(model: &TreeModel, exact: bool) -> ImageBytes {
    let options = PackOptions {
        name: "parity".to_owned(),
        classes: None,
        exact,
        source_file: "model".to_owned(),
        source_sha256: [0; 32],
    };
    pack(model, &options).unwrap_or_else(|error| panic!("{error:#}"))
}

/// Hands the raw output and the outputs of every row to `judge`.
fn for_each_row(
    case: &ModelCase,
    image: &ImageBytes,
    mut judge: impl FnMut(&Model<'_>, usize, &[f64], &[f32]),
) {
    let model = Model::check(image.as_bytes()).unwrap_or_else(|error| panic!("{}: {error}", case.name));
    let mut scratch = vec![0; model.scratch_bytes() + 64];
    model.check_golden(Scratch::new(&mut scratch)).unwrap();
    for (at, row) in case.rows.iter().enumerate() {
        let output = model.predict(row, Scratch::new(&mut scratch)).unwrap();
        judge(&model, at, output.raw, output.values);
    }
}

#[test]
fn default_images_are_within_their_bound_and_the_tolerance() {
    let (mut rows, mut encodings) = (0, BTreeSet::new());
    let mut worst = (0.0, String::new());
    for case in &fixtures::models() {
        let model = import(&case.path, &case.options).unwrap();
        let image = image(&model, false);
        for_each_row(case, &image, |kernel, at, raw, values| {
            let context = || format!("{} row {at}", case.name);
            let Body::Trees(trees) = kernel.body() else { panic!("{}", context()) };
            let quantization = trees.quantization();
            encodings.insert(format!("u{} {}", quantization.rank_bits, quantization.leaf.name()));
            rows += 1;
            let row = case.rows.iter().nth(at).unwrap();
            let sums = model.margins_f64(row);
            let library = &case.margins[at * model.groups()..][..model.groups()];
            for ((&raw, sum), &margin) in raw.iter().zip(sums).zip(library) {
                let error = (f64::from(raw as f32) - sum).abs();
                assert!(error <= kernel.max_abs_error(), "{}: {raw} is {error:e} from {sum}", context());
                assert!(is_close(raw, margin), "{}: margin {raw}, theirs {margin}", context());
                let relative = (raw - margin).abs() / (1.0 + margin.abs());
                if relative > worst.0 {
                    worst = (relative, context());
                }
            }
            outputs_hold(case, at, values);
        });
    }
    println!(
        "{rows} rows, {encodings:?}, worst margin {:.2e} of the tolerance's measure: {}",
        worst.0, worst.1
    );
    assert!(rows >= 10_000, "only {rows} rows");
    for encoding in ["u8 i32", "u8 i64", "u16 i32"] {
        assert!(encodings.contains(encoding), "no trained model is packed as {encoding}: {encodings:?}");
    }
}

#[test]
fn exact_images_give_the_librarys_margins_bit_for_bit() {
    for case in &fixtures::models() {
        let model = import(&case.path, &case.options).unwrap();
        let image = image(&model, true);
        for_each_row(case, &image, |_, at, raw, values| {
            let library = &case.margins[at * model.groups()..][..model.groups()];
            let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(raw), bits(library), "{} row {at}: {raw:?} instead of {library:?}", case.name);
            outputs_hold(case, at, values);
        });
    }
}

fn outputs_hold(case: &ModelCase, at: usize, values: &[f32]) {
    if case.outputs_are_classes {
        // A class number is the first largest probability's.
        let largest = values.iter().copied().fold(f32::MIN, f32::max);
        let class = values.iter().position(|&value| value == largest).unwrap();
        assert_eq!(class as f64, case.outputs[at], "{} row {at}: {values:?}", case.name);
        return;
    }
    let library = &case.outputs[at * values.len()..][..values.len()];
    for (&ours, &theirs) in values.iter().zip(library) {
        assert!(is_close(f64::from(ours), theirs), "{} row {at}: {ours}, theirs {theirs}", case.name);
    }
}

/// The rows visit what the models ask: ties, missing values, infinities.
#[test]
fn rows_are_hard_enough() {
    let (mut missing, mut ties) = (0, 0);
    for case in &fixtures::models() {
        let model = import(&case.path, &case.options).unwrap();
        let mut asked = BTreeSet::new();
        for node in model.trees.iter().flat_map(|tree| &tree.nodes) {
            if let qsc_cli::compile::ir::Node::Split { feature, test, .. } = node
                && let qsc_cli::compile::ir::Test::Number { threshold, .. } = test
            {
                asked.insert((*feature, (*threshold as f32).to_bits()));
            }
        }
        for value in case.rows.iter().flat_map(|row| row.iter().enumerate()) {
            missing += u32::from(value.1.is_nan());
            ties += u32::from(asked.contains(&(value.0, value.1.to_bits())));
        }
    }
    println!("{missing} missing values, {ties} values exactly on a threshold");
    assert!(missing >= 1000 && ties >= 1000, "{missing} missing values, {ties} ties");
}

#[test]
fn bundled_images_predict_what_their_libraries_did() {
    let trained = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../models-bin/trained");
    for (name, bytes) in qsc_models::IMAGES {
        let model = Model::check(bytes).unwrap();
        assert_eq!(model.name(), name);
        let mut scratch = vec![0; model.scratch_bytes() + 64];
        model.check_golden(Scratch::new(&mut scratch)).unwrap();
        let rows = rows::read(&trained.join(format!("rows_{name}.npy"))).unwrap();
        let expected = rows::read_f64(&trained.join(format!("expected_{name}.npy"))).unwrap();
        assert!(rows.n_rows() >= 200);
        for (row, library) in rows.iter().zip(expected.data().chunks(model.n_outputs())) {
            let output = model.predict(row, Scratch::new(&mut scratch)).unwrap();
            for (&ours, &theirs) in output.values.iter().zip(library) {
                assert!(is_close(f64::from(ours), theirs), "{name}: {ours}, theirs {theirs}");
            }
        }
    }
}
