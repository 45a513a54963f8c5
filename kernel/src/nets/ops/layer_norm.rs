//! Layer normalization.

use super::reduce::row_sum;
use super::size;
use crate::rows::{each_row, each_row_mut};
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
        for (row, terms) in each_row(rows, width).zip(&mut terms) {
            *terms = row_sum(simd, row);
        }
        let mut means = [0.0; LANES];
        simd.store(simd.div(simd.sums(terms), count), &mut means);
        for ((row, terms), &mean) in each_row(rows, width).zip(&mut terms).zip(&means) {
            let (mut squares, middle) = (zero, simd.splat(mean));
            let (whole, rest) = row.as_chunks();
            for part in whole {
                let centred = simd.sub(simd.load(part), middle);
                squares = simd.add(squares, simd.mul(centred, centred));
            }
            if !rest.is_empty() {
                let centred = simd.sub(simd.load_tail(rest, mean), middle);
                squares = simd.add(squares, simd.mul(centred, centred));
            }
            *terms = simd.terms(squares);
        }
        let variance = simd.div(simd.sums(terms), count);
        let root = simd.sqrt(simd.add(variance, simd.splat(epsilon)));
        let mut inverses = [0.0; LANES];
        simd.store(simd.div(simd.splat(1.0), root), &mut inverses);
        for ((row, mean), r) in each_row_mut(rows, width).zip(means).zip(inverses) {
            let (middle, r) = (simd.splat(mean), simd.splat(r));
            let norm = |x, gain, bias| simd.add(simd.mul(simd.mul(simd.sub(x, middle), r), gain), bias);
            let (whole, rest) = row.as_chunks_mut();
            let parameters = gain.as_chunks().0.iter().zip(bias.as_chunks().0);
            for (part, (gain, bias)) in whole.iter_mut().zip(parameters) {
                simd.store(norm(simd.load(part), simd.load(gain), simd.load(bias)), part);
            }
            if !rest.is_empty() {
                let (gain, bias) = (gain.as_chunks::<LANES>().1, bias.as_chunks::<LANES>().1);
                let (gain, bias) = (simd.load_tail(gain, 0.0), simd.load_tail(bias, 0.0));
                simd.store_tail(norm(simd.load_tail(rest, 0.0), gain, bias), rest);
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
