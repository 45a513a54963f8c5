//! `qsc run`.

use std::io::{self, Write as _};
use std::path::PathBuf;

use anyhow::{bail, ensure};
use clap::Args;
use indicatif::ProgressBar;
use serde_json::{Value, json};

use super::events::SourceParser;
use crate::args::Format;
use crate::engine::Engine;
use crate::engine::config::ModelsConfig;
use crate::engine::load::Images;
use crate::engine::replay::{Outlet, Replay, Summary};
use crate::exit::Exit;
use crate::signals::Stop;
use crate::stream::{AtomicFile, MARKET_FEATURES, Sink, SinkSpec, Source, SourceSpec, Window};

/// Rejects logged one by one; further ones are only counted and kept in `--rejects`.
const LOGGED_REJECTS: u64 = 20;

/// Arguments of `qsc run`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  qsc run --source file:features.jsonl --sink file:intents.jsonl --models MODELS.toml"
)]
pub struct RunArgs {
    /// Feature events: file:PATH, or - for stdin
    #[arg(long, env = "QSC_SOURCE", hide_env_values = true, value_parser = SourceParser)]
    source: SourceSpec,
    /// Where intents go: file:PATH, or - for stdout
    #[arg(long, env = "QSC_SINK", value_parser = SinkSpec::parse)]
    sink: SinkSpec,
    /// The ensemble
    #[arg(long, env = "QSC_MODELS", value_name = "MODELS.toml")]
    models: PathBuf,
    /// Keep events that could not be decided in this file, one JSON line each
    #[arg(long, env = "QSC_REJECTS", value_name = "FILE")]
    rejects: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// A configuration, source or sink that cannot be used. Sick models are no errors: they are inactive.
pub fn run(args: &RunArgs, format: Format) -> anyhow::Result<Exit> {
    ensure!(
        !matches!(args.source, SourceSpec::Redis(_)),
        "qsc run reads files only in this version; capture the stream and use --source file:PATH"
    );
    let json = format == Format::Json;
    ensure!(
        !(json && args.sink == SinkSpec::Stdout),
        "--format json and --sink - would share stdout; write intents to file:PATH"
    );
    let config = ModelsConfig::read(&args.models)?;
    let images = Images::read(&config);
    let candidates = images.load(&config, &mut |line| eprintln!("{line}"))?;
    let mut replay = Replay::new(Engine::new(&config, candidates)?);

    let source = Source::open(&args.source, "")?;
    let mut sink = Sink::open(&args.sink)?;
    let mut rejects = args.rejects.as_deref().map(AtomicFile::create).transpose()?;
    let window = Window { after: None, newest: None, event_types: &[MARKET_FEATURES] };
    let progress = ProgressBar::new_spinner().with_message("events decided");
    let mut logged = 0;
    let stop = Stop::watch()?;
    let reading = source.for_each(&window, |item| {
        if stop.requested() {
            bail!("stopped by a signal");
        }
        progress.inc(1);
        replay.feed(&item, |outlet| match outlet {
            Outlet::Intent(intent) => sink.write(intent),
            Outlet::Reject { id, line, reason, event } => {
                let place =
                    id.map_or_else(|| format!("line {}", line.unwrap_or(0)), |id| format!("event {id}"));
                if logged < LOGGED_REJECTS {
                    progress.suspend(|| eprintln!("rejected {place}: {reason}"));
                }
                logged += 1;
                match &mut rejects {
                    Some(file) => Ok(writeln!(file, "{}", reject_line(id, line, &reason, event))?),
                    None => Ok(()),
                }
            }
        })
    });
    progress.finish_and_clear();
    let other_types = match reading {
        Ok(reading) => reading.other_types,
        // A clean shutdown: what was decided is kept.
        Err(_) if stop.requested() => {
            eprintln!("stopped by a signal; the intents decided so far are kept");
            0
        }
        Err(error) => return Err(error),
    };
    sink.finish()?;
    if let Some(rejects) = rejects {
        rejects.replace()?;
    }
    let summary = summary(replay.summary(), other_types);
    if json {
        writeln!(io::stdout().lock(), "{summary:#}")?;
    } else {
        eprintln!("{}", text(replay.summary(), other_types));
    }
    Ok(Exit::Pass)
}

fn reject_line(
    id: Option<crate::stream::EventId>,
    line: Option<u64>,
    reason: &str,
    event: Option<&crate::stream::Event>,
) -> Value {
    let fields = event.map(|event| {
        json!({"event_type": event.event_type, "payload": event.payload, "trace_id": event.trace_id,
               "timestamp": event.timestamp, "source": event.source})
    });
    json!({"id": id.map(|id| id.to_string()), "line": line, "reason": reason, "fields": fields})
}

fn summary(summary: &Summary, other_types: u64) -> Value {
    let latency = &summary.latency;
    json!({
        "contract": 1,
        "command": "run",
        "intents": summary.intents,
        "rejects": summary.rejects,
        "other_types": other_types,
        "sides": summary.sides,
        "inactive": summary.inactive,
        "decision_ns": {
            "p50": latency.value_at_quantile(0.5),
            "p99": latency.value_at_quantile(0.99),
            "max": latency.max(),
        },
    })
}

fn text(summary: &Summary, other_types: u64) -> String {
    let latency = &summary.latency;
    let us = |quantile| latency.value_at_quantile(quantile) as f64 / 1000.0;
    let mut text = format!(
        "{} intents, {} rejected, {other_types} events of other types; per decision p50 {:.1} µs, p99 {:.1} µs",
        summary.intents,
        summary.rejects,
        us(0.5),
        us(0.99)
    );
    for (side, count) in &summary.sides {
        text.push_str(&format!("\n{side} {count}"));
    }
    for (model, reasons) in &summary.inactive {
        for (reason, count) in reasons {
            text.push_str(&format!("\n{model} inactive {count} times: {reason}"));
        }
    }
    text
}
