//! Splits to slots and ranks, without loss.
//!
//! Per feature the sorted unique thresholds are numbered; a node with threshold number r sends a row right when
//! the row's rank is above r. Missing-value rules and category sets become slots of their own, so that a walk
//! only compares integers.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, bail, ensure};
use qsc_kernel::image::records::{
    FeatureRecord, LEAF, SlotRecord, THRESHOLD_BLOCK, THRESHOLD_PAD, ThresholdBlock, slot,
};

use crate::compile::ir::{LibraryRules, Missing, Node, Test, Tree, TreeModel};

/// Words all category sets together may take: 256 MiB. A set takes a bit for every number up to its largest.
const MAX_CATEGORY_WORDS: usize = 1 << 26;

/// What a slot is told apart by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct SlotKey {
    feature: usize,
    rule: u32,
    set: Vec<u32>,
}

/// A test as the kernel asks it.
enum Question {
    /// Right when the rank of this slot is above `rank`.
    Rank { key: SlotKey, threshold: Option<f32> },
    /// Every row goes right.
    AlwaysRight,
}

/// A node on ranks; children are indices into the same tree.
#[derive(Clone, Copy, Debug)]
pub(super) enum RankedNode {
    Leaf(f64),
    Split { slot: u16, rank: u16, left: usize, right: usize },
}

/// Thresholds and slots of a model, and the way from its tests to them.
pub(super) struct Quantizer {
    pub(super) features: Vec<FeatureRecord>,
    /// The search trees of all features.
    pub(super) thresholds: Vec<ThresholdBlock>,
    /// The sorted unique thresholds of each feature.
    runs: Vec<Vec<f32>>,
    pub(super) slots: Vec<SlotRecord>,
    pub(super) categories: Vec<u32>,
    pub(super) rank_bits: u32,
    rules: LibraryRules,
    numbers: BTreeMap<SlotKey, u16>,
}

impl Quantizer {
    pub(super) fn new(model: &TreeModel) -> anyhow::Result<Self> {
        let n_features = model.feature_names.len();
        let mut thresholds: Vec<BTreeSet<Ordered>> = vec![BTreeSet::new(); n_features];
        let mut keys = BTreeSet::new();
        for tree in &model.trees {
            for node in &tree.nodes {
                let Node::Split { feature, test, .. } = node else { continue };
                ensure!(*feature < n_features, "a node asks for feature {feature} of {n_features}");
                if let Question::Rank { key, threshold } = question(*feature, test, model.rules)? {
                    thresholds[*feature].extend(threshold.map(Ordered));
                    keys.insert(key);
                }
            }
        }
        let mut quantizer = Self {
            features: Vec::new(),
            thresholds: Vec::new(),
            runs: Vec::new(),
            slots: Vec::new(),
            categories: Vec::new(),
            rank_bits: if thresholds.iter().all(|of| of.len() <= usize::from(u8::MAX)) { 8 } else { 16 },
            rules: model.rules,
            numbers: BTreeMap::new(),
        };
        for (feature, of) in thresholds.iter().enumerate() {
            ensure!(
                of.len() <= usize::from(u16::MAX),
                "feature {} has {} thresholds; the format holds 65535 per feature",
                model.feature_names[feature],
                of.len()
            );
            let first = u32::try_from(quantizer.thresholds.len())?;
            let run: Vec<f32> = of.iter().map(|threshold| threshold.0).collect();
            quantizer.thresholds.extend(search_tree(&run));
            quantizer.features.push(FeatureRecord { first, count: u32::try_from(run.len())? });
            quantizer.runs.push(run);
        }
        ensure!(
            keys.len() < usize::from(LEAF),
            "the model needs {} slots; the format holds 65534",
            keys.len()
        );
        for key in keys {
            quantizer.push_slot(key)?;
        }
        Ok(quantizer)
    }

    fn push_slot(&mut self, key: SlotKey) -> anyhow::Result<()> {
        let room = MAX_CATEGORY_WORDS - self.categories.len();
        let words = bit_set(&key.set, room).with_context(|| {
            format!(
                "the category sets of the model need more than {} MiB; number the categories of feature {} from 0",
                MAX_CATEGORY_WORDS >> 18,
                key.feature
            )
        })?;
        let categorical = matches!(key.rule, slot::IN_SET_NAN_0 | slot::IN_SET_NAN_1 | slot::NOT_IN_SET);
        let first = if categorical { u32::try_from(self.categories.len())? } else { 0 };
        self.slots.push(SlotRecord {
            feature: u32::try_from(key.feature)?,
            rule: key.rule,
            first,
            count: u32::try_from(words.len())?,
        });
        self.categories.extend(words);
        self.numbers.insert(key, u16::try_from(self.slots.len() - 1)?);
        Ok(())
    }

    /// A tree on ranks; nodes keep their indices, and nodes every row passes the same way become their child.
    pub(super) fn tree(&self, tree: &Tree) -> anyhow::Result<Vec<RankedNode>> {
        let mut ranked: Vec<RankedNode> = Vec::with_capacity(tree.nodes.len());
        // Children come after their parent, so going backwards every child is known.
        for node in tree.nodes.iter().rev() {
            let of = |child: usize| tree.nodes.len() - 1 - child;
            ranked.push(match node {
                Node::Leaf(value) => RankedNode::Leaf(*value),
                Node::Split { feature, test, left, right } => match question(*feature, test, self.rules)? {
                    Question::AlwaysRight => ranked[of(*right)],
                    Question::Rank { key, threshold } => {
                        let slot = self.numbers.get(&key).copied().context("a slot was not numbered")?;
                        let rank = threshold.map_or(Ok(0), |threshold| self.rank(*feature, threshold))?;
                        RankedNode::Split { slot, rank, left: *left, right: *right }
                    }
                },
            });
        }
        ranked.reverse();
        Ok(ranked)
    }

    fn rank(&self, feature: usize, threshold: f32) -> anyhow::Result<u16> {
        let rank = self.thresholds_of(feature).partition_point(|&of| of < threshold);
        Ok(u16::try_from(rank)?)
    }

    /// The sorted unique thresholds of a feature.
    pub(super) fn thresholds_of(&self, feature: usize) -> &[f32] {
        &self.runs[feature]
    }
}

/// The thresholds in blocks, and above them, up to a level of one block, where the blocks of the level below end.
fn search_tree(thresholds: &[f32]) -> Vec<ThresholdBlock> {
    let mut levels = vec![blocks(thresholds)];
    while let Some([below @ .., _]) = levels.last().map(Vec::as_slice)
        && !below.is_empty()
    {
        let ends: Vec<f32> = below.iter().map(|block| block[THRESHOLD_BLOCK - 1]).collect();
        levels.push(blocks(&ends));
    }
    levels.into_iter().rev().flatten().collect()
}

fn blocks(values: &[f32]) -> Vec<ThresholdBlock> {
    let padded = |chunk: &[f32]| {
        let mut block = [f32::from_bits(THRESHOLD_PAD); THRESHOLD_BLOCK];
        block[..chunk.len()].copy_from_slice(chunk);
        block
    };
    values.chunks(THRESHOLD_BLOCK).map(padded).collect()
}

fn question(feature: usize, test: &Test, rules: LibraryRules) -> anyhow::Result<Question> {
    let slot = |rule, set: &[u32]| SlotKey { feature, rule, set: set.to_vec() };
    Ok(match test {
        Test::Number { threshold, missing } => {
            ensure!(!threshold.is_nan(), "a threshold of feature {feature} is NaN");
            let folded = match rules {
                LibraryRules::XgBoost => *threshold as f32,
                LibraryRules::LightGbm => beside_zero(round_down(*threshold)),
            };
            // No number is below −∞; only missing values can go left there.
            if rules == LibraryRules::XgBoost && folded == f32::NEG_INFINITY {
                return Ok(match missing {
                    Missing::Nan { left: true } => {
                        Question::Rank { key: slot(slot::IS_NUMBER, &[]), threshold: None }
                    }
                    Missing::Nan { left: false } => Question::AlwaysRight,
                    Missing::NanIsZero | Missing::Zero { .. } => bail!("a zero rule in an XGBoost model"),
                });
            }
            let rule = match missing {
                Missing::Nan { left: true } => slot::NAN_LEFT,
                Missing::Nan { left: false } => slot::NAN_RIGHT,
                Missing::NanIsZero => slot::NAN_IS_ZERO,
                Missing::Zero { left: true } => slot::ZERO_LEFT,
                Missing::Zero { left: false } => slot::ZERO_RIGHT,
            };
            // Adding zero turns −0 into 0, which compares the same.
            Question::Rank { key: slot(rule, &[]), threshold: Some(folded + 0.0) }
        }
        Test::CategoryRight { set, nan_left: true } => {
            Question::Rank { key: slot(slot::IN_SET_NAN_0, set), threshold: None }
        }
        Test::CategoryRight { set, nan_left: false } => {
            Question::Rank { key: slot(slot::IN_SET_NAN_1, set), threshold: None }
        }
        Test::CategoryLeft { set } => Question::Rank { key: slot(slot::NOT_IN_SET, set), threshold: None },
    })
}

/// The largest f32 not above `x`: every f32 compares with it by `<=` as with `x`.
fn round_down(x: f64) -> f32 {
    let nearest = x as f32;
    if f64::from(nearest) > x { nearest.next_down() } else { nearest }
}

/// LightGBM reads every |x| ≤ 1e-35 as 0. A threshold in between tells the same values apart from the end of that
/// interval, where a plain `<=` does without the rule.
fn beside_zero(threshold: f32) -> f32 {
    /// LightGBM's `kZeroThreshold`.
    const ZERO: f32 = 1e-35;
    if threshold.abs() > ZERO {
        threshold
    } else if threshold < 0.0 {
        (-ZERO).next_down()
    } else {
        ZERO
    }
}

/// 32 categories a word, lowest bit first; `None` if that takes more than `room` words.
fn bit_set(set: &[u32], room: usize) -> Option<Vec<u32>> {
    let words = set.iter().max().map_or(0, |&largest| largest as usize / 32 + 1);
    if words > room {
        return None;
    }
    let mut bits = vec![0; words];
    for &category in set {
        bits[category as usize / 32] |= 1 << (category % 32);
    }
    Some(bits)
}

/// Thresholds in numeric order; NaN and −0 never get here.
#[derive(Clone, Copy, Debug)]
struct Ordered(f32);

impl PartialEq for Ordered {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Ordered {}

impl PartialOrd for Ordered {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ordered {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_round_toward_minus_infinity() {
        for x in [0.1, -0.1, 1e-35_f64, 1.0, 1e308, -1e308, 0.0, f64::INFINITY, 1.000_000_018_002_509_5e-35] {
            let down = round_down(x);
            assert!(f64::from(down) <= x, "{x}");
            assert!(down == f32::INFINITY || f64::from(down.next_up()) > x, "{x}");
        }
    }

    #[test]
    fn no_threshold_lies_where_values_read_as_zero() {
        let zero = 1e-35_f32;
        let ends = [zero, zero.next_down(), zero.next_up(), 1e-45, 0.0, 1.0, f32::INFINITY];
        let all = || ends.iter().flat_map(|&end| [end, -end]);
        for (threshold, x) in all().flat_map(|threshold| all().map(move |x| (threshold, x))) {
            let read = if x.abs() <= zero { 0.0 } else { x };
            assert_eq!(x <= beside_zero(threshold), read <= threshold, "{x:e} <= {threshold:e}");
        }
    }

    #[test]
    fn bit_sets_have_the_words_they_need() {
        assert_eq!(bit_set(&[], 0), Some(vec![]));
        assert_eq!(bit_set(&[0, 31, 32], 2), Some(vec![0x8000_0001, 1]));
        assert_eq!(bit_set(&[0, 31, 32], 1), None);
        assert_eq!(bit_set(&[u32::MAX], MAX_CATEGORY_WORDS), None);
    }
}
