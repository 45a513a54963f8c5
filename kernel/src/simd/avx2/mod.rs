//! AVX2: 256-bit registers.

mod trees;

pub(crate) use trees::{blocks, masks32, masks64};
