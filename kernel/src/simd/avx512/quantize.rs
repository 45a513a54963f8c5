//! Row to ranks: a block of thresholds is one compare into a mask.
#![allow(unsafe_code, reason = "pointer loads, and the calls into code compiled for AVX-512")]

use core::arch::x86_64::{_CMP_LE_OQ, _CMP_LT_OQ, _mm512_cmp_ps_mask, _mm512_loadu_ps, _mm512_set1_ps};

use crate::image::records::ThresholdBlock;
use crate::num::index;
use crate::simd::Avx512;
use crate::trees::{Rank, Trees};

/// Fills `ranks`, `[n_slots]`, from `row`, `[n_features]`; `None` only if the image changed after its check.
pub(crate) fn quantize<R: Rank>(_: Avx512, trees: &Trees<'_>, row: &[f32], ranks: &mut [R]) -> Option<()> {
    // SAFETY: the token proves the features the function is compiled for.
    unsafe { row_with_avx512(trees, row, ranks) }
}

/// As [`quantize`], of up to `ROWS` rows, `[n, n_features]`, slot by slot.
pub(crate) fn quantize_columns<const ROWS: usize>(
    _: Avx512,
    trees: &Trees<'_>,
    rows: &[f32],
    columns: &mut [[u8; ROWS]],
) -> Option<()> {
    // SAFETY: the token proves the features the function is compiled for.
    unsafe { columns_with_avx512(trees, rows, columns) }
}

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt,avx512f,avx512bw,avx512vl,avx512dq")]
fn row_with_avx512<R: Rank>(trees: &Trees<'_>, row: &[f32], ranks: &mut [R]) -> Option<()> {
    trees.quantize_with(
        row,
        ranks,
        |block, value| count::<_CMP_LE_OQ>(block, value),
        |block, value| count::<_CMP_LT_OQ>(block, value),
    )
}

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt,avx512f,avx512bw,avx512vl,avx512dq")]
fn columns_with_avx512<const ROWS: usize>(
    trees: &Trees<'_>,
    rows: &[f32],
    columns: &mut [[u8; ROWS]],
) -> Option<()> {
    trees.quantize_columns_with(
        rows,
        columns,
        |block, value| count::<_CMP_LE_OQ>(block, value),
        |block, value| count::<_CMP_LT_OQ>(block, value),
    )
}

/// Thresholds of the block that compare true with `value`: none for NaN on either side.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt,avx512f,avx512bw,avx512vl,avx512dq")]
fn count<const COMPARE: i32>(block: &ThresholdBlock, value: f32) -> usize {
    // SAFETY: a block is sixteen values.
    let thresholds = unsafe { _mm512_loadu_ps(block.as_ptr()) };
    let mask = _mm512_cmp_ps_mask::<COMPARE>(thresholds, _mm512_set1_ps(value));
    index(u32::from(mask).count_ones())
}
