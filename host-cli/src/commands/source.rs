//! What the commands that judge events have in common: naming the source, and showing that it is read.

use std::ffi::OsStr;

use clap::builder::{NonEmptyStringValueParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Arg, Args, Command};
use indicatif::{ProgressBar, ProgressStyle};

use super::progress;
use super::redis::RedisArgs;
use crate::exit::Exit;
use crate::judge::EventSource;
use crate::log;
use crate::report;
use crate::stream::{INTENT_STREAM, SinkSpec, SourceSpec};

/// Where to read.
#[derive(Debug, Args)]
pub(super) struct SourceArgs {
    /// Where events come from: file:PATH, - (stdin), redis://[user:pass@]host:port[/db],
    /// redis+unix:///path/to/socket, redis-sentinel://host:port,…/MASTER or redis-cluster://host:port,…; with TLS
    /// rediss://, rediss-sentinel://, rediss-cluster://. A password is better given in QSC_SOURCE or in a file, for
    /// others can see arguments
    #[arg(long, hide_env_values = true, value_parser = SourceParser)]
    source: SourceSpec,
    /// Key of the stream on a Redis server
    #[arg(long, value_parser = NonEmptyStringValueParser::new(), default_value = INTENT_STREAM, value_name = "KEY")]
    stream: String,
    #[command(flatten)]
    redis: RedisArgs,
}

impl SourceArgs {
    pub(super) fn source(&self) -> EventSource {
        EventSource::live(self.source.clone(), self.stream.clone(), self.redis.options())
    }
}

/// Refuses a source that one reading uses up, where it is read again and again.
pub(super) fn refuse_used_up(source: &EventSource) -> Option<Exit> {
    let error = source.ensure_can_be_read_again().err()?;
    log::say(format_args!("error: {error:#}"));
    Some(Exit::Usage)
}

/// Says on stderr that events were corrupt: text output shows it too, but JSON output goes to a program.
pub(super) fn warn_of_malformed(malformed: u64, first: Option<&str>) {
    if let Some(first) = first {
        let first = report::one_line(first);
        log::say(format_args!(
            "warning: {malformed} events are corrupt and were not judged; the first: {first}"
        ));
    }
}

/// A count of events.
pub(super) fn progress() -> ProgressBar {
    progress::bar(None).with_style(style("{spinner} {human_pos} events, {per_sec}, {elapsed}"))
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the template is valid")
}

/// Shows how many events a gate has read: a bar where it is known how many there are at most, else a count.
pub(super) struct Progress {
    bar: ProgressBar,
    most: Option<u64>,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self { bar: progress(), most: None }
    }

    /// One more event, of at most so many.
    pub(super) fn seen(&mut self, most: Option<u64>) {
        if let Some(length) = most.filter(|_| self.most != most) {
            self.most = most;
            self.bar.set_length(length);
            self.bar.set_style(style("{bar:40} {human_pos} of {human_len} events, {per_sec}, {eta} left"));
        }
        self.bar.inc(1);
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// Reads `--source` without ever showing its value, which may hold a password.
#[derive(Clone)]
pub(super) struct SourceParser;

impl TypedValueParser for SourceParser {
    type Value = SourceSpec;

    fn parse_ref(
        &self,
        command: &Command,
        _: Option<&Arg>,
        value: &OsStr,
    ) -> Result<SourceSpec, clap::Error> {
        parse_secret(command, "--source", value, SourceSpec::parse)
    }
}

/// Reads `--sink` likewise.
#[derive(Clone)]
pub(super) struct SinkParser;

impl TypedValueParser for SinkParser {
    type Value = SinkSpec;

    fn parse_ref(&self, command: &Command, _: Option<&Arg>, value: &OsStr) -> Result<SinkSpec, clap::Error> {
        parse_secret(command, "--sink", value, SinkSpec::parse)
    }
}

fn parse_secret<T>(
    command: &Command,
    flag: &str,
    value: &OsStr,
    parse: fn(&str) -> Result<T, String>,
) -> Result<T, clap::Error> {
    value.to_str().ok_or_else(|| "it is no UTF-8 text".to_owned()).and_then(parse).map_err(|reason| {
        clap::Error::raw(ErrorKind::ValueValidation, format!("invalid value for {flag}: {reason}\n"))
            .with_cmd(command)
    })
}
