//! Softmax over one row of scores.

use super::reduce::reduce;
use crate::math::exp;

/// `scores [n]` in place: e^(xᵢ − max) divided by their sum by [`reduce`]. A NaN among them makes all of them NaN.
pub(crate) fn softmax(scores: &mut [f32]) {
    let mut max = f32::NEG_INFINITY;
    for &score in scores.iter() {
        // A NaN must reach the output, not be dropped by the comparison.
        max = if score > max || score.is_nan() { score } else { max };
    }
    for score in scores.iter_mut() {
        *score = exp(*score - max);
    }
    let sum = reduce(scores.iter().copied());
    for score in scores.iter_mut() {
        *score /= sum;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_f64() {
        let scores: [f32; 23] = core::array::from_fn(|i| (i as f32 * 1.7).sin() * 9.0);
        let mut p = scores;
        softmax(&mut p);
        let sum: f64 = scores.iter().map(|&x| f64::from(x).exp()).sum();
        for (p, x) in p.iter().zip(scores) {
            assert!((f64::from(*p) - f64::from(x).exp() / sum).abs() < 2.5e-7);
        }
    }

    #[test]
    fn nan_is_kept() {
        for at in 0..3 {
            let mut p = [0.0, 1.0, 2.0];
            p[at] = f32::NAN;
            softmax(&mut p);
            assert!(p.iter().any(|p| p.is_nan()), "NaN at {at}");
        }
    }
}
