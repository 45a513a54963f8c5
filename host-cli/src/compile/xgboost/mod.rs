//! XGBoost JSON and UBJSON, versions 1.7 to 3.4.
//!
//! | file | does |
//! | --- | --- |
//! | `document` | what JSON and UBJSON have in common: values, and sections that know their path |
//! | `json`, `ubjson` | bytes ─▶ document |
//! | `objective` | the objectives that are known: `base_score` ─▶ margin, margins ─▶ outputs |
//! | `tree` | one tree: arrays ─▶ checked, linked nodes |
//! | `logf` | the C library's logarithm, bit for bit |
//!
//! Keys are read by allow-list: a key nobody here knows may be a new rule that changes predictions, so it is refused
//! with its name and the file's version. Keys that are allowed and not read do not matter to prediction: statistics of
//! training (`base_weights`, `loss_changes`, `sum_hessian`, `boost_from_average`, objective parameters), `feature_types`
//! and `cats` (how a data frame's categories become the codes that rows hold here).

mod document;
mod json;
mod logf;
mod objective;
mod tree;
mod ubjson;

use std::fmt;

use anyhow::{Context, Result, bail, ensure};

use self::document::{Section, Value};
use self::objective::Objective;
use super::ir::{Library, LibraryRules, TreeModel, check_feature_names};
use super::{Iterations, chosen_iterations};

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
        "the file was written by XGBoost {version}, and only {OLDEST} to {NEWEST} are known; load it there and save it again"
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

/// Where a file keeps its trees, and the weights of a dart model.
struct Booster<'d, 'a> {
    keys: AllowedKeys,
    model: Section<'d, 'a>,
    /// One factor per tree.
    weights: Option<Vec<f32>>,
}

impl<'d, 'a> Booster<'d, 'a> {
    /// Dart weights have lain in three places: beside a nested booster (to 3.2), beside the model (3.3), in it (3.4).
    fn find(learner: &Section<'d, 'a>, keys: AllowedKeys) -> Result<Self> {
        let outer = learner.section("gradient_booster")?;
        let model = match outer.text("name")? {
            "gbtree" => {
                keys.check(&outer, &["model", "name", "weight_drop"])?;
                outer.section("model")?
            }
            "dart" => {
                keys.check(&outer, &["gbtree", "name", "weight_drop"])?;
                let inner = outer.section("gbtree")?;
                keys.check(&inner, &["model", "name"])?;
                ensure!(
                    outer.get("weight_drop").is_some(),
                    outer.complain("weight_drop", "missing in a dart model")
                );
                inner.section("model")?
            }
            "gblinear" => {
                bail!("the booster is gblinear, a linear model, which is not supported; train with gbtree")
            }
            other => bail!("the booster {other:?} is unknown; train with gbtree or dart"),
        };
        keys.check(
            &model,
            &["cats", "gbtree_model_param", "iteration_indptr", "tree_info", "trees", "weight_drop"],
        )?;
        let places: Vec<_> =
            [&outer, &model].into_iter().filter(|section| section.get("weight_drop").is_some()).collect();
        let weights = match places.as_slice() {
            [] => None,
            [place] => Some(place.f32s("weight_drop")?),
            _ => bail!(outer.complain("weight_drop", "given twice")),
        };
        Ok(Self { keys, model, weights })
    }

    /// The trees of the chosen iterations.
    fn trees(
        &self,
        groups: usize,
        n_features: usize,
        best: Option<usize>,
        iterations: Option<Iterations>,
    ) -> Result<Vec<super::ir::Tree>> {
        let model = &self.model;
        let param = model.section("gbtree_model_param")?;
        self.keys.check(&param, &["num_parallel_tree", "num_trees", "size_leaf_vector"])?;
        let sections = model.sections("trees")?;
        let count = sections.len();
        ensure!(count > 0, model.complain("trees", "the model has no trees"));
        ensure!(
            param.count("num_trees")? == count,
            param.complain("num_trees", format_args!("the file has {count} trees"))
        );
        for section in &sections {
            tree::refuse_vector_leaves(section)?;
            self.keys.check(section, tree::KEYS)?;
            self.keys.check(&section.section("tree_param")?, tree::PARAM_KEYS)?;
        }
        ensure!(
            groups <= count,
            "the model has {groups} outputs but only {count} trees; train it for an iteration at least"
        );

        let group_of = model.i64s("tree_info")?;
        ensure!(
            group_of.len() == count,
            model.complain("tree_info", format_args!("not one number for {count} trees"))
        );
        if let Some(weights) = &self.weights {
            ensure!(
                weights.len() == count,
                model.complain("weight_drop", format_args!("not one weight for {count} trees"))
            );
        }
        let boundaries = self.iteration_boundaries(&param, groups, count)?;
        let used = chosen_iterations(iterations, best, boundaries.len() - 1)?;
        let used_trees = boundaries[used];

        let trees = sections.iter().zip(&group_of).enumerate().map(|(index, (section, &group))| {
            let group = usize::try_from(group).ok().filter(|&group| group < groups);
            let group = group.with_context(|| {
                model.complain("tree_info", format_args!("tree {index} is of none of {groups} groups"))
            })?;
            let weight = self.weights.as_ref().map(|weights| weights[index]);
            tree::read(section, index, group, n_features, weight)
        });
        let mut trees = trees.collect::<Result<Vec<_>>>()?;
        trees.truncate(used_trees);
        Ok(trees)
    }

    /// How many trees the file has before and after each iteration: `[iterations + 1]`, from 0 to `count`.
    fn iteration_boundaries(
        &self,
        param: &Section<'_, '_>,
        groups: usize,
        count: usize,
    ) -> Result<Vec<usize>> {
        let model = &self.model;
        if model.get("iteration_indptr").is_some() {
            let boundaries = model.i64s("iteration_indptr")?;
            let boundaries: Option<Vec<usize>> =
                boundaries.iter().map(|&at| usize::try_from(at).ok()).collect();
            let boundaries = boundaries
                .filter(|at| at.first() == Some(&0) && at.last() == Some(&count) && at.is_sorted())
                .with_context(|| {
                    model.complain(
                        "iteration_indptr",
                        format_args!("expected ascending numbers from 0 to {count}"),
                    )
                })?;
            return Ok(boundaries);
        }
        let step = param.count("num_parallel_tree")?.max(1).saturating_mul(groups);
        ensure!(
            count.is_multiple_of(step),
            param.complain(
                "num_parallel_tree",
                format_args!("{count} trees are no whole number of iterations")
            )
        );
        Ok((0..=count).step_by(step).collect())
    }
}
