//! One event, and how a capture line spells it.

use std::borrow::Cow;
use std::fmt;
use std::io::Write as _;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Id of a stream entry: Unix milliseconds, then a sequence number; written `ms-seq`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId {
    /// Unix milliseconds.
    pub ms: u64,
    /// Number within the millisecond.
    pub seq: u64,
}

impl EventId {
    /// The largest id there is.
    pub const MAX: Self = Self { ms: u64::MAX, seq: u64::MAX };
    /// Bytes of the longest text of an id: two numbers of 20 digits.
    pub const LONGEST: usize = 41;

    /// Its text, as `Display` has it, without memory of its own.
    pub fn spell(self, memory: &mut [u8; Self::LONGEST]) -> &[u8] {
        let mut rest = memory.as_mut_slice();
        write!(rest, "{self}").expect("two numbers of at most 20 digits and a dash fit");
        let left = rest.len();
        &memory[..Self::LONGEST - left]
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}", self.ms, self.seq)
    }
}

impl FromStr for EventId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |digits: &str| {
            // `u64::from_str` would also take a leading `+`.
            digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
        };
        text.split_once('-')
            .and_then(|(ms, seq)| Some(Self { ms: number(ms)?, seq: number(seq)? }))
            .ok_or_else(|| format!("{text:?} is no stream id (expected <ms>-<seq>)"))
    }
}

/// One event of a stream. `payload` is JSON text, not yet parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Id of the stream entry.
    pub id: EventId,
    /// What kind of event it is, e.g. `trade.intent`.
    pub event_type: String,
    /// The JSON text that says what happened.
    pub payload: String,
    /// Producer's trace id.
    pub trace_id: Option<String>,
    /// Producer's time, as it wrote it.
    pub timestamp: Option<String>,
    /// Producer's name.
    pub source: Option<String>,
}

/// A stream entry or capture line that is no event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// Its id, if that much could be read.
    pub id: Option<EventId>,
    /// Its line in the capture file, from 1.
    pub line: Option<u64>,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for Malformed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(formatter, "line {line}: ")?;
        }
        if let Some(id) = self.id {
            write!(formatter, "event {id}: ")?;
        }
        formatter.write_str(&self.reason)
    }
}

/// What a reader hands on.
pub type Item = Result<Event, Malformed>;

/// Fields of a stream entry before it is known whether they make an event.
#[derive(Default)]
pub(super) struct RawFields<'entry> {
    event_type: Option<Cow<'entry, [u8]>>,
    payload: Option<Cow<'entry, [u8]>>,
    trace_id: Option<Cow<'entry, [u8]>>,
    timestamp: Option<Cow<'entry, [u8]>>,
    source: Option<Cow<'entry, [u8]>>,
    /// A field that came twice.
    repeated: Option<&'static str>,
}

impl<'entry> RawFields<'entry> {
    /// Takes one field; unknown ones are ignored.
    fn insert(&mut self, name: &[u8], value: Cow<'entry, [u8]>) {
        let (slot, name) = match name {
            b"event_type" => (&mut self.event_type, "event_type"),
            b"payload" => (&mut self.payload, "payload"),
            b"trace_id" => (&mut self.trace_id, "trace_id"),
            b"timestamp" => (&mut self.timestamp, "timestamp"),
            b"source" => (&mut self.source, "source"),
            _ => return,
        };
        if slot.replace(value).is_some() {
            self.repeated = Some(name);
        }
    }

    /// The fields of a stream entry, name and value.
    pub(super) fn borrowed(pairs: impl Iterator<Item = (&'entry [u8], &'entry [u8])>) -> Self {
        let mut fields = Self::default();
        pairs.for_each(|(name, value)| fields.insert(name, Cow::Borrowed(value)));
        fields
    }

    /// Whether these fields count in a reading of the types in `wanted`, corrupt ones included; without types, all do.
    pub(super) fn is_wanted(&self, wanted: &[&str]) -> bool {
        let readable = self.event_type.as_ref().filter(|_| self.repeated.is_none());
        wanted.is_empty()
            || readable.is_none_or(|own| wanted.iter().any(|name| name.as_bytes() == own.as_ref()))
    }

    /// The event these fields make; `None` if it is of a type not in `wanted`.
    pub(super) fn into_item(self, id: EventId, line: Option<u64>, wanted: &[&str]) -> Option<Item> {
        let malformed = |reason: String| Some(Err(Malformed { id: Some(id), line, reason }));
        if let Some(name) = self.repeated {
            return malformed(format!("the field {name} is there twice"));
        }
        let Some(event_type) = self.event_type else {
            return malformed("the field event_type is missing".to_owned());
        };
        let event_type = wanted.iter().find(|name| name.as_bytes() == event_type.as_ref())?;
        let Some(payload) = self.payload else {
            return malformed("the field payload is missing".to_owned());
        };
        let Ok(payload) = String::from_utf8(payload.into_owned()) else {
            return malformed("the payload is no UTF-8 text".to_owned());
        };
        let text =
            |bytes: Option<Cow<'_, [u8]>>| bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        Some(Ok(Event {
            id,
            event_type: (*event_type).to_owned(),
            payload,
            trace_id: text(self.trace_id),
            timestamp: text(self.timestamp),
            source: text(self.source),
        }))
    }
}

/// The event in a stream entry, given its fields, name and value in turn; `None` if it is of a type not in `wanted`.
pub(crate) fn entry_item(id: EventId, fields: Vec<Vec<u8>>, wanted: &[&str]) -> Option<Item> {
    let mut raw = RawFields::default();
    let mut fields = fields.into_iter();
    while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
        raw.insert(&name, Cow::Owned(value));
    }
    raw.into_item(id, None, wanted)
}

/// A capture line as it is written.
#[derive(Serialize)]
struct LineOut<'event> {
    id: String,
    fields: FieldsOut<'event>,
}

#[derive(Serialize)]
struct FieldsOut<'event> {
    event_type: &'event str,
    payload: &'event str,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<&'event str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<&'event str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'event str>,
}

impl Event {
    /// The capture line of this event, without line end.
    #[must_use]
    pub fn to_capture_line(&self) -> String {
        let line = LineOut {
            id: self.id.to_string(),
            fields: FieldsOut {
                event_type: &self.event_type,
                payload: &self.payload,
                trace_id: self.trace_id.as_deref(),
                timestamp: self.timestamp.as_deref(),
                source: self.source.as_deref(),
            },
        };
        serde_json::to_string(&line).expect("strings always serialize")
    }
}

/// The capture line of a stream entry's fields, name and value, as they are; `None` if a capture cannot hold it.
pub(super) fn capture_line<'entry>(
    id: EventId,
    mut pairs: impl Iterator<Item = (&'entry [u8], &'entry [u8])>,
) -> Option<String> {
    #[derive(Serialize)]
    struct Line<'entry> {
        id: String,
        fields: Fields<'entry>,
    }
    /// A name that is there twice is written twice: it makes the entry malformed, on the stream as in a file.
    struct Fields<'entry>(Vec<(&'entry str, &'entry str)>);
    impl Serialize for Fields<'_> {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_map(self.0.iter().copied())
        }
    }
    let text = |bytes| std::str::from_utf8(bytes).ok();
    let fields = pairs.try_fold(Vec::new(), |mut fields, (name, value)| {
        fields.push((text(name)?, text(value)?));
        Some(fields)
    });
    serde_json::to_string(&Line { id: id.to_string(), fields: Fields(fields?) }).ok()
}

/// A capture line as it is read.
#[derive(Deserialize)]
pub(super) struct LineIn<'line> {
    #[serde(borrow)]
    pub(super) id: Cow<'line, str>,
    pub(super) fields: FieldsIn,
}

/// Only `event_type` and `payload` are judged; the others are read as text whatever they are.
#[derive(Deserialize)]
pub(super) struct FieldsIn {
    event_type: Option<String>,
    payload: Option<String>,
    trace_id: Option<serde_json::Value>,
    timestamp: Option<serde_json::Value>,
    source: Option<serde_json::Value>,
}

impl From<FieldsIn> for RawFields<'_> {
    fn from(fields: FieldsIn) -> Self {
        let text = |value: Option<serde_json::Value>| match value {
            None | Some(serde_json::Value::Null) => None,
            Some(serde_json::Value::String(text)) => Some(Cow::Owned(text.into_bytes())),
            Some(other) => Some(Cow::Owned(other.to_string().into_bytes())),
        };
        let bytes = |text: String| Cow::Owned(text.into_bytes());
        Self {
            event_type: fields.event_type.map(bytes),
            payload: fields.payload.map(bytes),
            trace_id: text(fields.trace_id),
            timestamp: text(fields.timestamp),
            source: text(fields.source),
            repeated: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_order_by_time_then_sequence() {
        let id = |text: &str| text.parse::<EventId>().unwrap();
        assert!(id("9-99") < id("10-0") && id("10-0") < id("10-1"));
        assert_eq!(id("1736478123456-7").to_string(), "1736478123456-7");
        assert_eq!(id("5-0").spell(&mut [0; EventId::LONGEST]), b"5-0");
        assert_eq!(EventId::MAX.spell(&mut [0; EventId::LONGEST]).len(), EventId::LONGEST);
        for text in ["", "5", "5-", "-5", "+5-0", "5-+0", "5-0-0", "18446744073709551616-0", "a-b"] {
            assert!(text.parse::<EventId>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_unwanted_type_is_skipped_whatever_its_payload() {
        let fields = |event_type: &str, payload: &[u8]| {
            let mut fields = RawFields::default();
            fields.insert(b"event_type", event_type.to_owned().into_bytes().into());
            fields.insert(b"payload", payload.to_vec().into());
            fields
        };
        let id = EventId::default();
        assert!(fields("market.ticks", &[0xff]).into_item(id, None, &["trade.intent"]).is_none());
        assert!(fields("trade.intent", &[0xff]).into_item(id, None, &["trade.intent"]).unwrap().is_err());
        let mut twice = fields("trade.intent", b"{}");
        twice.insert(b"payload", b"[]".to_vec().into());
        assert!(twice.into_item(id, None, &["trade.intent"]).unwrap().is_err());
    }
}
