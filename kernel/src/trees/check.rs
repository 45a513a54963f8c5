//! The one check of a tree ensemble's sections. What passes here stays in bounds for every row.

use super::{Compare, Leaves, RankWidth, Trees};
use crate::error::ImageError;
use crate::image::records::{
    FeatureRecord, GroupRecord, LEAF, ModelRecord, NodeRecord, SlotRecord, TreeRecord, TreesRecord, compare,
    slot, sum,
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
        let link = Link::parse(record.link, record.link_scale)
            .filter(|_| record.reserved == 0)
            .ok_or(invalid(SectionKind::Trees))?;
        let trees = Self {
            features: sections.exactly(SectionKind::Features, index(model.n_features))?,
            thresholds: sections.slice(SectionKind::Thresholds)?,
            slots: sections.slice(SectionKind::Slots)?,
            categories: sections.slice(SectionKind::Categories)?,
            groups: sections.exactly(SectionKind::Groups, index(model.n_raw))?,
            trees: sections.slice(SectionKind::PlainTrees)?,
            nodes: sections.slice(SectionKind::PlainNodes)?,
            leaves: leaves(sections, record)?,
            rank,
            compare,
            link,
        };
        let hold = |holds: bool, kind| if holds { Ok(()) } else { Err(invalid(kind)) };
        // One after the other: once tables are known not to overlap, later checks cost no more than their size.
        hold(trees.features_hold(), SectionKind::Features)?;
        hold(trees.slots_hold(), SectionKind::Slots)?;
        hold(trees.groups_hold(), SectionKind::Groups)?;
        hold(trees.trees_hold(), SectionKind::PlainTrees)?;
        hold(trees.nodes_hold(), SectionKind::PlainNodes)?;
        hold(trees.leaves_hold(), SectionKind::Leaves)?;
        hold(trees.dimensions_hold(model), SectionKind::Model)?;
        Ok(trees)
    }

    /// Runs of thresholds follow each other, fill the section, ascend, and fit the rank's width.
    fn features_hold(&self) -> bool {
        let limit = match self.rank {
            RankWidth::U8 => usize::from(u8::MAX),
            RankWidth::U16 => usize::from(u16::MAX),
        };
        let mut next = 0_usize;
        for &FeatureRecord { first, count } in self.features {
            let Some(run) = self.thresholds.get(index(first)..).and_then(|rest| rest.get(..index(count)))
            else {
                return false;
            };
            // `<` is false for NaN, so an ascending run of two or more holds none; a single one is asked itself.
            let ascends = run.iter().zip(run.iter().skip(1)).all(|(a, b)| a < b);
            if index(first) != next || run.len() > limit || !ascends || run.iter().any(|t| t.is_nan()) {
                return false;
            }
            next = next.saturating_add(run.len());
        }
        next == self.thresholds.len()
    }

    /// Slots name features and category sets that exist.
    fn slots_hold(&self) -> bool {
        // Slot numbers are 16 bits, and the highest means a leaf.
        self.slots.len() < usize::from(LEAF)
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

    /// Groups share out the trees, in order.
    fn groups_hold(&self) -> bool {
        let mut next = 0_usize;
        for &GroupRecord { first_tree, count, .. } in self.groups {
            if index(first_tree) != next {
                return false;
            }
            next = next.saturating_add(index(count));
        }
        next == self.trees.len() && !self.groups.is_empty()
    }

    /// Trees share out the nodes, in order, and none is empty.
    fn trees_hold(&self) -> bool {
        let mut next = 0_usize;
        for &TreeRecord { first_node, count } in self.trees {
            if index(first_node) != next || count == 0 {
                return false;
            }
            next = next.saturating_add(index(count));
        }
        next == self.nodes.len()
    }

    /// Children lie behind their parent and inside the tree, slots exist, and leaves are numbered in order,
    /// so that each leaf belongs to one node.
    fn nodes_hold(&self) -> bool {
        let mut next_leaf = 0_usize;
        for &TreeRecord { first_node, count } in self.trees {
            let Some(nodes) = self.nodes.get(index(first_node)..).and_then(|rest| rest.get(..index(count)))
            else {
                return false;
            };
            for (at, &NodeRecord { slot, child, rank }) in nodes.iter().enumerate() {
                let child = index(child);
                if slot == LEAF {
                    if child != next_leaf || rank != 0 {
                        return false;
                    }
                    next_leaf = next_leaf.saturating_add(1);
                } else {
                    let inside = child > at && child.saturating_add(1) < nodes.len();
                    if !inside || usize::from(slot) >= self.slots.len() {
                        return false;
                    }
                }
            }
        }
        next_leaf == self.n_leaves()
    }

    /// No sum of base and leaves can overflow, whatever the row.
    fn leaves_hold(&self) -> bool {
        self.groups.iter().all(|group| {
            match self.leaves {
                Leaves::FixedI32 { leaves, .. } => {
                    self.magnitude(group, |at| leaves.get(at).map(|leaf| i64::from(*leaf)))
                }
                Leaves::FixedI64 { leaves, .. } => self.magnitude(group, |at| leaves.get(at).copied()),
                Leaves::ExactF32 { .. } | Leaves::ExactF64 { .. } => Some(0),
            }
            .is_some_and(|magnitude| match self.leaves {
                Leaves::FixedI32 { .. } => magnitude <= u64::from(i32::MAX.unsigned_abs()),
                _ => magnitude <= i64::MAX.unsigned_abs(),
            })
        })
    }

    /// |base| + Σ over trees of the largest |leaf|; `None` on overflow.
    fn magnitude(&self, group: &GroupRecord, leaf: impl Fn(usize) -> Option<i64>) -> Option<u64> {
        let mut total = group.base.cast_signed().unsigned_abs();
        for tree in self.group_trees(group)? {
            let nodes = self.nodes.get(index(tree.first_node)..)?.get(..index(tree.count))?;
            let mut largest = 0;
            for node in nodes.iter().filter(|node| node.slot == LEAF) {
                largest = leaf(index(node.child))?.unsigned_abs().max(largest);
            }
            total = total.checked_add(largest)?;
        }
        Some(total)
    }

    /// Outputs, steps and scratch memory are those a tree model has.
    fn dimensions_hold(&self, model: &ModelRecord) -> bool {
        model.seq_len == 1
            && model.n_outputs == model.n_raw
            && self.scratch_bytes().and_then(|bytes| u32::try_from(bytes).ok()) == Some(model.scratch_bytes)
    }

    /// Bytes one prediction needs: margins, outputs and the quantized row, each padded.
    pub(crate) fn scratch_bytes(&self) -> Option<usize> {
        let rank = match self.rank {
            RankWidth::U8 => size_of::<u8>(),
            RankWidth::U16 => size_of::<u16>(),
        };
        let margins = padded(self.groups.len().checked_mul(size_of::<f64>())?)?;
        let outputs = padded(self.groups.len().checked_mul(size_of::<f32>())?)?;
        let ranks = padded(self.slots.len().checked_mul(rank)?)?;
        margins.checked_add(outputs)?.checked_add(ranks)
    }
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
