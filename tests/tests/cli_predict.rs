//! `qsc predict`: one answer whatever the format of the rows, the outputs, or the backend.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use qsc_cli::rows::{RowShape, Rows, read, write};
use qsc_tests::bundle::{self, names_in, small, text};
use qsc_tests::qsc::{self, Run};
use serde_json::json;
use tempfile::TempDir;

fn predict(model: &str, input: &Path, more: &[&str]) -> Run {
    let image = bundle::file(&format!("images/{model}.qsm"));
    qsc::run([&["predict", text(&image), "--input", text(input)], more].concat())
}

/// Predicts into `output` and reads it back.
fn predicted(model: &str, input: &Path, output: &Path, more: &[&str]) -> Rows {
    let run = predict(model, input, &[&["--output", text(output)], more].concat());
    assert_eq!((run.code, run.stdout.as_str(), run.stderr.as_str()), (Some(0), "", ""), "{run:?}");
    read(output).unwrap()
}

fn bits(rows: &Rows) -> Vec<u32> {
    rows.data().iter().map(|value| value.to_bits()).collect()
}

/// `rows` under the model's names, columns in `order`.
fn named(rows: &Rows, model: &str, order: impl Fn(usize) -> usize) -> Rows {
    let names = bundle::feature_names(model);
    let width = names.len();
    let data = rows.iter().flat_map(|row| (0..width).map(|at| row[order(at)])).collect();
    let names = (0..width).map(|at| names[order(at)].clone()).collect();
    Rows::new(RowShape::flat(width), data, Some(names)).unwrap()
}

#[test]
fn every_format_gives_the_same_bits() {
    let directory = TempDir::new().unwrap();
    let path = |name: &str| directory.path().join(name);
    for model in ["xgb", "lgbm"] {
        let rows = bundle::rows(model);
        let truth =
            predicted(model, &bundle::file(&format!("trained/rows_{model}.npy")), &path("truth.npy"), &[]);
        assert_eq!((truth.n_rows(), truth.shape()), (256, RowShape::flat(3)));
        let expected = read(&bundle::file(&format!("trained/expected_{model}.npy"))).unwrap();
        for (got, wanted) in truth.data().iter().zip(expected.data()) {
            assert!((got - wanted).abs() <= 1e-5, "{model}: {got} {wanted}");
        }
        // Backwards, so that only names can put the columns right.
        let backwards = named(&rows, model, |at| bundle::feature_names(model).len() - 1 - at);
        for (input, rows) in [
            ("i.npy", &rows),
            ("i.csv", &rows),
            ("i.jsonl", &rows),
            ("n.csv", &backwards),
            ("n.jsonl", &backwards),
        ] {
            write(&path(input), rows).unwrap();
            for output in ["o.npy", "o.csv", "o.jsonl"] {
                let got = predicted(model, &path(input), &path(output), &[]);
                // JSON objects have no order; read back, their columns are in the order of their names.
                let got = got.bind(&["p_HOLD", "p_BUY", "p_SELL"]).unwrap();
                assert!(bits(&got) == bits(&truth), "{model}: {input} to {output}");
            }
        }
        for backend in ["auto", "scalar"] {
            let got = predicted(model, &path("i.npy"), &path("o.npy"), &["--backend", backend]);
            assert!(bits(&got) == bits(&truth), "{backend}");
        }
        let run = predict(model, &path("i.npy"), &[]);
        let csv = fs::read_to_string(path("o.csv")).unwrap();
        assert_eq!((run.code, run.stdout, run.stderr.as_str()), (Some(0), csv, ""), "stdout is the CSV");
    }
}

#[test]
fn columns_say_what_they_hold() {
    let directory = TempDir::new().unwrap();
    let input = bundle::file("trained/rows_xgb.npy");
    let header = |run: Run| run.stdout.lines().next().unwrap().to_owned();
    assert_eq!(header(predict("xgb", &input, &[])), "p_HOLD,p_BUY,p_SELL");
    assert_eq!(header(predict("xgb", &input, &["--raw"])), "raw_HOLD,raw_BUY,raw_SELL");

    let raw = predicted("xgb", &input, &directory.path().join("raw.npy"), &["--raw"]);
    let probabilities = predicted("xgb", &input, &directory.path().join("p.npy"), &[]);
    for (raw, p) in raw.iter().zip(probabilities.iter()) {
        let sum: f64 = raw.iter().map(|&margin| f64::from(margin).exp()).sum();
        for (&margin, &p) in raw.iter().zip(p) {
            assert!((f64::from(margin).exp() / sum - f64::from(p)).abs() < 1e-6, "margins are no logits");
        }
    }

    let rows = directory.path().join("rows.csv");
    fs::write(&rows, "ema_10,rsi_14,macd\n0.5,1,-1\n").unwrap();
    for (trained, header, bounds) in
        [("binary.txt", "p", 0.0..=1.0), ("regression.txt", "output_0", 0.1..=0.4)]
    {
        let image = directory.path().join("small.qsm");
        assert_eq!(
            qsc::run(["model", "compile", text(&small(trained)), "--output", text(&image)]).code,
            Some(0)
        );
        let run = qsc::run(["predict", text(&image), "--input", text(&rows)]);
        let lines: Vec<&str> = run.stdout.lines().collect();
        assert_eq!((run.code, lines.len(), lines[0]), (Some(0), 2, header), "{run:?}");
        assert!(bounds.contains(&lines[1].parse::<f32>().unwrap()), "{run:?}");
    }
}

#[test]
fn json_is_one_document() {
    let directory = TempDir::new().unwrap();
    let input = bundle::file("trained/rows_xgb.npy");
    let output = directory.path().join("out.npy");
    let json = predict("xgb", &input, &["--format", "json"]).json();
    assert_eq!(
        (&json["contract"], &json["command"], &json["rows"]),
        (&json!(1), &json!("predict"), &json!(256))
    );
    assert_eq!(json["columns"], json!(["p_HOLD", "p_BUY", "p_SELL"]));
    let truth = predicted("xgb", &input, &output, &[]);
    for (row, outputs) in truth.iter().zip(json["outputs"].as_array().unwrap()) {
        let outputs: Vec<f32> =
            outputs.as_array().unwrap().iter().map(|p| p.as_f64().unwrap() as f32).collect();
        assert_eq!(outputs, row);
    }
    let json = predict("xgb", &input, &["--format", "json", "--output", text(&output)]).json();
    assert_eq!((&json["rows"], &json["output"]), (&json!(256), &json!(text(&output))));
}

#[test]
fn columns_are_bound_by_name() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("rows.csv");
    let names = bundle::feature_names("xgb");
    let rows = bundle::rows("xgb");
    let row: Vec<String> = rows.row(0).iter().map(f32::to_string).collect();
    let truth = {
        fs::write(&path, format!("{}\n", row.join(","))).unwrap();
        predict("xgb", &path, &[]).stdout
    };
    fs::write(&path, format!("extra,{},more\n9,{},nan\n", names.join(","), row.join(","))).unwrap();
    let run = predict("xgb", &path, &[]);
    assert_eq!((run.code, &run.stdout), (Some(0), &truth), "further columns change nothing");

    let without = |text: &[String], gone: &[usize]| {
        let left = (0..text.len()).filter(|at| !gone.contains(at)).map(|at| text[at].as_str());
        left.collect::<Vec<_>>().join(",")
    };
    fs::write(&path, format!("{},x\n{},0\n", without(&names, &[3]), without(&row, &[3]))).unwrap();
    predict("xgb", &path, &[]).assert_refused(&["rows.csv", "ema_50"]);
    fs::write(&path, format!("{}\n{}\n", without(&names, &[0, 22]), without(&row, &[0, 22]))).unwrap();
    predict("xgb", &path, &[]).assert_refused(&["rsi_14", "high_low_range"]);
    fs::write(&path, format!("{}\n", without(&row, &[0]))).unwrap();
    predict("xgb", &path, &[]).assert_refused(&["rows.csv", "22 features", "23"]);
    predict("lgbm", &bundle::file("trained/rows_xgb.npy"), &[]).assert_refused(&["23 features", "21"]);
}

#[test]
fn nan_is_a_missing_value_everywhere() {
    let directory = TempDir::new().unwrap();
    let path = |name: &str| directory.path().join(name);
    let names = bundle::feature_names("lgbm");
    let mut data = bundle::rows("lgbm").row(0).to_vec();
    data[0] = f32::NAN;
    let cells = |missing: &str| {
        let cells =
            data.iter().map(|value| if value.is_nan() { missing.to_owned() } else { value.to_string() });
        cells.collect::<Vec<_>>().join(",")
    };
    write(&path("i.npy"), &Rows::new(RowShape::flat(data.len()), data.clone(), None).unwrap()).unwrap();
    let truth = predict("lgbm", &path("i.npy"), &[]);
    assert_eq!(truth.code, Some(0));
    for (name, content) in [
        ("empty.csv", format!("{}\n{}\n", names.join(","), cells(""))),
        ("nan.csv", format!("{}\n", cells("NaN"))),
        ("null.jsonl", format!("[{}]\n", cells("null"))),
        ("nan.jsonl", format!("[{}]\n", cells("NaN"))),
    ] {
        fs::write(path(name), content).unwrap();
        assert_eq!(predict("lgbm", &path(name), &[]).stdout, truth.stdout, "{name}");
    }
}

#[test]
fn what_cannot_be_done_is_refused_and_leaves_nothing() {
    let directory = TempDir::new().unwrap();
    let path = |name: &str| directory.path().join(name);
    let rows = bundle::file("trained/rows_xgb.npy");
    let unknown = predict("xgb", &rows, &["--backend", "gpu"]);
    assert_eq!((unknown.code, unknown.stdout.as_str()), (Some(64), ""), "{unknown:?}");
    assert!(["gpu", "auto", "scalar"].iter().all(|word| unknown.stderr.contains(word)), "{unknown:?}");
    predict("xgb", &path("absent.csv"), &[]).assert_refused(&["absent.csv"]);
    predict("xgb", &path("rows.parquet"), &[]).assert_refused(&["rows.parquet", ".npy, .csv or .jsonl"]);
    predict("xgb", &rows, &["--output", text(&path("out.txt"))])
        .assert_refused(&["out.txt", ".npy, .csv or .jsonl"]);
    predict("xgb", &rows, &["--output", text(&path("absent/out.csv"))]).assert_refused(&["absent/out.csv"]);
    fs::write(path("torn.npy"), &fs::read(&rows).unwrap()[..5000]).unwrap();
    predict("xgb", &path("torn.npy"), &["--output", text(&path("out.csv"))]).assert_refused(&["torn.npy"]);
    fs::write(path("text.csv"), "a,b\n1,2\n3,four\n").unwrap();
    predict("xgb", &path("text.csv"), &["--output", text(&path("out.csv"))])
        .assert_refused(&["text.csv", "line 3", "four"]);
    qsc::run(["predict", text(&rows), "--input", text(&rows)]).assert_refused(&["rows_xgb.npy"]);
    assert_eq!(names_in(directory.path()), ["text.csv", "torn.npy"]);

    fs::copy(&rows, path("rows.npy")).unwrap();
    predict("xgb", &path("rows.npy"), &["--output", text(&path("rows.npy"))]).assert_refused(&[
        "--output would overwrite",
        "rows.npy",
        "--input",
    ]);
    assert_eq!(fs::read(path("rows.npy")).unwrap(), fs::read(&rows).unwrap());
}

#[test]
fn an_output_is_replaced_whole() {
    let directory = TempDir::new().unwrap();
    let output = directory.path().join("out.csv");
    fs::write(&output, "x".repeat(1 << 20)).unwrap();
    let got = predicted("xgb", &bundle::file("trained/rows_xgb.npy"), &output, &[]);
    assert_eq!(got.n_rows(), 256);
    assert_eq!(names_in(directory.path()), ["out.csv"]);
}
