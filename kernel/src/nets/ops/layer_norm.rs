//! Layer normalization.

use super::reduce::row_sum;
use super::size;
use crate::simd::{LANES, Simd};

/// `rows [n, width]` in place: y = (x − mean) · r · gain + bias per row, with r = 1 / √(population variance + ε).
///
/// Mean and variance are sums by [`row_sum`] divided by `count`, the width as f32; the variance is that
/// of the centred values. Every operation is rounded once, in the order written.
#[inline(always)]
pub(crate) fn layer_norm<S: Simd>(
    simd: S,
    rows: &mut [f32],
    gain: &[f32],
    bias: &[f32],
    epsilon: f32,
    count: f32,
) {
    let width = size(gain.len());
    let (count, zero) = (simd.splat(count), simd.splat(0.0));
    // Sixteen rows side by side: a lane for each one's sums, root and quotients.
    for rows in rows.chunks_mut(size(width.saturating_mul(LANES))) {
        let mut terms = [simd.terms(zero); LANES];
        for (row, terms) in rows.chunks_exact(width).zip(&mut terms) {
            *terms = row_sum(simd, row);
        }
        let mut means = [0.0; LANES];
        simd.store(simd.div(simd.sums(terms), count), &mut means);
        for ((row, terms), &mean) in rows.chunks_exact(width).zip(&mut terms).zip(&means) {
            let (mut squares, middle) = (zero, simd.splat(mean));
            for part in row.chunks(LANES) {
                let centred = simd.sub(simd.load_part(part, mean), middle);
                squares = simd.add(squares, simd.mul(centred, centred));
            }
            *terms = simd.terms(squares);
        }
        let variance = simd.div(simd.sums(terms), count);
        let root = simd.sqrt(simd.add(variance, simd.splat(epsilon)));
        let mut inverses = [0.0; LANES];
        simd.store(simd.div(simd.splat(1.0), root), &mut inverses);
        for ((row, mean), r) in rows.chunks_exact_mut(width).zip(means).zip(inverses) {
            let (middle, r) = (simd.splat(mean), simd.splat(r));
            for ((part, gain), bias) in row.chunks_mut(LANES).zip(gain.chunks(LANES)).zip(bias.chunks(LANES))
            {
                let centred = simd.sub(simd.load_part(part, 0.0), middle);
                let scaled = simd.mul(simd.mul(centred, r), simd.load_part(gain, 0.0));
                simd.store_part(simd.add(scaled, simd.load_part(bias, 0.0)), part);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::simd::Scalar;
    use std::vec::Vec;

    #[test]
    fn matches_f64() {
        let width = 37;
        let x: Vec<f32> = (0..2 * width).map(|i| (i as f32 * 0.77).sin() * 3.0 + 20.0).collect();
        let gain: Vec<f32> = (0..width).map(|i| 0.5 + i as f32 * 0.03).collect();
        let bias: Vec<f32> = (0..width).map(|i| i as f32 * 0.1 - 1.0).collect();
        let mut y = x.clone();
        layer_norm(Scalar, &mut y, &gain, &bias, 1e-5, width as f32);
        for (x, y) in x.chunks(width).zip(y.chunks(width)) {
            let wide: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
            let mean = wide.iter().sum::<f64>() / width as f64;
            let variance = wide.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / width as f64;
            for (i, y) in y.iter().enumerate() {
                let exact =
                    (wide[i] - mean) / (variance + 1e-5).sqrt() * f64::from(gain[i]) + f64::from(bias[i]);
                assert!((f64::from(*y) - exact).abs() < 3e-6, "{y} {exact}");
            }
        }
    }
}
