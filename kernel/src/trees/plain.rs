//! Trees as lists of nodes: any depth, any rank, any leaf.

use super::Rank;
use super::leaf::Leaf;
use crate::error::ImageError;
use crate::image::records::{LEAF, NodeRecord, TreeRecord};
use crate::image::{SectionKind, Sections};
use crate::num::index;

/// Trees whose nodes are consecutive, the root first.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Plain<'image> {
    trees: &'image [TreeRecord],
    nodes: &'image [NodeRecord],
}

impl<'image> Plain<'image> {
    /// Reads the sections of `trees` trees.
    pub(super) fn read(sections: &Sections<'image>, trees: usize) -> Result<Self, ImageError> {
        Ok(Self {
            trees: sections.exactly(SectionKind::PlainTrees, trees)?,
            nodes: sections.slice(SectionKind::PlainNodes)?,
        })
    }

    /// Trees share out the nodes, and every walk ends in a leaf of its tree; gives the number of splits. That a node has one parent is
    /// not asked: one that two share, or none reaches, harms no walk.
    pub(super) fn check(&self, slots: usize, leaves: usize) -> Result<usize, ImageError> {
        let hold = |holds, kind| if holds { Ok(()) } else { Err(ImageError::Invalid(kind)) };
        // One after the other: once trees are known not to overlap, nodes cost no more than their size.
        hold(self.trees_hold(), SectionKind::PlainTrees)?;
        hold(self.nodes_hold(slots, leaves), SectionKind::PlainNodes)?;
        Ok(self.nodes.len().saturating_sub(leaves))
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
    fn nodes_hold(&self, slots: usize, leaves: usize) -> bool {
        let mut next_leaf = 0_usize;
        for tree in self.trees {
            let Some(nodes) = self.nodes_of(tree) else { return false };
            for (at, &NodeRecord { slot, child, rank }) in nodes.iter().enumerate() {
                let child = index(child);
                if slot == LEAF {
                    if child != next_leaf || rank != 0 {
                        return false;
                    }
                    next_leaf = next_leaf.saturating_add(1);
                } else {
                    let inside = child > at && child.saturating_add(1) < nodes.len();
                    if !inside || usize::from(slot) >= slots {
                        return false;
                    }
                }
            }
        }
        next_leaf == leaves
    }

    /// The largest |leaf| of each tree, summed; `None` on overflow.
    pub(super) fn magnitude<L: Leaf>(&self, leaves: &[L]) -> Option<u64> {
        let mut total = 0_u64;
        for tree in self.trees {
            let mut largest = 0;
            for node in self.nodes_of(tree)?.iter().filter(|node| node.slot == LEAF) {
                largest = leaves.get(index(node.child))?.magnitude().max(largest);
            }
            total = total.checked_add(largest)?;
        }
        Some(total)
    }

    /// The consecutive trees of a group.
    pub(super) fn part(&self, first: usize, count: usize) -> Option<Self> {
        Some(Self { trees: self.trees.get(first..)?.get(..count)?, nodes: self.nodes })
    }

    /// The consecutive nodes of a tree.
    fn nodes_of(&self, tree: &TreeRecord) -> Option<&'image [NodeRecord]> {
        self.nodes.get(index(tree.first_node)..)?.get(..index(tree.count))
    }

    /// Sums the leaves of the trees, in tree order, onto `sum`; `None` only if the image changed after its check.
    ///
    /// Eight trees take a step each in turn, so that none waits for its own last one; those that have arrived stay.
    #[inline]
    pub(super) fn walk<R: Rank, L: Leaf>(&self, leaves: &[L], row: &[R], mut sum: L) -> Option<L> {
        let (eights, rest) = self.trees.as_chunks::<8>();
        for eight in eights {
            let roots = eight.each_ref().map(|tree| index(tree.first_node));
            let mut places = roots;
            loop {
                let mut on_the_way = false;
                for (place, root) in places.iter_mut().zip(roots) {
                    let node = self.nodes.get(*place)?;
                    let split = node.slot != LEAF;
                    *place = if split { root.wrapping_add(child(node, row)) } else { *place };
                    on_the_way |= split;
                }
                if !on_the_way {
                    break;
                }
            }
            for place in places {
                sum = sum.plus(*leaves.get(index(self.nodes.get(place)?.child))?);
            }
        }
        for tree in rest {
            let nodes = self.nodes_of(tree)?;
            let mut node = nodes.first()?;
            while node.slot != LEAF {
                node = nodes.get(child(node, row))?;
            }
            sum = sum.plus(*leaves.get(index(node.child))?);
        }
        Some(sum)
    }
}

/// The child a row goes to, counted from the root. Children lie behind their parent (checked), so walks end.
#[inline]
fn child<R: Rank>(node: &NodeRecord, row: &[R]) -> usize {
    let rank: u16 = row.get(usize::from(node.slot)).map_or(0, |&rank| rank.into());
    index(node.child).wrapping_add(usize::from(rank > node.rank))
}
