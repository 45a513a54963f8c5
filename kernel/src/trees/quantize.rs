//! Row to ranks: the scalar quantizer, which is the specification.

use bytemuck::{AnyBitPattern, NoUninit};

use super::{Compare, Trees};
use crate::error::PredictError;
use crate::image::records::{SlotRecord, slot};
use crate::num::{index, truncate};

/// LightGBM's `kZeroThreshold`: magnitudes up to this are zero.
const ZERO: f32 = 1e-35;

/// The integer type of a quantized row.
pub(crate) trait Rank: Copy + AnyBitPattern + NoUninit + Into<u16> {
    /// Larger than any node's rank: always right.
    const MAX: Self;
    /// A count of thresholds, at most `MAX` by the image's check.
    fn from_count(count: usize) -> Self;
}

impl Rank for u8 {
    const MAX: Self = Self::MAX;
    fn from_count(count: usize) -> Self {
        Self::try_from(count).unwrap_or(Self::MAX)
    }
}

impl Rank for u16 {
    const MAX: Self = Self::MAX;
    fn from_count(count: usize) -> Self {
        Self::try_from(count).unwrap_or(Self::MAX)
    }
}

impl Trees<'_> {
    /// Fills `ranks`, `[n_slots]`, from `row`, `[n_features]`.
    pub(super) fn quantize<R: Rank>(&self, row: &[f32], ranks: &mut [R]) -> Result<(), PredictError> {
        for (slot, rank) in self.slots.iter().zip(ranks.iter_mut()) {
            let value = *row.get(index(slot.feature)).ok_or(PredictError::Corrupt)?;
            let value = if self.compare == Compare::LessEqual && value.abs() <= ZERO { 0.0 } else { value };
            *rank = self.slot_rank(slot, value).ok_or(PredictError::Corrupt)?;
        }
        Ok(())
    }

    /// The rank of one slot; `None` only if the image changed after its check.
    fn slot_rank<R: Rank>(&self, record: &SlotRecord, value: f32) -> Option<R> {
        let bit = |set: bool| if set { R::from_count(1) } else { R::from_count(0) };
        let missing_zero = || value.is_nan() || value.abs() <= ZERO;
        Some(match record.rule {
            slot::NAN_LEFT if value.is_nan() => R::from_count(0),
            slot::NAN_RIGHT if value.is_nan() => R::MAX,
            slot::NAN_IS_ZERO if value.is_nan() => self.count(record, 0.0)?,
            slot::ZERO_LEFT if missing_zero() => R::from_count(0),
            slot::ZERO_RIGHT if missing_zero() => R::MAX,
            slot::IS_NUMBER => bit(!value.is_nan()),
            slot::IN_SET_NAN_0 => bit(!value.is_nan() && self.in_set(record, value)?),
            slot::IN_SET_NAN_1 => bit(value.is_nan() || self.in_set(record, value)?),
            slot::NOT_IN_SET => bit(value.is_nan() || !self.in_set_truncated(record, value)?),
            _ => self.count(record, value)?,
        })
    }

    /// How many thresholds of the slot's feature send a number right.
    fn count<R: Rank>(&self, record: &SlotRecord, value: f32) -> Option<R> {
        let feature = self.features.get(index(record.feature))?;
        let run = self.thresholds.get(index(feature.first)..)?.get(..index(feature.count))?;
        let count = match self.compare {
            Compare::Less => run.partition_point(|&threshold| threshold <= value),
            Compare::LessEqual => run.partition_point(|&threshold| threshold < value),
        };
        Some(R::from_count(count))
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
