//! Trees on ranks with numbered leaves: what layouts are made from.

use anyhow::Context as _;

use super::leaves::LeafValues;
use super::ranks::{Quantizer, RankedNode};
use crate::compile::ir::TreeModel;

/// A node; children are indices into the same tree and lie behind their parent.
#[derive(Clone, Copy, Debug)]
pub(super) enum Node {
    /// Number of the leaf among all of the model.
    Leaf(u32),
    Split {
        slot: u16,
        rank: u16,
        left: usize,
        right: usize,
    },
}

/// A tree without unreachable nodes, the root first.
#[derive(Clone, Debug)]
pub(super) struct NumberedTree {
    pub(super) nodes: Vec<Node>,
}

impl NumberedTree {
    /// Takes over what the root reaches, parents before children, and numbers its leaves.
    fn new(ranked: &[RankedNode], values: &mut LeafValues) -> anyhow::Result<Self> {
        let mut nodes = Vec::with_capacity(ranked.len());
        // `order[i]` is the ranked node at place i; children are given places as their parent is reached.
        let mut order = vec![0_usize];
        let mut at = 0;
        while at < order.len() {
            nodes.push(match ranked[order[at]] {
                RankedNode::Leaf(value) => Node::Leaf(values.push(value)?),
                RankedNode::Split { slot, rank, left, right } => {
                    let place = order.len();
                    order.extend([left, right]);
                    Node::Split { slot, rank, left: place, right: place + 1 }
                }
            });
            at += 1;
        }
        Ok(Self { nodes })
    }

    /// Leaves of the tree.
    pub(super) fn leaves(&self) -> usize {
        self.nodes.len() / 2 + 1
    }

    /// Splits on the longest way from the root to a leaf.
    pub(super) fn depth(&self) -> usize {
        let mut depths = vec![0; self.nodes.len()];
        let mut deepest = 0;
        for (at, node) in self.nodes.iter().enumerate() {
            if let Node::Split { left, right, .. } = *node {
                let below = depths[at] + 1;
                depths[left] = below;
                depths[right] = below;
                deepest = deepest.max(below);
            }
        }
        deepest
    }
}

/// The trees of a model by group, in the model's order.
pub(super) struct Forest {
    pub(super) groups: Vec<Vec<NumberedTree>>,
    pub(super) values: LeafValues,
}

impl Forest {
    pub(super) fn new(model: &TreeModel, quantizer: &Quantizer) -> anyhow::Result<Self> {
        let mut values = LeafValues::default();
        let mut groups = Vec::new();
        for group in 0..model.groups() {
            let mut trees = Vec::new();
            for tree in model.trees.iter().filter(|tree| tree.group == group) {
                trees.push(NumberedTree::new(&quantizer.tree(tree)?, &mut values)?);
                values.end_tree();
            }
            values.end_group();
            groups.push(trees);
        }
        Ok(Self { groups, values })
    }

    pub(super) fn trees(&self) -> impl Iterator<Item = &NumberedTree> {
        self.groups.iter().flatten()
    }

    /// First tree and trees of each group.
    pub(super) fn ranges(&self) -> anyhow::Result<Vec<(u32, u32)>> {
        let mut first = 0_u32;
        self.groups
            .iter()
            .map(|trees| {
                let count = u32::try_from(trees.len())?;
                let range = (first, count);
                first = first.checked_add(count).context("more than 2^32 trees")?;
                Ok(range)
            })
            .collect()
    }
}
