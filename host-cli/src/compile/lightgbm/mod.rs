//! LightGBM text, versions 3 and 4.
//!
//! A header of `key=value` lines, one block per tree, `end of trees`, then what does not matter to prediction
//! (importances, parameters, `pandas_categorical`). There is no base score: it is folded into the first trees, and
//! leaves have the learning rate applied. Python's `save_model` writes the iterations up to the best one, so the file
//! knows no other. Keys are read by allow-list.

mod objective;
mod tree;

use std::collections::BTreeMap;
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};

use super::ir::{Library, LibraryRules, Tree, TreeModel, check_feature_names};
use super::{Iterations, chosen_iterations};

const SAVE_AGAIN: &str = "save the model again with LightGBM's save_model";

const HEADER_KEYS: &[&str] = &[
    "average_output",
    "feature_infos",
    "feature_names",
    "label_index",
    "max_feature_idx",
    "monotone_constraints",
    "num_class",
    "num_tree_per_iteration",
    "objective",
    "tree",
    "tree_sizes",
    "version",
];

/// Reads a model from LightGBM text.
///
/// # Errors
/// The text is damaged, of an unknown version, or uses what is not supported.
pub fn import_text(bytes: &[u8], iterations: Option<Iterations>) -> Result<TreeModel> {
    let text = str::from_utf8(bytes).map_err(|error| {
        anyhow::anyhow!("the text is damaged at byte {}: not UTF-8; {SAVE_AGAIN}", error.valid_up_to())
    })?;
    let (header, blocks) = split_blocks(text)?;
    header.allow_only(HEADER_KEYS)?;

    let version = header.text("version")?;
    ensure!(
        matches!(version, "v3" | "v4"),
        "the text has version {version:?}, and only v3 and v4 are known; load it with LightGBM 3 or 4 and save it again"
    );
    let feature_names: Vec<String> =
        header.text("feature_names")?.split(' ').map(ToOwned::to_owned).collect();
    let last_feature: usize = header.number("max_feature_idx")?;
    ensure!(
        feature_names.len().checked_sub(1) == Some(last_feature),
        "feature_names has {} names but max_feature_idx is {last_feature}; {SAVE_AGAIN}",
        feature_names.len()
    );
    check_feature_names(&feature_names)?;

    let groups: usize = header.number("num_tree_per_iteration")?;
    let classes: usize = header.number("num_class")?;
    ensure!(
        groups == classes && groups > 0,
        "the model has {classes} classes but {groups} trees per iteration, which is not supported; train one tree per class"
    );
    ensure!(
        !blocks.is_empty() && blocks.len().is_multiple_of(groups),
        "{} trees are no whole number of iterations of {groups}; {SAVE_AGAIN}",
        blocks.len()
    );
    check_tree_sizes(&header, &blocks)?;

    let mut trees = Vec::with_capacity(blocks.len());
    for (index, block) in blocks.iter().enumerate() {
        trees.push(read_block(block, index, groups, feature_names.len())?);
    }
    let used = chosen_iterations(iterations, None, blocks.len() / groups)?;
    trees.truncate(used * groups);

    let objective = header.get("objective").unwrap_or("custom");
    let average = header.get("average_output").is_some();
    Ok(TreeModel {
        library: Library::LightGbm,
        version: version.to_owned(),
        objective: objective.to_owned(),
        base: vec![0.0; groups],
        trees,
        rules: LibraryRules::LightGbm,
        link: objective::link(objective, groups)?,
        average: average.then(|| u32::try_from(used)).transpose()?,
        feature_names,
    })
}

/// The lines of the header or of one tree.
struct Fields<'a> {
    /// What the lines describe, for messages.
    of: String,
    values: BTreeMap<&'a str, &'a str>,
}

impl<'a> Fields<'a> {
    /// Reads `key=value` lines; a bare `key` has an empty value.
    fn read(of: String, text: &'a str) -> Result<Self> {
        let mut values = BTreeMap::new();
        for line in text.lines().filter(|line| !line.is_empty()) {
            let (key, value) = line.split_once('=').unwrap_or((line, ""));
            ensure!(values.insert(key, value).is_none(), "{of}: the key {key:?} occurs twice; {SAVE_AGAIN}");
        }
        Ok(Self { of, values })
    }

    fn allow_only(&self, allowed: &[&str]) -> Result<()> {
        match self.values.keys().find(|key| !allowed.contains(key)) {
            None => Ok(()),
            Some(key) => bail!(
                "{}: the key {key:?} is unknown, and LightGBM may predict by it; train without the feature that writes it",
                self.of
            ),
        }
    }

    fn get(&self, key: &str) -> Option<&'a str> {
        self.values.get(key).copied()
    }

    fn text(&self, key: &str) -> Result<&'a str> {
        self.get(key).with_context(|| format!("{}: {key} is missing; {SAVE_AGAIN}", self.of))
    }

    fn number<T: FromStr>(&self, key: &str) -> Result<T> {
        let text = self.text(key)?;
        text.parse().ok().with_context(|| format!("{}: {key}={text} is no number; {SAVE_AGAIN}", self.of))
    }

    /// The `count` numbers under `key`.
    fn numbers<T: FromStr>(&self, key: &str, count: usize) -> Result<Vec<T>> {
        let texts = self.text(key)?.split_ascii_whitespace();
        let numbers = texts.map(|text| {
            text.parse().ok().with_context(|| format!("{}: {key} holds {text:?}; {SAVE_AGAIN}", self.of))
        });
        let numbers = numbers.collect::<Result<Vec<T>>>()?;
        ensure!(
            numbers.len() == count,
            "{}: {key} has {} numbers instead of {count}; {SAVE_AGAIN}",
            self.of,
            numbers.len()
        );
        Ok(numbers)
    }
}

/// Splits the text into the header's fields and the text of each tree.
fn split_blocks(text: &str) -> Result<(Fields<'_>, Vec<&str>)> {
    let mut starts = Vec::new();
    let mut end = None;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        if line.starts_with("Tree=") {
            starts.push(at);
        } else if line.trim_ascii_end() == "end of trees" {
            end = Some(at);
            break;
        }
        at += line.len();
    }
    let end =
        end.with_context(|| format!("the text ends before \"end of trees\"; it is cut off, {SAVE_AGAIN}"))?;
    let header = Fields::read("header".to_owned(), &text[..starts.first().copied().unwrap_or(end)])?;
    let ends = starts.iter().skip(1).copied().chain([end]);
    let blocks = starts.iter().zip(ends).map(|(&start, end)| &text[start..end]).collect();
    Ok((header, blocks))
}

/// `tree_sizes` holds the bytes of each tree: LightGBM finds the trees by it, so it must agree with what is read here.
fn check_tree_sizes(header: &Fields<'_>, blocks: &[&str]) -> Result<()> {
    if header.get("tree_sizes").is_none() {
        return Ok(());
    }
    let sizes: Vec<usize> = header.numbers("tree_sizes", blocks.len())?;
    for (index, (size, block)) in sizes.iter().zip(blocks).enumerate() {
        ensure!(
            *size == block.len(),
            "tree {index} has {} bytes but tree_sizes says {size}: the file was edited or its line ends converted; {SAVE_AGAIN}",
            block.len()
        );
    }
    Ok(())
}

fn read_block(block: &str, index: usize, groups: usize, n_features: usize) -> Result<Tree> {
    let fields = Fields::read(format!("tree {index}"), block)?;
    fields.allow_only(tree::KEYS)?;
    ensure!(fields.number::<usize>("Tree")? == index, "tree {index}: another number; {SAVE_AGAIN}");
    tree::read(&fields, index % groups, n_features)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::ir::{Link, Missing, Node, Test};

    fn model(header: &str, trees: &[&str]) -> Result<TreeModel> {
        let blocks: Vec<String> =
            trees.iter().enumerate().map(|(index, tree)| format!("Tree={index}\n{tree}\n\n")).collect();
        let sizes: Vec<String> = blocks.iter().map(|block| block.len().to_string()).collect();
        let text = format!(
            "tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration=1\nlabel_index=0\nmax_feature_idx=1\n{header}\n\
             feature_names=a b\nfeature_infos=none none\ntree_sizes={}\n\n{}end of trees\n\npandas_categorical:[]\n",
            sizes.join(" "),
            blocks.concat()
        );
        import_text(text.as_bytes(), None)
    }

    fn stump(decision_type: &str) -> String {
        format!(
            "num_leaves=2\nnum_cat=0\nsplit_feature=1\nthreshold=0.5\ndecision_type={decision_type}\n\
             left_child=-1\nright_child=-2\nleaf_value=1 2\nis_linear=0\nshrinkage=1"
        )
    }

    fn refused(header: &str, tree: &str, words: &str) {
        let error = format!("{:#}", model(header, &[tree]).unwrap_err());
        assert!(error.contains(words), "{error}");
    }

    #[test]
    fn decision_types() {
        for (code, missing) in [
            ("0", Missing::NanIsZero),
            ("2", Missing::NanIsZero),
            ("4", Missing::Zero { left: false }),
            ("6", Missing::Zero { left: true }),
            ("8", Missing::Nan { left: false }),
            ("10", Missing::Nan { left: true }),
        ] {
            let model = model("", &[&stump(code)]).unwrap();
            let test = Test::Number { threshold: 0.5, missing };
            let root = Node::Split { feature: 1, test, left: 1, right: 2 };
            assert_eq!(model.trees[0].nodes, [root, Node::Leaf(1.0), Node::Leaf(2.0)]);
        }
        for code in ["12", "14", "16", "-1", "1"] {
            assert!(model("", &[&stump(code)]).is_err(), "{code}");
        }
    }

    #[test]
    fn categorical_bits_become_sets() {
        let tree = "num_leaves=3\nnum_cat=2\nsplit_feature=0 1\nthreshold=1 0\ndecision_type=1 9\nleft_child=1 -1\n\
                    right_child=-3 -2\nleaf_value=1 2 3\ncat_boundaries=0 1 3\ncat_threshold=5 0 2147483648\nis_linear=0";
        let model = model("", &[tree]).unwrap();
        let sets: Vec<_> = model.trees[0]
            .nodes
            .iter()
            .filter_map(|node| match node {
                Node::Split { test: Test::CategoryLeft { set }, .. } => Some(set.as_slice()),
                _ => None,
            })
            .collect();
        assert_eq!(sets, [&[63][..], &[0, 2]]);

        let shared = tree.replace("threshold=1 0", "threshold=1 1");
        refused("", &shared, "is used twice or missing");
        refused("", &tree.replace("threshold=1 0", "threshold=1 0.5"), "is used twice or missing");
        refused("", &tree.replace("cat_boundaries=0 1 3", "cat_boundaries=0 1 4"), "instead of 4");
        refused("", &tree.replace("cat_boundaries=0 1 3", "cat_boundaries=0 4 3"), "cat_boundaries");
    }

    #[test]
    fn constants_and_links() {
        let constant = "num_leaves=1\nnum_cat=0\nsplit_feature=\nthreshold=\ndecision_type=\nleft_child=\nright_child=\n\
                        leaf_value=0.25\nis_linear=0\nshrinkage=1";
        let model = model("objective=binary sigmoid:0.7\naverage_output", &[constant, constant]).unwrap();
        assert_eq!(model.trees[0].nodes, [Node::Leaf(0.25)]);
        assert_eq!(model.link, Link::Sigmoid { scale: 0.7 });
        assert_eq!(model.average, Some(2));
    }

    #[test]
    fn damage_and_the_unknown_are_refused_by_name() {
        let good = stump("2");
        refused("", &good.replace("is_linear=0", "is_linear=1"), "linear_tree");
        refused("", &format!("{good}\nleaf_magic=1"), "leaf_magic");
        refused("prior=0.5", &good, "prior");
        refused("", &format!("{good}\nnum_leaves=2"), "occurs twice");
        refused("", &good.replace("leaf_value=1 2", "leaf_value=1 nan"), "not finite");
        refused("", &good.replace("threshold=0.5", "threshold=nan"), "is NaN");
        refused("", &good.replace("left_child=-1", "left_child=0"), "reached twice");
        refused("", &good.replace("left_child=-1", "left_child=-3"), "does not exist");
        refused("", &good.replace("left_child=-1", "left_child=-2"), "reached twice");
        refused("", &good.replace("split_feature=1", "split_feature=2"), "feature");
        refused("", &good.replace("leaf_value=1 2", "leaf_value=1"), "leaf_value has 1 numbers instead of 2");
        refused("", &good.replace("num_leaves=2", "num_leaves=99999999999"), "instead of");
        refused("", &good.replace("num_leaves=2", "num_leaves=0"), "no leaves");
        refused("objective=mystery", &good, "mystery");
    }

    #[test]
    fn a_cut_off_or_edited_text_is_refused() {
        let text = "tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration=1\nlabel_index=0\nmax_feature_idx=0\n\
                    feature_names=a\nfeature_infos=none\ntree_sizes=39\n\nTree=0\nnum_leaves=1\nnum_cat=0\nleaf_value=1\n\n";
        assert!(import_text(text.as_bytes(), None).unwrap_err().to_string().contains("cut off"));
        let whole = format!("{text}end of trees\n");
        let error = import_text(whole.as_bytes(), None).unwrap_err().to_string();
        assert!(error.contains("tree_sizes says 39"), "{error}");
        let right = whole.replace("tree_sizes=39", "tree_sizes=44");
        assert_eq!(import_text(right.as_bytes(), None).unwrap().trees.len(), 1);
        let old = right.replace("version=v4", "version=v2");
        assert!(import_text(old.as_bytes(), None).unwrap_err().to_string().contains("v2"));
    }
}
