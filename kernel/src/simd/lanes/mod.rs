//! The virtual register of networks: sixteen f32 lanes, whatever the machine has.
//!
//! An operation is written once, over [`Simd`], and inlined into entries of each backend that switch its instructions on: one for
//! a prediction, one for each kind of layer. [`Scalar`] is the same text over arrays. Backends therefore differ in nothing but the instructions a lane goes through,
//! each of which rounds correctly or is exact.

/// One instruction of a backend.
#[cfg(any(
    all(target_arch = "x86_64", target_feature = "sse2"),
    all(target_arch = "aarch64", target_feature = "neon")
))]
macro_rules! op {
    ($call:expr) => {
        // SAFETY: a token, which every caller holds as `self`, proves that the processor has the instruction; it works on
        // registers alone.
        unsafe { $call }
    };
}

#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
mod avx2;
#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
mod avx512;
#[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
mod neon;
mod scalar;
#[cfg(any(target_feature = "sse2", target_feature = "neon", target_feature = "simd128"))]
mod wide;

use bytemuck::{AnyBitPattern, NoUninit};

use super::Backend;
#[cfg(any(target_feature = "sse2", target_feature = "neon", target_feature = "simd128"))]
use super::Tier;
pub(crate) use scalar::{Scalar, Single};

/// Lanes of the virtual register.
pub(crate) const LANES: usize = 16;

/// Weights of 16 outputs for 4 inputs, `[16][4] s8`: one cache line, one `vpdpbusd` or four `sdot`.
pub(crate) type Block = [i8; 64];

/// Arithmetic on every lane alike. Each operation is exact or rounds once, to nearest; integers wrap.
pub(crate) trait Elementwise: Copy {
    /// Values.
    type F: Copy;
    /// 32-bit integers.
    type I: Copy;
    /// Truths.
    type M: Copy;

    fn splat(self, value: f32) -> Self::F;
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    fn sqrt(self, a: Self::F) -> Self::F;
    fn abs(self, a: Self::F) -> Self::F;
    /// `a` where a > b, else `b`: also where one of them is NaN.
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a` where a < b, else `b`: also where one of them is NaN.
    fn min(self, a: Self::F, b: Self::F) -> Self::F;
    /// a < b; false where one of them is NaN.
    fn less(self, a: Self::F, b: Self::F) -> Self::M;
    /// One of them is NaN.
    fn unordered(self, a: Self::F, b: Self::F) -> Self::M;
    #[inline(always)]
    fn is_nan(self, a: Self::F) -> Self::M {
        self.unordered(a, a)
    }
    fn or(self, a: Self::M, b: Self::M) -> Self::M;
    fn select(self, condition: Self::M, then: Self::F, otherwise: Self::F) -> Self::F;

    fn splat_int(self, value: i32) -> Self::I;
    fn add_int(self, a: Self::I, b: Self::I) -> Self::I;
    fn sub_int(self, a: Self::I, b: Self::I) -> Self::I;
    /// Shifted right by one, the sign kept.
    fn halve_int(self, a: Self::I) -> Self::I;
    /// Shifted left by 23: into the exponent of an f32.
    fn to_exponent(self, a: Self::I) -> Self::I;
    /// The nearest value.
    fn float(self, a: Self::I) -> Self::F;
    /// The nearest integer of values below 2^22 in magnitude, ties to even; any integer of a NaN.
    #[inline(always)]
    fn round(self, a: Self::F) -> Self::I {
        // Adding 1.5·2^23 leaves the nearest integer in the low bits.
        let round = self.splat(12_582_912.0);
        self.sub_int(self.bits(self.add(a, round)), self.bits(round))
    }
    fn bits(self, a: Self::F) -> Self::I;
    fn with_bits(self, a: Self::I) -> Self::F;
}

/// A function of one value, for any [`Elementwise`].
pub(crate) trait Function: Copy {
    fn of<E: Elementwise>(self, e: E, x: E::F) -> E::F;
}

/// Sixteen lanes and how they meet memory and each other.
pub(crate) trait Simd: Elementwise {
    /// Four digits of a quantized row, as `dots` wants them.
    type Digits: AnyBitPattern + NoUninit;
    /// Lanes on their way to their sum.
    type Terms: Copy;

    /// Rows a tile of `dots` takes at once: 8, 4 or 1.
    const ROWS: usize;
    /// Blocks of outputs a tile of several rows takes at once: 2 or 1.
    const BLOCKS: usize;
    /// Blocks of outputs a single row takes at once: 4 or 1.
    const BLOCKS_OF_ROW: usize;
    /// Rows, and blocks of outputs, an f32 layer takes at once: 2 or 1.
    const TILE_F32: usize;

    /// `work` in a function of its own: what is inlined into one function also shares its registers.
    #[inline(always)]
    fn apart<W: Work>(self, work: W) -> W::Output {
        work.run(self)
    }

    fn load(self, from: &[f32; LANES]) -> Self::F;
    fn store(self, value: Self::F, to: &mut [f32; LANES]);
    /// The first lanes from `from`, at most sixteen, the others `fill`.
    #[inline(always)]
    fn load_part(self, from: &[f32], fill: f32) -> Self::F {
        if let Some(full) = from.first_chunk() {
            return self.load(full);
        }
        self.load_tail(from, fill)
    }
    /// As `load_part`, of fewer than sixteen.
    #[inline(always)]
    fn load_tail(self, from: &[f32], fill: f32) -> Self::F {
        let mut padded = [fill; LANES];
        for (to, from) in padded.iter_mut().zip(from) {
            *to = *from;
        }
        self.load(&padded)
    }
    /// The first lanes to `to`, at most sixteen.
    #[inline(always)]
    fn store_part(self, value: Self::F, to: &mut [f32]) {
        if let Some(full) = to.first_chunk_mut() {
            return self.store(value, full);
        }
        self.store_tail(value, to);
    }
    /// As `store_part`, of fewer than sixteen.
    #[inline(always)]
    fn store_tail(self, value: Self::F, to: &mut [f32]) {
        let mut padded = [0.0; LANES];
        self.store(value, &mut padded);
        for (to, from) in to.iter_mut().zip(padded) {
            *to = from;
        }
    }
    /// `function` of every lane.
    #[inline(always)]
    fn map(self, function: impl Function, x: Self::F) -> Self::F {
        function.of(self, x)
    }
    /// The sum of the lanes: those 8, 4, 2 and 1 apart are added in turn.
    fn sum(self, value: Self::F) -> f32;
    /// The first step of `sums`: for registers that are narrower than the lanes, half of the work and half of the space.
    fn terms(self, value: Self::F) -> Self::Terms;
    /// `sum` of each of sixteen, in their order.
    fn sums(self, values: [Self::Terms; LANES]) -> Self::F;
    /// As `sum`, by `min`.
    fn lowest(self, value: Self::F) -> f32;
    /// As `sum`, by `max`.
    fn highest(self, value: Self::F) -> f32;
    /// The sum of each half's lanes, those 4, 2 and 1 apart added in turn, in all lanes of that half.
    #[inline(always)]
    fn sum_of_halves(self, value: Self::F) -> Self::F {
        let mut lanes = [0.0; LANES];
        self.store(value, &mut lanes);
        self.load(&scalar::fold_halves(lanes, |a, b| Single.add(a, b)))
    }
    /// As `sum_of_halves`, by `max`.
    #[inline(always)]
    fn highest_of_halves(self, value: Self::F) -> Self::F {
        let mut lanes = [0.0; LANES];
        self.store(value, &mut lanes);
        self.load(&scalar::fold_halves(lanes, |a, b| Single.max(a, b)))
    }
    fn any(self, condition: Self::M) -> bool;

    /// Integers, kept within ±127.
    fn digits(self, integers: [Self::I; 4]) -> [Self::Digits; LANES];
    /// What the dot products of sixteen outputs start at, from the sums of their weights (integers, as f32).
    fn start(self, units: Self::F) -> Self::I;
    /// Dot products of `T` rows of `groups` digit groups with `B` blocks of sixteen outputs, `[B][groups]` blocks of weights.
    /// Exact; too short slices, which no checked image has, give `start`.
    fn dots<const T: usize, const B: usize>(
        self,
        weights: &[Block],
        values: &[Self::Digits],
        groups: usize,
        start: [Self::I; B],
    ) -> [[Self::I; B]; T];
}

/// Work that any backend can do. `run` must be inlined into the entry that has the instructions: `#[inline(always)]`, and so
/// everything it calls that takes a [`Simd`].
pub(crate) trait Work {
    type Output;
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// Does `work` on a backend.
pub(crate) fn dispatch<W: Work>(backend: Backend, work: W) -> W::Output {
    match backend.tier() {
        #[cfg(any(target_feature = "sse2", target_feature = "neon", target_feature = "simd128"))]
        Tier::Wide => work.run(wide::Wide),
        #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
        Tier::Avx2(token) => avx2::run(token, work),
        #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
        Tier::Avx512(token) => avx512::run(token, work),
        #[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
        Tier::Neon(token) => neon::run(token, work),
        // Also tiers whose registers this build cannot use.
        _ => work.run(Scalar),
    }
}

/// The first `rows · groups` digit groups and `blocks · groups` blocks are there.
#[cfg(any(target_feature = "sse2", target_feature = "neon", target_feature = "simd128"))]
#[inline(always)]
fn fits<D>(weights: &[Block], blocks: usize, values: &[D], rows: usize, groups: usize) -> bool {
    let holds = |len: usize, count: usize| count.checked_mul(groups).is_some_and(|needed| needed <= len);
    holds(weights.len(), blocks) && holds(values.len(), rows)
}
