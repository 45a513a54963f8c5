//! Row to ranks: a block of thresholds is one compare of sixteen lanes.

use wide::{f32x16, i32x16};

use crate::num::index;
use crate::trees::{Rank, Trees};

/// Fills `ranks`, `[n_slots]`, from `row`, `[n_features]`; `None` only if the image changed after its check.
pub(crate) fn quantize<R: Rank>(trees: &Trees<'_>, row: &[f32], ranks: &mut [R]) -> Option<()> {
    trees.quantize_with(
        row,
        ranks,
        |block, value| count(f32x16::new(*block).simd_le(f32x16::splat(value))),
        |block, value| count(f32x16::new(*block).simd_lt(f32x16::splat(value))),
    )
}

/// Lanes that compared true.
#[inline]
fn count(lanes: f32x16) -> usize {
    // Such a lane is −1.
    let lanes: i32x16 = bytemuck::cast(lanes);
    index(lanes.reduce_add().unsigned_abs())
}
