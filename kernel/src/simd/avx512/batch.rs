//! Many rows at a time: a slot's ranks of 64 rows are one register, so every node is asked for all of them at once, and the
//! leaf each row reaches is found without a path. No address depends on the data.
//!
//! 2^levels comparisons a tree: below the walks up to 256 leaves, above them beyond.
#![allow(unsafe_code, reason = "pointer loads and stores, and the calls into code compiled for AVX-512")]

use core::arch::x86_64::{
    __m256i, __m512i, _mm256_loadu_si256, _mm256_setzero_si256, _mm512_add_epi8, _mm512_add_epi32,
    _mm512_add_ps, _mm512_castps_si512, _mm512_castsi256_si512, _mm512_castsi512_ps, _mm512_castsi512_si128,
    _mm512_cmpgt_epu8_mask, _mm512_cvtepu8_epi32, _mm512_extracti32x4_epi32, _mm512_inserti64x4,
    _mm512_loadu_si512, _mm512_mask_add_epi8, _mm512_mask_blend_epi8, _mm512_mask_blend_epi32,
    _mm512_mask_cmple_epu8_mask, _mm512_permutex2var_epi32, _mm512_set1_epi8, _mm512_set1_epi32,
    _mm512_setzero_si512, _mm512_storeu_si512, _mm512_test_epi32_mask,
};

use crate::image::records::{BlockRecord, LeafBlockRecord, NO_NODE};
use crate::simd::Avx512;
use crate::trees::{BATCH_ROWS, Blocks, Columns, Masks};

/// Where the sum of each row starts, and how leaves are added: bits of i32 or of f32.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Base {
    pub(crate) bits: u32,
    pub(crate) float: bool,
}

/// Sums of a batch, as bits.
type Sums = [u32; BATCH_ROWS];

/// Adds the leaf each of `rows` rows reaches in each tree, in tree order, to `base`. `None` for trees of more than 8 levels.
pub(crate) fn blend_blocks(
    _: Avx512,
    trees: &Blocks<'_>,
    columns: &Columns,
    rows: usize,
    base: Base,
) -> Option<Sums> {
    // SAFETY: the token proves the features the function is compiled for.
    unsafe { blocks_by_rows(trees, columns, rows, base) }
}

/// As [`blend_blocks`], for trees with masks and their leaves.
pub(crate) fn blend_masks(
    _: Avx512,
    trees: &Masks<'_>,
    leaves: &[u32],
    columns: &Columns,
    rows: usize,
    base: Base,
) -> Sums {
    // SAFETY: the token proves the features the function is compiled for.
    unsafe { masks_by_rows(trees, leaves, columns, rows, base) }
}

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt,avx512f,avx512bw,avx512vl,avx512dq")]
fn blocks_by_rows(trees: &Blocks<'_>, columns: &Columns, rows: usize, base: Base) -> Option<Sums> {
    match rows {
        0..=64 => blocks::<1>(trees, columns, rows, base),
        65..=128 => blocks::<2>(trees, columns, rows, base),
        _ => blocks::<4>(trees, columns, rows, base),
    }
}

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt,avx512f,avx512bw,avx512vl,avx512dq")]
fn masks_by_rows(trees: &Masks<'_>, leaves: &[u32], columns: &Columns, rows: usize, base: Base) -> Sums {
    match rows {
        0..=64 => masks::<1>(trees, leaves, columns, rows, base),
        65..=128 => masks::<2>(trees, leaves, columns, rows, base),
        _ => masks::<4>(trees, leaves, columns, rows, base),
    }
}

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt,avx512f,avx512bw,avx512vl,avx512dq")]
fn blocks<const W: usize>(trees: &Blocks<'_>, columns: &Columns, rows: usize, base: Base) -> Option<Sums> {
    let batch = Batch::<W>::new(columns, rows, base);
    Some(match trees.levels() {
        3 => batch.single_blocks(trees),
        4 => batch.double_blocks::<1, 2>(trees),
        5 => batch.double_blocks::<2, 4>(trees),
        6 => batch.double_blocks::<3, 8>(trees),
        7 => batch.triple_blocks::<1, 2, 16>(trees),
        8 => batch.triple_blocks::<2, 4, 32>(trees),
        _ => return None,
    })
}

/// A byte for each of 64 · `W` rows.
type Bytes<const W: usize> = [__m512i; W];

/// Rows side by side, 64 · `W` at a time: asking more at once costs less a row.
struct Batch<'a, const W: usize> {
    columns: &'a Columns,
    rows: usize,
    sums: Sums,
    float: bool,
    /// The places reached in the last blocks of a tree, `[W, blocks]`: unrolled, its comparisons would not fit the mask registers.
    places: [[__m512i; 32]; W],
}

impl<'a, const W: usize> Batch<'a, W> {
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn new(columns: &'a Columns, rows: usize, base: Base) -> Self {
        let places = [[_mm512_setzero_si512(); 32]; W];
        Self { columns, rows, sums: [base.bits; BATCH_ROWS], float: base.float, places }
    }

    /// Where each 64 · `W` rows start.
    fn parts(&self) -> impl Iterator<Item = usize> + use<W> {
        (0..self.rows).step_by(W.wrapping_mul(64))
    }

    /// Trees of one block.
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt,avx512f,avx512bw,avx512vl,avx512dq")]
    fn single_blocks(mut self, trees: &Blocks<'_>) -> Sums {
        for bottom in trees.bottoms() {
            let bottoms = core::array::from_ref(bottom);
            let leaves = registers::<1, 2>(bottoms);
            self.add_tree(bottoms, &leaves, |_, places| get(places, 0));
        }
        self.sums
    }

    /// Trees of a first block of `TOP` levels and `FAN` = 2^`TOP` blocks below.
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt,avx512f,avx512bw,avx512vl,avx512dq")]
    fn double_blocks<const TOP: u32, const FAN: usize>(mut self, trees: &Blocks<'_>) -> Sums {
        let columns = self.columns;
        let tops = trees.tops().iter().flat_map(|eight| eight.slots.iter().zip(&eight.ranks));
        let (bottoms, _) = trees.bottoms().as_chunks::<FAN>();
        for ((&slots, &ranks), bottoms) in tops.zip(bottoms) {
            let top = BlockRecord { slots, ranks };
            let leaves = registers::<FAN, 4>(bottoms);
            self.add_tree(bottoms, &leaves, |at, places| {
                let [leaf] = below::<TOP, 8, 1>(columns, &top, at, |child| [get(places, child)]);
                leaf
            });
        }
        self.sums
    }

    /// Trees of a first block of `TOP` levels, `FAN` = 2^`TOP` blocks below, and `LAST` = 8 · `FAN` below those.
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt,avx512f,avx512bw,avx512vl,avx512dq")]
    fn triple_blocks<const TOP: u32, const FAN: usize, const LAST: usize>(
        mut self,
        trees: &Blocks<'_>,
    ) -> Sums {
        let columns = self.columns;
        let tops = trees.tops().iter().flat_map(|eight| eight.slots.iter().zip(&eight.ranks));
        let (middles, _) = trees.middles().as_chunks::<FAN>();
        let (bottoms, _) = trees.bottoms().as_chunks::<LAST>();
        for (((&slots, &ranks), middles), bottoms) in tops.zip(middles).zip(bottoms) {
            let top = BlockRecord { slots, ranks };
            let leaves = registers::<LAST, 16>(bottoms);
            self.add_tree(bottoms, &leaves, |at, places| {
                let mut children = zeros::<FAN>();
                let (eights, _) = places.as_chunks::<8>();
                for ((child, middle), places) in children.iter_mut().zip(middles).zip(eights) {
                    [*child] = below::<3, 8, 1>(columns, middle, at, |child| [get(places, child)]);
                }
                let [leaf] = below::<TOP, 64, 1>(columns, &top, at, |child| [get(&children, child)]);
                leaf
            });
        }
        self.sums
    }

    /// Adds the leaf each row reaches in a tree, given its last blocks and leaves, and how the places reached in those blocks
    /// lead to the leaf of 64 rows.
    #[inline]
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt,avx512f,avx512bw,avx512vl,avx512dq")]
    fn add_tree<const N: usize>(
        &mut self,
        bottoms: &[LeafBlockRecord],
        leaves: &[__m512i; N],
        leaf: impl Fn(usize, &[__m512i; 32]) -> __m512i,
    ) {
        for at in self.parts() {
            for (child, bottom) in bottoms.iter().enumerate() {
                let reached = below::<3, 1, W>(self.columns, &bottom.nodes, at, |_| zeros());
                for (places, reached) in self.places.iter_mut().zip(reached) {
                    if let Some(place) = places.get_mut(child & 31) {
                        *place = reached;
                    }
                }
            }
            for (at, places) in (at..).step_by(64).zip(&self.places) {
                add(&mut self.sums, self.float, at, leaf(at, places), leaves);
            }
        }
    }

    /// The leaf that each row reaches among nodes from left to right: the first that no node so far excludes. A node that
    /// starts there or before excludes all up to itself.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn unexcluded(&self, slots: &[u8], ranks: &[u8], firsts: &[u8], at: usize) -> Bytes<W> {
        let mut leaves = zeros();
        let mut next = splat(1);
        for ((&slot, &rank), &first) in slots.iter().zip(ranks).zip(firsts) {
            if rank == NO_NODE {
                break;
            }
            let (rank, first) = (splat(rank), splat(first));
            for (leaf, at) in leaves.iter_mut().zip((at..).step_by(64)) {
                let goes_right = _mm512_cmpgt_epu8_mask(column(self.columns, slot, at), rank);
                let excluded = _mm512_mask_cmple_epu8_mask(goes_right, first, *leaf);
                *leaf = _mm512_mask_blend_epi8(excluded, *leaf, next);
            }
            next = _mm512_add_epi8(next, splat(1));
        }
        leaves
    }
}

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt,avx512f,avx512bw,avx512vl,avx512dq")]
fn masks<const W: usize>(
    trees: &Masks<'_>,
    leaves: &[u32],
    columns: &Columns,
    rows: usize,
    base: Base,
) -> Sums {
    let mut batch = Batch::<W>::new(columns, rows, base);
    let (leaves, _) = leaves.as_chunks::<64>();
    for (nodes, leaves) in trees.nodes().iter().zip(leaves) {
        let mut sixteens = zeros::<4>();
        for (register, leaves) in sixteens.iter_mut().zip(leaves.as_chunks().0) {
            *register = load_words(leaves);
        }
        for at in batch.parts() {
            if trees.leaves() == 64 {
                let reached = batch.unexcluded(&nodes.slots, &nodes.ranks, &nodes.firsts, at);
                for (at, leaf) in (at..).step_by(64).zip(reached) {
                    add(&mut batch.sums, base.float, at, leaf, &sixteens);
                }
            } else {
                let halves = nodes.slots.chunks(32).zip(nodes.ranks.chunks(32)).zip(nodes.firsts.chunks(32));
                for (((slots, ranks), firsts), leaves) in halves.zip(sixteens.as_chunks::<2>().0) {
                    let reached = batch.unexcluded(slots, ranks, firsts, at);
                    for (at, leaf) in (at..).step_by(64).zip(reached) {
                        add(&mut batch.sums, base.float, at, leaf, leaves);
                    }
                }
            }
        }
    }
    batch.sums
}

/// The leaf that each row reaches below the first `LEVELS` levels of a block, given the leaf in each of its children, which
/// have `LEAVES` leaves each.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn below<const LEVELS: u32, const LEAVES: u8, const W: usize>(
    columns: &Columns,
    block: &BlockRecord,
    at: usize,
    child: impl Fn(usize) -> Bytes<W>,
) -> Bytes<W> {
    let [_, s1, s2, s3, s4, s5, s6, s7] = block.slots;
    let [_, r1, r2, r3, r4, r5, r6, r7] = block.ranks;
    let (twice, four_times) = (LEAVES.wrapping_mul(2), LEAVES.wrapping_mul(4));
    let node = |slot, rank, leaves, left: Bytes<W>, right: Bytes<W>| {
        join((slot, rank, leaves), columns, at, left, right)
    };
    match LEVELS {
        1 => node(s1, r1, LEAVES, child(0), child(1)),
        2 => {
            let left = node(s2, r2, LEAVES, child(0), child(1));
            let right = node(s3, r3, LEAVES, child(2), child(3));
            node(s1, r1, twice, left, right)
        }
        _ => {
            let first = node(s4, r4, LEAVES, child(0), child(1));
            let second = node(s5, r5, LEAVES, child(2), child(3));
            let left = node(s2, r2, twice, first, second);
            let third = node(s6, r6, LEAVES, child(4), child(5));
            let fourth = node(s7, r7, LEAVES, child(6), child(7));
            let right = node(s3, r3, twice, third, fourth);
            node(s1, r1, four_times, left, right)
        }
    }
}

/// The leaf on the left of a node, or, where the slot's rank is above the node's, that on its right, behind `leaves` others.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn join<const W: usize>(
    (slot, rank, leaves): (u8, u8, u8),
    columns: &Columns,
    at: usize,
    mut left: Bytes<W>,
    right: Bytes<W>,
) -> Bytes<W> {
    let (rank, leaves) = (splat(rank), splat(leaves));
    for ((leaf, right), at) in left.iter_mut().zip(right).zip((at..).step_by(64)) {
        let goes_right = _mm512_cmpgt_epu8_mask(column(columns, slot, at), rank);
        *leaf = _mm512_mask_add_epi8(*leaf, goes_right, right, leaves);
    }
    left
}

/// The ranks in a slot of the 64 rows from `at` on.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn column(columns: &Columns, slot: u8, at: usize) -> __m512i {
    // A multiple of 64 below `BATCH_ROWS` already: here where all can see it.
    let place = usize::from(slot).wrapping_mul(BATCH_ROWS).wrapping_add(at & BATCH_ROWS.wrapping_sub(64));
    let ranks = columns.as_flattened().as_ptr().wrapping_add(place);
    // SAFETY: a byte numbers one of 256 columns of `BATCH_ROWS` bytes, and from `place` on its column has 64 of them.
    unsafe { _mm512_loadu_si512(ranks.cast()) }
}

/// Adds the leaf of each of the 64 rows from `at` on.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
fn add<const N: usize>(sums: &mut Sums, float: bool, at: usize, leaf: __m512i, leaves: &[__m512i; N]) {
    let (sums, _) = sums.as_chunks_mut::<64>();
    let Some(sums) = sums.get_mut(at >> 6) else { return };
    let (sums, _) = sums.as_chunks_mut::<16>();
    let quarters = [
        _mm512_castsi512_si128(leaf),
        _mm512_extracti32x4_epi32::<1>(leaf),
        _mm512_extracti32x4_epi32::<2>(leaf),
        _mm512_extracti32x4_epi32::<3>(leaf),
    ]
    .map(|quarter| pick(leaves, _mm512_cvtepu8_epi32(quarter)));
    let plus = |sum, leaf| {
        if float {
            _mm512_castps_si512(_mm512_add_ps(_mm512_castsi512_ps(sum), _mm512_castsi512_ps(leaf)))
        } else {
            _mm512_add_epi32(sum, leaf)
        }
    };
    for (sum, leaf) in sums.iter_mut().zip(quarters) {
        let value = plus(load_words(sum), leaf);
        // SAFETY: sixteen u32 are 64 bytes.
        unsafe { _mm512_storeu_si512(sum.as_mut_ptr().cast(), value) };
    }
}

/// Of up to 256 values, sixteen a register, those with the sixteen numbers.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
fn pick<const N: usize>(values: &[__m512i; N], numbers: __m512i) -> __m512i {
    let bit = |bit: i32| _mm512_test_epi32_mask(numbers, _mm512_set1_epi32(bit));
    let pair = |at: usize| match values.get(at..) {
        Some(&[low, high, ..]) => _mm512_permutex2var_epi32(low, numbers, high),
        _ => _mm512_setzero_si512(),
    };
    let four = |at: usize| _mm512_mask_blend_epi32(bit(32), pair(at), pair(at | 2));
    let eight = |at: usize| _mm512_mask_blend_epi32(bit(64), four(at), four(at | 4));
    match N {
        2 => pair(0),
        4 => four(0),
        _ => _mm512_mask_blend_epi32(bit(128), eight(0), eight(8)),
    }
}

/// The leaves of a tree, sixteen a register; zeros where there are no more.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn registers<const BLOCKS: usize, const N: usize>(bottoms: &[LeafBlockRecord; BLOCKS]) -> [__m512i; N] {
    let mut blocks = bottoms.iter();
    let mut eight = || match blocks.next() {
        // SAFETY: eight u32 are 32 bytes.
        Some(bottom) => unsafe { _mm256_loadu_si256(bottom.leaves.as_ptr().cast()) },
        None => _mm256_setzero_si256(),
    };
    [(); N].map(|()| {
        let low: __m256i = eight();
        _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), eight())
    })
}

#[inline]
#[target_feature(enable = "avx512f")]
fn zeros<const W: usize>() -> Bytes<W> {
    [_mm512_setzero_si512(); W]
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn splat(byte: u8) -> __m512i {
    _mm512_set1_epi8(byte.cast_signed())
}

/// One of up to 32 registers.
#[inline]
#[target_feature(enable = "avx512f")]
fn get(registers: &[__m512i], at: usize) -> __m512i {
    registers.get(at).copied().unwrap_or(_mm512_setzero_si512())
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn load_words(words: &[u32; 16]) -> __m512i {
    // SAFETY: sixteen u32 are 64 bytes.
    unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
}
