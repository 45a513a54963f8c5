//! Layer normalization.

use super::reduce::row_sum;
use super::size;
use crate::num::{each_row, each_row_mut};
use crate::simd::{LANES, Simd, sqrt};

/// Rows taken side by side.
const ROWS: usize = 4;

/// `rows [n, width]` in place: y = (x − mean) · r · gain + bias per row, with r = 1 / √(population variance + ε).
///
/// Mean and variance are sums by [`row_sum`] divided by `count`, the width as f32; the variance is that of the centred values.
/// Every operation is rounded once, in the order written.
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
    // A few rows side by side: each is a chain of sums, roots and quotients.
    for rows in rows.chunks_mut(size(width.saturating_mul(ROWS))) {
        let mut means = [0.0; ROWS];
        for (row, mean) in each_row(rows, width).zip(&mut means) {
            *mean = row_sum(simd, row) / count;
        }
        let mut inverses = [0.0; ROWS];
        for ((row, &mean), r) in each_row(rows, width).zip(&means).zip(&mut inverses) {
            let (mut squares, middle) = (simd.splat(0.0), simd.splat(mean));
            for part in row.chunks(LANES) {
                let centred = simd.sub(simd.load_part(part, mean), middle);
                squares = simd.add(squares, simd.mul(centred, centred));
            }
            let variance = simd.sum(squares) / count;
            *r = 1.0 / sqrt(variance + epsilon);
        }
        for ((row, mean), r) in each_row_mut(rows, width).zip(means).zip(inverses) {
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
