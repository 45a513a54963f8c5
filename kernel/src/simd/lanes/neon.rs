//! NEON: four registers, `vmull_s8` and `vpadalq_s16` for the dot products.
#![allow(unsafe_code, reason = "instructions are reached by intrinsics only")]

use core::arch::aarch64::*;

use super::super::Neon;
use super::{Block, Elementwise, LANES, Simd, Work, fits};

/// Does `work` with the instructions switched on.
pub(super) fn run<W: Work>(token: Neon, work: W) -> W::Output {
    #[target_feature(enable = "neon")]
    fn entry<W: Work>(token: Neon, work: W) -> W::Output {
        work.run(token)
    }
    // SAFETY: the token proves that the processor has NEON.
    unsafe { entry(token, work) }
}

#[inline(always)]
fn each<A: Copy, R>(a: [A; 4], b: [A; 4], of: impl Fn(A, A) -> R) -> [R; 4] {
    let ([a0, a1, a2, a3], [b0, b1, b2, b3]) = (a, b);
    [of(a0, b0), of(a1, b1), of(a2, b2), of(a3, b3)]
}

impl Elementwise for Neon {
    type F = [float32x4_t; 4];
    type I = [int32x4_t; 4];
    type M = [uint32x4_t; 4];

    #[inline(always)]
    fn splat(self, value: f32) -> Self::F {
        [op!(vdupq_n_f32(value)); 4]
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        each(a, b, |a, b| op!(vaddq_f32(a, b)))
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        each(a, b, |a, b| op!(vsubq_f32(a, b)))
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        each(a, b, |a, b| op!(vmulq_f32(a, b)))
    }
    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        each(a, b, |a, b| op!(vdivq_f32(a, b)))
    }
    #[inline(always)]
    fn sqrt(self, a: Self::F) -> Self::F {
        a.map(|a| op!(vsqrtq_f32(a)))
    }
    #[inline(always)]
    fn abs(self, a: Self::F) -> Self::F {
        a.map(|a| op!(vabsq_f32(a)))
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        self.select(self.less(b, a), a, b)
    }
    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        self.select(self.less(a, b), a, b)
    }
    #[inline(always)]
    fn less(self, a: Self::F, b: Self::F) -> Self::M {
        each(a, b, |a, b| op!(vcltq_f32(a, b)))
    }
    #[inline(always)]
    fn unordered(self, a: Self::F, b: Self::F) -> Self::M {
        each(a, b, |a, b| {
            let (a, b) = (op!(vceqq_f32(a, a)), op!(vceqq_f32(b, b)));
            let numbers = op!(vandq_u32(a, b));
            op!(vmvnq_u32(numbers))
        })
    }
    #[inline(always)]
    fn or(self, a: Self::M, b: Self::M) -> Self::M {
        each(a, b, |a, b| op!(vorrq_u32(a, b)))
    }
    #[inline(always)]
    fn select(self, condition: Self::M, then: Self::F, otherwise: Self::F) -> Self::F {
        let [c0, c1, c2, c3] = condition;
        let [t0, t1, t2, t3] = then;
        let [o0, o1, o2, o3] = otherwise;
        [
            op!(vbslq_f32(c0, t0, o0)),
            op!(vbslq_f32(c1, t1, o1)),
            op!(vbslq_f32(c2, t2, o2)),
            op!(vbslq_f32(c3, t3, o3)),
        ]
    }
    #[inline(always)]
    fn splat_int(self, value: i32) -> Self::I {
        [op!(vdupq_n_s32(value)); 4]
    }
    #[inline(always)]
    fn add_int(self, a: Self::I, b: Self::I) -> Self::I {
        each(a, b, |a, b| op!(vaddq_s32(a, b)))
    }
    #[inline(always)]
    fn sub_int(self, a: Self::I, b: Self::I) -> Self::I {
        each(a, b, |a, b| op!(vsubq_s32(a, b)))
    }
    #[inline(always)]
    fn halve_int(self, a: Self::I) -> Self::I {
        a.map(|a| op!(vshrq_n_s32::<1>(a)))
    }
    #[inline(always)]
    fn to_exponent(self, a: Self::I) -> Self::I {
        a.map(|a| op!(vshlq_n_s32::<23>(a)))
    }
    #[inline(always)]
    fn float(self, a: Self::I) -> Self::F {
        a.map(|a| op!(vcvtq_f32_s32(a)))
    }
    #[inline(always)]
    fn round(self, a: Self::F) -> Self::I {
        a.map(|a| op!(vcvtnq_s32_f32(a)))
    }
    #[inline(always)]
    fn bits(self, a: Self::F) -> Self::I {
        a.map(|a| op!(vreinterpretq_s32_f32(a)))
    }
    #[inline(always)]
    fn with_bits(self, a: Self::I) -> Self::F {
        a.map(|a| op!(vreinterpretq_f32_s32(a)))
    }
}

impl Simd for Neon {
    type Digits = [i8; 4];
    type Terms = Self::F;

    const ROWS: usize = 1;
    const BLOCKS: usize = 1;
    const BLOCKS_OF_ROW: usize = 1;
    const TILE_F32: usize = 1;

    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> Self::F {
        let from = from.as_ptr();
        [0, 4, 8, 12].map(|at| {
            let from = from.wrapping_add(at);
            // SAFETY: four of the sixteen values.
            unsafe { vld1q_f32(from) }
        })
    }
    #[inline(always)]
    fn store(self, value: Self::F, to: &mut [f32; LANES]) {
        let (to, _) = to.as_chunks_mut::<4>();
        for (to, value) in to.iter_mut().zip(value) {
            // SAFETY: four values are written where four are.
            unsafe { vst1q_f32(to.as_mut_ptr(), value) };
        }
    }
    #[inline(always)]
    fn sum(self, value: Self::F) -> f32 {
        self.fold(value, |a, b| op!(vaddq_f32(a, b)))
    }
    #[inline(always)]
    fn lowest(self, value: Self::F) -> f32 {
        self.fold(value, |a, b| {
            let first = op!(vcltq_f32(a, b));
            op!(vbslq_f32(first, a, b))
        })
    }
    #[inline(always)]
    fn highest(self, value: Self::F) -> f32 {
        self.fold(value, |a, b| {
            let first = op!(vcgtq_f32(a, b));
            op!(vbslq_f32(first, a, b))
        })
    }
    #[inline(always)]
    fn any(self, condition: Self::M) -> bool {
        let [a, b, c, d] = condition;
        let (a, c) = (op!(vorrq_u32(a, b)), op!(vorrq_u32(c, d)));
        let all = op!(vorrq_u32(a, c));
        op!(vmaxvq_u32(all)) != 0
    }
    #[inline(always)]
    fn terms(self, value: Self::F) -> Self::Terms {
        value
    }
    #[inline(always)]
    fn sums(self, values: [Self::Terms; LANES]) -> Self::F {
        let sums = values.map(|value| self.sum(value));
        self.load(&sums)
    }
    #[inline(always)]
    fn digits(self, integers: [Self::I; 4]) -> [Self::Digits; LANES] {
        let least = op!(vdupq_n_s8(-127));
        let kept = integers.map(|[a, b, c, d]| {
            // Saturating: only −128 is left to be kept out.
            let low = op!(vqmovn_s32(a));
            let low = op!(vqmovn_high_s32(low, b));
            let high = op!(vqmovn_s32(c));
            let high = op!(vqmovn_high_s32(high, d));
            let bytes = op!(vqmovn_s16(low));
            let bytes = op!(vqmovn_high_s16(bytes, high));
            op!(vmaxq_s8(bytes, least))
        });
        // SAFETY: 64 bytes for 64 bytes, of which every pattern is valid.
        unsafe { core::mem::transmute::<[int8x16_t; 4], [[i8; 4]; LANES]>(kept) }
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
        for (row, values) in dots.iter_mut().zip(values.chunks_exact(groups.max(1))) {
            for (to, weights) in row.iter_mut().zip(weights.chunks_exact(groups.max(1))) {
                *to = block_dots(weights, values);
            }
        }
        dots
    }
}

impl Neon {
    /// The lanes made one: those 8, 4, 2 and 1 apart in turn.
    #[inline(always)]
    fn fold(self, value: [float32x4_t; 4], of: impl Fn(float32x4_t, float32x4_t) -> float32x4_t) -> f32 {
        let [a, b, c, d] = value;
        let four = of(of(a, c), of(b, d));
        let high = op!(vextq_f32::<2>(four, four));
        let two = of(four, high);
        let high = op!(vextq_f32::<1>(two, two));
        let one = of(two, high);
        op!(vgetq_lane_f32::<0>(one))
    }
}

/// Dot products of one row with 16 outputs. For callers that hold a token.
#[inline(always)]
fn block_dots(weights: &[Block], values: &[[i8; 4]]) -> [int32x4_t; 4] {
    let mut sums = [op!(vdupq_n_s32(0)); 8];
    for (block, &values) in weights.iter().zip(values) {
        let digits = op!(vdup_n_s32(bytemuck::cast(values)));
        let digits = op!(vreinterpret_s8_s32(digits));
        let (pairs, _) = block.as_chunks::<8>();
        for (sum, weights) in sums.iter_mut().zip(pairs) {
            // SAFETY: eight weights, two outputs by four inputs, are read where eight are.
            let weights = unsafe { vld1_s8(weights.as_ptr()) };
            // Products of ±127 values fit 16 bits.
            let products = op!(vmull_s8(weights, digits));
            *sum = op!(vpadalq_s16(*sum, products));
        }
    }
    let [a, b, c, d, e, f, g, h] = sums;
    [op!(vpaddq_s32(a, b)), op!(vpaddq_s32(c, d)), op!(vpaddq_s32(e, f)), op!(vpaddq_s32(g, h))]
}
