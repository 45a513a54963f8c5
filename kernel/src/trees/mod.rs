//! Tree ensembles: a row becomes ranks, trees are walked on ranks, leaves are summed per group.
//!
//! Ranks are lossless: a threshold comparison on the original value and the comparison of its rank always
//! agree, so a walk needs integers only, and missing values and category sets are settled before it starts.
//!
//! | file | does |
//! | --- | --- |
//! | `check` | the one check of a tree ensemble's sections |
//! | `quantize` | a row becomes ranks |
//! | `layout`; `blocks`, `masks`, `plain` | how trees are stored, and each way |
//! | `walk` | ranks become margins, on the chosen backend |
//! | `leaf` | leaf values and their sums |
//! | `batch`, `blend` | many rows at once, and that with AVX-512 |
#![cfg_attr(
    not(any(
        all(target_arch = "x86_64", target_feature = "sse2"),
        all(target_arch = "aarch64", target_feature = "neon")
    )),
    allow(
        dead_code,
        unused_imports,
        unused_variables,
        reason = "what vector walks ask of trees: this target has no vector registers"
    )
)]

mod batch;
#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
mod blend;
mod blocks;
mod check;
mod layout;
mod leaf;
mod masks;
mod plain;
mod quantize;
mod walk;

use crate::error::PredictError;
use crate::image::records::{FeatureRecord, GroupRecord, SlotRecord, ThresholdBlock};
use crate::link::{Link, Output};
use crate::observe::{Observer, Stage};
use crate::scratch::Scratch;
use crate::simd::Backend;
use layout::Layout;

#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
pub(crate) use batch::BATCH_ROWS;
#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
pub(crate) use blend::Columns;
pub use layout::TreeLayout;
pub(crate) use quantize::Rank;
pub(crate) use {
    blocks::{Blocks, Row},
    leaf::{Leaf, Leaf32},
    masks::Masks,
};

/// A checked tree ensemble, borrowed from its image.
#[derive(Clone, Debug)]
pub struct Trees<'image> {
    features: &'image [FeatureRecord],
    thresholds: &'image [ThresholdBlock],
    slots: &'image [SlotRecord],
    categories: &'image [u32],
    groups: &'image [GroupRecord],
    layout: Layout<'image>,
    leaves: Leaves<'image>,
    n_trees: usize,
    n_leaves: usize,
    rank: RankWidth,
    compare: Compare,
    /// Some slot's rank is not its count of thresholds even where no value is missing.
    special_slots: bool,
    link: Link,
}

/// Width of a rank in the quantized row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RankWidth {
    /// Up to 255 thresholds per feature.
    U8,
    /// Up to 65 535 thresholds per feature.
    U16,
}

/// Which values a threshold sends left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compare {
    /// `x < t` (XGBoost).
    Less,
    /// `x <= t` (LightGBM).
    LessEqual,
}

/// Leaf values and how they are summed; blocks hold theirs themselves, and the slice is empty.
#[derive(Clone, Copy, Debug)]
enum Leaves<'image> {
    /// Multiples of `step`; any order of summation gives the same bits.
    FixedI32 { leaves: &'image [i32], step: f64 },
    /// As above, where 32 bits would cost accuracy.
    FixedI64 { leaves: &'image [i64], step: f64 },
    /// f32 sums in tree order.
    ExactF32 { leaves: &'image [f32] },
    /// f64 sums in tree order.
    ExactF64 { leaves: &'image [f64] },
}

impl Trees<'_> {
    /// Trees in all groups.
    #[must_use]
    pub const fn n_trees(&self) -> usize {
        self.n_trees
    }

    /// Leaves of all trees.
    #[must_use]
    pub const fn n_leaves(&self) -> usize {
        self.n_leaves
    }

    /// How trees are stored.
    #[must_use]
    pub const fn layout(&self) -> TreeLayout {
        self.layout.kind()
    }

    pub(crate) const fn link(&self) -> Link {
        self.link
    }

    /// How ranks and leaves are encoded.
    #[must_use]
    pub const fn quantization(&self) -> Quantization {
        let rank_bits = match self.rank {
            RankWidth::U8 => 8,
            RankWidth::U16 => 16,
        };
        let (leaf, step) = match self.leaves {
            Leaves::FixedI32 { step, .. } => (LeafType::FixedI32, Some(step)),
            Leaves::FixedI64 { step, .. } => (LeafType::FixedI64, Some(step)),
            Leaves::ExactF32 { .. } => (LeafType::ExactF32, None),
            Leaves::ExactF64 { .. } => (LeafType::ExactF64, None),
        };
        Quantization { rank_bits, leaf, step }
    }

    /// Predicts one row `[n_features] f32`; NaN is a missing value, infinities are ordinary values.
    pub(crate) fn predict<'s>(
        &self,
        row: &[f32],
        scratch: Scratch<'s>,
        backend: Backend,
        observer: &mut dyn Observer,
    ) -> Result<Output<'s>, PredictError> {
        let (raw, scratch) = scratch.take::<f64>(self.groups.len())?;
        let (values, scratch) = scratch.take::<f32>(self.groups.len())?;
        match self.rank {
            RankWidth::U8 => {
                let (ranks, _) = scratch.take::<u8>(self.row_len())?;
                self.quantize(row, ranks, backend)?;
                observer.ended(Stage::Quantize);
                self.margins::<_, 1>(ranks, raw, backend)?;
            }
            RankWidth::U16 => {
                let (ranks, _) = scratch.take::<u16>(self.row_len())?;
                self.quantize(row, ranks, backend)?;
                observer.ended(Stage::Quantize);
                self.margins::<_, 1>(ranks, raw, backend)?;
            }
        }
        observer.ended(Stage::Walk);
        self.link.apply(raw, values);
        observer.ended(Stage::Link);
        Ok(Output { raw, values })
    }

    /// Values of the row of ranks that walks read: one a slot, in 8 bits at least as many as a byte can number.
    fn row_len(&self) -> usize {
        match self.rank {
            RankWidth::U8 => self.slots.len().max(size_of::<Row>()),
            RankWidth::U16 => self.slots.len(),
        }
    }
}

/// How a tree model is encoded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantization {
    /// Bits of a rank: 8 or 16.
    pub rank_bits: u32,
    /// Type of a leaf.
    pub leaf: LeafType,
    /// Fixed point: the value of one unit.
    pub step: Option<f64>,
}

/// Type of a leaf and of the sum over leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeafType {
    /// i32 fixed point.
    FixedI32,
    /// i64 fixed point.
    FixedI64,
    /// f32 in tree order.
    ExactF32,
    /// f64 in tree order.
    ExactF64,
}

impl LeafType {
    /// The name shown by `qsc model inspect`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::FixedI32 => "i32",
            Self::FixedI64 => "i64",
            Self::ExactF32 => "f32-exact",
            Self::ExactF64 => "f64-exact",
        }
    }
}
