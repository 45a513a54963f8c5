//! `qsc stream`: what streams say about each other.

use anyhow::bail;
use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};
use serde_json::json;

use super::redis::RedisArgs;
use super::source::SourceParser;
use crate::exit::Exit;
use crate::ingest::Keys;
use crate::ingest::proof::{Proof, prove};
use crate::log;
use crate::report::{self, Format};
use crate::stream::{FEATURE_STREAM, INTENT_STREAM, Link, SourceSpec};

/// Commands of `qsc stream`.
#[derive(Debug, Subcommand)]
pub enum StreamCommand {
    /// Prove that every settled feature event has exactly one intent or dead letter
    Verify(VerifyArgs),
}

/// Arguments of `qsc stream verify`.
#[derive(Debug, Args)]
#[command(after_help = "\
Only reads. Exit 0 if nothing is missing, doubled or invented, 2 if anything is, 1 if that cannot be known, as where no \
settled event is left or nothing says what is settled. Events that are not settled yet are counted as waiting.

Example:
  qsc stream verify --source redis://127.0.0.1:6379")]
pub struct VerifyArgs {
    /// The Redis server: redis://[user:pass@]host:port[/db], redis+unix:///path/to/socket,
    /// redis-sentinel://host,host…/MASTER, redis-cluster://host,host…, and rediss… for TLS (docs/redis.md)
    #[arg(long, hide_env_values = true, value_parser = SourceParser)]
    source: SourceSpec,
    #[command(flatten)]
    redis: RedisArgs,
    /// Key of the stream of feature events
    #[arg(long, value_parser = NonEmptyStringValueParser::new(), default_value = FEATURE_STREAM, value_name = "KEY")]
    stream: String,
    /// Key of the stream of intents
    #[arg(long, value_parser = NonEmptyStringValueParser::new(), default_value = INTENT_STREAM, value_name = "KEY")]
    sink_stream: String,
    /// The consumer group that made them
    #[arg(long, value_parser = NonEmptyStringValueParser::new(), default_value = "qsc", value_name = "NAME")]
    group: String,
}

/// Runs the command.
///
/// # Errors
/// A stream cannot be read.
pub fn run(command: &StreamCommand, format: Format) -> anyhow::Result<Exit> {
    let StreamCommand::Verify(args) = command;
    let SourceSpec::Redis(address) = &args.source else {
        bail!("stream verify compares streams of a Redis server; {} is none", args.source);
    };
    let keys = Keys::new(&args.stream, &args.sink_stream, &args.group).map_err(anyhow::Error::msg)?;
    let mut link = Link::connect(address, &keys.features, &args.redis.options())?;
    let proof = prove(&mut link, &keys, &args.group)?;
    let unknown = if proof.settled.is_none() {
        // An event without intent may be settled as well as waiting.
        Some(format!(
            "nothing says what the group {} has settled, for {} has no field last: try again when its first event \
             is settled; if one was, put the field back before a worker starts",
            args.group, keys.owner
        ))
    } else if proof.events == 0 {
        Some("no settled event is left to compare: try again when some are settled".to_owned())
    } else {
        None
    };
    let (verdict, exit) = match (proof.holds(), &unknown) {
        (false, _) => ("fail", Exit::Fail),
        (true, Some(_)) => ("error", Exit::Error),
        (true, None) => ("pass", Exit::Pass),
    };
    if exit == Exit::Error
        && let Some(why) = unknown
    {
        log::say(format_args!("QSC FAIL-CLOSED: {why}"));
    }
    report::print(&match format {
        Format::Json => report::json(
            &json!({"contract": report::CONTRACT, "command": "stream verify", "verdict": verdict, "exit_code": exit.code(), "proof": proof}),
        ),
        Format::Text => text(&proof, verdict),
    })?;
    Ok(exit)
}

fn text(proof: &Proof, verdict: &str) -> String {
    let settled = proof.settled.as_deref().unwrap_or("nothing");
    let mut text = format!(
        "{}: {} settled events, up to {settled}: {} with one intent, {} with one dead letter, {} missing, {} doubled, {} \
         invented; {} events wait\n",
        verdict.to_uppercase(),
        proof.events,
        proof.intents,
        proof.dead,
        proof.missing,
        proof.doubled,
        proof.invented,
        proof.waiting
    );
    for (count, what) in [
        (proof.disordered, "intents stand behind one of a later event"),
        (proof.trimmed, "intents and dead letters are older than the first event left"),
        (proof.foreign, "entries are by other writers or groups"),
    ] {
        if count > 0 {
            text.push_str(&format!("{count} {what}\n"));
        }
    }
    for example in &proof.examples {
        text.push_str(&format!("{example}\n"));
    }
    text
}
