//! AVX-512: masks in registers of their own, byte permutes, 512 bits where they pay.

mod trees;

pub(crate) use trees::{blocks, masks32, masks64};
