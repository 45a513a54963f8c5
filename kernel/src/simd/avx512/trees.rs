//! Tree walks: as with AVX2, but ranks are looked up by byte permutes and comparisons give masks. Blocks and trees of 32
//! leaves stay in 256 bits: putting 512 together costs more than it saves.
#![allow(unsafe_code, reason = "the calls into code compiled for AVX-512")]

use core::arch::x86_64::{
    __m128i, __m256i, __m512i, _mm_cvtsi128_si64, _mm_extract_epi64, _mm_or_si128, _mm256_castsi256_si128,
    _mm256_cmpgt_epu8_mask, _mm256_extracti128_si256, _mm256_or_si256, _mm256_permutex2var_epi8,
    _mm256_permutexvar_epi8, _mm256_set_m128i, _mm256_unpackhi_epi64, _mm256_unpacklo_epi64,
    _mm512_castsi256_si512, _mm512_castsi512_si128, _mm512_castsi512_si256, _mm512_cmpgt_epu8_mask,
    _mm512_extracti32x4_epi32, _mm512_extracti64x4_epi64, _mm512_mask_blend_epi8, _mm512_mask_or_epi32,
    _mm512_mask_or_epi64, _mm512_maskz_mov_epi32, _mm512_maskz_mov_epi64, _mm512_movepi8_mask,
    _mm512_or_si512, _mm512_permutex2var_epi8, _mm512_permutexvar_epi8, _mm512_shuffle_i32x4,
    _mm512_unpackhi_epi32, _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};

use bytemuck::must_cast;

use crate::image::records::{BlockRecord, MaskTree32Record, MaskTree64Record, TopBlocksRecord};
use crate::num::index;
use crate::simd::Avx512;
use crate::simd::blocks::walk;
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

/// Sums one of each tree's 32 leaves, in tree order, onto `sum`; `slots` are in use.
pub(crate) fn masks32<L: Leaf>(
    _: Avx512,
    trees: &Masks<'_, MaskTree32Record>,
    leaves: &[L],
    slots: usize,
    row: &Row,
    sum: L,
) -> L {
    // SAFETY: the token proves the features the function is compiled for.
    unsafe { masks32_by_slots(trees, leaves, slots, row, sum) }
}

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt,avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi")]
fn masks32_by_slots<L: Leaf>(
    trees: &Masks<'_, MaskTree32Record>,
    leaves: &[L],
    slots: usize,
    row: &Row,
    sum: L,
) -> L {
    match slots {
        0..=32 => masks32_of::<L, 32>(trees, leaves, row, sum),
        33..=64 => masks32_of::<L, 64>(trees, leaves, row, sum),
        65..=128 => masks32_of::<L, 128>(trees, leaves, row, sum),
        _ => masks32_of::<L, 256>(trees, leaves, row, sum),
    }
}

/// Sums one of each tree's 64 leaves, in tree order, onto `sum`; `slots` are in use.
pub(crate) fn masks64<L: Leaf>(
    _: Avx512,
    trees: &Masks<'_, MaskTree64Record>,
    leaves: &[L],
    slots: usize,
    row: &Row,
    sum: L,
) -> L {
    // SAFETY: the token proves the features the function is compiled for.
    unsafe { masks64_by_slots(trees, leaves, slots, row, sum) }
}

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt,avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi")]
fn masks64_by_slots<L: Leaf>(
    trees: &Masks<'_, MaskTree64Record>,
    leaves: &[L],
    slots: usize,
    row: &Row,
    sum: L,
) -> L {
    match slots {
        0..=64 => masks64_of::<L, 64>(trees, leaves, row, sum),
        65..=128 => masks64_of::<L, 128>(trees, leaves, row, sum),
        _ => masks64_of::<L, 256>(trees, leaves, row, sum),
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
    let eight = |top: &TopBlocksRecord| {
        let [low_slots, high_slots]: [__m256i; 2] = must_cast(top.slots);
        let [low_ranks, high_ranks]: [__m256i; 2] = must_cast(top.ranks);
        u64::from(lookup.right32(low_slots, low_ranks))
            | u64::from(lookup.right32(high_slots, high_ranks)) << 32
    };
    walk(trees, sum, four, eight)
}

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt,avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi")]
fn masks32_of<L: Leaf, const SLOTS: usize>(
    trees: &Masks<'_, MaskTree32Record>,
    leaves: &[L],
    row: &Row,
    mut sum: L,
) -> L {
    let lookup = Lookup::<SLOTS>::new(row);
    let of = |tree: &MaskTree32Record| {
        let right = lookup.right32(must_cast(tree.slots), must_cast(tree.ranks));
        let [low, high]: [u16; 2] = must_cast(right);
        let [first, second]: [__m512i; 2] = must_cast(tree.masks);
        let first = _mm512_maskz_mov_epi32(low, first);
        _mm512_mask_or_epi32(first, high, first, second)
    };
    let (trees, _) = trees.trees().as_chunks::<4>();
    let (leaves, _) = leaves.as_chunks::<32>();
    let (leaves, _) = leaves.as_chunks::<4>();
    for ([a, b, c, d], leaves) in trees.iter().zip(leaves) {
        let [a, b, c, d] = [of(a), of(b), of(c), of(d)];
        // Four registers of one tree each become one of four trees.
        let ab = _mm512_or_si512(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
        let cd = _mm512_or_si512(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
        let all = _mm512_or_si512(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
        let all = _mm256_or_si256(_mm512_castsi512_si256(all), _mm512_extracti64x4_epi64::<1>(all));
        let all = _mm_or_si128(_mm256_castsi256_si128(all), _mm256_extracti128_si256::<1>(all));
        let (low, high) =
            (_mm_cvtsi128_si64(all).cast_unsigned(), _mm_extract_epi64::<1>(all).cast_unsigned());
        for (leaves, excluded) in leaves.iter().zip([low, low >> 32, high, high >> 32]) {
            // The check has proven that one of the 32 leaves is not excluded.
            let [first, ..] = *leaves;
            sum = sum.plus(leaves.get(index(excluded.trailing_ones() & 31)).copied().unwrap_or(first));
        }
    }
    sum
}

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt,avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi")]
fn masks64_of<L: Leaf, const SLOTS: usize>(
    trees: &Masks<'_, MaskTree64Record>,
    leaves: &[L],
    row: &Row,
    mut sum: L,
) -> L {
    let lookup = Lookup::<SLOTS>::new(row);
    let of = |tree: &MaskTree64Record| {
        let right = lookup.right64(must_cast(tree.slots), must_cast(tree.ranks));
        let [a, b, c, d, e, f, g, h]: [__m512i; 8] = must_cast(tree.masks);
        let [ka, kb, kc, kd, ke, kf, kg, kh] = right.to_le_bytes();
        let (even, odd) = (_mm512_maskz_mov_epi64(ka, a), _mm512_maskz_mov_epi64(kb, b));
        let (even, odd) = (_mm512_mask_or_epi64(even, kc, even, c), _mm512_mask_or_epi64(odd, kd, odd, d));
        let (even, odd) = (_mm512_mask_or_epi64(even, ke, even, e), _mm512_mask_or_epi64(odd, kf, odd, f));
        let (even, odd) = (_mm512_mask_or_epi64(even, kg, even, g), _mm512_mask_or_epi64(odd, kh, odd, h));
        _mm512_or_si512(even, odd)
    };
    let (trees, _) = trees.trees().as_chunks::<4>();
    let (leaves, _) = leaves.as_chunks::<64>();
    let (leaves, _) = leaves.as_chunks::<4>();
    for ([a, b, c, d], leaves) in trees.iter().zip(leaves) {
        let [a, b, c, d] = [of(a), of(b), of(c), of(d)];
        let ab = _mm512_or_si512(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
        let cd = _mm512_or_si512(_mm512_unpacklo_epi64(c, d), _mm512_unpackhi_epi64(c, d));
        // Quarters 0 and 1 are of the first two trees, 2 and 3 of the others.
        let all = _mm512_or_si512(
            _mm512_shuffle_i32x4::<0b10_00_10_00>(ab, cd),
            _mm512_shuffle_i32x4::<0b11_01_11_01>(ab, cd),
        );
        let all = _mm512_or_si512(all, _mm512_shuffle_i32x4::<0b10_11_00_01>(all, all));
        let (front, back) = (_mm512_castsi512_si128(all), _mm512_extracti32x4_epi32::<2>(all));
        let excluded = [
            _mm_cvtsi128_si64(front),
            _mm_extract_epi64::<1>(front),
            _mm_cvtsi128_si64(back),
            _mm_extract_epi64::<1>(back),
        ];
        for (leaves, excluded) in leaves.iter().zip(excluded) {
            // The check has proven that one of the 64 leaves is not excluded.
            let [first, ..] = *leaves;
            let at = excluded.cast_unsigned().trailing_ones() & 63;
            sum = sum.plus(leaves.get(index(at)).copied().unwrap_or(first));
        }
    }
    sum
}
