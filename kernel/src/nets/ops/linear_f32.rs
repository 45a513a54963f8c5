//! The f32 linear layer, for small layers that must stay wider than 8 bits: embeddings and heads.

use super::reduce::column_sum;
use super::size;
use crate::simd::{LANES, Simd};

/// A checked layer with `out` outputs, padded to a multiple of 16 where it says `[out]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinearF32<'image> {
    /// `[out / 16][width][16]`, zero in the padding.
    pub(crate) weights: &'image [[f32; LANES]],
    /// `[period, out]`: bias, with positions folded in where there are any.
    pub(crate) bias: &'image [f32],
    /// Adds to the target instead of replacing it.
    pub(crate) add: bool,
}

impl LinearF32<'_> {
    /// `target [rows, out]` from `source [rows, width]`: products rounded once, summed over the inputs in the order of
    /// [`column_sum`], then the bias added.
    #[inline(always)]
    pub(crate) fn run<S: Simd>(
        &self,
        simd: S,
        source: &[f32],
        width: usize,
        target: &mut [f32],
        out: usize,
    ) -> Option<()> {
        let padded = out.checked_next_multiple_of(LANES)?;
        for (at, weights) in self.weights.chunks_exact(size(width)).enumerate() {
            let first = at.checked_mul(LANES)?;
            let bias_rows = self.bias.chunks_exact(size(padded)).cycle();
            for ((x, y), bias) in
                source.chunks_exact(size(width)).zip(target.chunks_exact_mut(size(out))).zip(bias_rows)
            {
                let dots = column_sum(simd, width, |at| match (x.get(at), weights.get(at)) {
                    (Some(&x), Some(weights)) => simd.mul(simd.load(weights), simd.splat(x)),
                    _ => simd.splat(0.0),
                });
                let part = y.get_mut(first..)?;
                let part = match part.split_at_mut_checked(LANES) {
                    Some((part, _)) => part,
                    None => part,
                };
                let mut y = simd.add(dots, simd.load_part(bias.get(first..)?, 0.0));
                if self.add {
                    y = simd.add(simd.load_part(part, 0.0), y);
                }
                simd.store_part(y, part);
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::simd::Scalar;
    use std::vec;
    use std::vec::Vec;

    #[test]
    fn matches_f64_with_positions() {
        let (width, out) = (35, 18);
        let weight = |o: usize, k: usize| ((o * 31 + k * 17) as f32 * 0.61).sin();
        let mut weights = vec![[0.0; 16]; 2 * width];
        for o in 0..out {
            for k in 0..width {
                weights[o / 16 * width + k][o % 16] = weight(o, k);
            }
        }
        let bias: Vec<f32> = (0..64_i16).map(f32::from).collect();
        let layer = LinearF32 { weights: &weights, bias: &bias, add: false };
        let source: Vec<f32> = (0..3 * width).map(|i| (i as f32 * 0.9).cos()).collect();
        let mut target = vec![7.0; 3 * out];
        layer.run(Scalar, &source, width, &mut target, out).unwrap();
        for t in 0..3 {
            for o in 0..out {
                let dot: f64 =
                    (0..width).map(|k| f64::from(weight(o, k)) * f64::from(source[t * width + k])).sum();
                let expected = dot + f64::from(bias[t % 2 * 32 + o]);
                assert!((f64::from(target[t * out + o]) - expected).abs() < 4e-6 * (1.0 + expected.abs()));
            }
        }
    }
}
