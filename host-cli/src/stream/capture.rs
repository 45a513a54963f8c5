//! Capture files: one event per line.

use std::collections::VecDeque;
use std::io::{self, BufRead};

use anyhow::Context as _;

use super::event::{EventId, Item, LineIn, Malformed, RawFields};
use super::source::{Reading, Window};

/// Longest line read, in bytes. Redis itself takes larger values, but no event is this large.
const MAX_LINE: usize = 16 << 20;
/// Unreadable lines kept back until their place is known; more than that in a row count as in the window.
const MAX_PENDING: usize = 10_000;

/// Reads a capture from its beginning to its end. `name` completes the sentence "cannot read the capture …".
pub(super) fn for_each(
    reader: &mut dyn BufRead,
    name: &str,
    window: &Window<'_>,
    before: EventId,
    on_item: &mut dyn FnMut(Item) -> anyhow::Result<()>,
) -> anyhow::Result<Reading> {
    let mut selection = Selection {
        window,
        before,
        last_id: None,
        pending: Vec::new(),
        newest: VecDeque::new(),
        other_types: 0,
        on_item,
    };
    let mut line = Vec::new();
    let mut number = 0;
    loop {
        let ending =
            read_line(reader, &mut line).with_context(|| format!("cannot read the capture {name}"))?;
        if ending == Ending::EndOfFile {
            return selection.finish();
        }
        number += 1;
        if ending == Ending::TooLong {
            selection.unreadable(number, format!("the line is longer than {} MiB", MAX_LINE >> 20))?;
            continue;
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        match parse_line(&line) {
            Ok((id, fields)) => selection.entry(number, id, fields)?,
            Err(error) if ending == Ending::Torn => {
                selection.unreadable(number, format!("the last line is cut off ({error})"))?;
            }
            Err(error) => selection.unreadable(number, error)?,
        }
    }
}

#[derive(PartialEq, Eq)]
enum Ending {
    /// A whole line.
    Newline,
    /// The last line, without its line end.
    Torn,
    /// A line beyond [`MAX_LINE`], skipped.
    TooLong,
    EndOfFile,
}

/// Reads the next line into `line`, without more than `MAX_LINE` bytes in memory.
fn read_line(reader: &mut dyn BufRead, line: &mut Vec<u8>) -> io::Result<Ending> {
    line.clear();
    let mut reader = reader;
    let read = io::Read::take(&mut reader, MAX_LINE as u64 + 1).read_until(b'\n', line)?;
    Ok(match line.last() {
        None => Ending::EndOfFile,
        Some(b'\n') => Ending::Newline,
        Some(_) if read > MAX_LINE => {
            line.clear();
            reader.skip_until(b'\n')?;
            Ending::TooLong
        }
        Some(_) => Ending::Torn,
    })
}

fn parse_line(line: &[u8]) -> Result<(EventId, RawFields<'_>), String> {
    let line: LineIn<'_> =
        serde_json::from_slice(line).map_err(|error| format!("no capture line: {error}"))?;
    Ok((line.id.parse()?, line.fields.into()))
}

/// Decides which lines are in the window, and hands them on.
struct Selection<'call> {
    window: &'call Window<'call>,
    before: EventId,
    last_id: Option<EventId>,
    /// Unreadable lines after an entry before the window: in the window unless another such entry follows.
    pending: Vec<Malformed>,
    newest: VecDeque<Item>,
    other_types: u64,
    on_item: &'call mut dyn FnMut(Item) -> anyhow::Result<()>,
}

impl Selection<'_> {
    fn entry(&mut self, line: u64, id: EventId, fields: RawFields<'_>) -> anyhow::Result<()> {
        let start = self.window.start();
        // Redis hands out strictly growing ids. Anything else is a file put together from several:
        // what is newest in it is unclear, and an event could count twice.
        if let Some(last) = self.last_id.filter(|last| id <= *last) {
            if last < start || last >= self.before {
                return Ok(());
            }
            let reason = format!("its id is not greater than {last}, the one before it");
            return self.select(Err(Malformed { id: Some(id), line: Some(line), reason }));
        }
        self.last_id = Some(id);
        if id < start {
            self.pending.clear();
            return Ok(());
        }
        if id >= self.before {
            return Ok(());
        }
        self.release_pending()?;
        match fields.into_item(id, Some(line), self.window.event_types) {
            Some(item) => self.select(item),
            None => {
                self.other_types += 1;
                Ok(())
            }
        }
    }

    /// A line whose id cannot be read: where it stands tells whether it is in the window.
    fn unreadable(&mut self, line: u64, reason: String) -> anyhow::Result<()> {
        let malformed = Malformed { id: None, line: Some(line), reason };
        let start = self.window.start();
        if self.last_id.is_some_and(|last| last >= self.before) {
            return Ok(());
        }
        if start == EventId::default() || self.last_id.is_some_and(|last| last >= start) {
            return self.select(Err(malformed));
        }
        self.pending.push(malformed);
        if self.pending.len() > MAX_PENDING { self.release_pending() } else { Ok(()) }
    }

    fn release_pending(&mut self) -> anyhow::Result<()> {
        std::mem::take(&mut self.pending).into_iter().try_for_each(|malformed| self.select(Err(malformed)))
    }

    fn select(&mut self, item: Item) -> anyhow::Result<()> {
        let Some(keep) = self.window.newest else {
            return (self.on_item)(item);
        };
        if self.newest.len() == keep.get() {
            self.newest.pop_front();
        }
        self.newest.push_back(item);
        Ok(())
    }

    fn finish(mut self) -> anyhow::Result<Reading> {
        self.release_pending()?;
        self.newest.into_iter().try_for_each(self.on_item)?;
        Ok(Reading { other_types: self.other_types, gap: None, entries_added: None, oldest: None })
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;

    const WINDOW: Window<'static> = Window { after: None, newest: None, event_types: &["trade.intent"] };

    fn line(id: u64) -> String {
        format!("{{\"id\":\"{id}-0\",\"fields\":{{\"event_type\":\"trade.intent\",\"payload\":\"{{}}\"}}}}\n")
    }

    /// Ids of the events, `?<line>` for what is malformed.
    fn read(text: &str, window: &Window<'_>) -> (Vec<String>, Reading) {
        let mut seen = Vec::new();
        let mut on_item = |item: Item| {
            seen.push(match item {
                Ok(event) => event.id.ms.to_string(),
                Err(malformed) => format!("?{}", malformed.line.unwrap()),
            });
            Ok(())
        };
        let reading = for_each(&mut text.as_bytes(), "test", window, EventId::MAX, &mut on_item).unwrap();
        (seen, reading)
    }

    #[test]
    fn a_cut_last_line_is_reported() {
        let text = line(1) + &line(2)[..30];
        let mut reasons = Vec::new();
        let mut on_item = |item: Item| {
            reasons.extend(item.err().map(|malformed| malformed.to_string()));
            Ok(())
        };
        for_each(&mut text.as_bytes(), "test", &WINDOW, EventId::MAX, &mut on_item).unwrap();
        assert_eq!(reasons.len(), 1);
        assert!(reasons[0].starts_with("line 2: the last line is cut off"), "{}", reasons[0]);
        assert_eq!(read(line(1).trim_end(), &WINDOW).0, ["1"], "a missing line end alone is no fault");
    }

    #[test]
    fn newest_and_after_select() {
        let text: String = (1..=9).map(line).collect();
        assert_eq!(read(&text, &Window { after: Some(7), ..WINDOW }).0, ["7", "8", "9"]);
        assert_eq!(read(&text, &Window { newest: NonZeroUsize::new(2), ..WINDOW }).0, ["8", "9"]);
        let window = Window { after: Some(8), newest: NonZeroUsize::new(5), ..WINDOW };
        assert_eq!(read(&text, &window).0, ["8", "9"]);
    }

    #[test]
    fn other_types_neither_count_nor_crowd_out() {
        let text = line(1) + &line(2).replace("trade.intent", "market.ticks") + &line(3);
        let (seen, reading) = read(&text, &Window { newest: NonZeroUsize::new(2), ..WINDOW });
        assert_eq!(seen, ["1", "3"]);
        assert_eq!(reading.other_types, 1);
    }

    #[test]
    fn unreadable_lines_count_where_they_may_belong_to_the_window() {
        let text = format!("x\n{}x\n{}x\n{}x\n", line(1), line(2), line(3));
        assert_eq!(read(&text, &WINDOW).0, ["?1", "1", "?3", "2", "?5", "3", "?7"]);
        assert_eq!(read(&text, &Window { after: Some(3), ..WINDOW }).0, ["?5", "3", "?7"]);
        assert_eq!(read(&text, &Window { after: Some(9), ..WINDOW }).0, ["?7"]);
    }

    #[test]
    fn ids_must_grow() {
        let text = line(2) + &line(2) + &line(1) + &line(3);
        assert_eq!(read(&text, &WINDOW).0, ["2", "?2", "?3", "3"]);
        assert_eq!(
            read(&text, &Window { after: Some(3), ..WINDOW }).0,
            ["3"],
            "disorder before the window is past"
        );
    }

    #[test]
    fn a_line_without_end_is_skipped_in_bounded_memory() {
        let mut text = line(1).into_bytes();
        text.resize(text.len() + MAX_LINE + 5, b'x');
        text.push(b'\n');
        text.extend(line(2).into_bytes());
        assert_eq!(read(std::str::from_utf8(&text).unwrap(), &WINDOW).0, ["1", "?2", "2"]);

        let (endless, mut held) = (vec![b'x'; 4 * MAX_LINE], Vec::new());
        assert!(read_line(&mut endless.as_slice(), &mut held).unwrap() == Ending::TooLong);
        assert!(held.capacity() < 2 * MAX_LINE, "{} bytes are held", held.capacity());
    }

    #[test]
    fn broken_fields_are_named() {
        let cases = [
            ("{}", "missing field `id`"),
            ("{\"id\":\"7\",\"fields\":{}}", "\"7\" is no stream id"),
            ("{\"id\":\"7-0\",\"fields\":{}}", "event_type is missing"),
            ("{\"id\":\"7-0\",\"fields\":{\"event_type\":\"trade.intent\"}}", "payload is missing"),
            (
                "{\"id\":\"7-0\",\"fields\":{\"event_type\":\"trade.intent\",\"payload\":{}}}",
                "invalid type: map",
            ),
            ("{\"id\":\"7-0\",\"fields\":{\"event_type\":\"a\",\"event_type\":\"b\"}}", "duplicate field"),
        ];
        for (text, expected) in cases {
            let mut found = String::new();
            let mut on_item = |item: Item| {
                found = item.unwrap_err().to_string();
                Ok(())
            };
            for_each(&mut format!("{text}\n").as_bytes(), "test", &WINDOW, EventId::MAX, &mut on_item)
                .unwrap();
            assert!(found.contains(expected), "{text}: {found}");
        }
    }
}
