//! Trees in blocks of three levels, the leaves inside the last one.
//!
//! One byte comparison of a block's seven nodes gives seven bits, and those the child: a tree of six levels costs two
//! dependent loads instead of six, and after its first block, which lies beside those of its neighbours, one cache line.

use super::leaf::Leaf32;
use crate::error::ImageError;
use crate::image::records::{
    BLOCK_TREES, BlockRecord, LeafBlockRecord, NO_NODE, TopBlocksRecord, TreesRecord, sum,
};
use crate::image::{SectionKind, Sections};
use crate::num::index;

/// Levels of a block.
const LEVELS: u32 = 3;

/// The ranks of a row, as walks read them: a slot is one byte, so none lies outside.
pub(crate) type Row = [u8; 256];

/// Trees of one depth, filled up to a multiple of [`BLOCK_TREES`] in each group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Blocks<'image> {
    levels: u32,
    /// `[trees / 8]`; empty for trees of one block.
    tops: &'image [TopBlocksRecord],
    /// `[trees, fan]`; empty for trees of at most two blocks.
    middles: &'image [BlockRecord],
    /// `[trees, fan]`, with middles `[trees, fan, 8]`.
    bottoms: &'image [LeafBlockRecord],
}

impl<'image> Blocks<'image> {
    /// Reads the sections of `trees` stored trees.
    pub(super) fn read(
        sections: &Sections<'image>,
        record: &TreesRecord,
        levels: u32,
        trees: usize,
    ) -> Result<Self, ImageError> {
        if !matches!(record.sum, sum::FIXED_I32 | sum::EXACT_F32) {
            return Err(ImageError::Invalid(SectionKind::Trees));
        }
        let shape = Self { levels, tops: &[], middles: &[], bottoms: &[] };
        let count = |holds: bool, per_tree: u32, kind| {
            let count = if holds { trees.checked_mul(index(per_tree)) } else { Some(0) };
            count.ok_or(ImageError::Invalid(kind))
        };
        // Stored trees are a multiple of eight.
        let tops = if shape.blocks() > 1 { trees >> BLOCK_TREES.trailing_zeros() } else { 0 };
        let middles = count(shape.blocks() > 2, shape.fan(), SectionKind::MiddleBlocks)?;
        let bottoms = count(true, shape.bottoms_per_tree(), SectionKind::LeafBlocks)?;
        Ok(Self {
            tops: sections.exactly(SectionKind::TopBlocks, tops)?,
            middles: sections.exactly(SectionKind::MiddleBlocks, middles)?,
            bottoms: sections.exactly(SectionKind::LeafBlocks, bottoms)?,
            ..shape
        })
    }

    /// Slots exist, and places without a node say so in one way. Gives the number of nodes.
    pub(super) fn check(&self, slots: usize) -> Result<usize, ImageError> {
        let mut nodes = 0_usize;
        let mut hold = |block: &BlockRecord, levels, kind| match nodes_of(block, levels, slots) {
            Some(count) => {
                nodes = nodes.saturating_add(count);
                Ok(())
            }
            None => Err(ImageError::Invalid(kind)),
        };
        for top in self.tops {
            for (&slots, &ranks) in top.slots.iter().zip(&top.ranks) {
                hold(&BlockRecord { slots, ranks }, self.top_levels(), SectionKind::TopBlocks)?;
            }
        }
        self.middles.iter().try_for_each(|block| hold(block, LEVELS, SectionKind::MiddleBlocks))?;
        self.bottoms.iter().try_for_each(|block| hold(&block.nodes, LEVELS, SectionKind::LeafBlocks))?;
        if self.bottoms.iter().any(|block| block.reserved != [0; 16]) {
            return Err(ImageError::Invalid(SectionKind::LeafBlocks));
        }
        Ok(nodes)
    }

    /// The consecutive trees of a group.
    pub(super) fn part(&self, first: usize, count: usize) -> Option<Self> {
        let run = |per_tree: u32| {
            let start = first.checked_mul(index(per_tree))?;
            Some((start, start.checked_add(count.checked_mul(index(per_tree))?)?))
        };
        let eighth = BLOCK_TREES.trailing_zeros();
        let (top_start, top_end) = (first >> eighth, first.checked_add(count)? >> eighth);
        let (middle_start, middle_end) = run(self.fan())?;
        let (bottom_start, bottom_end) = run(self.bottoms_per_tree())?;
        let tops = if self.blocks() > 1 { self.tops.get(top_start..top_end)? } else { &[] };
        let middles = if self.blocks() > 2 { self.middles.get(middle_start..middle_end)? } else { &[] };
        let bottoms = self.bottoms.get(bottom_start..bottom_end)?;
        Some(Self { levels: self.levels, tops, middles, bottoms })
    }

    /// The largest |leaf| of each tree, summed; `None` on overflow.
    pub(super) fn magnitude<L: Leaf32>(&self) -> Option<u64> {
        let largest = |trees: &[LeafBlockRecord]| {
            let leaves = trees.iter().flat_map(|block| block.leaves);
            leaves.map(|bits| L::from_bits(bits).magnitude()).max().unwrap_or(0)
        };
        let trees = self.bottoms.chunks_exact(index(self.bottoms_per_tree()).max(1));
        trees.map(largest).try_fold(0_u64, u64::checked_add)
    }

    /// Whether `count` trees have no node and leaves that change no sum.
    pub(super) fn are_idle<L: Leaf32>(&self, first: usize, count: usize) -> bool {
        let run = |per_tree: u32| {
            let per_tree = index(per_tree);
            (first.saturating_mul(per_tree), count.saturating_mul(per_tree))
        };
        let idle = |ranks: &[u8; 8]| *ranks == [NO_NODE; 8];
        // Whole records are skipped first: a group must not cost a look at all those before it.
        let eighth = BLOCK_TREES.trailing_zeros();
        let (records, within) = (first >> eighth, first.wrapping_sub(first >> eighth << eighth));
        let tops = self.tops.iter().skip(records).flat_map(|top| &top.ranks).skip(within).take(count);
        let (start, len) = run(self.fan());
        let middles = self.middles.iter().skip(start).take(len);
        let (start, len) = run(self.bottoms_per_tree());
        let mut bottoms = self.bottoms.iter().skip(start).take(len);
        tops.into_iter().all(idle)
            && middles.map(|block| &block.ranks).all(idle)
            && bottoms.all(|block| {
                idle(&block.nodes.ranks) && block.leaves.iter().all(|&bits| L::from_bits(bits).is_neutral())
            })
    }

    /// Sums the leaves of the trees, in tree order, onto `sum`; `None` only if the image changed after its check.
    #[inline]
    pub(super) fn walk<L: Leaf32>(&self, row: &Row, mut sum: L) -> Option<L> {
        if self.blocks() == 1 {
            for bottom in self.bottoms {
                sum = sum.plus(leaf(bottom, row));
            }
            return Some(sum);
        }
        if self.blocks() == LEVELS {
            self.walk_tops::<true, L>(row, sum)
        } else {
            self.walk_tops::<false, L>(row, sum)
        }
    }

    /// The same for trees of two blocks on the way, or of three: `MIDDLES`.
    #[inline(always)]
    fn walk_tops<const MIDDLES: bool, L: Leaf32>(&self, row: &Row, mut sum: L) -> Option<L> {
        let (fan, per_tree) = (index(self.fan()), index(self.bottoms_per_tree()));
        let missing = LEVELS.wrapping_sub(self.top_levels());
        let (mut middle, mut bottom) = (0_usize, 0_usize);
        for top in self.tops {
            for (slots, ranks) in top.slots.iter().zip(&top.ranks) {
                let mut child = descend(slots, ranks, row) >> missing;
                if MIDDLES {
                    let block = self.middles.get(middle.wrapping_add(child))?;
                    child = child.wrapping_mul(8).wrapping_add(descend(&block.slots, &block.ranks, row));
                    middle = middle.wrapping_add(fan);
                }
                sum = sum.plus(leaf(self.bottoms.get(bottom.wrapping_add(child))?, row));
                bottom = bottom.wrapping_add(per_tree);
            }
        }
        Some(sum)
    }

    /// Levels of a tree.
    pub(crate) const fn levels(&self) -> u32 {
        self.levels
    }

    /// Blocks on the way from the root to a leaf: 1, 2 or 3.
    pub(crate) const fn blocks(&self) -> u32 {
        self.levels.div_ceil(LEVELS)
    }

    /// Levels of the first block: 1, 2 or 3; what is missing below is filled up.
    pub(crate) const fn top_levels(&self) -> u32 {
        self.levels.wrapping_sub(LEVELS.wrapping_mul(self.blocks().wrapping_sub(1)))
    }

    /// Children of the first block; a tree of one block has one.
    pub(crate) const fn fan(&self) -> u32 {
        if self.blocks() == 1 { 1 } else { 1 << self.top_levels() }
    }

    /// Leaf blocks of a tree.
    pub(crate) const fn bottoms_per_tree(&self) -> u32 {
        1 << self.levels.wrapping_sub(LEVELS)
    }

    /// First blocks of the trees, eight at a time; empty for trees of one block.
    pub(crate) const fn tops(&self) -> &'image [TopBlocksRecord] {
        self.tops
    }

    /// Second blocks, `[trees, fan]`; empty unless there are three on the way.
    pub(crate) const fn middles(&self) -> &'image [BlockRecord] {
        self.middles
    }

    /// Last blocks, `[trees, bottoms_per_tree]`.
    pub(crate) const fn bottoms(&self) -> &'image [LeafBlockRecord] {
        self.bottoms
    }
}

/// Nodes of a block, all of its first `levels` levels, whose slots exist and whose other places are empty.
fn nodes_of(block: &BlockRecord, levels: u32, slots: usize) -> Option<usize> {
    let mut nodes = 0_usize;
    for (at, (&slot, &rank)) in block.slots.iter().zip(&block.ranks).enumerate() {
        if rank == NO_NODE {
            if slot != 0 {
                return None;
            }
        } else if at == 0 || at.checked_shr(levels)? > 0 || usize::from(slot) >= slots {
            return None;
        } else {
            nodes = nodes.wrapping_add(1);
        }
    }
    Some(nodes)
}

/// The child of a block that a row reaches, 0 to 7.
#[inline]
fn descend(slots: &[u8; 8], ranks: &[u8; 8], row: &Row) -> usize {
    let byte = |bytes: &[u8; 8], at: usize| bytes.get(at & 7).copied().unwrap_or(0);
    let step = |at: usize| {
        let rank = row.get(usize::from(byte(slots, at))).copied().unwrap_or(0);
        at.wrapping_mul(2).wrapping_add(usize::from(rank > byte(ranks, at)))
    };
    // No loop, which a build for size would keep.
    const { assert!(LEVELS == 3, "three steps down a block") };
    step(step(step(1))) & 7
}

#[inline]
fn leaf<L: Leaf32>(block: &LeafBlockRecord, row: &Row) -> L {
    let at = descend(&block.nodes.slots, &block.nodes.ranks, row);
    L::from_bits(block.leaves.get(at & 7).copied().unwrap_or(0))
}

#[cfg(test)]
pub(super) mod tests {
    extern crate std;
    use std::vec::Vec;

    use super::super::walk::walk_blocks;
    use super::*;
    use crate::simd::Backend;
    use crate::under_miri;

    /// Slots in use: around every size of a lookup table.
    pub(in crate::trees) const SLOTS: [u16; 11] = [1, 16, 17, 31, 32, 33, 64, 65, 128, 129, 256];

    /// xorshift64* (Vigna 2016).
    pub(in crate::trees) struct Random(pub(in crate::trees) u64);

    impl Random {
        pub(in crate::trees) fn next(&mut self) -> u64 {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
        }

        pub(in crate::trees) fn bytes<const N: usize>(&mut self) -> [u8; N] {
            core::array::from_fn(|_| self.next().to_be_bytes()[0])
        }

        pub(in crate::trees) fn slots<const N: usize>(&mut self, slots: u16) -> [u8; N] {
            core::array::from_fn(|_| ((self.next() >> 32) % u64::from(slots)) as u8)
        }
    }

    /// 64 rows at once give what each gives alone: on AVX-512, which Miri has not.
    #[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
    fn blends_alike(blocks: &Blocks<'_>, random: &mut Random) {
        use crate::simd::Tier;
        use crate::simd::avx512::{Base, blend_blocks};
        let mut columns = [[0; 256]; 256];
        columns.iter_mut().for_each(|column| *column = random.bytes());
        let row = |at: usize| -> Row { core::array::from_fn(|slot| columns[slot][at]) };
        for backend in Backend::available() {
            let Tier::Avx512(token) = backend.tier() else { continue };
            for (float, rows) in
                [24, 64, 65, 128, 129, 256].into_iter().flat_map(|rows| [(false, rows), (true, rows)])
            {
                let bits = if float { 0.5_f32.to_bits() } else { 7 };
                let sums = blend_blocks(token, blocks, &columns, rows, Base { bits, float });
                assert_eq!(sums.is_some(), blocks.levels <= 8);
                for (at, &sum) in sums.iter().flatten().enumerate().take(rows) {
                    let row = row(at);
                    let walked = if float {
                        blocks.walk(&row, 0.5_f32).map(f32::to_bits)
                    } else {
                        blocks.walk(&row, 7_i32).map(i32::cast_unsigned)
                    };
                    assert_eq!(walked, Some(sum), "{} levels, row {at} of {rows}", blocks.levels);
                }
            }
        }
    }

    #[test]
    fn every_backend_walks_blocks_alike() {
        let mut random = Random(0x5153_4D33);
        let shapes = (3..=9).flat_map(|levels| SLOTS.map(|slots| (levels, slots)));
        // Every ninth still has every number of levels, and slots for every number of tables.
        for (levels, slots) in shapes.step_by(under_miri(9, 1)) {
            let shape = Blocks { levels, tops: &[], middles: &[], bottoms: &[] };
            let trees = under_miri(8_usize, 24);
            // Any bytes are blocks; ranks at both ends are tried by rows of equal bytes.
            let mut block = || BlockRecord { slots: random.slots(slots), ranks: random.bytes() };
            let middles: Vec<BlockRecord> = (0..trees * index(shape.fan())).map(|_| block()).collect();
            let nodes: Vec<BlockRecord> =
                (0..trees * index(shape.bottoms_per_tree())).map(|_| block()).collect();
            let tops: Vec<TopBlocksRecord> = (0..trees / 8)
                .map(|_| TopBlocksRecord {
                    slots: core::array::from_fn(|_| random.slots(slots)),
                    ranks: core::array::from_fn(|_| random.bytes()),
                })
                .collect();
            let leaf_block = |&nodes: &BlockRecord| LeafBlockRecord {
                nodes,
                leaves: core::array::from_fn(|_| (random.next() >> 40) as u32 | 0x3F00_0000),
                reserved: [0; 16],
            };
            let bottoms: Vec<LeafBlockRecord> = nodes.iter().map(leaf_block).collect();
            let blocks = Blocks {
                tops: if shape.blocks() > 1 { &tops } else { &[] },
                middles: if shape.blocks() > 2 { &middles } else { &[] },
                bottoms: &bottoms,
                ..shape
            };
            #[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
            blends_alike(&blocks, &mut random);
            let rows = [[0; 256], [255; 256]].into_iter().chain((0..20).map(|_| random.bytes()));
            // Miri: the row that goes right wherever one can, up to the last block or leaf, and any other.
            for row in rows.skip(under_miri(1, 0)).take(under_miri(2, 22)).collect::<Vec<Row>>() {
                let (integers, floats) = (blocks.walk(&row, 7_i32), blocks.walk(&row, 0.5_f32));
                for backend in Backend::available() {
                    let name = backend.name();
                    let got = walk_blocks(&blocks, usize::from(slots), &row, 7_i32, backend);
                    assert_eq!(got, integers, "{levels} levels, {slots} slots on {name}");
                    let got = walk_blocks(&blocks, usize::from(slots), &row, 0.5_f32, backend);
                    assert_eq!(got.map(f32::to_bits), floats.map(f32::to_bits), "{levels} levels on {name}");
                }
            }
        }
    }
}
