//! Trees of few leaves as intervals: no path is walked. Every node that sends the row right excludes the leaves of its left
//! subtree; the row's leaf is the first one left (QuickScorer, Lucchese et al. 2015, tree by tree and within a register).
//!
//! Leaves are numbered from left to right, and nodes by the leaf on their left: node i excludes leaves `first` to i.

use super::blocks::Row;
use super::leaf::Leaf;
use crate::error::ImageError;
use crate::image::records::{MaskNodesRecord, NO_NODE};
use crate::image::{SectionKind, Sections};
use crate::num::index;
use crate::rows::each_row;

/// Places of nodes, and of leaves, in a record.
const PLACES: usize = size_of::<MaskNodesRecord>() / 3;

/// Trees of up to 32 or 64 leaves, filled up to a multiple of [`MASK_TREES`](crate::image::records::MASK_TREES) in each group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Masks<'image> {
    leaves: u32,
    nodes: &'image [MaskNodesRecord],
}

impl<'image> Masks<'image> {
    /// Reads the section of `trees` stored trees with room for `leaves` leaves each.
    pub(super) fn read(sections: &Sections<'image>, leaves: u32, trees: usize) -> Result<Self, ImageError> {
        // Stored trees are a multiple of four.
        let records = trees.checked_mul(index(leaves)).and_then(|places| places.checked_div(PLACES));
        let records = records.ok_or(ImageError::Invalid(SectionKind::MaskTrees))?;
        Ok(Self { leaves, nodes: sections.exactly(SectionKind::MaskTrees, records)? })
    }

    /// Every tree is one; gives the number of nodes.
    pub(super) fn check(&self, slots: usize) -> Result<usize, ImageError> {
        let mut nodes = 0_usize;
        for tree in self.trees() {
            let count = nodes_of(tree, slots).ok_or(ImageError::Invalid(SectionKind::MaskTrees))?;
            nodes = nodes.saturating_add(count);
        }
        Ok(nodes)
    }

    /// Whether `count` trees have no node.
    pub(super) fn are_idle(&self, first: usize, count: usize) -> bool {
        // From the even tree that starts a record: a group must not cost a look at all those before it.
        let odd = first & 1;
        let idle = |(_, ranks, _): Tree<'_>| ranks.iter().all(|&rank| rank == NO_NODE);
        let fillers = self.part(first.wrapping_sub(odd), count.saturating_add(odd));
        fillers.is_some_and(|fillers| fillers.trees().skip(odd).all(idle))
    }

    /// The consecutive trees of a group.
    pub(super) fn part(&self, first: usize, count: usize) -> Option<Self> {
        let record = |tree: usize| tree.checked_mul(index(self.leaves))?.checked_div(PLACES);
        let end = record(first.checked_add(count)?)?;
        Some(Self { nodes: self.nodes.get(record(first)?..end)?, ..*self })
    }

    /// Leaves that each tree has room for, 32 or 64.
    pub(crate) const fn leaves(&self) -> u32 {
        self.leaves
    }

    /// The nodes of one tree a record, or of two.
    pub(crate) const fn nodes(&self) -> &'image [MaskNodesRecord] {
        self.nodes
    }

    /// Slots, ranks and first leaves of each tree.
    fn trees(&self) -> impl Iterator<Item = Tree<'image>> + use<'image> {
        let leaves = index(self.leaves).max(1);
        self.nodes.iter().flat_map(move |MaskNodesRecord { slots, ranks, firsts }| {
            let nodes = each_row(slots, leaves).zip(each_row(ranks, leaves));
            nodes.zip(each_row(firsts, leaves)).map(|((slots, ranks), firsts)| (slots, ranks, firsts))
        })
    }

    /// Sums one of each tree's leaves, in tree order, onto `sum`; `None` only if the image changed after its check.
    #[inline]
    pub(super) fn walk<L: Leaf>(&self, leaves: &[L], row: &Row, mut sum: L) -> Option<L> {
        for (tree, leaves) in self.trees().zip(leaves.chunks_exact(index(self.leaves).max(1))) {
            let leaf = if self.leaves == 32 { leaf_of_32(tree, row) } else { leaf_of_64(tree, row) };
            sum = sum.plus(*leaves.get(leaf)?);
        }
        Some(sum)
    }
}

type Tree<'a> = (&'a [u8], &'a [u8], &'a [u8]);

/// All ones where a row goes right, else 0: by arithmetic, so that no compiler makes a branch of it.
#[inline]
fn goes_right(slot: u8, rank: u8, row: &Row) -> i32 {
    let value = row.get(usize::from(slot)).copied().unwrap_or(0);
    i32::from(rank).wrapping_sub(i32::from(value)) >> 31
}

/// The leaf a row reaches: behind all those excluded from the first on.
#[inline]
fn leaf_of_64((slots, ranks, firsts): Tree<'_>, row: &Row) -> usize {
    let mut excluded = 0_u64;
    let mut behind = 1_u64;
    for ((&slot, &rank), &first) in slots.iter().zip(ranks).zip(firsts) {
        // Leaves `first` to this node's: all below the one behind it, but for those below the first.
        behind = behind.wrapping_shl(1);
        let interval = behind.wrapping_sub(1_u64.wrapping_shl(u32::from(first)));
        excluded |= interval & i64::from(goes_right(slot, rank, row)).cast_unsigned();
    }
    index(excluded.trailing_ones())
}

/// As [`leaf_of_64`], in registers of 32 bits.
#[inline]
fn leaf_of_32((slots, ranks, firsts): Tree<'_>, row: &Row) -> usize {
    let mut excluded = 0_u32;
    let mut behind = 1_u32;
    for ((&slot, &rank), &first) in slots.iter().zip(ranks).zip(firsts) {
        behind = behind.wrapping_shl(1);
        let interval = behind.wrapping_sub(1_u32.wrapping_shl(u32::from(first)));
        excluded |= interval & goes_right(slot, rank, row).cast_unsigned();
    }
    index(excluded.trailing_ones())
}

/// Nodes of a tree whose places hold a tree from left to right, then nothing.
///
/// A node joins the leaves of its left subtree, which have ended, with a right one, which starts behind them: its `first`
/// must be where a subtree has started that did not yet become part of a left one.
fn nodes_of((slots, ranks, firsts): Tree<'_>, n_slots: usize) -> Option<usize> {
    let places = || slots.iter().zip(ranks).zip(firsts).map(|((&slot, &rank), &first)| (slot, rank, first));
    let count = places().take_while(|&(_, rank, _)| rank != NO_NODE).count();
    if count >= slots.len() || places().skip(count).any(|place| place != (0, NO_NODE, 0)) {
        return None;
    }
    let mut starts = 1_u64;
    for (behind, (slot, _, first)) in (1_u32..).zip(places().take(count)) {
        let first = u32::from(first);
        let started = starts.checked_shr(first)? & 1 == 1;
        if !started || usize::from(slot) >= n_slots {
            return None;
        }
        starts &= u64::MAX.checked_shr(63_u32.checked_sub(first)?)?;
        starts |= 1_u64.checked_shl(behind)?;
    }
    Some(count)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use super::super::blocks::tests::{Random, SLOTS};
    use super::super::walk::walk_masks;
    use super::*;
    use crate::simd::Backend;
    use crate::under_miri;

    /// 256 rows at once give what each gives alone: on AVX-512, which Miri has not.
    #[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
    fn blends_alike(masks: &Masks<'_>, random: &mut Random) {
        use crate::simd::Tier;
        use crate::simd::avx512::{Base, blend_masks};
        let mut columns = [[0; 256]; 256];
        columns.iter_mut().for_each(|column| *column = random.bytes());
        let row = |at: usize| -> Row { core::array::from_fn(|slot| columns[slot][at]) };
        let leaves: Vec<i32> = (0..24 * 64).map(|_| (random.next() >> 40) as i32).collect();
        let bits: Vec<u32> = leaves.iter().map(|leaf| leaf.cast_unsigned()).collect();
        for backend in Backend::available() {
            let Tier::Avx512(token) = backend.tier() else { continue };
            for rows in [24, 64, 65, 128, 129, 256] {
                let base = Base { bits: 7, float: false };
                let sums = blend_masks(token, masks, &bits, &columns, rows, base);
                for (at, sum) in sums.iter().take(rows).enumerate() {
                    assert_eq!(masks.walk(&leaves, &row(at), 7_i32), Some(sum.cast_signed()));
                }
            }
        }
    }

    #[test]
    fn every_backend_walks_masks_alike() {
        let mut random = Random(0x5153_4D34);
        let shapes = [32, 64].into_iter().flat_map(|leaves| SLOTS.map(|slots| (leaves, slots)));
        // Every second still has slots for every number of tables.
        for (leaves, slots) in shapes.step_by(under_miri(2, 1)) {
            // Any leaves will do that lie on the left of a node, and any node but the last of a tree.
            let records: Vec<MaskNodesRecord> = (0..under_miri(4, 24))
                .map(|_| MaskNodesRecord {
                    slots: random.slots(slots),
                    ranks: core::array::from_fn(|place| {
                        if place as u32 % leaves == leaves - 1 {
                            NO_NODE
                        } else {
                            random.bytes::<1>()[0].min(NO_NODE - 1)
                        }
                    }),
                    firsts: core::array::from_fn(|place| {
                        let place = place as u64 % u64::from(leaves);
                        place.saturating_sub((random.next() >> 32) % 8) as u8
                    }),
                })
                .collect();
            let masks = Masks { leaves, nodes: &records };
            #[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
            blends_alike(&masks, &mut random);
            let values: Vec<i64> = (0..24 * 64).map(|_| (random.next() >> 8) as i64).collect();
            let rows = [[0; 256], [255; 256]].into_iter().chain((0..40).map(|_| random.bytes()));
            // Miri: the row that goes right wherever one can, up to the last block or leaf, and any other.
            for row in rows.skip(under_miri(1, 0)).take(under_miri(2, 42)).collect::<Vec<Row>>() {
                let expected = masks.walk(&values, &row, 7_i64);
                for backend in Backend::available() {
                    let got = walk_masks(&masks, &values, usize::from(slots), &row, 7, backend);
                    assert_eq!(got, expected, "{leaves} leaves, {slots} slots on {}", backend.name());
                }
            }
        }
    }

    #[test]
    fn only_trees_pass() {
        // Leaves 0 to 3: ((0 1) (2 3)), then one leaf more than it has.
        let mut slots = [0; 32];
        let mut ranks = [NO_NODE; 32];
        let mut firsts = [0; 32];
        ranks[..3].copy_from_slice(&[1, 2, 3]);
        firsts[..3].copy_from_slice(&[0, 0, 2]);
        let count =
            |slots: &[u8; 32], ranks: &[u8; 32], firsts: &[u8; 32]| nodes_of((slots, ranks, firsts), 5);
        assert_eq!(count(&slots, &ranks, &firsts), Some(3));
        for (place, passing) in [(0, [0].as_slice()), (1, &[0, 1]), (2, &[0, 2])] {
            for first in 0..=under_miri(7, 255) {
                let mut firsts = firsts;
                firsts[place] = first;
                // Left of the node at `place` are the leaves from `first` to `place`. These alone lie in or beside those of every
                // other node: leaves 0 and 1, or 1 alone, in the middle; 2 alone, or 0 to 2, at the end.
                let tree = passing.contains(&first);
                assert_eq!(count(&slots, &ranks, &firsts), tree.then_some(3), "first {first} at {place}");
            }
        }
        firsts[3] = 1;
        assert_eq!(count(&slots, &ranks, &firsts), None, "a leaf where there is no node");
        firsts[3] = 0;
        slots[3] = 1;
        assert_eq!(count(&slots, &ranks, &firsts), None, "a slot where there is no node");
        slots[3] = 0;
        slots[1] = 5;
        assert_eq!(count(&slots, &ranks, &firsts), None, "a slot that does not exist");
        slots[1] = 4;
        assert_eq!(count(&slots, &ranks, &firsts), Some(3));
        assert_eq!(count(&slots, &[1; 32], &[0; 32]), None, "32 nodes have 33 leaves");
    }
}
