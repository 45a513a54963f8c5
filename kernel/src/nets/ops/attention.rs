//! Multi-head self-attention among the tokens of each sequence.

use super::reduce::{Columns, column_sum};
use super::size;
use super::softmax::softmax;
use crate::simd::{LANES, Simd};

/// The shape of an attention step: heads divide the width, sequences divide the rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attention {
    /// Columns of the target.
    pub(crate) width: usize,
    /// Heads; head h owns columns h · width/heads … of queries, keys and values.
    pub(crate) heads: usize,
    /// Rows of one sequence.
    pub(crate) tokens: usize,
}

impl Attention {
    /// `target [rows, width]` from `source [rows, 3 · width]`: queries, keys and values of each token side by side.
    ///
    /// Queries come already divided by the root of the head's width. Scores are sums of products in the order of
    /// [`row_sum`](super::reduce::row_sum), weighted values in that of [`column_sum`]; the weights are the softmax of a
    /// query's scores. `scores [tokens]` is working memory.
    #[inline(always)]
    pub(crate) fn run<S: Simd>(
        self,
        simd: S,
        source: &[f32],
        target: &mut [f32],
        scores: &mut [f32],
    ) -> Option<()> {
        let Self { width, heads, tokens } = self;
        let head_width = size(width.checked_div(heads)?);
        let row_width = size(width.checked_mul(3)?);
        let scores = scores.get_mut(..tokens)?;
        let sequences = source.chunks_exact(size(row_width.checked_mul(tokens)?));
        for (source, target) in sequences.zip(target.chunks_exact_mut(size(width.checked_mul(tokens)?))) {
            for (query, target) in source.chunks_exact(row_width).zip(target.chunks_exact_mut(size(width))) {
                for (head, target) in target.chunks_exact_mut(head_width).enumerate() {
                    let first = head.checked_mul(head_width)?;
                    let key = width.checked_add(first)?;
                    let value = key.checked_add(width)?;
                    let query = query.get(first..)?.get(..head_width)?;
                    for (score, row) in scores.iter_mut().zip(source.chunks_exact(row_width)) {
                        let key = row.get(key..)?.get(..head_width)?;
                        let mut sum = simd.splat(0.0);
                        for (q, k) in query.chunks(LANES).zip(key.chunks(LANES)) {
                            let product = simd.mul(simd.load_part(q, 0.0), simd.load_part(k, 0.0));
                            sum = simd.add(sum, product);
                        }
                        *score = simd.sum(sum);
                    }
                    softmax(simd, scores);
                    for (block, target) in target.chunks_mut(LANES).enumerate() {
                        let first = value.checked_add(block.checked_mul(LANES)?)?;
                        let values = Columns { values: source, width: row_width, first, count: target.len() };
                        let sums = column_sum(simd, tokens, |token| {
                            let weight = scores.get(token).copied().unwrap_or_default();
                            simd.mul(simd.splat(weight), values.row(simd, token))
                        });
                        simd.store_part(sums, target);
                    }
                }
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
    fn matches_f64() {
        for (width, heads, tokens, sequences) in [(12, 3, 5, 2), (40, 2, 18, 1), (64, 4, 8, 3)] {
            let source: Vec<f32> = (0..sequences * tokens * 3 * width)
                .map(|i| ((i * i % 97) as f32 * 0.41).sin() * 1.5)
                .collect();
            let mut target = vec![9.0; sequences * tokens * width];
            let mut scores = vec![0.0; tokens];
            Attention { width, heads, tokens }.run(Scalar, &source, &mut target, &mut scores).unwrap();
            let at = |token: usize, part: usize, column: usize| {
                f64::from(source[token * 3 * width + part * width + column])
            };
            let head_width = width / heads;
            for row in 0..sequences * tokens {
                let first = row / tokens * tokens;
                for column in 0..width {
                    let head = column / head_width * head_width;
                    let weight = |token: usize| {
                        (0..head_width)
                            .map(|i| at(row, 0, head + i) * at(token, 1, head + i))
                            .sum::<f64>()
                            .exp()
                    };
                    let total: f64 = (first..first + tokens).map(weight).sum();
                    let exact: f64 =
                        (first..first + tokens).map(|t| weight(t) / total * at(t, 2, column)).sum();
                    let got = f64::from(target[row * width + column]);
                    assert!((got - exact).abs() < 4e-6, "{row} {column}: {got} {exact}");
                }
            }
        }
    }
}
