//! Drift end to end: `--calibrate` puts deciles into an image, the gates compare live features with them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use qsc_cli::image::ImageBytes;
use qsc_kernel::Model;
use qsc_kernel::image::records::DecileRecord;
use qsc_tests::bundle::{self, text};
use qsc_tests::capture::{Capture, healthy};
use qsc_tests::qsc::{self, Run};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

/// The bundled XGBoost model compiled to `image`.
fn compile(image: &Path, more: &[&str]) -> Value {
    let trained = bundle::file("trained/xgb.ubj");
    let compile = ["model", "compile", text(&trained), "--output", text(image), "--name", "xgb"];
    let run = qsc::run([&compile[..], &["--classes", "HOLD,BUY,SELL", "--format", "json"], more].concat());
    assert_eq!(run.code, Some(0), "{run:?}");
    run.json()
}

/// The bundled XGBoost model, calibrated with its bundled rows, as `xgb.qsm` and `MODELS.toml` in `directory`.
fn calibrated(directory: &Path) -> ImageBytes {
    let image = directory.join("xgb.qsm");
    let compiled = compile(&image, &["--calibrate", text(&bundle::file("trained/rows_xgb.npy"))]);
    assert_eq!(compiled["calibrated"], true);
    fs::write(directory.join("MODELS.toml"), "[[model]]\nname = \"xgb\"\nimage = \"xgb.qsm\"\n").unwrap();
    ImageBytes::read(&image).unwrap()
}

/// Events whose features are the rows the model was calibrated with, moved by `moved`.
fn events(model: &Model<'_>, moved: f64) -> Capture {
    let rows = qsc_cli::rows::read(&bundle::file("trained/rows_xgb.npy")).unwrap();
    let mut capture = Capture::new();
    for index in 0..rows.n_rows() {
        let row = &rows.data()[index * model.n_features()..][..model.n_features()];
        let features: serde_json::Map<_, _> = model
            .feature_names()
            .zip(row)
            .map(|(name, value)| (name.to_owned(), json!(f64::from(*value) + moved)))
            .collect();
        let payload =
            json!({"symbol": "S", "features": features, "model_breakdown": {"xgb": healthy(index)}});
        capture.push("trade.intent", &payload.to_string());
    }
    capture
}

fn sanity(directory: &Path, more: &[&str]) -> Run {
    let mut command = qsc::command(["feature-sanity", "--source", "file:capture.jsonl", "--after", "0"]);
    command.args(["--count", "0", "--max-flatline-pct", "100", "--format", "json"]);
    command.current_dir(directory).args(more);
    qsc::finish(command, &[])
}

#[test]
fn rows_a_model_was_calibrated_with_have_not_drifted_and_moved_ones_have() {
    let directory = TempDir::new().unwrap();
    let directory = directory.path();
    let image = calibrated(directory);
    let model = Model::check(image.as_bytes()).unwrap();
    assert_eq!(model.deciles().len(), model.n_features());

    events(&model, 0.0).write(directory, "capture.jsonl");
    let run = sanity(directory, &["--models", "MODELS.toml", "--max-psi", "0.25"]);
    let drift = run.json()["drift"].clone();
    assert_eq!((run.code, &drift["warnings"]), (Some(0), &json!([])), "{run:?}");
    for (name, figures) in drift["models"]["xgb"].as_object().unwrap() {
        assert!(figures["psi"].as_f64().unwrap().abs() < 1e-12, "{name}: the same rows, {figures}");
    }

    events(&model, 1e6).write(directory, "capture.jsonl");
    let warned = sanity(directory, &["--models", "MODELS.toml"]);
    assert_eq!(warned.code, Some(0), "a warning blocks nothing");
    let count = warned.json()["drift"]["warnings"].as_array().unwrap().len();
    assert_eq!(count, model.n_features());
    let blocked = sanity(directory, &["--models", "MODELS.toml", "--max-psi", "0.25"]);
    assert_eq!((blocked.code, &blocked.json()["failures"][0]["check"]), (Some(2), &json!("psi")));

    let gate = |more: &[&str]| {
        let mut command =
            qsc::command(["quality-gate", "--source", "file:capture.jsonl", "--mode", "canary"]);
        command.args(["--format", "json", "--min-events", "50"]).current_dir(directory).args(more);
        qsc::finish(command, &[])
    };
    assert_eq!(gate(&["--models", "MODELS.toml"]).json()["verdict"], "pass");
    let run = gate(&["--models", "MODELS.toml", "--max-psi", "0.25"]);
    assert_eq!((run.code, &run.json()["verdict"]), (Some(2), &json!("fail")));
}

#[test]
fn what_cannot_be_compared_blocks_where_it_was_asked_for() {
    let directory = TempDir::new().unwrap();
    let directory = directory.path();
    let image = calibrated(directory);
    events(&Model::check(image.as_bytes()).unwrap(), 0.0).write(directory, "capture.jsonl");
    // No models named; a model without deciles.
    let run = sanity(directory, &["--max-psi", "0.25"]);
    assert_eq!((run.code, &run.json()["verdict"]), (Some(2), &json!("inconclusive")));
    let mut command = qsc::command(["feature-sanity", "--source", "file:capture.jsonl", "--after", "0"]);
    command.args(["--max-flatline-pct", "100", "--max-psi", "0.25"]).current_dir(directory);
    let text = qsc::finish(command, &[]).stdout;
    assert!(text.contains("  - no model to compare with; name the ensemble with --models"), "{text}");
    let plain = directory.join("xgb.qsm");
    assert_eq!(compile(&plain, &[])["calibrated"], false);
    let run = sanity(directory, &["--models", "MODELS.toml", "--max-psi", "9"]);
    assert_eq!((run.code, &run.json()["verdict"]), (Some(2), &json!("inconclusive")));
    let run = sanity(directory, &["--models", "MODELS.toml"]);
    assert_eq!((run.code, &run.json()["drift"]["uncalibrated"]), (Some(0), &json!(["xgb"])));
    fs::write(&plain, "no image").unwrap();
    sanity(directory, &["--models", "MODELS.toml"]).assert_refused(&["xgb.qsm"]);
    sanity(directory, &["--models", "absent.toml"]).assert_refused(&["absent.toml"]);
    for wrong in ["-1", "NaN", "inf", "x"] {
        assert_eq!(sanity(directory, &["--max-psi", wrong]).code, Some(64), "{wrong}");
    }
}

#[test]
fn calibration_changes_no_prediction() {
    let directory = TempDir::new().unwrap();
    let calibrated = calibrated(directory.path());
    let plain = directory.path().join("plain.qsm");
    assert_eq!(compile(&plain, &[])["calibrated"], false);
    let plain = ImageBytes::read(&plain).unwrap();
    let (calibrated, plain) =
        (Model::check(calibrated.as_bytes()).unwrap(), Model::check(plain.as_bytes()).unwrap());
    assert!(plain.deciles().is_empty());
    let rows = qsc_cli::rows::read(&bundle::file("trained/rows_xgb.npy")).unwrap();
    let bits = |model: &Model<'_>| -> Vec<u64> {
        let mut scratch = vec![0; model.scratch_bytes() + 64];
        rows.iter()
            .flat_map(|row| {
                let output = model.predict(row, qsc_kernel::Scratch::new(&mut scratch)).unwrap();
                output.raw.iter().map(|value| value.to_bits()).collect::<Vec<_>>()
            })
            .collect()
    };
    assert_eq!(bits(&calibrated), bits(&plain));
}

#[test]
fn rows_that_do_not_fit_are_refused_and_leave_no_image() {
    let directory = TempDir::new().unwrap();
    let target = directory.path().join("out.qsm");
    let trained = bundle::file("trained/xgb.ubj");
    let narrow = directory.path().join("narrow.csv");
    fs::write(&narrow, "a,b\n1,2\n").unwrap();
    for rows in [text(&narrow), "absent.npy"] {
        let run = qsc::run([
            "model",
            "compile",
            text(&trained),
            "--output",
            text(&target),
            "--name",
            "xgb",
            "--calibrate",
            rows,
        ]);
        run.assert_refused(&[rows]);
        assert!(!target.exists());
    }
}

/// The kernel refuses deciles that are none, however well the image is sealed.
#[test]
fn false_deciles_are_refused_by_the_kernel() {
    let directory = TempDir::new().unwrap();
    let mut image = calibrated(directory.path());
    let size = size_of::<DecileRecord>();
    let bytes = image.as_bytes_mut();
    let sections = u32::from_le_bytes(bytes[24..28].try_into().unwrap()) as usize;
    let word = |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let entry = (0..sections).map(|at| 64 + 16 * at).find(|at| word(bytes, *at) == 8).unwrap();
    let start = word(bytes, entry + 4) as usize;
    let original = bytes.to_vec();
    let seal = |bytes: &mut [u8]| {
        let digest = Sha256::new().chain_update(&bytes[..32]).chain_update(&bytes[64..]).finalize();
        bytes[32..64].copy_from_slice(&digest);
    };
    let edge = |bytes: &mut [u8], at: usize, value: f32| {
        bytes[start + 4 * at..][..4].copy_from_slice(&value.to_le_bytes());
    };
    type Damage<'a> = Box<dyn Fn(&mut [u8]) + 'a>;
    let damages: [(&str, Damage<'_>); 4] = [
        ("NaN", Box::new(|bytes| edge(bytes, 4, f32::NAN))),
        ("descending", Box::new(|bytes| edge(bytes, 8, f32::MIN))),
        ("no counts", Box::new(|bytes| bytes[start + 36..start + size].fill(0))),
        (
            "a record too few",
            Box::new(|bytes| {
                let len = word(bytes, entry + 8) - size as u32;
                bytes[entry + 8..entry + 12].copy_from_slice(&len.to_le_bytes());
            }),
        ),
    ];
    for (name, damage) in damages {
        bytes.copy_from_slice(&original);
        damage(bytes);
        seal(bytes);
        assert!(Model::check(bytes).is_err(), "{name}");
    }
    bytes.copy_from_slice(&original);
    seal(bytes);
    assert!(Model::check(bytes).is_ok());
}
