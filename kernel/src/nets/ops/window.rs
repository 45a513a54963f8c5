//! Scaling of the input window by its own statistics, column by column, and its undoing.

use super::reduce::{LANES, columns, reduce};
use super::size;
use crate::simd::sqrt;

/// Which shift and divisor a column gets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Statistics {
    /// Minimum; maximum − minimum + ε.
    MinMax,
    /// Mean; √(population variance + ε).
    StdUnderRoot,
    /// Mean; the population standard deviation, 1 where it is 0, + ε.
    Std,
    /// 0; the mean of |x|, at least ε.
    MeanAbs,
}

impl Statistics {
    /// `target [2, width]`, shifts then divisors, from `source [rows, width]`; `count` is the number of rows as f32.
    ///
    /// Sums run over the rows by [`reduce`] and are divided by `count`; each operation is rounded once.
    pub(crate) fn run(
        self,
        source: &[f32],
        width: usize,
        epsilon: f32,
        count: f32,
        target: &mut [f32],
    ) -> Option<()> {
        let (shifts, divisors) = target.split_at_mut_checked(width)?;
        for (at, (shifts, divisors)) in shifts.chunks_mut(LANES).zip(divisors.chunks_mut(LANES)).enumerate() {
            let first = at.checked_mul(LANES)?;
            let rows =
                || source.chunks_exact(size(width)).map(|row| columns(row.get(first..).unwrap_or_default()));
            let (shift, divisor) = self.block(rows, epsilon, count);
            for ((to, shift), (divisor_to, divisor)) in
                shifts.iter_mut().zip(shift).zip(divisors.iter_mut().zip(divisor))
            {
                *to = shift;
                *divisor_to = divisor;
            }
        }
        Some(())
    }

    /// Shifts and divisors of sixteen columns.
    fn block<I: Iterator<Item = [f32; LANES]>>(
        self,
        rows: impl Fn() -> I,
        epsilon: f32,
        count: f32,
    ) -> ([f32; LANES], [f32; LANES]) {
        match self {
            Self::MinMax => {
                let min = rows().fold([f32::INFINITY; LANES], |a, b| pick(a, b, |a, b| b < a));
                let max = rows().fold([f32::NEG_INFINITY; LANES], |a, b| pick(a, b, |a, b| b > a));
                (min, both(max, min, |max, min| max - min + epsilon))
            }
            Self::MeanAbs => {
                let mean = reduce(rows().map(|row| row.map(f32::abs))).map(|sum| sum / count);
                ([0.0; LANES], mean.map(|mean| if mean < epsilon { epsilon } else { mean }))
            }
            Self::StdUnderRoot | Self::Std => {
                let mean = reduce(rows()).map(|sum| sum / count);
                let square = |row| both(row, mean, |x: f32, mean: f32| (x - mean) * (x - mean));
                let variance = reduce(rows().map(square)).map(|sum| sum / count);
                let divisor = variance.map(|variance| match self {
                    Self::StdUnderRoot => sqrt(variance + epsilon),
                    _ if variance > 0.0 => sqrt(variance) + epsilon,
                    _ => 1.0 + epsilon,
                });
                (mean, divisor)
            }
        }
    }
}

fn both(a: [f32; LANES], b: [f32; LANES], of: impl Fn(f32, f32) -> f32) -> [f32; LANES] {
    let mut a = a;
    for (a, b) in a.iter_mut().zip(b) {
        *a = of(*a, b);
    }
    a
}

fn pick(a: [f32; LANES], b: [f32; LANES], take: impl Fn(f32, f32) -> bool) -> [f32; LANES] {
    both(a, b, |a, b| if take(a, b) { b } else { a })
}

/// `rows [n, width]` in place: (x − shift) / divisor, with both from `statistics [2, width]`.
pub(crate) fn normalize(rows: &mut [f32], statistics: &[f32], width: usize) -> Option<()> {
    let (shifts, divisors) = statistics.split_at_checked(width)?;
    for row in rows.chunks_exact_mut(size(width)) {
        for ((x, shift), divisor) in row.iter_mut().zip(shifts).zip(divisors) {
            *x = (*x - shift) / divisor;
        }
    }
    Some(())
}

/// `rows [n, width]` in place: x · divisor + shift, with both from `statistics [2, width]`.
pub(crate) fn denormalize(rows: &mut [f32], statistics: &[f32], width: usize) -> Option<()> {
    let (shifts, divisors) = statistics.split_at_checked(width)?;
    for row in rows.chunks_exact_mut(size(width)) {
        for ((x, shift), divisor) in row.iter_mut().zip(shifts).zip(divisors) {
            *x = *x * divisor + shift;
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec;
    use std::vec::Vec;

    #[test]
    fn matches_f64_and_is_undone() {
        let (steps, width) = (33, 18);
        let mut x: Vec<f32> =
            (0..steps * width).map(|i| ((i * 7 % 101) as f32 * 0.3).sin() + i as f32 * 1e-3).collect();
        // A column without any spread.
        x.chunks_mut(width).for_each(|row| row[4] = 2.5);
        for kind in [Statistics::MinMax, Statistics::StdUnderRoot, Statistics::Std, Statistics::MeanAbs] {
            let epsilon = 1e-5;
            let mut statistics = vec![0.0; 2 * width];
            kind.run(&x, width, epsilon, steps as f32, &mut statistics).unwrap();
            let mut y = x.clone();
            normalize(&mut y, &statistics, width).unwrap();
            let epsilon = f64::from(epsilon);
            for c in 0..width {
                let column: Vec<f64> = x.chunks(width).map(|row| f64::from(row[c])).collect();
                let mean = column.iter().sum::<f64>() / steps as f64;
                let variance = column.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / steps as f64;
                let (min, max) = column.iter().fold((f64::MAX, f64::MIN), |(a, b), &x| (a.min(x), b.max(x)));
                let (shift, divisor) = match kind {
                    Statistics::MinMax => (min, max - min + epsilon),
                    Statistics::StdUnderRoot => (mean, (variance + epsilon).sqrt()),
                    Statistics::Std if variance == 0.0 => (mean, 1.0 + epsilon),
                    Statistics::Std => (mean, variance.sqrt() + epsilon),
                    Statistics::MeanAbs => (0.0, column.iter().map(|x| x.abs()).sum::<f64>() / steps as f64),
                };
                for (t, x) in column.iter().enumerate() {
                    let exact = (x - shift) / divisor;
                    assert!((f64::from(y[t * width + c]) - exact).abs() < 5e-6, "{kind:?} {c}");
                }
            }
            denormalize(&mut y, &statistics, width).unwrap();
            assert!(x.iter().zip(&y).all(|(x, y)| (x - y).abs() < 1e-5), "{kind:?}");
        }
    }
}
