//! Many rows: blocks of 256, trees outermost, so that some trees stay near while every row passes them.

use super::{Leaves, Rank, RankWidth, TreeLayout, Trees};
use crate::error::BatchError;
use crate::num::index;
use crate::scratch::Scratch;
use crate::simd::Backend;
#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
use crate::simd::Tier;

/// Rows of a block.
pub(crate) const BATCH_ROWS: usize = 256;

/// Bytes of trees that stay near while the rows of a block pass: half of the smallest L2 of the machines in mind. In L1 there
/// is room for a few trees only, and calls of a few trees cost twice what they save.
const NEAR: usize = 256 * 1024;

impl Trees<'_> {
    /// Bytes a batch of any size needs.
    pub(crate) fn batch_scratch_bytes(&self) -> usize {
        let rank = match self.rank {
            RankWidth::U8 => size_of::<u8>(),
            RankWidth::U16 => size_of::<u16>(),
        };
        // At most 65 534 slots of two bytes: 32 MiB; a multiple of 64.
        self.row_len().saturating_mul(BATCH_ROWS).saturating_mul(rank)
    }

    /// Predicts `rows`, `[n, n_features]`, into `raw`, `[n, n_raw]`, and `values`, `[n, n_raw]`; the caller has counted them.
    pub(crate) fn predict_batch(
        &self,
        rows: &[f32],
        raw: &mut [f64],
        values: &mut [f32],
        scratch: Scratch<'_>,
        backend: Backend,
    ) -> Result<(), BatchError> {
        let (n_features, n_raw) = (self.features.len().max(1), self.groups.len().max(1));
        let ranks = self.row_len().saturating_mul(BATCH_ROWS);
        let blocks = rows
            .chunks(n_features.saturating_mul(BATCH_ROWS))
            .zip(raw.chunks_mut(n_raw.saturating_mul(BATCH_ROWS)));
        match self.rank {
            RankWidth::U8 => {
                let (ranks, _) = scratch.take::<u8>(ranks).map_err(|_| BatchError::ScratchTooSmall)?;
                for (rows, raw) in blocks {
                    self.byte_block(rows, raw, ranks, backend).ok_or(BatchError::Corrupt)?;
                }
            }
            RankWidth::U16 => {
                let (ranks, _) = scratch.take::<u16>(ranks).map_err(|_| BatchError::ScratchTooSmall)?;
                for (rows, raw) in blocks {
                    self.block(rows, raw, ranks, backend).ok_or(BatchError::Corrupt)?;
                }
            }
        }
        for (raw, values) in raw.chunks_exact(n_raw).zip(values.chunks_exact_mut(n_raw)) {
            self.link.apply(raw, values);
        }
        Ok(())
    }

    /// A block of rows by the walks of single rows.
    fn block<R: Rank>(&self, rows: &[f32], raw: &mut [f64], ranks: &mut [R], backend: Backend) -> Option<()> {
        let row_len = self.row_len();
        let rows = rows.chunks_exact(self.features.len().max(1));
        let ranks = ranks.get_mut(..rows.len().wrapping_mul(row_len))?;
        for (at, row) in rows.enumerate() {
            let ranks = ranks.get_mut(at.wrapping_mul(row_len)..)?.get_mut(..row_len)?;
            self.quantize(row, ranks, backend).ok()?;
        }
        self.margins::<R, BATCH_ROWS>(ranks, raw, backend).ok()
    }

    /// Trees of the layout whose bytes stay near, a multiple of those evaluated at once.
    pub(super) fn trees_near(&self) -> usize {
        let leaf = match self.leaves {
            Leaves::FixedI32 { .. } | Leaves::ExactF32 { .. } => size_of::<i32>(),
            Leaves::FixedI64 { .. } | Leaves::ExactF64 { .. } => size_of::<i64>(),
        };
        let kind = self.layout.kind();
        let bytes = match kind {
            // A split and a leaf.
            TreeLayout::Plain => self.n_leaves.wrapping_mul(16).checked_div(self.n_trees).unwrap_or(1),
            TreeLayout::Blocks { levels } => 80_usize.checked_shl(levels.wrapping_sub(3)).unwrap_or(NEAR),
            // Three bytes and a leaf a place.
            TreeLayout::Masks { leaves } => index(leaves).wrapping_mul(leaf.wrapping_add(3)),
        };
        let fitting = NEAR.checked_div(bytes).unwrap_or(1).max(1);
        fitting.checked_next_multiple_of(kind.trees_at_once()).unwrap_or(fitting)
    }

    /// A block of rows of 8-bit ranks: as many at once as pays, the others by the walks of single rows.
    fn byte_block(&self, rows: &[f32], raw: &mut [f64], ranks: &mut [u8], backend: Backend) -> Option<()> {
        #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
        if let Tier::Avx512(token) = backend.tier() {
            let at_once = self.at_once(rows.len().checked_div(self.features.len())?);
            let (rows, others) = rows.split_at_checked(at_once.checked_mul(self.features.len())?)?;
            let (raw, raw_of_others) = raw.split_at_mut_checked(at_once.checked_mul(self.groups.len())?)?;
            if at_once > 0 {
                self.blend(token, rows, raw, ranks)?;
            }
            return if others.is_empty() {
                Some(())
            } else {
                self.block(others, raw_of_others, ranks, backend)
            };
        }
        self.block(rows, raw, ranks, backend)
    }
}
