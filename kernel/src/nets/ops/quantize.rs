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

/// Largest magnitude of one digit.
const DIGIT: f32 = 127.0;
/// What the high digit counts for: low digits from −127 to 127 fill the steps between.
pub(crate) const HIGH: i32 = 255;
/// Largest magnitude of two digits.
const TWO_DIGITS: f32 = 127.0 * 255.0;

/// Fills `quantized` `[n] s8` from `row` `[n] f32`, symmetric about the middle of the row's range.
///
/// middle = min/2 + max/2, half = max − middle, scale = half / 127, q = (x − middle) · (127 / half) rounded to the
/// nearest integer (ties to even) and kept within ±127. Minimum and maximum do not depend on an order. The middle costs
/// nothing later (each output knows the sum of its weights) and halves the step for one-sided rows, as after ReLU.
pub(crate) fn quantize(row: &[f32], quantized: &mut [i8]) -> Token {
    let steps = quantized.iter_mut().zip(row);
    let fill = |middle, inverse| {
        for (q, &x) in steps {
            *q = narrow(nearest((x - middle) * inverse));
        }
    };
    by_range(row, DIGIT, fill).unwrap_or_else(|token| {
        quantized.fill(0);
        token
    })
}

/// As [`quantize`], in two digits: q = 255 · high + low with 127 · 255 in place of 127. The high digit is the quotient
/// by 255 rounded to nearest, which is never a tie.
pub(crate) fn quantize_fine(row: &[f32], high: &mut [i8], low: &mut [i8]) -> Token {
    let digits = high.iter_mut().zip(low.iter_mut()).zip(row);
    let fill = |middle, inverse| {
        for ((high, low), &x) in digits {
            let q = nearest((x - middle) * inverse);
            let quotient = q.wrapping_add(127).div_euclid(HIGH);
            *high = narrow(quotient);
            *low = narrow(q.wrapping_sub(quotient.wrapping_mul(HIGH)));
        }
    };
    by_range(row, TWO_DIGITS, fill).unwrap_or_else(|token| {
        high.fill(0);
        low.fill(0);
        token
    })
}

/// Hands middle and inverse unit of the row's range to `fill`; `Err` for rows that are constant or not finite.
fn by_range(row: &[f32], largest: f32, fill: impl FnOnce(f32, f32)) -> Result<Token, Token> {
    let (mut min, mut max, mut finite) = (f32::INFINITY, f32::NEG_INFINITY, true);
    for &x in row {
        min = if x < min { x } else { min };
        max = if x > max { x } else { max };
        finite &= x.is_finite();
    }
    if !finite {
        return Err(Token { scale: f32::NAN, middle: f32::NAN });
    }
    let middle = 0.5 * min + 0.5 * max;
    let half = max - middle;
    if half < CONSTANT {
        return Err(Token { scale: 0.0, middle });
    }
    fill(middle, largest / half);
    Ok(Token { scale: half / largest, middle })
}

/// The nearest integer, ties to even, for |x| below 2^22.
#[inline]
fn nearest(x: f32) -> i32 {
    // Adding 1.5·2^23 leaves the rounded integer in the low bits.
    const ROUND: f32 = 12_582_912.0;
    (x + ROUND).to_bits().wrapping_sub(ROUND.to_bits()).cast_signed()
}

#[inline]
fn narrow(q: i32) -> i8 {
    #[allow(clippy::as_conversions, reason = "clamped to what an i8 holds")]
    let narrow = q.clamp(-127, 127) as i8;
    narrow
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
    fn two_digits_are_255_times_finer() {
        let row: [f32; 301] =
            core::array::from_fn(|i| (i as f32 * 0.7).sin() * 5.0 + (i as f32 * 0.01).exp());
        let (mut high, mut low) = ([0; 301], [0; 301]);
        let Token { scale, middle } = quantize_fine(&row, &mut high, &mut low);
        let one_digit = quantize(&row, &mut [0; 301]).scale;
        assert!((one_digit / scale - 255.0).abs() < 1e-3);
        for (x, (high, low)) in row.iter().zip(high.into_iter().zip(low)) {
            let q = 255 * i32::from(high) + i32::from(low);
            let read = f64::from(middle) + f64::from(scale) * f64::from(q);
            assert!((f64::from(*x) - read).abs() <= f64::from(scale) * 0.51, "{x} reads as {read}");
        }
        assert!(high.contains(&127) && high.contains(&-127));
    }

    #[test]
    fn ties_go_to_even() {
        for (x, expected) in
            [(0.5, 0), (1.5, 2), (2.5, 2), (-0.5, 0), (-1.5, -2), (127.4, 127), (-130.0, -127)]
        {
            assert_eq!(narrow(nearest(x)), expected, "{x}");
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
