//! The f32 linear layer, for small layers that must stay wider than 8 bits: embeddings and heads.

use super::{load, size};
use crate::simd::{LANES, Simd, Work};

/// Weights of sixteen outputs for four inputs.
type Four = [[f32; LANES]; 4];

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
        simd.apart(Rows { layer: self, source, width, target, out })
    }
}

/// A layer and its rows.
struct Rows<'a> {
    layer: &'a LinearF32<'a>,
    source: &'a [f32],
    width: usize,
    target: &'a mut [f32],
    out: usize,
}

impl Work for Rows<'_> {
    type Output = Option<()>;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Option<()> {
        let Self { layer, source, width, target, out } = self;
        let padded = out.checked_next_multiple_of(LANES)?;
        let period = layer.bias.len().checked_div(padded)?;
        let rows = source.chunks_exact(size(width)).len();
        let mut tiles = Tiles { simd, layer, source, width, target, out, padded, period };
        let (blocks, mut at) = (padded / LANES, 0_usize);
        if S::TILE_F32 >= 2 && rows >= 2 {
            while blocks.wrapping_sub(at) >= 2 {
                tiles.columns::<2>(at, rows)?;
                at = at.wrapping_add(2);
            }
        }
        while at < blocks {
            tiles.columns::<1>(at, rows)?;
            at = at.wrapping_add(1);
        }
        Some(())
    }
}

/// A layer on its way through its outputs.
struct Tiles<'a, S> {
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

impl<S: Simd> Tiles<'_, S> {
    /// `B` blocks of outputs from block `at` on, of all rows.
    #[inline(always)]
    fn columns<const B: usize>(&mut self, at: usize, rows: usize) -> Option<()> {
        let mut row = 0_usize;
        if S::TILE_F32 >= 2 {
            while rows.wrapping_sub(row) >= 2 {
                self.tile::<2, B>(row, at)?;
                row = row.wrapping_add(2);
            }
        }
        while row < rows {
            self.tile::<1, B>(row, at)?;
            row = row.wrapping_add(1);
        }
        Some(())
    }

    /// `T` rows from row `row` on.
    #[inline(always)]
    fn tile<const T: usize, const B: usize>(&mut self, row: usize, at: usize) -> Option<()> {
        let (simd, width) = (self.simd, self.width);
        let (fours, rest) = (width / 4, width % 4);
        // Slices of one length each: bounds are checked here, and not in the loop.
        let (mut inputs, mut last_inputs): ([&[[f32; 4]]; T], [&[f32]; T]) = ([&[]; T], [&[]; T]);
        for (t, (inputs, last_inputs)) in inputs.iter_mut().zip(&mut last_inputs).enumerate() {
            let first = row.wrapping_add(t).wrapping_mul(width);
            let (x, last) = self.source.get(first..)?.get(..width)?.as_chunks();
            (*inputs, *last_inputs) = (x.get(..fours)?, last.get(..rest)?);
        }
        let (mut weights, mut last_weights): ([&[Four]; B], [&[[f32; LANES]]; B]) = ([&[]; B], [&[]; B]);
        for (b, (weights, last_weights)) in weights.iter_mut().zip(&mut last_weights).enumerate() {
            let first = at.wrapping_add(b).wrapping_mul(width);
            let (w, last) = self.layer.weights.get(first..)?.get(..width)?.as_chunks();
            (*weights, *last_weights) = (w.get(..fours)?, last.get(..rest)?);
        }
        let mut lanes = [[[simd.splat(0.0); 4]; B]; T];
        for four in 0..fours {
            let mut blocks = [[simd.splat(0.0); 4]; B];
            for (b, block) in blocks.iter_mut().enumerate() {
                *block = load(simd, weights.get(b)?.get(four)?);
            }
            for (t, lanes) in lanes.iter_mut().enumerate() {
                let x = inputs.get(t)?.get(four)?;
                for (b, lanes) in lanes.iter_mut().enumerate() {
                    for (at, lane) in lanes.iter_mut().enumerate() {
                        let product = simd.mul(*blocks.get(b)?.get(at)?, simd.splat(*x.get(at)?));
                        *lane = simd.add(*lane, product);
                    }
                }
            }
        }
        for (t, lanes) in lanes.iter_mut().enumerate() {
            for (b, lanes) in lanes.iter_mut().enumerate() {
                // Four turns, however many values are left: lanes whose number is not constant would live in memory.
                for (at, lane) in lanes.iter_mut().enumerate() {
                    if let (Some(x), Some(weights)) =
                        (last_inputs.get(t)?.get(at), last_weights.get(b)?.get(at))
                    {
                        *lane = simd.add(*lane, simd.mul(simd.load(weights), simd.splat(*x)));
                    }
                }
            }
        }
        for (t, lanes) in lanes.into_iter().enumerate() {
            for (block, [a, b, c, d]) in lanes.into_iter().enumerate() {
                let dots = simd.add(simd.add(a, c), simd.add(b, d));
                self.put(dots, row.wrapping_add(t), at.wrapping_add(block).wrapping_mul(LANES))?;
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
