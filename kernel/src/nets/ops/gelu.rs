//! GELU in its exact form, by the error function.

use crate::math::Gelu;
use crate::simd::{LANES, Simd};

/// `values` in place: see [`Gelu`].
#[inline(always)]
pub(crate) fn gelu<S: Simd>(simd: S, values: &mut [f32]) {
    for part in values.chunks_mut(LANES) {
        let x = simd.load_part(part, 0.0);
        simd.store_part(simd.map(Gelu, x), part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::Scalar;
    use crate::under_miri;

    #[test]
    fn matches_f64() {
        for i in (-80_000..=80_000_i32).step_by(under_miri(7993, 1)) {
            let x = i as f32 * 1e-4;
            let mut y = [x];
            gelu(Scalar, &mut y);
            let wide = f64::from(x);
            let exact = 0.5 * wide * libm::erfc(-wide * core::f64::consts::FRAC_1_SQRT_2);
            assert!((f64::from(y[0]) - exact).abs() < 3e-7 * wide.abs().max(1.0), "gelu({x}) = {}", y[0]);
        }
        let mut nan = [f32::NAN];
        gelu(Scalar, &mut nan);
        assert!(nan[0].is_nan());
    }
}
