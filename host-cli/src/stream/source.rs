//! Reading a window of events, wherever they are.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::num::NonZeroUsize;

use anyhow::Context as _;

use super::address::SourceSpec;
use super::capture;
use super::event::{EventId, Item};
use super::redis::RedisStream;
use super::time::format_rfc3339;

/// Which events to read.
#[derive(Clone, Copy, Debug)]
pub struct Window<'types> {
    /// Unix ms: only events with id ≥ `<after>-0`.
    pub after: Option<u64>,
    /// Only the newest this many of them; `None` is all.
    pub newest: Option<NonZeroUsize>,
    /// The `event_type`s to read; others pass by without counting towards `newest`.
    pub event_types: &'types [&'types str],
}

impl Window<'_> {
    /// The first id that counts.
    pub(super) fn start(&self) -> EventId {
        EventId { ms: self.after.unwrap_or(0), seq: 0 }
    }
}

/// What a reading found besides the events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Entries in the window that are of another `event_type`.
    pub other_types: u64,
    /// Why the window may have lost events before they were read.
    pub gap: Option<Gap>,
}

/// Entries of the window may be missing: the stream was trimmed behind its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Start of the window, Unix ms.
    pub after: u64,
    /// The first entry left, if any.
    pub first_left: Option<EventId>,
    /// How many entries the server says were removed; `None` on a server before 7.0, which does not count.
    pub removed: Option<u64>,
}

impl fmt::Display for Gap {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the window starts at {} but ", format_rfc3339(self.after))?;
        match self.first_left {
            Some(first) => write!(formatter, "the first entry left in the stream is {first}")?,
            None => formatter.write_str("no entry is left in the stream")?,
        }
        match self.removed {
            Some(removed) => write!(formatter, " and {removed} entries were removed"),
            None => formatter
                .write_str(" and this server (before Redis 7.0) does not say whether entries were removed"),
        }
    }
}

/// An open source of events.
pub struct Source {
    inner: Inner,
    /// Ids from here on are not read.
    before: EventId,
}

enum Inner {
    Capture { name: String, reader: Box<dyn BufRead> },
    Redis(Box<RedisStream>),
}

impl Source {
    /// Opens `spec`; `stream` is the key to read on a Redis server.
    ///
    /// # Errors
    /// The file cannot be opened, or the server cannot be reached or refuses the login.
    pub fn open(spec: &SourceSpec, stream: &str) -> anyhow::Result<Self> {
        let inner = match spec {
            SourceSpec::File(path) => {
                let file = File::open(path)
                    .with_context(|| format!("cannot open the capture {}", path.display()))?;
                let reader = Box::new(BufReader::with_capacity(1 << 16, file));
                Inner::Capture { name: path.display().to_string(), reader }
            }
            SourceSpec::Stdin => {
                Inner::Capture { name: "on stdin".to_owned(), reader: Box::new(BufReader::new(io::stdin())) }
            }
            SourceSpec::Redis(address) => Inner::Redis(Box::new(RedisStream::connect(address, stream)?)),
        };
        Ok(Self { inner, before: EventId::MAX })
    }

    /// The same source, as if it ended before `ms` (Unix ms).
    #[must_use]
    pub fn until(self, ms: u64) -> Self {
        Self { before: EventId { ms, seq: 0 }, ..self }
    }

    /// Hands every item of `window` to `on_item`, oldest first, and stops at its first error.
    ///
    /// Memory is bounded: one page of a Redis stream; of a capture one line, or the newest N events if so asked.
    /// On a live stream the window ends at the entry that was last when the reading began.
    ///
    /// # Errors
    /// What could not be read, or the error of `on_item`.
    pub fn for_each(
        self,
        window: &Window<'_>,
        mut on_item: impl FnMut(Item) -> anyhow::Result<()>,
    ) -> anyhow::Result<Reading> {
        match self.inner {
            Inner::Capture { name, mut reader } => {
                capture::for_each(&mut *reader, &name, window, self.before, &mut on_item)
            }
            Inner::Redis(mut stream) => stream.for_each(window, self.before, &mut on_item),
        }
    }
}
