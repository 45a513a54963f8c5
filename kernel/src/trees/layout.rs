//! How trees are stored. One image has one layout, chosen by the compiler; every backend walks the same bytes.

use core::fmt;

use super::blocks::Blocks;
use super::masks::Masks;
use super::plain::Plain;
use crate::image::records::{BLOCK_TREES, MASK_TREES};
use crate::num::index;

/// The layout of a tree model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TreeLayout {
    /// A list of nodes per tree: any depth, any rank.
    Plain,
    /// Blocks of three levels with the leaves in the last block: trees of up to `levels` levels, 3 to 9.
    Blocks {
        /// Levels of every tree, missing ones filled up.
        levels: u32,
    },
    /// An interval of excluded leaves per node: trees of up to `leaves` leaves, 32 or 64.
    Masks {
        /// Leaves a tree may have.
        leaves: u32,
    },
}

impl TreeLayout {
    /// Every layout, by the number of its kind in the trees record.
    pub const ALL: [Self; 10] = [
        Self::Plain,
        Self::Blocks { levels: 3 },
        Self::Blocks { levels: 4 },
        Self::Blocks { levels: 5 },
        Self::Blocks { levels: 6 },
        Self::Blocks { levels: 7 },
        Self::Blocks { levels: 8 },
        Self::Blocks { levels: 9 },
        Self::Masks { leaves: 32 },
        Self::Masks { leaves: 64 },
    ];

    /// The layout with this number in the trees record.
    #[must_use]
    pub fn from_code(code: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|layout| layout.code() == code)
    }

    /// Each group's trees are filled up to a multiple of this.
    pub(super) const fn trees_at_once(self) -> usize {
        index(match self {
            Self::Plain => 1,
            Self::Blocks { .. } => BLOCK_TREES,
            Self::Masks { .. } => MASK_TREES,
        })
    }

    /// The layout's number in the trees record.
    #[must_use]
    pub const fn code(self) -> u32 {
        match self {
            Self::Plain => 0,
            Self::Blocks { levels } => levels,
            Self::Masks { leaves } => leaves,
        }
    }
}

impl fmt::Display for TreeLayout {
    /// `plain`, `blocks-6`, `masks-32`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain => f.write_str("plain"),
            Self::Blocks { levels } => write!(f, "blocks-{levels}"),
            Self::Masks { leaves } => write!(f, "masks-{leaves}"),
        }
    }
}

/// Checked trees in their layout.
#[derive(Clone, Copy, Debug)]
pub(super) enum Layout<'image> {
    Plain(Plain<'image>),
    Blocks(Blocks<'image>),
    Masks(Masks<'image>),
}

impl Layout<'_> {
    /// What `qsc model inspect` shows.
    pub(super) const fn kind(&self) -> TreeLayout {
        match self {
            Self::Plain(_) => TreeLayout::Plain,
            Self::Blocks(blocks) => TreeLayout::Blocks { levels: blocks.levels() },
            Self::Masks(masks) => TreeLayout::Masks { leaves: masks.leaves() },
        }
    }
}
