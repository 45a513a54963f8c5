//! `qsc model inspect`: what an image holds.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use qsc_kernel::model::{Body, DecisionRule};
use qsc_kernel::nets::Net;
use qsc_kernel::trees::Trees;
use qsc_kernel::{Action, Model};
use serde_json::{Value, json};

use crate::digest::hex;
use crate::exit::Exit;
use crate::image::ImageBytes;
use crate::report::{self, Format};

/// Arguments of `qsc model inspect`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  qsc model inspect xgb.qsm --format json")]
pub struct InspectArgs {
    /// The image
    image: PathBuf,
}

pub(super) fn run(args: &InspectArgs, format: Format) -> anyhow::Result<Exit> {
    let bytes = ImageBytes::read(&args.image)?;
    let model =
        Model::check(bytes.as_bytes()).with_context(|| format!("cannot use {}", args.image.display()))?;
    print("model inspect", &model, &bytes, format)
}

/// Prints the model of `image` as the result of `command` and returns [`Exit::Pass`].
pub(super) fn print(
    command: &str,
    model: &Model<'_>,
    image: &ImageBytes,
    format: Format,
) -> anyhow::Result<Exit> {
    report::print(&match format {
        Format::Json => report::json(&describe(command, model, &image.sha256())),
        Format::Text => text(model, &image.sha256()),
    })?;
    Ok(Exit::Pass)
}

fn describe(command: &str, model: &Model<'_>, sha256: &str) -> Value {
    let (major, minor) = model.format_version();
    let mut document = json!({
        "contract": report::CONTRACT,
        "command": command,
        "name": model.name(),
        "kind": kind(model),
        "format_version": format!("{major}.{minor}"),
        "sha256": sha256,
        "bytes": model.image_bytes(),
        "scratch_bytes": model.scratch_bytes(),
        "seq_len": model.seq_len(),
        "n_features": model.n_features(),
        "feature_names": model.feature_names().collect::<Vec<_>>(),
        "n_outputs": model.n_outputs(),
        "classes": model.classes().map(Action::wire_name).collect::<Vec<_>>(),
        "decision": match model.decision() {
            DecisionRule::None => json!(null),
            DecisionRule::Classes => json!({"rule": "classes"}),
            DecisionRule::DeadZone { low, high } => json!({"rule": "dead_zone", "low": Shortest(low), "high": Shortest(high)}),
            DecisionRule::HorizonReturn { low, high } => {
                json!({"rule": "horizon_return", "sell_below": Shortest(low), "buy_above": Shortest(high)})
            }
        },
        "golden_rows": model.golden_rows(),
        "calibrated": !model.deciles().is_empty(),
        "source": {
            "file": model.source_file(),
            "sha256": hex(model.source_sha256()),
            "library": model.library(),
            "library_version": model.library_version(),
            "objective": model.objective(),
        },
    });
    let body = match model.body() {
        Body::Trees(trees) => describe_trees(trees, model.max_abs_error()),
        Body::Net(net) => describe_net(net),
        _ => Value::Null,
    };
    if let (Value::Object(document), Value::Object(body)) = (&mut document, body) {
        document.extend(body);
    }
    document
}

fn kind(model: &Model<'_>) -> &'static str {
    match model.body() {
        Body::Trees(_) => "trees",
        Body::Net(_) => "net",
        _ => "unknown",
    }
}

fn describe_trees(trees: &Trees<'_>, max_abs_error: f64) -> Value {
    let quantization = trees.quantization();
    json!({
        "quantization": {
            "rank_bits": quantization.rank_bits,
            "leaves": quantization.leaf.name(),
            "leaf_step": quantization.step,
            "max_abs_error": max_abs_error,
            "layout": trees.layout().to_string(),
        },
        "trees": trees.n_trees(),
        "leaves": trees.n_leaves(),
    })
}

fn describe_net(net: &Net<'_>) -> Value {
    let error = net.measured_error();
    json!({
        "quantization": {
            "weights": "s8 per output channel",
            "activations": "s8 per token, dynamic",
            "weights_s8": net.n_weights_i8(),
            "values_f32": net.n_constants(),
            "measured": {
                "rows": error.rows,
                "max_raw_error": error.max_raw,
                "relative_rms_error": error.relative_rms,
                "max_output_error": error.max_output,
                "agreement": error.agreement,
            },
        },
        "layers": net.layers().map(|layer| json!({
            "op": layer.op,
            "name": layer.name,
            "rows": layer.rows,
            "width": layer.width,
            "out": layer.out,
        })).collect::<Vec<_>>(),
    })
}

/// An f32 with the digits it needs, not those of its f64.
struct Shortest(f32);

impl serde::Serialize for Shortest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let shortest = self.0.to_string().parse().map_err(serde::ser::Error::custom)?;
        serializer.serialize_f64(shortest)
    }
}

fn text(model: &Model<'_>, sha256: &str) -> String {
    let (major, minor) = model.format_version();
    let classes: Vec<_> = model.classes().map(Action::wire_name).collect();
    let decision = match model.decision() {
        DecisionRule::None => "none: this model predicts, but cannot vote".to_owned(),
        DecisionRule::Classes => format!("most probable of {}", classes.join(", ")),
        DecisionRule::DeadZone { low, high } => format!("BUY above {high}, SELL below {low}, else no answer"),
        DecisionRule::HorizonReturn { low, high } => {
            format!("return over the horizon: BUY above {high}, SELL below {low}, else HOLD")
        }
    };
    let names: Vec<_> = model.feature_names().collect();
    let (summary, body) = match model.body() {
        Body::Trees(trees) => trees_text(trees, model.max_abs_error()),
        Body::Net(net) => net_text(net, model.seq_len()),
        _ => Default::default(),
    };
    format!(
        "{name}: {summary}, {features} features, {outputs} outputs\n\
         \x20 source    {file} ({library}, {objective})\n\
         \x20           sha256 {source_sha}\n\
         \x20 image     format {major}.{minor}, {bytes} bytes, scratch {scratch} bytes\n\
         \x20           sha256 {sha}\n\
         {body}\
         \x20 golden    {golden} rows\n\
         \x20 decision  {decision}\n\
         \x20 features  {names}\n",
        name = model.name(),
        features = model.n_features(),
        outputs = model.n_outputs(),
        file = model.source_file(),
        library = format!("{} {}", model.library(), model.library_version()).trim_end(),
        objective = model.objective(),
        source_sha = hex(model.source_sha256()),
        bytes = model.image_bytes(),
        scratch = model.scratch_bytes(),
        sha = sha256,
        golden = model.golden_rows(),
        names = names.join(", "),
    )
}

/// What it is made of, and lines on its encoding.
fn trees_text(trees: &Trees<'_>, max_abs_error: f64) -> (String, String) {
    let quantization = trees.quantization();
    let leaf = match quantization.step {
        Some(step) => format!("{} leaves in units of {step:e}", quantization.leaf.name()),
        None => format!("{} leaves", quantization.leaf.name()),
    };
    let encoding = format!(
        "  encoding  {}-bit ranks, {leaf}, layout {}\n  error     raw output within {max_abs_error:.3e} of the exact sum (proven)\n",
        quantization.rank_bits,
        trees.layout(),
    );
    (format!("{} trees, {} leaves", trees.n_trees(), trees.n_leaves()), encoding)
}

/// What it is made of, and lines on its encoding, error and layers.
fn net_text(net: &Net<'_>, seq_len: usize) -> (String, String) {
    let error = net.measured_error();
    let mut lines = format!(
        "  encoding  {} weights s8 per output channel, activations s8 per token (dynamic), {} values f32\n\
         \x20 error     over {} rows against f64: outputs within {:.3e}, raw within {:.3e} (rms {:.3e} relative), {:.2} % agree (measured)\n",
        net.n_weights_i8(),
        net.n_constants(),
        error.rows,
        error.max_output,
        error.max_raw,
        error.relative_rms,
        error.agreement * 100.0,
    );
    for (at, layer) in net.layers().enumerate() {
        let label = if at == 0 { "layers" } else { "" };
        let shape = format!("[{}, {}] → {}", layer.rows, layer.width, layer.out);
        lines.push_str(format!("  {label:9} {:11} {shape:22} {}", layer.op, layer.name).trim_end());
        lines.push('\n');
    }
    (format!("{} layers over {seq_len} steps", net.layers().len()), lines)
}
