//! Elementary functions from f32 add, multiply and divide alone, so that every target gives the same bits.
//!
//! No fused multiply-add, no platform libm: each operation is rounded once, in the order written.

/// e^x. Largest relative error 1.2e-7 (1 ulp) for normal results; overflow is +∞, underflow rounds to 0, NaN stays NaN.
///
/// Cody–Waite reduction to |r| ≤ ln 2 / 2 and the degree-7 polynomial of Cephes `expf`.
pub(crate) fn exp(x: f32) -> f32 {
    const LOG2_E: f32 = core::f32::consts::LOG2_E;
    // ln 2 in two parts: the first has few enough bits that n · LN2_HI is exact.
    const LN2_HI: f32 = 0.693_359_4;
    const LN2_LO: f32 = -2.121_944_4e-4;
    // Adding 1.5·2^23 leaves the nearest integer (ties to even) in the low bits.
    const ROUND: f32 = 12_582_912.0;
    if x.is_nan() {
        return x;
    }
    if x > 88.722_84 {
        return f32::INFINITY;
    }
    if x < -103.972_08 {
        return 0.0;
    }
    let shifted = x * LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * LN2_HI - n * LN2_LO;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    let y = p * (r * r) + r + 1.0;
    // Two exact halves of 2^n keep each factor normal; only the last product may round (subnormal results).
    let n = shifted.to_bits().wrapping_sub(ROUND.to_bits()).cast_signed();
    let half = n >> 1;
    y * exp2(half) * exp2(n.wrapping_sub(half))
}

/// 2^n for n in -126..=127.
fn exp2(n: i32) -> f32 {
    f32::from_bits(n.wrapping_add(127).cast_unsigned() << 23)
}

/// The error function. Largest absolute error 1.5e-7; odd, NaN stays NaN.
///
/// Minimax polynomials: of erf(x)/x in x² up to |x| = 0.94; beyond, of −ln(1 − erf |x|), undone by [`exp`].
pub(crate) fn erf(x: f32) -> f32 {
    let t = x.abs();
    if t > 0.94 {
        // From here on 1 − erf is below half a unit in the last place of 1.
        if t > 3.95 {
            return 1.0_f32.copysign(x);
        }
        let mut p = -1.926_629_5e-4;
        p = p * t + 3.011_089_3e-3;
        p = p * t - 2.209_881_9e-2;
        p = p * t + 1.036_657_9e-1;
        p = p * t + 6.374_852e-1;
        p = p * t + 1.127_495_7;
        p = p * t + 2.392_533_5e-4;
        return (1.0 - exp(-p)).copysign(x);
    }
    let s = x * x;
    let mut p = -5.931_880_7e-4;
    p = p * s + 4.982_152_5e-3;
    p = p * s - 2.675_958_7e-2;
    p = p * s + 1.128_164e-1;
    p = p * s - 3.761_248e-1;
    p = p * s + 1.283_791_5e-1;
    p * x + x
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

    #[test]
    fn exp_is_within_one_and_a_half_ulp_of_f64() {
        let mut worst = 0.0_f64;
        for i in 0..2_000_000_u32 {
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
    fn erf_matches_f64() {
        let mut worst = 0.0_f64;
        for i in -500_000..=500_000_i32 {
            let x = i as f32 * 1e-5;
            worst = worst.max((f64::from(erf(x)) - libm::erf(f64::from(x))).abs());
        }
        assert!(worst < 1.5e-7, "largest error {worst:e}");
        assert_eq!((erf(0.0), erf(f32::INFINITY), erf(f32::NEG_INFINITY)), (0.0, 1.0, -1.0));
        assert_eq!(erf(-0.0).to_bits(), (-0.0_f32).to_bits());
        assert!(erf(f32::NAN).is_nan());
    }

    #[test]
    fn log1p_exp_and_sigmoid_match_f64() {
        for i in -2000..=2000_i32 {
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
