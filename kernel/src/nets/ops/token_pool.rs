//! Many tokens to one: mean or maximum over a sequence.

use super::reduce::{Columns, column_sum};
use crate::rows::{each_row, each_row_mut};
use crate::simd::{LANES, Simd};

/// What is kept of the tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenPool {
    /// Their mean: a sum by [`column_sum`] divided by their number.
    Mean,
    /// Their largest value; NaN if there is one.
    Max,
}

impl TokenPool {
    /// `target [sequences, width]` from `source [sequences, tokens, width]`; `count` is `tokens` as f32.
    #[inline(always)]
    pub(crate) fn run<S: Simd>(
        self,
        simd: S,
        source: &[f32],
        width: usize,
        tokens: usize,
        count: f32,
        target: &mut [f32],
    ) -> Option<()> {
        let sequences = each_row(source, tokens.checked_mul(width)?);
        for (source, target) in sequences.zip(each_row_mut(target, width)) {
            for (at, target) in target.chunks_mut(LANES).enumerate() {
                let columns = Columns::new(source, width, at.checked_mul(LANES)?);
                let pooled = match self {
                    Self::Mean => {
                        let sum = column_sum(simd, tokens, &columns);
                        simd.div(sum, simd.splat(count))
                    }
                    Self::Max => {
                        let mut max = simd.splat(f32::NEG_INFINITY);
                        for token in 0..tokens {
                            let x = columns.row(simd, token);
                            max = simd.select(simd.is_nan(x), x, simd.max(x, max));
                        }
                        max
                    }
                };
                simd.store_part(pooled, target);
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
        let (tokens, width) = (21, 19);
        let source: Vec<f32> = (0..2 * tokens * width).map(|i| (i as f32 * 0.37).sin() * 8.0).collect();
        let (mut mean, mut max) = (vec![0.0; 2 * width], vec![0.0; 2 * width]);
        TokenPool::Mean.run(Scalar, &source, width, tokens, tokens as f32, &mut mean).unwrap();
        TokenPool::Max.run(Scalar, &source, width, tokens, tokens as f32, &mut max).unwrap();
        for at in 0..2 * width {
            let column =
                (0..tokens).map(|t| f64::from(source[(at / width * tokens + t) * width + at % width]));
            let exact = column.clone().sum::<f64>() / tokens as f64;
            assert!((f64::from(mean[at]) - exact).abs() < 1e-6);
            assert_eq!(f64::from(max[at]), column.fold(f64::NEG_INFINITY, f64::max));
        }
    }
}
