//! Writing events as capture lines.

use std::io::{self, BufWriter, Stdout, Write};
use std::path::PathBuf;

use anyhow::{Context as _, bail};

use super::address::SinkSpec;
use super::atomic::AtomicFile;
use super::event::Event;

/// An open sink of events. A file appears, or replaces what was there, only at [`finish`](Self::finish).
pub struct Sink {
    name: String,
    inner: Inner,
}

enum Inner {
    File(AtomicFile),
    Stdout(BufWriter<Stdout>),
}

impl Sink {
    /// Opens `spec`.
    ///
    /// # Errors
    /// The file cannot be created; `spec` is a stream of Redis, which takes intents only with the acknowledgement of their
    /// events ([`crate::ingest`]).
    pub fn open(spec: &SinkSpec) -> anyhow::Result<Self> {
        Ok(match spec {
            SinkSpec::File(path) => {
                Self { name: path.display().to_string(), inner: Inner::File(AtomicFile::create(path)?) }
            }
            SinkSpec::Stdout => {
                Self { name: "stdout".to_owned(), inner: Inner::Stdout(BufWriter::new(io::stdout())) }
            }
            SinkSpec::Redis(address) => bail!(
                "intents go to Redis at {address} only from a stream of the same server, so that each is added with the \
                 acknowledgement of its event; use --source redis://… there, or --sink file:PATH"
            ),
        })
    }

    /// Writes one event as one capture line.
    ///
    /// # Errors
    /// The line could not be written.
    pub fn write(&mut self, event: &Event) -> anyhow::Result<()> {
        let mut line = event.to_capture_line();
        line.push('\n');
        let written = match &mut self.inner {
            Inner::File(file) => file.write_all(line.as_bytes()),
            Inner::Stdout(stdout) => stdout.write_all(line.as_bytes()),
        };
        written.with_context(|| format!("cannot write events to {}", self.name))
    }

    /// Hands buffered lines to the reader of stdout; a file shows nothing before [`finish`](Self::finish).
    ///
    /// # Errors
    /// stdout takes no more.
    pub fn flush(&mut self) -> anyhow::Result<()> {
        match &mut self.inner {
            Inner::File(_) => Ok(()),
            Inner::Stdout(stdout) => stdout.flush().context("cannot write events to stdout"),
        }
    }

    /// Completes the output; the path of the file, if it is one.
    ///
    /// # Errors
    /// The last bytes could not be written; a file that was there is then as it was.
    pub fn finish(self) -> anyhow::Result<Option<PathBuf>> {
        match self.inner {
            Inner::File(file) => {
                file.replace()?;
                Ok(Some(self.name.into()))
            }
            Inner::Stdout(mut stdout) => {
                stdout.flush().context("cannot write events to stdout")?;
                Ok(None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::num::NonZeroUsize;

    use super::*;
    use crate::stream::{EventId, Source, SourceSpec, Window};

    #[test]
    fn what_is_written_reads_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out.jsonl");
        let events: Vec<Event> = (1..=3)
            .map(|ms| Event {
                id: EventId { ms, seq: 7 },
                event_type: "trade.intent".to_owned(),
                payload: "{\"symbol\":\"BTC→\\\"\",\"x\":NaN}\n".to_owned(),
                trace_id: (ms == 2).then(|| "t".to_owned()),
                timestamp: None,
                source: Some("qsc".to_owned()),
            })
            .collect();
        let mut sink = Sink::open(&SinkSpec::File(path.clone())).unwrap();
        for event in &events {
            sink.write(event).unwrap();
            assert!(!path.exists(), "nothing half-written is visible");
        }
        assert_eq!(sink.finish().unwrap(), Some(path.clone()));

        let mut back = Vec::new();
        let window = Window { after: None, newest: NonZeroUsize::new(10), event_types: &["trade.intent"] };
        let source = Source::open(&SourceSpec::File(path.clone()), "").unwrap();
        source
            .for_each(&window, |item| {
                back.push(item.unwrap());
                Ok(())
            })
            .unwrap();
        assert_eq!(back, events);
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 3);
    }
}
