//! Activations to 8 bits, each token by its own range.

/// How the quantized values of one token are read: x ≈ middle + scale · q.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Token {
    /// Value of one unit; 0 for a constant token, NaN for one with a value that is not finite.
    pub(crate) scale: f32,
    /// The middle of the token's range.
    pub(crate) middle: f32,
}

/// Half ranges below 2^-100 count as constant: their inverse would leave f32.
const CONSTANT: f32 = f32::from_bits((127 - 100) << 23);

/// Fills `quantized` `[n] s8` from `row` `[n] f32`, symmetric about the middle of the row's range.
///
/// middle = min/2 + max/2, half = max − middle, scale = half / 127, q = (x − middle) · (127 / half) rounded to the
/// nearest integer (ties to even) and kept within ±127. Minimum and maximum do not depend on an order. The middle costs
/// nothing later (each output knows the exact sum of its weights) and halves the step for one-sided rows, as after ReLU.
pub(crate) fn quantize(row: &[f32], quantized: &mut [i8]) -> Token {
    let (mut min, mut max, mut finite) = (f32::INFINITY, f32::NEG_INFINITY, true);
    for &x in row {
        min = if x < min { x } else { min };
        max = if x > max { x } else { max };
        finite &= x.is_finite();
    }
    if !finite {
        quantized.fill(0);
        return Token { scale: f32::NAN, middle: f32::NAN };
    }
    let middle = 0.5 * min + 0.5 * max;
    let half = max - middle;
    if half < CONSTANT {
        quantized.fill(0);
        return Token { scale: 0.0, middle };
    }
    let inverse = 127.0 / half;
    for (q, &x) in quantized.iter_mut().zip(row) {
        *q = nearest((x - middle) * inverse);
    }
    Token { scale: half / 127.0, middle }
}

/// The nearest integer, ties to even, within ±127; for |x| below 2^22.
#[inline]
fn nearest(x: f32) -> i8 {
    // Adding 1.5·2^23 leaves the rounded integer in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let bits = (x + ROUND).to_bits().wrapping_sub(ROUND.to_bits()).cast_signed();
    #[allow(clippy::as_conversions, reason = "clamped to what an i8 holds")]
    let q = bits.clamp(-127, 127) as i8;
    q
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_is_off_by_more_than_half_a_step() {
        let row: [f32; 97] = core::array::from_fn(|i| 3.0 + (i as f32 * 0.7).sin() * 5.0);
        let mut q = [0; 97];
        let Token { scale, middle } = quantize(&row, &mut q);
        for (x, q) in row.iter().zip(q) {
            let read = f64::from(middle) + f64::from(scale) * f64::from(q);
            assert!((f64::from(*x) - read).abs() <= f64::from(scale) * 0.500_01, "{x} reads as {read}");
        }
        assert!(q.contains(&127) && q.contains(&-127));
    }

    #[test]
    fn ties_go_to_even() {
        for (x, expected) in
            [(0.5, 0), (1.5, 2), (2.5, 2), (-0.5, 0), (-1.5, -2), (127.4, 127), (-130.0, -127)]
        {
            assert_eq!(nearest(x), expected, "{x}");
        }
    }

    #[test]
    fn constant_rows_are_exact_and_bad_ones_poison() {
        let mut q = [1; 3];
        assert_eq!(quantize(&[7.5; 3], &mut q), Token { scale: 0.0, middle: 7.5 });
        assert_eq!(q, [0; 3]);
        assert_eq!(quantize(&[0.0, 1e-35, 0.0], &mut q).scale, 0.0);
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(quantize(&[1.0, bad, 2.0], &mut q).scale.is_nan());
        }
    }
}
