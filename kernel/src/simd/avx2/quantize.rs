//! Row to ranks: a block of thresholds is two compares of eight.
#![allow(unsafe_code, reason = "pointer loads, and the one call into code compiled for AVX2")]

use core::arch::x86_64::{
    __m256, _CMP_LE_OQ, _CMP_LT_OQ, _mm256_cmp_ps, _mm256_loadu_ps, _mm256_movemask_ps, _mm256_set1_ps,
};

use crate::image::records::ThresholdBlock;
use crate::num::index;
use crate::simd::Avx2;
use crate::trees::{Rank, Trees};

/// Fills `ranks`, `[n_slots]`, from `row`, `[n_features]`; `None` only if the image changed after its check.
pub(crate) fn quantize<R: Rank>(_: Avx2, trees: &Trees<'_>, row: &[f32], ranks: &mut [R]) -> Option<()> {
    // SAFETY: the token proves the features the function is compiled for.
    unsafe { with_avx2(trees, row, ranks) }
}

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
fn with_avx2<R: Rank>(trees: &Trees<'_>, row: &[f32], ranks: &mut [R]) -> Option<()> {
    trees.quantize_with(
        row,
        ranks,
        |block, value| count::<_CMP_LE_OQ>(block, value),
        |block, value| count::<_CMP_LT_OQ>(block, value),
    )
}

/// Thresholds of the block that compare true with `value`: none for NaN on either side.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
fn count<const COMPARE: i32>(block: &ThresholdBlock, value: f32) -> usize {
    let value = _mm256_set1_ps(value);
    let ones =
        |half: __m256| _mm256_movemask_ps(_mm256_cmp_ps::<COMPARE>(half, value)).cast_unsigned().count_ones();
    // SAFETY: the first eight of sixteen values.
    let low = unsafe { _mm256_loadu_ps(block.as_ptr()) };
    // SAFETY: the other eight of sixteen values.
    let high = unsafe { _mm256_loadu_ps(block.as_ptr().wrapping_add(8)) };
    index(ones(low).wrapping_add(ones(high)))
}
