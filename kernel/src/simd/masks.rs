//! The walk over trees with masks, given a way to find the leaves that a record's nodes exclude.

#![allow(unsafe_code, reason = "leaves are reached by indices proven here, without asking again")]

use crate::image::records::MaskNodesRecord;
use crate::num::index;
use crate::trees::{Leaf, Masks};

/// Sums one of each tree's leaves, in tree order, onto `sum`. `excluded` gives a bit for each place of a record. To be inlined
/// where its instructions are known, for trees of `LEAVES` leaves, 32 or 64.
#[inline(always)]
pub(super) fn walk<L: Leaf, const LEAVES: u32>(
    trees: &Masks<'_>,
    leaves: &[L],
    mut sum: L,
    excluded: impl Fn(&MaskNodesRecord) -> u64,
) -> L {
    let (leaves, _) = leaves.as_chunks::<64>();
    for (record, leaves) in trees.nodes().iter().zip(leaves) {
        let excluded = excluded(record);
        if LEAVES == 32 {
            // The check has proven that a tree's last leaf is in no interval.
            sum = sum.plus(leaf(leaves, excluded.trailing_ones() & 31));
            sum = sum.plus(leaf(leaves, (excluded >> 32).trailing_ones() & 31 | 32));
        } else {
            sum = sum.plus(leaf(leaves, excluded.trailing_ones() & 63));
        }
    }
    sum
}

/// How far the leaf at each place of a record is from the end of its tree of `leaves` leaves: `leaves` to 1.
#[allow(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "evaluated by the compiler: what goes wrong does not compile"
)]
pub(super) const fn from_end(leaves: u32) -> [u8; 64] {
    let mut places = [0; 64];
    let mut at = 0;
    while at < 64 {
        places[at] = (leaves - at as u32 % leaves) as u8;
        at += 1;
    }
    places
}

/// One of 64 leaves.
#[inline(always)]
fn leaf<L: Leaf>(leaves: &[L; 64], at: u32) -> L {
    // SAFETY: six bits are below 64.
    unsafe { *leaves.get_unchecked(index(at & 63)) }
}
