//! NEON: 128-bit registers, byte lookups in up to 64 bytes.

mod quantize;

pub(crate) use quantize::quantize;
