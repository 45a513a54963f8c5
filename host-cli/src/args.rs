//! The command line: which commands there are, and the one place where an error becomes a message.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::commands;
use crate::commands::canary::CanaryCommand;
use crate::exit::Exit;
use crate::log;
use crate::report::Format;
use crate::settings::{self, Settings};
use crate::signals;

#[derive(Debug, Parser)]
#[command(
    name = "qsc",
    version,
    about = "Quality Safeguard Canary: low-latency ensemble inference that refuses to guess",
    subcommand_required = true
)]
struct Cli {
    /// How results are written to stdout
    #[arg(long, global = true, value_enum, default_value = "text")]
    format: Format,
    /// TOML file with settings: what neither a flag nor the environment says
    #[arg(long, global = true, value_name = "FILE")]
    settings: Option<PathBuf>,
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
    Run(Box<commands::run::RunArgs>),
    /// Check that features are alive: no NaN, no flatlines
    FeatureSanity(commands::feature_sanity::FeatureSanityArgs),
    /// Judge each model's predictions; exit 0 only when promotion is allowed
    QualityGate(commands::quality_gate::QualityGateArgs),
    /// One word per model: GO, WAIT or NO-GO
    Scoreboard(commands::scoreboard::ScoreboardArgs),
    /// Prove that every feature event has exactly one intent
    #[command(subcommand)]
    Stream(commands::stream::StreamCommand),
    /// Write a range of a stream to a file
    Capture(commands::capture::CaptureArgs),
    /// Activate, watch, promote and roll back one model at a small weight
    #[command(subcommand)]
    Canary(CanaryCommand),
    /// Sign and verify report files
    #[command(subcommand)]
    Report(commands::report::ReportCommand),
    /// Restart a service and prove that the expected build runs
    Deploy(commands::deploy::DeployArgs),
    /// Replay the bundled capture through the bundled models and judge the result
    Demo(commands::demo::DemoArgs),
    /// Print version, git SHA and the backends of this machine
    BuildInfo(commands::build_info::BuildInfoArgs),
    /// Show the effective settings
    #[command(subcommand)]
    Config(commands::config::ConfigCommand),
    /// Write shell completions
    Completions(commands::completions::CompletionsArgs),
    /// Write manual pages
    Man(commands::completions::ManArgs),
}

/// Parses the process arguments and runs the command.
#[must_use]
pub fn main() -> Exit {
    run_from(std::env::args_os())
}

/// The command tree, every flag with its environment variable.
#[must_use]
pub fn command_tree() -> clap::Command {
    settings::environment(Cli::command())
}

/// Parses `arguments` (the first is the program's name) and runs the command.
pub fn run_from(arguments: impl IntoIterator<Item = OsString>) -> Exit {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    match parse(&arguments) {
        Ok(Ok((cli, tree, settings))) => finish(dispatch(cli.command, cli.format, &tree, &settings)),
        Ok(Err(error)) => {
            // A closed pipe must not turn a usage message into a panic.
            let _ = error.print();
            // clap ends usage errors with 2, which here is a verdict.
            if error.use_stderr() { Exit::Usage } else { Exit::Pass }
        }
        Err(error) => finish(Err(error)),
    }
}

fn finish(result: anyhow::Result<Exit>) -> Exit {
    result.unwrap_or_else(|error| {
        log::failed(&error);
        Exit::Error
    })
}

/// Parses the arguments, with what the settings file says as defaults. The outer error is one of the file.
type Parsed = anyhow::Result<Result<(Cli, clap::Command, Settings), clap::Error>>;

fn parse(arguments: &[OsString]) -> Parsed {
    let tree = command_tree();
    let settings = match settings_file(arguments, &tree) {
        Some(path) => Settings::read(Path::new(&path), &tree)?,
        None => Settings::default(),
    };
    let tree = settings.apply(tree);
    let cli =
        tree.clone().try_get_matches_from(arguments).and_then(|matches| Cli::from_arg_matches(&matches));
    Ok(cli.map(|cli| (cli, tree, settings)))
}

/// The file that `--settings` or its variable names, found before the arguments are parsed for good: what it says
/// decides whether they are complete.
fn settings_file(arguments: &[OsString], tree: &clap::Command) -> Option<OsString> {
    // With errors ignored and nothing required, the same tree finds the flag wherever it stands.
    let lenient = relaxed(tree.clone()).ignore_errors(true).try_get_matches_from(arguments).ok()?;
    let mut matches = &lenient;
    let mut found = None;
    loop {
        found = matches.get_raw("settings").and_then(|mut values| values.next_back()).or(found);
        match matches.subcommand() {
            Some((_, inner)) => matches = inner,
            None => return found.map(ToOwned::to_owned),
        }
    }
}

fn relaxed(command: clap::Command) -> clap::Command {
    command.mut_args(|arg| arg.required(false)).subcommand_required(false).mut_subcommands(relaxed)
}

fn dispatch(
    command: Command,
    format: Format,
    tree: &clap::Command,
    settings: &Settings,
) -> anyhow::Result<Exit> {
    let rules = settings.rules();
    let ends_itself = match &command {
        Command::Run(_) | Command::Canary(CanaryCommand::Monitor(_)) => true,
        Command::Scoreboard(args) => args.watches(),
        _ => false,
    };
    if !ends_itself {
        signals::exit_at_once()?;
    }
    match command {
        Command::Model(command) => commands::model::run(&command, format),
        Command::Predict(args) => commands::predict::run(&args, format),
        Command::Bench(args) => commands::bench::run(&args, format),
        Command::Run(args) => commands::run::run(&args, rules, format),
        Command::FeatureSanity(args) => commands::feature_sanity::run(&args, rules, format),
        Command::QualityGate(args) => commands::quality_gate::run(&args, rules, format),
        Command::Scoreboard(args) => commands::scoreboard::run(&args, rules, format),
        Command::Stream(command) => commands::stream::run(&command, format),
        Command::Capture(args) => commands::capture::run(&args, format),
        Command::Canary(command) => commands::canary::run(&command, rules, format),
        Command::Report(command) => commands::report::run(&command, format),
        Command::Deploy(args) => commands::deploy::run(&args, rules, format),
        Command::Demo(args) => commands::demo::run(&args, format),
        Command::BuildInfo(args) => commands::build_info::run(&args, format),
        Command::Config(command) => commands::config::run(&command, tree, settings, format),
        Command::Completions(args) => commands::completions::completions(&args, command_tree(), format),
        Command::Man(args) => commands::completions::man(&args, command_tree(), format),
    }
}
