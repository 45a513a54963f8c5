//! Reading a window of events, wherever they are.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek as _};
use std::num::NonZeroUsize;
use std::path::Path;

use anyhow::Context as _;

use super::address::SourceSpec;
use super::capture;
use super::event::{EventId, Item};
use super::redis::{LinkOptions, RedisStream};
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
    /// Entries that were ever added to the stream, when the reading began; only servers since Redis 7.0 count.
    pub entries_added: Option<u64>,
    /// The first entry ever added: known where none was removed since.
    pub oldest: Option<EventId>,
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

/// The newest events of a capture are kept until its end is seen; more than this many are rather read twice.
const KEPT: usize = 20_000;

enum Inner {
    /// `again` is the same open file, if it can be read a second time.
    Capture {
        name: String,
        reader: Box<dyn BufRead>,
        again: Option<File>,
    },
    Redis(Box<RedisStream>),
}

impl Source {
    /// Opens `spec`; `stream` is the key to read on a Redis server, spoken to as `options` say.
    ///
    /// # Errors
    /// The file cannot be opened, or the server cannot be reached or refuses the login.
    pub fn open(spec: &SourceSpec, stream: &str, options: &LinkOptions) -> anyhow::Result<Self> {
        let inner = match spec {
            SourceSpec::File(path) => {
                let (reader, regular) = open_capture(path)?;
                let again = match regular {
                    true => Some(
                        reader
                            .get_ref()
                            .try_clone()
                            .with_context(|| format!("cannot open the capture {}", path.display()))?,
                    ),
                    false => None,
                };
                Inner::Capture { name: path.display().to_string(), reader: Box::new(reader), again }
            }
            SourceSpec::Stdin => {
                let reader = Box::new(BufReader::new(io::stdin()));
                Inner::Capture { name: "on stdin".to_owned(), reader, again: None }
            }
            SourceSpec::Redis(address) => {
                Inner::Redis(Box::new(RedisStream::connect(address, stream, options)?))
            }
        };
        Ok(Self { inner, before: EventId::MAX })
    }

    /// The same source, as if it ended before `ms` (Unix ms).
    #[must_use]
    pub fn until(self, ms: u64) -> Self {
        Self { before: EventId { ms, seq: 0 }, ..self }
    }

    /// How many items `window` has at most; `None` where that is only known at the end.
    ///
    /// # Errors
    /// The server does not answer.
    pub fn most(&mut self, window: &Window<'_>) -> anyhow::Result<Option<u64>> {
        match &mut self.inner {
            Inner::Capture { .. } => Ok(None),
            Inner::Redis(stream) => {
                let newest = window.newest.map_or(u64::MAX, |newest| newest.get() as u64);
                Ok(Some(stream.length()?.min(newest)))
            }
        }
    }

    /// Hands every item of `window` to `on_item`, oldest first, and stops at its first error.
    ///
    /// Memory is bounded: a few pages of a Redis stream; of a capture one line, or the newest N events if so asked, of a
    /// file at most 20 000.
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
            Inner::Capture { name, mut reader, again } => {
                let read = |reader: &mut dyn BufRead, window: &Window<'_>, on_item: OnItem<'_>| {
                    capture::for_each(reader, &name, window, self.before, on_item)
                };
                let all = Window { newest: None, ..*window };
                let twice = window.newest.map(NonZeroUsize::get).filter(|&newest| newest > KEPT).zip(again);
                let Some((newest, mut file)) = twice else {
                    return read(&mut *reader, window, &mut on_item);
                };
                let mut count = 0;
                read(&mut *reader, &all, &mut |_| {
                    count += 1;
                    Ok(())
                })?;
                // What was written to the file meanwhile is not looked at.
                let mut index = 0;
                let wanted = usize::saturating_sub(count, newest)..count;
                file.rewind().with_context(|| format!("cannot read the capture {name} again"))?;
                read(&mut BufReader::new(file), &all, &mut |item| {
                    index += 1;
                    if wanted.contains(&(index - 1)) { on_item(item) } else { Ok(()) }
                })
            }
            Inner::Redis(mut stream) => stream.for_each(window, self.before, &mut on_item),
        }
    }
}

type OnItem<'call> = &'call mut dyn FnMut(Item) -> anyhow::Result<()>;

/// A capture file, and whether it is one that can be read again.
fn open_capture(path: &Path) -> anyhow::Result<(BufReader<File>, bool)> {
    let cannot = || format!("cannot open the capture {}", path.display());
    let file = File::open(path).with_context(cannot)?;
    let regular = file.metadata().with_context(cannot)?.is_file();
    Ok((BufReader::with_capacity(1 << 16, file), regular))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_newest_events_of_a_file_are_those_of_a_pipe() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("capture.jsonl");
        let line = |id: usize| {
            format!(
                "{{\"id\":\"{id}-0\",\"fields\":{{\"event_type\":\"trade.intent\",\"payload\":\"{{}}\"}}}}\n"
            )
        };
        let mut text: String = (1..=KEPT + 10).map(line).collect();
        text.push_str("no capture line\n");
        text.push_str(&line(KEPT + 11).replace("trade.intent", "market.ticks"));
        std::fs::write(&path, text).unwrap();
        for newest in [KEPT - 1, KEPT, KEPT + 1, KEPT + 11, KEPT + 12, 2 * KEPT] {
            let newest = NonZeroUsize::new(newest);
            let window = Window { after: Some(5), newest, event_types: &["trade.intent"] };
            let read = |again: bool| {
                let mut source =
                    Source::open(&SourceSpec::File(path.clone()), "", &LinkOptions::default()).unwrap();
                if let (Inner::Capture { again: path, .. }, false) = (&mut source.inner, again) {
                    *path = None;
                }
                let mut items = Vec::new();
                let reading = source.for_each(&window, |item| {
                    items.push(item);
                    Ok(())
                });
                (items, reading.unwrap())
            };
            assert!(read(true) == read(false), "{newest:?}");
        }
    }
}
