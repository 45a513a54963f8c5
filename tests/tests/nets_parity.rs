//! Networks of real libraries through importer, packer and kernel, against what PyTorch computed in f32.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use qsc_kernel::model::Body;
use qsc_kernel::{Model, PredictError, Scratch};
use qsc_tests::nets::{self, NetCase};
use sha2::{Digest as _, Sha256};

/// PyTorch's own f32 against our f64: nothing but its rounding, in units of the output's spread.
const REFERENCE_TOLERANCE: f64 = 2e-5;
/// 8 bits on these small nets, whose layers average over few weights: relative rms of the raw output. Full-size nets
/// are five times better (`benches/accuracy`).
const QUANTIZED_TOLERANCE: f64 = 0.03;

/// Bits the scalar kernel gives on each case's rows, recorded in a debug build: images are measured against the f64
/// reference, so these digests also hold the importer, the folding and the packing still.
const DIGESTS: &[(&str, &str)] = &[
    ("hf", "be593c1390572a9b"),
    ("hf-cls-token", "476748183c3c3796"),
    ("hf-eight-channels", "6ff81d817c6d8898"),
    ("hf-layernorm", "50874028d882d780"),
    ("hf-max-pooling", "29e3f75684224ef9"),
    ("hf-no-ff-bias", "f0fbcb3da06bdd0e"),
    ("hf-relu-random-positions", "529940c4e3a354e9"),
    ("hf-scaling-mean", "6131bbdbe24194b4"),
    ("hf-scaling-none", "fd4f9fa8297c88c9"),
    ("hf-stride-leftover", "b1e5a6c866584349"),
    ("nhits", "bfd148a7dc42ebe2"),
    ("nhits-avg-pool", "200730d5b317507b"),
    ("nhits-nearest", "529bfd2270d79d32"),
    ("nhits-standard-scaler", "a0fb84a3de28e83a"),
    ("nhits-two-blocks-dropout", "4bd6e204705240a0"),
    ("patchtst", "fbdd0ca8d19ea2cb"),
    ("patchtst-eight-patches", "526bbd324fb6ee74"),
    ("patchtst-window-std", "24073a199010341a"),
    ("simple-nhits", "a212e1fdd5ab40a4"),
    ("simple-nhits-odd-sizes", "bd26562f4f168c63"),
];

fn spread(values: &[f64]) -> f64 {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64).sqrt()
}

/// Errors are judged in the spread of the window where the model scales by itself: prices are far from zero.
fn unit(case: &NetCase, row: &[f32]) -> f64 {
    if case.name == "nhits-standard-scaler" {
        spread(&row.iter().map(|value| f64::from(*value)).collect::<Vec<_>>())
    } else {
        spread(&case.raw)
    }
}

#[test]
fn the_reference_is_what_pytorch_computes() {
    for case in nets::cases() {
        let model = case.import();
        let n = model.output.len;
        assert_eq!(case.raw.len(), case.rows.n_rows() * n, "{}", case.name);
        for (at, row) in case.rows.iter().enumerate() {
            let got = model.reference(row);
            // At prices near 94 000 PyTorch's f32 itself is 0.008 off.
            let tolerance = if case.name == "nhits-standard-scaler" { 1e-3 } else { REFERENCE_TOLERANCE };
            for (o, (got, torch)) in got.raw.iter().zip(&case.raw[at * n..]).enumerate() {
                let error = (got - torch).abs() / unit(&case, row);
                assert!(
                    error < tolerance,
                    "{} row {at} output {o}: {got} where PyTorch gives {torch}",
                    case.name
                );
            }
            for (got, torch) in got.outputs.iter().zip(&case.outputs[at * n..]) {
                let error = (got - torch).abs() / unit(&case, row).max(1.0);
                assert!(error < tolerance, "{} row {at}: {got} {torch}", case.name);
            }
        }
    }
}

#[test]
fn eight_bits_stay_close_and_the_image_says_how_close() {
    for case in nets::cases() {
        let image = case.image();
        let model = Model::check(image.as_bytes()).unwrap();
        let Body::Net(net) = model.body() else { panic!("{} is no net", case.name) };
        let (n, mut scratch) = (model.n_raw(), vec![0; model.scratch_bytes() + 64]);
        let (mut squares, mut count) = (0.0, 0);
        for (at, row) in case.rows.iter().enumerate() {
            let output = model.predict(row, Scratch::new(&mut scratch)).unwrap();
            for (got, torch) in output.raw.iter().zip(&case.raw[at * n..]) {
                squares += ((got - torch) / unit(&case, row)).powi(2);
                count += 1;
            }
        }
        let relative = (squares / f64::from(count)).sqrt();
        println!("{:28} relative rms {relative:.5}, measured {:?}", case.name, net.measured_error());
        assert!(relative < QUANTIZED_TOLERANCE, "{}: relative rms {relative}", case.name);
        assert!(net.measured_error().rows > 0 && net.measured_error().max_output < 0.2, "{}", case.name);
        assert!(net.layers().any(|layer| layer.op == "linear_i8"), "{}", case.name);
    }
}

/// Quantizing a single layer must cost less than quantizing all of them, and the sum of squares must explain the whole:
/// otherwise the emulation and the kernel do not mean the same arithmetic.
#[test]
fn error_comes_from_the_layers_in_eight_bits() {
    for case in nets::cases() {
        let model = case.import();
        let image = nets::image(&model).unwrap();
        let kernel = Model::check(image.as_bytes()).unwrap();
        let mut scratch = vec![0; kernel.scratch_bytes() + 64];
        let (mut emulation, mut quantization) = (0.0, 0.0);
        for row in case.rows.iter().take(16) {
            let exact = model.reference(row);
            let emulated = model.reference_with(row, |_| true);
            let got = kernel.predict(row, Scratch::new(&mut scratch)).unwrap();
            for ((got, emulated), exact) in got.raw.iter().zip(&emulated.raw).zip(&exact.raw) {
                emulation += (got - emulated).powi(2);
                quantization += (emulated - exact).powi(2);
            }
        }
        // f32 against f64 moves a value across a rounding boundary now and then: well below what 8 bits cost.
        assert!(emulation < 0.1 * quantization, "{}: {emulation:e} {quantization:e}", case.name);
    }
}

#[test]
fn bits_are_pinned() {
    let mut found = Vec::new();
    for case in nets::cases() {
        let image = case.image();
        let model = Model::check(image.as_bytes()).unwrap();
        let mut scratch = vec![0; model.scratch_bytes() + 64];
        model.check_golden(Scratch::new(&mut scratch)).unwrap();
        let mut hash = Sha256::new();
        for row in case.rows.iter() {
            let output = model.predict(row, Scratch::new(&mut scratch)).unwrap();
            output.raw.iter().for_each(|value| hash.update(value.to_bits().to_le_bytes()));
            output.values.iter().for_each(|value| hash.update(value.to_bits().to_le_bytes()));
        }
        let digest: String = hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        found.push((case.name, digest));
    }
    let found: Vec<(&str, &str)> =
        found.iter().map(|(name, digest)| (name.as_str(), digest.as_str())).collect();
    assert_eq!(found, DIGESTS, "the bits of a net changed: with intent, record them anew");
}

#[test]
fn what_cannot_be_reproduced_is_refused_by_name() {
    for case in nets::refused() {
        let refusal = match nets::import(&case.path) {
            Ok(_) => panic!("{} was imported", case.name),
            Err(error) => format!("{error:#}"),
        };
        for word in &case.words {
            assert!(refusal.contains(word), "{}: {word:?} is not in {refusal:?}", case.name);
        }
    }
}

#[test]
fn values_a_net_cannot_take_are_an_error() {
    for case in nets::cases() {
        let image = case.image();
        let model = Model::check(image.as_bytes()).unwrap();
        let mut scratch = vec![0; model.scratch_bytes() + 64];
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut row = case.rows.row(0).to_vec();
            let last = row.len() - 1;
            row[last] = bad;
            let refused = model.predict(&row, Scratch::new(&mut scratch)).unwrap_err();
            assert_eq!(refused, PredictError::NonFiniteInput, "{}", case.name);
        }
        let short = &case.rows.row(0)[1..];
        assert!(matches!(
            model.predict(short, Scratch::new(&mut scratch)),
            Err(PredictError::RowLength { .. })
        ));
        let mut tight = vec![0; model.scratch_bytes() - 64];
        assert_eq!(
            model.predict(case.rows.row(0), Scratch::new(&mut tight)).unwrap_err(),
            PredictError::ScratchTooSmall
        );
    }
}

/// What earlier predictions left in scratch memory must not reach an answer.
#[test]
fn scratch_contents_do_not_matter() {
    for case in nets::cases() {
        let image = case.image();
        let model = Model::check(image.as_bytes()).unwrap();
        let mut answers = Vec::new();
        for fill in [0x00, 0xff, 0x7f] {
            let mut scratch = vec![fill; model.scratch_bytes() + 64];
            let output = model.predict(case.rows.row(1), Scratch::new(&mut scratch)).unwrap();
            answers.push(output.raw.iter().map(|value| value.to_bits()).collect::<Vec<_>>());
        }
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{}", case.name);
    }
}
