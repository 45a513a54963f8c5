//! Softmax over one row of scores.

use crate::math::Exp;
use crate::simd::{LANES, Simd};

/// `scores [n]` in place: e^(xᵢ − max) divided by their sum, in the order of [`row_sum`](super::reduce::row_sum). A NaN
/// among them makes all of them NaN.
#[inline(always)]
pub(crate) fn softmax<S: Simd>(simd: S, scores: &mut [f32]) {
    if scores.len() <= LANES {
        return softmax_in_register(simd, scores);
    }
    let mut max = simd.splat(f32::NEG_INFINITY);
    for part in scores.chunks(LANES) {
        // A NaN is dropped here and comes back by its own difference from the maximum.
        max = simd.max(simd.load_part(part, f32::NEG_INFINITY), max);
    }
    let max = simd.splat(simd.highest(max));
    let mut sum = simd.splat(0.0);
    for part in scores.chunks_mut(LANES) {
        // e^−∞ adds 0 beyond the end.
        let power = simd.map(Exp, simd.sub(simd.load_part(part, f32::NEG_INFINITY), max));
        sum = simd.add(sum, power);
        simd.store_part(power, part);
    }
    let sum = simd.splat(simd.sum(sum));
    for part in scores.chunks_mut(LANES) {
        simd.store_part(simd.div(simd.load_part(part, 0.0), sum), part);
    }
}

/// The same for at most sixteen scores, which need no second look at memory.
#[inline(always)]
fn softmax_in_register<S: Simd>(simd: S, scores: &mut [f32]) {
    let x = simd.load_part(scores, f32::NEG_INFINITY);
    let max = simd.highest(simd.max(x, simd.splat(f32::NEG_INFINITY)));
    let power = simd.map(Exp, simd.sub(x, simd.splat(max)));
    let sum = simd.sum(simd.add(simd.splat(0.0), power));
    simd.store_part(simd.div(power, simd.splat(sum)), scores);
}

/// The same for two rows of eight scores in each register, one in each half; registers side by side hide each other's latency.
#[inline(always)]
pub(crate) fn softmax_of_halves<S: Simd, const N: usize>(simd: S, scores: &mut [S::F; N]) {
    for scores in &mut *scores {
        let max = simd.highest_of_halves(simd.max(*scores, simd.splat(f32::NEG_INFINITY)));
        *scores = simd.sub(*scores, max);
    }
    for scores in &mut *scores {
        *scores = simd.map(Exp, *scores);
    }
    for scores in &mut *scores {
        let sum = simd.sum_of_halves(simd.add(simd.splat(0.0), *scores));
        *scores = simd.div(*scores, sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::Scalar;

    #[test]
    fn matches_f64() {
        let scores: [f32; 23] = core::array::from_fn(|i| (i as f32 * 1.7).sin() * 9.0);
        let mut p = scores;
        softmax(Scalar, &mut p);
        let sum: f64 = scores.iter().map(|&x| f64::from(x).exp()).sum();
        for (p, x) in p.iter().zip(scores) {
            assert!((f64::from(*p) - f64::from(x).exp() / sum).abs() < 2.5e-7);
        }
    }

    #[test]
    fn a_half_is_a_row_of_eight() {
        let scores: [f32; 16] = core::array::from_fn(|i| (i as f32 * 2.3).sin() * 9.0);
        let mut halves = [scores];
        softmax_of_halves(Scalar, &mut halves);
        let [halves] = halves;
        for (row, half) in scores.as_chunks::<8>().0.iter().zip(halves.as_chunks::<8>().0) {
            let mut row = *row;
            softmax(Scalar, &mut row);
            assert_eq!(row.map(f32::to_bits), half.map(f32::to_bits));
        }
    }

    #[test]
    fn nan_is_kept() {
        for at in 0..3 {
            let mut p = [0.0, 1.0, 2.0];
            p[at] = f32::NAN;
            softmax(Scalar, &mut p);
            assert!(p.iter().any(|p| p.is_nan()), "NaN at {at}");
        }
    }
}
