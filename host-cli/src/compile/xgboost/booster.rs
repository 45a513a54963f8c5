//! Where a file keeps its trees, which iterations they belong to, and the weights of a dart model.

use anyhow::{Context, Result, bail, ensure};

use super::document::Section;
use super::{AllowedKeys, tree};
use crate::compile::ir::Tree;
use crate::compile::{Iterations, chosen_iterations};

/// The part of a file that holds the trees.
pub(super) struct Booster<'d, 'a> {
    keys: AllowedKeys,
    model: Section<'d, 'a>,
    /// One factor per tree.
    weights: Option<Vec<f32>>,
}

impl<'d, 'a> Booster<'d, 'a> {
    /// Dart weights have lain in three places: beside a nested booster (to 3.2), beside the model (3.3), in it (3.4).
    pub(super) fn find(learner: &Section<'d, 'a>, keys: AllowedKeys) -> Result<Self> {
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
    pub(super) fn trees(
        &self,
        groups: usize,
        n_features: usize,
        best: Option<usize>,
        iterations: Option<Iterations>,
    ) -> Result<Vec<Tree>> {
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
