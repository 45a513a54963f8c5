//! The command line: which commands there are, and the one place where an error becomes a message.

use std::ffi::OsString;
use std::io::Write as _;

use clap::{Parser, Subcommand, ValueEnum};

use crate::commands;
use crate::exit::Exit;
use crate::signals;

/// How results are written to stdout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For machines: one JSON document and nothing else.
    Json,
}

#[derive(Debug, Parser)]
#[command(
    name = "qsc",
    version,
    about = "Quality Safeguard Canary: low-latency ensemble inference that refuses to guess",
    subcommand_required = true
)]
struct Cli {
    /// How results are written to stdout
    #[arg(long, global = true, value_enum, default_value = "text", env = "QSC_FORMAT")]
    format: Format,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Compile, inspect and verify model images
    #[command(subcommand)]
    Model(commands::model::ModelCommand),
    /// Predict rows with one model image
    Predict(commands::predict::PredictArgs),
    /// Measure one model, or the decision of an ensemble, on this machine
    Bench(commands::bench::BenchArgs),
    /// Turn feature events into trade intents
    Run(commands::run::RunArgs),
    /// Check that features are alive: no NaN, no flatlines
    FeatureSanity(commands::feature_sanity::FeatureSanityArgs),
    /// Judge each model's predictions; exit 0 only when promotion is allowed
    QualityGate(commands::quality_gate::QualityGateArgs),
    /// Replay the bundled capture through the bundled models and judge the result
    Demo(commands::demo::DemoArgs),
    /// Print version, git SHA and the backends of this machine
    BuildInfo(commands::build_info::BuildInfoArgs),
}

/// Parses the process arguments and runs the command.
#[must_use]
pub fn main() -> Exit {
    run_from(std::env::args_os())
}

/// Parses `arguments` (the first is the program's name) and runs the command.
pub fn run_from(arguments: impl IntoIterator<Item = OsString>) -> Exit {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // A closed pipe must not turn a usage message into a panic.
            let _ = error.print();
            // clap ends usage errors with 2, which here is a verdict.
            return if error.use_stderr() { Exit::Usage } else { Exit::Pass };
        }
    };
    match dispatch(cli.command, cli.format) {
        Ok(exit) => exit,
        Err(error) => {
            // Nor must a closed stderr turn exit 1 into a panic.
            let _ = writeln!(std::io::stderr(), "QSC FAIL-CLOSED: {error:#}");
            Exit::Error
        }
    }
}

fn dispatch(command: Command, format: Format) -> anyhow::Result<Exit> {
    if !matches!(command, Command::Run(_)) {
        signals::exit_at_once()?;
    }
    match command {
        Command::Model(command) => commands::model::run(&command, format),
        Command::Predict(args) => commands::predict::run(&args, format),
        Command::Bench(args) => commands::bench::run(&args, format),
        Command::Run(args) => commands::run::run(&args, format),
        Command::FeatureSanity(args) => commands::feature_sanity::run(&args, format),
        Command::QualityGate(args) => commands::quality_gate::run(&args, format),
        Command::Demo(args) => commands::demo::run(&args, format),
        Command::BuildInfo(args) => commands::build_info::run(&args, format),
    }
}
