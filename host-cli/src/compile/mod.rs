//! Trained files to model images: importers, one intermediate model, the packer.
//!
//! | file | does |
//! | --- | --- |
//! | [`ir`] | the intermediate model every tree importer produces |
//! | [`xgboost`] | XGBoost JSON and UBJSON, 1.7 to 3.4 |
//! | [`lightgbm`] | LightGBM text, v3 and v4 |
//! | [`nets`] | networks from safetensors files: PatchTST and N-HiTS |
//! | [`pack`] | the intermediate model becomes an image, proven against the interpreter |
//! | `golden`, `writer` | what images of both kinds share: golden vectors; sections and digest |
//! | [`calibrate`] | deciles of the training rows, for drift to be seen later |
//! | [`interpret`] | the plain interpreter of the intermediate model: the meaning of a model, in f64 and in the library's own order |

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

pub mod calibrate;
mod golden;
pub mod interpret;
pub mod ir;
pub mod lightgbm;
pub mod nets;
pub mod pack;
mod writer;
pub mod xgboost;

use ir::TreeModel;

/// The largest trained file that is read, in bytes: about thirty times a model of 5000 trees of depth 6.
pub const MAX_FILE_BYTES: u64 = 1 << 30;

/// Outputs below this are SELL for a one-probability model.
const DEAD_ZONE_LOW: f32 = 0.4;
/// Outputs above this are BUY for a one-probability model.
const DEAD_ZONE_HIGH: f32 = 0.6;

/// What the file alone cannot say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImportOptions {
    /// Which library wrote the file.
    pub from: Source,
    /// How many boosting iterations are used. `None` means all, and is refused for a file that knows a better count.
    pub iterations: Option<Iterations>,
}

/// Which library wrote a trained file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// Decided by the file's content.
    #[default]
    Auto,
    /// XGBoost JSON or UBJSON.
    XgBoost,
    /// LightGBM text.
    LightGbm,
}

/// How many boosting iterations of a model are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Iterations {
    /// Every iteration in the file.
    All,
    /// Up to and including the file's `best_iteration`.
    Best,
    /// The first `n`.
    First(usize),
}

/// Reads a trained tree model.
///
/// # Errors
/// The file cannot be read, is larger than [`MAX_FILE_BYTES`], or is refused by [`import_bytes`].
pub fn import(path: &Path, options: &ImportOptions) -> Result<TreeModel> {
    let bytes = read_bounded(path).with_context(|| format!("cannot read {}", path.display()))?;
    import_bytes(&bytes, options).with_context(|| format!("cannot import {}", path.display()))
}

/// Reads a trained tree model from the bytes of its file; the format is decided by content, not by name.
///
/// # Errors
/// The bytes are of no known format, damaged, of an unknown version, or use a feature whose predictions would not be
/// reproduced exactly. One sentence names what, where and what to do.
pub fn import_bytes(bytes: &[u8], options: &ImportOptions) -> Result<TreeModel> {
    let format = Format::of(bytes);
    match (options.from, format) {
        (Source::XgBoost, Some(Format::LightGbmText)) => {
            bail!("this is a LightGBM text model, not an XGBoost one; use --from lightgbm")
        }
        (Source::LightGbm, Some(Format::XgBoostJson | Format::XgBoostUbjson)) => {
            bail!("this is no LightGBM text model; save one with Booster.save_model, or use --from xgboost")
        }
        (_, Some(Format::XgBoostJson)) => xgboost::import_json(bytes, options.iterations),
        (_, Some(Format::XgBoostUbjson)) => xgboost::import_ubjson(bytes, options.iterations),
        (_, Some(Format::LightGbmText)) => lightgbm::import_text(bytes, options.iterations),
        (_, None) => bail!("{}", unknown_format(bytes)),
    }
}

/// Formats a tree model may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    XgBoostJson,
    XgBoostUbjson,
    LightGbmText,
}

impl Format {
    fn of(bytes: &[u8]) -> Option<Self> {
        let start = bytes.trim_ascii_start();
        match start {
            [b'{', b'i' | b'U' | b'I' | b'l' | b'L', ..] => Some(Self::XgBoostUbjson),
            [b'{', ..] => Some(Self::XgBoostJson),
            [b't', b'r', b'e', b'e', b'\n' | b'\r', ..] => Some(Self::LightGbmText),
            _ => None,
        }
    }
}

/// Why a file of no known format is refused.
fn unknown_format(bytes: &[u8]) -> &'static str {
    match bytes {
        [] => "the file is empty",
        [b'b', b'i', b'n', b'f', ..] | [b'b', b's', b'6', b'4', ..] => {
            "this is XGBoost's old binary format; load it with XGBoost and save it as .json or .ubj"
        }
        [0x80, 2..=5, ..] => {
            "this is a Python pickle, which is never opened; save the model with its library's save_model"
        }
        _ => {
            "this is no known model format; expected XGBoost .json or .ubj, or LightGBM text, as written by save_model"
        }
    }
}

/// Reads a trained file whole.
///
/// # Errors
/// The file cannot be read, or is larger than [`MAX_FILE_BYTES`].
pub fn read_bounded(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    ensure!(bytes.len() as u64 <= MAX_FILE_BYTES, "the file is larger than {MAX_FILE_BYTES} bytes");
    Ok(bytes)
}

/// How many of `total` iterations are used, given the `best` one (counted from 0) the file knows.
fn chosen_iterations(asked: Option<Iterations>, best: Option<usize>, total: usize) -> Result<usize> {
    match (asked, best) {
        (None, Some(best)) if best.saturating_add(1) < total => bail!(
            "the file has {total} iterations but knows best_iteration {best}, and libraries disagree on what that means; \
             say which with --iterations all, best or a number"
        ),
        (None | Some(Iterations::All), _) => Ok(total),
        (Some(Iterations::Best), Some(best)) if best < total => Ok(best + 1),
        (Some(Iterations::Best), Some(best)) => bail!(
            "best_iteration {best} lies beyond the file's {total} iterations; use --iterations all or a number"
        ),
        (Some(Iterations::Best), None) => {
            bail!("the file knows no best_iteration; use --iterations all or a number")
        }
        (Some(Iterations::First(count)), _) => {
            ensure!(
                (1..=total).contains(&count),
                "--iterations {count} does not fit the file's {total} iterations; use a number from 1 to {total}"
            );
            Ok(count)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iterations_are_never_guessed() {
        assert_eq!(chosen_iterations(None, None, 10).unwrap(), 10);
        assert_eq!(chosen_iterations(None, Some(9), 10).unwrap(), 10);
        assert!(chosen_iterations(None, Some(8), 10).unwrap_err().to_string().contains("best_iteration 8"));
        assert_eq!(chosen_iterations(Some(Iterations::All), Some(3), 10).unwrap(), 10);
        assert_eq!(chosen_iterations(Some(Iterations::Best), Some(3), 10).unwrap(), 4);
        assert!(chosen_iterations(Some(Iterations::Best), None, 10).is_err());
        assert!(chosen_iterations(Some(Iterations::Best), Some(10), 10).is_err());
        assert_eq!(chosen_iterations(Some(Iterations::First(10)), Some(3), 10).unwrap(), 10);
        assert!(chosen_iterations(Some(Iterations::First(0)), None, 10).is_err());
        assert!(chosen_iterations(Some(Iterations::First(11)), None, 10).is_err());
    }

    #[test]
    fn formats_are_told_apart_by_content() {
        assert_eq!(Format::of(b"{\"learner\":"), Some(Format::XgBoostJson));
        assert_eq!(Format::of(b" \n{ }"), Some(Format::XgBoostJson));
        assert_eq!(Format::of(b"{L\0\0"), Some(Format::XgBoostUbjson));
        assert_eq!(Format::of(b"tree\nversion=v4\n"), Some(Format::LightGbmText));
        assert_eq!(Format::of(b"tree\r\n"), Some(Format::LightGbmText));
        for (bytes, words) in [
            (&b""[..], "empty"),
            (b"binf\0\0\0", "old binary"),
            (b"\x80\x04\x95", "pickle"),
            (b"treeversion", "no known model format"),
        ] {
            let error = import_bytes(bytes, &ImportOptions::default()).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
