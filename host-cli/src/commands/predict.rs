//! `qsc predict`.

use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use qsc_kernel::model::DecisionRule;
use qsc_kernel::{Action, Backend, BatchError, Model, Scratch};
use serde_json::json;

use super::{overwrite, progress};
use crate::exit::Exit;
use crate::image::ImageBytes;
use crate::report::{self, Format};
use crate::rows::{self, RowShape, Rows};

/// Rows of a batch, between two looks at the progress bar.
const PROGRESS_STEP: usize = 4096;

/// Arguments of `qsc predict`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  qsc predict xgb.qsm --input rows.npy --output probabilities.npy")]
pub struct PredictArgs {
    /// The image
    image: PathBuf,
    /// Rows, [n_rows, n_features] or [n_rows, seq_len, n_features] (.npy, .csv or .jsonl); NaN is a missing value to trees
    #[arg(long)]
    input: PathBuf,
    /// Where to write the outputs (.npy, .csv or .jsonl) [default: CSV on stdout]
    #[arg(long)]
    output: Option<PathBuf>,
    /// Write margins instead of outputs
    #[arg(long)]
    raw: bool,
    /// Backend to run on; all of them give the same bits
    #[arg(long, default_value = "auto", value_parser = backend)]
    backend: Backend,
}

/// Runs the command.
///
/// # Errors
/// An image or rows that cannot be used, or an output that cannot be written.
pub fn run(args: &PredictArgs, format: Format) -> anyhow::Result<Exit> {
    let inputs = [("the image", args.image.as_path()), ("--input", &args.input)];
    let written = args.output.as_deref().map(|path| ("--output", path));
    overwrite::ensure_apart(&inputs, written.as_slice())?;
    let bytes = ImageBytes::read(&args.image)?;
    let model =
        Model::check(bytes.as_bytes()).with_context(|| format!("cannot use {}", args.image.display()))?;
    let model = model.with_backend(args.backend);
    let rows = read_rows(&args.input, &model)?;
    let values = predict_rows(&model, &rows, args.raw)?;
    let columns = column_names(&model, args.raw);
    let outputs = Rows::new(
        RowShape::flat(columns.len()),
        values.iter().map(|&value| value as f32).collect(),
        Some(columns.clone()),
    )?;
    match (&args.output, format) {
        (Some(path), _) => {
            rows::write(path, &outputs)?;
            if format == Format::Json {
                let (rows, output) = (outputs.n_rows(), path.display().to_string());
                let document = json!({"contract": report::CONTRACT, "command": "predict", "rows": rows, "columns": columns, "output": output});
                report::print(&format!("{document}\n"))?;
            }
        }
        (None, Format::Text) => {
            let mut out = BufWriter::new(io::stdout().lock());
            rows::write_csv(&mut out, &outputs)
                .and_then(|()| Ok(out.flush()?))
                .context("cannot write the result to stdout")?;
        }
        (None, Format::Json) => {
            let values: Vec<&[f32]> = outputs.iter().collect();
            let document = json!({"contract": report::CONTRACT, "command": "predict", "rows": outputs.n_rows(), "columns": columns, "outputs": values});
            report::print(&format!("{document}\n"))?;
        }
    }
    Ok(Exit::Pass)
}

/// The backend with this name, or the best one for `auto`.
pub(crate) fn backend(name: &str) -> Result<Backend, String> {
    if name == "auto" {
        return Ok(Backend::detect());
    }
    if let Some(backend) = Backend::available().find(|backend| backend.name() == name) {
        return Ok(backend);
    }
    let names: Vec<&str> = Backend::available().map(Backend::name).collect();
    Err(format!("this machine has no such backend; it has auto, {}", names.join(", ")))
}

/// Reads rows as a model takes them: columns bound by name where they have names, windows of the model's length.
pub(crate) fn read_rows(path: &Path, model: &Model<'_>) -> anyhow::Result<Rows> {
    let seq_len = if model.seq_len() > 1 { Some(model.seq_len()) } else { None };
    let rows = rows::read(path)?.windows(seq_len, model.n_features());
    bind_rows(rows.with_context(|| path.display().to_string())?, path, model)
}

/// Puts the features of rows read from `path` into the model's order, where they have names.
pub(crate) fn bind_rows(rows: Rows, path: &Path, model: &Model<'_>) -> anyhow::Result<Rows> {
    let names: Vec<&str> = model.feature_names().collect();
    rows.bind(&names).with_context(|| path.display().to_string())
}

/// Predicts all rows: `[n_rows, n_outputs]`, or `[n_rows, n_raw]` margins.
pub(crate) fn predict_rows(model: &Model<'_>, rows: &Rows, raw: bool) -> anyhow::Result<Vec<f64>> {
    let mut scratch = vec![0; model.batch_scratch_bytes() + qsc_kernel::scratch::ALIGNMENT];
    let (mut margins, mut outputs) = (Vec::new(), Vec::new());
    let mut values = Vec::with_capacity(rows.n_rows() * if raw { model.n_raw() } else { model.n_outputs() });
    let progress = progress::bar(Some(rows.n_rows() as u64));
    for (step, batch) in rows.data().chunks(PROGRESS_STEP * model.row_len()).enumerate() {
        let first = step * PROGRESS_STEP;
        let n = batch.len() / model.row_len();
        margins.resize(n * model.n_raw(), 0.0);
        outputs.resize(n * model.n_outputs(), 0.0);
        match model.predict_batch(batch, &mut margins, &mut outputs, Scratch::new(&mut scratch)) {
            Err(BatchError::Row { row, error }) => {
                return Err(error).with_context(|| format!("row {}", first + row));
            }
            other => other?,
        }
        if raw {
            values.extend_from_slice(&margins);
        } else {
            values.extend(outputs.iter().map(|&value| f64::from(value)));
        }
        progress.set_position((first + n) as u64);
    }
    progress.finish_and_clear();
    Ok(values)
}

/// Names of the output columns: actions where classes are distinct, else numbers.
fn column_names(model: &Model<'_>, raw: bool) -> Vec<String> {
    let prefix = if raw { "raw" } else { "p" };
    let count = if raw { model.n_raw() } else { model.n_outputs() };
    let classes: Vec<Action> = model.classes().collect();
    let distinct = classes.iter().enumerate().all(|(at, class)| !classes[..at].contains(class));
    match model.decision() {
        DecisionRule::Classes if distinct && classes.len() == count => {
            classes.iter().map(|class| format!("{prefix}_{}", class.wire_name())).collect()
        }
        DecisionRule::DeadZone { .. } => vec![prefix.to_owned()],
        _ => (0..count).map(|at| format!("{}_{at}", if raw { "raw" } else { "output" })).collect(),
    }
}
