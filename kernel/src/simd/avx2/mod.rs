//! AVX2: 256-bit registers.

mod quantize;
mod trees;

pub(crate) use quantize::quantize;
pub(crate) use trees::{blocks, masks};
