//! The f32 linear layer, for small layers that must stay wider than 8 bits: embeddings and heads.

use super::size;
use crate::num::each_row;
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
    /// [`column_sum`](super::reduce::column_sum), then the bias added.
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
        let period = self.bias.len().checked_div(padded)?;
        let mut rows = source.chunks_exact(size(width)).len();
        let mut tile = Tile { simd, layer: self, source, width, target, out, padded, period };
        let mut row = 0_usize;
        while rows > 0 {
            let step = if S::ROWS_F32 >= 4 && rows >= 4 {
                tile.run::<4>(row)?;
                4
            } else {
                tile.run::<1>(row)?;
                1
            };
            (row, rows) = (row.wrapping_add(step), rows.wrapping_sub(step));
        }
        Some(())
    }
}

/// A layer on its way through its rows.
struct Tile<'a, S> {
    simd: S,
    layer: &'a LinearF32<'a>,
    source: &'a [f32],
    width: usize,
    target: &'a mut [f32],
    out: usize,
    /// `out`, rounded up to a multiple of 16.
    padded: usize,
    /// Rows of bias.
    period: usize,
}

impl<S: Simd> Tile<'_, S> {
    /// All outputs of `T` rows from row `row` on.
    #[inline(always)]
    fn run<const T: usize>(&mut self, row: usize) -> Option<()> {
        let (simd, width) = (self.simd, size(self.width));
        let source = self.source.get(row.wrapping_mul(width)..)?;
        let mut rows: [&[f32]; T] = [&[]; T];
        for (to, row) in rows.iter_mut().zip(each_row(source, width)) {
            *to = row;
        }
        for (at, weights) in self.layer.weights.chunks_exact(width).enumerate() {
            let mut lanes = [[simd.splat(0.0); 4]; T];
            let (fours, rest) = weights.as_chunks::<4>();
            for (four, weights) in fours.iter().enumerate() {
                let weights = weights.each_ref().map(|weights| simd.load(weights));
                for (lanes, x) in lanes.iter_mut().zip(rows) {
                    let x = x.as_chunks::<4>().0.get(four)?;
                    for ((lane, x), weights) in lanes.iter_mut().zip(x).zip(weights) {
                        *lane = simd.add(*lane, simd.mul(weights, simd.splat(*x)));
                    }
                }
            }
            for (lanes, x) in lanes.iter_mut().zip(rows) {
                for ((lane, x), weights) in lanes.iter_mut().zip(x.as_chunks::<4>().1).zip(rest) {
                    *lane = simd.add(*lane, simd.mul(simd.load(weights), simd.splat(*x)));
                }
            }
            for (t, [a, b, c, d]) in lanes.into_iter().enumerate() {
                let dots = simd.add(simd.add(a, c), simd.add(b, d));
                self.put(dots, row.wrapping_add(t), at.wrapping_mul(LANES))?;
            }
        }
        Some(())
    }

    /// Sixteen dot products of a row, from output `first` on.
    #[inline(always)]
    fn put(&mut self, dots: S::F, row: usize, first: usize) -> Option<()> {
        let simd = self.simd;
        let bias_row = if self.period == 1 { 0 } else { row.checked_rem(self.period)? };
        let bias = self.layer.bias.get(bias_row.wrapping_mul(self.padded).wrapping_add(first)..)?;
        let room = self.out.saturating_sub(first).min(LANES);
        let to = self.target.get_mut(row.wrapping_mul(self.out).wrapping_add(first)..)?.get_mut(..room)?;
        let mut y = simd.add(dots, simd.load_part(bias, 0.0));
        if self.layer.add {
            y = simd.add(simd.load_part(to, 0.0), y);
        }
        simd.store_part(y, to);
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
