//! Proof that every feature event has exactly one intent, or one dead letter that says why it has none.
//!
//! The three streams are read side by side, oldest first: intents and dead letters come in the order of their events, so
//! only what breaks that order is kept in memory. Events not settled yet are counted apart. Each stream is read up to where it
//! ended at the start, so a worker may go on meanwhile.

use std::collections::{BTreeMap, HashMap, VecDeque};

use anyhow::{Context as _, anyhow, ensure};
use serde::Serialize;

use super::keys::Keys;
use super::reply::{self, Entry};
use crate::stream::{EventId, Json, Link, MARKET_FEATURES, TRADE_INTENT, entry_item};

/// Entries read at once.
const PAGE: usize = 500;
/// Ids named of each fault.
const NAMED: usize = 10;

/// What the streams say about each other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Proof {
    /// Feature events that are settled, and entries that are no readable events.
    pub events: u64,
    /// Of them, those with exactly one intent.
    pub intents: u64,
    /// Those with exactly one dead letter instead.
    pub dead: u64,
    /// Those with neither.
    pub missing: u64,
    /// Those with more than one of both together.
    pub doubled: u64,
    /// Intents and dead letters whose event is not in the stream, though older ones are, or that come once more after those of
    /// later events.
    pub invented: u64,
    /// Intents and dead letters of events that were trimmed away.
    pub trimmed: u64,
    /// Intents that stand behind one of a later event.
    pub disordered: u64,
    /// Intents that name no event: other writers'.
    pub foreign: u64,
    /// Events that are not settled yet.
    pub waiting: u64,
    /// The last event settled.
    pub settled: Option<String>,
    /// Some of the events with a fault.
    pub examples: Vec<String>,
}

impl Proof {
    /// Whether nothing is missing, doubled or invented.
    #[must_use]
    pub const fn holds(&self) -> bool {
        self.missing == 0 && self.doubled == 0 && self.invented == 0
    }

    fn name(&mut self, id: EventId, fault: &str) {
        if self.examples.len() < NAMED {
            self.examples.push(format!("{id} {fault}"));
        }
    }
}

/// One stream, read forwards up to where it ended.
struct Cursor<'a> {
    key: &'a str,
    from: String,
    /// The last entry to be read; `None` where there is no more.
    end: Option<EventId>,
    page: VecDeque<Entry>,
}

impl<'a> Cursor<'a> {
    fn up_to(end: EventId, key: &'a str) -> Self {
        Self { key, from: "-".to_owned(), end: Some(end), page: VecDeque::new() }
    }

    /// Up to where it ends now; nothing where there is no such stream.
    fn up_to_now(key: &'a str, link: &mut Link) -> anyhow::Result<Self> {
        let mut newest = redis::cmd("XREVRANGE");
        newest.arg(key).arg("+").arg("-").arg("COUNT").arg(1);
        let answer =
            link.query(&newest).map_err(|trouble| anyhow!("cannot read the stream {key}: {trouble}"))?;
        let newest = reply::entries(answer).with_context(|| format!("{key} holds no stream entries"))?;
        Ok(Self::up_to(newest.first().map_or(EventId::default(), |(id, _)| *id), key))
    }

    fn next(&mut self, link: &mut Link) -> anyhow::Result<Option<Entry>> {
        if self.page.is_empty()
            && let Some(end) = self.end
        {
            let mut page = redis::cmd("XRANGE");
            page.arg(self.key).arg(&self.from).arg(end.to_string()).arg("COUNT").arg(PAGE);
            let answer = link
                .query(&page)
                .map_err(|trouble| anyhow!("cannot read the stream {}: {trouble}", self.key))?;
            self.page = reply::entries(answer)
                .with_context(|| format!("{} holds no stream entries", self.key))?
                .into();
            match self.page.back() {
                Some((last, _)) if *last < end => self.from = format!("({last}"),
                _ => self.end = None,
            }
        }
        Ok(self.page.pop_front())
    }
}

/// Intents or dead letters, by the event they came from.
struct Outcomes<'a> {
    cursor: Cursor<'a>,
    source: fn(EventId, Vec<Vec<u8>>, &str) -> Option<EventId>,
    /// The next one.
    next: Option<EventId>,
    latest: EventId,
}

impl Outcomes<'_> {
    /// Hands every outcome of events up to `event` to `on_outcome`, as far as they come in order.
    fn up_to(
        &mut self,
        event: EventId,
        group: &str,
        link: &mut Link,
        proof: &mut Proof,
        on_outcome: &mut dyn FnMut(EventId),
    ) -> anyhow::Result<()> {
        loop {
            let source = match self.next.take() {
                Some(source) => source,
                None => match self.cursor.next(link)? {
                    None => return Ok(()),
                    Some((id, fields)) => {
                        let Some(source) = (self.source)(id, fields, group) else {
                            proof.foreign += 1;
                            continue;
                        };
                        proof.disordered += u64::from(source < self.latest);
                        self.latest = self.latest.max(source);
                        source
                    }
                },
            };
            if source > event {
                self.next = Some(source);
                return Ok(());
            }
            on_outcome(source);
        }
    }
}

/// The last id the stream of events has given.
fn end_of(link: &mut Link, features: &str) -> anyhow::Result<EventId> {
    let mut info = redis::cmd("XINFO");
    info.arg("STREAM").arg(features);
    let info = link.query(&info).map_err(|trouble| match trouble.is_missing_key() {
        true => anyhow!("there is no stream {features}; name another with --stream"),
        false => anyhow!("cannot read the stream {features}: {trouble}"),
    })?;
    reply::fields(info)
        .and_then(|fields| reply::id(reply::field(&fields, "last-generated-id")?))
        .with_context(|| {
            format!("XINFO STREAM {features} does not say where it ends; Redis 7.0 or later is needed")
        })
}

/// Reads the three streams.
///
/// # Errors
/// One of them cannot be read, or nothing says what is settled.
pub fn prove(link: &mut Link, keys: &Keys, group: &str) -> anyhow::Result<Proof> {
    // What is added from here on is not read, though its intent may be.
    let end = end_of(link, &keys.features)?;
    let mut owner = redis::cmd("HGETALL");
    owner.arg(&keys.owner);
    let owner: HashMap<String, String> =
        link.query(&owner).map_err(|trouble| anyhow!("cannot read {}: {trouble}", keys.owner))?;
    ensure!(
        !owner.is_empty(),
        "nothing says what the group {group} has settled, for there is no {}; name another with --stream or --group",
        keys.owner
    );
    let settled = owner.get("last").cloned();
    // Without it nothing is settled yet.
    let last: EventId = match &settled {
        Some(last) => last.parse().map_err(|error| anyhow!("{}: last: {error}", keys.owner))?,
        None => EventId::default(),
    };
    let mut proof = Proof { settled, ..Proof::default() };

    let mut features = Cursor::up_to(end, &keys.features);
    let mut intents = Outcomes {
        cursor: Cursor::up_to_now(&keys.intents, link)?,
        source: of_intent,
        next: None,
        latest: EventId::default(),
    };
    let mut dead = Outcomes {
        cursor: Cursor::up_to_now(&keys.dead, link)?,
        source: of_dead_letter,
        next: None,
        latest: EventId::default(),
    };
    // How many intents and dead letters an event has that is not judged yet, or was judged to have none.
    let mut open: BTreeMap<EventId, (u64, u64)> = BTreeMap::new();
    let mut missing: BTreeMap<EventId, ()> = BTreeMap::new();
    let mut first = None;
    loop {
        let entry = features.next(link)?;
        let event = match &entry {
            Some((id, _)) => *id,
            None => EventId::MAX,
        };
        first = first.or(Some(event));
        let oldest = first.unwrap_or_default();
        let mut late = Vec::new();
        for (outcomes, which) in [(&mut intents, 0), (&mut dead, 1)] {
            let mut trimmed = 0;
            outcomes.up_to(event, group, link, &mut proof, &mut |source| {
                if source > end {
                    // Its event is not read.
                } else if source < oldest {
                    trimmed += 1;
                } else if missing.remove(&source).is_some() {
                    late.push((source, which));
                } else {
                    let of = open.entry(source).or_default();
                    if which == 0 { of.0 += 1 } else { of.1 += 1 }
                }
            })?;
            proof.trimmed += trimmed;
        }
        for (_, which) in late {
            proof.missing -= 1;
            if which == 0 { proof.intents += 1 } else { proof.dead += 1 }
        }
        // What is left of older events belongs to none that is in the stream, or comes again to one that is judged.
        let newer = open.split_off(&event);
        for (source, _) in std::mem::replace(&mut open, newer) {
            proof.invented += 1;
            proof.name(source, "has an intent or dead letter too many, or is no event of the stream");
        }
        let Some((id, fields)) = entry else { break };
        let of = open.remove(&id).unwrap_or_default();
        let is_event = entry_item(id, fields, &[MARKET_FEATURES]).is_some();
        if !is_event && of == (0, 0) {
            continue;
        }
        if id > last && of == (0, 0) {
            proof.waiting += 1;
            continue;
        }
        proof.events += 1;
        match of {
            (1, 0) => proof.intents += 1,
            (0, 1) => proof.dead += 1,
            (0, 0) => {
                proof.missing += 1;
                missing.insert(id, ());
            }
            _ => {
                proof.doubled += 1;
                proof.name(id, "is doubled");
            }
        }
    }
    for id in missing.into_keys() {
        proof.name(id, "has neither intent nor dead letter");
    }
    Ok(proof)
}

pub(super) fn of_intent(id: EventId, fields: Vec<Vec<u8>>, _: &str) -> Option<EventId> {
    let event = entry_item(id, fields, &[TRADE_INTENT])?.ok()?;
    Json::parse(&event.payload).ok()?.get("source_id")?.as_str()?.parse().ok()
}

/// Dead letters of another group are none of ours.
pub(super) fn of_dead_letter(_: EventId, fields: Vec<Vec<u8>>, group: &str) -> Option<EventId> {
    let value = |name: &[u8]| {
        let pair = fields.chunks_exact(2).find(|pair| pair[0] == name)?;
        std::str::from_utf8(&pair[1]).ok()
    };
    (value(b"group")? == group).then(|| value(b"source_id")?.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_letter_belongs_to_its_group() {
        let letter = |group: &str| {
            ["source_id", "5-1", "group", group, "reason", "x"].map(|text| text.as_bytes().to_vec()).to_vec()
        };
        let id = EventId::default();
        assert_eq!(of_dead_letter(id, letter("g"), "g"), Some(EventId { ms: 5, seq: 1 }));
        assert_eq!(of_dead_letter(id, letter("h"), "g"), None);
    }

    #[test]
    fn only_intents_with_a_source_count() {
        let fields = |payload: &str| {
            ["event_type", "trade.intent", "payload", payload].map(|text| text.as_bytes().to_vec()).to_vec()
        };
        let id = EventId::default();
        assert_eq!(of_intent(id, fields(r#"{"source_id":"7-0"}"#), ""), Some(EventId { ms: 7, seq: 0 }));
        assert_eq!(of_intent(id, fields("{}"), ""), None);
    }

    #[test]
    fn an_item_is_not_asked_for_more_than_it_is() {
        let item = entry_item(EventId::default(), Vec::new(), &[MARKET_FEATURES]);
        assert!(item.is_some_and(|item| item.is_err()), "an entry without fields must be accounted for");
    }
}
