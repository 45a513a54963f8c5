//! The one check of a tree ensemble's sections. What passes here stays in bounds for every row.

use super::blocks::Blocks;
use super::layout::{Layout, TreeLayout};
use super::leaf::Leaf;
use super::masks::Masks;
use super::plain::Plain;
use super::{Compare, Leaves, RankWidth, Trees};
use crate::error::ImageError;
use crate::image::records::{
    BlockRecord, FeatureRecord, GroupRecord, LEAF, LeafBlockRecord, MaskNodesRecord, ModelRecord, NodeRecord,
    SlotRecord, THRESHOLD_BLOCK, THRESHOLD_PAD, ThresholdBlock, TopBlocksRecord, TreeRecord, TreesRecord,
    compare, slot, sum,
};
use crate::image::{SectionKind, Sections};
use crate::link::Link;
use crate::num::{index, power_of_two};
use crate::scratch::padded;

impl<'image> Trees<'image> {
    /// Checks every index, count and order of the sections.
    pub(crate) fn check(sections: &Sections<'image>, model: &ModelRecord) -> Result<Self, ImageError> {
        let record: &TreesRecord = sections.record(SectionKind::Trees)?;
        let invalid = ImageError::Invalid;
        let rank = match record.rank_bits {
            8 => RankWidth::U8,
            16 => RankWidth::U16,
            _ => return Err(invalid(SectionKind::Trees)),
        };
        let compare = match record.compare {
            compare::LESS => Compare::Less,
            compare::LESS_EQUAL => Compare::LessEqual,
            _ => return Err(invalid(SectionKind::Trees)),
        };
        let link = Link::parse(record.link, record.link_scale).ok_or(invalid(SectionKind::Trees))?;
        let kind = TreeLayout::from_code(record.layout)
            .filter(|kind| *kind == TreeLayout::Plain || rank == RankWidth::U8)
            .ok_or(invalid(SectionKind::Trees))?;
        let groups = sections.exactly(SectionKind::Groups, index(model.n_raw))?;
        let n_trees = trees_of(groups).ok_or(invalid(SectionKind::Groups))?;
        let stored = stored_trees(groups, kind).ok_or(invalid(SectionKind::Groups))?;
        let slots: &[SlotRecord] = sections.slice(SectionKind::Slots)?;
        let mut trees = Self {
            features: sections.exactly(SectionKind::Features, index(model.n_features))?,
            thresholds: sections.slice(SectionKind::Thresholds)?,
            slots,
            categories: sections.slice(SectionKind::Categories)?,
            groups,
            layout: match kind {
                TreeLayout::Plain => Layout::Plain(Plain::read(sections, stored)?),
                TreeLayout::Blocks { levels } => {
                    Layout::Blocks(Blocks::read(sections, record, levels, stored)?)
                }
                TreeLayout::Masks { leaves } => Layout::Masks(Masks::read(sections, leaves, stored)?),
            },
            leaves: leaves(sections, record)?,
            n_trees,
            n_leaves: 0,
            rank,
            compare,
            special_slots: slots
                .iter()
                .any(|slot| !matches!(slot.rule, slot::NAN_LEFT | slot::NAN_RIGHT | slot::NAN_IS_ZERO)),
            link,
        };
        let hold = |holds: bool, kind| if holds { Ok(()) } else { Err(invalid(kind)) };
        unused_are_empty(sections, kind)?;
        hold(trees.features_hold(), SectionKind::Features)?;
        hold(trees.slots_hold(), SectionKind::Slots)?;
        let nodes = trees.nodes_hold(stored)?;
        trees.n_leaves = n_trees.saturating_add(nodes);
        hold(trees.sums_hold(), SectionKind::Leaves)?;
        hold(trees.dimensions_hold(model), SectionKind::Model)?;
        Ok(trees)
    }

    /// Search trees of thresholds follow each other, fill the section, are what their thresholds make them, and fit the
    /// rank's width.
    fn features_hold(&self) -> bool {
        let limit = match self.rank {
            RankWidth::U8 => usize::from(u8::MAX),
            RankWidth::U16 => usize::from(u16::MAX),
        };
        let mut rest = self.thresholds;
        let mut next = 0_usize;
        for feature in self.features {
            let size = levels(feature).fold(0, usize::saturating_add);
            let Some((blocks, behind)) = rest.split_at_checked(size) else {
                return false;
            };
            if index(feature.first) != next || index(feature.count) > limit || !searchable(feature, blocks) {
                return false;
            }
            next = next.saturating_add(size);
            rest = behind;
        }
        rest.is_empty()
    }

    /// Slots name features and category sets that exist.
    fn slots_hold(&self) -> bool {
        // Plain slot numbers are 16 bits, and the highest means a leaf; the other layouts have 8 bits.
        let limit = match self.layout {
            Layout::Plain(_) => usize::from(LEAF).saturating_sub(1),
            Layout::Blocks(_) | Layout::Masks(_) => MAX_BYTE_SLOTS,
        };
        self.slots.len() <= limit
            && self.slots.iter().all(|&SlotRecord { feature, rule, first, count }| {
                let set = self.categories.get(index(first)..).and_then(|rest| rest.get(..index(count)));
                let known = match rule {
                    slot::IN_SET_NAN_0 | slot::IN_SET_NAN_1 | slot::NOT_IN_SET => set.is_some(),
                    slot::NAN_LEFT..=slot::IS_NUMBER => first == 0 && count == 0,
                    _ => false,
                };
                known && index(feature) < self.features.len()
            })
    }

    /// Trees are walked over slots that exist to leaves that exist, and those that fill up a group are empty.
    /// Gives the number of nodes.
    fn nodes_hold(&self, stored: usize) -> Result<usize, ImageError> {
        let slots = self.slots.len();
        let leaves = |per_tree: usize| {
            if stored.checked_mul(per_tree) == Some(self.leaves.len()) {
                Ok(())
            } else {
                Err(ImageError::Invalid(SectionKind::Leaves))
            }
        };
        let (nodes, section) = match &self.layout {
            Layout::Plain(plain) => (plain.check(slots, self.leaves.len())?, SectionKind::PlainTrees),
            Layout::Blocks(blocks) => {
                leaves(0)?;
                (blocks.check(slots)?, SectionKind::LeafBlocks)
            }
            Layout::Masks(masks) => {
                leaves(index(masks.leaves()))?;
                (masks.check(slots)?, SectionKind::MaskTrees)
            }
        };
        if self.fillers_are_idle() { Ok(nodes) } else { Err(ImageError::Invalid(section)) }
    }

    /// Trees that fill up a group have no nodes and add nothing.
    fn fillers_are_idle(&self) -> bool {
        let kind = self.layout.kind();
        let mut next = 0_usize;
        self.groups.iter().all(|group| {
            let count = index(group.count);
            let Some(stored) = stored_in_group(count, kind) else { return false };
            let first = next.saturating_add(count);
            let fillers = stored.saturating_sub(count);
            next = next.saturating_add(stored);
            match &self.layout {
                Layout::Plain(_) => true,
                Layout::Blocks(blocks) => match self.leaves {
                    Leaves::ExactF32 { .. } => blocks.are_idle::<f32>(first, fillers),
                    _ => blocks.are_idle::<i32>(first, fillers),
                },
                Layout::Masks(masks) => {
                    masks.are_idle(first, fillers)
                        && self.leaves.neutral(first, fillers, index(masks.leaves()))
                }
            }
        })
    }

    /// No sum of base and leaves can overflow, whatever the row.
    fn sums_hold(&self) -> bool {
        let kind = self.layout.kind();
        let mut first = 0_usize;
        self.groups.iter().all(|group| {
            let Some(stored) = stored_in_group(index(group.count), kind) else { return false };
            let (leaves, limit) = match self.leaves {
                Leaves::FixedI32 { leaves, .. } => {
                    (self.magnitude32(leaves, first, stored), u64::from(i32::MAX.unsigned_abs()))
                }
                Leaves::FixedI64 { leaves, .. } => {
                    (self.magnitude(leaves, first, stored), i64::MAX.unsigned_abs())
                }
                Leaves::ExactF32 { .. } | Leaves::ExactF64 { .. } => return true,
            };
            first = first.saturating_add(stored);
            let base = group.base.cast_signed().unsigned_abs();
            leaves.and_then(|leaves| leaves.checked_add(base)).is_some_and(|magnitude| magnitude <= limit)
        })
    }

    /// Σ over trees of the largest |leaf|; `None` on overflow.
    fn magnitude32(&self, leaves: &[i32], first: usize, stored: usize) -> Option<u64> {
        match &self.layout {
            Layout::Blocks(blocks) => blocks.part(first, stored)?.magnitude::<i32>(),
            _ => self.magnitude(leaves, first, stored),
        }
    }

    fn magnitude<L: Leaf>(&self, leaves: &[L], first: usize, stored: usize) -> Option<u64> {
        match &self.layout {
            Layout::Plain(plain) => plain.part(first, stored)?.magnitude(leaves),
            Layout::Masks(masks) => largest_of_each(leaves, index(masks.leaves()), first, stored),
            Layout::Blocks(_) => None,
        }
    }

    /// Outputs, steps and scratch memory are those a tree model has.
    fn dimensions_hold(&self, model: &ModelRecord) -> bool {
        model.seq_len == 1
            && model.n_outputs == model.n_raw
            && self.scratch_bytes().and_then(|bytes| u32::try_from(bytes).ok()) == Some(model.scratch_bytes)
    }

    /// Bytes one prediction needs: margins, outputs and the quantized row, each padded.
    pub(crate) fn scratch_bytes(&self) -> Option<usize> {
        let ranks = match self.rank {
            RankWidth::U8 => self.row_len().checked_mul(size_of::<u8>())?,
            RankWidth::U16 => self.row_len().checked_mul(size_of::<u16>())?,
        };
        let margins = padded(self.groups.len().checked_mul(size_of::<f64>())?)?;
        let outputs = padded(self.groups.len().checked_mul(size_of::<f32>())?)?;
        margins.checked_add(outputs)?.checked_add(padded(ranks)?)
    }
}

/// Slots that one byte can number.
const MAX_BYTE_SLOTS: usize = 256;

/// Trees of all groups, if they share them out in order and there is a group at all.
fn trees_of(groups: &[GroupRecord]) -> Option<usize> {
    let mut next = 0_usize;
    for &GroupRecord { first_tree, count, .. } in groups {
        if index(first_tree) != next {
            return None;
        }
        next = next.checked_add(index(count))?;
    }
    (!groups.is_empty()).then_some(next)
}

/// Trees as stored: each group filled up.
fn stored_trees(groups: &[GroupRecord], kind: TreeLayout) -> Option<usize> {
    groups.iter().try_fold(0_usize, |sum, group| sum.checked_add(stored_in_group(index(group.count), kind)?))
}

/// Trees of one group as stored.
pub(super) fn stored_in_group(count: usize, kind: TreeLayout) -> Option<usize> {
    count.checked_next_multiple_of(kind.trees_at_once())
}

/// Σ over trees of `per_tree` leaves of the largest |leaf|; `None` on overflow.
fn largest_of_each<L: Leaf>(leaves: &[L], per_tree: usize, first: usize, stored: usize) -> Option<u64> {
    let leaves = leaves.get(first.checked_mul(per_tree)?..)?.get(..stored.checked_mul(per_tree)?)?;
    let trees = leaves.chunks_exact(per_tree.max(1));
    let largest = trees.map(|tree| tree.iter().map(|leaf| leaf.magnitude()).max().unwrap_or(0));
    largest.into_iter().try_fold(0_u64, u64::checked_add)
}

/// Sections of the layouts an image does not use are there and empty.
fn unused_are_empty(sections: &Sections<'_>, kind: TreeLayout) -> Result<(), ImageError> {
    if kind != TreeLayout::Plain {
        sections.exactly::<TreeRecord>(SectionKind::PlainTrees, 0)?;
        sections.exactly::<NodeRecord>(SectionKind::PlainNodes, 0)?;
    }
    if !matches!(kind, TreeLayout::Blocks { .. }) {
        sections.exactly::<TopBlocksRecord>(SectionKind::TopBlocks, 0)?;
        sections.exactly::<BlockRecord>(SectionKind::MiddleBlocks, 0)?;
        sections.exactly::<LeafBlockRecord>(SectionKind::LeafBlocks, 0)?;
    }
    if !matches!(kind, TreeLayout::Masks { .. }) {
        sections.exactly::<MaskNodesRecord>(SectionKind::MaskTrees, 0)?;
    }
    Ok(())
}

impl Leaves<'_> {
    /// Values of the leaves section.
    const fn len(&self) -> usize {
        match self {
            Self::FixedI32 { leaves, .. } => leaves.len(),
            Self::FixedI64 { leaves, .. } => leaves.len(),
            Self::ExactF32 { leaves } => leaves.len(),
            Self::ExactF64 { leaves } => leaves.len(),
        }
    }

    /// Whether trees `first` to `first + count` of `per_tree` leaves each add nothing.
    fn neutral(&self, first: usize, count: usize, per_tree: usize) -> bool {
        fn all<L: Leaf>(leaves: &[L], first: Option<usize>, count: Option<usize>) -> bool {
            let run = first.zip(count).and_then(|(first, count)| leaves.get(first..)?.get(..count));
            run.is_some_and(|run| run.iter().all(|leaf| leaf.is_neutral()))
        }
        let (first, count) = (first.checked_mul(per_tree), count.checked_mul(per_tree));
        match self {
            Self::FixedI32 { leaves, .. } => all(leaves, first, count),
            Self::FixedI64 { leaves, .. } => all(leaves, first, count),
            Self::ExactF32 { leaves } => all(leaves, first, count),
            Self::ExactF64 { leaves } => all(leaves, first, count),
        }
    }
}

/// Blocks of each level of a feature's search tree, the lowest first.
fn levels(feature: &FeatureRecord) -> impl Iterator<Item = usize> {
    let blocks = |values: usize| Some(values.div_ceil(THRESHOLD_BLOCK)).filter(|&blocks| blocks > 0);
    // A level above holds a value for every block but the last, so there is none above one block.
    core::iter::successors(blocks(index(feature.count)), move |below| blocks(below.saturating_sub(1)))
}

/// The lowest level ascends, each level above says where its blocks end, and padding is padding.
fn searchable(feature: &FeatureRecord, blocks: &[ThresholdBlock]) -> bool {
    let is_pad = |value: &f32| value.to_bits() == THRESHOLD_PAD;
    let mut levels = levels(feature);
    let Some((mut above, mut level)) =
        levels.next().and_then(|size| blocks.split_at_checked(blocks.len().checked_sub(size)?))
    else {
        return feature.count == 0;
    };
    let Some((values, pads)) = level.as_flattened().split_at_checked(index(feature.count)) else {
        return false;
    };
    // `<` is false for NaN, so an ascending run of two or more holds none; a single one is asked itself.
    let ascends = values.iter().zip(values.iter().skip(1)).all(|(a, b)| a < b);
    if !ascends || values.iter().any(|value| value.is_nan()) || !pads.iter().all(is_pad) {
        return false;
    }
    for size in levels {
        let Some((higher, separators)) =
            above.len().checked_sub(size).and_then(|at| above.split_at_checked(at))
        else {
            return false;
        };
        let Some((_, all_but_last)) = level.split_last() else {
            return false;
        };
        let ends = all_but_last.iter().filter_map(|block| block.last().map(|end| end.to_bits()));
        let expected = ends.chain(core::iter::repeat(THRESHOLD_PAD));
        if !separators.as_flattened().iter().zip(expected).all(|(value, bits)| value.to_bits() == bits) {
            return false;
        }
        (above, level) = (higher, separators);
    }
    above.is_empty()
}

fn leaves<'image>(sections: &Sections<'image>, record: &TreesRecord) -> Result<Leaves<'image>, ImageError> {
    let kind = SectionKind::Leaves;
    let step = record
        .scale_log2
        .checked_neg()
        .and_then(power_of_two)
        .ok_or(ImageError::Invalid(SectionKind::Trees))?;
    Ok(match record.sum {
        sum::FIXED_I32 => Leaves::FixedI32 { leaves: sections.slice(kind)?, step },
        sum::FIXED_I64 => Leaves::FixedI64 { leaves: sections.slice(kind)?, step },
        sum::EXACT_F32 => Leaves::ExactF32 { leaves: sections.slice(kind)? },
        sum::EXACT_F64 => Leaves::ExactF64 { leaves: sections.slice(kind)? },
        _ => return Err(ImageError::Invalid(SectionKind::Trees)),
    })
}

#[cfg(test)]
mod tests {
    use super::super::quantize::tests::{COUNTS, search_tree, thresholds};
    use super::*;
    use crate::under_miri;

    #[test]
    fn only_the_search_tree_of_its_thresholds_passes() {
        for &count in COUNTS {
            let feature = FeatureRecord { first: 0, count: count as u32 };
            let tree = search_tree(&thresholds(count));
            assert_eq!(levels(&feature).sum::<usize>(), tree.len(), "{count} thresholds");
            assert!(searchable(&feature, &tree), "{count} thresholds");
            // Any other value at any place; of large trees some places.
            let values = tree.as_flattened().len();
            for at in (0..values).step_by(1 + values / under_miri(4, 100)).chain(values.checked_sub(1)) {
                let (block, place) = (at / THRESHOLD_BLOCK, at % THRESHOLD_BLOCK);
                let found = tree[block][place];
                let others = [
                    f32::from_bits(THRESHOLD_PAD ^ 1),
                    -f32::NAN,
                    f32::INFINITY,
                    f32::NEG_INFINITY,
                    found + 1e9,
                ];
                for other in others.into_iter().filter(|other| other.to_bits() != found.to_bits()) {
                    let mut altered = tree.clone();
                    altered[block][place] = other;
                    // The lowest and the highest threshold may be infinite instead, where nothing stands above them.
                    let ascends = |run: &[f32]| {
                        run.windows(2).all(|pair| pair[0] < pair[1])
                            && !run.iter().any(|value| value.is_nan())
                    };
                    let run = altered.as_flattened().get(values - count.next_multiple_of(THRESHOLD_BLOCK)..);
                    let same_model = search_tree(&run.unwrap()[..count]);
                    let still_one = ascends(&run.unwrap()[..count])
                        && same_model
                            .iter()
                            .flatten()
                            .map(|value| value.to_bits())
                            .eq(altered.iter().flatten().map(|value| value.to_bits()));
                    assert_eq!(
                        searchable(&feature, &altered),
                        still_one,
                        "{count} thresholds, {other} at {at}"
                    );
                }
            }
            let more = FeatureRecord { count: feature.count + 1, ..feature };
            let size = |feature: &FeatureRecord| levels(feature).sum::<usize>();
            assert!(
                size(&more) != tree.len() || !searchable(&more, &tree),
                "one of {count} thresholds is padding"
            );
        }
    }
}
