//! Row to ranks. Backends differ in how they compare one value with a block of 16 thresholds; everything else stands
//! here once. The scalar backend is the specification.

use core::ops::{BitAnd, BitOr};

use bytemuck::{AnyBitPattern, NoUninit};

use super::blocks::Row;
use super::{Compare, Trees};
use crate::error::PredictError;
use crate::image::records::{FeatureRecord, SlotRecord, THRESHOLD_BLOCK, ThresholdBlock, slot};
use crate::num::{index, truncate};
use crate::simd::{self, Backend, Tier};

/// LightGBM's `kZeroThreshold`: magnitudes up to this are zero.
const ZERO: f32 = 1e-35;

/// The integer type of a quantized row.
pub(crate) trait Rank:
    Copy + AnyBitPattern + NoUninit + Into<u16> + From<bool> + BitAnd<Output = Self> + BitOr<Output = Self>
{
    /// Larger than any node's rank: always right. All bits are set.
    const MAX: Self;
    /// A count of thresholds, at most `MAX` by the image's check.
    fn from_count(count: usize) -> Self;
    /// `MAX` for true, 0 for false, without a branch.
    fn all(bits: bool) -> Self;
    /// The ranks as walks of bytes read them; `None` for other ranks.
    fn row(ranks: &[Self]) -> Option<&Row>;
}

impl Rank for u8 {
    const MAX: Self = Self::MAX;
    #[inline]
    fn from_count(count: usize) -> Self {
        let [low, ..] = count.to_le_bytes();
        low
    }
    #[inline]
    fn all(bits: bool) -> Self {
        Self::from(bits).wrapping_neg()
    }
    #[inline]
    fn row(ranks: &[Self]) -> Option<&Row> {
        ranks.first_chunk()
    }
}

impl Rank for u16 {
    const MAX: Self = Self::MAX;
    #[inline]
    fn from_count(count: usize) -> Self {
        let [low, high, ..] = count.to_le_bytes();
        Self::from_le_bytes([low, high])
    }
    #[inline]
    fn all(bits: bool) -> Self {
        Self::from(bits).wrapping_neg()
    }
    #[inline]
    fn row(_: &[Self]) -> Option<&Row> {
        None
    }
}

impl Trees<'_> {
    /// Fills `ranks`, `[n_slots]`, from `row`, `[n_features]`.
    pub(super) fn quantize<R: Rank>(
        &self,
        row: &[f32],
        ranks: &mut [R],
        backend: Backend,
    ) -> Result<(), PredictError> {
        match backend.tier() {
            #[cfg(any(target_feature = "sse2", target_feature = "neon", target_feature = "simd128"))]
            Tier::Wide => simd::wide::quantize(self, row, ranks),
            #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
            Tier::Avx2(token) => simd::avx2::quantize(token, self, row, ranks),
            #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
            Tier::Avx512(token) => simd::avx512::quantize(token, self, row, ranks),
            #[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
            Tier::Neon(token) => simd::neon::quantize(token, self, row, ranks),
            // Also where there are no vector registers to be portable over.
            _ => self.quantize_scalar(row, ranks),
        }
        .ok_or(PredictError::Corrupt)
    }

    fn quantize_scalar<R: Rank>(&self, row: &[f32], ranks: &mut [R]) -> Option<()> {
        self.quantize_with(row, ranks, at_most, below)
    }

    /// [`Self::quantize`] with a backend's way to count the thresholds of a block that are at most, or below, a value; `None`
    /// only if the image changed after its check.
    #[inline(always)]
    pub(crate) fn quantize_with<R: Rank>(
        &self,
        row: &[f32],
        ranks: &mut [R],
        at_most: impl Fn(&ThresholdBlock, f32) -> usize,
        below: impl Fn(&ThresholdBlock, f32) -> usize,
    ) -> Option<()> {
        match self.compare {
            Compare::Less => self.count(row, ranks, at_most)?,
            Compare::LessEqual => self.count(row, ranks, below)?,
        }
        if self.needs_rules(row) { self.apply_rules(row, ranks.iter_mut()) } else { Some(()) }
    }

    /// As [`Self::quantize_with`], of up to `ROWS` rows, `[n, n_features]`, into ranks of 8 bits slot by slot.
    #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
    #[inline(always)]
    pub(crate) fn quantize_columns_with<const ROWS: usize>(
        &self,
        rows: &[f32],
        columns: &mut [[u8; ROWS]],
        at_most: impl Fn(&ThresholdBlock, f32) -> usize,
        below: impl Fn(&ThresholdBlock, f32) -> usize,
    ) -> Option<()> {
        match self.compare {
            Compare::Less => self.count_columns(rows, columns, at_most)?,
            Compare::LessEqual => self.count_columns(rows, columns, below)?,
        }
        for (at, row) in rows.chunks_exact(self.features.len().max(1)).enumerate() {
            if self.needs_rules(row) {
                self.apply_rules(row, columns.iter_mut().filter_map(|column| column.get_mut(at)))?;
            }
        }
        Some(())
    }

    /// Whether some rank may be other than its count of thresholds.
    #[inline(always)]
    fn needs_rules(&self, row: &[f32]) -> bool {
        // Without a branch on each value, so that it becomes a few vector instructions.
        row.iter().fold(self.special_slots, |missing, value| missing | value.is_nan())
    }

    /// Every slot's count of thresholds that send its value right, given how many of a block do; 0 for NaN.
    #[inline(always)]
    fn count<R: Rank>(
        &self,
        row: &[f32],
        ranks: &mut [R],
        right: impl Fn(&ThresholdBlock, f32) -> usize,
    ) -> Option<()> {
        // As many as features, so that one comparison bounds both.
        let row = row.get(..self.features.len())?;
        // Slots of a feature lie side by side and share one search. No feature has this number.
        let (mut feature, mut count) = (u32::MAX, 0);
        for (slot, rank) in self.slots.iter().zip(ranks) {
            if slot.feature != feature {
                feature = slot.feature;
                let record = self.features.get(index(feature))?;
                let value = *row.get(index(feature))?;
                count = self.search::<R>(record, |block| right(block, value))?;
            }
            *rank = R::from_count(count);
        }
        Some(())
    }

    /// As [`Self::count`], feature by feature for all rows: what is known of a feature is looked up once.
    #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
    #[inline(always)]
    fn count_columns<const ROWS: usize>(
        &self,
        rows: &[f32],
        columns: &mut [[u8; ROWS]],
        right: impl Fn(&ThresholdBlock, f32) -> usize,
    ) -> Option<()> {
        let mut columns = columns.iter_mut();
        let mut previous: Option<(u32, &[u8; ROWS])> = None;
        for slot in self.slots {
            let column = columns.next()?;
            if let Some((feature, counts)) = previous
                && feature == slot.feature
            {
                *column = *counts;
                continue;
            }
            let record = self.features.get(index(slot.feature))?;
            let values = rows.iter().skip(index(slot.feature)).step_by(self.features.len().max(1));
            let ranks = values.zip(column.iter_mut());
            if let TWO_LEVELS..DEEPER = index(record.count) {
                let (top, blocks) = self.thresholds.get(index(record.first)..)?.split_first()?;
                for (&value, rank) in ranks {
                    let at = right(top, value);
                    let within = right(blocks.get(at)?, value);
                    *rank = u8::from_count(at.wrapping_mul(THRESHOLD_BLOCK).wrapping_add(within));
                }
            } else {
                for (&value, rank) in ranks {
                    *rank = u8::from_count(self.search::<u8>(record, |block| right(block, value))?);
                }
            }
            previous = Some((slot.feature, column));
        }
        Some(())
    }

    /// From counts to ranks: missing values, zeros and categories.
    #[inline(never)]
    fn apply_rules<'r, R: Rank + 'r>(
        &self,
        row: &[f32],
        ranks: impl Iterator<Item = &'r mut R>,
    ) -> Option<()> {
        for (slot, rank) in self.slots.iter().zip(ranks) {
            let value = *row.get(index(slot.feature))?;
            // Without special slots rules are for NaN only.
            if !self.special_slots && !value.is_nan() {
                continue;
            }
            *rank = match slot.rule {
                slot::NAN_LEFT => *rank,
                slot::NAN_RIGHT => *rank | R::all(value.is_nan()),
                slot::NAN_IS_ZERO if !value.is_nan() => *rank,
                slot::NAN_IS_ZERO => self.rank_of_zero(slot)?,
                slot::ZERO_LEFT => *rank & R::all(value.abs() > ZERO),
                slot::ZERO_RIGHT => *rank | R::all(value.is_nan() | (value.abs() <= ZERO)),
                slot::IS_NUMBER => R::from(!value.is_nan()),
                slot::IN_SET_NAN_0 => R::from(!value.is_nan() && self.in_set(slot, value)?),
                slot::IN_SET_NAN_1 => R::from(value.is_nan() || self.in_set(slot, value)?),
                slot::NOT_IN_SET => R::from(value.is_nan() || !self.in_set_truncated(slot, value)?),
                _ => return None,
            };
        }
        Some(())
    }

    fn rank_of_zero<R: Rank>(&self, slot: &SlotRecord) -> Option<R> {
        let feature = self.features.get(index(slot.feature))?;
        let count = match self.compare {
            Compare::Less => self.search::<R>(feature, |block| at_most(block, 0.0)),
            Compare::LessEqual => self.search::<R>(feature, |block| below(block, 0.0)),
        };
        count.map(R::from_count)
    }

    /// How many thresholds of a feature send a value right, given how many of a block do.
    #[inline(always)]
    fn search<R: Rank>(
        &self,
        feature: &FeatureRecord,
        right: impl Fn(&ThresholdBlock) -> usize,
    ) -> Option<usize> {
        let blocks = self.thresholds.get(index(feature.first)..)?;
        let step = |level: &[ThresholdBlock], at: usize| {
            Some(at.wrapping_mul(THRESHOLD_BLOCK).wrapping_add(right(level.get(at)?)))
        };
        match index(feature.count) {
            TWO_LEVELS..DEEPER => {
                let (top, values) = blocks.split_first()?;
                step(values, right(top))
            }
            0 => Some(0),
            1..TWO_LEVELS => Some(right(blocks.first()?)),
            // Counts of 8 bits never get here.
            _ if R::MAX.into() == u16::from(u8::MAX) => None,
            count => {
                let values = count.div_ceil(THRESHOLD_BLOCK);
                let lower = values.wrapping_sub(1).div_ceil(THRESHOLD_BLOCK);
                let upper = lower.wrapping_sub(1).div_ceil(THRESHOLD_BLOCK);
                let (at, rest) = if upper == 1 { (0, blocks) } else { (step(blocks, 0)?, blocks.get(1..)?) };
                let at = step(rest, at)?;
                let rest = rest.get(upper..)?;
                let at = step(rest, at)?;
                step(rest.get(lower..)?, at)
            }
        }
    }

    /// XGBoost: negative values, even above −1, are in no set.
    fn in_set(&self, record: &SlotRecord, value: f32) -> Option<bool> {
        if value < 0.0 { Some(false) } else { self.in_set_truncated(record, value) }
    }

    /// Whether the value, truncated toward zero, is a category of the slot's set.
    fn in_set_truncated(&self, record: &SlotRecord, value: f32) -> Option<bool> {
        let words = self.categories.get(index(record.first)..)?.get(..index(record.count))?;
        let Ok(category) = u32::try_from(truncate(value)) else {
            return Some(false);
        };
        let word = words.get(index(category / 32)).copied().unwrap_or(0);
        Some(word >> (category % 32) & 1 == 1)
    }
}

fn at_most(block: &ThresholdBlock, value: f32) -> usize {
    block.partition_point(|&threshold| threshold <= value)
}

fn below(block: &ThresholdBlock, value: f32) -> usize {
    block.partition_point(|&threshold| threshold < value)
}

/// From this many thresholds on a feature has a level above its thresholds.
const TWO_LEVELS: usize = THRESHOLD_BLOCK + 1;
/// From this many on it has another: 16 ends are known of 17 blocks, since the last one needs none.
const DEEPER: usize = 17 * THRESHOLD_BLOCK + 1;

#[cfg(test)]
pub(super) mod tests {
    extern crate std;
    use std::vec::Vec;

    use super::super::layout::Layout;
    use super::super::plain::Plain;
    use super::super::{Leaves, RankWidth};
    use super::*;
    use crate::image::records::THRESHOLD_PAD;
    use crate::link::Link;
    use crate::under_miri;

    /// Around every size at which a block, a level or the rank's width ends.
    pub(in crate::trees) const COUNTS: &[usize] = under_miri::<&[usize]>(&[0, 1, 16, 17, 257], ALL_COUNTS);
    const ALL_COUNTS: &[usize] = &[
        0, 1, 15, 16, 17, 31, 32, 33, 255, 256, 257, 271, 272, 273, 4095, 4096, 4351, 4352, 4353, 65_534,
        65_535,
    ];

    /// A feature's search tree, level by level, as FORMAT.md says.
    pub(in crate::trees) fn search_tree(thresholds: &[f32]) -> Vec<ThresholdBlock> {
        let blocks = |values: &[f32]| -> Vec<ThresholdBlock> {
            let block = |chunk: &[f32]| {
                let at = |at| chunk.get(at).copied().unwrap_or(f32::from_bits(THRESHOLD_PAD));
                core::array::from_fn(at)
            };
            values.chunks(THRESHOLD_BLOCK).map(block).collect()
        };
        let mut level = blocks(thresholds);
        let mut tree = level.clone();
        while level.len() > 1 {
            let ends: Vec<f32> = level[..level.len() - 1].iter().map(|block| block[15]).collect();
            level = blocks(&ends);
            tree.splice(0..0, level.iter().copied());
        }
        tree
    }

    /// `count` thresholds with the values that compare strangely among them.
    pub(in crate::trees) fn thresholds(count: usize) -> Vec<f32> {
        let special = [0.0, f32::INFINITY, f32::NEG_INFINITY, 1e-40, -1e-40, 1e-35, f32::MAX, 1e-45];
        let mut all: Vec<f32> = special.iter().copied().take(count).collect();
        let more = (0..).map(|at: i32| (at as f32 - 1000.0) * 0.37).filter(|value| value.to_bits() != 0);
        all.extend(more.take(count - all.len()));
        all.sort_by(f32::total_cmp);
        all
    }

    /// On, just above and just below thresholds, and every kind of number that is not near one.
    fn values(thresholds: &[f32]) -> Vec<f32> {
        let mut values = std::vec![
            0.0,
            -0.0,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::NAN,
            -f32::NAN,
            f32::MIN,
            f32::MAX,
            1e-45,
            -1e-45,
            1e-40,
            1e-35,
            1e-35_f32.next_up(),
            -1e-35,
        ];
        let ends = thresholds.iter().take(300).chain(thresholds.iter().rev().take(40));
        for threshold in ends.chain(thresholds.iter().step_by(97)) {
            values.extend([threshold.next_down(), *threshold, threshold.next_up()]);
        }
        values
    }

    fn expected(compare: Compare, thresholds: &[f32], rule: u32, max: usize, value: f32) -> usize {
        let less_equal = compare == Compare::LessEqual;
        let right = |value: f32| {
            thresholds
                .partition_point(|&threshold| if less_equal { threshold < value } else { threshold <= value })
        };
        let zero = value.abs() <= 1e-35;
        match (rule, value.is_nan()) {
            (slot::NAN_RIGHT | slot::ZERO_RIGHT, true) => max,
            (slot::NAN_IS_ZERO, true) => right(0.0),
            (slot::ZERO_LEFT, _) if zero => 0,
            (slot::ZERO_RIGHT, _) if zero => max,
            (slot::IS_NUMBER, nan) => usize::from(!nan),
            (_, true) => 0,
            _ => right(value),
        }
    }

    fn agrees<R: Rank>(compare: Compare, count: usize) {
        let thresholds = thresholds(count);
        let blocks = search_tree(&thresholds);
        // Feature 1 of two: its blocks lie behind those of another.
        let mut all = search_tree(&[1.0]);
        all.extend(&blocks);
        let features =
            [FeatureRecord { first: 0, count: 1 }, FeatureRecord { first: 1, count: count as u32 }];
        let slots: Vec<SlotRecord> =
            (0..=slot::IS_NUMBER).map(|rule| SlotRecord { feature: 1, rule, first: 0, count: 0 }).collect();
        let trees = Trees {
            features: &features,
            thresholds: &all,
            slots: &slots,
            categories: &[],
            groups: &[],
            layout: Layout::Plain(Plain::default()),
            n_trees: 0,
            n_leaves: 0,
            leaves: Leaves::ExactF32 { leaves: &[] },
            rank: RankWidth::U8,
            compare,
            special_slots: true,
            link: Link::parse(0, 1.0).unwrap(),
        };
        let max = usize::from(R::MAX.into());
        for value in values(&thresholds).into_iter().step_by(under_miri(29, 1)) {
            let wanted = slots.iter().map(|slot| expected(compare, &thresholds, slot.rule, max, value));
            let wanted: Vec<usize> = wanted.collect();
            for backend in Backend::available() {
                let mut ranks = [R::MAX; 6];
                trees.quantize(&[f32::NAN, value], &mut ranks, backend).unwrap();
                let got: Vec<usize> = ranks.iter().map(|&rank| usize::from(rank.into())).collect();
                assert_eq!(got, wanted, "{}: {value:e} among {count} thresholds", backend.name());
            }
        }
    }

    #[test]
    fn every_backend_counts_the_thresholds_that_send_a_value_right() {
        for compare in [Compare::Less, Compare::LessEqual] {
            for &count in COUNTS {
                if count <= usize::from(u8::MAX) {
                    agrees::<u8>(compare, count);
                }
                agrees::<u16>(compare, count);
            }
        }
    }
}
