//! The walk over trees in blocks, given a way to decide several blocks at once.

#![allow(unsafe_code, reason = "blocks are reached by indices proven here, without asking again")]

use core::ptr;

use crate::image::records::{BLOCK_TREES, BlockRecord, LeafBlockRecord, TopBlocksRecord};
use crate::num::index;
use crate::trees::{Blocks, Leaf32};

/// Trees walked side by side.
const TREES: usize = index(BLOCK_TREES);

/// Eight times the child of a block by its decisions, by levels − 1: bit i of the place says whether node i sends the row right.
static CHILDREN: [[u8; 256]; 3] = [children(1, 8), children(2, 8), children(3, 8)];
/// The leaf of a last block by its decisions.
static PLACES: [u8; 256] = children(3, 1);

#[allow(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "evaluated by the compiler: what goes wrong does not compile"
)]
const fn children(levels: u32, unit: usize) -> [u8; 256] {
    let mut table = [0; 256];
    let mut decisions = 0;
    while decisions < 256 {
        let mut node = 1;
        while node < 1 << levels {
            node = 2 * node + (decisions >> node & 1);
        }
        table[decisions] = ((node - (1 << levels)) * unit) as u8;
        decisions += 1;
    }
    table
}

/// Sums the leaves of the trees, in tree order, onto `sum`. `first` gives the decisions of eight first blocks, one byte each,
/// `eight` those of eight blocks that lie anywhere. To be inlined where the instructions of both are known.
#[inline(always)]
pub(super) fn walk<L: Leaf32>(
    trees: &Blocks<'_>,
    sum: L,
    first: impl Fn(&TopBlocksRecord) -> u64,
    eight: impl Fn([&BlockRecord; TREES]) -> u64,
) -> L {
    match trees.levels() {
        ..=3 => single(trees, sum, eight),
        4 => double::<L, 2>(trees, sum, first, eight),
        5 => double::<L, 4>(trees, sum, first, eight),
        6 => double::<L, 8>(trees, sum, first, eight),
        7 => triple::<L, 2, 16>(trees, sum, first, eight),
        8 => triple::<L, 4, 32>(trees, sum, first, eight),
        _ => triple::<L, 8, 64>(trees, sum, first, eight),
    }
}

/// Trees of one block.
#[inline(always)]
fn single<L: Leaf32>(trees: &Blocks<'_>, mut sum: L, eight: impl Fn([&BlockRecord; TREES]) -> u64) -> L {
    let (eights, _) = trees.bottoms().as_chunks::<TREES>();
    for bottoms in eights {
        sum = leaves(bottoms.each_ref(), sum, &eight);
    }
    sum
}

/// Trees of a first block and `FAN` blocks below it.
#[inline(always)]
fn double<L: Leaf32, const FAN: usize>(
    trees: &Blocks<'_>,
    mut sum: L,
    first: impl Fn(&TopBlocksRecord) -> u64,
    eight: impl Fn([&BlockRecord; TREES]) -> u64,
) -> L {
    let (bottoms, _) = trees.bottoms().as_chunks::<FAN>();
    let (bottoms, _) = bottoms.as_chunks::<TREES>();
    for (top, bottoms) in trees.tops().iter().zip(bottoms) {
        let children = places(first(top), first_children(FAN));
        // SAFETY: the table gives eight times numbers below `FAN`.
        let reached = unsafe { each(bottoms, children) };
        sum = leaves(reached, sum, &eight);
    }
    sum
}

/// Trees of a first block, `FAN` blocks below it, and `LAST` = 8 · `FAN` below those.
#[inline(always)]
fn triple<L: Leaf32, const FAN: usize, const LAST: usize>(
    trees: &Blocks<'_>,
    mut sum: L,
    first: impl Fn(&TopBlocksRecord) -> u64,
    eight: impl Fn([&BlockRecord; TREES]) -> u64,
) -> L {
    let [.., last] = &CHILDREN;
    let (middles, _) = trees.middles().as_chunks::<FAN>();
    let (middles, _) = middles.as_chunks::<TREES>();
    let (bottoms, _) = trees.bottoms().as_chunks::<LAST>();
    let (bottoms, _) = bottoms.as_chunks::<TREES>();
    for ((top, middles), bottoms) in trees.tops().iter().zip(middles).zip(bottoms) {
        let above = places(first(top), first_children(FAN));
        // SAFETY: the table gives eight times numbers below `FAN`.
        let middles = unsafe { each(middles, above) };
        let mut children = places(eight(middles), last);
        for (child, above) in children.iter_mut().zip(above) {
            *child = child.wrapping_add(above.wrapping_mul(8));
        }
        // SAFETY: the other table gives eight times numbers below 8; with 64 times those above, below 8 · `FAN`.
        let reached = unsafe { each(bottoms, children) };
        sum = leaves(reached, sum, &eight);
    }
    sum
}

/// The table of a first block with `fan` children.
#[inline(always)]
const fn first_children(fan: usize) -> &'static [u8; 256] {
    let [one, two, three] = &CHILDREN;
    match fan {
        2 => one,
        4 => two,
        _ => three,
    }
}

/// Of each tree's `N` blocks the one with this number, times eight.
///
/// # Safety
/// `children` are eight times numbers below `N`.
#[inline(always)]
unsafe fn each<T, const N: usize>(trees: &[[T; N]; TREES], children: [usize; TREES]) -> [&T; TREES] {
    let mut children = children.into_iter();
    trees.each_ref().map(|blocks| {
        // By the byte: a table's entry is one scaled address, the number of a block two instructions more.
        let offset = children.next().unwrap_or(0).wrapping_mul(size_of::<T>() >> 3);
        let block = ptr::from_ref(blocks).cast::<T>().wrapping_byte_add(offset);
        // SAFETY: the size of a block is a multiple of eight bytes, and the caller promises numbers below N.
        unsafe { &*block }
    })
}

/// Looks eight bytes of decisions up.
#[inline(always)]
fn places(decisions: u64, table: &[u8; 256]) -> [usize; TREES] {
    decisions.to_le_bytes().map(|byte| usize::from(table.get(usize::from(byte)).copied().unwrap_or(0)))
}

/// Adds one leaf of each of eight blocks.
#[inline(always)]
fn leaves<L: Leaf32>(
    blocks: [&LeafBlockRecord; TREES],
    mut sum: L,
    eight: &impl Fn([&BlockRecord; TREES]) -> u64,
) -> L {
    let decisions = eight(blocks.map(|block| &block.nodes));
    for (block, place) in blocks.into_iter().zip(places(decisions, &PLACES)) {
        // SAFETY: the table holds numbers below 8.
        let bits = unsafe { *block.leaves.get_unchecked(place) };
        sum = sum.plus(L::from_bits(bits));
    }
    sum
}
