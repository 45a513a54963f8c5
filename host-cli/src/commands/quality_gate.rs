//! `qsc quality-gate`.

use std::path::PathBuf;

use clap::Args;

use super::drift::DriftArgs;
use super::source::{self, SourceArgs};
use crate::attest;
use crate::exit::Exit;
use crate::gate::{Mode, Require, Rules, Terms};
use crate::judge::{self, QUALITY_EVENTS};
use crate::report::{self, Format};
use crate::stream::parse_timestamp;

/// Arguments of `qsc quality-gate`.
#[derive(Debug, Args)]
#[command(after_help = "\
Reads `model_breakdown` of trade.intent events and judges each model over its active predictions: shares of \
actions, spread of confidences, violations, number. Writes a Markdown report and its JSON twin for every verdict; \
none is ever overwritten.

Collection mode needs 100 events and never promotes. Canary mode needs 200 and passes when at least one model (with \
--require all: every model) is healthy. Too few events, no model, or entries lost from the stream are inconclusive, \
which blocks as a failure does; so do more than 1 % corrupt events.

Exit codes: 0 passed, 1 could not be judged, 2 failed or inconclusive, 3 collection complete, 64 wrong arguments.

Example:
  qsc quality-gate --source redis://127.0.0.1:6379 --mode canary --after 2026-01-10T05:43:15Z")]
pub struct QualityGateArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// What the gate is asked for
    #[arg(long, value_enum)]
    mode: Mode,
    /// Only events from this time on, e.g. the cutover: RFC 3339 (2026-01-10T05:43:15Z) or Unix milliseconds
    #[arg(long, value_name = "TS", value_parser = parse_timestamp)]
    after: Option<u64>,
    /// Only the newest N of them; 0 is all
    #[arg(long, value_name = "N", default_value_t = QUALITY_EVENTS)]
    count: u64,
    /// Events, and active predictions of a model, that are needed [default: 100 collection, 200 canary]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    min_events: Option<u64>,
    /// How many models must be healthy in canary mode
    #[arg(long, value_enum, default_value_t = Require::Any)]
    require: Require,
    /// Where reports are written; created if missing
    #[arg(long, value_name = "DIR", default_value = "reports/safety")]
    report_dir: PathBuf,
    #[command(flatten)]
    drift: DriftArgs,
    /// The time the report bears, for reproducible reports: RFC 3339 or Unix milliseconds [default: now]
    #[arg(long, value_name = "TS", value_parser = parse_timestamp)]
    now: Option<u64>,
    /// Sign the report with this Ed25519 key: a PEM file, or credential:NAME in $CREDENTIALS_DIRECTORY. What is signed bears
    /// the time it was made: not with --now
    #[arg(long, value_name = "KEY", conflicts_with = "now")]
    sign_key: Option<String>,
}

/// Runs the command.
///
/// # Errors
/// The events could not be read, or report or result could not be written.
pub fn run(args: &QualityGateArgs, rules: &Rules, format: Format) -> anyhow::Result<Exit> {
    if args.now.is_some() && args.sign_key.is_some() {
        return Ok(super::misfit("now and sign-key exclude one another"));
    }
    let sign_key = args.sign_key.as_deref().map(attest::read_signing_key).transpose()?;
    let mut rules = rules.clone();
    if let Some(events) = args.min_events {
        rules.set_min_events(args.mode, events);
    }
    let terms = Terms { mode: args.mode, require: args.require, requested: args.count, cutover: args.after };
    let drift = args.drift.load(&mut rules)?;
    let source = args.source.source();
    let mut progress = source::Progress::new();
    let verdict = judge::quality_with_drift(&source, terms, &rules, drift, |most| progress.seen(most));
    progress.finish();
    let verdict = verdict?;
    source::warn_of_malformed(verdict.events.malformed, verdict.first_malformed.as_deref());
    let report = report::write_quality(&verdict, &source.header(args.now)?, &args.report_dir)?;
    if let Some(key) = &sign_key {
        attest::sign_written(&report.files.json, report.files.sha256.json.as_deref(), key)?;
    }
    report::print(&match format {
        Format::Text => report.text,
        Format::Json => report::json(&report.document),
    })?;
    Ok(verdict.outcome.exit())
}
