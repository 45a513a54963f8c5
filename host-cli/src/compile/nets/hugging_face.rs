//! `PatchTSTForClassification` of Hugging Face transformers: each channel alone through a pre-norm encoder, then one head.

use anyhow::{Result, bail, ensure};
use qsc_kernel::image::records::MAX_ARENA;
use serde::Deserialize;
use serde_json::Value;

use super::builder::Builder;
use super::config;
use super::fold::BatchNorm;
use super::ir::{Affine, Inputs, Linear, NetDecision, NetLink, NetModel, Op, Region, StatisticsKind};
use super::patchtst::scaled_queries;
use super::tensors::Tensors;

/// `PatchTSTStdScaler`'s default `minimum_scale`, inside the root.
const STD_EPSILON: f32 = 1e-5;
/// `PatchTSTMeanScaler`'s default `minimum_scale`, the least divisor.
const MEAN_EPSILON: f32 = 1e-10;

/// Keys that say nothing about the answer of a classifier.
const WITHOUT_EFFECT: &[&str] = &[
    "_name_or_path",
    "attention_dropout",
    "channel_consistent_masking",
    "chunk_size_feed_forward",
    "distribution_output",
    "do_mask_input",
    "dtype",
    "ff_dropout",
    "head_dropout",
    "id2label",
    "init_std",
    "is_encoder_decoder",
    "label2id",
    "loss",
    "mask_type",
    "mask_value",
    "model_type",
    "num_forecast_mask_patches",
    "num_parallel_samples",
    "output_attentions",
    "output_hidden_states",
    "output_range",
    "path_dropout",
    "positional_dropout",
    "positional_encoding_type",
    "prediction_length",
    "problem_type",
    "random_mask_ratio",
    "return_dict",
    "share_projection",
    "torch_dtype",
    "transformers_version",
    "unmasked_channel_indices",
];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    #[serde(rename = "architectures")]
    _architectures: Vec<String>,
    #[serde(rename = "architecture")]
    _architecture: Option<String>,
    context_length: usize,
    num_input_channels: usize,
    num_targets: usize,
    patch_length: usize,
    patch_stride: usize,
    d_model: usize,
    ffn_dim: usize,
    num_attention_heads: usize,
    num_hidden_layers: usize,
    activation_function: String,
    norm_type: String,
    norm_eps: f64,
    scaling: Value,
    pre_norm: bool,
    channel_attention: bool,
    share_embedding: bool,
    use_cls_token: bool,
    pooling_type: Option<String>,
    bias: bool,
    feature_names: Option<Vec<String>>,
    classes: Option<Vec<String>>,
}

pub(super) fn import(tensors: &Tensors<'_>, config: &Value) -> Result<NetModel> {
    let version = config.get("transformers_version").and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut config = config.clone();
    if let Value::Object(keys) = &mut config {
        keys.retain(|key, _| !WITHOUT_EFFECT.contains(&key.as_str()));
    }
    let config: Config = config::parse(&config)?;
    config.check()?;
    let Config { context_length, num_input_channels: channels, d_model, num_targets, .. } = config;

    let mut net = Builder::new(context_length * channels);
    config.scale(&mut net)?;
    let patches = config.patches();
    let tokens = patches + usize::from(config.use_cls_token);
    let windows = net.gather("patches", net.row, config.patch_indices(patches));
    let hidden = net.new_linear("embedder.input_embedding", config.embedding(tensors, tokens)?, windows);
    encoder(&config, tensors, &mut net, hidden, tokens)?;
    // Read before its inputs are gathered: their number is then no larger than the file.
    let head = tensors.linear("head.linear", num_targets, channels * d_model)?;
    let pooled = if config.use_cls_token {
        let first =
            (0..channels).flat_map(|channel| (0..d_model).map(move |i| channel * tokens * d_model + i));
        net.gather("cls_token", hidden, first.map(Some).collect())
    } else {
        net.token_pool(config.pooling_type.as_deref() == Some("max"), tokens, hidden, d_model)
    };
    let output = net.new_linear("head.linear", Linear::wide(head), pooled);
    let decision = match &config.classes {
        Some(classes) => NetDecision::Classes(config::classes(classes, num_targets)?),
        None => NetDecision::None,
    };
    Ok(NetModel {
        library: "transformers".to_owned(),
        version,
        architecture: "PatchTSTForClassification",
        seq_len: context_length,
        feature_names: config::feature_names(config.feature_names, channels)?,
        steps: net.steps,
        arena: net.arena,
        output,
        link: NetLink::Softmax,
        decision,
        inputs: Inputs::Standard,
    })
}

impl Config {
    fn check(&self) -> Result<()> {
        config::check_dimensions(&[
            ("context_length", self.context_length),
            ("num_input_channels", self.num_input_channels),
            ("num_targets", self.num_targets),
            ("patch_length", self.patch_length),
            ("patch_stride", self.patch_stride),
            ("d_model", self.d_model),
            ("ffn_dim", self.ffn_dim),
            ("num_attention_heads", self.num_attention_heads),
            ("num_hidden_layers", self.num_hidden_layers),
        ])?;
        ensure!(self.num_targets > 1, "num_targets is 1; a classifier needs at least 2 classes");
        ensure!(
            self.context_length > self.patch_length,
            "context_length {} must be above patch_length {}",
            self.context_length,
            self.patch_length
        );
        ensure!(
            self.d_model.is_multiple_of(self.num_attention_heads),
            "num_attention_heads {} does not divide d_model {}",
            self.num_attention_heads,
            self.d_model
        );
        ensure!(
            !self.channel_attention,
            "channel_attention is true; only channels on their own are supported"
        );
        ensure!(
            self.share_embedding,
            "share_embedding is false; only one embedding for all channels is supported"
        );
        ensure!(self.pre_norm, "pre_norm is false; only pre-norm layers are supported");
        ensure!(
            self.norm_eps.is_finite() && self.norm_eps >= 0.0,
            "norm_eps is {}; it must be 0 or more",
            self.norm_eps
        );
        ensure!(
            matches!(self.activation_function.as_str(), "gelu" | "relu"),
            "activation_function {:?} is not supported; gelu and relu are",
            self.activation_function
        );
        ensure!(
            matches!(self.norm_type.as_str(), "batchnorm" | "layernorm"),
            "norm_type {:?} is not supported; batchnorm and layernorm are",
            self.norm_type
        );
        ensure!(
            self.use_cls_token || matches!(self.pooling_type.as_deref(), Some("mean" | "max")),
            "pooling_type {:?} is not supported; mean and max are",
            self.pooling_type
        );
        config::check_product(
            "num_input_channels · tokens · patch_length",
            &[self.num_input_channels, self.patches() + usize::from(self.use_cls_token), self.patch_length],
            MAX_ARENA as usize,
        )
    }

    /// Patches of a window of more steps than a patch has.
    fn patches(&self) -> usize {
        (self.context_length - self.patch_length) / self.patch_stride + 1
    }

    /// Scales each channel by its own window.
    fn scale(&self, net: &mut Builder) -> Result<()> {
        let (kind, epsilon) = match &self.scaling {
            Value::Null | Value::Bool(false) => return Ok(()),
            Value::String(kind) if kind == "std" => (StatisticsKind::StdUnderRoot, STD_EPSILON),
            Value::String(kind) if kind == "mean" => (StatisticsKind::MeanAbs, MEAN_EPSILON),
            Value::Bool(true) => (StatisticsKind::MeanAbs, MEAN_EPSILON),
            other => bail!("scaling {other} is not supported; \"std\", \"mean\" and null are"),
        };
        let statistics = net.statistics(kind, epsilon, net.row, self.num_input_channels);
        net.normalize(statistics, net.row);
        Ok(())
    }

    /// `[channels, tokens, patch_length]` from the row `[context_length, channels]`: steps the patches do not cover are
    /// dropped at the start; the patch of a class token is empty, its values stand in the positions.
    fn patch_indices(&self, patches: usize) -> Vec<Option<usize>> {
        let Self { context_length, patch_length, patch_stride, num_input_channels: channels, .. } = *self;
        let start = context_length - (patch_length + patch_stride * (patches - 1));
        let mut indices = Vec::new();
        for channel in 0..channels {
            if self.use_cls_token {
                indices.extend(vec![None; patch_length]);
            }
            for patch in 0..patches {
                let first = start + patch * patch_stride;
                indices.extend((first..first + patch_length).map(|step| Some(step * channels + channel)));
            }
        }
        indices
    }

    /// The embedding with positions, `[tokens, d_model]`.
    fn embedding(&self, tensors: &Tensors<'_>, tokens: usize) -> Result<Linear> {
        let Self { d_model, patch_length, .. } = *self;
        let embedding = tensors.linear("model.encoder.embedder.input_embedding", d_model, patch_length)?;
        let stored = tensors.wide("model.encoder.positional_encoder.position_enc", &[tokens, d_model])?;
        let mut positions: Vec<f64> =
            stored.iter().zip(embedding.bias.iter().cycle()).map(|(p, b)| p + b).collect();
        if self.use_cls_token {
            let token = tensors.wide("model.encoder.positional_encoder.cls_token", &[1, 1, 1, d_model])?;
            for ((position, stored), token) in positions.iter_mut().zip(&stored).zip(token) {
                *position = stored + token;
            }
        }
        Ok(Linear { positions: Some(positions), ..Linear::wide(embedding) })
    }
}

/// All layers: `hidden [channels · tokens, d_model]` in place.
fn encoder(
    config: &Config,
    tensors: &Tensors<'_>,
    net: &mut Builder,
    hidden: Region,
    tokens: usize,
) -> Result<()> {
    let (d, ffn, heads) = (config.d_model, config.ffn_dim, config.num_attention_heads);
    let (qkv, attended) = (net.region(3 * hidden.len), net.region(hidden.len));
    let inner = net.region(hidden.len / d * ffn);
    let normed = if config.norm_type == "layernorm" { Some(net.region(hidden.len)) } else { None };
    for layer in 0..config.num_hidden_layers {
        let short = |part: &str| format!("layers.{layer}.{part}");
        let name = |part: &str| format!("model.encoder.layers.{layer}.{part}");
        let projection = |part: &str| tensors.linear(&name(&format!("self_attn.{part}")), d, d);
        let qkv_map = projection("q_proj")?.stacked(projection("k_proj")?).stacked(projection("v_proj")?);
        let (source, qkv_map) = normalized(
            config,
            tensors,
            net,
            &name("norm_sublayer1"),
            (hidden, normed),
            scaled_queries(&qkv_map, heads),
        )?;
        net.linear(&short("self_attn.qkv_proj"), Linear::new(qkv_map), source, qkv);
        net.attention(&short("self_attn"), heads, tokens, qkv, attended, d);
        net.linear(&short("self_attn.out_proj"), Linear::adding(projection("out_proj")?), attended, hidden);
        let feed = |part: &str, out: usize, width: usize| -> Result<Affine> {
            let weights = tensors.wide(&name(&format!("{part}.weight")), &[out, width])?;
            let bias = if config.bias {
                tensors.wide(&name(&format!("{part}.bias")), &[out])?
            } else {
                vec![0.0; out]
            };
            Ok(Affine { width, weights, bias })
        };
        let (source, first) = normalized(
            config,
            tensors,
            net,
            &name("norm_sublayer3"),
            (hidden, normed),
            feed("ff.0", ffn, d)?,
        )?;
        net.linear(&short("ff.0"), Linear::new(first), source, inner);
        net.activation(if config.activation_function == "relu" { Op::Relu } else { Op::Gelu }, inner, ffn);
        net.linear(&short("ff.3"), Linear::adding(feed("ff.3", d, ffn)?), inner, hidden);
    }
    Ok(())
}

/// What a layer behind a norm reads, and its map: a batch norm folds into it, a layer norm writes a region of its own.
fn normalized(
    config: &Config,
    tensors: &Tensors<'_>,
    net: &mut Builder,
    name: &str,
    (hidden, normed): (Region, Option<Region>),
    map: Affine,
) -> Result<(Region, Affine)> {
    let d = config.d_model;
    if let Some(normed) = normed {
        net.layer_norm(name, tensors.norm(name, d)?, config.norm_eps as f32, hidden, normed);
        return Ok((normed, map));
    }
    let part = |part: &str| tensors.wide(&format!("{name}.batchnorm.{part}"), &[d]);
    let (gain, bias, mean, variance) =
        (part("weight")?, part("bias")?, part("running_mean")?, part("running_var")?);
    ensure!(
        variance.iter().all(|variance| *variance >= 0.0 && variance + config.norm_eps > 0.0),
        "tensor {name}.batchnorm.running_var has a value that is no variance"
    );
    let scale: Vec<f64> = gain
        .iter()
        .zip(&variance)
        .map(|(gain, variance)| gain / (variance + config.norm_eps).sqrt())
        .collect();
    let shift =
        bias.iter().zip(mean.iter().zip(&scale)).map(|(bias, (mean, scale))| bias - mean * scale).collect();
    Ok((hidden, map.after_batch_norm(&BatchNorm { scale, shift })))
}
