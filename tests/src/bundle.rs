//! The bundled models and what tests make of them: scratch ensembles, feature events, altered images.

use std::fs;
use std::path::{Path, PathBuf};

use qsc_cli::rows::{self, Rows};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::capture::Capture;

/// Offsets of an image's SHA-256 over all its other bytes (FORMAT.md, header).
const DIGEST: std::ops::Range<usize> = 32..64;

/// A file of `models-bin`, e.g. `images/xgb.qsm`.
#[must_use]
pub fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models-bin").join(path)
}

/// A small trained model of `tests/fixtures/cli`, e.g. `binary.txt`.
#[must_use]
pub fn small(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/cli").join(name)
}

/// `path` as an argument.
///
/// # Panics
/// If it is no UTF-8.
#[must_use]
pub fn text(path: &Path) -> &str {
    path.to_str().expect("test paths are UTF-8")
}

/// SHA-256 in hexadecimal.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An image with its digest made right again after a change.
///
/// # Panics
/// If there is no header.
#[must_use]
pub fn reseal(mut image: Vec<u8>) -> Vec<u8> {
    let digest = Sha256::new().chain_update(&image[..DIGEST.start]).chain_update(&image[DIGEST.end..]);
    image[DIGEST].copy_from_slice(&digest.finalize());
    image
}

/// Where a section of an image lies, by its number in FORMAT.md.
///
/// # Panics
/// If the image has no such section.
#[must_use]
pub fn section(image: &[u8], number: u32) -> std::ops::Range<usize> {
    let word = |at: usize| u32::from_le_bytes(image[at..at + 4].try_into().expect("four bytes"));
    let entries = (0..word(24) as usize).map(|entry| 64 + 16 * entry);
    let entry = entries.into_iter().find(|&entry| word(entry) == number).expect("the section is there");
    let start = word(entry + 4) as usize;
    start..start + word(entry + 8) as usize
}

/// The rows a bundled model was proven with.
///
/// # Panics
/// If they cannot be read.
#[must_use]
pub fn rows(model: &str) -> Rows {
    rows::read(&file(&format!("trained/rows_{model}.npy"))).expect("the bundled rows are readable")
}

/// Feature names of a bundled model, in row order.
///
/// # Panics
/// If the image cannot be read.
#[must_use]
pub fn feature_names(model: &str) -> Vec<String> {
    let bytes = fs::read(file(&format!("images/{model}.qsm"))).expect("the bundled image is readable");
    let bytes = qsc_cli::image::ImageBytes::copy_of(&bytes);
    let model = qsc_kernel::Model::check(bytes.as_bytes()).expect("the bundled image is valid");
    model.feature_names().map(str::to_owned).collect()
}

/// Features of every event of the bundled capture, in order.
#[must_use]
pub fn captured_features() -> Vec<Value> {
    captured_payloads().map(|mut payload| payload["features"].take()).collect()
}

/// Payloads of the bundled capture.
///
/// # Panics
/// If the capture is damaged.
pub fn captured_payloads() -> impl Iterator<Item = Value> {
    qsc_models::FEATURES_CAPTURE.lines().map(|line| {
        let event: Value = serde_json::from_str(line).expect("a capture line");
        let payload = event["fields"]["payload"].as_str().expect("a payload");
        serde_json::from_str(payload).expect("a JSON payload")
    })
}

/// Adds a feature event to `capture`.
pub fn push_features(capture: &mut Capture, features: &Value) {
    let payload = json!({"symbol": "BTCUSDT", "timestamp": 1_768_023_795_000_u64, "features": features});
    capture.push("market.features", &payload.to_string());
}

/// Writes `MODELS.toml` into `directory`: both bundled models, `ensemble` as the `[ensemble]` table, and `member` as
/// further keys of every model.
///
/// # Panics
/// If it cannot be written.
pub fn write_models(directory: &Path, ensemble: &str, member: &str) -> PathBuf {
    let mut config = format!("[ensemble]\n{ensemble}\n");
    for name in ["xgb", "lgbm"] {
        let image = file(&format!("images/{name}.qsm"));
        config += &format!("[[model]]\nname = \"{name}\"\nimage = {:?}\n{member}\n", text(&image));
    }
    let path = directory.join("MODELS.toml");
    fs::write(&path, config).expect("the configuration is written");
    path
}

/// The names in `directory`, sorted.
///
/// # Panics
/// If it cannot be read.
#[must_use]
pub fn names_in(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("the directory is readable");
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("names are UTF-8"))
        .collect();
    names.sort();
    names
}
