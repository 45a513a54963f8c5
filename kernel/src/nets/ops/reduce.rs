//! Sums in the one order every backend keeps.

use crate::simd::{LANES, Simd};

/// The lanes of a row's sum: value i is added to lane i mod 16, which starts at +0. [`Simd::sums`] then adds the lanes
/// pairwise, 8, 4, 2 and 1 apart. The order depends on the number of values alone.
#[inline(always)]
pub(crate) fn row_sum<S: Simd>(simd: S, row: &[f32]) -> S::Terms {
    let mut sum = simd.splat(0.0);
    let (whole, rest) = row.as_chunks();
    for part in whole {
        sum = simd.add(sum, simd.load(part));
    }
    if !rest.is_empty() {
        sum = simd.add(sum, simd.load_tail(rest, 0.0));
    }
    simd.terms(sum)
}

/// What [`column_sum`] adds up. No closure: where one is not inlined, it is compiled without the backend's instructions.
pub(crate) trait Term<S: Simd> {
    /// Term `at` of sixteen columns.
    fn at(&self, simd: S, at: usize) -> S::F;
}

/// The sums of sixteen columns over `count` terms: term i is added to lane i mod 4, which starts at +0; the lanes are then
/// added pairwise, 2 and 1 apart. Fewer lanes than a row has, since each is a register.
#[inline(always)]
pub(crate) fn column_sum<S: Simd>(simd: S, count: usize, term: &impl Term<S>) -> S::F {
    let mut lanes = [simd.splat(0.0); 4];
    let mut at = 0_usize;
    for _ in 0..count / 4 {
        for lane in &mut lanes {
            *lane = simd.add(*lane, term.at(simd, at));
            at = at.wrapping_add(1);
        }
    }
    // Four turns, however many terms are left: lanes whose number is not constant would live in memory.
    for lane in &mut lanes {
        if at < count {
            *lane = simd.add(*lane, term.at(simd, at));
            at = at.wrapping_add(1);
        }
    }
    let [a, b, c, d] = lanes;
    simd.add(simd.add(a, c), simd.add(b, d))
}

/// Sixteen columns of `[rows, width]` values from column `first` on; those beyond the row's end are 0.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Columns<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) width: usize,
    pub(crate) first: usize,
    /// Columns there are, from 1 to 16.
    pub(crate) count: usize,
}

impl<'a> Columns<'a> {
    /// Sixteen columns of rows of `width`, or as many as are left.
    #[inline(always)]
    pub(crate) fn new(values: &'a [f32], width: usize, first: usize) -> Self {
        Self { values, width, first, count: width.saturating_sub(first).min(LANES) }
    }

    /// One row; all 0 beyond the last.
    #[inline(always)]
    pub(crate) fn row<S: Simd>(&self, simd: S, at: usize) -> S::F {
        let first = at.wrapping_mul(self.width).wrapping_add(self.first);
        let rest = self.values.get(first..).unwrap_or_default();
        match rest.get(..self.count) {
            Some(part) => simd.load_part(part, 0.0),
            None => simd.splat(0.0),
        }
    }
}

impl<S: Simd> Term<S> for Columns<'_> {
    #[inline(always)]
    fn at(&self, simd: S, at: usize) -> S::F {
        self.row(simd, at)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::simd::Scalar;
    use crate::under_miri;
    use std::vec::Vec;

    #[test]
    fn lanes_and_trees_are_the_documented_ones() {
        let values: Vec<f32> = (0..53_i16).map(|i| 1.0 / f32::from(3 * i + 1)).collect();
        // Two orders of few terms often agree: of all lengths, many tell them apart.
        for count in (0..=values.len()).step_by(under_miri(13, 1)) {
            let mut lanes = [0.0_f32; 16];
            for (i, value) in values.iter().enumerate().take(count) {
                lanes[i % 16] += value;
            }
            for half in [8, 4, 2, 1] {
                for i in 0..half {
                    lanes[i] += lanes[i + half];
                }
            }
            let [sum, ..] = Scalar.sums([row_sum(Scalar, &values[..count]); 16]);
            assert_eq!(sum.to_bits(), lanes[0].to_bits(), "a row of {count}");

            let mut lanes = [0.0_f32; 4];
            for (i, value) in values.iter().enumerate().take(count) {
                lanes[i % 4] += value;
            }
            let expected = (lanes[0] + lanes[2]) + (lanes[1] + lanes[3]);
            let columns = Columns::new(&values, 1, 0);
            let sums = column_sum(Scalar, count, &columns);
            assert_eq!(sums[0].to_bits(), expected.to_bits(), "columns of {count}");
            assert_eq!(sums[1..], [0.0; 15]);
        }
    }
}
