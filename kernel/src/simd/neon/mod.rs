//! NEON: 128-bit registers, byte lookups in up to 64 bytes.

mod quantize;
mod trees;

pub(crate) use quantize::quantize;
pub(crate) use trees::{blocks, masks};
