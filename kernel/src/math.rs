//! Elementary functions from f32 add, multiply and divide alone, so that every target gives the same bits.
//!
//! No fused multiply-add, no platform libm: each operation is rounded once, in the order written. Functions of networks have no
//! branches either: they are one text for a single value and for every SIMD register.

use crate::simd::{Elementwise, Function, Single};

/// e^x. Largest relative error 1.2e-7 (1 ulp) for normal results; overflow is +∞, underflow rounds to 0, NaN stays NaN.
pub(crate) fn exp(x: f32) -> f32 {
    Exp.of(Single, x)
}

/// e^x by Cody–Waite reduction to |r| ≤ ln 2 / 2 and the degree-7 polynomial of Cephes `expf`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exp;

impl Function for Exp {
    #[inline(always)]
    fn of<E: Elementwise>(self, e: E, x: E::F) -> E::F {
        // ln 2 in two parts: the first has few enough bits that n · LN2_HI is exact.
        const LN2_HI: f32 = 0.693_359_4;
        const LN2_LO: f32 = -2.121_944_4e-4;
        // Adding 1.5·2^23 leaves the nearest integer (ties to even) in the low bits.
        const ROUND: f32 = 12_582_912.0;
        let round = e.splat(ROUND);
        let shifted = e.add(e.mul(x, e.splat(core::f32::consts::LOG2_E)), round);
        let n = e.sub(shifted, round);
        let r = e.sub(x, e.mul(n, e.splat(LN2_HI)));
        let r = e.sub(r, e.mul(n, e.splat(LN2_LO)));
        let p = polynomial(
            e,
            r,
            [0.5, 1.666_666_5e-1, 4.166_579_6e-2, 8.333_452e-3, 1.398_199_9e-3, 1.987_569_1e-4],
        );
        let y = e.add(e.add(e.mul(p, e.mul(r, r)), r), e.splat(1.0));
        // Two exact halves of 2^n keep each factor normal; only the last product may round (subnormal results).
        let n = e.sub_int(e.bits(shifted), e.bits(round));
        let half = e.halve_int(n);
        let y = e.mul(e.mul(y, exp2(e, half)), exp2(e, e.sub_int(n, half)));
        let y = e.select(e.less(e.splat(88.722_84), x), e.splat(f32::INFINITY), y);
        e.select(e.less(x, e.splat(-103.972_08)), e.splat(0.0), y)
    }
}

/// 2^n for n in -126..=127.
#[inline(always)]
fn exp2<E: Elementwise>(e: E, n: E::I) -> E::F {
    e.with_bits(e.to_exponent(e.add_int(n, e.splat_int(127))))
}

/// c₀ + x · (c₁ + x · (c₂ + …)) by Horner's rule.
#[inline(always)]
fn polynomial<E: Elementwise, const N: usize>(e: E, x: E::F, coefficients: [f32; N]) -> E::F {
    let mut from_highest = coefficients.into_iter().rev();
    let mut p = e.splat(from_highest.next().unwrap_or_default());
    for coefficient in from_highest {
        p = e.add(e.mul(p, x), e.splat(coefficient));
    }
    p
}

/// GELU in its exact form, ½ · x · (1 + erf(x / √2)). Largest error 3e-7 · max(1, |x|); NaN stays NaN, −∞ gives NaN.
///
/// erf(x / √2) is x · P(x²) / Q(x²), minimax in relative error (2.7e-8) up to |x| = 5.7, from where on it is ±1 in f32.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gelu;

impl Function for Gelu {
    #[inline(always)]
    fn of<E: Elementwise>(self, e: E, x: E::F) -> E::F {
        const P: [f32; 6] =
            [0.797_884_5, 0.068_873_08, 9.412_867e-3, 3.474_756e-4, 1.257_772_8e-5, 4.339_230_5e-8];
        const Q: [f32; 6] = [1.0, 0.252_985_84, 0.028_962_683, 1.913_054e-3, 7.470_091e-5, 1.161_949e-6];
        // Bounds first: a NaN is no less and no greater, and stays.
        let t = e.min(e.splat(5.7), e.max(e.splat(-5.7), x));
        let s = e.mul(t, t);
        let erf = e.div(e.mul(t, polynomial(e, s, P)), polynomial(e, s, Q));
        let half = e.mul(x, e.splat(0.5));
        e.add(half, e.mul(half, erf))
    }
}

/// 1 / (1 + e^−x), in [0, 1].
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// ln(1 + e^x), from the series of artanh on (0, 1/3].
pub(crate) fn log1p_exp(x: f32) -> f32 {
    if x.is_nan() {
        return x;
    }
    let u = exp(-x.abs());
    let s = u / (2.0 + u);
    let t = s * s;
    let mut p = 1.0 / 15.0;
    p = p * t + 1.0 / 13.0;
    p = p * t + 1.0 / 11.0;
    p = p * t + 1.0 / 9.0;
    p = p * t + 1.0 / 7.0;
    p = p * t + 1.0 / 5.0;
    p = p * t + 1.0 / 3.0;
    let ln_1p_u = 2.0 * (s + s * t * p);
    if x > 0.0 { x + ln_1p_u } else { ln_1p_u }
}

/// Replaces logits by probabilities in place: e^(xᵢ − max) / Σ e^(xⱼ − max), summed left to right.
pub(crate) fn softmax(values: &mut [f32]) {
    let mut max = f32::NEG_INFINITY;
    for &value in values.iter() {
        // A NaN logit must reach the output, not be dropped by the comparison.
        if value > max || value.is_nan() {
            max = value;
        }
    }
    let mut sum = 0.0;
    for value in values.iter_mut() {
        *value = exp(*value - max);
        sum += *value;
    }
    for value in values.iter_mut() {
        *value /= sum;
    }
}

/// Nearest integer, ties to even.
pub(crate) fn round_ties_even(x: f64) -> f64 {
    const INTEGERS: f64 = 4_503_599_627_370_496.0;
    if x.is_nan() || x.abs() >= INTEGERS {
        return x;
    }
    let magnitude = (x.abs() + INTEGERS) - INTEGERS;
    magnitude.copysign(x)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::under_miri;

    #[test]
    fn exp_is_within_one_and_a_half_ulp_of_f64() {
        let mut worst = 0.0_f64;
        for i in (0..2_000_000_u32).step_by(under_miri(9973, 1)) {
            let x = -87.0 + 175.5 * (i as f32 / 2_000_000.0);
            let exact = f64::from(x).exp();
            worst = worst.max((f64::from(exp(x)) - exact).abs() / exact);
        }
        assert!(worst < 1.2e-7, "largest relative error {worst:e}");
    }

    #[test]
    fn exp_at_the_edges() {
        assert_eq!(exp(0.0).to_bits(), 1.0_f32.to_bits());
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(89.0), f32::INFINITY);
        assert!(exp(88.72).is_finite());
        assert!(exp(-103.9) > 0.0, "the smallest subnormal");
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn log1p_exp_and_sigmoid_match_f64() {
        for i in (-2000..=2000_i32).step_by(under_miri(97, 1)) {
            let x = i as f32 / 20.0;
            let wide = f64::from(x);
            let exact = wide.max(0.0) + (-wide.abs()).exp().ln_1p();
            assert!((f64::from(log1p_exp(x)) - exact).abs() <= 2e-7 * (1.0 + exact), "log1p_exp({x})");
            let exact = 1.0 / (1.0 + (-wide).exp());
            assert!((f64::from(sigmoid(x)) - exact).abs() <= 1.5e-7, "sigmoid({x})");
        }
    }

    #[test]
    fn softmax_sums_to_one_and_keeps_nan() {
        let mut values = [1000.0, 1001.0, 999.0];
        softmax(&mut values);
        assert!((values.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        for at in 0..3 {
            let mut values = [0.0, 1.0, 2.0];
            values[at] = f32::NAN;
            softmax(&mut values);
            assert!(values.iter().any(|v| v.is_nan()), "NaN at {at}");
        }
    }

    #[test]
    fn rounding_is_to_even() {
        for (x, expected) in
            [(0.5, 0.0), (1.5, 2.0), (2.5, 2.0), (-2.5, -2.0), (0.499_999, 0.0), (1e300, 1e300)]
        {
            assert_eq!(round_ties_even(x), expected);
        }
    }
}
