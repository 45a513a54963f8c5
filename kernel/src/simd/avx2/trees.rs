//! Tree walks: 32 nodes are one byte comparison, their ranks looked up by byte shuffles.
#![allow(unsafe_code, reason = "the calls into code compiled for AVX2")]

use core::arch::x86_64::{
    __m128i, __m256i, _mm_cvtsi128_si64, _mm_extract_epi64, _mm_or_si128, _mm256_andnot_si256,
    _mm256_blendv_epi8, _mm256_broadcastsi128_si256, _mm256_castsi256_si128, _mm256_cmpeq_epi8,
    _mm256_extract_epi64, _mm256_extracti128_si256, _mm256_min_epu8, _mm256_movemask_epi8, _mm256_or_si256,
    _mm256_permute2x128_si256, _mm256_permute4x64_epi64, _mm256_set_m128i, _mm256_set1_epi8,
    _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_sub_epi8, _mm256_unpackhi_epi32, _mm256_unpackhi_epi64,
    _mm256_unpacklo_epi32, _mm256_unpacklo_epi64, _mm256_xor_si256,
};

use bytemuck::must_cast;

use crate::image::records::{BlockRecord, MaskTree32Record, MaskTree64Record, TopBlocksRecord};
use crate::num::index;
use crate::simd::Avx2;
use crate::simd::blocks::walk;
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

/// Sums one of each tree's 32 leaves, in tree order, onto `sum`; `slots` are in use.
pub(crate) fn masks32<L: Leaf>(
    _: Avx2,
    trees: &Masks<'_, MaskTree32Record>,
    leaves: &[L],
    slots: usize,
    row: &Row,
    sum: L,
) -> L {
    // SAFETY: the token proves the features the function is compiled for.
    unsafe { masks32_by_slots(trees, leaves, slots, row, sum) }
}

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
fn masks32_by_slots<L: Leaf>(
    trees: &Masks<'_, MaskTree32Record>,
    leaves: &[L],
    slots: usize,
    row: &Row,
    sum: L,
) -> L {
    match slots {
        0..=32 => masks32_of::<L, 2>(trees, leaves, row, sum),
        33..=64 => masks32_of::<L, 4>(trees, leaves, row, sum),
        65..=128 => masks32_of::<L, 8>(trees, leaves, row, sum),
        _ => masks32_of::<L, 16>(trees, leaves, row, sum),
    }
}

/// Sums one of each tree's 64 leaves, in tree order, onto `sum`; `slots` are in use.
pub(crate) fn masks64<L: Leaf>(
    _: Avx2,
    trees: &Masks<'_, MaskTree64Record>,
    leaves: &[L],
    slots: usize,
    row: &Row,
    sum: L,
) -> L {
    // SAFETY: the token proves the features the function is compiled for.
    unsafe { masks64_by_slots(trees, leaves, slots, row, sum) }
}

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
fn masks64_by_slots<L: Leaf>(
    trees: &Masks<'_, MaskTree64Record>,
    leaves: &[L],
    slots: usize,
    row: &Row,
    sum: L,
) -> L {
    match slots {
        0..=32 => masks64_of::<L, 2>(trees, leaves, row, sum),
        33..=64 => masks64_of::<L, 4>(trees, leaves, row, sum),
        65..=128 => masks64_of::<L, 8>(trees, leaves, row, sum),
        _ => masks64_of::<L, 16>(trees, leaves, row, sum),
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
    let eight = |top: &TopBlocksRecord| {
        let [low_slots, high_slots]: [__m256i; 2] = must_cast(top.slots);
        let [low_ranks, high_ranks]: [__m256i; 2] = must_cast(top.ranks);
        u64::from(lookup.right(low_slots, low_ranks)) | u64::from(lookup.right(high_slots, high_ranks)) << 32
    };
    walk(trees, sum, four, eight)
}

/// Spreads bytes 8n to 8n + 7 of both halves over eight 32-bit lanes, for n = 0 and 1.
const SPREAD_32: [[u8; 32]; 2] = [spread(0, 4), spread(8, 4)];
/// Spreads bytes 4n to 4n + 3 of both halves over four 64-bit lanes, for n = 0 to 3.
const SPREAD_64: [[u8; 32]; 4] = [spread(0, 8), spread(4, 8), spread(8, 8), spread(12, 8)];

#[allow(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "evaluated by the compiler: what goes wrong does not compile"
)]
const fn spread(first: usize, width: usize) -> [u8; 32] {
    let mut control = [0; 32];
    let mut at = 0;
    while at < 32 {
        control[at] = (first + at / width) as u8;
        at += 1;
    }
    control
}

/// Both halves of a register, each doubled.
#[inline]
#[target_feature(enable = "avx2")]
fn halves(bytes: __m256i) -> [__m256i; 2] {
    [_mm256_permute4x64_epi64::<0b01_00_01_00>(bytes), _mm256_permute4x64_epi64::<0b11_10_11_10>(bytes)]
}

/// ORs the masks of nodes that do not go left, sixteen nodes of `left` at a time spread by `controls`.
#[inline]
#[target_feature(enable = "avx2")]
fn excluded<const N: usize>(
    left: __m256i,
    controls: [[u8; 32]; N],
    masks: [[__m256i; N]; 2],
    mut sum: __m256i,
) -> __m256i {
    for (half, masks) in halves(left).into_iter().zip(masks) {
        for (control, mask) in controls.into_iter().zip(masks) {
            let left = _mm256_shuffle_epi8(half, must_cast(control));
            sum = _mm256_or_si256(sum, _mm256_andnot_si256(left, mask));
        }
    }
    sum
}

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
fn masks32_of<L: Leaf, const TABLES: usize>(
    trees: &Masks<'_, MaskTree32Record>,
    leaves: &[L],
    row: &Row,
    mut sum: L,
) -> L {
    let lookup = Lookup::<TABLES>::new(row);
    let of = |tree: &MaskTree32Record| {
        let left = lookup.left(must_cast(tree.slots), must_cast(tree.ranks));
        excluded(left, SPREAD_32, must_cast(tree.masks), _mm256_setzero_si256())
    };
    let (trees, _) = trees.trees().as_chunks::<4>();
    let (leaves, _) = leaves.as_chunks::<32>();
    let (leaves, _) = leaves.as_chunks::<4>();
    for ([a, b, c, d], leaves) in trees.iter().zip(leaves) {
        let [a, b, c, d] = [of(a), of(b), of(c), of(d)];
        // Four registers of one tree each become one of four trees.
        let ab = _mm256_or_si256(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
        let cd = _mm256_or_si256(_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
        let all = _mm256_or_si256(_mm256_unpacklo_epi64(ab, cd), _mm256_unpackhi_epi64(ab, cd));
        let all = _mm_or_si128(_mm256_castsi256_si128(all), _mm256_extracti128_si256::<1>(all));
        let (low, high) =
            (_mm_cvtsi128_si64(all).cast_unsigned(), _mm_extract_epi64::<1>(all).cast_unsigned());
        for (leaves, excluded) in leaves.iter().zip([low, low >> 32, high, high >> 32]) {
            sum = sum.plus(pick32(leaves, excluded));
        }
    }
    sum
}

/// The first leaf that is not excluded; the check has proven that there is one among the 32.
#[inline]
fn pick32<L: Leaf>(leaves: &[L; 32], excluded: u64) -> L {
    let [first, ..] = *leaves;
    leaves.get(index(excluded.trailing_ones() & 31)).copied().unwrap_or(first)
}

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
fn masks64_of<L: Leaf, const TABLES: usize>(
    trees: &Masks<'_, MaskTree64Record>,
    leaves: &[L],
    row: &Row,
    mut sum: L,
) -> L {
    let lookup = Lookup::<TABLES>::new(row);
    let of = |tree: &MaskTree64Record| {
        let [low_slots, high_slots]: [__m256i; 2] = must_cast(tree.slots);
        let [low_ranks, high_ranks]: [__m256i; 2] = must_cast(tree.ranks);
        let [low_masks, high_masks]: [[[__m256i; 4]; 2]; 2] = must_cast(tree.masks);
        let low = lookup.left(low_slots, low_ranks);
        let high = lookup.left(high_slots, high_ranks);
        let low = excluded(low, SPREAD_64, low_masks, _mm256_setzero_si256());
        excluded(high, SPREAD_64, high_masks, low)
    };
    let (trees, _) = trees.trees().as_chunks::<4>();
    let (leaves, _) = leaves.as_chunks::<64>();
    let (leaves, _) = leaves.as_chunks::<4>();
    for ([a, b, c, d], leaves) in trees.iter().zip(leaves) {
        let [a, b, c, d] = [of(a), of(b), of(c), of(d)];
        let ab = _mm256_or_si256(_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
        let cd = _mm256_or_si256(_mm256_unpacklo_epi64(c, d), _mm256_unpackhi_epi64(c, d));
        let all = _mm256_or_si256(
            _mm256_permute2x128_si256::<0x20>(ab, cd),
            _mm256_permute2x128_si256::<0x31>(ab, cd),
        );
        let excluded = [
            _mm256_extract_epi64::<0>(all),
            _mm256_extract_epi64::<1>(all),
            _mm256_extract_epi64::<2>(all),
            _mm256_extract_epi64::<3>(all),
        ];
        for (leaves, excluded) in leaves.iter().zip(excluded) {
            sum = sum.plus(pick64(leaves, excluded.cast_unsigned()));
        }
    }
    sum
}

/// As [`pick32`], among 64.
#[inline]
fn pick64<L: Leaf>(leaves: &[L; 64], excluded: u64) -> L {
    let [first, ..] = *leaves;
    leaves.get(index(excluded.trailing_ones() & 63)).copied().unwrap_or(first)
}
