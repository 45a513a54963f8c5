//! XGBoost JSON and UBJSON, versions 1.7 to 3.4.
//!
//! | file | does |
//! | --- | --- |
//! | `document` | what JSON and UBJSON have in common: values, and sections that know their path |
//! | `json`, `ubjson` | bytes ─▶ document |
//! | `objective` | the objectives that are known: `base_score` ─▶ margin, margins ─▶ outputs |
//! | `booster` | where a file keeps its trees and dart weights, which iterations they belong to |
//! | `tree` | one tree: arrays ─▶ checked, linked nodes |
//! | `logf` | the C library's logarithm, bit for bit |
//!
//! Keys are read by allow-list: a key nobody here knows may be a new rule that changes predictions, so it is refused
//! with its name and the file's version. Keys that are allowed and not read do not matter to prediction: statistics of
//! training (`base_weights`, `loss_changes`, `sum_hessian`, `boost_from_average`, objective parameters), `feature_types`
//! and `cats` (how a data frame's categories become the codes that rows hold here).

mod booster;
mod document;
mod json;
mod logf;
mod objective;
mod tree;
mod ubjson;

use std::fmt;

use anyhow::{Context, Result, bail, ensure};

use self::booster::Booster;
use self::document::{Section, Value};
use self::objective::Objective;
use super::Iterations;
use super::ir::{Library, LibraryRules, TreeModel, check_feature_names};

const OLDEST: Version = Version { major: 1, minor: 7 };
const NEWEST: Version = Version { major: 3, minor: 4 };

/// More features than this are refused: a file of 100 bytes can announce any number.
const MAX_FEATURES: usize = 1 << 20;

/// Reads a model from XGBoost JSON.
///
/// # Errors
/// The text is damaged, of an unknown version, or uses what is not supported.
pub fn import_json(bytes: &[u8], iterations: Option<Iterations>) -> Result<TreeModel> {
    read_model(&json::parse(bytes)?, iterations)
}

/// Reads a model from XGBoost UBJSON.
///
/// # Errors
/// The bytes are damaged, of an unknown version, or use what is not supported.
pub fn import_ubjson(bytes: &[u8], iterations: Option<Iterations>) -> Result<TreeModel> {
    read_model(&ubjson::parse(bytes)?, iterations)
}

/// The XGBoost that wrote a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Version {
    major: i64,
    minor: i64,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

fn read_model(document: &Value<'_>, iterations: Option<Iterations>) -> Result<TreeModel> {
    let top = Section::new("model", document)?;
    ensure!(
        top.get("learner").is_some(),
        "this JSON has no learner, so it is no XGBoost model; expected what XGBoost's save_model writes (for LightGBM, \
         save_model's text, not dump_model's JSON)"
    );
    let numbers = top.i64s("version")?;
    let &[major, minor, patch] = numbers.as_slice() else {
        bail!(top.complain("version", "expected three numbers"));
    };
    let version = Version { major, minor };
    ensure!(
        (OLDEST..=NEWEST).contains(&version),
        "the file was written by XGBoost {version}, and only {OLDEST} to {NEWEST} are known; save the model with one of those"
    );
    let keys = AllowedKeys { version };
    keys.check(&top, &["learner", "version"])?;

    let learner = top.section("learner")?;
    keys.check(
        &learner,
        &[
            "attributes",
            "feature_names",
            "feature_types",
            "gradient_booster",
            "learner_model_param",
            "objective",
        ],
    )?;
    let param = learner.section("learner_model_param")?;
    keys.check(&param, &["base_score", "boost_from_average", "num_class", "num_feature", "num_target"])?;
    let n_features = param.count("num_feature")?;
    ensure!(
        (1..=MAX_FEATURES).contains(&n_features),
        param.complain("num_feature", format_args!("{n_features} is not in 1 to {MAX_FEATURES}"))
    );
    let n_classes = param.count("num_class")?;
    let n_targets = param.get("num_target").map_or(Ok(1), |_| param.count("num_target"))?;
    ensure!(
        n_classes <= 1 || n_targets <= 1,
        "the model has both {n_classes} classes and {n_targets} targets, which is not supported; train one model per target"
    );
    let groups = n_classes.max(n_targets).max(1);

    let objective_section = learner.section("objective")?;
    let name = objective_section.text("name")?;
    let objective = Objective::of(name, version, groups)?;
    keys.check(
        &objective_section,
        &[
            "aft_loss_param",
            "lambda_rank_param",
            "lambdarank_param",
            "name",
            "poisson_regression_param",
            "pseudo_huber_param",
            "quantile_loss_param",
            "reg_loss_param",
            "softmax_multiclass_param",
            "tweedie_regression_param",
        ],
    )?;

    let booster = Booster::find(&learner, keys)?;
    let best = best_iteration(&learner)?;
    let trees = booster.trees(groups, n_features, best, iterations)?;
    Ok(TreeModel {
        library: Library::XgBoost,
        version: format!("{version}.{patch}"),
        objective: name.to_owned(),
        feature_names: feature_names(&learner, n_features)?,
        base: base_margins(&param, objective, version, groups)?,
        trees,
        rules: LibraryRules::XgBoost,
        link: objective.link,
        average: None,
    })
}

/// Refuses keys that are not on an object's list.
#[derive(Clone, Copy)]
struct AllowedKeys {
    version: Version,
}

impl AllowedKeys {
    fn check(self, section: &Section<'_, '_>, allowed: &[&str]) -> Result<()> {
        match section.keys().find(|key| !allowed.contains(key)) {
            None => Ok(()),
            Some(key) => bail!(
                "{}: this key is unknown, and XGBoost {} may predict by it; train without the feature that writes it",
                section.path_of(key),
                self.version
            ),
        }
    }
}

fn feature_names(learner: &Section<'_, '_>, n_features: usize) -> Result<Vec<String>> {
    let names = learner.get("feature_names").map_or(Ok(Vec::new()), |_| learner.texts("feature_names"))?;
    if names.is_empty() {
        return Ok((0..n_features).map(|index| format!("f{index}")).collect());
    }
    ensure!(
        names.len() == n_features,
        learner.complain("feature_names", format_args!("{} names for {n_features} features", names.len()))
    );
    check_feature_names(&names)?;
    Ok(names)
}

/// The iteration early stopping found best, counted from 0.
fn best_iteration(learner: &Section<'_, '_>) -> Result<Option<usize>> {
    if learner.get("attributes").is_none() {
        return Ok(None);
    }
    let attributes = learner.section("attributes")?;
    attributes.get("best_iteration").map(|_| attributes.count("best_iteration")).transpose()
}

/// `base_score`: a number, or since 3.1 a list of numbers, in a text; one number counts for every group.
fn base_margins(
    param: &Section<'_, '_>,
    objective: Objective,
    version: Version,
    groups: usize,
) -> Result<Vec<f64>> {
    let text = param.text("base_score")?;
    let list = match text.strip_prefix('[') {
        None => text,
        Some(rest) => {
            rest.strip_suffix(']').with_context(|| param.complain("base_score", "the list has no end"))?
        }
    };
    let margins = list
        .split(',')
        .map(|number| {
            let number = number.trim_ascii();
            let score = document::Number::Text(number).f32();
            let score = score.map_err(|error| anyhow::anyhow!(param.complain("base_score", error)))?;
            objective.base_margin(score, version).map(f64::from)
        })
        .collect::<Result<Vec<_>>>()?;
    match margins.as_slice() {
        &[margin] => Ok(vec![margin; groups]),
        _ if margins.len() == groups => Ok(margins),
        _ => {
            bail!(param.complain("base_score", format_args!("{} values for {groups} groups", margins.len())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::ir::{Link, Node};

    /// A model of two trees; each test changes a piece of it.
    const MODEL: &str = r#"{"version":[3,2,0],"learner":{
        "learner_model_param":{"base_score":"[5E-1]","boost_from_average":"1","num_class":"0","num_feature":"2","num_target":"1"},
        "objective":{"name":"reg:squarederror","reg_loss_param":{"scale_pos_weight":"1"}},
        "attributes":{},"feature_names":[],"feature_types":[],
        "gradient_booster":{"name":"gbtree","model":{
            "gbtree_model_param":{"num_trees":"2","num_parallel_tree":"1"},
            "iteration_indptr":[0,1,2],"tree_info":[0,0],"trees":[TREE0,TREE1]}}}}"#;

    /// Root and two leaves; the fourth node was deleted by pruning.
    const TREE: &str = r#"{"id":ID,"tree_param":{"num_nodes":"4","num_feature":"2","size_leaf_vector":"1","num_deleted":"1"},
        "left_children":[1,-1,-1,-1],"right_children":[2,-1,-1,-1],"parents":[2147483647,0,0,1],
        "split_indices":[1,0,0,2147483647],"split_conditions":[2.5E-1,1E0,2E0,0E0],"default_left":[1,0,0,1],
        "split_type":[0,0,0,0],"categories":[],"categories_nodes":[],"categories_segments":[],"categories_sizes":[],
        "base_weights":[0,0,0,0],"loss_changes":[NaN,0,0,-Infinity],"sum_hessian":[0,0,0,0]}"#;

    fn import(text: &str) -> Result<TreeModel> {
        let text = text.replace("TREE0", &TREE.replace("ID", "0")).replace("TREE1", &TREE.replace("ID", "1"));
        import_json(text.as_bytes(), None)
    }

    /// Imports the model with `from` replaced by `to`, in its frame or in its first tree.
    fn changed(from: &str, to: &str) -> Result<TreeModel> {
        if MODEL.contains(from) {
            return import(&MODEL.replacen(from, to, 1));
        }
        let tree = TREE.replace("ID", "0");
        assert!(tree.contains(from), "{from} is nowhere in the model");
        import(&MODEL.replace("TREE0", &tree.replacen(from, to, 1)))
    }

    fn refused(from: &str, to: &str, words: &str) {
        let error = format!("{:#}", changed(from, to).unwrap_err());
        assert!(error.contains(words), "{from} -> {to}: {error}");
    }

    #[test]
    fn the_frame_is_read() {
        let model = import(MODEL).unwrap();
        assert_eq!((model.base.as_slice(), model.link, model.trees.len()), (&[0.5][..], Link::Identity, 2));
        assert_eq!(model.feature_names, ["f0", "f1"]);
        assert_eq!(model.version, "3.2.0");
        assert_eq!(model.trees[0].nodes[1..], [Node::Leaf(1.0), Node::Leaf(2.0)]);
        let name = r#""feature_names":["a","b"]"#;
        assert_eq!(changed(r#""feature_names":[]"#, name).unwrap().feature_names, ["a", "b"]);
    }

    #[test]
    fn base_score_forms() {
        for (text, base) in
            [("5.053333E-1", 0.505_333_3_f32), ("[5.053333E-1]", 0.505_333_3), ("[-1E0]", -1.0)]
        {
            assert_eq!(changed("[5E-1]", text).unwrap().base, [f64::from(base)]);
        }
        for text in ["", "[]", "[5E-1", "[1E0,2E0]", "NaN", "[Infinity]", "1e99", "half"] {
            refused("[5E-1]", text, "base_score");
        }
        let multi = MODEL
            .replace(r#""num_class":"0""#, r#""num_class":"2""#)
            .replace("reg:squarederror", "multi:softprob");
        assert_eq!(import(&multi).unwrap().base, [0.5, 0.5], "one number counts for every group");
        assert_eq!(import(&multi.replace("[5E-1]", "[1E0,-1E0]")).unwrap().base, [1.0, -1.0]);
    }

    #[test]
    fn versions_and_keys_are_known_or_refused() {
        for version in ["1,6,2", "3,5,0", "4,0,0", "0,90,0"] {
            refused("3,2,0", version, "only 1.7 to 3.4 are known");
        }
        refused("[3,2,0]", "[3,2]", "version");
        for (from, to) in [
            (r#""attributes""#, r#""magic":1,"attributes""#),
            (r#""tree_info""#, r#""magic":1,"tree_info""#),
            (r#""num_trees""#, r#""magic":"1","num_trees""#),
            (r#""num_nodes""#, r#""magic":"1","num_nodes""#),
            (r#""left_children""#, r#""magic":[1],"left_children""#),
            (r#""reg_loss_param""#, r#""magic":{},"reg_loss_param""#),
            (r#""name":"gbtree""#, r#""name":"gbtree","magic":[1]"#),
        ] {
            let error = format!("{:#}", changed(from, to).unwrap_err());
            assert!(error.contains("magic") && error.contains("3.2"), "{error}");
        }
    }

    #[test]
    fn counts_cannot_ask_for_memory() {
        refused(r#""num_feature":"2""#, r#""num_feature":"4000000000""#, "num_feature");
        refused(r#""num_feature":"2""#, r#""num_feature":"-1""#, "is no count");
        refused(r#""num_class":"0""#, r#""num_class":"4000000000""#, "only 2 trees");
        refused(r#""num_target":"1""#, r#""num_target":"4000000000""#, "only 2 trees");
        refused(r#""num_trees":"2""#, r#""num_trees":"3""#, "num_trees");
        refused(r#""num_nodes":"4""#, r#""num_nodes":"4000000000""#, "4 elements for 4000000000 nodes");
    }

    #[test]
    fn frames_that_disagree_are_refused() {
        refused("[0,0]", "[0,1]", "tree 1 is of none of 1 groups");
        refused("[0,0]", "[0]", "tree_info");
        for boundaries in ["[]", "[0]", "[0,1]", "[0,2,1]", "[1,2]", "[0,-1,2]"] {
            refused("[0,1,2]", boundaries, "iteration_indptr");
        }
        refused(r#""feature_names":[]"#, r#""feature_names":["a"]"#, "1 names for 2 features");
        refused(r#""feature_names":[]"#, r#""feature_names":["a","a"]"#, "two features are named");
        refused(r#""attributes":{}"#, r#""attributes":{"best_iteration":"0"}"#, "best_iteration 0");
        refused(r#""attributes":{}"#, r#""attributes":{"best_iteration":"last"}"#, "is no count");
        refused(r#""name":"gbtree""#, r#""name":"dart""#, "model");
        refused(r#""name":"gbtree""#, r#""name":"gbtree","weight_drop":[1E0]"#, "weight_drop");
        refused(
            r#""name":"gbtree","model":{"#,
            r#""name":"gbtree","weight_drop":[1,1],"model":{"weight_drop":[1,1],"#,
            "given twice",
        );
    }

    #[test]
    fn trees_are_checked_node_by_node() {
        refused("[1,-1,-1,-1]", "[0,-1,-1,-1]", "not neighbours");
        refused("[1,-1,-1,-1],", "[3,-1,-1,-1],", "not neighbours");
        refused("[2,-1,-1,-1]", "[3,-1,-1,-1]", "not neighbours");
        refused("[2147483647,0,0,1]", "[2147483647,0,1,1]", "does not name it as parent");
        refused("[1,0,0,2147483647]", "[2,0,0,2147483647]", "feature 2 of 2");
        refused("[1,0,0,2147483647]", "[1,0,0,0]", "cannot be reached");
        refused(r#""num_deleted":"1""#, r#""num_deleted":"0""#, "cannot be reached");
        refused("[2.5E-1,1E0", "[NaN,1E0", "threshold of node 0 is NaN");
        refused("[2.5E-1,1E0", "[2.5E-1,NaN", "leaf 1 is not finite");
        refused("[2.5E-1,1E0", "[2.5E-1,true", "damaged");
        refused("[1,0,0,1]", "[2,0,0,1]", "default_left");
        refused(r#""id":0"#, r#""id":1"#, "id");
        let looped = TREE
            .replace("ID", "0")
            .replace("[1,-1,-1,-1]", "[1,0,-1,-1]")
            .replace("[2,-1,-1,-1]", "[2,1,-1,-1]");
        assert!(import(&MODEL.replace("TREE0", &looped)).is_err());
        let booleans = changed("[1,0,0,1]", "[true,false,false,true]").unwrap();
        assert_eq!(booleans, import(MODEL).unwrap());
    }

    #[test]
    fn category_sets_are_checked() {
        let tree = |categories: &str, nodes: &str, segments: &str, sizes: &str| {
            let tree =
                TREE.replace("ID", "0").replace(r#""split_type":[0,0,0,0]"#, r#""split_type":[1,0,0,0]"#);
            let tree = tree.replace(r#""categories":[]"#, &format!(r#""categories":{categories}"#));
            let tree = tree.replace(r#""categories_nodes":[]"#, &format!(r#""categories_nodes":{nodes}"#));
            let tree =
                tree.replace(r#""categories_segments":[]"#, &format!(r#""categories_segments":{segments}"#));
            let tree = tree.replace(r#""categories_sizes":[]"#, &format!(r#""categories_sizes":{sizes}"#));
            import(&MODEL.replace("TREE0", &tree))
        };
        tree("[1,5]", "[0]", "[0]", "[2]").unwrap();
        for (categories, nodes, segments, sizes) in [
            ("[1,5]", "[]", "[]", "[]"),
            ("[1,5]", "[0]", "[0]", "[3]"),
            ("[1,5]", "[0]", "[0]", "[1]"),
            ("[1,5]", "[0]", "[0]", "[0]"),
            ("[1,5]", "[0]", "[1]", "[1]"),
            ("[1,5]", "[0]", "[0]", "[-1]"),
            ("[1,5]", "[4]", "[0]", "[2]"),
            ("[1,5]", "[0,0]", "[0,1]", "[1,1]"),
            ("[1,5]", "[0,1]", "[0,1]", "[1,1]"),
            ("[5,1]", "[0]", "[0]", "[2]"),
            ("[1,1]", "[0]", "[0]", "[2]"),
            ("[-1,5]", "[0]", "[0]", "[2]"),
            ("[1,16777216]", "[0]", "[0]", "[2]"),
        ] {
            let error = format!("{:#}", tree(categories, nodes, segments, sizes).unwrap_err());
            assert!(error.contains("categories"), "{error}");
        }
    }
}
