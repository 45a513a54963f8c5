//! `qsc canary activate`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use qsc_kernel::ensemble::Ppm;
use serde_json::json;

use super::{HookArgs, StateArgs, finding_lines, parse_weight};
use crate::attest;
use crate::canary::activate::{Activation, Request, Status, activate};
use crate::commands;
use crate::commands::source::{SourceArgs, refuse_used_up};
use crate::exit::Exit;
use crate::gate::{Rules, Standing};
use crate::report::{self, Format};
use crate::stream::{parse_duration, parse_timestamp};

/// Arguments of `qsc canary activate`.
#[derive(Debug, Args)]
#[command(after_help = "\
Runs feature-sanity and the quality gate in canary mode on the events since the cutover, writes the report, reads it \
back from disk, and loads the model's image in this very binary. Only if everything holds the model gets its weight; \
the others keep their proportions in the rest. A running `qsc run --state-dir` takes the weights up.

Exit codes: 0 active (or already so; with --dry-run: it would be), 2 blocked, 3 blocked by a collection report, 1 could \
not be judged.

Example:
  qsc canary activate --model patchtst --cutover 2026-01-10T05:43:15Z --models MODELS.toml \\
      --source redis://127.0.0.1:6379")]
pub struct ActivateArgs {
    /// The model, by its name in MODELS.toml
    #[arg(long, value_name = "NAME")]
    model: String,
    /// Since when the model's telemetry counts: RFC 3339 or Unix milliseconds
    #[arg(long, value_name = "TS", value_parser = parse_timestamp)]
    cutover: u64,
    /// The ensemble
    #[arg(long, value_name = "MODELS.toml")]
    models: PathBuf,
    #[command(flatten)]
    source: SourceArgs,
    /// The canary's weight, above 0 and below 1
    #[arg(long, value_parser = parse_weight, default_value = "0.10")]
    weight: Ppm,
    /// Judge and write the report, but change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    state: StateArgs,
    /// How long a model stays out after a rollback
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "1h")]
    cool_down: Duration,
    /// Override the cool-down for this reason, which the audit log keeps
    #[arg(long, value_name = "REASON", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    force: Option<String>,
    /// Sign the report with this Ed25519 key: a PEM file, or credential:NAME
    #[arg(long, value_name = "KEY")]
    sign_key: Option<String>,
    /// The report must be signed by this Ed25519 key (PEM): the one just written, or --signed-report
    #[arg(long, value_name = "PUBKEY")]
    require_signed: Option<PathBuf>,
    /// A canary report of the same cutover and rules that was signed elsewhere within the last hour
    #[arg(long, value_name = "REPORT.json", requires = "require_signed")]
    signed_report: Option<PathBuf>,
    #[command(flatten)]
    hook: HookArgs,
}

pub(super) fn run(args: &ActivateArgs, rules: &Rules, format: Format) -> anyhow::Result<Exit> {
    if args.signed_report.is_some() && args.require_signed.is_none() {
        return Ok(commands::misfit("signed-report needs require-signed"));
    }
    let (state, source) = (args.state.state(), args.source.source());
    if let Some(exit) = refuse_used_up(&source) {
        return Ok(exit);
    }
    let sign_key = args.sign_key.as_deref().map(attest::read_signing_key).transpose()?;
    let require_signed = args.require_signed.as_deref().map(attest::read_verifying_key).transpose()?;
    let request = Request {
        model: &args.model,
        cutover: args.cutover,
        models: &args.models,
        source: &source,
        weight: args.weight,
        dry_run: args.dry_run,
        state: &state,
        report_dir: &args.state.report_dir,
        rules,
        cool_down: args.cool_down,
        force: args.force.as_deref(),
        sign_key: sign_key.as_ref(),
        require_signed: require_signed.as_ref(),
        signed_report: args.signed_report.as_deref(),
    };
    let activation = activate(&request)?;
    let exit = match activation.status {
        Status::Activated | Status::AlreadyActive | Status::WouldActivate => Exit::Pass,
        Status::Blocked => Exit::Fail,
        Status::BlockedByCollection => Exit::Collection,
    };
    let printed = report::print(&match format {
        Format::Text => text(&args.model, &activation, exit),
        Format::Json => document(&args.model, &activation, exit),
    });
    if activation.status == Status::Activated {
        let generation = activation.weights.as_ref().map_or(0, |file| file.generation);
        args.hook.tell("activated", Some(&args.model), generation, &json!({"weights": activation.weights}));
    }
    printed?;
    Ok(exit)
}

const fn status_name(status: Status) -> &'static str {
    match status {
        Status::Activated => "activated",
        Status::AlreadyActive => "already_active",
        Status::WouldActivate => "would_activate",
        Status::Blocked => "blocked",
        Status::BlockedByCollection => "blocked_by_collection",
    }
}

fn text(model: &str, activation: &Activation, exit: Exit) -> String {
    let mut text = finding_lines(&activation.findings);
    if let Some(seen) = &activation.seen {
        text += &format!("\ntelemetry (no condition): {}\n", seen.proof.text());
    }
    if let Some(Standing { signal, reasons }) = &activation.scoreboard {
        let why = if reasons.is_empty() { String::new() } else { format!(": {}", reasons.join("; ")) };
        text += &format!("scoreboard (no condition): {}{}\n", signal.name(), report::one_line(&why));
    }
    if let Some(report) = &activation.report {
        text += &format!("report: {}\n", report.files.markdown.display());
    }
    if let Some(file) = &activation.weights {
        text += &format!("weights of generation {}: {}\n", file.generation, file.weights.log_line());
    }
    let verdict = match activation.status {
        Status::Activated => "ACTIVE",
        Status::AlreadyActive => "ACTIVE already, nothing changed",
        Status::WouldActivate => "would be activated; dry run, nothing changed",
        Status::Blocked => "BLOCKED",
        Status::BlockedByCollection => "BLOCKED: a collection report cannot promote",
    };
    text + &format!("canary {model}: {verdict} (exit {})\n", exit.code())
}

fn document(model: &str, activation: &Activation, exit: Exit) -> String {
    let blocked: Vec<String> = activation
        .findings
        .iter()
        .filter(|finding| !finding.passed)
        .map(|finding| format!("{}: {}", finding.check, finding.detail))
        .collect();
    let document = json!({
        "contract": report::CONTRACT,
        "command": "canary activate",
        "verdict": if exit == Exit::Pass { "pass" } else { "fail" },
        "exit_code": exit.code(),
        "status": status_name(activation.status),
        "model": model,
        "blocked_by": blocked,
        "checks": activation.findings,
        "eligible": activation.eligible,
        "weights": activation.weights,
        "report": activation.report.as_ref().map(|report| &report.files),
        "scoreboard": activation.scoreboard,
        "telemetry": activation.seen.as_ref().map(|seen| json!({"weight": seen.proof, "comparison": seen.comparison})),
    });
    report::json(&document)
}
