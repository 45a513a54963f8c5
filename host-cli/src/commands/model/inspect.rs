//! `qsc model inspect`: what an image holds.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use qsc_kernel::model::{Body, DecisionRule};
use qsc_kernel::{Action, Model};
use serde_json::{Value, json};

use crate::args::Format;
use crate::exit::Exit;
use crate::hex;
use crate::image::ImageBytes;
use crate::report;

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
        Format::Json => format!("{:#}\n", describe(command, model, &image.sha256())),
        Format::Text => text(model, &image.sha256()),
    })?;
    Ok(Exit::Pass)
}

fn describe(command: &str, model: &Model<'_>, sha256: &str) -> Value {
    let Body::Trees(trees) = model.body() else { return Value::Null };
    let quantization = trees.quantization();
    let (major, minor) = model.format_version();
    json!({
        "contract": 1,
        "command": command,
        "name": model.name(),
        "kind": "trees",
        "format_version": format!("{major}.{minor}"),
        "sha256": sha256,
        "bytes": model.image_bytes(),
        "scratch_bytes": model.scratch_bytes(),
        "n_features": model.n_features(),
        "feature_names": model.feature_names().collect::<Vec<_>>(),
        "n_outputs": model.n_outputs(),
        "classes": model.classes().map(Action::wire_name).collect::<Vec<_>>(),
        "decision": match model.decision() {
            DecisionRule::None => json!(null),
            DecisionRule::Classes => json!({"rule": "classes"}),
            DecisionRule::DeadZone { low, high } => json!({"rule": "dead_zone", "low": Shortest(low), "high": Shortest(high)}),
        },
        "quantization": {
            "rank_bits": quantization.rank_bits,
            "leaves": quantization.leaf.name(),
            "leaf_step": quantization.step,
            "max_abs_error": model.max_abs_error(),
        },
        "trees": trees.n_trees(),
        "leaves": trees.n_leaves(),
        "golden_rows": model.golden_rows(),
        "source": {
            "file": model.source_file(),
            "sha256": hex::encode(model.source_sha256()),
            "library": model.library(),
            "library_version": model.library_version(),
            "objective": model.objective(),
        },
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
    let Body::Trees(trees) = model.body() else { return String::new() };
    let quantization = trees.quantization();
    let (major, minor) = model.format_version();
    let classes: Vec<_> = model.classes().map(Action::wire_name).collect();
    let decision = match model.decision() {
        DecisionRule::None => "none: this model predicts, but cannot vote".to_owned(),
        DecisionRule::Classes => format!("most probable of {}", classes.join(", ")),
        DecisionRule::DeadZone { low, high } => format!("BUY above {high}, SELL below {low}, else no answer"),
    };
    let leaf = match quantization.step {
        Some(step) => format!("{} leaves in units of {step:e}", quantization.leaf.name()),
        None => format!("{} leaves", quantization.leaf.name()),
    };
    let names: Vec<_> = model.feature_names().collect();
    format!(
        "{name}: {trees} trees, {leaves} leaves, {features} features, {outputs} outputs\n\
         \x20 source    {file} ({library} {version}, {objective})\n\
         \x20           sha256 {source_sha}\n\
         \x20 image     format {major}.{minor}, {bytes} bytes, scratch {scratch} bytes\n\
         \x20           sha256 {sha}\n\
         \x20 encoding  {rank_bits}-bit ranks, {leaf}\n\
         \x20 error     raw output within {error:.3e} of the exact sum (proven)\n\
         \x20 golden    {golden} rows\n\
         \x20 decision  {decision}\n\
         \x20 features  {names}\n",
        name = model.name(),
        trees = trees.n_trees(),
        leaves = trees.n_leaves(),
        features = model.n_features(),
        outputs = model.n_outputs(),
        file = model.source_file(),
        library = model.library(),
        version = model.library_version(),
        objective = model.objective(),
        source_sha = hex::encode(model.source_sha256()),
        bytes = model.image_bytes(),
        scratch = model.scratch_bytes(),
        sha = sha256,
        rank_bits = quantization.rank_bits,
        error = model.max_abs_error(),
        golden = model.golden_rows(),
        names = names.join(", "),
    )
}
