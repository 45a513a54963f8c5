//! Portable SIMD of the `wide` crate, with the instructions the whole build has: + − × ÷ √ and integers alone, whose
//! results do not depend on the build.
#![allow(clippy::arithmetic_side_effects, reason = "lanes round or wrap: no operator of a register panics")]

use bytemuck::cast;
use wide::{f32x16, i8x16, i16x16, i32x8, i32x16, i64x4};

use super::scalar::kept;
use super::{Block, Elementwise, LANES, Simd, fits};

/// Sixteen lanes as the build has them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wide;

impl Elementwise for Wide {
    type F = f32x16;
    type I = i32x16;
    /// All bits of a lane, or none.
    type M = f32x16;

    #[inline(always)]
    fn splat(self, value: f32) -> Self::F {
        f32x16::splat(value)
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        a + b
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        a - b
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        a * b
    }
    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        a / b
    }
    #[inline(always)]
    fn sqrt(self, a: Self::F) -> Self::F {
        a.sqrt()
    }
    #[inline(always)]
    fn abs(self, a: Self::F) -> Self::F {
        self.with_bits(self.bits(a) & i32x16::splat(i32::MAX))
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        a.simd_gt(b).select(a, b)
    }
    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        a.simd_lt(b).select(a, b)
    }
    #[inline(always)]
    fn less(self, a: Self::F, b: Self::F) -> Self::M {
        a.simd_lt(b)
    }
    #[inline(always)]
    fn unordered(self, a: Self::F, b: Self::F) -> Self::M {
        a.is_nan() | b.is_nan()
    }
    #[inline(always)]
    fn or(self, a: Self::M, b: Self::M) -> Self::M {
        a | b
    }
    #[inline(always)]
    fn select(self, condition: Self::M, then: Self::F, otherwise: Self::F) -> Self::F {
        condition.select(then, otherwise)
    }
    #[inline(always)]
    fn splat_int(self, value: i32) -> Self::I {
        i32x16::splat(value)
    }
    #[inline(always)]
    fn add_int(self, a: Self::I, b: Self::I) -> Self::I {
        a + b
    }
    #[inline(always)]
    fn sub_int(self, a: Self::I, b: Self::I) -> Self::I {
        a - b
    }
    #[inline(always)]
    fn halve_int(self, a: Self::I) -> Self::I {
        a >> 1_i32
    }
    #[inline(always)]
    fn to_exponent(self, a: Self::I) -> Self::I {
        a << 23_i32
    }
    #[inline(always)]
    fn float(self, a: Self::I) -> Self::F {
        f32x16::from_i32x16(a)
    }
    #[inline(always)]
    fn bits(self, a: Self::F) -> Self::I {
        cast(a)
    }
    #[inline(always)]
    fn with_bits(self, a: Self::I) -> Self::F {
        cast(a)
    }
}

impl Simd for Wide {
    type Digits = [i16; 4];
    type Terms = Self::F;

    const ROWS: usize = 1;
    const BLOCKS: usize = 1;
    const BLOCKS_OF_ROW: usize = 1;
    const TILE_F32: usize = 1;

    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> Self::F {
        f32x16::new(*from)
    }
    #[inline(always)]
    fn store(self, value: Self::F, to: &mut [f32; LANES]) {
        *to = value.to_array();
    }
    #[inline(always)]
    fn sum(self, value: Self::F) -> f32 {
        super::Scalar.sum(value.to_array())
    }
    #[inline(always)]
    fn lowest(self, value: Self::F) -> f32 {
        super::Scalar.lowest(value.to_array())
    }
    #[inline(always)]
    fn highest(self, value: Self::F) -> f32 {
        super::Scalar.highest(value.to_array())
    }
    #[inline(always)]
    fn any(self, condition: Self::M) -> bool {
        condition.any()
    }
    #[inline(always)]
    fn terms(self, value: Self::F) -> Self::Terms {
        value
    }
    #[inline(always)]
    fn sums(self, values: [Self::Terms; LANES]) -> Self::F {
        f32x16::new(values.map(|value| self.sum(value)))
    }
    #[inline(always)]
    fn digits(self, integers: [Self::I; 4]) -> [Self::Digits; LANES] {
        kept(integers.map(i32x16::to_array).as_flattened())
    }
    #[inline(always)]
    fn start(self, _units: Self::F) -> Self::I {
        i32x16::splat(0)
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
                let mut sums = [i32x8::splat(0); 4];
                for (block, &values) in weights.iter().zip(values) {
                    let digits: i16x16 = cast(i64x4::splat(cast(values)));
                    let quarters: [i8x16; 4] = cast(*block);
                    for (sum, weights) in sums.iter_mut().zip(quarters) {
                        *sum += i16x16::from_i8x16(weights).dot(digits);
                    }
                }
                *to = joined(sums);
            }
        }
        dots
    }
}

/// The two sums of each output added up.
#[inline(always)]
fn joined(sums: [i32x8; 4]) -> i32x16 {
    let sums: [[i32; 2]; LANES] = cast(sums.map(i32x8::to_array));
    i32x16::new(sums.map(|[even, odd]| even.wrapping_add(odd)))
}
