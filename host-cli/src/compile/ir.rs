//! The intermediate model: what a tree importer produces and everything after it consumes.
//!
//! It says what the trained file means, without saying how to run it. Trees are binary; every split sends a
//! row either left or right; leaves are added per output group. An importer proves what is promised here before it
//! hands a model on, so consumers need no checks: feature and child indices are in range, leaves and bases are
//! finite, names are unique, groups exist.

use anyhow::{Context, Result, bail, ensure};

/// A tree ensemble as trained: `groups` margins, each the sum of the leaves its trees choose.
#[derive(Clone, Debug, PartialEq)]
pub struct TreeModel {
    /// Which library wrote the file, for the image's provenance.
    pub library: Library,
    /// The library's own version, e.g. `3.2.0`; `v4` for LightGBM's text format.
    pub version: String,
    /// The objective as written in the file, e.g. `multi:softprob`.
    pub objective: String,
    /// Names of the input features, `[n_features]`, unique. XGBoost without names: `f0`, `f1`, ….
    pub feature_names: Vec<String>,
    /// Margin every sum starts from, `[groups]`; zeros for LightGBM.
    pub base: Vec<f64>,
    /// Trees in the library's summation order.
    pub trees: Vec<Tree>,
    /// How numbers are compared, missing values found and sums rounded: the library's own rules.
    pub rules: LibraryRules,
    /// From margins to outputs.
    pub link: Link,
    /// The margins are divided by this count before the link (LightGBM `average_output`); raw output is the sum.
    pub average: Option<u32>,
}

/// The library a model came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Library {
    /// XGBoost.
    XgBoost,
    /// LightGBM.
    LightGbm,
}

/// What differs between the libraries for every node of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LibraryRules {
    /// `x < threshold` goes left, compared in f32; margins are summed in f32 in tree order.
    XgBoost,
    /// `x <= threshold` goes left, compared in f64; |x| ≤ 1e-35 counts as 0; margins are summed in f64.
    LightGbm,
}

/// One tree. Node 0 is the root; children come after their parent.
#[derive(Clone, Debug, PartialEq)]
pub struct Tree {
    /// The output group its leaves are added to.
    pub group: usize,
    /// Nodes; every child index is larger than its parent's, and every node but the root has one parent.
    pub nodes: Vec<Node>,
}

/// A node of a tree.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// The value added to the group's margin (learning rate and dart weight applied).
    /// XGBoost: an f32 widened; LightGBM: the f64 of the file.
    Leaf(f64),
    /// Sends a row to `left` or `right`.
    Split {
        /// Input feature.
        feature: usize,
        /// The question asked.
        test: Test,
        /// Child for rows that pass the test.
        left: usize,
        /// Child for rows that do not.
        right: usize,
    },
}

/// A split's question: true sends the row left.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    /// A number against a threshold, by the model's [`LibraryRules`]. XGBoost: an f32 widened.
    Number {
        /// The threshold; never NaN.
        threshold: f64,
        /// What counts as missing, and where it goes.
        missing: Missing,
    },
    /// XGBoost: the truncated value in `set` goes **right**; not in the set, negative, ≥ 2^24 or beyond it: left.
    CategoryRight {
        /// Category numbers, ascending.
        set: Vec<u32>,
        /// Where NaN goes.
        nan_left: bool,
    },
    /// LightGBM: the truncated value in `set` goes **left**; anything else, and NaN: right.
    CategoryLeft {
        /// Category numbers, ascending.
        set: Vec<u32>,
    },
}

/// What a numeric split takes for a missing value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// NaN goes to the default child (XGBoost; LightGBM missing type NaN).
    Nan {
        /// The default child is the left one.
        left: bool,
    },
    /// NaN is read as 0.0 and compared (LightGBM missing type None).
    NanIsZero,
    /// NaN and zero go to the default child (LightGBM missing type Zero).
    Zero {
        /// The default child is the left one.
        left: bool,
    },
}

/// From margins to outputs. `groups` margins give `groups` outputs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Link {
    /// The margin itself.
    Identity,
    /// 1 / (1 + exp(−scale · m)), per group.
    Sigmoid {
        /// LightGBM's `sigmoid:`; 1 for XGBoost.
        scale: f64,
    },
    /// exp(mᵢ) / Σ exp(mⱼ).
    Softmax,
    /// exp(m).
    Exp,
    /// sign(m) · m² (LightGBM `regression sqrt`).
    SignedSquare,
    /// ln(1 + exp(m)) (LightGBM `cross_entropy_lambda`).
    Log1pExp,
    /// 1 where m > 0, else 0 (XGBoost `binary:hinge`).
    Step,
}

impl TreeModel {
    /// Number of output groups (margins).
    #[must_use]
    pub fn groups(&self) -> usize {
        self.base.len()
    }

    /// Number of input features: the width of a row.
    #[must_use]
    pub fn n_features(&self) -> usize {
        self.feature_names.len()
    }
}

impl Tree {
    /// Brings `linked` nodes, in any order and linked by index from node 0, into the order promised by [`Tree`]:
    /// depth first, left before right. Also returns which of `linked` the root does not reach.
    ///
    /// # Errors
    /// A child that does not exist, or a node reached twice (a cycle, or two parents).
    pub fn from_linked(group: usize, linked: Vec<Node>) -> Result<(Self, Vec<usize>)> {
        let count = linked.len();
        ensure!(count > 0, "the tree has no nodes");
        let mut linked: Vec<Option<Node>> = linked.into_iter().map(Some).collect();
        let mut nodes: Vec<Node> = Vec::with_capacity(count);
        // Links still to follow: which node, and whose left or right child it is (none for the root).
        let mut open: Vec<(usize, Option<(usize, Side)>)> = vec![(0, None)];
        while let Some((index, link)) = open.pop() {
            let node = linked
                .get_mut(index)
                .with_context(|| format!("child {index} does not exist in a tree of {count} nodes"))?
                .take();
            let Some(node) = node else {
                bail!("node {index} is reached twice: the nodes form a cycle or share a child");
            };
            let place = nodes.len();
            if let Some((parent, side)) = link
                && let Some(Node::Split { left, right, .. }) = nodes.get_mut(parent)
            {
                match side {
                    Side::Left => *left = place,
                    Side::Right => *right = place,
                }
            }
            if let Node::Split { left, right, .. } = node {
                open.push((right, Some((place, Side::Right))));
                open.push((left, Some((place, Side::Left))));
            }
            nodes.push(node);
        }
        let unreached = linked.iter().enumerate().filter(|(_, node)| node.is_some()).map(|(index, _)| index);
        Ok((Self { group, nodes }, unreached.collect()))
    }
}

#[derive(Clone, Copy)]
enum Side {
    Left,
    Right,
}

/// Refuses feature names that cannot bind a value to one input.
pub(crate) fn check_feature_names(names: &[String]) -> Result<()> {
    let mut sorted: Vec<&str> = names.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    for pair in sorted.windows(2) {
        if let [first, second] = pair {
            ensure!(first != second, "two features are named {first:?}; give every feature its own name");
        }
    }
    ensure!(sorted.first() != Some(&""), "a feature has an empty name; give every feature a name");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(left: usize, right: usize) -> Node {
        let test = Test::Number { threshold: 0.0, missing: Missing::NanIsZero };
        Node::Split { feature: 0, test, left, right }
    }

    #[test]
    fn children_are_put_after_their_parent() {
        let linked = vec![
            split(3, 1),
            Node::Leaf(1.0),
            Node::Leaf(9.0),
            split(4, 5),
            Node::Leaf(4.0),
            Node::Leaf(5.0),
        ];
        let (tree, unreached) = Tree::from_linked(0, linked).unwrap();
        assert_eq!(tree.nodes, [split(1, 4), split(2, 3), Node::Leaf(4.0), Node::Leaf(5.0), Node::Leaf(1.0)]);
        assert_eq!(unreached, [2]);
    }

    #[test]
    fn cycles_shared_and_missing_children_are_refused() {
        for (linked, words) in [
            (vec![split(0, 1), Node::Leaf(0.0)], "reached twice"),
            (vec![split(1, 1), Node::Leaf(0.0)], "reached twice"),
            (vec![split(1, 7), Node::Leaf(0.0)], "child 7 does not exist"),
            (vec![], "no nodes"),
        ] {
            let error = Tree::from_linked(0, linked).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn names_are_unique_and_not_empty() {
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        check_feature_names(&names(&["b", "a"])).unwrap();
        assert!(check_feature_names(&names(&["b", "a", "b"])).is_err());
        assert!(check_feature_names(&names(&["b", ""])).is_err());
    }
}
