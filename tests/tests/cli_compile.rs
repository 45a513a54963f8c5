//! `qsc model compile` and `inspect`: the bundled images and their manifest are true, and nothing unclear is packed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use qsc_tests::bundle::{self, names_in, sha256, small, text};
use qsc_tests::qsc::{self, Run};
use serde_json::{Value, json};
use tempfile::TempDir;

/// `qsc model compile INPUT --output out.qsm …` in `directory`.
fn compile(directory: &Path, input: &Path, more: &[&str]) -> Run {
    let mut command = qsc::command(["model", "compile", text(input), "--output", "out.qsm"]);
    command.current_dir(directory).args(more);
    qsc::finish(command, &[])
}

/// Compiles what must succeed; what `inspect` says of it.
fn compiled(input: &Path, more: &[&str]) -> Value {
    let directory = TempDir::new().unwrap();
    let run = compile(directory.path(), input, &[more, &["--format", "json"]].concat());
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{run:?}");
    let inspected =
        qsc::run(["model", "inspect", text(&directory.path().join("out.qsm")), "--format", "json"]);
    let (mut compiled, mut inspected) = (run.json(), inspected.json());
    assert_eq!(compiled["command"].take(), "model compile");
    assert_eq!(inspected["command"].take(), "model inspect");
    assert_eq!(compiled, inspected, "both describe the same image");
    compiled
}

/// Compiles what must be refused with one sentence that has every one of `parts`, leaving no file.
fn refused(input: &Path, more: &[&str], parts: &[&str]) {
    let directory = TempDir::new().unwrap();
    compile(directory.path(), input, more).assert_refused(parts);
    assert_eq!(names_in(directory.path()), [""; 0], "{more:?}");
}

/// The manifest's entries.
fn manifest() -> Vec<toml::Table> {
    let manifest: toml::Table = fs::read_to_string(bundle::file("MANIFEST.toml")).unwrap().parse().unwrap();
    assert_eq!(manifest["synthetic"].as_bool(), Some(true));
    let metadata: Value =
        serde_json::from_slice(&fs::read(bundle::file("trained/metadata.json")).unwrap()).unwrap();
    assert_eq!(manifest["training_seed"].as_integer(), metadata["seed"].as_i64());
    let models = manifest["model"].as_array().unwrap();
    models.iter().map(|model| model.as_table().unwrap().clone()).collect()
}

#[test]
fn bundled_images_are_their_trained_files_compiled() {
    assert_eq!(manifest().len(), qsc_models::IMAGES.len());
    for (entry, (name, linked)) in manifest().iter().zip(qsc_models::IMAGES) {
        let field = |field: &str| entry[field].as_str().unwrap();
        assert_eq!(field("name"), name);
        let directory = TempDir::new().unwrap();
        let input = bundle::file(field("source"));
        let config = input.with_extension("json");
        let training = bundle::file(&format!("trained/training_{name}.npy"));
        let calibrate = ["--name", name, "--calibrate", text(&training)];
        let more = if config.exists() { ["--config", text(&config)] } else { ["--classes", "HOLD,BUY,SELL"] };
        let run = compile(directory.path(), &input, &[&calibrate[..], &more].concat());
        assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{run:?}");
        let image = fs::read(directory.path().join("out.qsm")).unwrap();
        assert!(image == fs::read(bundle::file(field("image"))).unwrap(), "{name}: images/ is stale");
        assert!(image == linked, "{name}: the linked image is stale");
        assert_eq!(names_in(directory.path()), ["out.qsm"], "no temporary file is left");
    }
}

#[test]
fn the_manifest_is_true() {
    let metadata = ["trained/metadata.json", "trained/metadata_nets.json"]
        .map(|file| serde_json::from_slice::<Value>(&fs::read(bundle::file(file)).unwrap()).unwrap());
    for entry in manifest() {
        let field = |field: &str| entry[field].as_str().unwrap();
        let trained = metadata.iter().find_map(|of| of["models"].get(field("name"))).unwrap();
        let image = bundle::file(field("image"));
        let bytes = fs::read(&image).unwrap();
        let source = fs::read(bundle::file(field("source"))).unwrap();
        let inspected = qsc::run(["model", "inspect", text(&image), "--format", "json"]).json();

        assert_eq!(field("sha256"), sha256(&bytes));
        assert_eq!(entry["bytes"].as_integer(), i64::try_from(bytes.len()).ok());
        assert_eq!(field("source_sha256"), sha256(&source));
        assert_eq!(inspected["name"], field("name"));
        assert_eq!(inspected["sha256"], field("sha256"));
        assert_eq!(inspected["bytes"].as_i64(), entry["bytes"].as_integer());
        assert_eq!(inspected["source"]["sha256"], field("source_sha256"));
        assert_eq!(inspected["source"]["library"], field("library"));
        assert_eq!(json!(entry["features"]), inspected["feature_names"]);
        assert_eq!(json!(entry["classes"]), inspected["classes"]);
        // LightGBM's text names the version of its format only, safetensors none.
        let version = &inspected["source"]["library_version"];
        let known = match field("library") {
            "lightgbm" => "v4",
            "torch" => "",
            _ => field("library_version"),
        };
        assert_eq!(version, known);
        assert_eq!(trained["version"], field("library_version"));
        assert_eq!(trained["hold_out_accuracy"].as_f64(), entry["hold_out_accuracy"].as_float());
    }
}

#[test]
fn inspect_says_what_the_contract_promises() {
    let image = bundle::file("images/xgb.qsm");
    let json = qsc::run(["model", "inspect", text(&image), "--format", "json"]).json();
    let bytes = fs::read(&image).unwrap();
    for (field, value) in [
        ("name", json!("xgb")),
        ("kind", json!("trees")),
        ("format_version", json!("1.0")),
        ("sha256", json!(sha256(&bytes))),
        ("bytes", json!(bytes.len())),
        ("n_features", json!(23)),
        ("n_outputs", json!(3)),
        ("classes", json!(["HOLD", "BUY", "SELL"])),
        ("feature_names", json!(bundle::feature_names("xgb"))),
        ("trees", json!(300)),
    ] {
        assert_eq!(json[field], value, "{field}");
    }
    assert!(json["scratch_bytes"].as_u64().unwrap() > 0);
    let quantization = &json["quantization"];
    assert!(quantization["max_abs_error"].as_f64().is_some_and(|error| error > 0.0 && error < 1e-4));
    assert_eq!((&quantization["rank_bits"], &quantization["leaves"]), (&json!(8), &json!("i32")));
    let source = &json["source"];
    assert_eq!(source["file"], "xgb.ubj");
    assert_eq!(source["sha256"], sha256(&fs::read(bundle::file("trained/xgb.ubj")).unwrap()));
    assert_eq!((&source["library"], &source["library_version"]), (&json!("xgboost"), &json!("3.2.0")));

    let run = qsc::run(["model", "inspect", text(&image)]);
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""));
    assert!(run.stdout.starts_with("xgb: 300 trees, "), "{}", run.stdout);
    for part in
        [&sha256(&bytes)[..], "xgboost 3.2.0", "most probable of HOLD, BUY, SELL", "rsi_14, macd_signal"]
    {
        assert!(run.stdout.contains(part), "{part}: {}", run.stdout);
    }
}

#[test]
fn options_say_what_they_do() {
    let binary = small("binary.txt");
    let plain = compiled(&binary, &[]);
    assert_eq!(plain["name"], "binary", "the file's name without ending");
    assert_eq!(plain["decision"], json!({"rule": "dead_zone", "low": 0.4, "high": 0.6}));
    assert_eq!((&plain["classes"], &plain["n_outputs"]), (&json!([]), &json!(1)));
    assert_eq!(plain["feature_names"], json!(["rsi_14", "macd", "ema_10"]));
    assert_eq!(compiled(&binary, &["--name", "other"])["name"], "other");
    assert_eq!(compiled(&binary, &["--from", "lightgbm"])["sha256"], plain["sha256"]);
    assert_eq!(compiled(&small("regression.txt"), &[])["decision"], Value::Null);

    let exact = compiled(&binary, &["--exact"]);
    assert_eq!(exact["quantization"]["leaves"], "f64-exact");
    let exact = compiled(&small("early.json"), &["--exact", "--iterations", "all"]);
    assert_eq!(exact["quantization"]["leaves"], "f32-exact");

    let sold = compiled(&bundle::file("trained/xgb.ubj"), &["--classes", "SELL,HOLD,BUY"]);
    assert_eq!(sold["classes"], json!(["SELL", "HOLD", "BUY"]));
}

#[test]
fn the_number_of_iterations_is_never_guessed() {
    let early = small("early.json");
    refused(&early, &[], &["early.json", "best_iteration 6", "--iterations all, best or a number"]);
    for (iterations, trees) in [("all", 13), ("best", 7), ("1", 1), ("13", 13)] {
        assert_eq!(compiled(&early, &["--iterations", iterations])["trees"], trees, "{iterations}");
    }
    refused(&early, &["--iterations", "14"], &["--iterations 14", "13 iterations", "1 to 13"]);
    refused(&small("binary.txt"), &["--iterations", "best"], &["no best_iteration"]);
}

#[test]
fn classes_must_fit() {
    let xgb = bundle::file("trained/xgb.ubj");
    refused(&xgb, &["--classes", "BUY,SELL"], &["2 classes", "the model has 3"]);
    refused(&small("binary.txt"), &["--classes", "BUY,SELL"], &["--classes", "binary", "1 output"]);
    refused(&small("regression.txt"), &["--classes", "BUY"], &["--classes", "regression"]);
    refused(&small("one_class.json"), &["--classes", "BUY"], &["--classes", "multi:softprob", "1 output"]);
}

#[test]
fn what_is_no_class_and_no_chance_does_not_vote() {
    for model in ["one_class.json", "three_labels.json"] {
        let silent = compiled(&small(model), &[]);
        assert_eq!((&silent["decision"], &silent["classes"]), (&Value::Null, &json!([])), "{model}");
    }
    let said = compiled(&small("three_labels.json"), &["--classes", "SELL,HOLD,BUY"]);
    assert_eq!(said["classes"], json!(["SELL", "HOLD", "BUY"]), "who says what they are is believed");
}

#[test]
fn a_config_adds_names_and_classes_and_nothing_else() {
    let directory = TempDir::new().unwrap();
    let write = |content: &str| {
        let path = directory.path().join("model.json");
        fs::write(&path, content).unwrap();
        path
    };
    let binary = small("binary.txt");
    let path = write(r#"{"feature_names": ["a", "b", "c"]}"#);
    assert_eq!(compiled(&binary, &["--config", text(&path)])["feature_names"], json!(["a", "b", "c"]));
    let path = write(r#"{"classes": ["SELL", "HOLD", "BUY"]}"#);
    let xgb = bundle::file("trained/xgb.ubj");
    assert_eq!(compiled(&xgb, &["--config", text(&path)])["classes"], json!(["SELL", "HOLD", "BUY"]));
    let both = compiled(&xgb, &["--config", text(&path), "--classes", "HOLD,BUY,SELL"]);
    assert_eq!(both["classes"], json!(["HOLD", "BUY", "SELL"]), "the flag beats the file");

    for (content, parts) in [
        (r#"{"feature_names": ["a", "b"]}"#, &["names 2 features", "has 3"][..]),
        (r#"{"feature_names": ["a", "b", "a"]}"#, &["--config", "\"a\""]),
        (r#"{"feature_names": ["a", "", "b"]}"#, &["--config", "empty name"]),
        (r#"{"feature_name": ["a", "b", "c"]}"#, &["model.json", "feature_name"]),
        (r#"{"classes": ["UP"]}"#, &["model.json", "UP"]),
        ("[", &["model.json"]),
        ("", &["model.json"]),
    ] {
        let path = write(content);
        refused(&binary, &["--config", text(&path)], parts);
    }
    let absent = directory.path().join("absent.json");
    refused(&binary, &["--config", text(&absent)], &["cannot read", "absent.json"]);
}

#[test]
fn foreign_and_broken_inputs_are_refused_by_name() {
    let directory = TempDir::new().unwrap();
    let write = |name: &str, content: &[u8]| {
        let path = directory.path().join(name);
        fs::write(&path, content).unwrap();
        path
    };
    refused(&directory.path().join("absent.json"), &[], &["cannot read", "absent.json", "No such file"]);
    refused(directory.path(), &[], &["cannot read", "directory"]);
    refused(&write("empty.json", b""), &[], &["empty.json", "empty"]);
    refused(&write("notes.txt", b"hello\n"), &[], &["notes.txt", "no known model format"]);
    refused(&write("model.pkl", b"\x80\x04\x95\0\0"), &[], &["model.pkl", "pickle"]);
    refused(&write("model.json", b"{}"), &[], &["model.json"]);
    refused(&bundle::file("images/xgb.qsm"), &[], &["xgb.qsm"]);
    refused(&bundle::file("trained/xgb.ubj"), &["--from", "lightgbm"], &["--from xgboost"]);
    refused(&bundle::file("trained/lgbm.txt"), &["--from", "xgboost"], &["--from lightgbm"]);
    for trained in [small("early.json"), small("binary.txt"), bundle::file("trained/xgb.ubj")] {
        let whole = fs::read(&trained).unwrap();
        let name = format!("torn-{}", trained.file_name().unwrap().to_str().unwrap());
        // LightGBM's text goes on behind its trees with what no prediction needs.
        let trees = whole.windows(12).position(|words| words == b"end of trees").unwrap_or(whole.len() - 1);
        for end in [10, trees / 3, trees / 2, trees * 9 / 10, trees] {
            refused(&write(&name, &whole[..end]), &["--iterations", "all"], &[&name]);
        }
    }
    refused(&small("binary.txt"), &["--name", ""], &["--name"]);
}

#[test]
fn an_output_is_replaced_whole_or_not_at_all() {
    let directory = TempDir::new().unwrap();
    let output = directory.path().join("out.qsm");
    fs::write(&output, vec![0xff; 1 << 20]).unwrap();
    compile(directory.path(), &directory.path().join("absent.txt"), &[]).assert_refused(&["absent.txt"]);
    assert_eq!(fs::read(&output).unwrap().len(), 1 << 20, "a refusal leaves the old file");
    assert_eq!(compile(directory.path(), &small("binary.txt"), &[]).code, Some(0));
    assert_eq!(qsc::run(["model", "verify", text(&output)]).code, Some(0));
    assert_eq!(names_in(directory.path()), ["out.qsm"]);
    assert_eq!(fs::metadata(&output).unwrap().permissions().mode() & 0o444, 0o444, "readable as any file");

    let elsewhere = |output: &str| {
        let mut command = qsc::command(["model", "compile", text(&small("binary.txt")), "--output", output]);
        command.current_dir(directory.path());
        qsc::finish(command, &[])
    };
    elsewhere("absent/out.qsm").assert_refused(&["cannot write", "absent/out.qsm"]);
    elsewhere("/proc/out.qsm").assert_refused(&["cannot write", "/proc/out.qsm"]);
    elsewhere(".").assert_refused(&["cannot write", "directory"]);
}

#[test]
fn the_trained_file_is_never_overwritten() {
    let directory = TempDir::new().unwrap();
    let trained = directory.path().join("out.qsm");
    fs::copy(small("binary.txt"), &trained).unwrap();
    let before = fs::read(&trained).unwrap();
    compile(directory.path(), &trained, &[]).assert_refused(&["--output would overwrite", "out.qsm"]);
    let link = directory.path().join("link.txt");
    std::os::unix::fs::symlink("out.qsm", &link).unwrap();
    compile(directory.path(), &link, &[]).assert_refused(&["--output would overwrite", "out.qsm"]);
    assert_eq!(fs::read(&trained).unwrap(), before);
}
