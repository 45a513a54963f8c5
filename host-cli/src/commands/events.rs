//! What the commands that judge events have in common: naming the window, and reading it.

use std::ffi::OsStr;
use std::num::NonZeroUsize;

use clap::builder::TypedValueParser;
use clap::error::ErrorKind;
use clap::{Arg, Args, Command};
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;

use super::progress;
use crate::identity;
use crate::report::Header;
use crate::stream::{INTENT_STREAM, Item, Reading, Source, SourceSpec, Window};

/// Where to read.
#[derive(Debug, Args)]
pub(super) struct SourceArgs {
    /// Where events come from: file:PATH, - (stdin), redis://[user:pass@]host:port[/db] or
    /// redis+unix:///path/to/socket. A password is better given in QSC_SOURCE, for others can see arguments
    #[arg(long, env = "QSC_SOURCE", hide_env_values = true, value_parser = SourceParser)]
    source: SourceSpec,
    /// Key of the stream on a Redis server
    #[arg(long, env = "QSC_STREAM", default_value = INTENT_STREAM, value_name = "KEY")]
    stream: String,
}

impl SourceArgs {
    /// Reads `count` newest events (0: all) since `after`, handing each to `observe`.
    pub(super) fn read(
        &self,
        after: Option<u64>,
        count: u64,
        event_types: &[&str],
        mut observe: impl FnMut(Item),
    ) -> anyhow::Result<Reading> {
        // More than memory can address is as good as all.
        let newest = NonZeroUsize::new(usize::try_from(count).unwrap_or(0));
        let window = Window { after, newest, event_types };
        let progress = progress();
        let reading = Source::open(&self.source, &self.stream)?.for_each(&window, |item| {
            observe(item);
            progress.inc(1);
            Ok(())
        });
        progress.finish_and_clear();
        reading
    }

    /// The head of a report on these events; `now` in Unix ms fixes its time.
    pub(super) fn header(&self, now: Option<u64>) -> Header {
        let source = match &self.source {
            SourceSpec::Redis(_) => format!("{}, stream {}", self.source, self.stream),
            SourceSpec::File(_) | SourceSpec::Stdin => self.source.to_string(),
        };
        let clock = || u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(0);
        Header {
            now: now.unwrap_or_else(clock),
            source,
            build: identity::build().to_owned(),
            synthetic: false,
        }
    }
}

/// Says on stderr that events were corrupt: text output shows it too, but JSON output goes to a program.
pub(super) fn warn_of_malformed(malformed: u64, first: Option<&str>) {
    if let Some(first) = first {
        let first: String = first.chars().flat_map(char::escape_debug).collect();
        eprintln!("warning: {malformed} events are corrupt and were not judged; the first: {first}");
    }
}

/// A count of events.
pub(super) fn progress() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {human_pos} events, {per_sec}, {elapsed}");
    progress::bar(None).with_style(style.expect("the template is valid"))
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
        value.to_str().ok_or_else(|| "it is no UTF-8 text".to_owned()).and_then(SourceSpec::parse).map_err(
            |reason| {
                clap::Error::raw(
                    ErrorKind::ValueValidation,
                    format!("invalid value for --source: {reason}\n"),
                )
                .with_cmd(command)
            },
        )
    }
}
