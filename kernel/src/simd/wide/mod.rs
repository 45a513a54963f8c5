//! Portable SIMD by the `wide` crate: what the whole build was compiled for, SSE2 on x86-64 by default.

mod quantize;

pub(crate) use quantize::quantize;
