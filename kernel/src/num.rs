//! Conversions that would be a lossy cast or a panic if written in place, each stated once.

/// A 32-bit image offset or count as an index; targets have pointers of at least 32 bits (see `lib.rs`).
#[allow(clippy::as_conversions, reason = "u32 to usize is lossless: 16-bit targets do not compile")]
pub(crate) const fn index(value: u32) -> usize {
    value as usize
}

/// An i64 as the nearest f64.
#[allow(clippy::as_conversions, reason = "rounds to nearest by definition")]
pub(crate) const fn float(value: i64) -> f64 {
    value as f64
}

/// An i32 as the nearest f32.
#[allow(clippy::as_conversions, reason = "rounds to nearest by definition")]
pub(crate) const fn nearest_single(value: i32) -> f32 {
    value as f32
}

/// A count as the nearest f32.
#[allow(clippy::as_conversions, reason = "rounds to nearest by definition")]
pub(crate) const fn count_single(value: usize) -> f32 {
    value as f32
}

/// An f64 rounded once to f32.
#[allow(clippy::as_conversions, reason = "rounds to nearest by definition")]
pub(crate) const fn single(value: f64) -> f32 {
    value as f32
}

/// Truncates toward zero; saturates; NaN is 0.
#[allow(clippy::as_conversions, reason = "float to int casts saturate by definition")]
pub(crate) const fn truncate(value: f32) -> i64 {
    value as i64
}

/// `2^exponent` for exponents of normal f64 numbers, else `None`.
pub(crate) const fn power_of_two(exponent: i32) -> Option<f64> {
    if exponent < -1022 || exponent > 1023 {
        return None;
    }
    let biased = exponent.wrapping_add(1023).unsigned_abs();
    #[allow(clippy::as_conversions, reason = "u32 to u64 widens")]
    let bits = (biased as u64) << 52;
    Some(f64::from_bits(bits))
}
