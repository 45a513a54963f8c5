//! `qsc model compile`: a trained file becomes an image.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::{Args, ValueEnum};
use indicatif::ProgressBar;
use qsc_kernel::{Action, Model};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::inspect;
use crate::bounded;
use crate::commands::predict::{bind_rows, read_rows};
use crate::commands::{overwrite, progress};
use crate::compile::calibrate::calibrate;
use crate::compile::ir::{TreeModel, check_feature_names};
use crate::compile::nets::pack::NetPackOptions;
use crate::compile::nets::{self, Family};
use crate::compile::pack::{PackOptions, pack};
use crate::compile::{ImportOptions, Iterations, Source, import_bytes};
use crate::exit::Exit;
use crate::image::ImageBytes;
use crate::report::Format;
use crate::rows::{self, Rows};
use crate::stream::AtomicFile;

/// How often the spinner turns.
const TICK: Duration = Duration::from_millis(100);

/// Arguments of `qsc model compile`.
#[derive(Debug, Args)]
#[command(after_help = "\
A network takes its config.json beside the weights: --config config.json.

Example:
  qsc model compile xgb.json --output xgb.qsm --name xgb --classes HOLD,BUY,SELL")]
pub struct CompileArgs {
    /// XGBoost .json or .ubj, LightGBM .txt, or .safetensors of a network
    input: PathBuf,
    /// Where to write the image
    #[arg(long, short)]
    output: PathBuf,
    /// Kind of the input; auto looks at its contents
    #[arg(long, value_enum, default_value = "auto")]
    from: From,
    /// Name of the model [default: the input's file name without ending]
    #[arg(long)]
    name: Option<String>,
    /// Action of each class, in the model's order; three classes default to HOLD,BUY,SELL
    #[arg(long, value_delimiter = ',', value_enum)]
    classes: Option<Vec<Class>>,
    /// JSON file beside the model: a network's shapes and options, or `feature_names` and `classes` of trees
    #[arg(long, value_name = "MODEL.json")]
    config: Option<PathBuf>,
    /// Rows the model was trained on: their deciles go into the image, and gates report drift from them
    #[arg(long, value_name = "ROWS.npy")]
    calibrate: Option<PathBuf>,
    /// Keep the library's own leaves and summation order: its margins bit for bit
    #[arg(long)]
    exact: bool,
    /// Which boosting rounds to take: all, best, or a number; needed where the file knows a best iteration
    #[arg(long, value_name = "all|best|N", value_parser = parse_iterations)]
    iterations: Option<Iterations>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum From {
    Auto,
    Xgboost,
    Lightgbm,
    Patchtst,
    Nhits,
}

#[derive(Clone, Copy, Debug, ValueEnum, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[value(rename_all = "UPPER")]
enum Class {
    Buy,
    Sell,
    Hold,
}

impl Class {
    const fn action(self) -> Action {
        match self {
            Self::Buy => Action::Buy,
            Self::Sell => Action::Sell,
            Self::Hold => Action::Hold,
        }
    }
}

/// What `--config` may add to a tree model.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    feature_names: Option<Vec<String>>,
    classes: Option<Vec<Class>>,
}

fn parse_iterations(text: &str) -> Result<Iterations, String> {
    match text {
        "all" => Ok(Iterations::All),
        "best" => Ok(Iterations::Best),
        number => match number.parse() {
            Ok(count) if count > 0 => Ok(Iterations::First(count)),
            _ => Err("expected all, best, or a number of boosting rounds from 1".to_owned()),
        },
    }
}

pub(super) fn run(args: &CompileArgs, format: Format) -> anyhow::Result<Exit> {
    let mut inputs = vec![("the input", args.input.as_path())];
    inputs.extend(args.config.as_deref().map(|path| ("--config", path)));
    inputs.extend(args.calibrate.as_deref().map(|path| ("--calibrate", path)));
    overwrite::ensure_apart(&inputs, &[("--output", &args.output)])?;
    let progress = progress::bar(None);
    progress.enable_steady_tick(TICK);
    progress.set_message(format!("importing {}", args.input.display()));
    let source = bounded::read(&args.input, bounded::TRAINED)
        .with_context(|| format!("cannot read {}", args.input.display()))?;
    let network = nets::is_safetensors(&source) || matches!(args.from, From::Patchtst | From::Nhits);
    let compile = if network { compile_net } else { compile_trees };
    let mut image = compile(args, &source, &progress)?;
    if let Some(path) = &args.calibrate {
        let rows = training_rows(path, &Model::check(image.as_bytes())?)?;
        image =
            calibrate(&image, &rows).with_context(|| format!("cannot calibrate with {}", path.display()))?;
    }
    progress.finish_and_clear();
    let mut file = AtomicFile::create(&args.output)?;
    file.write_all(image.as_bytes()).with_context(|| format!("cannot write {}", args.output.display()))?;
    file.replace()?;
    let checked = Model::check(image.as_bytes())?;
    inspect::print("model compile", &checked, &image, format)
}

/// A network's training rows may be single steps as well as whole windows: deciles know no order.
fn training_rows(path: &Path, model: &Model<'_>) -> anyhow::Result<Rows> {
    let rows = rows::read(path)?;
    if rows.shape().seq_len.is_none() && rows.shape().n_features == model.n_features() {
        return bind_rows(rows, path, model);
    }
    read_rows(path, model)
}

fn compile_trees(args: &CompileArgs, source: &[u8], progress: &ProgressBar) -> anyhow::Result<ImageBytes> {
    let config = read_config(args)?;
    let options = ImportOptions {
        from: match args.from {
            From::Xgboost => Source::XgBoost,
            From::Lightgbm => Source::LightGbm,
            From::Auto | From::Patchtst | From::Nhits => Source::Auto,
        },
        iterations: args.iterations,
    };
    let mut model =
        import_bytes(source, &options).with_context(|| format!("cannot import {}", args.input.display()))?;
    if let Some(names) = config.feature_names {
        rename_features(&mut model, names)?;
    }
    let classes = args.classes.as_ref().or(config.classes.as_ref());
    let options = PackOptions {
        name: args.model_name()?,
        classes: classes.map(|classes| actions(classes)),
        exact: args.exact,
        source_file: args.source_file(),
        source_sha256: Sha256::digest(source).into(),
    };
    progress.set_message(format!("packing {} trees and proving the image", model.trees.len()));
    pack(&model, &options).with_context(|| format!("cannot compile {}", args.input.display()))
}

fn compile_net(args: &CompileArgs, source: &[u8], progress: &ProgressBar) -> anyhow::Result<ImageBytes> {
    let cannot_import = || format!("cannot import {}", args.input.display());
    ensure!(!args.exact, "--exact keeps the sums of trees; a network has none");
    ensure!(args.iterations.is_none(), "--iterations counts boosting rounds; a network has none");
    let family = match args.from {
        From::Auto => None,
        From::Patchtst => Some(Family::PatchTst),
        From::Nhits => Some(Family::NHits),
        From::Xgboost | From::Lightgbm => {
            bail!("{} is a safetensors file of a network; leave --from away", args.input.display())
        }
    };
    let config = match &args.config {
        Some(path) => {
            let text = bounded::read_text(path, bounded::SMALL)
                .with_context(|| format!("cannot read {}", path.display()))?;
            Some(serde_json::from_str(&text).with_context(|| format!("{} is no JSON", path.display()))?)
        }
        None => None,
    };
    let mut model = nets::import(source, config.as_ref(), family).with_context(cannot_import)?;
    if let Some(classes) = &args.classes {
        model = model.with_classes(&actions(classes))?;
    }
    let options = NetPackOptions {
        name: args.model_name()?,
        source_file: args.source_file(),
        source_sha256: Sha256::digest(source).into(),
    };
    progress.set_message(format!("quantizing {} layers and measuring the error", model.steps.len()));
    nets::pack::pack(&model, &options).with_context(|| format!("cannot compile {}", args.input.display()))
}

fn actions(classes: &[Class]) -> Vec<Action> {
    classes.iter().map(|class| class.action()).collect()
}

impl CompileArgs {
    fn model_name(&self) -> anyhow::Result<String> {
        let stem = || self.input.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let name = self.name.clone().unwrap_or_else(stem);
        ensure!(!name.is_empty(), "the model needs a name; give one with --name");
        Ok(name)
    }

    fn source_file(&self) -> String {
        self.input.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

fn read_config(args: &CompileArgs) -> anyhow::Result<Config> {
    let Some(path) = &args.config else { return Ok(Config::default()) };
    let text = bounded::read_text(path, bounded::SMALL)
        .with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is no config of a tree model", path.display()))
}

fn rename_features(model: &mut TreeModel, names: Vec<String>) -> anyhow::Result<()> {
    ensure!(
        names.len() == model.feature_names.len(),
        "--config names {} features, but the model has {}",
        names.len(),
        model.feature_names.len()
    );
    check_feature_names(&names).context("--config cannot name the features so")?;
    model.feature_names = names;
    Ok(())
}
