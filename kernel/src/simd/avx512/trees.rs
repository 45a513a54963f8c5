//! Tree walks: as with AVX2, but ranks are looked up by byte permutes and comparisons give masks. Blocks and trees of 32
//! leaves stay in 256 bits: putting 512 together costs more than it saves.
#![allow(unsafe_code, reason = "the calls into code compiled for AVX-512")]

use core::arch::x86_64::{
    __m128i, __m256i, __m512i, _mm256_cmpgt_epu8_mask, _mm256_permutex2var_epi8, _mm256_permutexvar_epi8,
    _mm256_set_m128i, _mm256_unpackhi_epi64, _mm256_unpacklo_epi64, _mm512_bsrli_epi128,
    _mm512_castsi256_si512, _mm512_castsi512_si256, _mm512_cmpge_epu8_mask, _mm512_cmpgt_epu8_mask,
    _mm512_extracti64x4_epi64, _mm512_mask_blend_epi8, _mm512_maskz_permutexvar_epi8, _mm512_maskz_sub_epi8,
    _mm512_max_epu8, _mm512_movepi8_mask, _mm512_permutex2var_epi8, _mm512_permutexvar_epi8,
    _mm512_set1_epi8,
};

use bytemuck::must_cast;

use crate::image::records::{BlockRecord, MaskNodesRecord, TopBlocksRecord};
use crate::simd::Avx512;
use crate::simd::blocks::walk;
use crate::simd::masks::{from_end, walk as walk_masks};
use crate::trees::{Blocks, Leaf, Leaf32, Masks, Row};

/// Sums the leaves of the trees, in tree order, onto `sum`; `slots` are in use.
pub(crate) fn blocks<L: Leaf32>(_: Avx512, trees: &Blocks<'_>, slots: usize, row: &Row, sum: L) -> L {
    // SAFETY: the token proves the features the function is compiled for.
    unsafe { blocks_by_slots(trees, slots, row, sum) }
}

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt,avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi")]
fn blocks_by_slots<L: Leaf32>(trees: &Blocks<'_>, slots: usize, row: &Row, sum: L) -> L {
    match slots {
        0..=32 => blocks_of::<L, 32>(trees, row, sum),
        33..=64 => blocks_of::<L, 64>(trees, row, sum),
        65..=128 => blocks_of::<L, 128>(trees, row, sum),
        _ => blocks_of::<L, 256>(trees, row, sum),
    }
}

/// Sums one of each tree's leaves, in tree order, onto `sum`; `slots` are in use.
pub(crate) fn masks<L: Leaf>(
    _: Avx512,
    trees: &Masks<'_>,
    leaves: &[L],
    slots: usize,
    row: &Row,
    sum: L,
) -> L {
    // SAFETY: the token proves the features the function is compiled for.
    unsafe { masks_by_slots(trees, leaves, slots, row, sum) }
}

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt,avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi")]
fn masks_by_slots<L: Leaf>(trees: &Masks<'_>, leaves: &[L], slots: usize, row: &Row, sum: L) -> L {
    match (trees.leaves(), slots) {
        (32, 0..=64) => masks_of::<L, 64, 32>(trees, leaves, row, sum),
        (32, 65..=128) => masks_of::<L, 128, 32>(trees, leaves, row, sum),
        (32, _) => masks_of::<L, 256, 32>(trees, leaves, row, sum),
        (_, 0..=64) => masks_of::<L, 64, 64>(trees, leaves, row, sum),
        (_, 65..=128) => masks_of::<L, 128, 64>(trees, leaves, row, sum),
        _ => masks_of::<L, 256, 64>(trees, leaves, row, sum),
    }
}

/// A row's ranks, of which the first `SLOTS` are asked for: 32, 64, 128 or 256.
#[derive(Clone, Copy)]
struct Lookup<const SLOTS: usize>([__m512i; 4]);

impl<const SLOTS: usize> Lookup<SLOTS> {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi")]
    fn new(row: &Row) -> Self {
        Self(must_cast(*row))
    }

    /// The ranks of 64 slots.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi")]
    fn ranks(&self, slots: __m512i) -> __m512i {
        let [a, b, c, d] = self.0;
        match SLOTS {
            32 | 64 => _mm512_permutexvar_epi8(slots, a),
            128 => _mm512_permutex2var_epi8(a, slots, b),
            _ => {
                let low = _mm512_permutex2var_epi8(a, slots, b);
                let high = _mm512_permutex2var_epi8(c, slots, d);
                _mm512_mask_blend_epi8(_mm512_movepi8_mask(slots), low, high)
            }
        }
    }

    /// A bit for each of 64 nodes that sends the row right.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi")]
    fn right64(&self, slots: __m512i, ranks: __m512i) -> u64 {
        _mm512_cmpgt_epu8_mask(self.ranks(slots), ranks)
    }

    /// A bit for each of 32 nodes that sends the row right.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi")]
    fn right32(&self, slots: __m256i, ranks: __m256i) -> u32 {
        let [a, ..] = self.0;
        let low = _mm512_castsi512_si256(a);
        let row = match SLOTS {
            32 => _mm256_permutexvar_epi8(slots, low),
            64 => _mm256_permutex2var_epi8(low, slots, _mm512_extracti64x4_epi64::<1>(a)),
            _ => _mm512_castsi512_si256(self.ranks(_mm512_castsi256_si512(slots))),
        };
        _mm256_cmpgt_epu8_mask(row, ranks)
    }
}

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt,avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi")]
fn blocks_of<L: Leaf32, const SLOTS: usize>(trees: &Blocks<'_>, row: &Row, sum: L) -> L {
    let lookup = Lookup::<SLOTS>::new(row);
    let four = |blocks: [&BlockRecord; 4]| {
        let [a, b, c, d] = blocks.map(|&block| must_cast::<BlockRecord, __m128i>(block));
        let (even, odd) = (_mm256_set_m128i(c, a), _mm256_set_m128i(d, b));
        lookup.right32(_mm256_unpacklo_epi64(even, odd), _mm256_unpackhi_epi64(even, odd))
    };
    let eight = |[a, b, c, d, e, f, g, h]: [&BlockRecord; 8]| {
        u64::from(four([a, b, c, d])) | u64::from(four([e, f, g, h])) << 32
    };
    let first = |top: &TopBlocksRecord| {
        let [low_slots, high_slots]: [__m256i; 2] = must_cast(top.slots);
        let [low_ranks, high_ranks]: [__m256i; 2] = must_cast(top.ranks);
        u64::from(lookup.right32(low_slots, low_ranks))
            | u64::from(lookup.right32(high_slots, high_ranks)) << 32
    };
    walk(trees, sum, first, eight)
}

/// Byte 0 of the quarter behind, and of the one behind that; 0 where there is none.
const QUARTER_BEHIND: [u8; 64] = quarters(1);
const QUARTERS_BEHIND: [u8; 64] = quarters(2);

#[allow(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "evaluated by the compiler: what goes wrong does not compile"
)]
const fn quarters(behind: usize) -> [u8; 64] {
    let mut places = [0; 64];
    let mut at = 0;
    while at < 64 {
        places[at] = ((at / 16 + behind) % 4 * 16) as u8;
        at += 1;
    }
    places
}

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt,avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi")]
fn masks_of<L: Leaf, const SLOTS: usize, const LEAVES: u32>(
    trees: &Masks<'_>,
    leaves: &[L],
    row: &Row,
    sum: L,
) -> L {
    let lookup = Lookup::<SLOTS>::new(row);
    // Counted from the end, a node's interval starts at LEAVES − first: what is above the place of a leaf excludes it.
    let from_end: __m512i = must_cast(from_end(LEAVES));
    let places = _mm512_set1_epi8(if LEAVES == 32 { 32 } else { 64 });
    let behind = |ranks, mask, control: [u8; 64]| {
        _mm512_max_epu8(ranks, _mm512_maskz_permutexvar_epi8(mask, must_cast(control), ranks))
    };
    let excluded = |record: &MaskNodesRecord| {
        let right = lookup.right64(must_cast(record.slots), must_cast(record.ranks));
        let starts = _mm512_maskz_sub_epi8(right, places, must_cast(record.firsts));
        // The farthest start of this node and those behind it, in each quarter, then beyond.
        let starts = _mm512_max_epu8(starts, _mm512_bsrli_epi128::<1>(starts));
        let starts = _mm512_max_epu8(starts, _mm512_bsrli_epi128::<2>(starts));
        let starts = _mm512_max_epu8(starts, _mm512_bsrli_epi128::<4>(starts));
        let starts = _mm512_max_epu8(starts, _mm512_bsrli_epi128::<8>(starts));
        let starts = if LEAVES == 32 {
            behind(starts, 0x0000_FFFF_0000_FFFF, QUARTER_BEHIND)
        } else {
            let starts = behind(starts, 0x0000_FFFF_FFFF_FFFF, QUARTER_BEHIND);
            behind(starts, 0x0000_0000_FFFF_FFFF, QUARTERS_BEHIND)
        };
        _mm512_cmpge_epu8_mask(starts, from_end)
    };
    walk_masks::<L, LEAVES>(trees, leaves, sum, excluded)
}
