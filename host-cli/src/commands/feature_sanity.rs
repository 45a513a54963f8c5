//! `qsc feature-sanity`.

use clap::Args;

use super::events::{self, SourceArgs};
use crate::args::Format;
use crate::exit::Exit;
use crate::gate::{Percent, Rules};
use crate::judge;
use crate::report;
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
    #[arg(long, env = "QSC_AFTER", value_name = "TS", value_parser = parse_timestamp)]
    after: u64,
    /// Only the newest N of them; 0 is all
    #[arg(long, env = "QSC_COUNT", value_name = "N", default_value_t = 200)]
    count: u64,
    /// Share of features that may be flat, in percent
    #[arg(long, env = "QSC_MAX_FLATLINE_PCT", value_name = "PCT", default_value_t = Percent::whole(0))]
    max_flatline_pct: Percent,
    /// A feature that may be flat; may be given several times
    #[arg(long, env = "QSC_ALLOW_FLAT", value_name = "NAME", value_delimiter = ',')]
    allow_flat: Vec<String>,
}

/// Runs the command.
///
/// # Errors
/// The events could not be read, or the result could not be written.
pub fn run(args: &FeatureSanityArgs, format: Format) -> anyhow::Result<Exit> {
    let rules = Rules {
        max_flatline_pct: args.max_flatline_pct,
        allow_flat: args.allow_flat.iter().cloned().collect(),
        ..Rules::default()
    };
    let source = args.source.source();
    let progress = events::progress();
    let verdict = judge::sanity(&source, args.after, args.count, &rules, || progress.inc(1));
    progress.finish_and_clear();
    let verdict = verdict?;
    events::warn_of_malformed(verdict.malformed, verdict.first_malformed.as_deref());
    let header = source.header(None);
    report::print(&match format {
        Format::Text => report::sanity_text(&verdict, &header),
        Format::Json => report::sanity_json(&verdict, &header),
    })?;
    Ok(verdict.outcome.exit())
}
