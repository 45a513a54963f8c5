//! Trained files to model images: importers, one intermediate model, the packer.
//!
//! | file | does |
//! | --- | --- |
//! | [`ir`] | the intermediate model every tree importer produces |
//! | [`xgboost`] | XGBoost JSON and UBJSON |
//! | [`lightgbm`] | LightGBM text |
//! | [`interpret`] | the plain interpreter of the intermediate model: the meaning of a model, in f64 and in the library's own order |

pub mod interpret;
pub mod ir;
pub mod lightgbm;
pub mod xgboost;
