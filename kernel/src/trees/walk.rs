//! Ranks to margins: the trees of each group, on the backend of this machine.

use super::blocks::{Blocks, Row};
use super::check::stored_in_group;
use super::layout::Layout;
use super::leaf::{Leaf, Leaf32};
use super::masks::Masks;
use super::{Leaves, Trees};
use crate::error::PredictError;
use crate::image::records::{GroupRecord, MaskTree32Record, MaskTree64Record};
use crate::num::{float, index};
use crate::simd::{Backend, Tier};
#[cfg(target_arch = "x86_64")]
use crate::simd::{avx2, avx512};

/// Which trees of the image a sum runs over, and where it starts.
#[derive(Clone, Copy)]
struct Part {
    first: usize,
    stored: usize,
    base: u64,
}

impl Trees<'_> {
    /// Margins, `[n_raw]`, of 8-bit ranks, `[row_len]`.
    pub(super) fn margins(
        &self,
        ranks: &[u8],
        raw: &mut [f64],
        backend: Backend,
    ) -> Result<(), PredictError> {
        let row = ranks.first_chunk().ok_or(PredictError::Corrupt)?;
        for (part, margin) in self.parts().zip(raw) {
            *margin =
                part.and_then(|part| self.sum(part, ranks, row, backend)).ok_or(PredictError::Corrupt)?;
        }
        Ok(())
    }

    /// Margins, `[n_raw]`, of 16-bit ranks, `[n_slots]`.
    pub(super) fn margins_u16(&self, ranks: &[u16], raw: &mut [f64]) -> Result<(), PredictError> {
        for (part, margin) in self.parts().zip(raw) {
            *margin = part.and_then(|part| self.sum_u16(part, ranks)).ok_or(PredictError::Corrupt)?;
        }
        Ok(())
    }

    /// The groups' runs of stored trees.
    fn parts(&self) -> impl Iterator<Item = Option<Part>> {
        let kind = self.layout.kind();
        let mut next = 0_usize;
        self.groups.iter().map(move |&GroupRecord { base, count, .. }| {
            let (first, stored) = (next, stored_in_group(index(count), kind)?);
            next = next.wrapping_add(stored);
            Some(Part { first, stored, base })
        })
    }

    /// Base and one leaf per tree; `None` only if the image changed after its check.
    fn sum(&self, part: Part, ranks: &[u8], row: &Row, backend: Backend) -> Option<f64> {
        Some(match self.leaves {
            Leaves::FixedI32 { leaves, step } => {
                float(i64::from(self.walk32(part, leaves, ranks, row, backend)?)) * step
            }
            Leaves::FixedI64 { leaves, step } => float(self.walk(part, leaves, ranks, row, backend)?) * step,
            Leaves::ExactF32 { leaves } => f64::from(self.walk32(part, leaves, ranks, row, backend)?),
            Leaves::ExactF64 { leaves } => self.walk(part, leaves, ranks, row, backend)?,
        })
    }

    fn sum_u16(&self, part: Part, ranks: &[u16]) -> Option<f64> {
        let Layout::Plain(plain) = &self.layout else { return None };
        let trees = plain.part(part.first, part.stored)?;
        let base = part.base;
        Some(match self.leaves {
            Leaves::FixedI32 { leaves, step } => {
                float(i64::from(trees.walk(leaves, ranks, Leaf::from_base(base)?)?)) * step
            }
            Leaves::FixedI64 { leaves, step } => {
                float(trees.walk(leaves, ranks, Leaf::from_base(base)?)?) * step
            }
            Leaves::ExactF32 { leaves } => f64::from(trees.walk(leaves, ranks, Leaf::from_base(base)?)?),
            Leaves::ExactF64 { leaves } => trees.walk(leaves, ranks, Leaf::from_base(base)?)?,
        })
    }

    /// Blocks hold leaves of four bytes only.
    fn walk32<L: Leaf32>(
        &self,
        part: Part,
        leaves: &[L],
        ranks: &[u8],
        row: &Row,
        backend: Backend,
    ) -> Option<L> {
        match &self.layout {
            Layout::Blocks(blocks) => {
                let trees = blocks.part(part.first, part.stored)?;
                walk_blocks(&trees, self.slots.len(), row, L::from_base(part.base)?, backend)
            }
            _ => self.walk(part, leaves, ranks, row, backend),
        }
    }

    fn walk<L: Leaf>(
        &self,
        part: Part,
        leaves: &[L],
        ranks: &[u8],
        row: &Row,
        backend: Backend,
    ) -> Option<L> {
        let sum = L::from_base(part.base)?;
        let leaves_of = |per_tree: usize| {
            let start = part.first.checked_mul(per_tree)?;
            leaves.get(start..)?.get(..part.stored.checked_mul(per_tree)?)
        };
        let slots = self.slots.len();
        match &self.layout {
            Layout::Plain(plain) => plain.part(part.first, part.stored)?.walk(leaves, ranks, sum),
            Layout::Masks32(masks) => {
                let trees = masks.part(part.first, part.stored)?;
                walk_masks32(&trees, leaves_of(32)?, slots, row, sum, backend)
            }
            Layout::Masks64(masks) => {
                let trees = masks.part(part.first, part.stored)?;
                walk_masks64(&trees, leaves_of(64)?, slots, row, sum, backend)
            }
            Layout::Blocks(_) => None,
        }
    }
}

/// Every backend sums the same leaves in the same order.
fn walk_blocks<L: Leaf32>(
    trees: &Blocks<'_>,
    slots: usize,
    row: &Row,
    sum: L,
    backend: Backend,
) -> Option<L> {
    match backend.tier() {
        #[cfg(target_arch = "x86_64")]
        Tier::Avx512(token) => Some(avx512::blocks(token, trees, slots, row, sum)),
        #[cfg(target_arch = "x86_64")]
        Tier::Avx2(token) => Some(avx2::blocks(token, trees, slots, row, sum)),
        _ => trees.walk(row, sum),
    }
}

fn walk_masks32<L: Leaf>(
    trees: &Masks<'_, MaskTree32Record>,
    leaves: &[L],
    slots: usize,
    row: &Row,
    sum: L,
    backend: Backend,
) -> Option<L> {
    match backend.tier() {
        #[cfg(target_arch = "x86_64")]
        Tier::Avx512(token) => Some(avx512::masks32(token, trees, leaves, slots, row, sum)),
        #[cfg(target_arch = "x86_64")]
        Tier::Avx2(token) => Some(avx2::masks32(token, trees, leaves, slots, row, sum)),
        _ => trees.walk(leaves, row, sum),
    }
}

fn walk_masks64<L: Leaf>(
    trees: &Masks<'_, MaskTree64Record>,
    leaves: &[L],
    slots: usize,
    row: &Row,
    sum: L,
    backend: Backend,
) -> Option<L> {
    match backend.tier() {
        #[cfg(target_arch = "x86_64")]
        Tier::Avx512(token) => Some(avx512::masks64(token, trees, leaves, slots, row, sum)),
        #[cfg(target_arch = "x86_64")]
        Tier::Avx2(token) => Some(avx2::masks64(token, trees, leaves, slots, row, sum)),
        _ => trees.walk(leaves, row, sum),
    }
}
