//! The 8-bit linear layer: where almost all of the work is.

use super::quantize::{HIGH, Token, quantize};
use super::{load, size};
use crate::num::nearest_single;
use crate::simd::{Block, LANES, Simd, Work};

/// Widest input row: keeps every dot product of ±127 values far inside i32, and 128-fold sums of weights exact in f32.
pub(crate) const MAX_WIDTH: usize = 65_536;

/// A checked layer with `out` outputs, padded to a multiple of 16 where it says `[out]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinearI8<'image> {
    /// `[out / 16][width / 4]` blocks. The compiler writes zeros in the padding; any value there is harmless, and none is checked.
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
    /// `[rows]`, at least: how each row is read.
    pub(crate) tokens: &'s mut [Token],
}

impl LinearI8<'_> {
    /// Digits of an activation.
    pub(crate) const fn digits(&self) -> usize {
        if self.fine { 2 } else { 1 }
    }

    /// Every output's `units` is the sum of its weights: some backends start from it.
    pub(crate) fn units_hold(&self, width: usize) -> bool {
        let blocks = self.weights.chunks_exact(size(width.div_ceil(4)));
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
    /// `dot · scale · token scale + (token middle · (units · scale) + bias)`, left to right; last comes the ReLU of a layer that is
    /// `rectified`.
    #[inline(always)]
    pub(crate) fn run<S: Simd>(
        &self,
        simd: S,
        (source, width): (&[f32], usize),
        (target, out): (&mut [f32], usize),
        rectified: bool,
        quantized: Quantized<'_>,
    ) -> Option<()> {
        if self.fine {
            simd.apart(Rows::<true> { layer: self, source, width, target, out, rectified, quantized })
        } else {
            simd.apart(Rows::<false> { layer: self, source, width, target, out, rectified, quantized })
        }
    }
}

/// A layer and its rows, in two digits or one.
struct Rows<'a, const FINE: bool> {
    layer: &'a LinearI8<'a>,
    source: &'a [f32],
    width: usize,
    target: &'a mut [f32],
    out: usize,
    rectified: bool,
    quantized: Quantized<'a>,
}

impl<const FINE: bool> Work for Rows<'_, FINE> {
    type Output = Option<()>;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Option<()> {
        let Self { layer, source, width, target, out, rectified, quantized } = self;
        let values: &mut [S::Digits] = bytemuck::try_cast_slice_mut(quantized.values).ok()?;
        let rows = source.chunks_exact(size(width)).len();
        let tokens = quantized.tokens.get_mut(..rows)?;
        quantize::<S, FINE>(simd, source, width, values, tokens)?;
        let period = layer.bias.len().checked_div(layer.scale.len())?;
        // max(floor, y) keeps y unless it is below the floor; NaN is kept.
        let floor = simd.splat(if rectified { 0.0 } else { f32::NEG_INFINITY });
        let groups = width.div_ceil(4);
        let mut tiles = Tiles { simd, layer, values, tokens, groups, period, target, out, floor };
        // Outputs outermost: one pass over the weights, each block reused by every row from the nearest cache.
        let (whole, mut at) = (out / LANES, 0_usize);
        if S::BLOCKS_OF_ROW >= 4 && rows == 1 {
            while whole.wrapping_sub(at) >= 4 {
                let outputs = tiles.outputs::<4>(at)?;
                if FINE {
                    tiles.tile::<FINE, 2, 4>(&outputs, 0)?;
                } else {
                    tiles.tile::<FINE, 1, 4>(&outputs, 0)?;
                }
                at = at.wrapping_add(4);
            }
        } else if S::BLOCKS >= 2 {
            while whole.wrapping_sub(at) >= 2 {
                tiles.columns::<FINE, 2>(at)?;
                at = at.wrapping_add(2);
            }
        }
        while at < layer.scale.len() / LANES {
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
    tokens: &'a [Token],
    groups: usize,
    /// Rows of bias.
    period: usize,
    target: &'a mut [f32],
    out: usize,
    /// The least an output may be.
    floor: S::F,
}

/// What `B` blocks of outputs have in common for all rows.
struct Outputs<'a, S: Simd, const B: usize> {
    weights: &'a [Block],
    /// Index of the first output.
    first: usize,
    scale: [S::F; B],
    /// Sums of the weights as they are read.
    sum: [S::F; B],
    /// The first row of bias.
    bias: [S::F; B],
    start: [S::I; B],
}

impl<'a, S: Simd> Tiles<'a, S> {
    /// `B` blocks from block `first` on.
    #[inline(always)]
    fn outputs<const B: usize>(&self, first: usize) -> Option<Outputs<'a, S, B>> {
        let (simd, layer) = (self.simd, self.layer);
        let of_blocks = |constants: &'a [f32]| constants.as_chunks().0.get(first..)?.first_chunk::<B>();
        let (scale, units) = (of_blocks(layer.scale)?, of_blocks(layer.units)?);
        let weights = layer.weights.get(first.checked_mul(self.groups)?..)?;
        let (scale, bias) = (load(simd, scale), load(simd, of_blocks(layer.bias)?));
        let (mut sum, mut start) = (load(simd, units), [simd.splat_int(0); B]);
        for (b, sum) in sum.iter_mut().enumerate() {
            *start.get_mut(b)? = simd.start(*sum);
            *sum = simd.mul(*sum, *scale.get(b)?);
        }
        Some(Outputs { weights, first: first.wrapping_mul(LANES), scale, sum, bias, start })
    }

    /// All rows of `B` blocks.
    #[inline(always)]
    fn columns<const FINE: bool, const B: usize>(&mut self, first: usize) -> Option<()> {
        let outputs = self.outputs::<B>(first)?;
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
        let first = row.wrapping_mul(self.groups).wrapping_mul(if FINE { 2 } else { 1 });
        let dots =
            self.simd.dots::<T, B>(outputs.weights, self.values.get(first..)?, self.groups, outputs.start);
        let tokens = self.tokens.get(row..)?.get(..if FINE { T / 2 } else { T })?;
        /// Row by row without a loop: indices are constants, so that dot products stay in registers.
        macro_rules! rows {
            ($($t:literal)*) => {
                $(
                    if FINE && 2 * $t < T {
                        let (high, low) = (dots.get(2 * $t)?, dots.get(2 * $t + 1)?);
                        self.row::<FINE, B>(outputs, row.wrapping_add($t), tokens.get($t)?, high, low)?;
                    }
                    if !FINE && $t < T {
                        let dots = dots.get($t)?;
                        self.row::<FINE, B>(outputs, row.wrapping_add($t), tokens.get($t)?, dots, dots)?;
                    }
                )*
            };
        }
        rows!(0 1 2 3 4 5 6 7);
        Some(())
    }

    /// Stores the outputs of row `row` of a tile from its dot products.
    #[inline(always)]
    fn row<const FINE: bool, const B: usize>(
        &mut self,
        outputs: &Outputs<'_, S, B>,
        row: usize,
        token: &Token,
        high: &[S::I; B],
        low: &[S::I; B],
    ) -> Option<()> {
        let (simd, layer) = (self.simd, self.layer);
        let (token_scale, middle) = (simd.splat(token.scale), simd.splat(token.middle));
        let mut bias = outputs.bias;
        if self.period != 1 {
            let first = row.checked_rem(self.period)?.wrapping_mul(layer.scale.len());
            bias =
                load(simd, layer.bias.get(first.wrapping_add(outputs.first)..)?.as_chunks().0.first_chunk()?);
        }
        let mut lanes = [token_scale; B];
        for (b, lane) in lanes.iter_mut().enumerate() {
            let mut dot = simd.float(*high.get(b)?);
            if FINE {
                dot = simd.add(simd.mul(dot, simd.splat(HIGH)), simd.float(*low.get(b)?));
            }
            let scaled = simd.mul(simd.mul(dot, *outputs.scale.get(b)?), token_scale);
            let fixed = simd.add(simd.mul(middle, *outputs.sum.get(b)?), *bias.get(b)?);
            *lane = simd.add(scaled, fixed);
        }
        let first = row.wrapping_mul(self.out).wrapping_add(outputs.first);
        let room = self.out.wrapping_sub(outputs.first);
        if let ([y], true) = (lanes.as_slice(), room < LANES) {
            // The last block, partly padding: it comes alone.
            let target = self.target.get_mut(first..)?.get_mut(..room)?;
            let y = if layer.add { simd.add(simd.load_part(target, 0.0), *y) } else { *y };
            simd.store_part(simd.max(self.floor, y), target);
            return Some(());
        }
        let target = self.target.get_mut(first..)?.as_chunks_mut::<LANES>().0.first_chunk_mut::<B>()?;
        if layer.add {
            for (lane, to) in lanes.iter_mut().zip(target.iter()) {
                *lane = simd.add(simd.load(to), *lane);
            }
        }
        for (lane, to) in lanes.iter().zip(target) {
            simd.store(simd.max(self.floor, *lane), to);
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
            let (mut values, mut tokens) = (vec![[9; 4]; 18], vec![Token::default(); 3]);
            let quantized = Quantized { values: &mut values, tokens: &mut tokens };
            let layer = LinearI8 { weights, scale, units, bias, add, fine };
            assert!(layer.units_hold(Self::WIDTH));
            layer.run(Scalar, (source, Self::WIDTH), (target, Self::OUT), false, quantized).unwrap();
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
            let mut token = [Token::default()];
            quantize::<Scalar, false>(Scalar, row, Example::WIDTH, &mut digits, &mut token).unwrap();
            let [token] = token;
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
