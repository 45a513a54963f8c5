//! What every reader of foreign bytes must do with any bytes at all: refuse them in words, or make something of them that
//! holds. One function per reader.
//!
//! `tests/fuzz` hands them to libFuzzer; `tests/fuzz_corpus.rs` runs them over the same seeds, over cut and flipped seeds and
//! over everything libFuzzer ever found, without nightly.
//!
//! | file | targets |
//! | --- | --- |
//! | `models` | `image`, `xgboost_json`, `xgboost_ubjson`, `lightgbm_text`, `safetensors` |
//! | `texts` | `events`, `models_toml`, `settings_toml`, `rows`, `state` |
//! | `seeds` | where each of them begins |

mod models;
mod seeds;
mod texts;

use std::fs;
use std::path::Path;

pub use models::{image, lightgbm_text, safetensors, xgboost_json, xgboost_ubjson};
pub use seeds::{directory, seeds};
pub use texts::{events, models_toml, rows, settings_toml, state};

/// Takes any bytes; panics if its reader does not do as it must.
pub type Target = fn(&[u8]);

/// Every target by name.
pub const TARGETS: [(&str, Target); 10] = [
    ("image", image),
    ("xgboost_json", xgboost_json),
    ("xgboost_ubjson", xgboost_ubjson),
    ("lightgbm_text", lightgbm_text),
    ("safetensors", safetensors),
    ("events", events),
    ("models_toml", models_toml),
    ("settings_toml", settings_toml),
    ("rows", rows),
    ("state", state),
];

/// Separates the files of a target that reads several.
const BETWEEN: u8 = 0;

/// Names the directory into which a libFuzzer binary writes its seeds before it starts.
pub const SEEDS: &str = "QSC_FUZZ_SEEDS";

/// Writes the seeds of `target` into the directory that [`SEEDS`] names, if it names one.
///
/// # Panics
/// If they cannot be written.
pub fn write_seeds(target: &str) {
    let Some(directory) = std::env::var_os(SEEDS) else { return };
    let directory = Path::new(&directory);
    fs::create_dir_all(directory).expect("the directory of seeds can be made");
    for (at, seed) in seeds(target).iter().enumerate() {
        fs::write(directory.join(format!("seed-{at:03}")), seed).expect("a seed can be written");
    }
}

/// `bytes` as the file `name` of a directory that is gone afterwards.
fn with_file<R>(name: &str, bytes: &[u8], read: impl FnOnce(&Path) -> R) -> R {
    let directory = tempfile::tempdir().expect("a scratch directory can be made");
    let path = directory.path().join(name);
    fs::write(&path, bytes).expect("a scratch file can be written");
    read(&path)
}
