//! AVX-512: masks in registers of their own, byte permutes, 512 bits where they pay.

mod quantize;

pub(crate) use quantize::quantize;
