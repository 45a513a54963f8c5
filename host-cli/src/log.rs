//! Log lines of a service: one place that decides where they go and how they are spelled.
//!
//! A line says the same everywhere. Operators, tests and `qsc deploy` read the text; programs read the fields.

use std::fmt;
use std::io::{self, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, anyhow};
use clap::ValueEnum;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, Layer};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;

/// Where log lines go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Log {
    /// Text on stderr
    #[default]
    Stderr,
    /// The system's journal, with fields
    Journald,
    /// One JSON object a line on stderr
    Json,
}

static BEGUN: AtomicBool = AtomicBool::new(false);

impl Log {
    /// Sends every line of `tracing` there from now on.
    ///
    /// # Errors
    /// There is no journal here.
    pub fn begin(self) -> anyhow::Result<()> {
        // A closed stderr is no reason to stop deciding, nor to complain on stderr.
        let stderr = || Layer::default().with_writer(io::stderr).log_internal_errors(false).with_ansi(false);
        let lines = tracing_subscriber::registry();
        let begun = match self {
            Self::Stderr => tracing::subscriber::set_global_default(lines.with(stderr().event_format(Plain))),
            Self::Json => {
                let json = stderr().json().flatten_event(true).with_target(false).with_current_span(false);
                tracing::subscriber::set_global_default(lines.with(json))
            }
            Self::Journald => {
                let journal = tracing_journald::layer().context(
                    "cannot log to the journal, for none answers here; take --log stderr or --log json",
                )?;
                tracing::subscriber::set_global_default(
                    lines.with(journal.with_field_prefix(Some("QSC".to_owned()))),
                )
            }
        };
        begun.map_err(|_| anyhow!("log lines are sent somewhere already"))?;
        BEGUN.store(true, Ordering::Relaxed);
        Ok(())
    }
}

/// Says on stderr, or wherever log lines go, why the command has failed.
pub fn failed(error: &anyhow::Error) {
    if BEGUN.load(Ordering::Relaxed) {
        tracing::error!("QSC FAIL-CLOSED: {error:#}");
    } else {
        say(format_args!("QSC FAIL-CLOSED: {error:#}"));
    }
}

/// Writes one line to stderr. Whether anybody reads it, or the disk it goes to is full, changes nothing that is done: a panic
/// instead would leave a canary unwatched.
pub fn say(line: impl fmt::Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// The message and nothing else.
struct Plain;

impl<S, N> FormatEvent<S, N> for Plain
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut message = Message(String::new());
        event.record(&mut message);
        writeln!(writer, "{}", message.0)
    }
}

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}
