//! Sums in the one order every backend keeps.

/// Width of the virtual register every sum runs in.
pub(crate) const LANES: usize = 16;

/// What can be summed: one value, or sixteen columns side by side.
pub(crate) trait Term: Copy {
    /// Where every lane starts.
    const ZERO: Self;
    /// Element-wise sum, each rounded once.
    fn plus(self, other: Self) -> Self;
}

impl Term for f32 {
    const ZERO: Self = 0.0;
    fn plus(self, other: Self) -> Self {
        self + other
    }
}

impl Term for [f32; LANES] {
    const ZERO: Self = [0.0; LANES];
    fn plus(mut self, other: Self) -> Self {
        for (sum, value) in self.iter_mut().zip(other) {
            *sum += value;
        }
        self
    }
}

/// The sum of `terms`: term i is added to lane i mod 16, which starts at +0; the lanes are then added pairwise,
/// 8, 4, 2 and 1 apart. The order depends on the number of terms alone.
#[inline]
pub(crate) fn reduce<T: Term>(mut terms: impl Iterator<Item = T>) -> T {
    let mut lanes = [T::ZERO; LANES];
    'terms: loop {
        for lane in &mut lanes {
            let Some(term) = terms.next() else { break 'terms };
            *lane = lane.plus(term);
        }
    }
    for half in [8, 4, 2, 1] {
        let before = lanes;
        for (low, high) in lanes.iter_mut().zip(before.iter().skip(half)).take(half) {
            *low = low.plus(*high);
        }
    }
    let [total, ..] = lanes;
    total
}

/// Up to sixteen columns of a row; those beyond its end are 0.
#[inline]
pub(crate) fn columns(row: &[f32]) -> [f32; LANES] {
    if let Some(full) = row.first_chunk() {
        return *full;
    }
    let mut padded = [0.0; LANES];
    for (to, from) in padded.iter_mut().zip(row) {
        *to = *from;
    }
    padded
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    #[test]
    fn lanes_and_tree_are_the_documented_ones() {
        let values: Vec<f32> = (0..53_i16).map(|i| 1.0 / f32::from(3 * i + 1)).collect();
        let mut lanes = [0.0_f32; 16];
        for (i, value) in values.iter().enumerate() {
            lanes[i % 16] += value;
        }
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                lanes[i] += lanes[i + half];
            }
        }
        assert_eq!(reduce(values.iter().copied()).to_bits(), lanes[0].to_bits());
    }

    #[test]
    fn columns_sum_as_single_values_do() {
        for n in [0, 1, 8, 16, 17, 40_u8] {
            let value = |row: u8, column: usize| f32::from(row) * 0.37 - column as f32 / 7.0;
            let rows = (0..n).map(|row| core::array::from_fn::<f32, 16, _>(|column| value(row, column)));
            let together = reduce(rows);
            for (column, sum) in together.iter().enumerate() {
                assert_eq!(sum.to_bits(), reduce((0..n).map(|row| value(row, column))).to_bits());
            }
        }
    }
}
