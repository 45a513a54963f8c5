//! AVX-512: masks in registers of their own, byte permutes, 512 bits where they pay.

mod batch;
mod quantize;
mod trees;

pub(crate) use batch::{Base, blend_blocks, blend_masks};
pub(crate) use quantize::{quantize, quantize_columns};
pub(crate) use trees::{blocks, masks};
