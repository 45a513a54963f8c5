//! `NHITS` of neuralforecast: blocks that pool a residual, explain a part of it, and add to a forecast.

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::builder::Builder;
use super::config::{self, Decision};
use super::fold::{Interpolation, average_pool, interpolate};
use super::ir::{Affine, Inputs, Linear, NetLink, NetModel, Op, Region, StatisticsKind};
use super::tensors::Tensors;

/// Weights of a matrix that is not in the file but made here, of a pool or an interpolation: 128 MiB.
const MAX_MADE: usize = 1 << 24;
/// neuralforecast's `TemporalNorm` default, added to the standard deviation.
const SCALER_EPSILON: f32 = 1e-6;
/// Losses whose network gives one value per step, the forecast itself.
const POINT_LOSSES: &[&str] = &["MAE", "MSE", "RMSE", "MAPE", "SMAPE", "MASE", "relMSE", "HuberLoss"];

/// What our own config may add.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    #[serde(rename = "architecture")]
    _architecture: Option<String>,
    feature_names: Option<Vec<String>>,
    decision: Option<Decision>,
}

/// The hyper-parameters that matter for a forecast.
#[derive(Debug, Deserialize)]
struct Hyper {
    h: usize,
    input_size: usize,
    loss: Value,
    scaler_type: Option<String>,
    stack_types: Vec<String>,
    n_blocks: Vec<usize>,
    mlp_units: Vec<[usize; 2]>,
    n_pool_kernel_size: Vec<usize>,
    n_freq_downsample: Vec<usize>,
    pooling_mode: String,
    interpolation_mode: String,
    dropout_prob_theta: f64,
    activation: String,
}

pub(super) fn import(tensors: &Tensors<'_>, config: Option<&Value>) -> Result<NetModel> {
    let config: Config = config.map(config::parse).transpose()?.unwrap_or_default();
    if let Some(class) = tensors.metadata("model_class") {
        ensure!(class == "NHITS", "the file's model_class is {class:?}; only NHITS is supported");
    }
    let text = tensors.metadata("hyper_parameters").context(
        "the file's header lacks hyper_parameters; save the model with neuralforecast's own save()",
    )?;
    let keys: Map<String, Value> =
        serde_json::from_str(text).context("the hyper_parameters of the file's header are no JSON object")?;
    check_options(&keys)?;
    let hyper: Hyper = config::parse(&Value::Object(keys)).context("hyper_parameters")?;
    hyper.check()?;
    let (length, horizon) = (hyper.input_size, hyper.h);

    let mut net = Builder::new(length);
    let scaler = match hyper.scaler_type.as_deref() {
        Some("standard") => {
            let statistics = net.statistics(StatisticsKind::Std, SCALER_EPSILON, net.row, 1);
            net.normalize(statistics, net.row);
            Some(statistics)
        }
        _ => None,
    };
    // The residual in reversed time, then the forecast, which starts at the last value.
    let start = (0..length).rev().chain(std::iter::repeat_n(length - 1, horizon));
    let state = net.gather("residual and level", net.row, start.map(Some).collect());
    let blocks: usize = hyper.n_blocks.iter().sum();
    let mut number = 0;
    for (stack, &count) in hyper.n_blocks.iter().enumerate() {
        for _ in 0..count {
            hyper.block(tensors, &mut net, state, stack, number, number + 1 == blocks)?;
            number += 1;
        }
    }
    let output = state.part(length, horizon);
    if let Some(statistics) = scaler {
        net.denormalize(statistics, output);
    }
    let names = config.feature_names.unwrap_or_else(|| vec!["y".to_owned()]);
    Ok(NetModel {
        library: "neuralforecast".to_owned(),
        version: String::new(),
        architecture: "NHITS",
        seq_len: length,
        feature_names: config::feature_names(Some(names), 1)?,
        steps: net.steps,
        arena: net.arena,
        output,
        link: NetLink::Identity,
        decision: config::horizon_return(config.decision)?,
        inputs: if scaler.is_some() { Inputs::Prices } else { Inputs::Standard },
    })
}

/// Options that would change the forecast and are not supported, refused by name.
fn check_options(keys: &Map<String, Value>) -> Result<()> {
    for key in ["futr_exog_list", "hist_exog_list", "stat_exog_list", "cat_exog_list"] {
        let empty =
            keys.get(key).is_none_or(|value| value.is_null() || value.as_array().is_some_and(Vec::is_empty));
        ensure!(empty, "{key} names exogenous variables; only models of the series alone are supported");
    }
    let excluded = keys.get("exclude_insample_y").and_then(Value::as_bool).unwrap_or(false);
    ensure!(!excluded, "exclude_insample_y is true; only models of the series itself are supported");
    Ok(())
}

impl Hyper {
    fn check(&self) -> Result<()> {
        let loss = self.loss.get("cls").and_then(Value::as_str).unwrap_or_default();
        ensure!(
            POINT_LOSSES.contains(&loss),
            "loss {loss:?} is not supported; point losses are: {}",
            POINT_LOSSES.join(", ")
        );
        let scaler = self.scaler_type.as_deref();
        ensure!(
            matches!(scaler, None | Some("identity" | "standard")),
            "scaler_type {:?} is not supported; identity and standard are",
            scaler.unwrap_or_default()
        );
        ensure!(self.activation == "ReLU", "activation {:?} is not supported; ReLU is", self.activation);
        ensure!(
            matches!(self.pooling_mode.as_str(), "MaxPool1d" | "AvgPool1d"),
            "pooling_mode {:?} is not supported; MaxPool1d and AvgPool1d are",
            self.pooling_mode
        );
        self.interpolation()?;
        let stacks = self.stack_types.len();
        ensure!(
            self.stack_types.iter().all(|kind| kind == "identity"),
            "stack_types {:?} are not supported; identity is",
            self.stack_types
        );
        for (name, of) in [
            ("n_blocks", &self.n_blocks),
            ("n_pool_kernel_size", &self.n_pool_kernel_size),
            ("n_freq_downsample", &self.n_freq_downsample),
        ] {
            ensure!(of.len() == stacks && stacks > 0, "{name} has {} entries for {stacks} stacks", of.len());
            config::check_dimensions(&of.iter().map(|value| (name, *value)).collect::<Vec<_>>())?;
        }
        ensure!(!self.mlp_units.is_empty(), "mlp_units is empty");
        config::check_dimensions(&[("h", self.h), ("input_size", self.input_size)])?;
        config::check_dimensions(
            &self.mlp_units.as_flattened().iter().map(|u| ("mlp_units", *u)).collect::<Vec<_>>(),
        )
    }

    fn interpolation(&self) -> Result<Interpolation> {
        match self.interpolation_mode.as_str() {
            "linear" => Ok(Interpolation::Linear),
            "nearest" => Ok(Interpolation::Nearest),
            other => bail!("interpolation_mode {other:?} is not supported; linear and nearest are"),
        }
    }

    /// Adds block `number`: pool, hidden layers, then backcast and forecast added to the state in one map.
    fn block(
        &self,
        tensors: &Tensors<'_>,
        net: &mut Builder,
        state: Region,
        stack: usize,
        number: usize,
        last: bool,
    ) -> Result<()> {
        let (length, horizon) = (self.input_size, self.h);
        let kernel = self.n_pool_kernel_size[stack];
        let pooled = length.div_ceil(kernel);
        let name = |layer: usize| format!("blocks.{number}.layers.{layer}");
        let residual = state.part(0, length);
        let [first_width, _] = self.mlp_units[0];
        // The first layer has no activation behind it: it folds into the second, and an average pool into it.
        let mut pending = tensors.linear(&name(0), first_width, pooled)?;
        let mut hidden = residual;
        if kernel > 1 && self.pooling_mode == "AvgPool1d" {
            let name = "input_size times the width of what it is pooled to";
            config::check_product(name, &[length, pooled.max(first_width)], MAX_MADE)?;
            pending = pending.after(&average_pool(length, kernel));
        } else if kernel > 1 {
            hidden = net.max_pool(kernel, residual);
        }
        let (mut pending, mut before) = (Some(pending), name(0));
        let step = if self.dropout_prob_theta > 0.0 { 3 } else { 2 };
        for (at, &[width, out]) in self.mlp_units.iter().enumerate() {
            let own = name(1 + at * step);
            let map = tensors.linear(&own, out, width)?;
            // What reads the pooled series meets its outliers: fine. Behind a ReLU one digit is enough.
            let (layer, label) = match pending.take() {
                Some(inner) if map.folds_well(&inner) => {
                    (Linear::fine(map.after(&inner)), format!("{before}+{}", 1 + at * step))
                }
                Some(inner) => {
                    hidden = net.new_linear(&before, Linear::fine(inner), hidden);
                    (Linear::new(map), own.clone())
                }
                None => (Linear::new(map), own.clone()),
            };
            hidden = net.new_linear(&label, layer, hidden);
            net.activation(Op::Relu, hidden, out);
            before = own;
        }
        let knots = (horizon / self.n_freq_downsample[stack]).max(1);
        let layer = name(1 + self.mlp_units.len() * step);
        let theta = tensors.linear(&layer, length + knots, hidden.len)?;
        let mut forecast = theta.outputs(length, knots);
        if knots != horizon {
            let name = "h times the width of what it is interpolated from";
            config::check_product(name, &[horizon, knots.max(hidden.len)], MAX_MADE)?;
            forecast = interpolate(self.interpolation()?, knots, horizon).after(&forecast);
        }
        if last {
            // Nothing reads the last residual.
            net.linear(&layer, Linear::adding(forecast), hidden, state.part(length, horizon));
        } else {
            let backcast: Affine = theta.outputs(0, length).times(-1.0);
            net.linear(&layer, Linear::adding(backcast.stacked(forecast)), hidden, state);
        }
        Ok(())
    }
}
