//! Activations to 8 bits, each token by its own range.

use bytemuck::{AnyBitPattern, NoUninit};

use super::size;
use crate::rows::{each_part_mut, each_row, each_row_mut};
use crate::simd::{LANES, Simd};

/// How the quantized values of one token are read: x ≈ middle + scale · q.
#[derive(Clone, Copy, Debug, Default, PartialEq, AnyBitPattern, NoUninit)]
#[repr(C)]
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
pub(crate) const HIGH: f32 = 255.0;
/// Largest magnitude of two digits.
const TWO_DIGITS: f32 = 127.0 * 255.0;

/// Rows whose ranges are found first: they hide each other's latency, and stay in the nearest cache for the second look.
const ROWS: usize = 8;

/// Fills `digits [rows, 1, groups]`, or `[rows, 2, groups]` for two of them, and `tokens [rows]` from `source [rows, width] f32`:
/// four digits in a group, symmetric about the middle of the row's range. Digits beyond a row's end are any.
///
/// middle = min/2 + max/2, half = max − middle, scale = half / 127, q = (x − middle) · (127 / half) rounded to the
/// nearest integer (ties to even) and kept within ±127. The middle costs nothing later (each output knows the sum of its
/// weights) and halves the step for one-sided rows, as after ReLU.
///
/// In two digits q = 255 · high + low, with 127 · 255 in place of 127. The high digit is the quotient by 255 rounded to
/// nearest, which is never a tie: the inverse of 255 as f32 is close enough.
#[inline(always)]
pub(crate) fn quantize<S: Simd, const FINE: bool>(
    simd: S,
    source: &[f32],
    width: usize,
    digits: &mut [S::Digits],
    tokens: &mut [Token],
) -> Option<()> {
    let (width, groups) = (size(width), size(width.div_ceil(4)));
    let row_groups = groups.checked_mul(if FINE { 2 } else { 1 })?;
    let mut digits = each_row_mut(digits, row_groups);
    for (rows, tokens) in source.chunks(width.checked_mul(ROWS)?).zip(each_part_mut(tokens, ROWS)) {
        let mut ranges = Ranges::default();
        for (at, row) in rows.chunks_exact(width).enumerate() {
            ranges.set(simd, at, row);
        }
        let units = ranges.units(simd, if FINE { TWO_DIGITS } else { DIGIT });
        let lanes = units.scale.iter().zip(&units.middle).zip(&units.inverse);
        let rows = each_row(rows, width).zip(tokens).zip(digits.by_ref());
        for (((row, token), digits), ((&scale, &middle), &inverse)) in rows.zip(lanes) {
            *token = Token { scale, middle };
            quantize_row::<S, FINE>(simd, row, middle, inverse, digits, groups)?;
        }
    }
    Some(())
}

/// The digits of one row.
#[inline(always)]
fn quantize_row<S: Simd, const FINE: bool>(
    simd: S,
    row: &[f32],
    middle: f32,
    inverse: f32,
    digits: &mut [S::Digits],
    groups: usize,
) -> Option<()> {
    let (fill, middle, inverse) = (middle, simd.splat(middle), simd.splat(inverse));
    let (high, low) = digits.split_at_mut_checked(groups)?;
    // Four registers of values fill one of bytes.
    let (fours, rest) = row.as_chunks::<{ 4 * LANES }>();
    let whole = fours.len().wrapping_mul(LANES);
    let (high, high_rest) = high.split_at_mut_checked(whole)?;
    let (low, low_rest) = low.split_at_mut_checked(if FINE { whole } else { 0 })?;
    let mut lows = low.as_chunks_mut().0.iter_mut();
    for (four, high) in fours.iter().zip(high.as_chunks_mut().0) {
        let mut values = [middle; 4];
        for (value, part) in values.iter_mut().zip(four.as_chunks().0) {
            *value = simd.mul(simd.sub(simd.load(part), middle), inverse);
        }
        if FINE {
            [*high, *lows.next()?] = two_digits(simd, values);
        } else {
            *high = one_digit(simd, values);
        }
    }
    if !rest.is_empty() {
        let mut values = [middle; 4];
        for (value, part) in values.iter_mut().zip(rest.chunks(LANES)) {
            *value = simd.mul(simd.sub(simd.load_part(part, fill), middle), inverse);
        }
        if FINE {
            let [high, low] = two_digits(simd, values);
            put(high, high_rest);
            put(low, low_rest);
        } else {
            put(one_digit(simd, values), high_rest);
        }
    }
    Some(())
}

/// Sixty-four values in units, rounded.
#[inline(always)]
fn one_digit<S: Simd>(simd: S, values: [S::F; 4]) -> [S::Digits; LANES] {
    let [a, b, c, d] = values;
    simd.digits([simd.round(a), simd.round(b), simd.round(c), simd.round(d)])
}

/// Sixty-four values in units, rounded: high digits, then low ones.
#[inline(always)]
fn two_digits<S: Simd>(simd: S, values: [S::F; 4]) -> [[S::Digits; LANES]; 2] {
    let mut high = [simd.splat_int(0); 4];
    let mut low = high;
    for ((high, low), value) in high.iter_mut().zip(&mut low).zip(values) {
        let whole = simd.float(simd.round(value));
        *high = simd.round(simd.mul(whole, simd.splat(1.0 / HIGH)));
        *low = simd.round(simd.sub(whole, simd.mul(simd.float(*high), simd.splat(HIGH))));
    }
    [simd.digits(high), simd.digits(low)]
}

/// As many of the groups as there is room for.
#[inline(always)]
fn put<D: Copy>(groups: [D; LANES], to: &mut [D]) {
    for (to, group) in to.iter_mut().zip(groups) {
        *to = group;
    }
}

/// The ranges of a few rows, a lane each.
#[derive(Default)]
struct Ranges {
    min: [f32; LANES],
    max: [f32; LANES],
    /// NaN for a row that holds one.
    poison: [f32; LANES],
}

/// How a few rows are read, a lane each.
#[derive(Default)]
struct Units {
    scale: [f32; LANES],
    middle: [f32; LANES],
    /// What a value's distance from the middle is multiplied with: 0 for rows that are constant or not finite.
    inverse: [f32; LANES],
}

impl Ranges {
    /// The range of row `at`.
    #[inline(always)]
    fn set<S: Simd>(&mut self, simd: S, at: usize, row: &[f32]) {
        let fill = row.first().copied().unwrap_or_default();
        let first = simd.splat(fill);
        let (mut min, mut max, mut nan) = ([first; 2], [first; 2], simd.is_nan(first));
        let (pairs, rest) = row.as_chunks::<{ 2 * LANES }>();
        for pair in pairs {
            let mut values = [first; 2];
            for (((value, min), max), part) in
                values.iter_mut().zip(&mut min).zip(&mut max).zip(pair.as_chunks().0)
            {
                *value = simd.load(part);
                (*min, *max) = (simd.min(*value, *min), simd.max(*value, *max));
            }
            let [a, b] = values;
            nan = simd.or(nan, simd.unordered(a, b));
        }
        let ([mut min, other_min], [mut max, other_max]) = (min, max);
        for part in rest.chunks(LANES) {
            let x = simd.load_part(part, fill);
            (min, max) = (simd.min(x, min), simd.max(x, max));
            nan = simd.or(nan, simd.is_nan(x));
        }
        let lanes = (self.min.get_mut(at), self.max.get_mut(at), self.poison.get_mut(at));
        if let (Some(to_min), Some(to_max), Some(to_poison)) = lanes {
            *to_min = simd.lowest(simd.min(other_min, min));
            *to_max = simd.highest(simd.max(other_max, max));
            *to_poison = if simd.any(nan) { f32::NAN } else { 0.0 };
        }
    }

    /// How each row is read.
    #[inline(always)]
    fn units<S: Simd>(&self, simd: S, largest: f32) -> Units {
        let (min, max) = (simd.load(&self.min), simd.load(&self.max));
        let (half, zero, nan) = (simd.splat(0.5), simd.splat(0.0), simd.splat(f32::NAN));
        let middle = simd.add(simd.mul(half, min), simd.mul(half, max));
        let half = simd.sub(max, middle);
        // What is not finite has no difference from itself.
        let infinite = simd.unordered(simd.sub(min, min), simd.sub(max, max));
        let bad = simd.or(simd.is_nan(simd.load(&self.poison)), infinite);
        let constant = simd.less(half, simd.splat(CONSTANT));
        let largest = simd.splat(largest);
        let scale = simd.select(constant, zero, simd.div(half, largest));
        let inverse = simd.select(simd.or(bad, constant), zero, simd.div(largest, half));
        let mut units = Units::default();
        simd.store(simd.select(bad, nan, scale), &mut units.scale);
        simd.store(simd.select(bad, nan, middle), &mut units.middle);
        simd.store(inverse, &mut units.inverse);
        units
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::simd::Scalar;
    use crate::under_miri;
    use std::vec;
    use std::vec::Vec;

    /// The digits of a row, high and low, and how they are read.
    fn quantized<const FINE: bool>(row: &[f32]) -> (Vec<i16>, Vec<i16>, Token) {
        let groups = row.len().div_ceil(4);
        let mut digits = vec![[9; 4]; groups * if FINE { 2 } else { 1 }];
        let mut token = [Token::default()];
        quantize::<Scalar, FINE>(Scalar, row, row.len(), &mut digits, &mut token).unwrap();
        let [token] = token;
        let (high, low) = digits.as_flattened().split_at(4 * groups);
        (high[..row.len()].to_vec(), low.get(..row.len()).unwrap_or_default().to_vec(), token)
    }

    #[test]
    fn no_value_is_off_by_more_than_half_a_step() {
        let row: [f32; 97] = core::array::from_fn(|i| 3.0 + (i as f32 * 0.7).sin() * 5.0);
        let (q, _, Token { scale, middle }) = quantized::<false>(&row);
        for (x, q) in row.iter().zip(&q) {
            let read = f64::from(middle) + f64::from(scale) * f64::from(*q);
            assert!((f64::from(*x) - read).abs() <= f64::from(scale) * 0.500_01, "{x} reads as {read}");
        }
        assert!(q.contains(&127) && q.contains(&-127));
    }

    #[test]
    fn two_digits_are_255_times_finer() {
        let row: [f32; 301] =
            core::array::from_fn(|i| (i as f32 * 0.7).sin() * 5.0 + (i as f32 * 0.01).exp());
        let (high, low, Token { scale, middle }) = quantized::<true>(&row);
        let one_digit = quantized::<false>(&row).2.scale;
        assert!((one_digit / scale - 255.0).abs() < 1e-3);
        for (x, (high, low)) in row.iter().zip(high.iter().zip(low)) {
            let q = 255 * i32::from(*high) + i32::from(low);
            let read = f64::from(middle) + f64::from(scale) * f64::from(q);
            assert!((f64::from(*x) - read).abs() <= f64::from(scale) * 0.51, "{x} reads as {read}");
        }
        assert!(high.contains(&127) && high.contains(&-127));
    }

    #[test]
    fn two_digits_are_the_nearest_quotient_and_its_rest() {
        // A row that quantizes to every integer two digits hold.
        let integers = || (-32_385..=32_385_i32).step_by(under_miri(381, 1));
        let row: Vec<f32> = integers().map(|q| q as f32).collect();
        let (high, low, token) = quantized::<true>(&row);
        assert_eq!(token, Token { scale: 1.0, middle: 0.0 });
        for (q, (high, low)) in integers().zip(high.into_iter().zip(low)) {
            let quotient = (q + 127).div_euclid(255);
            assert_eq!((i32::from(high), i32::from(low)), (quotient, q - 255 * quotient), "{q}");
        }
    }

    #[test]
    fn ties_go_to_even() {
        let row = [-127.0, 127.0, 0.5, 1.5, 2.5, -0.5, -1.5, 126.4];
        assert_eq!(quantized::<false>(&row).0, [-127, 127, 0, 2, 2, 0, -2, 126]);
    }

    #[test]
    fn constant_rows_are_exact_and_bad_ones_poison() {
        let (q, _, token) = quantized::<false>(&[7.5; 3]);
        assert_eq!((q, token), (vec![0; 3], Token { scale: 0.0, middle: 7.5 }));
        assert_eq!(quantized::<false>(&[0.0, 1e-35, 0.0]).2.scale, 0.0);
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in 0..3 {
                let mut row = [1.0, 2.0, 3.0];
                row[at] = bad;
                assert!(quantized::<false>(&row).2.scale.is_nan());
                assert!(quantized::<true>(&row).2.scale.is_nan());
            }
        }
    }
}
