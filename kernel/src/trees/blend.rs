//! Many rows at once with AVX-512: trees of up to 256 leaves, in a layout that shows them.

use super::batch::BATCH_ROWS;
use super::layout::Layout;
use super::leaf::Leaf32;
use super::{Leaves, TreeLayout, Trees};
use crate::num::{float, index};
use crate::simd::Avx512;
use crate::simd::avx512::{Base, blend_blocks, blend_masks, quantize_columns};

/// Ranks of a batch slot by slot; a byte numbers a slot, so none lies outside.
pub(crate) type Columns = [[u8; BATCH_ROWS]; 256];

impl Trees<'_> {
    /// How many of the first of `rows` rows are better asked at once: 0 where none are, or cannot be.
    pub(super) fn at_once(&self, rows: usize) -> usize {
        if !matches!(self.leaves, Leaves::FixedI32 { .. } | Leaves::ExactF32 { .. }) {
            return 0;
        }
        // What up to 64, 128 and 256 rows at once cost, in rows asked alone (Zen 5).
        let costs: [usize; 3] = match self.layout.kind() {
            TreeLayout::Blocks { levels: ..=6 } => [32, 52, 90],
            TreeLayout::Blocks { levels: 7..=8 } => [58, 98, 152],
            TreeLayout::Masks { leaves: 32 } => [50, 74, 102],
            TreeLayout::Masks { .. } => [76, 100, 118],
            TreeLayout::Plain | TreeLayout::Blocks { .. } => return 0,
        };
        let choices = [0, 64, 128, BATCH_ROWS].into_iter().zip([0].into_iter().chain(costs));
        let cheapest = choices.min_by_key(|&(most, cost)| rows.saturating_sub(most).saturating_add(cost));
        cheapest.map_or(0, |(most, _)| rows.min(most))
    }

    /// Margins, `[n, n_raw]`, of up to a batch of rows, `[n, n_features]`; `None` only if the image changed after its check.
    pub(super) fn blend(&self, token: Avx512, rows: &[f32], raw: &mut [f64], ranks: &mut [u8]) -> Option<()> {
        let columns = self.quantize_columns(token, rows, ranks)?;
        match self.leaves {
            Leaves::FixedI32 { leaves, step } => {
                let margin = |sum: i32| float(i64::from(sum)) * step;
                self.blend_groups(token, false, leaves, columns, raw, margin)
            }
            Leaves::ExactF32 { leaves } => self.blend_groups(token, true, leaves, columns, raw, f64::from),
            Leaves::FixedI64 { .. } | Leaves::ExactF64 { .. } => None,
        }
    }

    /// Ranks of up to a batch of rows slot by slot; what is left of others does not matter.
    fn quantize_columns<'a>(&self, token: Avx512, rows: &[f32], ranks: &'a mut [u8]) -> Option<&'a Columns> {
        let (columns, _) = ranks.as_chunks_mut::<BATCH_ROWS>();
        let columns: &mut Columns = columns.first_chunk_mut()?;
        quantize_columns(token, self, rows, columns)?;
        Some(columns)
    }

    fn blend_groups<L: Leaf32>(
        &self,
        token: Avx512,
        float: bool,
        leaves: &[L],
        columns: &Columns,
        raw: &mut [f64],
        margin: impl Fn(L) -> f64,
    ) -> Option<()> {
        let rows = raw.len().checked_div(self.groups.len())?;
        let leaves: &[u32] = bytemuck::try_cast_slice(leaves).ok()?;
        for (group, part) in self.parts().enumerate() {
            let part = part?;
            let base = Base { bits: L::from_base(part.base)?.to_bits(), float };
            let sums = match &self.layout {
                Layout::Plain(_) => return None,
                Layout::Blocks(blocks) => {
                    let trees = blocks.part(part.first, part.stored)?;
                    blend_blocks(token, &trees, columns, rows, base)
                }
                Layout::Masks(masks) => {
                    let trees = masks.part(part.first, part.stored)?;
                    let leaves = part.leaves(leaves, index(masks.leaves()))?;
                    Some(blend_masks(token, &trees, leaves, columns, rows, base))
                }
            }?;
            for (raw, sum) in raw.chunks_exact_mut(self.groups.len().max(1)).zip(sums) {
                *raw.get_mut(group)? = margin(L::from_bits(sum));
            }
        }
        Some(())
    }
}
