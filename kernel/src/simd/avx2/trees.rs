//! Tree walks: 32 nodes are one byte comparison, their ranks looked up by byte shuffles.
#![allow(unsafe_code, reason = "the calls into code compiled for AVX2")]

use core::arch::x86_64::{
    __m128i, __m256i, _mm256_andnot_si256, _mm256_blendv_epi8, _mm256_broadcastb_epi8,
    _mm256_broadcastsi128_si256, _mm256_castsi256_si128, _mm256_cmpeq_epi8, _mm256_cmpgt_epi8,
    _mm256_max_epu8, _mm256_min_epu8, _mm256_movemask_epi8, _mm256_permute2x128_si256, _mm256_set_m128i,
    _mm256_set1_epi8, _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_srli_si256, _mm256_sub_epi8,
    _mm256_unpackhi_epi64, _mm256_unpacklo_epi64, _mm256_xor_si256,
};

use bytemuck::must_cast;

use crate::image::records::{BlockRecord, TopBlocksRecord};
use crate::simd::Avx2;
use crate::simd::blocks::walk;
use crate::simd::masks::{from_end, walk as walk_masks};
use crate::trees::{Blocks, Leaf, Leaf32, Masks, Row};

/// Sums the leaves of the trees, in tree order, onto `sum`; `slots` are in use.
pub(crate) fn blocks<L: Leaf32>(_: Avx2, trees: &Blocks<'_>, slots: usize, row: &Row, sum: L) -> L {
    // SAFETY: the token proves the features the function is compiled for.
    unsafe { blocks_by_slots(trees, slots, row, sum) }
}

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
fn blocks_by_slots<L: Leaf32>(trees: &Blocks<'_>, slots: usize, row: &Row, sum: L) -> L {
    match slots {
        0..=32 => blocks_of::<L, 2>(trees, row, sum),
        33..=64 => blocks_of::<L, 4>(trees, row, sum),
        65..=128 => blocks_of::<L, 8>(trees, row, sum),
        _ => blocks_of::<L, 16>(trees, row, sum),
    }
}

/// Sums one of each tree's leaves, in tree order, onto `sum`; `slots` are in use.
pub(crate) fn masks<L: Leaf>(_: Avx2, trees: &Masks<'_>, leaves: &[L], slots: usize, row: &Row, sum: L) -> L {
    // SAFETY: the token proves the features the function is compiled for.
    unsafe { masks_by_slots(trees, leaves, slots, row, sum) }
}

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
fn masks_by_slots<L: Leaf>(trees: &Masks<'_>, leaves: &[L], slots: usize, row: &Row, sum: L) -> L {
    match (trees.leaves(), slots) {
        (32, 0..=32) => masks_of::<L, 2, 32>(trees, leaves, row, sum),
        (32, 33..=64) => masks_of::<L, 4, 32>(trees, leaves, row, sum),
        (32, 65..=128) => masks_of::<L, 8, 32>(trees, leaves, row, sum),
        (32, _) => masks_of::<L, 16, 32>(trees, leaves, row, sum),
        (_, 0..=32) => masks_of::<L, 2, 64>(trees, leaves, row, sum),
        (_, 33..=64) => masks_of::<L, 4, 64>(trees, leaves, row, sum),
        (_, 65..=128) => masks_of::<L, 8, 64>(trees, leaves, row, sum),
        _ => masks_of::<L, 16, 64>(trees, leaves, row, sum),
    }
}

/// A row's ranks, sixteen to a table, each table in both halves of a register; tables that are not first of eight as
/// differences (XOR) from the one before.
#[derive(Clone, Copy)]
struct Lookup<const TABLES: usize>([__m256i; TABLES]);

impl<const TABLES: usize> Lookup<TABLES> {
    #[inline]
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
    fn new(row: &Row) -> Self {
        let (sixteens, _) = row.as_chunks::<16>();
        let mut tables = [_mm256_setzero_si256(); TABLES];
        let mut previous = [0; 16];
        for (at, (table, &ranks)) in tables.iter_mut().zip(sixteens).enumerate() {
            let base = if at % 8 == 0 { [0; 16] } else { previous };
            let difference = u128::from_le_bytes(ranks) ^ u128::from_le_bytes(base);
            *table = _mm256_broadcastsi128_si256(must_cast::<[u8; 16], __m128i>(difference.to_le_bytes()));
            previous = ranks;
        }
        Self(tables)
    }

    /// The ranks of 32 slots.
    ///
    /// A shuffle gives 0 where the top bit is set, else the entry of the low four bits. Less 16 at every table, a slot below
    /// 128 is negative from the table behind its own on: the differences up to there leave the entry of its own.
    #[inline]
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
    fn ranks(&self, slots: __m256i) -> __m256i {
        let (eights, rest) = self.0.as_chunks::<8>();
        match eights {
            [low, high] => {
                let upper = _mm256_xor_si256(slots, _mm256_set1_epi8(-128));
                _mm256_blendv_epi8(below_128(low, slots), below_128(high, upper), slots)
            }
            [tables] => below_128(tables, slots),
            _ => below_128(rest, slots),
        }
    }

    /// All ones for each node that sends the row left.
    #[inline]
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
    fn left(&self, slots: __m256i, ranks: __m256i) -> __m256i {
        let row = self.ranks(slots);
        _mm256_cmpeq_epi8(_mm256_min_epu8(row, ranks), row)
    }

    /// A bit for each node that sends the row right.
    #[inline]
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
    fn right(&self, slots: __m256i, ranks: __m256i) -> u32 {
        !_mm256_movemask_epi8(self.left(slots, ranks)).cast_unsigned()
    }
}

/// The entries of up to eight tables for slots below 128; for others anything.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
fn below_128(tables: &[__m256i], slots: __m256i) -> __m256i {
    let mut ranks = _mm256_setzero_si256();
    let mut place = slots;
    for &table in tables {
        ranks = _mm256_xor_si256(ranks, _mm256_shuffle_epi8(table, place));
        place = _mm256_sub_epi8(place, _mm256_set1_epi8(16));
    }
    ranks
}

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
fn blocks_of<L: Leaf32, const TABLES: usize>(trees: &Blocks<'_>, row: &Row, sum: L) -> L {
    let lookup = Lookup::<TABLES>::new(row);
    let four = |blocks: [&BlockRecord; 4]| {
        let [a, b, c, d] = blocks.map(|&block| must_cast::<BlockRecord, __m128i>(block));
        let (even, odd) = (_mm256_set_m128i(c, a), _mm256_set_m128i(d, b));
        lookup.right(_mm256_unpacklo_epi64(even, odd), _mm256_unpackhi_epi64(even, odd))
    };
    let eight = |[a, b, c, d, e, f, g, h]: [&BlockRecord; 8]| {
        u64::from(four([a, b, c, d])) | u64::from(four([e, f, g, h])) << 32
    };
    let first = |top: &TopBlocksRecord| {
        let [low_slots, high_slots]: [__m256i; 2] = must_cast(top.slots);
        let [low_ranks, high_ranks]: [__m256i; 2] = must_cast(top.ranks);
        u64::from(lookup.right(low_slots, low_ranks)) | u64::from(lookup.right(high_slots, high_ranks)) << 32
    };
    walk(trees, sum, first, eight)
}

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
fn masks_of<L: Leaf, const TABLES: usize, const LEAVES: u32>(
    trees: &Masks<'_>,
    leaves: &[L],
    row: &Row,
    sum: L,
) -> L {
    let lookup = Lookup::<TABLES>::new(row);
    let places = _mm256_set1_epi8(if LEAVES == 32 { 32 } else { 64 });
    // Counted from the end, a node's interval starts at LEAVES − first: what is above the place of a leaf excludes it.
    let [low_end, high_end] = must_cast::<[u8; 64], [__m256i; 2]>(from_end(LEAVES));
    let half = |slots: __m256i, ranks: __m256i, firsts: __m256i| {
        let starts = _mm256_andnot_si256(lookup.left(slots, ranks), _mm256_sub_epi8(places, firsts));
        farthest(starts)
    };
    // No byte is above 64: signed comparisons will do.
    let excluded =
        |starts: __m256i, end: __m256i| !_mm256_movemask_epi8(_mm256_cmpgt_epi8(end, starts)).cast_unsigned();
    walk_masks::<L, LEAVES>(trees, leaves, sum, |record| {
        let [low_slots, high_slots]: [__m256i; 2] = must_cast(record.slots);
        let [low_ranks, high_ranks]: [__m256i; 2] = must_cast(record.ranks);
        let [low_firsts, high_firsts]: [__m256i; 2] = must_cast(record.firsts);
        let mut low = half(low_slots, low_ranks, low_firsts);
        let high = half(high_slots, high_ranks, high_firsts);
        if LEAVES == 64 {
            low = _mm256_max_epu8(low, _mm256_broadcastb_epi8(_mm256_castsi256_si128(high)));
        }
        u64::from(excluded(low, low_end)) | u64::from(excluded(high, high_end)) << 32
    })
}

/// The largest of each byte and those behind it.
#[inline]
#[target_feature(enable = "avx2")]
fn farthest(bytes: __m256i) -> __m256i {
    let bytes = _mm256_max_epu8(bytes, _mm256_srli_si256::<1>(bytes));
    let bytes = _mm256_max_epu8(bytes, _mm256_srli_si256::<2>(bytes));
    let bytes = _mm256_max_epu8(bytes, _mm256_srli_si256::<4>(bytes));
    let bytes = _mm256_max_epu8(bytes, _mm256_srli_si256::<8>(bytes));
    // The upper half behind the lower one, nothing behind the upper one; of it the first byte.
    let behind = _mm256_permute2x128_si256::<0x81>(bytes, bytes);
    _mm256_max_epu8(bytes, _mm256_shuffle_epi8(behind, _mm256_setzero_si256()))
}
