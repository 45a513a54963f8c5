//! Streams of a Redis server, read in pages and never written.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::mpsc;
use std::thread;

use anyhow::{Context as _, anyhow};
use redis::{Cmd, FromRedisValue, Value};

use super::super::event::{EventId, Item, RawFields, capture_line};
use super::super::source::{Gap, Reading, Window};
use super::{Link, LinkOptions, RedisAddress, Trouble};

/// Entries per page.
const PAGE: usize = 500;
/// Pages that wait for the one being judged; one more is being fetched.
const AHEAD: usize = 1;

/// A stream on an open connection.
pub(in crate::stream) struct RedisStream {
    link: Link,
}

/// What XINFO STREAM tells.
struct Info {
    length: u64,
    /// Since Redis 7.0.
    entries_added: Option<u64>,
    last_id: EventId,
    first_id: Option<EventId>,
}

/// Entries with their fields as they are, in one piece of memory: a page is made by one thread and given up by
/// another, and handing back every field by itself costs more than judging it.
#[derive(Default)]
struct Page {
    bytes: Vec<u8>,
    /// Where each field begins, names and values in turn; it ends where the next one begins.
    starts: Vec<usize>,
    /// Ids, and where in `starts` their fields begin.
    entries: Vec<(EventId, usize)>,
}

impl Page {
    fn push(&mut self, id: EventId, fields: &[Value]) -> Option<()> {
        self.entries.push((id, self.starts.len()));
        for field in fields {
            let Value::BulkString(field) = field else { return None };
            self.starts.push(self.bytes.len());
            self.bytes.extend_from_slice(field);
        }
        Some(())
    }

    /// The entries of an answer; `None` if it is in another form.
    fn read(answer: &Value) -> Option<Self> {
        let mut page = Self::default();
        for entry in answer.as_sequence()? {
            let [Value::BulkString(id), fields] = entry.as_sequence()? else { return None };
            page.push(std::str::from_utf8(id).ok()?.parse().ok()?, fields.as_sequence()?)?;
        }
        Some(page)
    }

    fn last(&self) -> Option<EventId> {
        self.entries.last().map(|(id, _)| *id)
    }

    fn field(&self, at: usize) -> &[u8] {
        let end = self.starts.get(at + 1).copied().unwrap_or(self.bytes.len());
        self.starts.get(at).and_then(|&start| self.bytes.get(start..end)).unwrap_or_default()
    }

    /// Every entry, with its fields, name and value.
    fn entries(&self) -> impl Iterator<Item = (EventId, impl Iterator<Item = (&[u8], &[u8])>)> {
        let ends = self.entries.iter().skip(1).map(|(_, start)| *start).chain([self.starts.len()]);
        self.entries.iter().zip(ends).map(|(&(id, start), end)| {
            let pairs = (start..end.saturating_sub(1)).step_by(2);
            (id, pairs.map(|at| (self.field(at), self.field(at + 1))))
        })
    }
}

/// What a dump of a stream came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dump {
    /// Entries read.
    pub entries: u64,
    /// Id of the first.
    pub first: Option<EventId>,
    /// Id of the last.
    pub last: Option<EventId>,
    /// Why entries asked for may be missing.
    pub gap: Option<Gap>,
}

impl Dump {
    /// Hands the newest `count` entries (0: all) since `after` (Unix ms) to `on_line` as capture lines, oldest first,
    /// whatever their type.
    ///
    /// # Errors
    /// The stream cannot be read, an entry is no text, or the error of `on_line`.
    pub fn of(
        address: &RedisAddress,
        key: &str,
        options: &LinkOptions,
        after: Option<u64>,
        count: u64,
        mut on_line: impl FnMut(&str) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        let mut stream = RedisStream::connect(address, key, options)?;
        let mut dump = Self { entries: 0, first: None, last: None, gap: None };
        let Some(info) = stream.info()? else {
            anyhow::bail!("Redis at {address} has no stream {key}; name another with --stream");
        };
        let newest = NonZeroUsize::new(usize::try_from(count).unwrap_or(usize::MAX));
        let window = Window { after, newest, event_types: &[] };
        let end = info.last_id.to_string();
        let start = match newest {
            Some(newest) => stream.start_of_newest(&window, &end, newest, info.length)?,
            None => window.start(),
        };
        stream.each_page(start, &end, |page| {
            page.entries().try_for_each(|(id, fields)| {
                let line = capture_line(id, fields).with_context(|| {
                    format!("the entry {id} of the stream {key} holds bytes that are no UTF-8 text, which a capture cannot hold")
                })?;
                dump.entries += 1;
                dump.first = dump.first.or(Some(id));
                dump.last = Some(id);
                on_line(&line)
            })
        })?;
        match after {
            Some(after) => dump.gap = stream.gap(after)?,
            // A writer may trim faster than this reads.
            None => anyhow::ensure!(
                dump.entries >= newest.map_or(info.length, |newest| info.length.min(newest.get() as u64)),
                "entries of the stream {key} were removed while it was read; capture it again"
            ),
        }
        Ok(dump)
    }
}

impl RedisStream {
    pub(in crate::stream) fn connect(
        address: &RedisAddress,
        key: &str,
        options: &LinkOptions,
    ) -> anyhow::Result<Self> {
        Ok(Self { link: Link::connect(address, key, options)? })
    }

    pub(in crate::stream) fn for_each(
        &mut self,
        window: &Window<'_>,
        before: EventId,
        on_item: &mut dyn FnMut(Item) -> anyhow::Result<()>,
    ) -> anyhow::Result<Reading> {
        let Some(info) = self.info()? else {
            return Ok(Reading::default());
        };
        // A live stream grows while it is read: the window ends where the stream ended at the beginning.
        let end = if info.last_id < before { info.last_id.to_string() } else { format!("({before}") };
        let start = match window.newest {
            Some(newest) => self.start_of_newest(window, &end, newest, info.length)?,
            None => window.start(),
        };
        let mut other_types = 0;
        self.each_page(start, &end, |page| {
            for (id, fields) in page.entries() {
                match RawFields::borrowed(fields).into_item(id, None, window.event_types) {
                    Some(item) => on_item(item)?,
                    None => other_types += 1,
                }
            }
            Ok(())
        })?;
        // Asked after the reading, so that what was trimmed meanwhile is seen too.
        let gap = match window.after {
            Some(after) => self.gap(after)?,
            None => None,
        };
        let oldest = info.first_id.filter(|_| info.entries_added == Some(info.length));
        Ok(Reading { other_types, gap, entries_added: info.entries_added, oldest })
    }

    /// Entries in the stream.
    pub(in crate::stream) fn length(&mut self) -> anyhow::Result<u64> {
        Ok(self.info()?.map_or(0, |info| info.length))
    }

    /// Hands every page from `start` to `end` to `on_page`, while the next one is being fetched.
    fn each_page(
        &mut self,
        start: EventId,
        end: &str,
        mut on_page: impl FnMut(&Page) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let (sender, pages) = mpsc::sync_channel(AHEAD);
        let fetch = move || {
            let mut from = start.to_string();
            loop {
                let page = self.page("XRANGE", &from, end);
                let last = page.as_ref().ok().and_then(Page::last);
                // Who does not listen any more has met an error of its own.
                let heard = sender.send(page).is_ok();
                let Some(last) = last.filter(|_| heard) else { return };
                from = format!("({last}");
            }
        };
        thread::scope(|scope| {
            let reader = thread::Builder::new().name("pages".to_owned());
            reader.spawn_scoped(scope, fetch).context("cannot start the reading thread")?;
            pages.into_iter().try_for_each(|page| on_page(&page?))
        })
    }

    /// The id at which the newest `newest` entries of the window begin, in a stream of `length` entries. Entries of
    /// types the window does not want do not count; without any it wants all.
    fn start_of_newest(
        &mut self,
        window: &Window<'_>,
        end: &str,
        newest: NonZeroUsize,
        length: u64,
    ) -> anyhow::Result<EventId> {
        let stop = window.start();
        if newest.get() as u64 >= length {
            return Ok(stop);
        }
        let mut found = 0;
        let mut to = end.to_owned();
        loop {
            let page = self.page("XREVRANGE", &to, &stop.to_string())?;
            let Some(last) = page.last() else { return Ok(stop) };
            to = format!("({last}");
            for (id, fields) in page.entries() {
                found += usize::from(RawFields::borrowed(fields).is_wanted(window.event_types));
                if found == newest.get() {
                    return Ok(id);
                }
            }
        }
    }

    fn page(&mut self, command: &'static str, from: &str, to: &str) -> anyhow::Result<Page> {
        let mut cmd = redis::cmd(command);
        cmd.arg(self.link.key()).arg(from).arg(to).arg("COUNT").arg(PAGE);
        Page::read(&self.query(&cmd)?).with_context(|| {
            format!("Redis at {} answered {command} in a form not known here", self.link.address())
        })
    }

    /// `None` if there is no such key: a stream nobody has written to yet.
    fn info(&mut self) -> anyhow::Result<Option<Info>> {
        let mut cmd = redis::cmd("XINFO");
        cmd.arg("STREAM").arg(self.link.key());
        let reply: HashMap<String, Value> = match self.link.query(&cmd) {
            Ok(reply) => reply,
            Err(trouble) if trouble.is_missing_key() => return Ok(None),
            Err(trouble) => return Err(self.explain(&trouble)),
        };
        let info = || -> Option<Info> {
            let number = |name| u64::from_redis_value_ref(reply.get(name)?).ok();
            let id = |value: &Value| String::from_redis_value_ref(value).ok()?.parse().ok();
            Some(Info {
                length: number("length")?,
                entries_added: number("entries-added"),
                last_id: id(reply.get("last-generated-id")?)?,
                first_id: match reply.get("first-entry")? {
                    Value::Array(entry) => Some(id(entry.first()?)?),
                    _ => None,
                },
            })
        };
        info().map(Some).with_context(|| {
            format!("Redis at {} answered XINFO STREAM in a form not known here", self.link.address())
        })
    }

    /// Whether entries at or after `after` may have been removed.
    fn gap(&mut self, after: u64) -> anyhow::Result<Option<Gap>> {
        let Some(info) = self.info()? else {
            // The key was there when the reading began.
            return Ok(Some(Gap { after, first_left: None, removed: None }));
        };
        let starts_later = info.first_id.is_none_or(|first| first > EventId { ms: after, seq: 0 });
        let removed = info.entries_added.map(|added| added.saturating_sub(info.length));
        let gap = Gap { after, first_left: info.first_id, removed };
        Ok((starts_later && removed != Some(0)).then_some(gap))
    }

    fn query<T: FromRedisValue>(&mut self, cmd: &Cmd) -> anyhow::Result<T> {
        self.link.query(cmd).map_err(|trouble| self.explain(&trouble))
    }

    /// One sentence on what went wrong and what to do, without secrets.
    fn explain(&self, trouble: &Trouble) -> anyhow::Error {
        let (address, key) = (self.link.address(), self.link.key());
        match trouble.code() {
            Some("NOPERM") => anyhow!(
                "Redis at {address} does not permit this user to read the stream {key} ({trouble}); allow the commands \
                 xrange, xrevrange and xinfo on that key"
            ),
            Some("WRONGTYPE") => {
                anyhow!("the key {key} of Redis at {address} is not a stream; name another with --stream")
            }
            _ => anyhow!(trouble.explain(address)),
        }
    }
}
