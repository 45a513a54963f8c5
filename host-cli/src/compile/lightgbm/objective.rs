//! LightGBM objectives whose outputs are known.

use anyhow::{Context, Result, bail, ensure};

use crate::compile::ir::Link;

/// The link of an `objective=` line with `groups` margins. `custom`, or no such line, leaves margins as they are.
pub(super) fn link(objective: &str, groups: usize) -> Result<Link> {
    let mut words = objective.split(' ');
    let name = words.next().unwrap_or_default();
    let mut sigmoid = None;
    let mut classes = None;
    let mut sqrt = false;
    for word in words {
        let expected = match word.split_once(':') {
            Some(("sigmoid", scale)) => {
                let scale = scale.parse().ok().filter(|scale: &f64| scale.is_finite() && *scale > 0.0);
                sigmoid =
                    Some(scale.with_context(|| format!("{word:?} in the objective is no positive number"))?);
                matches!(name, "binary" | "multiclassova")
            }
            Some(("num_class", count)) => {
                classes = Some(count);
                matches!(name, "multiclass" | "multiclassova")
            }
            None if word == "sqrt" => {
                sqrt = true;
                matches!(name, "regression" | "regression_l1" | "fair" | "quantile" | "mape")
            }
            _ => false,
        };
        ensure!(
            expected,
            "the objective {objective:?} has an unknown part {word:?} that may change its outputs; train with a plain objective"
        );
    }
    let link = match name {
        "regression" | "regression_l1" | "fair" | "quantile" | "mape" if sqrt => Link::SignedSquare,
        "regression" | "regression_l1" | "fair" | "quantile" | "mape" | "huber" | "lambdarank"
        | "rank_xendcg" | "custom" => Link::Identity,
        "poisson" | "gamma" | "tweedie" => Link::Exp,
        "cross_entropy" => Link::Sigmoid { scale: 1.0 },
        "cross_entropy_lambda" => Link::Log1pExp,
        "multiclass" => Link::Softmax,
        "binary" | "multiclassova" => Link::Sigmoid {
            scale: sigmoid.with_context(|| format!("the objective {objective:?} lacks sigmoid:"))?,
        },
        _ => bail!(
            "the objective {name:?} is not supported, its outputs would be guessed; train with a listed objective, such as \
             binary, multiclass or regression"
        ),
    };
    let one_margin = !matches!(name, "multiclass" | "multiclassova" | "custom");
    ensure!(!one_margin || groups == 1, "the objective {name:?} has one output, but the model has {groups}");
    if let Some(classes) = classes {
        ensure!(
            classes.parse() == Ok(groups),
            "the objective {objective:?} and num_class={groups} disagree; save the model again"
        );
    }
    Ok(link)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_objective() {
        for (objective, groups, expected) in [
            ("regression", 1, Link::Identity),
            ("regression sqrt", 1, Link::SignedSquare),
            ("regression_l1", 1, Link::Identity),
            ("quantile sqrt", 1, Link::SignedSquare),
            ("huber", 1, Link::Identity),
            ("poisson", 1, Link::Exp),
            ("cross_entropy", 1, Link::Sigmoid { scale: 1.0 }),
            ("cross_entropy_lambda", 1, Link::Log1pExp),
            ("binary sigmoid:2", 1, Link::Sigmoid { scale: 2.0 }),
            ("multiclass num_class:3", 3, Link::Softmax),
            ("multiclassova num_class:3 sigmoid:1", 3, Link::Sigmoid { scale: 1.0 }),
            ("custom", 4, Link::Identity),
        ] {
            assert_eq!(link(objective, groups).unwrap(), expected, "{objective}");
        }
    }

    #[test]
    fn the_unknown_is_refused() {
        for (objective, groups) in [
            ("", 1),
            ("mystery", 1),
            ("binary", 1),
            ("binary sigmoid:0", 1),
            ("binary sigmoid:nan", 1),
            ("binary sigmoid:1 sqrt", 1),
            ("poisson sqrt", 1),
            ("regression l2", 1),
            ("regression", 2),
            ("multiclass num_class:4", 3),
        ] {
            assert!(link(objective, groups).is_err(), "{objective}");
        }
    }
}
