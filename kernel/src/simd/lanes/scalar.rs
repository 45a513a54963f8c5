//! Plain arrays: the specification of every lane.

use super::{Block, Elementwise, Function, LANES, Simd};
use crate::num::nearest_single;

/// One lane.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Single;

impl Elementwise for Single {
    type F = f32;
    type I = i32;
    type M = bool;

    #[inline(always)]
    fn splat(self, value: f32) -> f32 {
        value
    }
    #[inline(always)]
    fn add(self, a: f32, b: f32) -> f32 {
        a + b
    }
    #[inline(always)]
    fn sub(self, a: f32, b: f32) -> f32 {
        a - b
    }
    #[inline(always)]
    fn mul(self, a: f32, b: f32) -> f32 {
        a * b
    }
    #[inline(always)]
    fn div(self, a: f32, b: f32) -> f32 {
        a / b
    }
    #[inline(always)]
    fn sqrt(self, a: f32) -> f32 {
        crate::simd::sqrt(a)
    }
    #[inline(always)]
    fn abs(self, a: f32) -> f32 {
        a.abs()
    }
    #[inline(always)]
    fn max(self, a: f32, b: f32) -> f32 {
        if a > b { a } else { b }
    }
    #[inline(always)]
    fn min(self, a: f32, b: f32) -> f32 {
        if a < b { a } else { b }
    }
    #[inline(always)]
    fn less(self, a: f32, b: f32) -> bool {
        a < b
    }
    #[inline(always)]
    fn unordered(self, a: f32, b: f32) -> bool {
        a.is_nan() | b.is_nan()
    }
    #[inline(always)]
    fn or(self, a: bool, b: bool) -> bool {
        a | b
    }
    #[inline(always)]
    fn select(self, condition: bool, then: f32, otherwise: f32) -> f32 {
        if condition { then } else { otherwise }
    }
    #[inline(always)]
    fn splat_int(self, value: i32) -> i32 {
        value
    }
    #[inline(always)]
    fn add_int(self, a: i32, b: i32) -> i32 {
        a.wrapping_add(b)
    }
    #[inline(always)]
    fn sub_int(self, a: i32, b: i32) -> i32 {
        a.wrapping_sub(b)
    }
    #[inline(always)]
    fn halve_int(self, a: i32) -> i32 {
        a >> 1
    }
    #[inline(always)]
    fn to_exponent(self, a: i32) -> i32 {
        a << 23
    }
    #[inline(always)]
    fn float(self, a: i32) -> f32 {
        nearest_single(a)
    }
    #[inline(always)]
    fn bits(self, a: f32) -> i32 {
        a.to_bits().cast_signed()
    }
    #[inline(always)]
    fn with_bits(self, a: i32) -> f32 {
        f32::from_bits(a.cast_unsigned())
    }
}

/// Sixteen of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scalar;

/// Functions that are inlined where sixteen lanes are a few registers. Elsewhere they are loops, and one copy of each instead of one
/// a call halves the code of networks.
macro_rules! inlined_into_registers {
    ($($item:item)*) => {
        $(
            #[cfg_attr(
                any(target_feature = "sse2", target_feature = "neon", target_feature = "simd128"),
                inline(always)
            )]
            #[cfg_attr(
                not(any(target_feature = "sse2", target_feature = "neon", target_feature = "simd128")),
                inline(never)
            )]
            $item
        )*
    };
}

inlined_into_registers! {
    fn each<A: Copy, R: Copy + Default>(a: &[A; LANES], of: impl Fn(A) -> R) -> [R; LANES] {
        let mut result = [R::default(); LANES];
        for (to, &a) in result.iter_mut().zip(a) {
            *to = of(a);
        }
        result
    }

    fn both<A: Copy, B: Copy, R: Copy + Default>(
        a: &[A; LANES],
        b: &[B; LANES],
        of: impl Fn(A, B) -> R,
    ) -> [R; LANES] {
        let mut result = [R::default(); LANES];
        for (to, (&a, &b)) in result.iter_mut().zip(a.iter().zip(b)) {
            *to = of(a, b);
        }
        result
    }
}

impl Elementwise for Scalar {
    type F = [f32; LANES];
    type I = [i32; LANES];
    type M = [bool; LANES];

    #[inline(always)]
    fn splat(self, value: f32) -> Self::F {
        [value; LANES]
    }
    #[inline(always)]
    fn select(self, condition: Self::M, then: Self::F, otherwise: Self::F) -> Self::F {
        let mut result = otherwise;
        for (to, (condition, then)) in result.iter_mut().zip(condition.into_iter().zip(then)) {
            *to = Single.select(condition, then, *to);
        }
        result
    }
    #[inline(always)]
    fn splat_int(self, value: i32) -> Self::I {
        [value; LANES]
    }
    #[inline(always)]
    fn sqrt(self, a: Self::F) -> Self::F {
        each(&a, |a| Single.sqrt(a))
    }
    #[inline(always)]
    fn abs(self, a: Self::F) -> Self::F {
        each(&a, |a| Single.abs(a))
    }
    #[inline(always)]
    fn unordered(self, a: Self::F, b: Self::F) -> Self::M {
        both(&a, &b, |a, b| Single.unordered(a, b))
    }
    #[inline(always)]
    fn halve_int(self, a: Self::I) -> Self::I {
        each(&a, |a| Single.halve_int(a))
    }
    #[inline(always)]
    fn to_exponent(self, a: Self::I) -> Self::I {
        each(&a, |a| Single.to_exponent(a))
    }
    #[inline(always)]
    fn float(self, a: Self::I) -> Self::F {
        each(&a, |a| Single.float(a))
    }
    #[inline(always)]
    fn bits(self, a: Self::F) -> Self::I {
        each(&a, |a| Single.bits(a))
    }
    #[inline(always)]
    fn with_bits(self, a: Self::I) -> Self::F {
        each(&a, |a| Single.with_bits(a))
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        both(&a, &b, |a, b| Single.add(a, b))
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        both(&a, &b, |a, b| Single.sub(a, b))
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        both(&a, &b, |a, b| Single.mul(a, b))
    }
    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        both(&a, &b, |a, b| Single.div(a, b))
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        both(&a, &b, |a, b| Single.max(a, b))
    }
    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        both(&a, &b, |a, b| Single.min(a, b))
    }
    #[inline(always)]
    fn less(self, a: Self::F, b: Self::F) -> Self::M {
        both(&a, &b, |a, b| Single.less(a, b))
    }
    #[inline(always)]
    fn or(self, a: Self::M, b: Self::M) -> Self::M {
        both(&a, &b, |a, b| Single.or(a, b))
    }
    #[inline(always)]
    fn add_int(self, a: Self::I, b: Self::I) -> Self::I {
        both(&a, &b, |a, b| Single.add_int(a, b))
    }
    #[inline(always)]
    fn sub_int(self, a: Self::I, b: Self::I) -> Self::I {
        both(&a, &b, |a, b| Single.sub_int(a, b))
    }
}

impl Simd for Scalar {
    // Pairs of 16 bits: one multiply-add of most processors, down to Cortex-M4.
    type Digits = [i16; 4];
    type Terms = Self::F;

    const ROWS: usize = 1;
    const BLOCKS: usize = 1;
    const BLOCKS_OF_ROW: usize = 1;
    const TILE_F32: usize = 1;

    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> Self::F {
        *from
    }
    #[inline(always)]
    fn store(self, value: Self::F, to: &mut [f32; LANES]) {
        *to = value;
    }
    #[inline(always)]
    fn map(self, function: impl Function, x: Self::F) -> Self::F {
        each(&x, |x| function.of(Single, x))
    }
    #[inline(always)]
    fn sum(self, value: Self::F) -> f32 {
        fold(value, |a, b| Single.add(a, b))
    }
    #[inline(always)]
    fn lowest(self, value: Self::F) -> f32 {
        fold(value, |a, b| Single.min(a, b))
    }
    #[inline(always)]
    fn highest(self, value: Self::F) -> f32 {
        fold(value, |a, b| Single.max(a, b))
    }
    #[inline(always)]
    fn any(self, condition: Self::M) -> bool {
        condition.into_iter().any(|one| one)
    }
    #[inline(always)]
    fn terms(self, value: Self::F) -> Self::Terms {
        value
    }
    #[inline(always)]
    fn sums(self, values: [Self::Terms; LANES]) -> Self::F {
        values.map(|value| self.sum(value))
    }
    #[inline(always)]
    fn digits(self, integers: [Self::I; 4]) -> [Self::Digits; LANES] {
        kept(integers.as_flattened())
    }
    #[inline(always)]
    fn start(self, _units: Self::F) -> Self::I {
        [0; LANES]
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
        for (row, values) in dots.iter_mut().zip(values.chunks_exact(groups.max(1))) {
            for (to, weights) in row.iter_mut().zip(weights.chunks_exact(groups.max(1))) {
                *to = block_dots(weights, values);
            }
        }
        dots
    }
}

inlined_into_registers! {
    /// The lanes of each half made one, those 4, 2 and 1 apart in turn, and put in all of them.
    pub(super) fn fold_halves(value: [f32; LANES], of: impl Fn(f32, f32) -> f32) -> [f32; LANES] {
        let mut lanes = value;
        for half in lanes.as_chunks_mut::<8>().0 {
            let [a, b, c, d, e, f, g, h] = *half;
            *half = [of(of(of(a, e), of(c, g)), of(of(b, f), of(d, h))); 8];
        }
        lanes
    }

    /// The lanes made one: those 8, 4, 2 and 1 apart in turn.
    fn fold(value: [f32; LANES], of: impl Fn(f32, f32) -> f32) -> f32 {
        let mut lanes = value;
        for half in [8, 4, 2, 1] {
            let before = lanes;
            for (low, high) in lanes.iter_mut().zip(before.into_iter().skip(half)).take(half) {
                *low = of(*low, high);
            }
        }
        let [one, ..] = lanes;
        one
    }

    /// Integers within ±127 as groups of 16-bit values.
    pub(super) fn kept(integers: &[i32]) -> [[i16; 4]; LANES] {
        let mut groups = [[0; 4]; LANES];
        for (to, integer) in groups.as_flattened_mut().iter_mut().zip(integers) {
            #[allow(clippy::as_conversions, reason = "kept within ±127")]
            let narrow = (*integer).clamp(-127, 127) as i16;
            *to = narrow;
        }
        groups
    }

    /// Dot products of one row with 16 outputs.
    fn block_dots(weights: &[Block], values: &[[i16; 4]]) -> [i32; LANES] {
        let mut pairs = [[0_i32; 2]; LANES];
        for (block, values) in weights.iter().zip(values) {
            let [a, b, c, d] = values.map(i32::from);
            let (outputs, _) = block.as_chunks::<4>();
            for ([even, odd], weights) in pairs.iter_mut().zip(outputs) {
                let [w, x, y, z] = weights.map(i32::from);
                // |sums| stay far inside i32 by the widest row a layer may have: wrapping never happens.
                *even = even.wrapping_add(w.wrapping_mul(a).wrapping_add(x.wrapping_mul(b)));
                *odd = odd.wrapping_add(y.wrapping_mul(c).wrapping_add(z.wrapping_mul(d)));
            }
        }
        pairs.map(|[even, odd]| even.wrapping_add(odd))
    }
}
