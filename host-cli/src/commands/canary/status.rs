//! `qsc canary status`.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use serde_json::{Value, json};

use super::{StateArgs, shown};
use crate::canary::state::State;
use crate::canary::status::Status;
use crate::canary::weights::WeightsFile;
use crate::commands::redis::RedisArgs;
use crate::commands::source::SourceParser;
use crate::exit::Exit;
use crate::judge::EventSource;
use crate::report::{self, Format};
use crate::stream::{INTENT_STREAM, SourceSpec};

/// Arguments of `qsc canary status`.
#[derive(Debug, Args)]
#[command(after_help = "\
Only reads. With --source it shows from telemetry whether the canary really has its weight.

Exit codes: 0 the state is whole, or what a process that died left undone is PENDING, 1 something in it is broken or \
cannot be read: it says what.

Example:
  qsc canary status --source redis://127.0.0.1:6379")]
pub struct StatusArgs {
    /// Where intents are
    #[arg(long, hide_env_values = true, value_parser = SourceParser)]
    source: Option<SourceSpec>,
    /// Key of the stream on a Redis server
    #[arg(long, value_parser = NonEmptyStringValueParser::new(), default_value = INTENT_STREAM, value_name = "KEY")]
    stream: String,
    #[command(flatten)]
    redis: RedisArgs,
    #[command(flatten)]
    state: StateArgs,
}

pub(super) fn run(args: &StatusArgs, format: Format) -> anyhow::Result<Exit> {
    let source = args
        .source
        .as_ref()
        .map(|spec| EventSource::live(spec.clone(), args.stream.clone(), args.redis.options()));
    let state = args.state.state();
    let status = Status::read(&state, source.as_ref())?;
    let exit = if status.broken.is_empty() { Exit::Pass } else { Exit::Error };
    report::print(&match format {
        Format::Text => text(&status, &shown(&state)),
        Format::Json => report::json(&document(&status, &state, exit)),
    })?;
    Ok(exit)
}

fn text(status: &Status, state: &str) -> String {
    let mut text = match &status.file {
        Some(WeightsFile { generation, canary, weights }) => format!(
            "{} ({}), generation {generation}\nweights: {}\n",
            canary.as_ref().map_or_else(|| "no canary".to_owned(), |canary| format!("canary {canary}")),
            status.standing,
            weights.log_line()
        ),
        None if status.standing == "idle" => {
            format!("no weights (idle) in {state}: those of MODELS.toml are in force\n")
        }
        None => format!("no usable weights ({}): what is in force is unknown\n", status.standing),
    };
    if let Some(since) = &status.since {
        text += &format!("since {since}, cutover {}\n", status.cutover.as_deref().unwrap_or("unknown"));
    }
    if let Some(watch) = &status.watch {
        text += &format!(
            "watch: {} checks, {} of {} s watched, {} failed in a row\n",
            watch.checks,
            watch.watched_ms / 1000,
            watch.duration_ms / 1000,
            watch.failed_in_row
        );
    }
    if let Some(seen) = &status.seen {
        text += &format!("telemetry: {}\n", seen.proof.text());
    }
    if let Some(lines) = status.lines {
        text += &format!("audit log: {lines} lines, all hold\n");
    }
    if let Some(pending) = &status.pending {
        text += &format!("PENDING: {pending}\n");
    }
    for broken in &status.broken {
        text += &format!("BROKEN: {broken}\n");
    }
    text
}

fn document(status: &Status, state: &State, exit: Exit) -> Value {
    let file = status.file.as_ref();
    json!({
        "contract": report::CONTRACT,
        "command": "canary status",
        "verdict": if exit == Exit::Pass { "pass" } else { "error" },
        "exit_code": exit.code(),
        "state_dir": state.full_path().display().to_string(),
        "state_exists": state.is_there().ok(),
        "standing": status.standing,
        "generation": file.map_or(0, |file| file.generation),
        "canary": file.and_then(|file| file.canary.as_ref()),
        "weights": file.map(|file| &file.weights),
        "since": status.since,
        "cutover": status.cutover,
        "audit_lines": status.lines,
        "watch": status.watch,
        "telemetry": status.seen.as_ref().map(|seen| json!({"weight": seen.proof, "comparison": seen.comparison})),
        "pending": status.pending,
        "broken": status.broken,
    })
}
