//! `qsc capture`: a range of a stream becomes a file.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::json;

use super::source::{self, SourceArgs};
use crate::exit::Exit;
use crate::report::{self, Format};
use crate::stream::{AtomicFile, Dump, SourceSpec, parse_timestamp};

/// Arguments of `qsc capture`.
#[derive(Debug, Args)]
#[command(after_help = "\
Writes every entry with all its fields, whatever its type, as one JSON line; a gate on the file judges as it would on \
the stream. The file takes its name only when it is complete. Entries that were removed from the stream, or that JSON \
cannot hold, are refused: a capture has no gaps.

Example:
  qsc capture --source redis://127.0.0.1:6379 --stream quantum:stream:trade.intent --output intents.jsonl")]
pub struct CaptureArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// Only entries from this time on: RFC 3339 (2026-01-10T05:43:15Z) or Unix milliseconds
    #[arg(long, value_name = "TS", value_parser = parse_timestamp)]
    after: Option<u64>,
    /// Only the newest N of them; 0 is all
    #[arg(long, value_name = "N", default_value_t = 0)]
    count: u64,
    /// The capture file
    #[arg(long, short, value_name = "FILE.jsonl")]
    output: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// The stream cannot be read or lost entries, or the file cannot be written; it is then as it was.
pub fn run(args: &CaptureArgs, format: Format) -> anyhow::Result<Exit> {
    let source = args.source.source();
    let SourceSpec::Redis(address) = &source.spec else {
        bail!("capture reads a stream of a Redis server; {} is a capture already", source.spec);
    };
    let mut file = AtomicFile::create(&args.output)?;
    let progress = source::progress();
    let dump = Dump::of(address, &source.stream, &source.link, args.after, args.count, |line| {
        progress.inc(1);
        writeln!(file, "{line}").with_context(|| format!("cannot write {}", args.output.display()))
    });
    progress.finish_and_clear();
    let Dump { entries, first, last, gap } = dump?;
    if let Some(gap) = gap {
        bail!("events may be missing: {gap}; capture from a later time, or without --after what is left");
    }
    file.replace()?;
    let id = |id: Option<crate::stream::EventId>| id.map(|id| id.to_string());
    report::print(&match format {
        Format::Text => {
            let range =
                first.zip(last).map_or_else(String::new, |(first, last)| format!(", {first} … {last}"));
            format!("{entries} entries of {} written to {}{range}\n", source.stream, args.output.display())
        }
        Format::Json => report::json(&json!({
            "contract": report::CONTRACT,
            "command": "capture",
            "stream": source.stream,
            "entries": entries,
            "first_id": id(first),
            "last_id": id(last),
            "output": args.output.to_string_lossy(),
        })),
    })?;
    Ok(Exit::Pass)
}
