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

/// Name and image of every bundled model.
pub static IMAGES: [(&str, &[u8]); 2] = [("xgb", XGB), ("lgbm", LGBM)];

/// 3000 synthetic `market.features` events, one capture line each.
pub static FEATURES_CAPTURE: &str = include_str!("../capture/features.jsonl");
