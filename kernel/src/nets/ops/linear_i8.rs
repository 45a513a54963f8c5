//! The 8-bit linear layer: where almost all of the work is.

use super::quantize::{HIGH, Token, quantize};
use super::size;
use crate::num::{each_row, each_row_mut, nearest_single};
use crate::simd::{Block, LANES, Simd};

/// Widest input row: keeps every dot product of ±127 values far inside i32, and 128-fold sums of weights exact in f32.
pub(crate) const MAX_WIDTH: usize = 65_536;

/// A checked layer with `out` outputs, padded to a multiple of 16 where it says `[out]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinearI8<'image> {
    /// `[out / 16][width / 4]` blocks, zero in the padding.
    pub(crate) weights: &'image [Block],
    /// `[out]`: value of one unit of an output's weights.
    pub(crate) scale: &'image [f32],
    /// `[out]`: the sum of an output's weights in units, an integer.
    pub(crate) units: &'image [f32],
    /// `[period, out]`: bias, with positions folded in where there are any.
    pub(crate) bias: &'image [f32],
    /// Adds to the target instead of replacing it.
    pub(crate) add: bool,
    /// Two digits for each activation instead of one: for inputs with outliers.
    pub(crate) fine: bool,
}

/// Working memory of the layer.
#[derive(Debug)]
pub(crate) struct Quantized<'s> {
    /// `[rows, digits, width / 4] [i16; 4]`, at least; the high digits of a row come first.
    pub(crate) values: &'s mut [[i16; 4]],
    /// `[rows, 2]`, at least: scale and middle of each row.
    pub(crate) tokens: &'s mut [[f32; 2]],
}

impl LinearI8<'_> {
    /// Digits of an activation.
    pub(crate) const fn digits(&self) -> usize {
        if self.fine { 2 } else { 1 }
    }

    /// Every output's `units` is the sum of its weights: some backends start from it.
    pub(crate) fn units_hold(&self, width: usize) -> bool {
        let blocks = each_row(self.weights, width.div_ceil(4));
        blocks.zip(self.units.chunks_exact(LANES)).all(|(blocks, units)| {
            let mut sums = [0_i32; LANES];
            for block in blocks {
                let (outputs, _) = block.as_chunks::<4>();
                for (sum, weights) in sums.iter_mut().zip(outputs) {
                    *sum = weights.iter().fold(*sum, |sum, &weight| sum.wrapping_add(i32::from(weight)));
                }
            }
            sums.iter().zip(units).all(|(&sum, units)| nearest_single(sum).to_bits() == units.to_bits())
        })
    }

    /// `target [rows, out]` from `source [rows, width]`.
    ///
    /// Rows are quantized by [`quantize`]; dot products of digits are exact in i32, so their order is free. Then, each operation
    /// rounded once: dot = f32(one digit) or f32(high) · 255 + f32(low), and
    /// `dot · scale · token scale + (token middle · (units · scale) + bias)`, left to right.
    #[inline(always)]
    pub(crate) fn run<S: Simd>(
        &self,
        simd: S,
        source: &[f32],
        width: usize,
        target: &mut [f32],
        out: usize,
        quantized: Quantized<'_>,
    ) -> Option<()> {
        if self.fine {
            self.run_in::<S, true>(simd, source, width, target, out, quantized)
        } else {
            self.run_in::<S, false>(simd, source, width, target, out, quantized)
        }
    }

    #[inline(always)]
    fn run_in<S: Simd, const FINE: bool>(
        &self,
        simd: S,
        source: &[f32],
        width: usize,
        target: &mut [f32],
        out: usize,
        quantized: Quantized<'_>,
    ) -> Option<()> {
        let groups = width.div_ceil(4);
        let row_groups = groups.checked_mul(self.digits())?;
        let values: &mut [S::Digits] = bytemuck::try_cast_slice_mut(quantized.values).ok()?;
        let n_rows = source.chunks_exact(size(width)).len();
        let rows = each_row(source, width).zip(each_row_mut(values, row_groups));
        for ((row, digits), to) in rows.zip(&mut *quantized.tokens) {
            let Token { scale, middle } = quantize::<S, FINE>(simd, row, digits, groups)?;
            *to = [scale, middle];
        }
        let tokens = quantized.tokens.get(..n_rows)?;
        let period = self.bias.len().checked_div(self.scale.len())?;
        let mut tiles = Tiles { simd, layer: self, values, tokens, groups, period, target, out };
        // Outputs outermost: one pass over the weights, each block reused by every row from the nearest cache.
        let (blocks, mut at) = (self.scale.len() / LANES, 0_usize);
        if S::BLOCKS >= 2 {
            while blocks.wrapping_sub(at) >= 2 {
                tiles.columns::<FINE, 2>(at)?;
                at = at.wrapping_add(2);
            }
        }
        while at < blocks {
            tiles.columns::<FINE, 1>(at)?;
            at = at.wrapping_add(1);
        }
        Some(())
    }
}

/// A layer whose rows are quantized, on its way through tiles of rows by blocks of 16 outputs.
struct Tiles<'a, S: Simd> {
    simd: S,
    layer: &'a LinearI8<'a>,
    values: &'a [S::Digits],
    tokens: &'a [[f32; 2]],
    groups: usize,
    /// Rows of bias.
    period: usize,
    target: &'a mut [f32],
    out: usize,
}

/// What `B` blocks of outputs have in common for all rows.
struct Outputs<'a, S: Simd, const B: usize> {
    weights: &'a [Block],
    /// Index of the first block.
    first: usize,
    scale: [S::F; B],
    /// Sums of the weights as they are read.
    sum: [S::F; B],
    start: [S::I; B],
}

impl<S: Simd> Tiles<'_, S> {
    /// All rows of `B` blocks.
    #[inline(always)]
    fn columns<const FINE: bool, const B: usize>(&mut self, first: usize) -> Option<()> {
        let (simd, layer) = (self.simd, self.layer);
        let zero = simd.splat(0.0);
        let (mut scale, mut sum, mut start) = ([zero; B], [zero; B], [simd.splat_int(0); B]);
        let constants = layer.scale.as_chunks().0.iter().zip(layer.units.as_chunks().0).skip(first);
        let lanes = scale.iter_mut().zip(sum.iter_mut()).zip(start.iter_mut());
        for (((scale, sum), start), (of_scale, of_units)) in lanes.zip(constants) {
            let units = simd.load(of_units);
            *scale = simd.load(of_scale);
            *sum = simd.mul(units, *scale);
            *start = simd.start(units);
        }
        let weights = layer.weights.get(first.checked_mul(self.groups)?..)?;
        let outputs = Outputs { weights, first, scale, sum, start };
        let (rows, mut row) = (self.tokens.len(), 0_usize);
        if FINE {
            // A row is two rows of digits.
            if S::ROWS >= 8 {
                while rows.wrapping_sub(row) >= 4 {
                    self.tile::<FINE, 8, B>(&outputs, row)?;
                    row = row.wrapping_add(4);
                }
            }
            while row < rows {
                self.tile::<FINE, 2, B>(&outputs, row)?;
                row = row.wrapping_add(1);
            }
            return Some(());
        }
        if S::ROWS >= 8 {
            while rows.wrapping_sub(row) >= 8 {
                self.tile::<FINE, 8, B>(&outputs, row)?;
                row = row.wrapping_add(8);
            }
        }
        if S::ROWS >= 4 {
            while rows.wrapping_sub(row) >= 4 {
                self.tile::<FINE, 4, B>(&outputs, row)?;
                row = row.wrapping_add(4);
            }
        }
        while row < rows {
            self.tile::<FINE, 1, B>(&outputs, row)?;
            row = row.wrapping_add(1);
        }
        Some(())
    }

    /// `T` rows of digits, from row `row` on.
    #[inline(always)]
    fn tile<const FINE: bool, const T: usize, const B: usize>(
        &mut self,
        outputs: &Outputs<'_, S, B>,
        row: usize,
    ) -> Option<()> {
        let (simd, layer) = (self.simd, self.layer);
        let first = row.wrapping_mul(self.groups).wrapping_mul(if FINE { 2 } else { 1 });
        let values = self.values.get(first..)?;
        let dots = simd.dots::<T, B>(outputs.weights, values, self.groups, outputs.start);
        let mut bias_row = if self.period == 1 { 0 } else { row.checked_rem(self.period)? };
        let columns = outputs.first.wrapping_mul(LANES);
        let mut first = row.wrapping_mul(self.out).wrapping_add(columns);
        let mut tokens = self.tokens.get(row..)?.iter();
        // The last block may be partly padding.
        let room = self.out.wrapping_sub(columns).min(B.wrapping_mul(LANES));
        let mut dots = dots.iter();
        while let Some(high) = dots.next() {
            let low = if FINE { dots.next()? } else { high };
            let &[token_scale, middle] = tokens.next()?;
            let (token_scale, middle) = (simd.splat(token_scale), simd.splat(middle));
            let bias = bias_row.wrapping_mul(layer.scale.len()).wrapping_add(columns);
            let bias: &[[f32; LANES]] = layer.bias.get(bias..)?.as_chunks().0;
            bias_row = bias_row.wrapping_add(1);
            if bias_row == self.period {
                bias_row = 0;
            }
            let target = self.target.get_mut(first..)?.get_mut(..room)?;
            first = first.wrapping_add(self.out);
            for b in 0..B {
                let (dot, low) = (simd.float(*high.get(b)?), *low.get(b)?);
                let dot = if FINE { simd.add(simd.mul(dot, simd.splat(HIGH)), simd.float(low)) } else { dot };
                let scaled = simd.mul(simd.mul(dot, *outputs.scale.get(b)?), token_scale);
                let fixed = simd.add(simd.mul(middle, *outputs.sum.get(b)?), simd.load(bias.get(b)?));
                let mut y = simd.add(scaled, fixed);
                let at = b.wrapping_mul(LANES);
                let to = match target.get_mut(at..at.wrapping_add(LANES)) {
                    Some(full) => full,
                    None => target.get_mut(at..)?,
                };
                if layer.add {
                    y = simd.add(simd.load_part(to, 0.0), y);
                }
                simd.store_part(y, to);
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

    /// 21 outputs over 10 inputs, in the layout of the image.
    struct Example {
        weights: Vec<Block>,
        scale: Vec<f32>,
        units: Vec<f32>,
        bias: Vec<f32>,
    }

    impl Example {
        const OUT: usize = 21;
        const WIDTH: usize = 10;

        fn weight(o: usize, k: usize) -> i32 {
            ((o * 37 + k * 53) % 255) as i32 - 127
        }

        fn new() -> Self {
            let mut weights = vec![[0; 64]; 2 * 3];
            let (mut scale, mut units) = (vec![0.0; 32], vec![0.0; 32]);
            for o in 0..Self::OUT {
                scale[o] = 0.01 + o as f32 * 1e-3;
                for k in 0..Self::WIDTH {
                    weights[o / 16 * 3 + k / 4][o % 16 * 4 + k % 4] = Self::weight(o, k) as i8;
                }
                units[o] = (0..Self::WIDTH).map(|k| Self::weight(o, k)).sum::<i32>() as f32;
            }
            Self { weights, scale, units, bias: (0..64_u8).map(|i| f32::from(i) * 0.25).collect() }
        }

        fn run(&self, source: &[f32], target: &mut [f32], add: bool, fine: bool) {
            let Self { weights, scale, units, bias } = self;
            let (mut values, mut tokens) = (vec![[9; 4]; 18], vec![[0.0; 2]; 3]);
            let quantized = Quantized { values: &mut values, tokens: &mut tokens };
            let layer = LinearI8 { weights, scale, units, bias, add, fine };
            assert!(layer.units_hold(Self::WIDTH));
            layer.run(Scalar, source, Self::WIDTH, target, Self::OUT, quantized).unwrap();
        }
    }

    #[test]
    fn matches_f64_on_what_quantization_kept() {
        let example = Example::new();
        let source: Vec<f32> = (0..30_i16).map(|i| (f32::from(i) * 1.3).cos() * 4.0 + 1.0).collect();
        let mut target = vec![100.0; 3 * Example::OUT];
        example.run(&source, &mut target, true, false);
        for (t, row) in source.chunks_exact(Example::WIDTH).enumerate() {
            let mut digits = [[0; 4]; 3];
            let token = quantize::<Scalar, false>(Scalar, row, &mut digits, 3).unwrap();
            let q = &digits.as_flattened()[..Example::WIDTH];
            let read = |q: i16| f64::from(token.middle) + f64::from(token.scale) * f64::from(q);
            for o in 0..Example::OUT {
                let units: f64 =
                    q.iter().enumerate().map(|(k, &q)| f64::from(Example::weight(o, k)) * read(q)).sum();
                let expected =
                    100.0 + units * f64::from(example.scale[o]) + f64::from(example.bias[t % 2 * 32 + o]);
                let got = f64::from(target[t * Example::OUT + o]);
                assert!((got - expected).abs() < 1e-5 * (1.0 + expected.abs()), "{t} {o}: {got} {expected}");
            }
        }
    }

    #[test]
    fn two_digits_come_close_to_f64() {
        let example = Example::new();
        let source: Vec<f32> = (0..30_i16).map(|i| (f32::from(i) * 1.3).cos() * 4.0 + 1.0).collect();
        let mut target = vec![0.0; 3 * Example::OUT];
        example.run(&source, &mut target, false, true);
        for (t, row) in source.chunks_exact(Example::WIDTH).enumerate() {
            for o in 0..Example::OUT {
                let units =
                    row.iter().enumerate().map(|(k, x)| f64::from(Example::weight(o, k)) * f64::from(*x));
                let expected = units.sum::<f64>() * f64::from(example.scale[o])
                    + f64::from(example.bias[t % 2 * 32 + o]);
                let got = f64::from(target[t * Example::OUT + o]);
                assert!((got - expected).abs() < 2e-3, "{t} {o}: {got} {expected}");
            }
        }
    }

    #[test]
    fn a_value_that_is_not_finite_reaches_every_output() {
        let mut source = [1.0; Example::WIDTH];
        source[3] = f32::INFINITY;
        let mut target = [0.0; Example::OUT];
        for fine in [false, true] {
            Example::new().run(&source, &mut target, false, fine);
            assert!(target.iter().all(|y| y.is_nan()));
        }
    }
}
