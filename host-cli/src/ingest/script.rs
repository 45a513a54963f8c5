//! The two scripts that change anything: one takes the lease, one settles a batch.

use redis::{Cmd, Value};

use super::reply;
use crate::stream::{Event, EventId};

/// Takes the lease.
pub(super) const LEASE: &str = include_str!("lease.lua");
/// Settles a batch.
pub(super) const SETTLE: &str = include_str!("settle.lua");

/// What the lease script answers.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Lease {
    /// It is ours. `before` held it last, if anybody did.
    Taken {
        /// Token of who held it before; ours if it was never lost.
        before: String,
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
                before: next()?,
                last: next()?.parse().ok(),
                seen: next()?.parse().ok(),
                workers: next()?.parse().ok()?,
                wanted: next()? == "1",
            },
            "0" => Self::Held { by: next()?, left_ms: next()?.parse().ok()?, workers: next()?.parse().ok()? },
            _ => Self::Free { workers: next()?.parse().ok()? },
        })
    }
}

/// What the settling script answers.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Settled {
    /// Entries that were pending and are settled.
    pub(super) entries: u64,
    /// The oldest entry that was pending before.
    pub(super) oldest: Option<EventId>,
}

impl Settled {
    /// Reads the answer; `None` if it is none.
    pub(super) fn read(answer: Value) -> Option<Self> {
        let mut values = reply::array(answer)?.into_iter();
        let entries = reply::number(&values.next()?)?;
        let oldest = reply::text(values.next()?)?;
        Some(Self { entries, oldest: oldest.parse().ok() })
    }
}

/// What is the same in every batch.
pub(super) struct Terms<'a> {
    /// `EVALSHA` or `EVAL`.
    pub(super) command: &'a str,
    /// SHA-1 or text of the settling script.
    pub(super) script: &'a str,
    pub(super) keys: [&'a str; 4],
    pub(super) token: &'a str,
    pub(super) term_ms: u64,
    pub(super) group: &'a str,
    pub(super) consumer: &'a str,
    /// 0: intents are never trimmed.
    pub(super) intents_maxlen: u64,
}

/// A batch in the making: the call of the settling script.
pub(super) struct Batch {
    call: Cmd,
    entries: u64,
    first: Option<EventId>,
    last: Option<EventId>,
}

impl Batch {
    /// An empty batch.
    pub(super) fn new(terms: &Terms<'_>) -> Self {
        let mut call = redis::cmd(terms.command);
        call.arg(terms.script).arg(terms.keys.len()).arg(&terms.keys);
        call.arg(terms.token)
            .arg(terms.term_ms)
            .arg(terms.group)
            .arg(terms.consumer)
            .arg(terms.intents_maxlen);
        Self { call, entries: 0, first: None, last: None }
    }

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
        self.call.arg("event_type").arg(&intent.event_type).arg("payload").arg(&intent.payload);
        for (name, value) in present {
            self.call.arg(name).arg(value);
        }
    }

    /// The entry cannot be decided.
    pub(super) fn dead(&mut self, id: EventId, reason: &str) {
        self.entry(id, "dead", 1);
        self.call.arg(reason);
    }

    /// The entry is never to be fed to the models again.
    pub(super) fn poison(&mut self, id: EventId, reason: &str) {
        self.entry(id, "poison", 1);
        self.call.arg(reason);
    }

    /// The entry is no feature event.
    pub(super) fn none(&mut self, id: EventId) {
        self.entry(id, "none", 0);
    }

    fn entry(&mut self, id: EventId, kind: &str, arguments: usize) {
        self.call.arg(id.to_string()).arg(kind).arg(arguments);
        self.entries += 1;
        self.first = self.first.or(Some(id));
        self.last = Some(id);
    }

    /// The finished call; `beyond` is the last entry settled before it.
    pub(super) fn call(mut self, beyond: EventId) -> Call {
        let advances = self.first.is_some_and(|first| first > beyond);
        self.call.arg(u8::from(advances));
        Call {
            bytes: self.call.get_packed_command(),
            entries: self.entries,
            last: self.last.filter(|_| advances),
        }
    }
}

/// A call of the settling script, ready to be sent, and sent again where the server has refused it.
pub(super) struct Call {
    pub(super) bytes: Vec<u8>,
    pub(super) entries: u64,
    /// How far the stream is settled afterwards; `None` if no farther than before.
    pub(super) last: Option<EventId>,
}
