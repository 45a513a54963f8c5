//! Multi-head self-attention among the tokens of each sequence.

use super::reduce::{LANES, columns, reduce};
use super::size;
use super::softmax::softmax;

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
    /// Queries come already divided by the root of the head's width. Scores and weighted sums are products rounded once and
    /// summed by [`reduce`]; the weights are the softmax of a query's scores. `scores [tokens]` is working memory.
    pub(crate) fn run(self, source: &[f32], target: &mut [f32], scores: &mut [f32]) -> Option<()> {
        let Self { width, heads, tokens } = self;
        let head_width = size(width.checked_div(heads)?);
        let row_width = size(width.checked_mul(3)?);
        let scores = scores.get_mut(..tokens)?;
        let sequences = source.chunks_exact(size(row_width.checked_mul(tokens)?));
        for (source, target) in sequences.zip(target.chunks_exact_mut(size(width.checked_mul(tokens)?))) {
            let rows = || source.chunks_exact(row_width);
            for (query, target) in rows().zip(target.chunks_exact_mut(size(width))) {
                for (head, target) in target.chunks_exact_mut(head_width).enumerate() {
                    let first = head.checked_mul(head_width)?;
                    let key = width.checked_add(first)?;
                    let value = key.checked_add(width)?;
                    let query = query.get(first..)?.get(..head_width)?;
                    for (score, row) in scores.iter_mut().zip(rows()) {
                        *score = reduce(query.iter().zip(row.get(key..)?).map(|(q, k)| q * k));
                    }
                    softmax(scores);
                    for (block, target) in target.chunks_mut(LANES).enumerate() {
                        let start = value.checked_add(block.checked_mul(LANES)?)?;
                        let values = rows().map(|row| columns(row.get(start..).unwrap_or_default()));
                        let sums = reduce(scores.iter().zip(values).map(|(p, values)| values.map(|v| p * v)));
                        for (to, sum) in target.iter_mut().zip(sums) {
                            *to = sum;
                        }
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
            Attention { width, heads, tokens }.run(&source, &mut target, &mut scores).unwrap();
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
