//! `PatchTSTModel`: patches over all features, a post-norm `nn.TransformerEncoder`, the mean over patches, one logit.

use anyhow::{Result, ensure};
use serde::Deserialize;
use serde_json::Value;

use super::builder::Builder;
use super::config::{self, Decision, Preprocess};
use super::ir::{Affine, Linear, NetLink, NetModel, Op};
use super::tensors::Tensors;

/// `nn.TransformerEncoderLayer`'s default, which the trading system never changes.
const LAYER_NORM_EPSILON: f32 = 1e-5;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    #[serde(rename = "architecture")]
    _architecture: String,
    seq_len: usize,
    n_features: usize,
    patch_len: usize,
    d_model: usize,
    n_heads: usize,
    n_layers: usize,
    ffn_dim: usize,
    feature_names: Option<Vec<String>>,
    preprocess: Option<Value>,
    decision: Option<Decision>,
}

pub(super) fn import(tensors: &Tensors<'_>, config: &Value) -> Result<NetModel> {
    let config: Config = config::parse(config)?;
    let Config { seq_len, n_features, patch_len, d_model, n_heads, n_layers, ffn_dim, .. } = config;
    config::check_dimensions(&[
        ("seq_len", seq_len),
        ("n_features", n_features),
        ("patch_len", patch_len),
        ("d_model", d_model),
        ("n_heads", n_heads),
        ("n_layers", n_layers),
        ("ffn_dim", ffn_dim),
    ])?;
    ensure!(d_model.is_multiple_of(n_heads), "n_heads {n_heads} does not divide d_model {d_model}");
    ensure!(seq_len.is_multiple_of(patch_len), "patch_len {patch_len} does not divide seq_len {seq_len}");
    let patches = seq_len / patch_len;
    let preprocess = Preprocess::read(config.preprocess.as_ref())?;

    let mut net = Builder::new(seq_len * n_features);
    if let Some(preprocess) = &preprocess {
        preprocess.build(&mut net, n_features)?;
    }
    // Time-major rows: a patch is consecutive, so patches are the rows of the embedding.
    let embedding = tensors.linear("patch_embedding", d_model, patch_len * n_features)?;
    let positions = tensors.wide("pos_encoding", &[1, patches, d_model])?;
    let positions = positions.iter().zip(embedding.bias.iter().cycle()).map(|(p, b)| p + b).collect();
    let embedding = Linear { positions: Some(positions), ..Linear::wide(embedding) };
    let hidden = net.new_linear("patch_embedding", embedding, net.row);
    let (qkv, attended) = (net.region(3 * hidden.len), net.region(hidden.len));
    let inner = net.region(patches * ffn_dim);
    for layer in 0..n_layers {
        let name = |part: &str| format!("transformer.layers.{layer}.{part}");
        let (weight, bias) = (name("self_attn.in_proj_weight"), name("self_attn.in_proj_bias"));
        let projection = tensors.affine(&weight, &bias, 3 * d_model, d_model)?;
        net.linear(
            &name("self_attn.in_proj"),
            Linear::new(scaled_queries(&projection, n_heads)),
            hidden,
            qkv,
        );
        net.attention(&name("self_attn"), n_heads, patches, qkv, attended, d_model);
        let out = tensors.linear(&name("self_attn.out_proj"), d_model, d_model)?;
        net.linear(&name("self_attn.out_proj"), Linear::adding(out), attended, hidden);
        net.layer_norm(
            &name("norm1"),
            tensors.norm(&name("norm1"), d_model)?,
            LAYER_NORM_EPSILON,
            hidden,
            hidden,
        );
        let first = tensors.linear(&name("linear1"), ffn_dim, d_model)?;
        net.linear(&name("linear1"), Linear::new(first), hidden, inner);
        net.activation(Op::Relu, inner, ffn_dim);
        let second = tensors.linear(&name("linear2"), d_model, ffn_dim)?;
        net.linear(&name("linear2"), Linear::adding(second), inner, hidden);
        net.layer_norm(
            &name("norm2"),
            tensors.norm(&name("norm2"), d_model)?,
            LAYER_NORM_EPSILON,
            hidden,
            hidden,
        );
    }
    let pooled = net.token_pool(false, patches, hidden, d_model);
    let output =
        net.new_linear("output_proj", Linear::wide(tensors.linear("output_proj", 1, d_model)?), pooled);
    Ok(NetModel {
        library: "torch".to_owned(),
        version: String::new(),
        architecture: "PatchTSTModel",
        seq_len,
        feature_names: config::feature_names(config.feature_names, n_features)?,
        steps: net.steps,
        arena: net.arena,
        output,
        link: NetLink::Sigmoid,
        decision: config::dead_zone(config.decision)?,
        inputs: Preprocess::inputs(preprocess.as_ref()),
    })
}

/// Queries, keys and values in one map, the queries divided by the root of the head's width.
pub(super) fn scaled_queries(projection: &Affine, heads: usize) -> Affine {
    let width = projection.out() / 3;
    let factor = 1.0 / ((width / heads) as f64).sqrt();
    let queries = projection.outputs(0, width).times(factor);
    queries.stacked(projection.outputs(width, 2 * width))
}
