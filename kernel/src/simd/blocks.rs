//! The walk over trees in blocks, given a way to decide several blocks at once.

#![allow(unsafe_code, reason = "blocks are reached by indices proven here, without asking again")]

use crate::image::records::{BLOCK_TREES, BlockRecord, LeafBlockRecord, TopBlocksRecord};
use crate::num::index;
use crate::trees::{Blocks, Leaf32};

/// Trees walked side by side.
const TREES: usize = index(BLOCK_TREES);

/// The child of a block by its decisions, by levels − 1: bit i of the place says whether node i sends the row right.
static CHILDREN: [[u8; 256]; 3] = [children(1), children(2), children(3)];

#[allow(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "evaluated by the compiler: what goes wrong does not compile"
)]
const fn children(levels: u32) -> [u8; 256] {
    let mut table = [0; 256];
    let mut decisions = 0;
    while decisions < 256 {
        let mut node = 1;
        while node < 1 << levels {
            node = 2 * node + (decisions >> node & 1);
        }
        table[decisions] = (node - (1 << levels)) as u8;
        decisions += 1;
    }
    table
}

/// Sums the leaves of the trees, in tree order, onto `sum`. `four` gives the decisions of four blocks, one byte each;
/// `eight` those of eight first blocks. To be inlined where the instructions of both are known.
#[inline(always)]
pub(super) fn walk<L: Leaf32>(
    trees: &Blocks<'_>,
    mut sum: L,
    four: impl Fn([&BlockRecord; 4]) -> u32,
    eight: impl Fn(&TopBlocksRecord) -> u64,
) -> L {
    let [.., last] = &CHILDREN;
    let first = match trees.top_levels() {
        1 => &CHILDREN[0],
        2 => &CHILDREN[1],
        _ => last,
    };
    let (fan, per_tree) = (index(trees.fan()), index(trees.bottoms_per_tree()));
    let bottoms = trees.bottoms().chunks_exact(TREES.wrapping_mul(per_tree).max(1));
    match trees.blocks() {
        1 => {
            let (eights, _) = trees.bottoms().as_chunks::<TREES>();
            for bottoms in eights {
                sum = leaves(bottoms.each_ref(), sum, last, &four);
            }
        }
        2 => {
            for (top, bottoms) in trees.tops().iter().zip(bottoms) {
                let child = places(eight(top), first);
                // SAFETY: the slice holds `per_tree` blocks of each of eight trees, `per_tree` is 2 to the levels of the
                // first block, and the table of that many levels holds smaller numbers only.
                let at = |tree: usize, child: usize| unsafe {
                    bottoms.get_unchecked(tree.wrapping_mul(per_tree).wrapping_add(child))
                };
                sum = leaves(each(child, at), sum, last, &four);
            }
        }
        _ => {
            let middles = trees.middles().chunks_exact(TREES.wrapping_mul(fan).max(1));
            for ((top, middles), bottoms) in trees.tops().iter().zip(middles).zip(bottoms) {
                let child = places(eight(top), first);
                // SAFETY: the slice holds `fan` blocks of each of eight trees, `fan` is 2 to the levels of the first
                // block, and the table of that many levels holds smaller numbers only.
                let at = |tree: usize, child: usize| unsafe {
                    middles.get_unchecked(tree.wrapping_mul(fan).wrapping_add(child))
                };
                let below = places(decide(each(child, at), &four), last);
                let mut child = child;
                for (child, below) in child.iter_mut().zip(below) {
                    *child = child.wrapping_mul(8).wrapping_add(below);
                }
                // SAFETY: the slice holds `per_tree` = 8 · `fan` blocks of each of eight trees; the child above is below
                // `fan`, and the table of three levels holds numbers below 8.
                let at = |tree: usize, child: usize| unsafe {
                    bottoms.get_unchecked(tree.wrapping_mul(per_tree).wrapping_add(child))
                };
                sum = leaves(each(child, at), sum, last, &four);
            }
        }
    }
    sum
}

/// One item for each of eight trees.
#[inline(always)]
fn each<T>(children: [usize; TREES], at: impl Fn(usize, usize) -> T) -> [T; TREES] {
    let mut tree = 0_usize;
    children.map(|child| {
        let item = at(tree, child);
        tree = tree.wrapping_add(1);
        item
    })
}

/// Looks eight bytes of decisions up.
#[inline(always)]
fn places(decisions: u64, table: &[u8; 256]) -> [usize; TREES] {
    decisions.to_le_bytes().map(|byte| usize::from(table.get(usize::from(byte)).copied().unwrap_or(0)))
}

/// Decisions of eight blocks.
#[inline(always)]
fn decide(blocks: [&BlockRecord; TREES], four: &impl Fn([&BlockRecord; 4]) -> u32) -> u64 {
    let [a, b, c, d, e, f, g, h] = blocks;
    u64::from(four([a, b, c, d])) | u64::from(four([e, f, g, h])) << 32
}

/// Adds one leaf of each of eight blocks.
#[inline(always)]
fn leaves<L: Leaf32>(
    blocks: [&LeafBlockRecord; TREES],
    mut sum: L,
    table: &[u8; 256],
    four: &impl Fn([&BlockRecord; 4]) -> u32,
) -> L {
    let decisions = decide(blocks.map(|block| &block.nodes), four);
    for (block, place) in blocks.into_iter().zip(places(decisions, table)) {
        sum = sum.plus(L::from_bits(block.leaves.get(place & 7).copied().unwrap_or(0)));
    }
    sum
}
