//! `qsc model verify`: golden vectors, expected values, and files that are no image.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use qsc_cli::rows::{RowShape, Rows, read, write};
use qsc_tests::bundle::{self, reseal, section, small, text};
use qsc_tests::qsc::{self, Run};
use serde_json::{Value, json};
use tempfile::TempDir;

fn verify(image: &Path, more: &[&str]) -> Run {
    qsc::run([&["model", "verify", text(image)], more].concat())
}

fn verify_json(image: &Path, more: &[&str]) -> (Option<i32>, Value) {
    let run = verify(image, &[more, &["--format", "json"]].concat());
    assert_eq!(run.stderr, "", "{run:?}");
    (run.code, run.json())
}

/// A small image in `directory`.
fn small_image(directory: &TempDir) -> PathBuf {
    let path = directory.path().join("binary.qsm");
    let run = qsc::run(["model", "compile", text(&small("binary.txt")), "--output", text(&path)]);
    assert_eq!(run.code, Some(0), "{run:?}");
    path
}

#[test]
fn golden_vectors_hold() {
    for name in ["xgb", "lgbm"] {
        let image = bundle::file(&format!("images/{name}.qsm"));
        let (code, json) = verify_json(&image, &[]);
        assert_eq!(code, Some(0));
        assert_eq!((&json["contract"], &json["command"]), (&json!(1), &json!("model verify")));
        assert_eq!((&json["verdict"], &json["exit_code"]), (&json!("pass"), &json!(0)));
        assert_eq!((&json["name"], &json["compared"]), (&json!(name), &Value::Null));
        assert!(json["golden"]["rows"].as_u64().unwrap() > 0 && json["golden"]["error"].is_null());
        let run = verify(&image, &[]);
        assert!(run.stdout.starts_with("golden vectors: ") && run.stdout.ends_with("\nPASS\n"), "{run:?}");
    }
}

#[test]
fn the_library_gave_the_same() {
    for name in ["xgb", "lgbm"] {
        let image = bundle::file(&format!("images/{name}.qsm"));
        let rows = bundle::file(&format!("trained/rows_{name}.npy"));
        let expected = bundle::file(&format!("trained/expected_{name}.npy"));
        let arguments = ["--input", text(&rows), "--expected", text(&expected)];
        let (code, json) = verify_json(&image, &arguments);
        assert_eq!((code, &json["verdict"]), (Some(0), &json!("pass")));
        let compared = &json["compared"];
        assert_eq!((&compared["values"], &compared["outside"]), (&json!(256 * 3), &json!(0)));
        assert_eq!((&compared["tolerance"], &compared["first"]), (&json!(1e-5), &Value::Null));
        assert!(compared["largest_difference"].as_f64().is_some_and(|largest| largest <= 1e-5));

        let (code, json) = verify_json(&image, &[&arguments[..], &["--raw"]].concat());
        assert_eq!((code, &json["verdict"]), (Some(2), &json!("fail")), "margins are no probabilities");
    }
}

#[test]
fn the_first_difference_is_named() {
    let directory = TempDir::new().unwrap();
    let image = bundle::file("images/xgb.qsm");
    let rows = bundle::file("trained/rows_xgb.npy");
    let whole = read(&bundle::file("trained/expected_xgb.npy")).unwrap();
    let path = directory.path().join("altered.npy");
    let alter = |changes: &[(usize, f32)]| {
        let mut data = whole.data().to_vec();
        for &(at, value) in changes {
            data[at] = value;
        }
        write(&path, &Rows::new(RowShape::flat(3), data, None).unwrap()).unwrap();
    };
    let arguments = ["--input", text(&rows), "--expected", text(&path)];

    let off = whole.data()[3 * 7 + 1] + 1e-3;
    alter(&[(3 * 7 + 1, off), (3 * 9, 0.0)]);
    let (code, json) = verify_json(&image, &arguments);
    assert_eq!((code, &json["verdict"], &json["exit_code"]), (Some(2), &json!("fail"), &json!(2)));
    let compared = &json["compared"];
    assert_eq!(compared["outside"], 2);
    assert_eq!((&compared["first"]["row"], &compared["first"]["output"]), (&json!(7), &json!(1)));
    assert_eq!(compared["first"]["expected"].as_f64(), Some(f64::from(off)));
    assert!(json["golden"]["error"].is_null());
    let run = verify(&image, &arguments);
    assert_eq!(run.code, Some(2));
    assert!(run.stdout.contains("first difference: row 7, output 1: got "), "{run:?}");
    assert!(run.stdout.ends_with("\nFAIL\n"), "{run:?}");
    let (code, _) = verify_json(&image, &[&arguments[..], &["--tolerance", "2"]].concat());
    assert_eq!(code, Some(0));

    alter(&[(5, f32::NAN)]);
    let (code, json) = verify_json(&image, &[&arguments[..], &["--tolerance", "1e9"]].concat());
    assert_eq!((code, &json["compared"]["outside"]), (Some(2), &json!(1)), "NaN never agrees");
}

#[test]
fn shapes_must_fit() {
    let directory = TempDir::new().unwrap();
    let image = bundle::file("images/xgb.qsm");
    let rows = bundle::file("trained/rows_xgb.npy");
    let wrong = directory.path().join("wrong.npy");
    let refused = |input: &Path, expected: &Path, parts: &[&str]| {
        verify(&image, &["--input", text(input), "--expected", text(expected)]).assert_refused(parts);
    };
    for (n_rows, width) in [(255, 3), (256, 2), (768, 1)] {
        let rows_there = Rows::new(RowShape::flat(width), vec![0.0; n_rows * width], None).unwrap();
        write(&wrong, &rows_there).unwrap();
        refused(&rows, &wrong, &["wrong.npy", &format!("[{n_rows}, {width}]"), "[256, 3]"]);
    }
    let expected = bundle::file("trained/expected_xgb.npy");
    refused(&expected, &expected, &["expected_xgb.npy", "3 features", "23"]);
    refused(&directory.path().join("absent.npy"), &expected, &["absent.npy"]);
    refused(&rows, &directory.path().join("absent.npy"), &["absent.npy"]);
    fs::write(&wrong, b"\x93NUMPY").unwrap();
    refused(&rows, &wrong, &["wrong.npy"]);
}

#[test]
fn what_is_no_image_is_refused() {
    let directory = TempDir::new().unwrap();
    let whole = fs::read(small_image(&directory)).unwrap();
    let path = directory.path().join("altered.qsm");
    let flipped = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        bytes
    };
    let altered = |at: usize, value: u8| {
        let mut bytes = whole.clone();
        bytes[at] = value;
        reseal(bytes)
    };
    let cases: [(&str, Vec<u8>); 12] = [
        ("empty", Vec::new()),
        ("text", b"hello\n".to_vec()),
        ("a trained file", fs::read(small("binary.txt")).unwrap()),
        ("a header's half", whole[..32].to_vec()),
        ("cut by a byte", whole[..whole.len() - 1].to_vec()),
        ("cut in the middle", whole[..whole.len() / 2 / 64 * 64].to_vec()),
        ("something behind it", [&whole[..], &[0; 64]].concat()),
        ("one bit in the header", flipped(16)),
        ("one bit in the digest", flipped(40)),
        ("one bit in the last section", flipped(whole.len() - 64)),
        ("another major version", altered(8, 2)),
        ("a newer minor version", altered(10, 1)),
    ];
    for (what, bytes) in cases {
        fs::write(&path, bytes).unwrap();
        for arguments in [&["model", "verify"][..], &["model", "inspect"]] {
            let run = qsc::run([arguments, &[text(&path)]].concat());
            assert!(run.stderr.contains("altered.qsm"), "{what}: {run:?}");
            run.assert_refused(&[]);
        }
    }
    verify(&path, &["--input", "x", "--expected", "y"]).assert_refused(&["format 1.1 is not supported"]);
    verify(&directory.path().join("absent.qsm"), &[]).assert_refused(&["cannot read", "absent.qsm"]);
    verify(directory.path(), &[]).assert_refused(&["directory"]);
}

#[test]
fn altered_golden_bits_are_a_verdict() {
    const GOLDEN_RAW: u32 = 6;
    const GOLDEN_OUTPUTS: u32 = 7;
    let directory = TempDir::new().unwrap();
    let image = small_image(&directory);
    let whole = fs::read(&image).unwrap();
    for (number, bytes_per_row) in [(GOLDEN_RAW, 8), (GOLDEN_OUTPUTS, 4)] {
        let mut bytes = whole.clone();
        bytes[section(&whole, number).start + 2 * bytes_per_row] ^= 1;
        fs::write(&image, reseal(bytes)).unwrap();
        let (code, json) = verify_json(&image, &[]);
        assert_eq!((code, &json["verdict"], &json["exit_code"]), (Some(2), &json!("fail"), &json!(2)));
        assert!(json["golden"]["error"].as_str().unwrap().contains("golden row 2"), "{json}");
        let run = verify(&image, &[]);
        assert!(run.stdout.contains("golden row 2") && run.stdout.ends_with("\nFAIL\n"), "{run:?}");
    }
}
