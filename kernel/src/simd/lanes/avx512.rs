//! AVX-512: one register, VNNI for the dot products.
#![allow(unsafe_code, reason = "instructions are reached by intrinsics only")]

use core::arch::x86_64::*;

use super::super::Avx512;
use super::avx2::fold_eight;
use super::{Block, Elementwise, LANES, Simd, Work, fits};

/// Does `work` with the instructions switched on.
pub(super) fn run<W: Work>(token: Avx512, work: W) -> W::Output {
    #[target_feature(
        enable = "avx2,bmi1,bmi2,lzcnt,popcnt,avx512f,avx512bw,avx512vl,avx512dq,avx512cd,avx512vbmi,avx512vnni"
    )]
    #[inline(never)]
    fn entry<W: Work>(token: Avx512, work: W) -> W::Output {
        work.run(token)
    }
    // SAFETY: the token proves that the processor has all of these.
    unsafe { entry(token, work) }
}

/// Each half's lanes made one in all of its lanes: those 4, 2 and 1 apart in turn.
macro_rules! butterfly {
    ($value:expr, $of:ident) => {{
        let value = $value;
        let apart = op!(_mm512_shuffle_f32x4::<0b10_11_00_01>(value, value));
        let four = op!($of(value, apart));
        let apart = op!(_mm512_permute_ps::<0b01_00_11_10>(four));
        let two = op!($of(four, apart));
        let apart = op!(_mm512_permute_ps::<0b10_11_00_01>(two));
        op!($of(two, apart))
    }};
}

impl Elementwise for Avx512 {
    type F = __m512;
    type I = __m512i;
    type M = __mmask16;

    #[inline(always)]
    fn splat(self, value: f32) -> Self::F {
        op!(_mm512_set1_ps(value))
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        op!(_mm512_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        op!(_mm512_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        op!(_mm512_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        op!(_mm512_div_ps(a, b))
    }
    #[inline(always)]
    fn sqrt(self, a: Self::F) -> Self::F {
        op!(_mm512_sqrt_ps(a))
    }
    #[inline(always)]
    fn abs(self, a: Self::F) -> Self::F {
        op!(_mm512_abs_ps(a))
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        op!(_mm512_max_ps(a, b))
    }
    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        op!(_mm512_min_ps(a, b))
    }
    #[inline(always)]
    fn less(self, a: Self::F, b: Self::F) -> Self::M {
        op!(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b))
    }
    #[inline(always)]
    fn unordered(self, a: Self::F, b: Self::F) -> Self::M {
        op!(_mm512_cmp_ps_mask::<_CMP_UNORD_Q>(a, b))
    }
    #[inline(always)]
    fn or(self, a: Self::M, b: Self::M) -> Self::M {
        a | b
    }
    #[inline(always)]
    fn select(self, condition: Self::M, then: Self::F, otherwise: Self::F) -> Self::F {
        op!(_mm512_mask_blend_ps(condition, otherwise, then))
    }
    #[inline(always)]
    fn splat_int(self, value: i32) -> Self::I {
        op!(_mm512_set1_epi32(value))
    }
    #[inline(always)]
    fn add_int(self, a: Self::I, b: Self::I) -> Self::I {
        op!(_mm512_add_epi32(a, b))
    }
    #[inline(always)]
    fn sub_int(self, a: Self::I, b: Self::I) -> Self::I {
        op!(_mm512_sub_epi32(a, b))
    }
    #[inline(always)]
    fn halve_int(self, a: Self::I) -> Self::I {
        op!(_mm512_srai_epi32::<1>(a))
    }
    #[inline(always)]
    fn to_exponent(self, a: Self::I) -> Self::I {
        op!(_mm512_slli_epi32::<23>(a))
    }
    #[inline(always)]
    fn float(self, a: Self::I) -> Self::F {
        op!(_mm512_cvtepi32_ps(a))
    }
    #[inline(always)]
    fn round(self, a: Self::F) -> Self::I {
        op!(_mm512_cvtps_epi32(a))
    }
    #[inline(always)]
    fn bits(self, a: Self::F) -> Self::I {
        op!(_mm512_castps_si512(a))
    }
    #[inline(always)]
    fn with_bits(self, a: Self::I) -> Self::F {
        op!(_mm512_castsi512_ps(a))
    }
}

/// The lowest `count` of sixteen lanes.
#[inline(always)]
fn lowest(count: usize) -> __mmask16 {
    match u32::try_from(count) {
        Ok(count @ ..16) => (1_u16 << count).wrapping_sub(1),
        _ => u16::MAX,
    }
}

impl Simd for Avx512 {
    // Unsigned, 128 above the digit: the unsigned side of vpdpbusd.
    type Digits = [u8; 4];
    type Terms = __m512;

    const ROWS: usize = 8;
    const BLOCKS: usize = 2;
    const BLOCKS_OF_ROW: usize = 4;
    const TILE_F32: usize = 2;

    #[inline(always)]
    fn apart<W: Work>(self, work: W) -> W::Output {
        run(self, work)
    }

    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> Self::F {
        // SAFETY: the token proves the instruction; sixteen values are read where sixteen are.
        unsafe { _mm512_loadu_ps(from.as_ptr()) }
    }
    #[inline(always)]
    fn store(self, value: Self::F, to: &mut [f32; LANES]) {
        // SAFETY: the token proves the instruction; sixteen values are written where sixteen are.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), value) }
    }
    #[inline(always)]
    fn load_tail(self, from: &[f32], fill: f32) -> Self::F {
        let (fill, mask) = (self.splat(fill), lowest(from.len()));
        // SAFETY: the token proves the instruction; only lanes of the mask are read, no more than `from` has.
        unsafe { _mm512_mask_loadu_ps(fill, mask, from.as_ptr()) }
    }
    #[inline(always)]
    fn store_tail(self, value: Self::F, to: &mut [f32]) {
        let mask = lowest(to.len());
        // SAFETY: the token proves the instruction; only lanes of the mask are written, no more than `to` has.
        unsafe { _mm512_mask_storeu_ps(to.as_mut_ptr(), mask, value) }
    }
    #[inline(always)]
    fn sum(self, value: Self::F) -> f32 {
        let low = op!(_mm512_castps512_ps256(value));
        let high = op!(_mm512_extractf32x8_ps::<1>(value));
        fold_eight!(op!(_mm256_add_ps(low, high)), _mm_add_ps)
    }
    #[inline(always)]
    fn terms(self, value: Self::F) -> Self::Terms {
        value
    }
    #[inline(always)]
    fn sums(self, values: [Self::Terms; LANES]) -> Self::F {
        /// Halves the number of registers: the lanes of `a`, then of `b`, added to those some way off.
        macro_rules! fold {
            ($values:expr => $count:literal, $shuffle:ident, $low:literal, $high:literal) => {{
                let (pairs, _) = $values.as_chunks::<2>();
                let mut folded = [self.splat(0.0); $count];
                for (to, &[a, b]) in folded.iter_mut().zip(pairs) {
                    let low = op!($shuffle::<$low>(a, b));
                    let high = op!($shuffle::<$high>(a, b));
                    *to = self.add(low, high);
                }
                folded
            }};
        }
        // 8 and 4 apart by quarters of the register, 2 and 1 apart within them; value i ends in quarter i mod 4.
        let eight = fold!(values => 8, _mm512_shuffle_f32x4, 0b01_00_01_00, 0b11_10_11_10);
        let four = fold!(eight => 4, _mm512_shuffle_f32x4, 0b10_00_10_00, 0b11_01_11_01);
        let two = fold!(four => 2, _mm512_shuffle_ps, 0b01_00_01_00, 0b11_10_11_10);
        let [one] = fold!(two => 1, _mm512_shuffle_ps, 0b10_00_10_00, 0b11_01_11_01);
        op!(_mm512_permutexvar_ps(self.by_quarters(), one))
    }
    #[inline(always)]
    fn lowest(self, value: Self::F) -> f32 {
        let low = op!(_mm512_castps512_ps256(value));
        let high = op!(_mm512_extractf32x8_ps::<1>(value));
        fold_eight!(op!(_mm256_min_ps(low, high)), _mm_min_ps)
    }
    #[inline(always)]
    fn highest(self, value: Self::F) -> f32 {
        let low = op!(_mm512_castps512_ps256(value));
        let high = op!(_mm512_extractf32x8_ps::<1>(value));
        fold_eight!(op!(_mm256_max_ps(low, high)), _mm_max_ps)
    }
    #[inline(always)]
    fn sum_of_halves(self, value: Self::F) -> Self::F {
        butterfly!(value, _mm512_add_ps)
    }
    #[inline(always)]
    fn highest_of_halves(self, value: Self::F) -> Self::F {
        butterfly!(value, _mm512_max_ps)
    }
    #[inline(always)]
    fn any(self, condition: Self::M) -> bool {
        condition != 0
    }
    #[inline(always)]
    fn digits(self, integers: [Self::I; 4]) -> [Self::Digits; LANES] {
        let [a, b, c, d] = integers;
        let low = op!(_mm512_packs_epi32(a, b));
        let high = op!(_mm512_packs_epi32(c, d));
        // Saturating: only −128 is left to be kept out. Four digits of each in every quarter.
        let bytes = op!(_mm512_packs_epi16(low, high));
        let bytes = op!(_mm512_permutexvar_epi32(self.by_quarters(), bytes));
        let (least, top) = (op!(_mm512_set1_epi8(-127)), op!(_mm512_set1_epi8(i8::MIN)));
        let kept = op!(_mm512_max_epi8(bytes, least));
        bytemuck::cast(op!(_mm512_xor_si512(kept, top)))
    }
    #[inline(always)]
    fn start(self, units: Self::F) -> Self::I {
        // Sums of up to 65 536 weights and their 128-fold are exact in both types.
        let below = self.mul(units, self.splat(-128.0));
        op!(_mm512_cvtps_epi32(below))
    }
    #[inline(always)]
    fn dots<const T: usize, const B: usize>(
        self,
        weights: &[Block],
        values: &[Self::Digits],
        groups: usize,
        start: [Self::I; B],
    ) -> [[Self::I; B]; T] {
        if !fits(weights, B, values, T, groups) {
            return [start; T];
        }
        // A few independent sums for each output keep a single row busy; a tile of rows has enough of them.
        match T.wrapping_mul(B) {
            1 => self.multiply::<T, B, 8>(weights, values, groups, start),
            2 | 4 => self.multiply::<T, B, 4>(weights, values, groups, start),
            8 => self.multiply::<T, B, 2>(weights, values, groups, start),
            _ => self.multiply::<T, B, 1>(weights, values, groups, start),
        }
    }
}

impl Avx512 {
    /// Puts the first of each quarter first, then the second, ….
    #[inline(always)]
    fn by_quarters(self) -> __m512i {
        op!(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15))
    }

    /// [`Simd::dots`] of slices that `fits` has seen, in `U` sums an output.
    #[inline(always)]
    fn multiply<const T: usize, const B: usize, const U: usize>(
        self,
        weights: &[Block],
        values: &[[u8; 4]],
        groups: usize,
        start: [__m512i; B],
    ) -> [[__m512i; B]; T] {
        let (weights, values) = (weights.as_ptr().cast::<__m512i>(), values.as_ptr().cast::<i32>());
        let mut sums = [[[self.splat_int(0); B]; T]; U];
        let whole = groups.checked_div(U).unwrap_or_default().wrapping_mul(U);
        for first in (0..whole).step_by(U.max(1)) {
            for (u, sums) in sums.iter_mut().enumerate() {
                // SAFETY: first + u < whole ≤ groups, and the caller says that `fits` has seen the slices.
                unsafe { self.step(weights, values, groups, first.wrapping_add(u), sums) };
            }
        }
        let mut total = [start; T];
        for group in whole..groups {
            // SAFETY: group < groups, and the caller says that `fits` has seen the slices.
            unsafe { self.step(weights, values, groups, group, &mut total) };
        }
        for sums in sums {
            for (total, sums) in total.as_flattened_mut().iter_mut().zip(sums.as_flattened()) {
                *total = self.add_int(*total, *sums);
            }
        }
        total
    }

    /// One group of four inputs for `T` rows and `B` blocks of outputs.
    ///
    /// # Safety
    /// `group` is less than `groups`, of which `[B, groups]` blocks lie behind `weights` and `[T, groups]` behind `values`.
    #[inline(always)]
    unsafe fn step<const T: usize, const B: usize>(
        self,
        weights: *const __m512i,
        values: *const i32,
        groups: usize,
        group: usize,
        sums: &mut [[__m512i; B]; T],
    ) {
        let mut blocks = [self.splat_int(0); B];
        for (b, block) in blocks.iter_mut().enumerate() {
            let from = weights.wrapping_add(b.wrapping_mul(groups).wrapping_add(group));
            // SAFETY: the token proves the instruction; the block is there, since b < B and group < groups.
            *block = unsafe { _mm512_loadu_si512(from) };
        }
        for (t, sums) in sums.iter_mut().enumerate() {
            let from = values.wrapping_add(t.wrapping_mul(groups).wrapping_add(group));
            // SAFETY: four digits are there, without alignment, since t < T and group < groups.
            let digits = unsafe { from.read_unaligned() };
            let digits = self.splat_int(digits);
            for (sum, block) in sums.iter_mut().zip(blocks) {
                *sum = op!(_mm512_dpbusd_epi32(*sum, digits, block));
            }
        }
    }
}
