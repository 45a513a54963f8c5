//! One tree of an XGBoost file: parallel arrays over nodes, checked and linked.

use anyhow::{Context, Result, ensure};

use super::document::Section;
use crate::compile::ir::{Missing, Node, Test, Tree};

/// Keys of a tree that decide its predictions, and those known not to.
pub(super) const KEYS: &[&str] = &[
    "base_weights",
    "categories",
    "categories_nodes",
    "categories_segments",
    "categories_sizes",
    "default_left",
    "id",
    "left_children",
    "loss_changes",
    "parents",
    "right_children",
    "split_conditions",
    "split_indices",
    "split_type",
    "sum_hessian",
    "tree_param",
];

/// Keys of `tree_param`.
pub(super) const PARAM_KEYS: &[&str] = &["num_deleted", "num_feature", "num_nodes", "size_leaf_vector"];

/// `left_children` of a leaf.
const NO_CHILD: i64 = -1;

/// `split_indices` of a node that pruning took out of the tree.
const DELETED: i64 = 0x7fff_ffff;

/// Categories are integers that f32 holds exactly.
const MAX_CATEGORY: i64 = 1 << 24;

/// Refuses leaves that hold one value per target.
pub(super) fn refuse_vector_leaves(tree: &Section<'_, '_>) -> Result<()> {
    let size = tree.section("tree_param")?.count("size_leaf_vector")?;
    ensure!(
        size <= 1,
        "the leaves are vectors of {size} targets (multi_strategy=multi_output_tree), which is not supported; train with \
         multi_strategy=one_output_per_tree"
    );
    Ok(())
}

/// Reads the tree at position `index`. Its leaves are multiplied by `weight` in f32 and added to `group`.
pub(super) fn read(
    section: &Section<'_, '_>,
    index: usize,
    group: usize,
    n_features: usize,
    weight: Option<f32>,
) -> Result<Tree> {
    let columns = Columns::read(section)?;
    let id = section.integer("id")?;
    ensure!(i64::try_from(index) == Ok(id), section.complain("id", format_args!("{id} at position {index}")));

    let nodes = (0..columns.count)
        .map(|node| columns.node(node, n_features, weight))
        .collect::<Result<Vec<_>>>()
        .and_then(|nodes| Tree::from_linked(group, nodes));
    let (tree, unreached) = nodes.map_err(|error| anyhow::anyhow!(section.complain("nodes", error)))?;

    // What pruning deleted stays in the arrays; anything else that cannot be reached is damage.
    ensure!(
        unreached.len() == columns.deleted
            && unreached.iter().all(|&node| columns.split_indices[node] == DELETED),
        section.complain(
            "nodes",
            format_args!("{} nodes cannot be reached, {} are deleted", unreached.len(), columns.deleted)
        )
    );
    Ok(tree)
}

/// The arrays of a tree, each `[count]`.
struct Columns {
    count: usize,
    /// How many nodes the tree says are deleted.
    deleted: usize,
    left_children: Vec<i64>,
    right_children: Vec<i64>,
    parents: Vec<i64>,
    split_indices: Vec<i64>,
    split_conditions: Vec<f32>,
    default_left: Vec<i64>,
    /// Of each node that has one: the set of a categorical split.
    categories: Vec<Option<Vec<u32>>>,
}

impl Columns {
    fn read(section: &Section<'_, '_>) -> Result<Self> {
        let param = section.section("tree_param")?;
        let count = param.count("num_nodes")?;
        let columns = Self {
            deleted: param.get("num_deleted").map_or(Ok(0), |_| param.count("num_deleted"))?,
            left_children: section.i64s("left_children")?,
            right_children: section.i64s("right_children")?,
            parents: section.i64s("parents")?,
            split_indices: section.i64s("split_indices")?,
            split_conditions: section.f32s("split_conditions")?,
            default_left: section.i64s("default_left")?,
            categories: Vec::new(),
            count,
        };
        for (key, length) in [
            ("left_children", columns.left_children.len()),
            ("right_children", columns.right_children.len()),
            ("parents", columns.parents.len()),
            ("split_indices", columns.split_indices.len()),
            ("split_conditions", columns.split_conditions.len()),
            ("default_left", columns.default_left.len()),
        ] {
            ensure!(
                length == count,
                section.complain(key, format_args!("{length} elements for {count} nodes"))
            );
        }
        let categories = read_categories(section, count)?;
        Ok(Self { categories, ..columns })
    }

    fn node(&self, node: usize, n_features: usize, weight: Option<f32>) -> Result<Node> {
        let (left, right) = (self.left_children[node], self.right_children[node]);
        let (split_index, condition) = (self.split_indices[node], self.split_conditions[node]);
        // A deleted node is no split whatever its fields say; if it is reached, its feature is out of range.
        if left == NO_CHILD {
            let value = weight.map_or(condition, |weight| weight * condition);
            ensure!(value.is_finite(), "the value of leaf {node} is not finite");
            return Ok(Node::Leaf(f64::from(value)));
        }
        ensure!(right == left + 1, "the children {left} and {right} of node {node} are not neighbours");
        let child = |child: i64| {
            let child = usize::try_from(child).ok().filter(|&child| child < self.count);
            child.with_context(|| format!("a child of node {node} does not exist"))
        };
        let (left, right) = (child(left)?, child(right)?);
        for child in [left, right] {
            ensure!(
                usize::try_from(self.parents[child]) == Ok(node),
                "node {child} is a child of node {node} but does not name it as parent"
            );
        }
        let feature = usize::try_from(split_index).ok().filter(|&feature| feature < n_features);
        let feature = feature.with_context(|| {
            format!("node {node} splits on feature {split_index} of {n_features} features")
        })?;
        let nan_left = match self.default_left[node] {
            0 => false,
            1 => true,
            other => anyhow::bail!("default_left of node {node} is {other}"),
        };
        let test = match &self.categories[node] {
            Some(set) => Test::CategoryRight { set: set.clone(), nan_left },
            None => {
                ensure!(!condition.is_nan(), "the threshold of node {node} is NaN");
                Test::Number { threshold: f64::from(condition), missing: Missing::Nan { left: nan_left } }
            }
        };
        Ok(Node::Split { feature, test, left, right })
    }
}

/// The category sets of `count` nodes. Sets lie one behind the other in `categories`, in node order.
fn read_categories(section: &Section<'_, '_>, count: usize) -> Result<Vec<Option<Vec<u32>>>> {
    let mut sets = vec![None; count];
    if section.get("split_type").is_none() {
        return Ok(sets);
    }
    let split_types = section.i64s("split_type")?;
    let nodes = section.i64s("categories_nodes")?;
    let segments = section.i64s("categories_segments")?;
    let sizes = section.i64s("categories_sizes")?;
    let categories = section.i64s("categories")?;
    let damaged = |detail: &str| section.complain("categories", detail);
    ensure!(split_types.len() == count, damaged("split_type has not one element per node"));
    ensure!(
        segments.len() == nodes.len() && sizes.len() == nodes.len(),
        damaged("nodes, segments and sizes differ in length")
    );

    let mut begin = 0;
    for ((&node, &segment), &size) in nodes.iter().zip(&segments).zip(&sizes) {
        ensure!(usize::try_from(segment) == Ok(begin), damaged("the sets do not follow one another"));
        let end = usize::try_from(size).ok().and_then(|size| begin.checked_add(size));
        let set = end.and_then(|end| categories.get(begin..end)).filter(|set| !set.is_empty());
        let set = set.with_context(|| damaged("a set is empty or longer than the list"))?;
        begin += set.len();
        ensure!(
            set.is_sorted_by(|a, b| a < b) && set.iter().all(|category| (0..MAX_CATEGORY).contains(category)),
            damaged("a set is not ascending or outside 0 to 2^24")
        );
        let slot = usize::try_from(node).ok().and_then(|node| sets.get_mut(node));
        let slot = slot.with_context(|| damaged("a set belongs to no node"))?;
        ensure!(slot.is_none(), damaged("a node has two sets"));
        *slot = Some(set.iter().map(|&category| category as u32).collect());
    }
    ensure!(begin == categories.len(), damaged("the sets do not use up the list"));

    for (split_type, set) in split_types.iter().zip(&sets) {
        let matches = match split_type {
            0 => set.is_none(),
            1 => set.is_some(),
            _ => false,
        };
        ensure!(matches, damaged("split_type and categories_nodes disagree"));
    }
    Ok(sets)
}
