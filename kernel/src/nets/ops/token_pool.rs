//! Many tokens to one: mean or maximum over a sequence.

use super::max_pool::maximum;
use super::reduce::{LANES, columns, reduce};
use super::size;

/// What is kept of the tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenPool {
    /// Their mean: a sum by [`reduce`] divided by their number.
    Mean,
    /// Their largest value; NaN if there is one.
    Max,
}

impl TokenPool {
    /// `target [sequences, width]` from `source [sequences, tokens, width]`; `count` is `tokens` as f32.
    pub(crate) fn run(
        self,
        source: &[f32],
        width: usize,
        tokens: usize,
        count: f32,
        target: &mut [f32],
    ) -> Option<()> {
        let sequences = source.chunks_exact(size(tokens.checked_mul(width)?));
        for (source, target) in sequences.zip(target.chunks_exact_mut(size(width))) {
            for (at, target) in target.chunks_mut(LANES).enumerate() {
                let first = at.checked_mul(LANES)?;
                let rows = || {
                    source.chunks_exact(size(width)).map(|row| columns(row.get(first..).unwrap_or_default()))
                };
                let pooled = match self {
                    Self::Mean => reduce(rows()).map(|sum| sum / count),
                    Self::Max => rows().fold([f32::NEG_INFINITY; LANES], |mut max, row| {
                        for (max, x) in max.iter_mut().zip(row) {
                            *max = maximum([*max, x].into_iter());
                        }
                        max
                    }),
                };
                for (to, value) in target.iter_mut().zip(pooled) {
                    *to = value;
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
        let (tokens, width) = (21, 19);
        let source: Vec<f32> = (0..2 * tokens * width).map(|i| (i as f32 * 0.37).sin() * 8.0).collect();
        let (mut mean, mut max) = (vec![0.0; 2 * width], vec![0.0; 2 * width]);
        TokenPool::Mean.run(&source, width, tokens, tokens as f32, &mut mean).unwrap();
        TokenPool::Max.run(&source, width, tokens, tokens as f32, &mut max).unwrap();
        for at in 0..2 * width {
            let column =
                (0..tokens).map(|t| f64::from(source[(at / width * tokens + t) * width + at % width]));
            let exact = column.clone().sum::<f64>() / tokens as f64;
            assert!((f64::from(mean[at]) - exact).abs() < 1e-6);
            assert_eq!(f64::from(max[at]), column.fold(f64::NEG_INFINITY, f64::max));
        }
    }
}
