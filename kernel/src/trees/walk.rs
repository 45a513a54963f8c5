//! Ranks to leaves: the plain walk of the scalar backend.

use super::{Rank, Trees};
use crate::error::PredictError;
use crate::image::records::{GroupRecord, LEAF, NodeRecord, TreeRecord};
use crate::num::index;

impl<'image> Trees<'image> {
    /// The consecutive trees of a group.
    pub(super) fn group_trees(&self, group: &GroupRecord) -> Option<&'image [TreeRecord]> {
        self.trees.get(index(group.first_tree)..)?.get(..index(group.count))
    }

    /// Hands the chosen leaf of each tree to `add`, in tree order.
    #[inline]
    pub(super) fn walk<R: Rank, L: Copy>(
        &self,
        trees: &[TreeRecord],
        ranks: &[R],
        leaves: &[L],
        mut add: impl FnMut(L),
    ) -> Result<(), PredictError> {
        for tree in trees {
            let nodes = self.tree_nodes(tree).ok_or(PredictError::Corrupt)?;
            let leaf =
                leaf_of(nodes, ranks).and_then(|leaf| leaves.get(leaf)).ok_or(PredictError::Corrupt)?;
            add(*leaf);
        }
        Ok(())
    }

    /// The consecutive nodes of a tree.
    fn tree_nodes(&self, tree: &TreeRecord) -> Option<&'image [NodeRecord]> {
        self.nodes.get(index(tree.first_node)..)?.get(..index(tree.count))
    }
}

/// Index of the leaf a row reaches. Children lie behind their parent (checked), so this ends.
#[inline]
fn leaf_of<R: Rank>(nodes: &[NodeRecord], ranks: &[R]) -> Option<usize> {
    let mut at = 0_usize;
    loop {
        let node = nodes.get(at)?;
        let child = index(node.child);
        if node.slot == LEAF {
            return Some(child);
        }
        let rank: u16 = (*ranks.get(usize::from(node.slot))?).into();
        at = child.wrapping_add(usize::from(rank > node.rank));
    }
}
