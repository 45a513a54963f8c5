//! `qsc scoreboard`.

mod watch;

use std::path::PathBuf;

use clap::Args;

use super::drift::DriftArgs;
use super::source::{self, SourceArgs, refuse_used_up};
use crate::exit::Exit;
use crate::gate::{Drift, Mode, QualityVerdict, Require, Rules, Scoreboard, Terms};
use crate::judge::{self, EventSource, QUALITY_EVENTS};
use crate::report::{self, Format};
use crate::stream::parse_timestamp;

/// Arguments of `qsc scoreboard`.
#[derive(Debug, Args)]
#[command(after_help = "\
Judges the newest intents as the quality gate does in canary mode and says one word per model. NO-GO: the model failed \
a check. GO: it passed, the gate passed, the models agree by 55 to 80 % (mean share of the largest vote) and fewer than \
20 % of the events hold both BUY and SELL. WAIT: anything else.

Exit codes: 0 every model is GO, 1 could not be judged, 2 otherwise, 64 wrong arguments. --watch ends with the code of the last scoreboard it showed, with 1 while it shows an error instead.

Example:
  qsc scoreboard --source redis://127.0.0.1:6379")]
pub struct ScoreboardArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// Only events from this time on, e.g. the cutover: RFC 3339 (2026-01-10T05:43:15Z) or Unix milliseconds
    #[arg(long, value_name = "TS", value_parser = parse_timestamp)]
    after: Option<u64>,
    /// Only the newest N of them; 0 is all
    #[arg(long, value_name = "N", default_value_t = QUALITY_EVENTS)]
    count: u64,
    #[command(flatten)]
    drift: DriftArgs,
    /// Where the scoreboard is also written as a report; created if missing
    #[arg(long, value_name = "DIR", default_value = "reports/safety")]
    report_dir: PathBuf,
    /// The time the report bears, for reproducible reports: RFC 3339 or Unix milliseconds [default: now]
    #[arg(long, value_name = "TS", value_parser = parse_timestamp)]
    now: Option<u64>,
    /// Stay and show the scoreboard live; q ends it. Writes no report
    #[arg(long)]
    watch: bool,
}

impl ScoreboardArgs {
    /// Whether the command stays until it is told to end.
    #[must_use]
    pub const fn watches(&self) -> bool {
        self.watch
    }
}

/// Runs the command.
///
/// # Errors
/// The events could not be read, or the result could not be written.
pub fn run(args: &ScoreboardArgs, rules: &Rules, format: Format) -> anyhow::Result<Exit> {
    let mut rules = rules.clone();
    let drift = args.drift.load(&mut rules)?;
    let source = args.source.source();
    let terms =
        Terms { mode: Mode::Canary, require: Require::Any, requested: args.count, cutover: args.after };
    if args.watch {
        if let Some(exit) = refuse_used_up(&source) {
            return Ok(exit);
        }
        return watch::run(&source, &terms, &rules, drift.as_ref(), format);
    }
    let verdict = judge(&source, terms, &rules, drift)?;
    let (text, document) = report::write_scoreboard(&verdict, &source.header(args.now)?, &args.report_dir)?;
    report::print(&match format {
        Format::Text => text,
        Format::Json => report::json(&document),
    })?;
    Ok(Scoreboard::of(&verdict).outcome.exit())
}

fn judge(
    source: &EventSource,
    terms: Terms,
    rules: &Rules,
    drift: Option<Drift>,
) -> anyhow::Result<QualityVerdict> {
    let mut progress = source::Progress::new();
    let verdict = judge::quality_with_drift(source, terms, rules, drift, |most| progress.seen(most));
    progress.finish();
    let verdict = verdict?;
    source::warn_of_malformed(verdict.events.malformed, verdict.first_malformed.as_deref());
    Ok(verdict)
}
