//! Trees of few leaves as masks: no path is walked. Every node that sends the row right excludes the leaves of its left
//! subtree; the row's leaf is the first one left (QuickScorer, Lucchese et al. 2015, tree by tree and within a register).

use bytemuck::AnyBitPattern;

use super::blocks::Row;
use super::leaf::Leaf;
use crate::error::ImageError;
use crate::image::records::{MaskTree32Record, MaskTree64Record, NO_NODE};
use crate::image::{SectionKind, Sections};
use crate::num::index;

/// Trees with masks, filled up to a multiple of [`MASK_TREES`](crate::image::records::MASK_TREES) in each group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Masks<'image, T> {
    trees: &'image [T],
}

/// A tree of up to `LEAVES` leaves.
pub(crate) trait MaskTree: AnyBitPattern {
    /// Leaves there is room for, in the leaves section too.
    const LEAVES: usize;

    /// Slot, rank and mask of every place, in post-order.
    fn places(&self) -> impl Iterator<Item = (u8, u8, u64)>;

    /// The leaf a row reaches, below `LEAVES`.
    fn leaf(&self, row: &Row) -> usize;
}

/// All ones where a rank is above another, else 0: by arithmetic, so that no compiler makes a branch of it.
#[inline]
fn above(row: &Row, slot: u8, rank: u8) -> i32 {
    let value = row.get(usize::from(slot)).copied().unwrap_or(0);
    i32::from(rank).wrapping_sub(i32::from(value)) >> 31
}

impl MaskTree for MaskTree32Record {
    const LEAVES: usize = 32;

    fn places(&self) -> impl Iterator<Item = (u8, u8, u64)> {
        let nodes = self.slots.iter().zip(&self.ranks).zip(&self.masks);
        nodes.map(|((&slot, &rank), &mask)| (slot, rank, u64::from(mask)))
    }

    #[inline]
    fn leaf(&self, row: &Row) -> usize {
        let nodes = self.slots.iter().zip(&self.ranks).zip(&self.masks);
        let excluded = nodes.fold(0, |excluded, ((&slot, &rank), &mask)| {
            excluded | mask & above(row, slot, rank).cast_unsigned()
        });
        index(excluded.trailing_ones())
    }
}

impl MaskTree for MaskTree64Record {
    const LEAVES: usize = 64;

    fn places(&self) -> impl Iterator<Item = (u8, u8, u64)> {
        let nodes = self.slots.iter().zip(&self.ranks).zip(&self.masks);
        nodes.map(|((&slot, &rank), &mask)| (slot, rank, mask))
    }

    /// Decisions first, then the masks of those that are right: asked node by node, compilers make unpredictable branches of it.
    #[inline]
    fn leaf(&self, row: &Row) -> usize {
        let nodes = self.slots.iter().zip(&self.ranks).rev();
        let mut decisions = nodes.fold(0_u64, |decisions, (&slot, &rank)| {
            let value = row.get(usize::from(slot)).copied().unwrap_or(0);
            decisions << 1 | u64::from(value > rank)
        });
        let mut excluded = 0;
        while decisions != 0 {
            let node = index(decisions.trailing_zeros() & 63);
            excluded |= self.masks.get(node).copied().unwrap_or(0);
            decisions &= decisions.wrapping_sub(1);
        }
        index(excluded.trailing_ones())
    }
}

impl<'image, T: MaskTree> Masks<'image, T> {
    /// Reads the section of `trees` stored trees.
    pub(super) fn read(sections: &Sections<'image>, trees: usize) -> Result<Self, ImageError> {
        Ok(Self { trees: sections.exactly(SectionKind::MaskTrees, trees)? })
    }

    /// Every tree is one; gives the number of nodes.
    pub(super) fn check(&self, slots: usize) -> Result<usize, ImageError> {
        let mut nodes = 0_usize;
        for tree in self.trees {
            let count = nodes_of(tree, slots).ok_or(ImageError::Invalid(SectionKind::MaskTrees))?;
            nodes = nodes.saturating_add(count);
        }
        Ok(nodes)
    }

    /// Whether `count` trees have no node.
    pub(super) fn are_idle(&self, first: usize, count: usize) -> bool {
        let idle = |tree: &T| tree.places().all(|(_, rank, _)| rank == NO_NODE);
        self.part(first, count).is_some_and(|part| part.trees.iter().all(idle))
    }

    /// The consecutive trees of a group.
    pub(super) fn part(&self, first: usize, count: usize) -> Option<Self> {
        Some(Self { trees: self.trees.get(first..)?.get(..count)? })
    }

    /// The trees.
    pub(crate) const fn trees(&self) -> &'image [T] {
        self.trees
    }

    /// Sums one of each tree's `LEAVES` leaves, in tree order, onto `sum`; `None` only if the image changed after its check.
    #[inline]
    pub(super) fn walk<L: Leaf>(&self, leaves: &[L], row: &Row, mut sum: L) -> Option<L> {
        let mut first = 0_usize;
        for tree in self.trees {
            sum = sum.plus(*leaves.get(first.wrapping_add(tree.leaf(row)))?);
            first = first.wrapping_add(T::LEAVES);
        }
        Some(sum)
    }
}

/// Nodes of a tree whose places hold a tree in post-order, then nothing.
///
/// Nodes join runs of leaves, at first one each: a node joins the run its mask names with the one that follows. Each join
/// leaves one run less, so n of them make one tree of n + 1 leaves; leaf n is in no mask, and so the first leaf that is not
/// excluded exists. Post-order is the order in which the ends of what is joined never fall.
fn nodes_of<T: MaskTree>(tree: &T, slots: usize) -> Option<usize> {
    let count = tree.places().take_while(|&(_, rank, _)| rank != NO_NODE).count();
    if count >= T::LEAVES || tree.places().skip(count).any(|place| place != (0, NO_NODE, 0)) {
        return None;
    }
    // Last leaf of the run that starts at each leaf; leaves that start one.
    let mut ends: [u8; 64] = core::array::from_fn(|leaf| u8::try_from(leaf).unwrap_or(0));
    let mut starts = u64::MAX;
    let mut previous = 0;
    for (slot, _, mask) in tree.places().take(count) {
        let first = mask.trailing_zeros();
        let last = 63_u32.checked_sub(mask.leading_zeros())?;
        let right = last.checked_add(1)?;
        let run = u64::MAX.checked_shl(first)? & u64::MAX.checked_shr(63_u32.checked_sub(last)?)?;
        let end = *ends.get(index(right))?;
        let left = ends.get_mut(index(first))?;
        let start = |leaf: u32| starts.checked_shr(leaf).is_some_and(|bits| bits & 1 == 1);
        let joins = mask == run && u32::from(*left) == last && start(first) && start(right);
        if !joins || usize::from(end) > count || end < previous || usize::from(slot) >= slots {
            return None;
        }
        *left = end;
        starts &= !1_u64.checked_shl(right)?;
        previous = end;
    }
    Some(count)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use super::super::blocks::tests::{Random, SLOTS};
    use super::super::walk::{walk_masks32, walk_masks64};
    use super::*;
    use crate::simd::Backend;

    #[test]
    fn every_backend_walks_masks_alike() {
        let mut random = Random(0x5153_4D34);
        for slots in SLOTS {
            // Any masks will do that leave the last leaf; ANDed ones leave leaves at every place.
            let mut mask =
                || (random.next() & random.next() & random.next() & random.next() & random.next()) << 1 >> 1;
            let masks64: Vec<[u64; 64]> = (0..24).map(|_| core::array::from_fn(|_| mask())).collect();
            let tree64 = |&masks: &[u64; 64]| MaskTree64Record {
                slots: random.slots(slots),
                ranks: random.bytes(),
                masks,
            };
            let trees64: Vec<MaskTree64Record> = masks64.iter().map(tree64).collect();
            let tree32 = |tree: &MaskTree64Record| MaskTree32Record {
                slots: *tree.slots.first_chunk().unwrap(),
                ranks: *tree.ranks.first_chunk().unwrap(),
                masks: tree.masks.first_chunk::<32>().unwrap().map(|mask| (mask >> 32) as u32),
            };
            let trees32: Vec<MaskTree32Record> = trees64.iter().map(tree32).collect();
            let leaves: Vec<i64> = (0..24 * 64).map(|_| (random.next() >> 8) as i64).collect();
            let (all64, all32) = (Masks { trees: &trees64[..] }, Masks { trees: &trees32[..] });
            let rows = [[0; 256], [255; 256]].into_iter().chain((0..40).map(|_| random.bytes()));
            for row in rows.collect::<Vec<Row>>() {
                let expected64 = all64.walk(&leaves, &row, 7_i64);
                let expected32 = all32.walk(&leaves[..24 * 32], &row, 7_i64);
                for backend in Backend::available() {
                    let (name, used) = (backend.name(), usize::from(slots));
                    let got = walk_masks64(&all64, &leaves, used, &row, 7, backend);
                    assert_eq!(got, expected64, "64 leaves, {slots} slots on {name}");
                    let got = walk_masks32(&all32, &leaves[..24 * 32], used, &row, 7, backend);
                    assert_eq!(got, expected32, "32 leaves, {slots} slots on {name}");
                }
            }
        }
    }
}
