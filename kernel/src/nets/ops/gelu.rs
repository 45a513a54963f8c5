//! GELU in its exact form, by the error function.

use crate::math::erf;

/// `values` in place: 0.5 · x · (1 + erf(x · √½)), each operation rounded once. Largest error against f64: 3e-7 · max(1, |x|).
pub(crate) fn gelu(values: &mut [f32]) {
    for x in values {
        *x = 0.5 * *x * (1.0 + erf(*x * core::f32::consts::FRAC_1_SQRT_2));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_f64() {
        for i in -80_000..=80_000_i32 {
            let x = i as f32 * 1e-4;
            let mut y = [x];
            gelu(&mut y);
            let wide = f64::from(x);
            let exact = 0.5 * wide * libm::erfc(-wide * core::f64::consts::FRAC_1_SQRT_2);
            assert!((f64::from(y[0]) - exact).abs() < 3e-7 * wide.abs().max(1.0), "gelu({x}) = {}", y[0]);
        }
        let mut nan = [f32::NAN];
        gelu(&mut nan);
        assert!(nan[0].is_nan());
    }
}
