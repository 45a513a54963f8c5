//! Networks through the binary: compile, inspect, verify and predict.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use qsc_cli::rows::read;
use qsc_tests::bundle::text;
use qsc_tests::nets::{self, NetCase};
use qsc_tests::qsc::{self, Run};
use serde_json::json;
use tempfile::TempDir;

fn case(name: &str) -> NetCase {
    nets::cases().into_iter().find(|case| case.name == name).unwrap()
}

fn compile(case: &NetCase, output: &Path, more: &[&str]) -> Run {
    let (input, config) = (case.path.join("model.safetensors"), case.path.join("config.json"));
    let mut arguments = vec!["model", "compile", text(&input), "--output", text(output), "--name", "net"];
    if config.is_file() {
        arguments.extend(["--config", text(&config)]);
    }
    qsc::run([&arguments, more].concat())
}

fn compiled(case: &NetCase, directory: &TempDir) -> PathBuf {
    let path = directory.path().join("net.qsm");
    let run = compile(case, &path, &[]);
    assert_eq!(run.code, Some(0), "{run:?}");
    path
}

#[test]
fn inspect_shows_layers_quantization_and_the_measured_error() {
    let directory = tempfile::tempdir().unwrap();
    let image = compiled(&case("hf-eight-channels"), &directory);
    let json = qsc::run(["model", "inspect", text(&image), "--format", "json"]).json();
    assert_eq!(
        (&json["kind"], &json["seq_len"], &json["n_features"]),
        (&json!("net"), &json!(128), &json!(8))
    );
    assert_eq!(json["source"]["objective"], "PatchTSTForClassification");
    assert_eq!(json["decision"], json!({"rule": "classes"}));
    let measured = &json["quantization"]["measured"];
    assert_eq!(measured["rows"], 64);
    assert!(measured["max_output_error"].as_f64().is_some_and(|error| error > 0.0 && error < 0.05));
    assert!(measured["agreement"].as_f64().is_some_and(|share| share > 0.9));
    let layers = json["layers"].as_array().unwrap();
    assert!(layers.iter().any(|layer| layer["op"] == "linear_i8" && layer["name"] == "layers.0.ff.0"));
    let run = qsc::run(["model", "inspect", text(&image)]);
    for words in
        ["s8 per output channel", "(measured)", "linear_i8   [64, 32] → 96", "layers.0.self_attn.qkv_proj"]
    {
        assert!(run.stdout.contains(words), "{words:?} is not in {}", run.stdout);
    }
}

#[test]
fn verify_compares_with_the_library() {
    let directory = tempfile::tempdir().unwrap();
    let case = case("patchtst-eight-patches");
    let image = compiled(&case, &directory);
    let (rows, expected) = (case.path.join("rows.npy"), case.path.join("prob.npy"));
    let verify = |tolerance: &str| {
        let arguments = ["--input", text(&rows), "--expected", text(&expected), "--tolerance", tolerance];
        qsc::run([&["model", "verify", text(&image)], &arguments[..]].concat())
    };
    assert_eq!(verify("0.02").code, Some(0));
    assert_eq!(verify("1e-7").code, Some(2), "8 bits are not f32");
}

#[test]
fn univariate_windows_come_as_rows_of_steps() {
    let directory = tempfile::tempdir().unwrap();
    let case = case("nhits");
    let image = compiled(&case, &directory);
    let (rows, output) = (case.path.join("rows.npy"), directory.path().join("forecast.npy"));
    let run = qsc::run(["predict", text(&image), "--input", text(&rows), "--output", text(&output)]);
    assert_eq!(run.code, Some(0), "{run:?}");
    let forecast = read(&output).unwrap();
    assert_eq!((forecast.n_rows(), forecast.shape().n_features), (64, 6));
    for (got, torch) in forecast.data().iter().zip(&case.outputs) {
        assert!((f64::from(*got) - torch).abs() < 0.05, "{got} {torch}");
    }
}

#[test]
fn what_does_not_fit_is_refused_in_one_sentence() {
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path().join("refused.qsm");
    let (hf, nhits) = (case("hf"), case("nhits"));
    let file = hf.path.join("model.safetensors");
    qsc::run(["model", "compile", text(&file), "--output", text(&output)]).assert_refused(&["--config"]);
    compile(&hf, &output, &["--exact"]).assert_refused(&["--exact"]);
    compile(&hf, &output, &["--from", "nhits"]).assert_refused(&["--from"]);
    compile(&hf, &output, &["--from", "xgboost"]).assert_refused(&["safetensors"]);
    compile(&hf, &output, &["--classes", "BUY,SELL"]).assert_refused(&["2 classes"]);
    compile(&nhits, &output, &["--classes", "BUY,SELL,HOLD"]).assert_refused(&["NHITS"]);
    assert!(!output.exists());
    let image = compiled(&hf, &directory);
    let rows = nhits.path.join("rows.npy");
    qsc::run(["predict", text(&image), "--input", text(&rows)])
        .assert_refused(&["32 time steps of 3 features"]);
}
