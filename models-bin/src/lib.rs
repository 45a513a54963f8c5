//! Compiled model images with their provenance: what `qsc demo` runs and what embedders can link.
//!
//! The models were trained on a simulated market (see `models-bin/README.md`): they show that the machinery
//! works and say nothing about real markets. `MANIFEST.toml` names where each image comes from.

#![no_std]

/// Bytes on a 64-byte boundary, as `qsc_kernel::Model::check` needs them.
#[repr(C, align(64))]
struct Aligned<T: ?Sized>(T);

/// `include_bytes!` on a 64-byte boundary.
macro_rules! aligned_bytes {
    ($path:literal) => {{
        static ALIGNED: &Aligned<[u8]> = &Aligned(*include_bytes!($path));
        &ALIGNED.0
    }};
}

/// XGBoost, three classes, 23 features.
pub static XGB: &[u8] = aligned_bytes!("../images/xgb.qsm");

/// LightGBM, three classes, 21 features.
pub static LGBM: &[u8] = aligned_bytes!("../images/lgbm.qsm");

/// SimpleNHiTS, three classes, windows of 120 steps of 14 features.
pub static NHITS: &[u8] = aligned_bytes!("../images/nhits.qsm");

/// PatchTSTModel, one probability, windows of 128 steps of 8 features.
pub static PATCHTST: &[u8] = aligned_bytes!("../images/patchtst.qsm");

/// Name and image of every bundled model, in the order of [`MODELS_TOML`].
pub static IMAGES: [(&str, &[u8]); 4] =
    [("xgb", XGB), ("lgbm", LGBM), ("nhits", NHITS), ("patchtst", PATCHTST)];

/// The demo's ensemble: names, weights, and images as `images/<name>.qsm`.
pub static MODELS_TOML: &str = include_str!("../MODELS.toml");

/// 3000 synthetic `market.features` events, one capture line each.
pub static FEATURES_CAPTURE: &str = include_str!("../capture/features.jsonl");
