//! The scripts that change anything: one takes the lease, one settles a batch, one claims what is pending, one does whatever
//! else only the holder of the lease may do.

use std::str::FromStr;

use redis::Value;

use super::reply;
use crate::stream::{Event, EventId};

/// Takes the lease.
pub(super) const LEASE: &str = include_str!("lease.lua");
/// Does one command for the holder of the lease.
pub(super) const FENCED: &str = include_str!("fenced.lua");
/// Claims pending entries.
pub(super) const CLAIM: &str = include_str!("claim.lua");
/// Settles a batch.
pub(super) const SETTLE: &str = include_str!("settle.lua");

/// What the lease script answers.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Lease {
    /// It is ours.
    Taken {
        /// Another process held it last.
        taken_over: bool,
        /// The last entry that was settled.
        last: Option<EventId>,
        /// How many entries of the stream were accounted for, counted from its first one ever.
        seen: Option<u64>,
        /// Workers that would own it.
        workers: u32,
        /// One of the others has room for it.
        wanted: bool,
    },
    /// It is another's.
    Held {
        /// Name of its consumer.
        by: String,
        /// What is left of its term in ms.
        left_ms: u64,
        /// Workers that would own it.
        workers: u32,
    },
    /// It is nobody's, and was not asked for.
    Free {
        /// Workers that would own it.
        workers: u32,
    },
}

impl Lease {
    /// Reads the answer; `None` if it is none.
    pub(super) fn read(answer: Value) -> Option<Self> {
        let mut texts = reply::array(answer)?.into_iter().map(reply::text);
        let mut next = || texts.next().flatten();
        Some(match next()?.as_str() {
            "1" => Self::Taken {
                taken_over: next()? == "1",
                last: unless_empty(&next()?)?,
                seen: unless_empty(&next()?)?,
                workers: next()?.parse().ok()?,
                wanted: next()? == "1",
            },
            "0" => Self::Held { by: next()?, left_ms: next()?.parse().ok()?, workers: next()?.parse().ok()? },
            _ => Self::Free { workers: next()?.parse().ok()? },
        })
    }
}

/// Nothing where the text is empty; an answer that cannot be read is none.
fn unless_empty<T: FromStr>(text: &str) -> Option<Option<T>> {
    if text.is_empty() { Some(None) } else { text.parse().ok().map(Some) }
}

/// What the settling script answers.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Settled {
    /// So many entries were pending and are settled.
    Entries(u64),
    /// The batch was empty: the oldest entry that is pending.
    Oldest(Option<EventId>),
}

impl Settled {
    /// Reads the answer; `None` if it is none.
    pub(super) fn read(answer: Value) -> Option<Self> {
        match reply::number(&answer) {
            Some(entries) => Some(Self::Entries(entries)),
            None => Some(Self::Oldest(unless_empty(&reply::text(answer)?)?)),
        }
    }

    /// Entries that are settled.
    pub(super) const fn entries(&self) -> u64 {
        match self {
            Self::Entries(entries) => *entries,
            Self::Oldest(_) => 0,
        }
    }
}

/// What a call of the settling script says besides its entries.
pub(super) struct Terms<'a> {
    /// `EVALSHA` or `EVAL`.
    pub(super) command: &'a str,
    /// SHA-1 or text of the settling script.
    pub(super) script: &'a str,
    pub(super) keys: [&'a str; 4],
    pub(super) token: &'a str,
    pub(super) group: &'a str,
    /// 0: intents are never trimmed.
    pub(super) intents_maxlen: u64,
    /// The lease's term from now on, in ms; 0 ends it, `None` leaves it as it is.
    pub(super) term_ms: Option<u64>,
    /// Entries of the stream accounted for.
    pub(super) seen: Option<u64>,
    /// The last entry settled.
    pub(super) settled: EventId,
}

/// Room that is left behind a call, for its first line and for the read that goes with it.
const SPARE: usize = 256;

/// Arguments of a command as the protocol has them.
#[derive(Default)]
struct Arguments {
    bytes: Vec<u8>,
    count: usize,
}

impl Arguments {
    fn push(&mut self, argument: &[u8]) {
        length(&mut self.bytes, b'$', argument.len());
        self.bytes.extend_from_slice(argument);
        self.bytes.extend_from_slice(b"\r\n");
        self.count += 1;
    }

    fn number(&mut self, number: u64) {
        self.push(itoa::Buffer::new().format(number).as_bytes());
    }

    fn optional(&mut self, number: Option<u64>) {
        match number {
            Some(number) => self.number(number),
            None => self.push(b""),
        }
    }

    fn id(&mut self, id: EventId) {
        self.push(id.spell(&mut [0; EventId::LONGEST]));
    }
}

/// The line that says how much of something follows.
fn length(bytes: &mut Vec<u8>, kind: u8, length: usize) {
    bytes.push(kind);
    bytes.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
    bytes.extend_from_slice(b"\r\n");
}

/// What entries became, in the order of the stream: the arguments of the settling script that are theirs.
#[derive(Default)]
pub(super) struct Batch {
    arguments: Arguments,
    entries: u64,
    first: Option<EventId>,
    last: Option<EventId>,
}

impl Batch {
    /// Entries in it.
    pub(super) const fn len(&self) -> u64 {
        self.entries
    }

    /// The entry became this intent.
    pub(super) fn intent(&mut self, intent: &Event) {
        let optional =
            [("trace_id", &intent.trace_id), ("timestamp", &intent.timestamp), ("source", &intent.source)];
        let present = optional.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?)));
        let fields = 2 + present.clone().count();
        self.entry(intent.id, "intent", 2 * fields);
        let always = [("event_type", intent.event_type.as_str()), ("payload", &intent.payload)];
        for (name, value) in always.into_iter().chain(present) {
            self.arguments.push(name.as_bytes());
            self.arguments.push(value.as_bytes());
        }
    }

    /// The entry cannot be decided.
    pub(super) fn dead(&mut self, id: EventId, reason: &str) {
        self.entry(id, "dead", 1);
        self.arguments.push(reason.as_bytes());
    }

    /// The entry is never to be fed to the models again.
    pub(super) fn poison(&mut self, id: EventId, reason: &str) {
        self.entry(id, "poison", 1);
        self.arguments.push(reason.as_bytes());
    }

    /// The entry is no feature event.
    pub(super) fn none(&mut self, id: EventId) {
        self.entry(id, "none", 0);
    }

    fn entry(&mut self, id: EventId, kind: &str, arguments: usize) {
        self.arguments.id(id);
        self.arguments.push(kind.as_bytes());
        self.arguments.number(arguments as u64);
        self.entries += 1;
        self.first = self.first.or(Some(id));
        self.last = Some(id);
    }

    /// The last entry of the stream that is settled once this is; `None` if it was before.
    pub(super) fn advances_to(&self, settled: EventId) -> Option<EventId> {
        self.last.filter(|_| self.first.is_some_and(|first| first > settled))
    }

    /// The call that settles it.
    pub(super) fn call(&self, terms: &Terms<'_>) -> Vec<u8> {
        let mut head = Arguments::default();
        for word in [terms.command, terms.script] {
            head.push(word.as_bytes());
        }
        head.number(terms.keys.len() as u64);
        for word in terms.keys.into_iter().chain([terms.token, terms.group]) {
            head.push(word.as_bytes());
        }
        head.number(terms.intents_maxlen);
        head.optional(terms.term_ms);
        let advances = self.advances_to(terms.settled);
        // What is settled was accounted for then.
        head.optional(terms.seen.filter(|_| advances.is_some()));
        match advances {
            Some(_) => head.push(format!("({}", terms.settled).as_bytes()),
            None => head.push(b""),
        }
        let Arguments { bytes, count } = &self.arguments;
        let mut call = Vec::with_capacity(head.bytes.len() + bytes.len() + SPARE);
        length(&mut call, b'*', head.count + count);
        call.extend_from_slice(&head.bytes);
        call.extend_from_slice(bytes);
        call
    }
}
