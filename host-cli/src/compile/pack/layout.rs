//! Which layout a model gets, and its trees in that layout.

use anyhow::{Context as _, ensure};
use bytemuck::Zeroable as _;
use qsc_kernel::image::SectionKind;
use qsc_kernel::image::records::{
    BLOCK_TREES, BlockRecord, LEAF, LeafBlockRecord, MASK_TREES, MaskNodesRecord, NO_NODE, NodeRecord,
    TopBlocksRecord, TreeRecord,
};
use qsc_kernel::trees::TreeLayout;

use super::leaves::Leaves;
use super::ranks::Quantizer;
use super::tree::{Forest, Node, NumberedTree};
use crate::compile::writer::Writer;

/// What decides about the layout of a model.
pub(super) struct Shape {
    byte_ranks: bool,
    slots: usize,
    leaf_bytes: usize,
    trees: usize,
    depth: usize,
    /// Leaves of the largest tree.
    leaves: usize,
    mean_depth: f64,
}

impl Shape {
    pub(super) fn new(forest: &Forest, quantizer: &Quantizer, leaves: &Leaves) -> Self {
        let depths = || forest.trees().map(NumberedTree::depth);
        let trees = forest.trees().count();
        Self {
            byte_ranks: quantizer.rank_bits == 8,
            slots: quantizer.slots.len(),
            leaf_bytes: leaves.values.width(),
            trees,
            depth: depths().max().unwrap_or(0),
            leaves: forest.trees().map(NumberedTree::leaves).max().unwrap_or(0),
            mean_depth: depths().sum::<usize>() as f64 / trees.max(1) as f64,
        }
    }

    /// Whether a layout can hold the model.
    pub(super) fn fits(&self, layout: TreeLayout) -> bool {
        let bytes = self.byte_ranks && self.slots <= 256;
        match layout {
            TreeLayout::Plain => true,
            TreeLayout::Blocks { levels } => bytes && self.leaf_bytes == 4 && self.depth <= levels as usize,
            TreeLayout::Masks { leaves } => bytes && self.leaves <= leaves as usize,
        }
    }

    /// The layout with the least estimated time for one row.
    pub(super) fn cheapest(&self) -> TreeLayout {
        let fitting = TreeLayout::ALL.into_iter().filter(|&layout| self.fits(layout));
        // The first of equals, and plain always fits.
        fitting.min_by(|&a, &b| self.cost(a).total_cmp(&self.cost(b))).unwrap_or(TreeLayout::Plain)
    }

    /// Estimated nanoseconds of one tree, between those of AVX2 and AVX-512 on a Zen 5: the walk itself, and waiting for
    /// lines that a model of this size does not keep near.
    fn cost(&self, layout: TreeLayout) -> f64 {
        /// Bytes a core keeps near: the smallest L2 of the machines in mind, less what else is in use.
        const NEAR: f64 = 768.0 * 1024.0;
        // Walk, bytes of a tree, lines a row touches that lie somewhere in them, lines read from end to end.
        let (walk, bytes, random, streamed) = match layout {
            TreeLayout::Plain => {
                let nodes = f64::from(u32::try_from(2 * self.leaves).unwrap_or(u32::MAX));
                (0.6 * (self.mean_depth + 2.0), 8.0 * nodes, self.mean_depth * 0.6, 0.0)
            }
            TreeLayout::Blocks { levels } => {
                let bottoms = f64::from(1_u32 << (levels - 3)) * 64.0;
                match levels {
                    3 => (0.7, bottoms, 0.0, 1.0),
                    4..=6 => (1.2, bottoms + 16.0, 1.0, 0.25),
                    _ => (1.8, bottoms * 1.25 + 16.0, 2.0, 0.25),
                }
            }
            TreeLayout::Masks { leaves: 32 } => (1.4, 96.0 + 32.0 * self.leaf_bytes as f64, 1.0, 1.5),
            TreeLayout::Masks { .. } => (3.5, 192.0 + 64.0 * self.leaf_bytes as f64, 1.0, 3.0),
        };
        let far = (1.0 - NEAR / (bytes * self.trees as f64)).max(0.0);
        walk + far * (0.3 * random + 0.1 * streamed)
    }
}

/// Trees in their layout, ready to be written.
pub(super) struct Trees {
    pub(super) layout: TreeLayout,
    trees: Vec<TreeRecord>,
    nodes: Vec<NodeRecord>,
    tops: Vec<TopBlocksRecord>,
    middles: Vec<BlockRecord>,
    bottoms: Vec<LeafBlockRecord>,
    masks: Vec<MaskNodesRecord>,
    /// Number of the leaf at each place of the leaves section, `None` for one that adds nothing.
    places: Vec<Option<u32>>,
}

impl Trees {
    pub(super) fn new(forest: &Forest, layout: TreeLayout, leaves: &Leaves) -> anyhow::Result<Self> {
        let mut trees = Self {
            layout,
            trees: Vec::new(),
            nodes: Vec::new(),
            tops: Vec::new(),
            middles: Vec::new(),
            bottoms: Vec::new(),
            masks: Vec::new(),
            places: Vec::new(),
        };
        for group in &forest.groups {
            match layout {
                TreeLayout::Plain => group.iter().try_for_each(|tree| trees.push_plain(tree))?,
                TreeLayout::Blocks { levels } => {
                    let eight = filled(group, BLOCK_TREES);
                    for eight in eight.chunks(BLOCK_TREES as usize) {
                        trees.push_blocks(eight, levels, leaves)?;
                    }
                }
                TreeLayout::Masks { leaves } => {
                    let per_record = 64 / leaves as usize;
                    for trees_of_record in filled(group, MASK_TREES).chunks(per_record) {
                        trees.push_masks(trees_of_record, leaves as usize)?;
                    }
                }
            }
        }
        Ok(trees)
    }

    /// Writes the sections of every layout; those that are not used are empty.
    pub(super) fn write(&self, writer: &mut Writer, leaves: &Leaves) {
        writer.slice(SectionKind::PlainTrees, &self.trees);
        writer.slice(SectionKind::PlainNodes, &self.nodes);
        writer.section(SectionKind::Leaves, &leaves.values.bytes(&self.places));
        writer.slice(SectionKind::TopBlocks, &self.tops);
        writer.slice(SectionKind::MiddleBlocks, &self.middles);
        writer.slice(SectionKind::LeafBlocks, &self.bottoms);
        writer.slice(SectionKind::MaskTrees, &self.masks);
    }

    /// Children side by side, leaves numbered along the nodes.
    fn push_plain(&mut self, tree: &NumberedTree) -> anyhow::Result<()> {
        let first_node = u32::try_from(self.nodes.len()).context("more than 2^32 nodes")?;
        for node in &tree.nodes {
            self.nodes.push(match *node {
                Node::Leaf(number) => {
                    let child = u32::try_from(self.places.len())?;
                    self.places.push(Some(number));
                    NodeRecord { slot: LEAF, rank: 0, child }
                }
                Node::Split { slot, rank, left, .. } => {
                    NodeRecord { slot, rank, child: u32::try_from(left)? }
                }
            });
        }
        self.trees.push(TreeRecord { first_node, count: u32::try_from(tree.nodes.len())? });
        Ok(())
    }

    /// Eight trees of a group, `None` for one that adds nothing.
    fn push_blocks(
        &mut self,
        eight: &[Option<&NumberedTree>],
        levels: u32,
        leaves: &Leaves,
    ) -> anyhow::Result<()> {
        let blocks = levels.div_ceil(3);
        let mut tops = TopBlocksRecord::zeroed();
        for (at, &tree) in eight.iter().enumerate() {
            let mut roots = vec![tree.map(|_| 0_usize)];
            for block in 1..=blocks {
                let block_levels = if block == 1 && blocks > 1 { levels - 3 * (blocks - 1) } else { 3 };
                let mut next = Vec::new();
                for root in roots {
                    let (nodes, children) = Self::block(tree, root, block_levels)?;
                    if block == blocks {
                        let leaf = |place: Option<usize>| match (tree, place) {
                            (Some(tree), Some(at)) => match tree.nodes[at] {
                                Node::Leaf(number) => leaves.values.bits(Some(number)),
                                Node::Split { .. } => anyhow::bail!("a tree has more than {levels} levels"),
                            },
                            _ => leaves.values.bits(None),
                        };
                        let mut bottom = LeafBlockRecord { nodes, ..LeafBlockRecord::zeroed() };
                        for (place, child) in bottom.leaves.iter_mut().zip(children) {
                            *place = leaf(child)?;
                        }
                        self.bottoms.push(bottom);
                    } else {
                        let step = 8 >> block_levels;
                        next.extend(children.into_iter().step_by(step));
                        if block == 1 {
                            tops.slots[at] = nodes.slots;
                            tops.ranks[at] = nodes.ranks;
                        } else {
                            self.middles.push(nodes);
                        }
                    }
                }
                roots = next;
            }
        }
        if blocks > 1 {
            self.tops.push(tops);
        }
        Ok(())
    }

    /// The first `levels` levels below `root` and the eight nodes that follow. What is missing goes left.
    fn block(
        tree: Option<&NumberedTree>,
        root: Option<usize>,
        levels: u32,
    ) -> anyhow::Result<(BlockRecord, [Option<usize>; 8])> {
        let mut record = BlockRecord { slots: [0; 8], ranks: [NO_NODE; 8] };
        let mut places = [None; 16];
        places[1] = root;
        for at in 1..8_usize {
            let Some(node) = places[at] else { continue };
            let split = tree.map(|tree| tree.nodes[node]).filter(|_| at.ilog2() < levels);
            if let Some(Node::Split { slot, rank, left, right }) = split {
                record.slots[at] = u8::try_from(slot)?;
                record.ranks[at] = u8::try_from(rank)?;
                places[2 * at] = Some(left);
                places[2 * at + 1] = Some(right);
            } else {
                places[2 * at] = places[at];
            }
        }
        let mut children = [None; 8];
        children.copy_from_slice(&places[8..]);
        Ok((record, children))
    }

    /// The trees of a record, `None` for one that adds nothing.
    fn push_masks(&mut self, trees: &[Option<&NumberedTree>], leaves: usize) -> anyhow::Result<()> {
        let mut record = MaskNodesRecord { ranks: [NO_NODE; 64], ..MaskNodesRecord::zeroed() };
        for (first, tree) in (0..).step_by(leaves).zip(trees) {
            let mut walk = InOrder::default();
            if let Some(tree) = tree {
                walk.visit(tree, 0)?;
            }
            ensure!(walk.leaves.len() <= leaves, "a tree has more than {leaves} leaves");
            for (at, (slot, rank, first)) in (first..).zip(walk.nodes) {
                (record.slots[at], record.ranks[at], record.firsts[at]) = (slot, rank, first);
            }
            let end = self.places.len() + leaves;
            self.places.extend(walk.leaves.into_iter().map(Some));
            self.places.resize(end, None);
        }
        self.masks.push(record);
        Ok(())
    }
}

/// The trees of a group, filled up to a multiple of `at_once`.
fn filled(group: &[NumberedTree], at_once: u32) -> Vec<Option<&NumberedTree>> {
    let mut trees: Vec<_> = group.iter().map(Some).collect();
    trees.resize(trees.len().next_multiple_of(at_once as usize), None);
    trees
}

/// Slots, ranks and first leaves of the left subtrees, and leaves, from left to right.
#[derive(Default)]
struct InOrder {
    nodes: Vec<(u8, u8, u8)>,
    leaves: Vec<u32>,
}

impl InOrder {
    /// At most 64 deep: layouts with masks hold trees of up to 64 leaves.
    fn visit(&mut self, tree: &NumberedTree, at: usize) -> anyhow::Result<()> {
        match tree.nodes[at] {
            Node::Leaf(number) => self.leaves.push(number),
            Node::Split { slot, rank, left, right } => {
                let first = u8::try_from(self.leaves.len())?;
                self.visit(tree, left)?;
                self.nodes.push((u8::try_from(slot)?, u8::try_from(rank)?, first));
                self.visit(tree, right)?;
            }
        }
        Ok(())
    }
}
