//! AVX2: two registers, `vpmaddwd` on widened weights for the dot products.
#![allow(unsafe_code, reason = "instructions are reached by intrinsics only")]

use core::arch::x86_64::*;

use super::super::Avx2;
use super::{Block, Elementwise, LANES, Simd, Work, fits};

/// Does `work` with the instructions switched on.
pub(super) fn run<W: Work>(token: Avx2, work: W) -> W::Output {
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
    #[inline(never)]
    fn entry<W: Work>(token: Avx2, work: W) -> W::Output {
        work.run(token)
    }
    // SAFETY: the token proves that the processor has all of these.
    unsafe { entry(token, work) }
}

/// Eight lanes made one: those 4, 2 and 1 apart in turn.
macro_rules! fold_eight {
    ($value:expr, $of:ident) => {{
        let value = $value;
        let low = op!(_mm256_castps256_ps128(value));
        let high = op!(_mm256_extractf128_ps::<1>(value));
        let four = op!($of(low, high));
        let high = op!(_mm_movehl_ps(four, four));
        let two = op!($of(four, high));
        let high = op!(_mm_shuffle_ps::<1>(two, two));
        let one = op!($of(two, high));
        op!(_mm_cvtss_f32(one))
    }};
}
pub(super) use fold_eight;

/// Eight lanes made one in all of them: those 4, 2 and 1 apart in turn.
macro_rules! butterfly {
    ($value:expr, $of:ident) => {{
        let value = $value;
        let apart = op!(_mm256_permute2f128_ps::<0x01>(value, value));
        let four = op!($of(value, apart));
        let apart = op!(_mm256_permute_ps::<0b01_00_11_10>(four));
        let two = op!($of(four, apart));
        let apart = op!(_mm256_permute_ps::<0b10_11_00_01>(two));
        op!($of(two, apart))
    }};
}

impl Elementwise for Avx2 {
    type F = [__m256; 2];
    type I = [__m256i; 2];
    type M = [__m256; 2];

    #[inline(always)]
    fn splat(self, value: f32) -> Self::F {
        [op!(_mm256_set1_ps(value)); 2]
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        let [a0, a1] = a;
        let [b0, b1] = b;
        [op!(_mm256_add_ps(a0, b0)), op!(_mm256_add_ps(a1, b1))]
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        let [a0, a1] = a;
        let [b0, b1] = b;
        [op!(_mm256_sub_ps(a0, b0)), op!(_mm256_sub_ps(a1, b1))]
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        let [a0, a1] = a;
        let [b0, b1] = b;
        [op!(_mm256_mul_ps(a0, b0)), op!(_mm256_mul_ps(a1, b1))]
    }
    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        let [a0, a1] = a;
        let [b0, b1] = b;
        [op!(_mm256_div_ps(a0, b0)), op!(_mm256_div_ps(a1, b1))]
    }
    #[inline(always)]
    fn sqrt(self, a: Self::F) -> Self::F {
        let [a0, a1] = a;
        [op!(_mm256_sqrt_ps(a0)), op!(_mm256_sqrt_ps(a1))]
    }
    #[inline(always)]
    fn abs(self, a: Self::F) -> Self::F {
        let sign = op!(_mm256_set1_ps(-0.0));
        let [a0, a1] = a;
        [op!(_mm256_andnot_ps(sign, a0)), op!(_mm256_andnot_ps(sign, a1))]
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        let [a0, a1] = a;
        let [b0, b1] = b;
        [op!(_mm256_max_ps(a0, b0)), op!(_mm256_max_ps(a1, b1))]
    }
    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        let [a0, a1] = a;
        let [b0, b1] = b;
        [op!(_mm256_min_ps(a0, b0)), op!(_mm256_min_ps(a1, b1))]
    }
    #[inline(always)]
    fn less(self, a: Self::F, b: Self::F) -> Self::M {
        let [a0, a1] = a;
        let [b0, b1] = b;
        [op!(_mm256_cmp_ps::<_CMP_LT_OQ>(a0, b0)), op!(_mm256_cmp_ps::<_CMP_LT_OQ>(a1, b1))]
    }
    #[inline(always)]
    fn unordered(self, a: Self::F, b: Self::F) -> Self::M {
        let [a0, a1] = a;
        let [b0, b1] = b;
        [op!(_mm256_cmp_ps::<_CMP_UNORD_Q>(a0, b0)), op!(_mm256_cmp_ps::<_CMP_UNORD_Q>(a1, b1))]
    }
    #[inline(always)]
    fn or(self, a: Self::M, b: Self::M) -> Self::M {
        let [a0, a1] = a;
        let [b0, b1] = b;
        [op!(_mm256_or_ps(a0, b0)), op!(_mm256_or_ps(a1, b1))]
    }
    #[inline(always)]
    fn select(self, condition: Self::M, then: Self::F, otherwise: Self::F) -> Self::F {
        let [condition0, condition1] = condition;
        let [then0, then1] = then;
        let [otherwise0, otherwise1] = otherwise;
        [
            op!(_mm256_blendv_ps(otherwise0, then0, condition0)),
            op!(_mm256_blendv_ps(otherwise1, then1, condition1)),
        ]
    }
    #[inline(always)]
    fn splat_int(self, value: i32) -> Self::I {
        [op!(_mm256_set1_epi32(value)); 2]
    }
    #[inline(always)]
    fn add_int(self, a: Self::I, b: Self::I) -> Self::I {
        let [a0, a1] = a;
        let [b0, b1] = b;
        [op!(_mm256_add_epi32(a0, b0)), op!(_mm256_add_epi32(a1, b1))]
    }
    #[inline(always)]
    fn sub_int(self, a: Self::I, b: Self::I) -> Self::I {
        let [a0, a1] = a;
        let [b0, b1] = b;
        [op!(_mm256_sub_epi32(a0, b0)), op!(_mm256_sub_epi32(a1, b1))]
    }
    #[inline(always)]
    fn halve_int(self, a: Self::I) -> Self::I {
        let [a0, a1] = a;
        [op!(_mm256_srai_epi32::<1>(a0)), op!(_mm256_srai_epi32::<1>(a1))]
    }
    #[inline(always)]
    fn to_exponent(self, a: Self::I) -> Self::I {
        let [a0, a1] = a;
        [op!(_mm256_slli_epi32::<23>(a0)), op!(_mm256_slli_epi32::<23>(a1))]
    }
    #[inline(always)]
    fn float(self, a: Self::I) -> Self::F {
        let [a0, a1] = a;
        [op!(_mm256_cvtepi32_ps(a0)), op!(_mm256_cvtepi32_ps(a1))]
    }
    #[inline(always)]
    fn round(self, a: Self::F) -> Self::I {
        let [a0, a1] = a;
        [op!(_mm256_cvtps_epi32(a0)), op!(_mm256_cvtps_epi32(a1))]
    }
    #[inline(always)]
    fn bits(self, a: Self::F) -> Self::I {
        let [a0, a1] = a;
        [op!(_mm256_castps_si256(a0)), op!(_mm256_castps_si256(a1))]
    }
    #[inline(always)]
    fn with_bits(self, a: Self::I) -> Self::F {
        let [a0, a1] = a;
        [op!(_mm256_castsi256_ps(a0)), op!(_mm256_castsi256_ps(a1))]
    }
}

impl Simd for Avx2 {
    type Digits = [i16; 4];
    type Terms = __m256;

    const ROWS: usize = 4;
    const BLOCKS: usize = 1;
    const BLOCKS_OF_ROW: usize = 1;
    const TILE_F32: usize = 1;

    #[inline(always)]
    fn apart<W: Work>(self, work: W) -> W::Output {
        run(self, work)
    }

    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> Self::F {
        let from = from.as_ptr();
        // SAFETY: the token proves the instruction; eight values are read where sixteen are.
        let low = unsafe { _mm256_loadu_ps(from) };
        let from = from.wrapping_add(8);
        // SAFETY: as before, the other eight.
        let high = unsafe { _mm256_loadu_ps(from) };
        [low, high]
    }
    #[inline(always)]
    fn store(self, value: Self::F, to: &mut [f32; LANES]) {
        let ([low, high], to) = (value, to.as_mut_ptr());
        // SAFETY: the token proves the instruction; eight values are written where sixteen are.
        unsafe { _mm256_storeu_ps(to, low) };
        let to = to.wrapping_add(8);
        // SAFETY: as before, the other eight.
        unsafe { _mm256_storeu_ps(to, high) };
    }
    #[inline(always)]
    fn sum(self, value: Self::F) -> f32 {
        let [low, high] = value;
        fold_eight!(op!(_mm256_add_ps(low, high)), _mm_add_ps)
    }
    #[inline(always)]
    fn lowest(self, value: Self::F) -> f32 {
        let [low, high] = value;
        fold_eight!(op!(_mm256_min_ps(low, high)), _mm_min_ps)
    }
    #[inline(always)]
    fn highest(self, value: Self::F) -> f32 {
        let [low, high] = value;
        fold_eight!(op!(_mm256_max_ps(low, high)), _mm_max_ps)
    }
    #[inline(always)]
    fn terms(self, value: Self::F) -> Self::Terms {
        let [low, high] = value;
        op!(_mm256_add_ps(low, high))
    }
    #[inline(always)]
    fn sums(self, values: [Self::Terms; LANES]) -> Self::F {
        /// Halves the number of registers: the lanes of `a`, then of `b`, added to those some way off.
        macro_rules! fold {
            ($values:expr => $count:literal, $shuffle:ident, $low:literal, $high:literal) => {{
                let (pairs, _) = $values.as_chunks::<2>();
                let mut folded = [op!(_mm256_setzero_ps()); $count];
                for (to, &[a, b]) in folded.iter_mut().zip(pairs) {
                    let low = op!($shuffle::<$low>(a, b));
                    let high = op!($shuffle::<$high>(a, b));
                    *to = op!(_mm256_add_ps(low, high));
                }
                folded
            }};
        }
        // 4 apart by halves of the register, 2 and 1 apart within them; value i ends in half i mod 2.
        let eight = fold!(values => 8, _mm256_permute2f128_ps, 0x20, 0x31);
        let four = fold!(eight => 4, _mm256_shuffle_ps, 0b01_00_01_00, 0b11_10_11_10);
        let two = fold!(four => 2, _mm256_shuffle_ps, 0b10_00_10_00, 0b11_01_11_01);
        let order = op!(_mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
        let [a, b] = two;
        [op!(_mm256_permutevar8x32_ps(a, order)), op!(_mm256_permutevar8x32_ps(b, order))]
    }
    #[inline(always)]
    fn sum_of_halves(self, value: Self::F) -> Self::F {
        let [a, b] = value;
        [butterfly!(a, _mm256_add_ps), butterfly!(b, _mm256_add_ps)]
    }
    #[inline(always)]
    fn highest_of_halves(self, value: Self::F) -> Self::F {
        let [a, b] = value;
        [butterfly!(a, _mm256_max_ps), butterfly!(b, _mm256_max_ps)]
    }
    #[inline(always)]
    fn any(self, condition: Self::M) -> bool {
        let [low, high] = condition;
        let either = op!(_mm256_or_ps(low, high));
        op!(_mm256_movemask_ps(either)) != 0
    }
    #[inline(always)]
    fn digits(self, integers: [Self::I; 4]) -> [Self::Digits; LANES] {
        let (least, most) = (op!(_mm256_set1_epi16(-127)), op!(_mm256_set1_epi16(127)));
        let mut kept = [least; 4];
        for (to, [low, high]) in kept.iter_mut().zip(integers) {
            // Packed within each half register: the middle quarters are then exchanged.
            let packed = op!(_mm256_packs_epi32(low, high));
            let packed = op!(_mm256_permute4x64_epi64::<0b11_01_10_00>(packed));
            let packed = op!(_mm256_max_epi16(packed, least));
            *to = op!(_mm256_min_epi16(packed, most));
        }
        bytemuck::cast(kept)
    }
    #[inline(always)]
    fn start(self, _units: Self::F) -> Self::I {
        self.splat_int(0)
    }
    #[inline(always)]
    fn dots<const T: usize, const B: usize>(
        self,
        weights: &[Block],
        values: &[Self::Digits],
        groups: usize,
        start: [Self::I; B],
    ) -> [[Self::I; B]; T] {
        let mut dots = [start; T];
        if !fits(weights, B, values, T, groups) {
            return dots;
        }
        let (weights, values) = (weights.as_ptr().cast::<__m128i>(), values.as_ptr().cast::<i64>());
        for b in 0..B {
            let block = weights.wrapping_add(b.wrapping_mul(groups).wrapping_mul(4));
            // One row, also of two digits: the whole line at once, as fast as weights arrive. More: eight outputs, to stay within
            // 16 registers.
            if T <= 2 {
                let sums = multiply::<T, 4>(block, values, groups);
                for (row, [first, second, third, fourth]) in dots.iter_mut().zip(sums) {
                    if let Some(to) = row.get_mut(b) {
                        *to = [join(first, second), join(third, fourth)];
                    }
                }
            } else {
                for half in 0..2_usize {
                    let block = block.wrapping_add(half.wrapping_mul(2));
                    let sums = multiply::<T, 2>(block, values, groups);
                    for (row, [first, second]) in dots.iter_mut().zip(sums) {
                        if let Some(to) = row.get_mut(b).and_then(|to| to.get_mut(half)) {
                            *to = join(first, second);
                        }
                    }
                }
            }
        }
        dots
    }
}

/// Sums of `T` rows for `4 · V` outputs of each block, two for each output. For callers that hold a token and have seen by `fits`
/// that `groups` blocks lie behind `weights`' one and `T · groups` groups of digits behind `values`.
#[inline(always)]
fn multiply<const T: usize, const V: usize>(
    weights: *const __m128i,
    values: *const i64,
    groups: usize,
) -> [[__m256i; V]; T] {
    let mut sums = [[op!(_mm256_setzero_si256()); V]; T];
    let mut group = 0_usize;
    while groups.wrapping_sub(group) >= 2 {
        // SAFETY: both groups are less than `groups`, and the caller has seen the slices.
        unsafe { step(weights, values, groups, group, &mut sums) };
        // SAFETY: as before.
        unsafe { step(weights, values, groups, group.wrapping_add(1), &mut sums) };
        group = group.wrapping_add(2);
    }
    if group < groups {
        // SAFETY: as before.
        unsafe { step(weights, values, groups, group, &mut sums) };
    }
    sums
}

/// One group of four inputs.
///
/// # Safety
/// The processor has AVX2; `group` is less than `groups`, blocks of which lie behind `weights`' one and `T` rows of which behind
/// `values`.
#[inline(always)]
unsafe fn step<const T: usize, const V: usize>(
    weights: *const __m128i,
    values: *const i64,
    groups: usize,
    group: usize,
    sums: &mut [[__m256i; V]; T],
) {
    let mut wide = [op!(_mm256_setzero_si256()); V];
    for (v, wide) in wide.iter_mut().enumerate() {
        let from = weights.wrapping_add(group.wrapping_mul(4).wrapping_add(v));
        // SAFETY: a quarter of a block, sixteen weights, that the caller has seen.
        let narrow = unsafe { _mm_loadu_si128(from) };
        *wide = op!(_mm256_cvtepi8_epi16(narrow));
    }
    for (t, sums) in sums.iter_mut().enumerate() {
        let from = values.wrapping_add(t.wrapping_mul(groups).wrapping_add(group));
        // SAFETY: t < T and group < groups: one of the groups that the caller has seen, without alignment.
        let digits = unsafe { from.read_unaligned() };
        let digits = op!(_mm256_set1_epi64x(digits));
        for (sum, wide) in sums.iter_mut().zip(wide) {
            // Pairs of products of ±127 values stay inside 32 bits.
            let products = op!(_mm256_madd_epi16(wide, digits));
            *sum = op!(_mm256_add_epi32(*sum, products));
        }
    }
}

/// The two sums of each of eight outputs added up, in output order.
#[inline(always)]
fn join(first: __m256i, second: __m256i) -> __m256i {
    let joined = op!(_mm256_hadd_epi32(first, second));
    op!(_mm256_permute4x64_epi64::<0b11_01_10_00>(joined))
}
