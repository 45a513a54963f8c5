//! LightGBM text, versions 3 and 4.
