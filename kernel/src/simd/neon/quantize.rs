//! Row to ranks: a block of thresholds is four compares of four.
#![allow(unsafe_code, reason = "pointer loads, and the one call into code compiled for NEON")]

use core::arch::aarch64::{
    float32x4_t, uint32x4_t, vaddq_u32, vaddvq_u32, vcleq_f32, vcltq_f32, vdupq_n_f32, vld1q_f32,
};

use crate::image::records::ThresholdBlock;
use crate::num::index;
use crate::simd::Neon;
use crate::trees::{Rank, Trees};

/// Fills `ranks`, `[n_slots]`, from `row`, `[n_features]`; `None` only if the image changed after its check.
pub(crate) fn quantize<R: Rank>(_: Neon, trees: &Trees<'_>, row: &[f32], ranks: &mut [R]) -> Option<()> {
    // SAFETY: the token proves the feature the function is compiled for.
    unsafe { with_neon(trees, row, ranks) }
}

#[target_feature(enable = "neon")]
fn with_neon<R: Rank>(trees: &Trees<'_>, row: &[f32], ranks: &mut [R]) -> Option<()> {
    trees.quantize_with(
        row,
        ranks,
        |block, value| count(block, value, |thresholds, value| vcleq_f32(thresholds, value)),
        |block, value| count(block, value, |thresholds, value| vcltq_f32(thresholds, value)),
    )
}

/// Thresholds of the block that compare true with `value`: none for NaN on either side.
#[inline]
#[target_feature(enable = "neon")]
fn count(
    block: &ThresholdBlock,
    value: f32,
    compare: impl Fn(float32x4_t, float32x4_t) -> uint32x4_t,
) -> usize {
    let value = vdupq_n_f32(value);
    // A lane that compares true is −1.
    let minus = |at: usize| {
        let four = block.as_ptr().wrapping_add(at);
        // SAFETY: `at` is 0, 4, 8 or 12, and four of sixteen values lie there.
        let thresholds = unsafe { vld1q_f32(four) };
        compare(thresholds, value)
    };
    let sums = vaddq_u32(vaddq_u32(minus(0), minus(4)), vaddq_u32(minus(8), minus(12)));
    index(vaddvq_u32(sums).wrapping_neg())
}
