//! Scaling of the input window by its own statistics, column by column, and its undoing.

use super::reduce::{Columns, Term, column_sum};
use super::size;
use crate::rows::each_part_mut;
use crate::simd::{LANES, Simd};

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
    /// Sums run over the rows by [`column_sum`] and are divided by `count`; each operation is rounded once.
    #[inline(always)]
    pub(crate) fn run<S: Simd>(
        self,
        simd: S,
        source: &[f32],
        (rows, width): (usize, usize),
        epsilon: f32,
        count: f32,
        target: &mut [f32],
    ) -> Option<()> {
        let (shifts, divisors) = target.split_at_mut_checked(width)?;
        for (at, (shifts, divisors)) in
            each_part_mut(shifts, LANES).zip(each_part_mut(divisors, LANES)).enumerate()
        {
            let columns = Columns::new(source, width, at.checked_mul(LANES)?);
            let (shift, divisor) = self.block(simd, columns, rows, epsilon, count);
            simd.store_part(shift, shifts);
            simd.store_part(divisor, divisors);
        }
        Some(())
    }

    /// Shifts and divisors of sixteen columns.
    #[inline(always)]
    fn block<S: Simd>(
        self,
        simd: S,
        columns: Columns<'_>,
        rows: usize,
        epsilon: f32,
        count: f32,
    ) -> (S::F, S::F) {
        let (epsilon, count, zero) = (simd.splat(epsilon), simd.splat(count), simd.splat(0.0));
        match self {
            Self::MinMax => {
                let (mut min, mut max) = (simd.splat(f32::INFINITY), simd.splat(f32::NEG_INFINITY));
                for at in 0..rows {
                    let x = columns.row(simd, at);
                    (min, max) = (simd.min(x, min), simd.max(x, max));
                }
                (min, simd.add(simd.sub(max, min), epsilon))
            }
            Self::MeanAbs => {
                let sum = column_sum(simd, rows, &Magnitudes(columns));
                (zero, simd.max(epsilon, simd.div(sum, count)))
            }
            Self::StdUnderRoot | Self::Std => {
                let mean = simd.div(column_sum(simd, rows, &columns), count);
                let squares = column_sum(simd, rows, &Squares::<S> { columns, mean });
                let variance = simd.div(squares, count);
                if self == Self::StdUnderRoot {
                    return (mean, simd.sqrt(simd.add(variance, epsilon)));
                }
                let spread = simd.less(zero, variance);
                let std = simd.select(spread, simd.sqrt(variance), simd.splat(1.0));
                (mean, simd.add(std, epsilon))
            }
        }
    }
}

/// |x|.
struct Magnitudes<'a>(Columns<'a>);

impl<S: Simd> Term<S> for Magnitudes<'_> {
    #[inline(always)]
    fn at(&self, simd: S, at: usize) -> S::F {
        simd.abs(self.0.row(simd, at))
    }
}

/// (x − mean)².
struct Squares<'a, S: Simd> {
    columns: Columns<'a>,
    mean: S::F,
}

impl<S: Simd> Term<S> for Squares<'_, S> {
    #[inline(always)]
    fn at(&self, simd: S, at: usize) -> S::F {
        let centred = simd.sub(self.columns.row(simd, at), self.mean);
        simd.mul(centred, centred)
    }
}

/// `rows [n, width]` in place: (x − shift) / divisor, with both from `statistics [2, width]`.
#[inline(always)]
pub(crate) fn normalize<S: Simd>(simd: S, rows: &mut [f32], statistics: &[f32], width: usize) -> Option<()> {
    apply(simd, rows, statistics, width, |x, shift, divisor| simd.div(simd.sub(x, shift), divisor))
}

/// `rows [n, width]` in place: x · divisor + shift, with both from `statistics [2, width]`.
#[inline(always)]
pub(crate) fn denormalize<S: Simd>(
    simd: S,
    rows: &mut [f32],
    statistics: &[f32],
    width: usize,
) -> Option<()> {
    apply(simd, rows, statistics, width, |x, shift, divisor| simd.add(simd.mul(x, divisor), shift))
}

/// `rows [n, width]` in place by a function of value, shift and divisor.
#[inline(always)]
fn apply<S: Simd>(
    simd: S,
    rows: &mut [f32],
    statistics: &[f32],
    width: usize,
    of: impl Fn(S::F, S::F, S::F) -> S::F,
) -> Option<()> {
    let (shifts, divisors) = statistics.split_at_checked(width)?;
    if width >= LANES {
        for row in rows.chunks_exact_mut(size(width)) {
            let statistics = shifts.chunks(LANES).zip(divisors.chunks(LANES));
            for (part, (shift, divisor)) in row.chunks_mut(LANES).zip(statistics) {
                let (shift, divisor) = (simd.load_part(shift, 0.0), simd.load_part(divisor, 1.0));
                simd.store_part(of(simd.load_part(part, 0.0), shift, divisor), part);
            }
        }
        return Some(());
    }
    // Narrow rows are taken sixteen values at a time, from any column on: the statistics repeat.
    let (mut shift_ring, mut divisor_ring) = ([0.0; 2 * LANES], [1.0; 2 * LANES]);
    for (ring, values) in [(&mut shift_ring, shifts), (&mut divisor_ring, divisors)] {
        for (to, value) in ring.iter_mut().zip(values.iter().cycle()) {
            *to = *value;
        }
    }
    let mut column = 0_usize;
    for part in rows.chunks_mut(LANES) {
        let shift = simd.load(shift_ring.get(column..)?.first_chunk()?);
        let divisor = simd.load(divisor_ring.get(column..)?.first_chunk()?);
        simd.store_part(of(simd.load_part(part, 0.0), shift, divisor), part);
        column = column.wrapping_add(LANES).checked_rem(width)?;
    }
    Some(())
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
    fn matches_f64_and_is_undone() {
        let (steps, width) = (under_miri(7, 33), 18);
        let mut x: Vec<f32> =
            (0..steps * width).map(|i| ((i * 7 % 101) as f32 * 0.3).sin() + i as f32 * 1e-3).collect();
        // A column without any spread.
        x.chunks_mut(width).for_each(|row| row[4] = 2.5);
        for kind in [Statistics::MinMax, Statistics::StdUnderRoot, Statistics::Std, Statistics::MeanAbs] {
            let epsilon = 1e-5;
            let mut statistics = vec![0.0; 2 * width];
            kind.run(Scalar, &x, (steps, width), epsilon, steps as f32, &mut statistics).unwrap();
            let mut y = x.clone();
            normalize(Scalar, &mut y, &statistics, width).unwrap();
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
            denormalize(Scalar, &mut y, &statistics, width).unwrap();
            assert!(x.iter().zip(&y).all(|(x, y)| (x - y).abs() < 1e-5), "{kind:?}");
        }
    }
}
