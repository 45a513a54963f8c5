//! Multi-head self-attention among the tokens of each sequence.

use super::reduce::{Columns, Term, column_sum};
use super::softmax::{softmax, softmax_of_halves};
use super::{load, size};
use crate::rows::{each_row, each_row_mut};
use crate::simd::{LANES, Simd, Work};

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

/// Queries whose scores are held at once: independent of each other, they hide each other's latency.
const QUERIES: usize = 8;
/// Tokens whose scores fill half a register.
const HALF: usize = LANES / 2;

impl Attention {
    /// Scores held at once, in values.
    pub(crate) fn scores(self) -> Option<usize> {
        self.tokens.checked_mul(QUERIES)
    }

    /// `target [rows, width]` from `source [rows, 3 · width]`: queries, keys and values of each token side by side.
    ///
    /// Queries come already divided by the root of the head's width. Scores are sums of products in the order of
    /// [`row_sum`](super::reduce::row_sum), weighted values in that of [`column_sum`]; the weights are the softmax of a
    /// query's scores. `scores` is working memory, of [`Attention::scores`] values.
    #[inline(always)]
    pub(crate) fn run<S: Simd>(
        self,
        simd: S,
        source: &[f32],
        target: &mut [f32],
        scores: &mut [f32],
    ) -> Option<()> {
        simd.apart(Sequences { attention: self, source, target, scores })
    }
}

/// Attention over all its rows.
struct Sequences<'a> {
    attention: Attention,
    source: &'a [f32],
    target: &'a mut [f32],
    scores: &'a mut [f32],
}

impl Work for Sequences<'_> {
    type Output = Option<()>;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Option<()> {
        let Self { attention: Attention { width, heads, tokens }, source, target, scores } = self;
        let head_width = size(width.checked_div(heads)?);
        let row_width = size(width.checked_mul(3)?);
        let sequences = each_row(source, row_width.checked_mul(tokens)?);
        for (source, target) in sequences.zip(each_row_mut(target, width.checked_mul(tokens)?)) {
            for first in (0..width).step_by(head_width) {
                let head = Head { source, row_width, tokens, first, head_width };
                // The widths heads mostly have are constants.
                match (tokens, head_width) {
                    (HALF, 16) => head.run_half::<S, 1>(simd, target, width)?,
                    (HALF, 32) => head.run_half::<S, 2>(simd, target, width)?,
                    (HALF, 64) => head.run_half::<S, 4>(simd, target, width)?,
                    _ => head.run(simd, target, width, scores)?,
                }
            }
        }
        Some(())
    }
}

/// One head of one sequence.
#[derive(Clone, Copy)]
struct Head<'a> {
    /// Queries, keys and values, `[tokens, row_width]`.
    source: &'a [f32],
    row_width: usize,
    tokens: usize,
    /// The head's first column among queries.
    first: usize,
    head_width: usize,
}

impl Head<'_> {
    /// All of a head, a few queries at a time.
    #[inline(always)]
    fn run<S: Simd>(self, simd: S, target: &mut [f32], width: usize, scores: &mut [f32]) -> Option<()> {
        let Self { row_width, tokens, first, head_width, .. } = self;
        for (at, target) in target.chunks_mut(size(QUERIES.checked_mul(width)?)).enumerate() {
            let rows = target.chunks_exact_mut(size(width));
            let scores = scores.get_mut(..rows.len().checked_mul(tokens)?)?;
            self.scores(simd, at.checked_mul(QUERIES)?, scores)?;
            for scores in scores.chunks_exact_mut(size(tokens)) {
                softmax(simd, scores);
            }
            let value = (row_width / 3).checked_mul(2)?.checked_add(first)?;
            for (weights, row) in each_row(scores, tokens).zip(rows) {
                self.weigh(simd, weights, value, row.get_mut(first..)?.get_mut(..head_width)?);
            }
        }
        Some(())
    }

    /// All of a head of eight tokens and `N` registers of columns, as [`run`](Self::run) does it: two queries a register, and no
    /// memory in between that is narrower than one.
    #[inline(always)]
    fn run_half<S: Simd, const N: usize>(self, simd: S, target: &mut [f32], width: usize) -> Option<()> {
        let part = self.row_width / 3;
        let mut keys = [self.columns::<N>(0, part)?; HALF];
        for (token, key) in keys.iter_mut().enumerate() {
            *key = self.columns(token, part)?;
        }
        let (mut scores, mut query) = ([simd.splat(0.0); HALF / 2], 0_usize);
        for scores in &mut scores {
            let mut products = [simd.terms(simd.splat(0.0)); LANES];
            for products in products.as_chunks_mut::<HALF>().0 {
                let query_columns = self.columns::<N>(query, 0)?;
                let query_columns = load(simd, query_columns);
                for (product, key) in products.iter_mut().zip(&keys) {
                    let mut sum = simd.splat(0.0);
                    for (query, key) in query_columns.iter().zip(*key) {
                        sum = simd.add(sum, simd.mul(*query, simd.load(key)));
                    }
                    *product = simd.terms(sum);
                }
                query = query.wrapping_add(1);
            }
            *scores = simd.sums(products);
        }
        softmax_of_halves(simd, &mut scores);
        let mut weights = [[0.0; LANES]; HALF / 2];
        for (weights, scores) in weights.iter_mut().zip(scores) {
            simd.store(scores, weights);
        }
        let weights: &[[f32; HALF]] = weights.as_flattened().as_chunks().0;
        for block in 0..N {
            let mut columns = [simd.splat(0.0); HALF];
            for (token, column) in columns.iter_mut().enumerate() {
                *column = simd.load(self.columns::<N>(token, part.wrapping_mul(2))?.get(block)?);
            }
            let first = self.first.wrapping_add(block.wrapping_mul(LANES));
            for (weights, row) in weights.iter().zip(each_row_mut(target, width)) {
                let sums = column_sum(simd, HALF, &WeightedColumns::<S> { weights, columns: &columns });
                simd.store(sums, row.get_mut(first..)?.first_chunk_mut()?);
            }
        }
        Some(())
    }

    /// The head's columns of a token's queries, keys or values, which start at column `part`.
    #[inline(always)]
    fn columns<const N: usize>(&self, token: usize, part: usize) -> Option<&[[f32; LANES]; N]> {
        let first = token.wrapping_mul(self.row_width).wrapping_add(part).wrapping_add(self.first);
        self.source.get(first..)?.as_chunks().0.first_chunk()
    }

    /// `scores [queries, tokens]` from query `query` on.
    #[inline(always)]
    fn scores<S: Simd>(self, simd: S, query: usize, scores: &mut [f32]) -> Option<()> {
        let row = |token: usize, first: usize| {
            let start = token.wrapping_mul(self.row_width).wrapping_add(first);
            self.source.get(start..)?.get(..self.head_width)
        };
        let keys = (self.row_width / 3).wrapping_add(self.first);
        let (mut query, mut key) = (query, 0_usize);
        for part in scores.chunks_mut(LANES) {
            let mut products = [simd.terms(simd.splat(0.0)); LANES];
            for product in products.iter_mut().take(part.len()) {
                *product = simd.terms(products_of(simd, row(query, self.first)?, row(key, keys)?));
                key = key.wrapping_add(1);
                if key == self.tokens {
                    (query, key) = (query.wrapping_add(1), 0);
                }
            }
            simd.store_part(simd.sums(products), part);
        }
        Some(())
    }

    /// `target [head_width]`: the values from column `first` on, weighted.
    #[inline(always)]
    fn weigh<S: Simd>(self, simd: S, weights: &[f32], first: usize, target: &mut [f32]) {
        for (block, target) in target.chunks_mut(LANES).enumerate() {
            let first = first.wrapping_add(block.wrapping_mul(LANES));
            let values = Columns { values: self.source, width: self.row_width, first, count: target.len() };
            let sums = column_sum(simd, weights.len(), &WeightedRows { weights, values });
            simd.store_part(sums, target);
        }
    }
}

/// The values of a few tokens, each by its weight.
struct WeightedRows<'a> {
    weights: &'a [f32],
    values: Columns<'a>,
}

impl<S: Simd> Term<S> for WeightedRows<'_> {
    #[inline(always)]
    fn at(&self, simd: S, at: usize) -> S::F {
        let weight = self.weights.get(at).copied().unwrap_or_default();
        simd.mul(simd.splat(weight), self.values.row(simd, at))
    }
}

/// The same of eight tokens whose values are loaded.
struct WeightedColumns<'a, S: Simd> {
    weights: &'a [f32; HALF],
    columns: &'a [S::F; HALF],
}

impl<S: Simd> Term<S> for WeightedColumns<'_, S> {
    #[inline(always)]
    fn at(&self, simd: S, at: usize) -> S::F {
        let weight = self.weights.get(at).copied().unwrap_or_default();
        simd.mul(simd.splat(weight), self.columns.get(at).copied().unwrap_or(simd.splat(0.0)))
    }
}

/// Products of two rows, added up to sixteen sums.
#[inline(always)]
fn products_of<S: Simd>(simd: S, a: &[f32], b: &[f32]) -> S::F {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks(), b.as_chunks());
    let mut sum = simd.splat(0.0);
    for (a, b) in a.iter().zip(b) {
        sum = simd.add(sum, simd.mul(simd.load(a), simd.load(b)));
    }
    if a_rest.is_empty() {
        return sum;
    }
    simd.add(sum, simd.mul(simd.load_part(a_rest, 0.0), simd.load_part(b_rest, 0.0)))
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::simd::Scalar;
    use crate::under_miri;
    use std::vec;
    use std::vec::Vec;

    #[test]
    fn matches_f64() {
        for &(width, heads, tokens, sequences) in
            under_miri(&[(4, 2, 3, 1)][..], &[(12, 3, 5, 2), (40, 2, 18, 1), (64, 4, 8, 3)])
        {
            let source: Vec<f32> = (0..sequences * tokens * 3 * width)
                .map(|i| ((i * i % 97) as f32 * 0.41).sin() * 1.5)
                .collect();
            let mut target = vec![9.0; sequences * tokens * width];
            let attention = Attention { width, heads, tokens };
            let mut scores = vec![0.0; attention.scores().unwrap()];
            attention.run(Scalar, &source, &mut target, &mut scores).unwrap();
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
