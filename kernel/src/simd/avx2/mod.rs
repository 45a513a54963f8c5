//! AVX2: 256-bit registers.

mod quantize;

pub(crate) use quantize::quantize;
