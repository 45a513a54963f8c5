//! `qsc feature-sanity`.

use clap::Args;

use super::drift::DriftArgs;
use super::source::{self, SourceArgs};
use crate::exit::Exit;
use crate::gate::{Percent, Rules};
use crate::judge::{self, SANITY_EVENTS};
use crate::report::{self, Format};
use crate::stream::parse_timestamp;

/// Arguments of `qsc feature-sanity`.
#[derive(Debug, Args)]
#[command(after_help = "\
Reads `features` of trade.intent and market.features events. Fails on fewer than 50 events, any NaN or infinite \
value (null and text too), features that differ from event to event in number or name, more flatlined features \
(population std < 1e-6) than allowed, and more than 1 % corrupt events. Repeated feature vectors only warn.

Exit codes: 0 passed, 1 could not be checked, 2 failed or inconclusive, 64 wrong arguments.

Example:
  qsc feature-sanity --source redis://127.0.0.1:6379 --after 2026-01-10T05:43:15Z --allow-flat funding_rate")]
pub struct FeatureSanityArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// Only events from this time on: RFC 3339 (2026-01-10T05:43:15Z) or Unix milliseconds
    #[arg(long, value_name = "TS", value_parser = parse_timestamp)]
    after: u64,
    /// Only the newest N of them; 0 is all
    #[arg(long, value_name = "N", default_value_t = SANITY_EVENTS)]
    count: u64,
    /// Share of features that may be flat, in percent [default: 0, or as [rules] has it]
    #[arg(long, value_name = "PCT")]
    max_flatline_pct: Option<Percent>,
    /// A feature that may be flat; may be given several times
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    allow_flat: Vec<String>,
    #[command(flatten)]
    drift: DriftArgs,
}

/// Runs the command.
///
/// # Errors
/// The events could not be read, or the result could not be written.
pub fn run(args: &FeatureSanityArgs, rules: &Rules, format: Format) -> anyhow::Result<Exit> {
    let mut rules = rules.clone();
    if let Some(most) = args.max_flatline_pct {
        rules.max_flatline_pct = most;
    }
    rules.allow_flat.extend(args.allow_flat.iter().cloned());
    let drift = args.drift.load(&mut rules)?;
    let source = args.source.source();
    let mut progress = source::Progress::new();
    let verdict =
        judge::sanity_with_drift(&source, args.after, args.count, &rules, drift, |most| progress.seen(most));
    progress.finish();
    let verdict = verdict?;
    source::warn_of_malformed(verdict.malformed, verdict.first_malformed.as_deref());
    let header = source.header(None)?;
    report::print(&match format {
        Format::Text => report::sanity_text(&verdict, &header),
        Format::Json => report::json(&report::sanity_document(&verdict, &header)),
    })?;
    Ok(verdict.outcome.exit())
}
