//! One tree of a LightGBM text: arrays over splits and leaves, checked and linked.

use anyhow::{Context, Result, ensure};

use super::{Fields, SAVE_AGAIN};
use crate::compile::ir::{Missing, Node, Test, Tree};

/// Keys of a tree that decide its predictions, and those known not to (`shrinkage` is already in the leaves).
pub(super) const KEYS: &[&str] = &[
    "Tree",
    "cat_boundaries",
    "cat_threshold",
    "decision_type",
    "internal_count",
    "internal_value",
    "internal_weight",
    "is_linear",
    "leaf_coeff",
    "leaf_const",
    "leaf_count",
    "leaf_features",
    "leaf_value",
    "leaf_weight",
    "left_child",
    "num_cat",
    "num_features",
    "num_leaves",
    "right_child",
    "shrinkage",
    "split_feature",
    "split_gain",
    "threshold",
];

const CATEGORICAL: u8 = 1;
const DEFAULT_LEFT: u8 = 2;
const MISSING_SHIFT: u32 = 2;

/// Reads one tree; its leaves are added to `group`.
pub(super) fn read(fields: &Fields<'_>, group: usize, n_features: usize) -> Result<Tree> {
    let of = &fields.of;
    let linear: u8 = fields.get("is_linear").map_or(Ok(0), |_| fields.number("is_linear"))?;
    ensure!(
        linear == 0,
        "{of}: the leaves are linear models (linear_tree=true), which is not supported; train without it"
    );
    let leaves: usize = fields.number("num_leaves")?;
    ensure!(leaves > 0, "{of}: the tree has no leaves; {SAVE_AGAIN}");
    let values: Vec<f64> = fields.numbers("leaf_value", leaves)?;
    ensure!(
        values.iter().all(|value| value.is_finite()),
        "{of}: a leaf is not finite; train the model again"
    );

    // Splits come first, then leaves: a child below 0 is leaf `!child`.
    let mut nodes = if leaves > 1 { read_splits(fields, leaves, n_features)? } else { Vec::new() };
    nodes.extend(values.into_iter().map(Node::Leaf));
    let (tree, unreached) =
        Tree::from_linked(group, nodes).map_err(|error| anyhow::anyhow!("{of}: {error}; {SAVE_AGAIN}"))?;
    ensure!(unreached.is_empty(), "{of}: {} nodes cannot be reached; {SAVE_AGAIN}", unreached.len());
    Ok(tree)
}

/// The splits of a tree with `leaves` leaves, `[leaves - 1]`.
fn read_splits(fields: &Fields<'_>, leaves: usize, n_features: usize) -> Result<Vec<Node>> {
    let of = &fields.of;
    let count = leaves - 1;
    let features: Vec<usize> = fields.numbers("split_feature", count)?;
    let thresholds: Vec<f64> = fields.numbers("threshold", count)?;
    let left_children: Vec<i64> = fields.numbers("left_child", count)?;
    let right_children: Vec<i64> = fields.numbers("right_child", count)?;
    let decisions: Vec<u8> = match fields.get("decision_type") {
        Some(_) => fields.numbers("decision_type", count)?,
        None => vec![0; count],
    };
    let mut sets = read_sets(fields)?;

    let child = |child: i64| {
        let index = if child < 0 {
            usize::try_from(!child).ok().map(|leaf| leaf.saturating_add(count))
        } else {
            usize::try_from(child).ok()
        };
        index
            .filter(|&index| if child < 0 { index < count + leaves } else { index < count })
            .with_context(|| format!("{of}: the child {child} does not exist; {SAVE_AGAIN}"))
    };
    let mut splits = Vec::with_capacity(count);
    for split in 0..count {
        let (feature, threshold, decision) = (features[split], thresholds[split], decisions[split]);
        ensure!(
            feature < n_features,
            "{of}: split {split} is on feature {feature} of {n_features} features; {SAVE_AGAIN}"
        );
        let test = if decision & CATEGORICAL == 0 {
            // +∞ is how LightGBM parts missing values from numbers.
            ensure!(
                !threshold.is_nan(),
                "{of}: the threshold of split {split} is NaN; train the model again"
            );
            Test::Number {
                threshold,
                missing: missing(decision).with_context(|| unknown_decision(of, decision))?,
            }
        } else {
            ensure!(decision < 16, unknown_decision(of, decision));
            Test::CategoryLeft { set: take_set(&mut sets, threshold).with_context(|| {
                format!("{of}: the category set {threshold} of split {split} is used twice or missing; {SAVE_AGAIN}")
            })? }
        };
        splits.push(Node::Split {
            feature,
            test,
            left: child(left_children[split])?,
            right: child(right_children[split])?,
        });
    }
    Ok(splits)
}

/// The missing type of a numeric split.
fn missing(decision: u8) -> Option<Missing> {
    let left = decision & DEFAULT_LEFT != 0;
    match decision >> MISSING_SHIFT {
        0 => Some(Missing::NanIsZero),
        1 => Some(Missing::Zero { left }),
        2 => Some(Missing::Nan { left }),
        _ => None,
    }
}

fn unknown_decision(of: &str, decision: u8) -> String {
    format!("{of}: the decision_type {decision} is unknown, and LightGBM may decide by it; {SAVE_AGAIN}")
}

/// The category sets of a tree, ascending. Set `i` is the words `cat_threshold[cat_boundaries[i]..cat_boundaries[i + 1]]`,
/// 32 categories each.
fn read_sets(fields: &Fields<'_>) -> Result<Vec<Option<Vec<u32>>>> {
    let of = &fields.of;
    let count: usize = fields.number("num_cat")?;
    if count == 0 {
        return Ok(Vec::new());
    }
    let boundaries: Vec<usize> = fields.numbers("cat_boundaries", count.saturating_add(1))?;
    let words: Vec<u32> = fields.numbers("cat_threshold", boundaries.last().copied().unwrap_or(0))?;
    ensure!(
        boundaries.first() == Some(&0) && boundaries.is_sorted(),
        "{of}: cat_boundaries do not ascend from 0; {SAVE_AGAIN}"
    );
    let sets = boundaries.windows(2).map(|bounds| {
        let words = words[bounds[0]..bounds[1]].iter().zip(0_u32..);
        let set = words.flat_map(|(&word, index)| {
            (0..32).filter(move |bit| word >> bit & 1 == 1).map(move |bit| index * 32 + bit)
        });
        Some(set.collect())
    });
    Ok(sets.collect())
}

/// The set a categorical split names by its threshold. Every split has a set of its own.
fn take_set(sets: &mut [Option<Vec<u32>>], threshold: f64) -> Option<Vec<u32>> {
    let index = threshold as usize;
    // Negative, fractional and NaN thresholds do not survive the way there and back.
    if index as f64 == threshold { sets.get_mut(index)?.take() } else { None }
}
