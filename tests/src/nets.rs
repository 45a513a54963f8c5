//! The networks under `fixtures/nets`: files of real libraries, and what those libraries predict with them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use qsc_cli::compile::nets;
use qsc_cli::compile::nets::ir::NetModel;
use qsc_cli::compile::nets::pack::{NetPackOptions, pack};
use qsc_cli::image::ImageBytes;
use qsc_cli::rows::{self, Rows};
use serde_json::Value;

/// One trained network with the rows and the answers of the library that wrote it.
pub struct NetCase {
    /// The case's directory name, e.g. `hf-layernorm`.
    pub name: String,
    /// Its directory.
    pub path: PathBuf,
    /// Input windows.
    pub rows: Rows,
    /// The library's logits or forecasts, `[rows, n_raw]`.
    pub raw: Vec<f64>,
    /// The library's probabilities or forecasts, `[rows, n_raw]`.
    pub outputs: Vec<f64>,
}

/// A network that must be refused.
pub struct RefusedNet {
    /// The case's directory name.
    pub name: String,
    /// Its directory.
    pub path: PathBuf,
    /// What the refusal must say.
    pub words: Vec<String>,
}

impl NetCase {
    /// The network as imported.
    ///
    /// # Panics
    /// If it is refused.
    #[must_use]
    pub fn import(&self) -> NetModel {
        import(&self.path).unwrap_or_else(|error| panic!("{}: {error:#}", self.name))
    }

    /// Its image.
    ///
    /// # Panics
    /// If it cannot be packed.
    #[must_use]
    pub fn image(&self) -> ImageBytes {
        image(&self.import()).unwrap_or_else(|error| panic!("{}: {error:#}", self.name))
    }
}

/// Imports the network of a case's directory.
///
/// # Errors
/// Why it is refused.
pub fn import(directory: &Path) -> anyhow::Result<NetModel> {
    let file = directory.join("model.safetensors");
    let bytes = fs::read(&file)?;
    let config = match fs::read_to_string(directory.join("config.json")) {
        Ok(text) => Some(serde_json::from_str::<Value>(&text)?),
        Err(_) => None,
    };
    nets::import(&bytes, config.as_ref(), None).with_context(|| file.display().to_string())
}

/// Packs a network, measured on synthetic rows.
///
/// # Errors
/// Why it cannot be packed.
pub fn image(model: &NetModel) -> anyhow::Result<ImageBytes> {
    let options = NetPackOptions {
        name: "net".to_owned(),
        source_file: "model.safetensors".to_owned(),
        source_sha256: [0; 32],
    };
    pack(model, &options)
}

/// Every network case, by name.
///
/// # Panics
/// If a case is incomplete.
#[must_use]
pub fn cases() -> Vec<NetCase> {
    let case = |path: PathBuf| {
        let array =
            |file: &str| rows::read_f64(&path.join(file)).expect("the array can be read").data().to_vec();
        NetCase {
            name: name(&path),
            rows: rows::read(&path.join("rows.npy")).expect("the rows can be read"),
            raw: array("raw.npy"),
            outputs: array("prob.npy"),
            path,
        }
    };
    directories(&root(), "meta.json").into_iter().map(case).collect()
}

/// Every network that must be refused, by name.
///
/// # Panics
/// If a case is incomplete.
#[must_use]
pub fn refused() -> Vec<RefusedNet> {
    let case = |path: PathBuf| {
        let text = fs::read_to_string(path.join("refusal.json")).expect("refusal.json can be read");
        let refusal: Value = serde_json::from_str(&text).expect("refusal.json is JSON");
        let words = refusal["must_contain"].as_array().expect("the words are a list");
        let words = words.iter().map(|word| word.as_str().expect("a word is a text").to_owned()).collect();
        RefusedNet { name: name(&path), path, words }
    };
    directories(&root().join("refused"), "refusal.json").into_iter().map(case).collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/nets")
}

/// The directories in `parent` that hold `file`.
fn directories(parent: &Path, file: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(parent).expect("the fixtures are committed");
    let paths = entries.map(|entry| entry.expect("the directory can be read").path());
    let mut cases: Vec<PathBuf> = paths.filter(|path| path.join(file).is_file()).collect();
    cases.sort();
    assert!(!cases.is_empty(), "no fixtures in {}", parent.display());
    cases
}

fn name(directory: &Path) -> String {
    directory.file_name().expect("a case has a name").to_string_lossy().into_owned()
}
