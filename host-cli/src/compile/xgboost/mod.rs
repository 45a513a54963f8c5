//! XGBoost JSON and UBJSON.
