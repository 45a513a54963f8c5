//! `qsc bench`: how long one model, or the decision of a whole ensemble, takes on this machine.

mod clock;
mod ensemble;
mod latency;
mod random;
mod single;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use qsc_kernel::Backend;
use serde_json::{Map, Value, json};

use crate::commands::predict;
use crate::exit::Exit;
use crate::report::{self, Format};
use clock::Shares;
use latency::Latency;

/// Arguments of `qsc bench`.
#[derive(Debug, Args)]
#[command(after_help = "\
Without an image a whole decision is measured, from bound features to the vote: of --models, else of the bundled models. Every answer is \
compared with that of the scalar backend; a bench whose answers differ fails.

Example:
  qsc bench xgb.qsm --input rows.npy --seconds 5")]
pub struct BenchArgs {
    /// The image [default: a whole ensemble]
    image: Option<PathBuf>,
    /// Rows to rotate over (.npy, .csv or .jsonl) [default: random rows in the range of the model's golden vectors]
    #[arg(long, requires = "image")]
    input: Option<PathBuf>,
    /// Rows of one call
    #[arg(long, default_value_t = 1, requires = "image", value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    batch: u32,
    /// The ensemble to measure instead of an image
    #[arg(long, value_name = "MODELS.toml", conflicts_with = "image")]
    models: Option<PathBuf>,
    /// How long to measure
    #[arg(long, default_value_t = 2.0, value_parser = parse_seconds)]
    seconds: f64,
    /// Backend to run on; all of them give the same bits
    #[arg(long, default_value = "auto", value_parser = predict::backend)]
    backend: Backend,
}

fn parse_seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if seconds > 0.0 && seconds <= 3600.0 => Ok(seconds),
        _ => Err("expected seconds, above 0 and at most 3600".to_owned()),
    }
}

/// What was measured.
struct Measured {
    /// Model or ensemble, in words.
    subject: String,
    backend: &'static str,
    batch: u32,
    /// Different rows or events.
    rows: usize,
    latency: Latency,
    /// Share of the time of each stage, measured apart.
    stages: Shares,
}

/// Runs the command.
///
/// # Errors
/// An image, rows or an ensemble that cannot be used; answers that differ from those of the scalar backend.
pub fn run(args: &BenchArgs, format: Format) -> anyhow::Result<Exit> {
    let backend = args.backend;
    let time = Duration::from_secs_f64(args.seconds);
    let measured = match &args.image {
        Some(image) => single::measure(image, args.input.as_deref(), args.batch, backend, time)?,
        None => ensemble::measure(args.models.as_deref(), backend, time)?,
    };
    report::print(&match format {
        Format::Text => text(&measured),
        Format::Json => format!("{}\n", document(&measured)),
    })?;
    Ok(Exit::Pass)
}

fn document(measured: &Measured) -> Value {
    let stages: Map<String, Value> =
        measured.stages.iter().map(|(name, share)| (name.to_owned(), json!(share))).collect();
    json!({
        "contract": report::CONTRACT,
        "command": "bench",
        "subject": measured.subject,
        "backend": measured.backend,
        "batch": measured.batch,
        "rows": measured.rows,
        "calls": measured.latency.calls(),
        "timer_ns": measured.latency.timer_ns(),
        "ns_per_row": measured.latency.document(),
        "stages": stages,
    })
}

fn text(measured: &Measured) -> String {
    let Measured { subject, backend, batch, rows, latency, stages } = measured;
    let mut text = format!(
        "{subject}\n{backend}, batch {batch}, {} calls over {rows} rows; {:.0} ns of the clock are taken off each\n\n{}",
        latency.calls(),
        latency.timer_ns(),
        latency.text()
    );
    text.push_str("\nShare of each stage\n");
    let width = stages.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, share) in stages.iter() {
        text.push_str(&format!("  {name:width$}  {:5.1} %\n", share * 100.0));
    }
    text
}
