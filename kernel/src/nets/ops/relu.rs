//! ReLU.

use crate::simd::{LANES, Simd};

/// `values` in place: 0 below 0; NaN stays NaN. Exact.
#[inline(always)]
pub(crate) fn relu<S: Simd>(simd: S, values: &mut [f32]) {
    let zero = simd.splat(0.0);
    for part in values.chunks_mut(LANES) {
        let x = simd.load_part(part, 0.0);
        simd.store_part(simd.select(simd.less(x, zero), zero, x), part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::Scalar;

    #[test]
    fn negative_values_vanish_and_nan_stays() {
        let mut x = [-1.0, 0.0, 2.5, f32::NAN, f32::NEG_INFINITY];
        relu(Scalar, &mut x);
        assert_eq!((x[0], x[1], x[2], x[4]), (0.0, 0.0, 2.5, 0.0));
        assert!(x[3].is_nan());
    }
}
