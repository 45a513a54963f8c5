//! What `build.rs` was told to measure.

/// On a cache line, as model images must be.
#[cfg(feature = "qsc")]
#[repr(C, align(64))]
pub struct Aligned<T>(pub T);

include!(concat!(env!("OUT_DIR"), "/job.rs"));
