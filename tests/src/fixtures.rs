//! The models under `fixtures/models`: files of real libraries, and what those libraries predict with them.

use std::fs;
use std::path::{Path, PathBuf};

use qsc_cli::compile::{ImportOptions, Iterations, Source};
use qsc_cli::rows::{self, Rows};
use serde_json::Value;

/// One trained file with the rows and the answers of the library that wrote it.
pub struct ModelCase {
    /// The case's directory name, e.g. `xgboost-3.2.0-binary`.
    pub name: String,
    /// The trained file.
    pub path: PathBuf,
    /// What to import of it.
    pub options: ImportOptions,
    /// Input rows, hard ones among them.
    pub rows: Rows,
    /// The library's margins, `[rows, groups]`: f32 widened for XGBoost, f64 for LightGBM.
    pub margins: Vec<f64>,
    /// The library's predictions, `[rows, groups]`; `[rows]` where they are class numbers.
    pub outputs: Vec<f64>,
    /// The predictions are class numbers, not one number per group (`multi:softmax`).
    pub outputs_are_classes: bool,
}

/// A file that must be refused.
pub struct RefusedCase {
    /// The case's directory name.
    pub name: String,
    /// The trained file.
    pub path: PathBuf,
    /// What the refusal must say.
    pub words: Vec<String>,
}

/// Every model case, by name.
///
/// # Panics
/// If a case is incomplete.
#[must_use]
pub fn models() -> Vec<ModelCase> {
    directories(&root()).into_iter().map(|directory| model(&directory)).collect()
}

/// Every file that must be refused, by name.
///
/// # Panics
/// If a case is incomplete.
#[must_use]
pub fn refused_models() -> Vec<RefusedCase> {
    let refused = |directory: PathBuf| {
        let meta = meta(&directory);
        let words = meta["words"].as_array().expect("refused cases have words");
        RefusedCase {
            name: name(&directory),
            path: directory.join(text(&meta, "model")),
            words: words.iter().map(|word| word.as_str().expect("words are texts").to_owned()).collect(),
        }
    };
    directories(&root().join("refused")).into_iter().map(refused).collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/models")
}

/// The directories in `parent` that hold a case.
fn directories(parent: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(parent).expect("the fixtures are committed");
    let paths = entries.map(|entry| entry.expect("the directory can be read").path());
    let mut cases: Vec<PathBuf> = paths.filter(|path| path.join("meta.json").is_file()).collect();
    cases.sort();
    cases
}

fn name(directory: &Path) -> String {
    directory.file_name().expect("a case has a name").to_string_lossy().into_owned()
}

fn meta(directory: &Path) -> Value {
    let text = fs::read_to_string(directory.join("meta.json")).expect("meta.json can be read");
    serde_json::from_str(&text).expect("meta.json is JSON")
}

fn text<'m>(meta: &'m Value, key: &str) -> &'m str {
    meta[key].as_str().expect("the key holds a text")
}

fn model(directory: &Path) -> ModelCase {
    let meta = meta(directory);
    let iterations = match &meta["iterations"] {
        Value::Null => None,
        Value::String(word) if word == "all" => Some(Iterations::All),
        Value::String(word) if word == "best" => Some(Iterations::Best),
        count => {
            let count = count.as_u64().expect("iterations are null, all, best or a count");
            Some(Iterations::First(usize::try_from(count).expect("a small count")))
        }
    };
    let array =
        |file: &str| rows::read_f64(&directory.join(file)).expect("the array can be read").data().to_vec();
    ModelCase {
        name: name(directory),
        path: directory.join(text(&meta, "model")),
        options: ImportOptions { from: Source::Auto, iterations },
        rows: rows::read(&directory.join("rows.npy")).expect("the rows can be read"),
        margins: array("margin.npy"),
        outputs: array("prob.npy"),
        outputs_are_classes: meta["output"] == "class",
    }
}
