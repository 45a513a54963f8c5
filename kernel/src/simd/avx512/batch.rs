//! 64 rows at a time: a slot's ranks are one register, so every node is asked for all rows at once, and the leaf each row
//! reaches is blended from the bottom up. No address depends on the data.
//!
//! 2^levels blends a tree: below the walks up to 64 leaves, above them beyond.
#![allow(unsafe_code, reason = "pointer loads and stores, and the calls into code compiled for AVX-512")]

use core::arch::x86_64::{
    __m256i, __m512i, __mmask64, _mm256_loadu_si256, _mm256_setzero_si256, _mm512_add_epi8, _mm512_add_epi32,
    _mm512_add_ps, _mm512_castps_si512, _mm512_castsi256_si512, _mm512_castsi512_ps, _mm512_cmpgt_epu8_mask,
    _mm512_cvtepu8_epi32, _mm512_extracti32x4_epi32, _mm512_inserti64x4, _mm512_loadu_si512,
    _mm512_mask_blend_epi8, _mm512_mask_blend_epi32, _mm512_permutex2var_epi32, _mm512_set1_epi8,
    _mm512_set1_epi32, _mm512_setzero_si512, _mm512_slli_epi16, _mm512_storeu_si512, _mm512_test_epi32_mask,
};

use crate::image::records::BlockRecord;
use crate::num::index;
use crate::simd::Avx512;
use crate::trees::{BATCH_ROWS, Blocks, Columns, MaskTree};

/// Sums of 64 rows: bits of i32, or of f32 where `FLOAT`.
type Sums = [u32; BATCH_ROWS];

/// Adds the leaf each row reaches in each tree, in tree order, to `base`. `None` for trees of more than 64 leaves.
pub(crate) fn blend_blocks<const FLOAT: bool>(
    _: Avx512,
    trees: &Blocks<'_>,
    columns: &Columns,
    base: u32,
) -> Option<Sums> {
    // SAFETY: the token proves the features the function is compiled for.
    unsafe { blocks::<FLOAT>(trees, columns, base) }
}

/// As [`blend_blocks`], for trees with masks and their leaves, `[trees, T::LEAVES]`.
pub(crate) fn blend_masks<T: MaskTree, const FLOAT: bool>(
    _: Avx512,
    trees: &[T],
    leaves: &[u32],
    columns: &Columns,
    base: u32,
) -> Option<Sums> {
    // SAFETY: the token proves the features the function is compiled for.
    unsafe { masks::<T, FLOAT>(trees, leaves, columns, base) }
}

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt,avx512f,avx512bw,avx512vl,avx512dq")]
fn blocks<const FLOAT: bool>(trees: &Blocks<'_>, columns: &Columns, base: u32) -> Option<Sums> {
    let sums = Accumulator::<FLOAT>::new(base);
    let sums = match trees.levels() {
        3 => single_blocks(trees, columns, sums),
        4 => double_blocks::<1, 2, FLOAT>(trees, columns, sums),
        5 => double_blocks::<2, 4, FLOAT>(trees, columns, sums),
        6 => double_blocks::<3, 8, FLOAT>(trees, columns, sums),
        _ => return None,
    };
    Some(sums.finish())
}

/// Trees of one block.
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt,avx512f,avx512bw,avx512vl,avx512dq")]
fn single_blocks<const FLOAT: bool>(
    trees: &Blocks<'_>,
    columns: &Columns,
    mut sums: Accumulator<FLOAT>,
) -> Accumulator<FLOAT> {
    for bottom in trees.bottoms() {
        let leaves = _mm512_castsi256_si512(load_half(&bottom.leaves));
        sums.add_32(pick(decide(&bottom.nodes, columns), digits()), leaves, _mm512_setzero_si512());
    }
    sums
}

/// Trees of a first block of `TOP` levels and `FAN` = 2^`TOP` blocks below.
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt,avx512f,avx512bw,avx512vl,avx512dq")]
fn double_blocks<const TOP: u32, const FAN: usize, const FLOAT: bool>(
    trees: &Blocks<'_>,
    columns: &Columns,
    mut sums: Accumulator<FLOAT>,
) -> Accumulator<FLOAT> {
    let zero = _mm512_setzero_si512();
    let tops = trees.tops().iter().flat_map(|eight| eight.slots.iter().zip(&eight.ranks));
    let (bottoms, _) = trees.bottoms().as_chunks::<FAN>();
    for ((&slots, &ranks), bottoms) in tops.zip(bottoms) {
        // What the first block lacks below is filled up to the left: its children lie 8 / FAN apart.
        let shift = 3_u32.wrapping_sub(TOP);
        let below = |child: usize| match bottoms.get(child >> shift) {
            Some(bottom) if child >> shift << shift == child => {
                pick(decide(&bottom.nodes, columns), digits())
            }
            _ => zero,
        };
        let children = [below(0), below(1), below(2), below(3), below(4), below(5), below(6), below(7)];
        let top = first_levels::<TOP>(decide(&BlockRecord { slots, ranks }, columns));
        // Digits are below 8: nothing is shifted from one byte into the next.
        let high = _mm512_slli_epi16::<TOP>(pick(top, digits()));
        let leaf = _mm512_add_epi8(high, pick(top, children));
        let half = |bottom: usize| {
            bottoms.get(bottom).map_or(_mm256_setzero_si256(), |bottom| load_half(&bottom.leaves))
        };
        let both =
            |bottom: usize| _mm512_inserti64x4::<1>(_mm512_castsi256_si512(half(bottom)), half(bottom | 1));
        if FAN == 8 {
            sums.add_64(leaf, [both(0), both(2), both(4), both(6)]);
        } else {
            sums.add_32(leaf, both(0), both(2));
        }
    }
    sums
}

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt,avx512f,avx512bw,avx512vl,avx512dq")]
fn masks<T: MaskTree, const FLOAT: bool>(
    trees: &[T],
    leaves: &[u32],
    columns: &Columns,
    base: u32,
) -> Option<Sums> {
    let mut sums = Accumulator::<FLOAT>::new(base);
    // Leaf i stands at i, and at 64 + i what is left of the leaves of a subtree that starts with it.
    let mut runs: Runs = core::array::from_fn(|at| [u8::try_from(at).unwrap_or(0); BATCH_ROWS]);
    for (tree, leaves) in trees.iter().zip(leaves.chunks_exact(T::LEAVES)) {
        let leaf = mask_tree(tree, columns, &mut runs);
        let sixteen = |at: usize| leaves.get(at..)?.first_chunk().map(|words| load_words(words));
        if T::LEAVES == 32 {
            sums.add_32(leaf, sixteen(0)?, sixteen(16)?);
        } else {
            sums.add_64(leaf, [sixteen(0)?, sixteen(16)?, sixteen(32)?, sixteen(48)?]);
        }
    }
    Some(sums.finish())
}

type Runs = [[u8; BATCH_ROWS]; 128];

/// The leaf of each row: every node, in post-order, keeps one of the two leaves that are left of its subtrees.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt,avx512f,avx512bw,avx512vl,avx512dq")]
fn mask_tree(tree: &impl MaskTree, columns: &Columns, runs: &mut Runs) -> __m512i {
    let lowest = |mask: u64| mask & mask.wrapping_neg();
    // A leaf that no subtree starts with is a right child itself.
    let starts = tree.places().fold(0, |starts, (_, _, mask)| starts | lowest(mask));
    let mut leaf = _mm512_setzero_si512();
    for (slot, rank, mask) in tree.places().take_while(|&(_, _, mask)| mask != 0) {
        let first = lowest(mask);
        // The bit behind the run.
        let right = mask.wrapping_add(first);
        let subtree = |is: bool| u32::from(is) << 6;
        let left_at = first.trailing_zeros() | subtree(mask != first);
        let right_at = right.trailing_zeros() | subtree(starts & right != 0);
        let goes_right = above(columns, slot, rank);
        leaf = _mm512_mask_blend_epi8(goes_right, load(run(runs, left_at)), load(run(runs, right_at)));
        store(run_mut(runs, first.trailing_zeros() | 64), leaf);
    }
    leaf
}

#[inline]
fn run(runs: &Runs, at: u32) -> &[u8; BATCH_ROWS] {
    // SAFETY: 7 bits are below 128.
    unsafe { runs.get_unchecked(index(at & 127)) }
}

#[inline]
fn run_mut(runs: &mut Runs, at: u32) -> &mut [u8; BATCH_ROWS] {
    // SAFETY: 7 bits are below 128.
    unsafe { runs.get_unchecked_mut(index(at & 127)) }
}

/// Rows whose rank in a slot is above another.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn above(columns: &Columns, slot: u8, rank: u8) -> __mmask64 {
    // A byte numbers one of 256 columns.
    let column = columns.get(usize::from(slot)).map_or(_mm512_setzero_si512(), |column| load(column));
    _mm512_cmpgt_epu8_mask(column, _mm512_set1_epi8(rank.cast_signed()))
}

/// Rows that go right at each node of a block; node 1 is the root, 0 unused.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn decide(block: &BlockRecord, columns: &Columns) -> [__mmask64; 7] {
    let [_, s1, s2, s3, s4, s5, s6, s7] = block.slots;
    let [_, r1, r2, r3, r4, r5, r6, r7] = block.ranks;
    [
        above(columns, s1, r1),
        above(columns, s2, r2),
        above(columns, s3, r3),
        above(columns, s4, r4),
        above(columns, s5, r5),
        above(columns, s6, r6),
        above(columns, s7, r7),
    ]
}

/// The decisions of the first `LEVELS` levels; below them every row goes left, whatever stands there.
#[inline]
const fn first_levels<const LEVELS: u32>(right: [__mmask64; 7]) -> [__mmask64; 7] {
    let [k1, k2, k3, ..] = right;
    match LEVELS {
        1 => [k1, 0, 0, 0, 0, 0, 0],
        2 => [k1, k2, k3, 0, 0, 0, 0],
        _ => right,
    }
}

/// Of eight values the one each row reaches.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn pick(right: [__mmask64; 7], [c0, c1, c2, c3, c4, c5, c6, c7]: [__m512i; 8]) -> __m512i {
    let [k1, k2, k3, k4, k5, k6, k7] = right;
    let blend = |right, left, other| _mm512_mask_blend_epi8(right, left, other);
    let left = blend(k2, blend(k4, c0, c1), blend(k5, c2, c3));
    blend(k1, left, blend(k3, blend(k6, c4, c5), blend(k7, c6, c7)))
}

/// 0 to 7.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn digits() -> [__m512i; 8] {
    let all = |digit| _mm512_set1_epi8(digit);
    [all(0), all(1), all(2), all(3), all(4), all(5), all(6), all(7)]
}

/// Sums of 64 rows in four registers.
#[derive(Clone, Copy)]
struct Accumulator<const FLOAT: bool>([__m512i; 4]);

impl<const FLOAT: bool> Accumulator<FLOAT> {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn new(base: u32) -> Self {
        Self([_mm512_set1_epi32(base.cast_signed()); 4])
    }

    /// Adds one of 32 leaves to each row's sum.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq")]
    fn add_32(&mut self, leaf: __m512i, first: __m512i, second: __m512i) {
        self.add(leaf, |at| _mm512_permutex2var_epi32(first, at, second));
    }

    /// Adds one of 64 leaves to each row's sum.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq")]
    fn add_64(&mut self, leaf: __m512i, [first, second, third, fourth]: [__m512i; 4]) {
        self.add(leaf, |at| {
            let upper = _mm512_test_epi32_mask(at, _mm512_set1_epi32(32));
            let low = _mm512_permutex2var_epi32(first, at, second);
            _mm512_mask_blend_epi32(upper, low, _mm512_permutex2var_epi32(third, at, fourth))
        });
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq")]
    fn add(&mut self, leaf: __m512i, value: impl Fn(__m512i) -> __m512i) {
        let plus = |sum, value| {
            if FLOAT {
                _mm512_castps_si512(_mm512_add_ps(_mm512_castsi512_ps(sum), _mm512_castsi512_ps(value)))
            } else {
                _mm512_add_epi32(sum, value)
            }
        };
        let Self([s0, s1, s2, s3]) = *self;
        *self = Self([
            plus(s0, value(_mm512_cvtepu8_epi32(_mm512_extracti32x4_epi32::<0>(leaf)))),
            plus(s1, value(_mm512_cvtepu8_epi32(_mm512_extracti32x4_epi32::<1>(leaf)))),
            plus(s2, value(_mm512_cvtepu8_epi32(_mm512_extracti32x4_epi32::<2>(leaf)))),
            plus(s3, value(_mm512_cvtepu8_epi32(_mm512_extracti32x4_epi32::<3>(leaf)))),
        ]);
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn finish(self) -> Sums {
        let mut sums = [0; BATCH_ROWS];
        let (sixteens, _) = sums.as_chunks_mut::<16>();
        for (place, sum) in sixteens.iter_mut().zip(self.0) {
            // SAFETY: sixteen u32 are 64 bytes.
            unsafe { _mm512_storeu_si512(place.as_mut_ptr().cast(), sum) };
        }
        sums
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn load(bytes: &[u8; BATCH_ROWS]) -> __m512i {
    // SAFETY: 64 bytes.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn load_words(words: &[u32; 16]) -> __m512i {
    // SAFETY: sixteen u32 are 64 bytes.
    unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn load_half(words: &[u32; 8]) -> __m256i {
    // SAFETY: eight u32 are 32 bytes.
    unsafe { _mm256_loadu_si256(words.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn store(bytes: &mut [u8; BATCH_ROWS], value: __m512i) {
    // SAFETY: 64 bytes.
    unsafe { _mm512_storeu_si512(bytes.as_mut_ptr().cast(), value) }
}
