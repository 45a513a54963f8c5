//! XGBoost objectives whose predictions are known: what `base_score` means and how margins become outputs.
//!
//! An objective that is not listed is refused: its output transform may be any.

use anyhow::{Result, bail, ensure};

use super::Version;
use super::logf::logf;
use crate::compile::ir::Link;

/// How a `base_score`, which is given as an output, becomes a margin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Base {
    /// It is one.
    Margin,
    /// −ln(1/b − 1).
    Logit,
    /// ln(b).
    Log,
}

/// An objective's rules.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Objective {
    base: Base,
    pub(super) link: Link,
}

impl Objective {
    /// The rules of the objective `name` in files of `version` with `groups` margins.
    pub(super) fn of(name: &str, version: Version, groups: usize) -> Result<Self> {
        let (base, link) = match name {
            "reg:squarederror"
            | "reg:squaredlogerror"
            | "reg:absoluteerror"
            | "reg:pseudohubererror"
            | "binary:logitraw"
            | "rank:pairwise"
            | "rank:ndcg"
            | "rank:map" => (Base::Margin, Link::Identity),
            "reg:quantileerror" => {
                ensure!(
                    groups == 1 || version < Version { major: 3, minor: 4 },
                    "reg:quantileerror with several quantiles sorts its outputs since XGBoost 3.4, which is not supported; \
                     train one model per quantile"
                );
                (Base::Margin, Link::Identity)
            }
            "binary:logistic" | "reg:logistic" => (Base::Logit, Link::Sigmoid { scale: 1.0 }),
            "binary:hinge" => (Base::Margin, Link::Step),
            "count:poisson" | "reg:gamma" | "reg:tweedie" | "survival:cox" | "survival:aft" => {
                (Base::Log, Link::Exp)
            }
            "multi:softprob" | "multi:softmax" => (Base::Margin, Link::Softmax),
            _ => bail!(
                "the objective {name:?} of XGBoost {version} is not supported, its outputs would be guessed; train with a \
                 listed objective, such as binary:logistic, multi:softprob or reg:squarederror"
            ),
        };
        Ok(Self { base, link })
    }

    /// The margin that `base_score` stands for, in the f32 arithmetic of XGBoost.
    pub(super) fn base_margin(self, base_score: f32, version: Version) -> Result<f32> {
        let margin = match self.base {
            Base::Margin => base_score,
            Base::Log => logf(base_score),
            Base::Logit if version < (Version { major: 3, minor: 2 }) => logit(base_score),
            // Since 3.2 the ends of [0, 1] are stored, for training data of one class, and moved inwards when used.
            Base::Logit if (0.0..=1.0).contains(&base_score) => logit(base_score.clamp(1e-6, 1.0 - 1e-6)),
            Base::Logit => f32::NAN,
        };
        ensure!(
            margin.is_finite(),
            "base_score {base_score:?} gives no finite margin; train the model again"
        );
        Ok(margin)
    }
}

fn logit(probability: f32) -> f32 {
    -logf(1.0 / probability - 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: Version = Version { major: 3, minor: 1 };
    const NEW: Version = Version { major: 3, minor: 2 };

    fn margin(name: &str, base_score: f32, version: Version) -> Result<f32> {
        Objective::of(name, version, 1).unwrap().base_margin(base_score, version)
    }

    #[test]
    fn base_scores_are_outputs_not_margins() {
        assert_eq!(margin("binary:logistic", 0.5, OLD).unwrap(), 0.0);
        assert_eq!(margin("reg:squarederror", 0.5, OLD).unwrap(), 0.5);
        assert_eq!(margin("binary:logitraw", 0.5, OLD).unwrap(), 0.5);
        assert_eq!(margin("multi:softprob", 0.5, OLD).unwrap(), 0.5);
        assert_eq!(margin("count:poisson", 1.0, OLD).unwrap(), 0.0);
        assert!(margin("reg:gamma", 0.0, OLD).is_err() && margin("reg:gamma", -1.0, OLD).is_err());
        assert!(margin("reg:squarederror", f32::NAN, OLD).is_err());
    }

    #[test]
    fn the_ends_of_the_logistic_range_depend_on_the_version() {
        for end in [0.0, 1.0] {
            assert!(margin("binary:logistic", end, OLD).is_err());
        }
        assert_eq!(margin("binary:logistic", 0.0, NEW).unwrap(), logit(1e-6));
        assert_eq!(margin("binary:logistic", 1.0, NEW).unwrap(), logit(1.0 - 1e-6));
        for outside in [-0.1, 1.1, f32::NAN] {
            assert!(margin("binary:logistic", outside, NEW).is_err());
            assert!(margin("binary:logistic", outside, OLD).is_err());
        }
    }

    #[test]
    fn unknown_objectives_are_refused_by_name() {
        let refused = Objective::of("reg:expectileerror", NEW, 1).unwrap_err().to_string();
        assert!(refused.contains("reg:expectileerror") && refused.contains("3.2"), "{refused}");
        let newest = Version { major: 3, minor: 4 };
        assert!(Objective::of("reg:quantileerror", newest, 1).is_ok());
        assert!(Objective::of("reg:quantileerror", NEW, 2).is_ok());
        assert!(
            Objective::of("reg:quantileerror", newest, 2)
                .unwrap_err()
                .to_string()
                .contains("sorts its outputs")
        );
    }
}
