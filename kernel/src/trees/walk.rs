//! Ranks to margins: the trees of each group, on the backend of this machine.

use super::blocks::{Blocks, Row};
use super::check::stored_in_group;
use super::layout::Layout;
use super::leaf::{Leaf, Leaf32};
use super::masks::Masks;
use super::{Leaves, Rank, Trees};
use crate::error::PredictError;
use crate::image::records::GroupRecord;
use crate::num::{float, index};
#[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
use crate::simd::neon;
use crate::simd::{Backend, Tier};
#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
use crate::simd::{avx2, avx512};

/// Which trees of the image a sum runs over, and where it starts.
#[derive(Clone, Copy)]
pub(super) struct Part {
    pub(super) first: usize,
    pub(super) stored: usize,
    pub(super) base: u64,
}

impl Trees<'_> {
    /// Margins, `[n, n_raw]`, of n rows of ranks, `[n, row_len]`; n is at most `ROWS`.
    pub(super) fn margins<R: Rank, const ROWS: usize>(
        &self,
        ranks: &[R],
        raw: &mut [f64],
        backend: Backend,
    ) -> Result<(), PredictError> {
        for (group, part) in self.parts().enumerate() {
            part.and_then(|part| self.group_margins::<R, ROWS>(part, group, ranks, raw, backend))
                .ok_or(PredictError::Corrupt)?;
        }
        Ok(())
    }

    /// The groups' runs of stored trees.
    pub(super) fn parts(&self) -> impl Iterator<Item = Option<Part>> {
        let kind = self.layout.kind();
        let mut next = 0_usize;
        self.groups.iter().map(move |&GroupRecord { base, count, .. }| {
            let (first, stored) = (next, stored_in_group(index(count), kind)?);
            next = next.wrapping_add(stored);
            Some(Part { first, stored, base })
        })
    }

    /// Base and one leaf per tree; `None` only if the image changed after its check.
    fn group_margins<R: Rank, const ROWS: usize>(
        &self,
        part: Part,
        group: usize,
        ranks: &[R],
        raw: &mut [f64],
        backend: Backend,
    ) -> Option<()> {
        let margins = raw.chunks_exact_mut(self.groups.len().max(1)).map(|raw| raw.get_mut(group));
        match self.leaves {
            Leaves::FixedI32 { leaves, step } => {
                let walk = |part, row: &[R], sum| self.walk32(part, leaves, row, sum, backend);
                self.sums::<_, _, ROWS>(part, ranks, margins, walk, |sum: i32| float(i64::from(sum)) * step)
            }
            Leaves::FixedI64 { leaves, step } => {
                let walk = |part, row: &[R], sum| self.walk(part, leaves, row, sum, backend);
                self.sums::<_, _, ROWS>(part, ranks, margins, walk, |sum| float(sum) * step)
            }
            Leaves::ExactF32 { leaves } => {
                let walk = |part, row: &[R], sum| self.walk32(part, leaves, row, sum, backend);
                self.sums::<_, _, ROWS>(part, ranks, margins, walk, f64::from)
            }
            Leaves::ExactF64 { leaves } => {
                let walk = |part, row: &[R], sum| self.walk(part, leaves, row, sum, backend);
                self.sums::<_, _, ROWS>(part, ranks, margins, walk, |sum| sum)
            }
        }
    }

    /// Sums of each row, trees in order; of many rows, as many trees at a time as stay near.
    #[inline]
    fn sums<'m, R: Rank, L: Leaf, const ROWS: usize>(
        &self,
        part: Part,
        ranks: &[R],
        margins: impl Iterator<Item = Option<&'m mut f64>>,
        walk: impl Fn(Part, &[R], L) -> Option<L>,
        margin: impl Fn(L) -> f64,
    ) -> Option<()> {
        let mut sums = [L::from_base(part.base)?; ROWS];
        let row_len = self.row_len();
        let rows = ranks.len().checked_div(row_len).unwrap_or(ROWS);
        let end = part.first.checked_add(part.stored)?;
        let step = if ROWS == 1 { part.stored } else { self.trees_near() };
        for first in (part.first..end).step_by(step.max(1)) {
            let some = Part { first, stored: step.min(end.wrapping_sub(first)), ..part };
            for (row, sum) in sums.iter_mut().take(rows).enumerate() {
                let ranks = ranks.get(row.wrapping_mul(row_len)..)?.get(..row_len)?;
                *sum = walk(some, ranks, *sum)?;
            }
        }
        for (place, sum) in margins.zip(sums) {
            *place? = margin(sum);
        }
        Some(())
    }

    /// Blocks hold leaves of four bytes only.
    fn walk32<R: Rank, L: Leaf32>(
        &self,
        part: Part,
        leaves: &[L],
        ranks: &[R],
        sum: L,
        backend: Backend,
    ) -> Option<L> {
        match &self.layout {
            Layout::Blocks(blocks) => {
                let trees = blocks.part(part.first, part.stored)?;
                walk_blocks(&trees, self.slots.len(), R::row(ranks)?, sum, backend)
            }
            _ => self.walk(part, leaves, ranks, sum, backend),
        }
    }

    fn walk<R: Rank, L: Leaf>(
        &self,
        part: Part,
        leaves: &[L],
        ranks: &[R],
        sum: L,
        backend: Backend,
    ) -> Option<L> {
        let slots = self.slots.len();
        match &self.layout {
            Layout::Plain(plain) => plain.part(part.first, part.stored)?.walk(leaves, ranks, sum),
            Layout::Masks(masks) => {
                let trees = masks.part(part.first, part.stored)?;
                let leaves = part.leaves(leaves, index(masks.leaves()))?;
                walk_masks(&trees, leaves, slots, R::row(ranks)?, sum, backend)
            }
            Layout::Blocks(_) => None,
        }
    }
}

impl Part {
    /// The leaves of these trees, if each has as many.
    pub(super) fn leaves<'a, L>(&self, all: &'a [L], per_tree: usize) -> Option<&'a [L]> {
        all.get(self.first.checked_mul(per_tree)?..)?.get(..self.stored.checked_mul(per_tree)?)
    }
}

/// Every backend sums the same leaves in the same order. Ranks are looked up by slot, which takes a byte shuffle: SSE2 has
/// none and `wide` would look them up one by one in memory, so that its tier walks as the scalar one does.
pub(super) fn walk_blocks<L: Leaf32>(
    trees: &Blocks<'_>,
    slots: usize,
    row: &Row,
    sum: L,
    backend: Backend,
) -> Option<L> {
    match backend.tier() {
        #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
        Tier::Avx512(token) => Some(avx512::blocks(token, trees, slots, row, sum)),
        #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
        Tier::Avx2(token) => Some(avx2::blocks(token, trees, slots, row, sum)),
        #[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
        Tier::Neon(token) => Some(neon::blocks(token, trees, slots, row, sum)),
        Tier::Scalar | Tier::Wide => trees.walk(row, sum),
    }
}

/// As [`walk_blocks`], of trees with masks.
pub(super) fn walk_masks<L: Leaf>(
    trees: &Masks<'_>,
    leaves: &[L],
    slots: usize,
    row: &Row,
    sum: L,
    backend: Backend,
) -> Option<L> {
    match backend.tier() {
        #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
        Tier::Avx512(token) => Some(avx512::masks(token, trees, leaves, slots, row, sum)),
        #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
        Tier::Avx2(token) => Some(avx2::masks(token, trees, leaves, slots, row, sum)),
        #[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
        Tier::Neon(token) => Some(neon::masks(token, trees, leaves, slots, row, sum)),
        Tier::Scalar | Tier::Wide => trees.walk(leaves, row, sum),
    }
}
