//! The config beside a safetensors file: which architecture, which shapes, and what the file cannot say.

use anyhow::{Context as _, Result, bail, ensure};
use qsc_kernel::Action;
use serde::Deserialize;
use serde_json::Value;

use super::builder::Builder;
use super::ir::{Inputs, NetDecision, StatisticsKind};
use crate::compile::ir::check_feature_names;
use crate::compile::{DEAD_ZONE_HIGH, DEAD_ZONE_LOW};

/// The largest dimension any net of this kind has.
const MAX_DIMENSION: usize = 1 << 16;

/// The layouts that are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Architecture {
    PatchTst,
    HuggingFacePatchTst,
    SimpleNHits,
    NHits,
}

impl Architecture {
    /// The layout a config names by `architecture`, or Hugging Face's by `architectures[0]`.
    pub(super) fn of(config: &Value) -> Result<Self> {
        let named = config.get("architecture").or_else(|| config.get("architectures")?.get(0));
        let Some(name) = named.and_then(Value::as_str) else {
            bail!(
                "the config names no architecture; add \"architecture\": PatchTSTModel, SimpleNHiTS or NHITS, \
                 or use Hugging Face's config.json as it is"
            );
        };
        Ok(match name {
            "PatchTSTModel" => Self::PatchTst,
            "PatchTSTForClassification" => Self::HuggingFacePatchTst,
            "SimpleNHiTS" => Self::SimpleNHits,
            "NHITS" => Self::NHits,
            other => bail!(
                "architecture {other:?} is not supported; known are PatchTSTModel, PatchTSTForClassification, SimpleNHiTS \
                 and NHITS"
            ),
        })
    }
}

/// A config of this shape; unknown and missing keys are named.
pub(super) fn parse<T: for<'de> Deserialize<'de>>(config: &Value) -> Result<T> {
    T::deserialize(config).map_err(|error| anyhow::anyhow!("the config is not usable: {error}"))
}

/// Every dimension is at least 1 and none is absurd.
pub(super) fn check_dimensions(dimensions: &[(&str, usize)]) -> Result<()> {
    for (name, value) in dimensions {
        ensure!(
            (1..=MAX_DIMENSION).contains(value),
            "{name} is {value} in the config; it must be from 1 to {MAX_DIMENSION}"
        );
    }
    Ok(())
}

/// Names of the features: those of the config, or `f0`, `f1`, ….
pub(super) fn feature_names(given: Option<Vec<String>>, count: usize) -> Result<Vec<String>> {
    let Some(names) = given else { return Ok((0..count).map(|feature| format!("f{feature}")).collect()) };
    ensure!(
        names.len() == count,
        "feature_names has {} names where the model has {count} features",
        names.len()
    );
    check_feature_names(&names).context("feature_names")?;
    Ok(names)
}

/// Reads `classes`: one action per output.
pub(super) fn classes(given: &[String], outputs: usize) -> Result<Vec<Action>> {
    ensure!(
        given.len() == outputs,
        "classes has {} entries where the model has {outputs} outputs",
        given.len()
    );
    given
        .iter()
        .map(|name| {
            Action::from_wire_name(name)
                .with_context(|| format!("classes has {name:?}, which is none of BUY, SELL, HOLD"))
        })
        .collect()
}

/// How outputs vote, in the config's words.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(tag = "rule", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Decision {
    DeadZone { buy_above: f32, sell_below: f32 },
    HorizonReturn { buy_above: f32, sell_below: f32 },
}

/// The decision of a model with one probability.
pub(super) fn dead_zone(given: Option<Decision>) -> Result<NetDecision> {
    match given {
        None => Ok(NetDecision::DeadZone { low: DEAD_ZONE_LOW, high: DEAD_ZONE_HIGH }),
        Some(Decision::DeadZone { buy_above, sell_below }) => {
            ensure!(
                0.0 <= sell_below && sell_below <= buy_above && buy_above <= 1.0,
                "decision: 0 ≤ sell_below ≤ buy_above ≤ 1 is needed, not {sell_below} and {buy_above}"
            );
            Ok(NetDecision::DeadZone { low: sell_below, high: buy_above })
        }
        Some(Decision::HorizonReturn { .. }) => {
            bail!("decision: horizon_return needs a forecast, but the model gives one probability")
        }
    }
}

/// The decision of a forecast; without one it cannot vote.
pub(super) fn horizon_return(given: Option<Decision>) -> Result<NetDecision> {
    match given {
        None => Ok(NetDecision::None),
        Some(Decision::HorizonReturn { buy_above, sell_below }) => {
            ensure!(
                sell_below < 0.0 && 0.0 < buy_above && sell_below.is_finite() && buy_above.is_finite(),
                "decision: sell_below < 0 < buy_above is needed, not {sell_below} and {buy_above}"
            );
            Ok(NetDecision::HorizonReturn { low: sell_below, high: buy_above })
        }
        Some(Decision::DeadZone { .. }) => {
            bail!("decision: dead_zone needs a probability, but the model gives a forecast")
        }
    }
}

/// Scaling of the window before the network, in the config's words.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Preprocess {
    WindowMinMax { epsilon: f32 },
    WindowStd { epsilon: f32 },
    ZScore { epsilon: f32, mean: Vec<f32>, std: Vec<f32> },
}

impl Preprocess {
    /// Reads `preprocess`; its errors name the key.
    pub(super) fn read(given: Option<&Value>) -> Result<Option<Self>> {
        given
            .map(|value| Self::deserialize(value).map_err(|error| anyhow::anyhow!("preprocess: {error}")))
            .transpose()
    }

    /// Adds the steps that scale the row in place, `[seq_len, width]`.
    pub(super) fn build(&self, builder: &mut Builder, width: usize) -> Result<()> {
        let row = builder.row;
        let epsilon = match self {
            Self::WindowMinMax { epsilon } | Self::WindowStd { epsilon } | Self::ZScore { epsilon, .. } => {
                *epsilon
            }
        };
        ensure!((0.0..=1.0).contains(&epsilon), "preprocess: epsilon is {epsilon}; it must be from 0 to 1");
        let statistics = match self {
            Self::WindowMinMax { .. } => builder.statistics(StatisticsKind::MinMax, epsilon, row, width),
            Self::WindowStd { .. } => builder.statistics(StatisticsKind::StdUnderRoot, epsilon, row, width),
            Self::ZScore { mean, std, .. } => {
                let fits = |name: &str, values: &[f32]| {
                    ensure!(
                        values.len() == width,
                        "preprocess: {name} has {} values where the model has {width} features",
                        values.len()
                    );
                    ensure!(
                        values.iter().all(|v| v.is_finite()),
                        "preprocess: {name} has a value that is not finite"
                    );
                    Ok(())
                };
                fits("mean", mean)?;
                fits("std", std)?;
                ensure!(
                    std.iter().all(|&std| std > 0.0),
                    "preprocess: std must be above 0 for every feature"
                );
                // The divisor is one rounded sum, as the trained pipeline computes it.
                let divisors = std.iter().map(|std| std + epsilon);
                builder.constants(mean.iter().copied().chain(divisors).collect())
            }
        };
        builder.normalize(statistics, row);
        Ok(())
    }

    /// What rows look like before the scaling.
    pub(super) fn inputs(given: Option<&Self>) -> Inputs {
        match given {
            Some(Self::ZScore { mean, std, .. }) => Inputs::Scaled { mean: mean.clone(), std: std.clone() },
            _ => Inputs::Standard,
        }
    }
}
