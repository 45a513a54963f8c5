//! Answers of the server, taken apart without copying them.

use redis::Value;

use crate::stream::EventId;

/// A stream entry: its id, names and values in turn.
pub(super) type Entry = (EventId, Vec<Vec<u8>>);

/// The values of an array.
pub(super) fn array(value: Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(values) => Some(values),
        _ => None,
    }
}

/// A text.
pub(super) fn text(value: Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        Value::VerbatimString { text, .. } => Some(text),
        _ => None,
    }
}

/// A text where there is one.
pub(super) fn text_if_any(value: Value) -> Option<Option<String>> {
    match value {
        Value::Nil => Some(None),
        value => text(value).map(Some),
    }
}

/// Bytes that need not be text.
pub(super) fn bytes(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        _ => None,
    }
}

/// A count.
pub(super) fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        _ => None,
    }
}

/// An entry id.
pub(super) fn id(value: Value) -> Option<EventId> {
    text(value)?.parse().ok()
}

/// Entries as XRANGE gives them.
pub(super) fn entries(value: Value) -> Option<Vec<Entry>> {
    array(value)?.into_iter().map(entry).collect()
}

/// Entries of the one stream asked for, as XREADGROUP gives them; none if it had none.
pub(super) fn read(value: Value) -> Option<Vec<Entry>> {
    match value {
        Value::Nil => Some(Vec::new()),
        Value::Array(streams) => {
            let of_stream = array(streams.into_iter().next()?)?;
            entries(of_stream.into_iter().nth(1)?)
        }
        Value::Map(streams) => entries(streams.into_iter().next()?.1),
        _ => None,
    }
}

fn entry(value: Value) -> Option<Entry> {
    let mut parts = array(value)?.into_iter();
    let id = id(parts.next()?)?;
    let fields = array(parts.next()?)?.into_iter().map(bytes).collect::<Option<_>>()?;
    Some((id, fields))
}

/// The value of a name in an answer that lists names and values in turn.
pub(super) fn field(fields: &[Value], name: &str) -> Option<Value> {
    let is = |value: &Value| matches!(value, Value::BulkString(bytes) if bytes == name.as_bytes());
    fields.chunks_exact(2).find(|pair| is(&pair[0])).map(|pair| pair[1].clone())
}

/// An answer of names and values in turn.
pub(super) fn fields(value: Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(values) => Some(values),
        Value::Map(pairs) => Some(pairs.into_iter().flat_map(|(name, value)| [name, value]).collect()),
        _ => None,
    }
}
