//! `SimpleNHiTS`: the window flattened, three linear layers with layer norm and ReLU, one logit per class.

use anyhow::Result;
use qsc_kernel::Action;
use serde::Deserialize;
use serde_json::Value;

use super::builder::Builder;
use super::config::{self, Preprocess};
use super::ir::{Linear, NetDecision, NetLink, NetModel, Op};
use super::tensors::Tensors;

/// `nn.LayerNorm`'s default.
const LAYER_NORM_EPSILON: f32 = 1e-5;
/// The classes of the trading system's net, in the order of its logits.
const CLASSES: [Action; 3] = [Action::Sell, Action::Hold, Action::Buy];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    #[serde(rename = "architecture")]
    _architecture: String,
    seq_len: usize,
    n_features: usize,
    hidden_dims: [usize; 3],
    feature_names: Option<Vec<String>>,
    preprocess: Option<Value>,
    classes: Option<Vec<String>>,
}

pub(super) fn import(tensors: &Tensors<'_>, config: &Value) -> Result<NetModel> {
    let config: Config = config::parse(config)?;
    let Config { seq_len, n_features, hidden_dims: [first, second, third], .. } = config;
    config::check_dimensions(&[
        ("seq_len", seq_len),
        ("n_features", n_features),
        ("seq_len · n_features", seq_len.saturating_mul(n_features)),
        ("hidden_dims[0]", first),
        ("hidden_dims[1]", second),
        ("hidden_dims[2]", third),
    ])?;
    let classes = match &config.classes {
        Some(classes) => config::classes(classes, CLASSES.len())?,
        None => CLASSES.to_vec(),
    };
    let preprocess = Preprocess::read(config.preprocess.as_ref())?;
    let mut net = Builder::new(seq_len * n_features);
    if let Some(preprocess) = &preprocess {
        preprocess.build(&mut net, n_features)?;
    }
    let mut hidden = net.row;
    for (linear, norm, out) in [
        ("blocks.0.0", "blocks.0.1", first),
        ("blocks.0.4", "blocks.0.5", second),
        ("blocks.1.1", "blocks.1.2", third),
    ] {
        let map = tensors.linear(linear, out, hidden.len)?;
        let layer = if hidden == net.row { Linear::fine(map) } else { Linear::new(map) };
        hidden = net.new_linear(linear, layer, hidden);
        net.layer_norm(norm, tensors.norm(norm, out)?, LAYER_NORM_EPSILON, hidden, hidden);
        net.activation(Op::Relu, hidden, out);
    }
    let head = tensors.linear("output_layer", classes.len(), third)?;
    let output = net.new_linear("output_layer", Linear::wide(head), hidden);
    Ok(NetModel {
        library: "torch".to_owned(),
        version: String::new(),
        architecture: "SimpleNHiTS",
        seq_len,
        feature_names: config::feature_names(config.feature_names, n_features)?,
        steps: net.steps,
        arena: net.arena,
        output,
        link: NetLink::Softmax,
        decision: NetDecision::Classes(classes),
        inputs: Preprocess::inputs(preprocess.as_ref()),
    })
}
