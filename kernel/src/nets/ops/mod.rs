//! The operations of networks, one per file: shapes and rounding stand there. These scalar forms are the specification.
//!
//! Sums run in the one order of [`reduce`]; products and sums are never fused; dot products of 8-bit values are exact.

pub(crate) mod attention;
pub(crate) mod gather;
pub(crate) mod gelu;
pub(crate) mod layer_norm;
pub(crate) mod linear_f32;
pub(crate) mod linear_i8;
pub(crate) mod max_pool;
pub(crate) mod quantize;
pub(crate) mod reduce;
pub(crate) mod relu;
pub(crate) mod softmax;
pub(crate) mod token_pool;
pub(crate) mod window;
