//! The 8-bit linear layer: where almost all of the work is.

use super::quantize::{HIGH, Token, quantize, quantize_fine};
use super::reduce::LANES;
use super::size;
use crate::num::nearest_single;

/// Weights of 16 outputs for 4 inputs, `[16][4] s8`: one cache line, one `vpdpbusd` or four `sdot`.
pub(crate) type Block = [i8; 64];

/// Widest input row: keeps every dot product of ±127 values far inside i32.
pub(crate) const MAX_WIDTH: usize = 65_536;

/// A checked layer with `out` outputs, padded to a multiple of 16 where it says `[out]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinearI8<'image> {
    /// `[out / 16][width / 4]` blocks, zero in the padding.
    pub(crate) weights: &'image [Block],
    /// `[out]`: value of one unit of an output's weights.
    pub(crate) scale: &'image [f32],
    /// `[out]`: the sum of an output's weights as they are read.
    pub(crate) sum: &'image [f32],
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
    /// `[rows, digits, width / 4] [s8; 4]`, at least; the high digits of a row come first.
    pub(crate) values: &'s mut [[i8; 4]],
    /// `[rows, 2]`, at least: scale and middle of each row.
    pub(crate) tokens: &'s mut [[f32; 2]],
}

impl LinearI8<'_> {
    /// Digits of an activation.
    pub(crate) const fn digits(&self) -> usize {
        if self.fine { 2 } else { 1 }
    }

    /// `target [rows, out]` from `source [rows, width]`.
    ///
    /// Rows are quantized by [`quantize`] or [`quantize_fine`]; dot products of s8 are exact in i32, so their order is free. Then,
    /// each operation rounded once: dot = f32(one digit) or f32(high) · 255 + f32(low), and
    /// `dot · scale · token scale + (token middle · sum + bias)`, left to right.
    pub(crate) fn run(
        &self,
        source: &[f32],
        width: usize,
        target: &mut [f32],
        out: usize,
        quantized: Quantized<'_>,
    ) -> Option<()> {
        let groups = width.div_ceil(4);
        let row_groups = groups.checked_mul(self.digits())?;
        let Quantized { values, tokens } = quantized;
        let rows = source.chunks_exact(size(width));
        for ((row, values), token) in
            rows.zip(values.chunks_exact_mut(size(row_groups))).zip(tokens.iter_mut())
        {
            let (first, second) = values.split_at_mut_checked(groups)?;
            let first = digits(first, width)?;
            let Token { scale, middle } = if self.fine {
                quantize_fine(row, first, digits(second, width)?)
            } else {
                quantize(row, first)
            };
            *token = [scale, middle];
        }
        let bias_rows = || self.bias.chunks_exact(size(self.scale.len())).cycle();
        let outputs = self.scale.chunks_exact(LANES).zip(self.sum.chunks_exact(LANES)).enumerate();
        // Outputs outermost: one pass over the weights, each block reused by every row from the nearest cache.
        for (weights, (at, (scale, sum))) in self.weights.chunks_exact(size(groups)).zip(outputs) {
            let first = at.checked_mul(LANES)?;
            let rows =
                target.chunks_exact_mut(size(out)).zip(values.chunks_exact(size(row_groups))).zip(&*tokens);
            for (((row, values), &[token_scale, middle]), bias) in rows.zip(bias_rows()) {
                let dots = self.dots(weights, values.split_at_checked(groups)?);
                let target = row.get_mut(first..)?;
                let outputs = scale.iter().zip(sum).zip(bias.get(first..)?).zip(dots);
                for (to, (((scale, sum), bias), dot)) in target.iter_mut().zip(outputs) {
                    let y = dot * scale * token_scale + (middle * sum + bias);
                    *to = if self.add { *to + y } else { y };
                }
            }
        }
        Some(())
    }

    /// Dot products of one row with 16 outputs, its digits taken together.
    #[inline]
    fn dots(&self, weights: &[Block], (first, second): (&[[i8; 4]], &[[i8; 4]])) -> [f32; LANES] {
        let mut first = dots(weights, first).map(nearest_single);
        if self.fine {
            for (high, low) in first.iter_mut().zip(dots(weights, second)) {
                *high = *high * nearest_single(HIGH) + nearest_single(low);
            }
        }
        first
    }
}

/// The `width` digits in these groups; those beyond are set to 0.
fn digits(groups: &mut [[i8; 4]], width: usize) -> Option<&mut [i8]> {
    let (digits, padding) = groups.as_flattened_mut().split_at_mut_checked(width)?;
    padding.fill(0);
    Some(digits)
}

/// Dot products of one token with 16 outputs.
#[inline]
fn dots(weights: &[Block], values: &[[i8; 4]]) -> [i32; LANES] {
    // Pairs match the multiply-add instructions of every x86: plain code that compilers vectorize.
    let mut pairs = [[0_i32; 2]; LANES];
    for (block, values) in weights.iter().zip(values) {
        let [a, b, c, d] = values.map(i32::from);
        let (outputs, _) = block.as_chunks::<4>();
        for ([even, odd], weights) in pairs.iter_mut().zip(outputs) {
            let [w, x, y, z] = weights.map(i32::from);
            // |sums| stay below MAX_WIDTH · 127², inside i32: wrapping never happens.
            *even = even.wrapping_add(w.wrapping_mul(a).wrapping_add(x.wrapping_mul(b)));
            *odd = odd.wrapping_add(y.wrapping_mul(c).wrapping_add(z.wrapping_mul(d)));
        }
    }
    pairs.map(|[even, odd]| even.wrapping_add(odd))
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec;
    use std::vec::Vec;

    /// 21 outputs over 10 inputs, in the layout of the image.
    struct Example {
        weights: Vec<Block>,
        scale: Vec<f32>,
        sum: Vec<f32>,
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
            let (mut scale, mut sum) = (vec![0.0; 32], vec![0.0; 32]);
            for o in 0..Self::OUT {
                scale[o] = 0.01 + o as f32 * 1e-3;
                for k in 0..Self::WIDTH {
                    weights[o / 16 * 3 + k / 4][o % 16 * 4 + k % 4] = Self::weight(o, k) as i8;
                }
                sum[o] = (0..Self::WIDTH).map(|k| Self::weight(o, k)).sum::<i32>() as f32 * scale[o];
            }
            Self { weights, scale, sum, bias: (0..64_u8).map(|i| f32::from(i) * 0.25).collect() }
        }

        fn run(&self, source: &[f32], target: &mut [f32], add: bool, fine: bool) {
            let Self { weights, scale, sum, bias } = self;
            let (mut values, mut tokens) = (vec![[9; 4]; 18], vec![[0.0; 2]; 3]);
            let quantized = Quantized { values: &mut values, tokens: &mut tokens };
            let layer = LinearI8 { weights, scale, sum, bias, add, fine };
            layer.run(source, Self::WIDTH, target, Self::OUT, quantized).unwrap();
        }
    }

    #[test]
    fn matches_f64_on_what_quantization_kept() {
        let example = Example::new();
        let source: Vec<f32> = (0..30_i16).map(|i| (f32::from(i) * 1.3).cos() * 4.0 + 1.0).collect();
        let mut target = vec![100.0; 3 * Example::OUT];
        example.run(&source, &mut target, true, false);
        for (t, row) in source.chunks_exact(Example::WIDTH).enumerate() {
            let mut q = [0; Example::WIDTH];
            let token = quantize(row, &mut q);
            let read = |q: i8| f64::from(token.middle) + f64::from(token.scale) * f64::from(q);
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
