//! What XGBoost's JSON and UBJSON have in common: one document, read by path.
//!
//! Numbers stay as they stand in the file until somebody says what they are, so that nothing is rounded twice.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Display;

use anyhow::{Context, Result, bail, ensure};

/// Nesting deeper than this is refused; models nest 8 deep.
pub(super) const MAX_DEPTH: usize = 32;

/// More values than this are refused (arrays of numbers count as one in JSON and, typed, in UBJSON).
pub(super) const MAX_VALUES: usize = 1 << 23;

/// A value of the document, borrowing from the file.
#[derive(Debug, PartialEq)]
pub(super) enum Value<'a> {
    Null,
    Bool(bool),
    Number(Number<'a>),
    Text(Cow<'a, str>),
    /// An array whose elements are all numbers, not yet parsed.
    Numbers(Numbers<'a>),
    List(Vec<Value<'a>>),
    Object(Object<'a>),
}

pub(super) type Object<'a> = BTreeMap<Cow<'a, str>, Value<'a>>;

/// A number as it stands in the file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Number<'a> {
    /// A JSON number, or `NaN`, `Infinity`, `-Infinity`.
    Text(&'a str),
    Integer(i64),
    Float32(f32),
    Float64(f64),
}

/// A non-empty array of numbers as it stands in the file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Numbers<'a> {
    /// JSON numbers separated by commas.
    Text(&'a str),
    /// Big-endian elements of one type.
    Typed(NumberType, &'a [u8]),
}

/// The number types of UBJSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NumberType {
    I8,
    U8,
    I16,
    I32,
    I64,
    F32,
    F64,
}

impl NumberType {
    pub(super) fn of_marker(marker: u8) -> Option<Self> {
        Some(match marker {
            b'i' => Self::I8,
            b'U' => Self::U8,
            b'I' => Self::I16,
            b'l' => Self::I32,
            b'L' => Self::I64,
            b'd' => Self::F32,
            b'D' => Self::F64,
            _ => return None,
        })
    }

    /// Bytes of one element.
    pub(super) fn size(self) -> usize {
        match self {
            Self::I8 | Self::U8 => 1,
            Self::I16 => 2,
            Self::I32 | Self::F32 => 4,
            Self::I64 | Self::F64 => 8,
        }
    }

    /// The big-endian number in `bytes`, `[size]`; `None` when the width differs.
    pub(super) fn read(self, bytes: &[u8]) -> Option<Number<'static>> {
        Some(match self {
            Self::I8 => Number::Integer(i8::from_be_bytes(bytes.try_into().ok()?).into()),
            Self::U8 => Number::Integer(u8::from_be_bytes(bytes.try_into().ok()?).into()),
            Self::I16 => Number::Integer(i16::from_be_bytes(bytes.try_into().ok()?).into()),
            Self::I32 => Number::Integer(i32::from_be_bytes(bytes.try_into().ok()?).into()),
            Self::I64 => Number::Integer(i64::from_be_bytes(bytes.try_into().ok()?)),
            Self::F32 => Number::Float32(f32::from_be_bytes(bytes.try_into().ok()?)),
            Self::F64 => Number::Float64(f64::from_be_bytes(bytes.try_into().ok()?)),
        })
    }
}

impl Number<'_> {
    /// The number as f32, rounded once.
    pub(super) fn f32(self) -> Result<f32> {
        match self {
            Self::Text("NaN") => Ok(f32::NAN),
            Self::Text("Infinity") => Ok(f32::INFINITY),
            Self::Text("-Infinity") => Ok(f32::NEG_INFINITY),
            Self::Text(text) => {
                let value: f32 = text.parse().with_context(|| format!("{text:?} is no number"))?;
                ensure!(value.is_finite(), "{text} does not fit a 32-bit float");
                Ok(value)
            }
            Self::Float32(value) => Ok(value),
            Self::Float64(value) => {
                let narrow = value as f32;
                ensure!(f64::from(narrow) == value || value.is_nan(), "{value} is no 32-bit float");
                Ok(narrow)
            }
            Self::Integer(value) => {
                let narrow = value as f32;
                ensure!(narrow as i128 == i128::from(value), "{value} is no 32-bit float");
                Ok(narrow)
            }
        }
    }

    /// The number as an integer; one written as a float is refused.
    pub(super) fn i64(self) -> Result<i64> {
        match self {
            Self::Text(text) => text.parse().with_context(|| format!("{text:?} is no integer")),
            Self::Integer(value) => Ok(value),
            Self::Float32(value) => bail!("{value:?} is no integer"),
            Self::Float64(value) => bail!("{value:?} is no integer"),
        }
    }
}

impl<'a> Value<'a> {
    fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::Text(_) => "a text",
            Self::Numbers(_) | Self::List(_) => "an array",
            Self::Object(_) => "an object",
        }
    }

    fn text(&self) -> Result<&str> {
        match self {
            Self::Text(text) => Ok(text),
            other => bail!("expected a text, found {}", other.kind()),
        }
    }

    fn numbers<T>(&self, parse: impl Fn(Number<'a>) -> Result<T>) -> Result<Vec<T>> {
        match self {
            Self::Numbers(Numbers::Text(text)) => {
                text.split(',').map(|number| parse(Number::Text(number.trim_ascii()))).collect()
            }
            Self::Numbers(Numbers::Typed(kind, bytes)) => bytes
                .chunks_exact(kind.size())
                .map(|bytes| parse(kind.read(bytes).expect("a chunk has the size of its type")))
                .collect(),
            Self::List(values) => values
                .iter()
                .map(|value| match value {
                    Self::Number(number) => parse(*number),
                    // XGBoost writes default_left as 0 and 1, other writers as booleans.
                    Self::Bool(value) => parse(Number::Integer(i64::from(*value))),
                    other => bail!("expected numbers, found {}", other.kind()),
                })
                .collect(),
            other => bail!("expected an array of numbers, found {}", other.kind()),
        }
    }
}

/// An object of the document and where it is, for messages.
#[derive(Debug)]
pub(super) struct Section<'d, 'a> {
    path: String,
    object: &'d Object<'a>,
}

impl<'d, 'a> Section<'d, 'a> {
    pub(super) fn new(path: impl Into<String>, value: &'d Value<'a>) -> Result<Self> {
        let path = path.into();
        match value {
            Value::Object(object) => Ok(Self { path, object }),
            other => bail!("{path}: expected an object, found {}; {SAVE_AGAIN}", other.kind()),
        }
    }

    /// Where `key` of this section is, for messages.
    pub(super) fn path_of(&self, key: &str) -> String {
        format!("{}.{key}", self.path)
    }

    /// `detail`, said of `key` in this section.
    pub(super) fn complain(&self, key: &str, detail: impl Display) -> String {
        format!("{}: {detail}; {SAVE_AGAIN}", self.path_of(key))
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.object.keys().map(AsRef::as_ref)
    }

    pub(super) fn get(&self, key: &str) -> Option<&'d Value<'a>> {
        self.object.get(key)
    }

    fn required(&self, key: &str) -> Result<&'d Value<'a>> {
        self.get(key).with_context(|| self.complain(key, "missing"))
    }

    fn with<T>(&self, key: &str, read: impl FnOnce(&'d Value<'a>) -> Result<T>) -> Result<T> {
        read(self.required(key)?).map_err(|error| anyhow::anyhow!(self.complain(key, error)))
    }

    /// The object under `key`.
    pub(super) fn section(&self, key: &str) -> Result<Self> {
        Section::new(self.path_of(key), self.required(key)?)
    }

    /// The objects of the array under `key`.
    pub(super) fn sections(&self, key: &str) -> Result<Vec<Self>> {
        match self.required(key)? {
            Value::List(values) => values
                .iter()
                .enumerate()
                .map(|(index, value)| Section::new(format!("{}.{key}[{index}]", self.path), value))
                .collect(),
            other => bail!(
                self.complain(key, format_args!("expected an array of objects, found {}", other.kind()))
            ),
        }
    }

    pub(super) fn text(&self, key: &str) -> Result<&'d str> {
        self.with(key, Value::text)
    }

    pub(super) fn texts(&self, key: &str) -> Result<Vec<String>> {
        self.with(key, |value| match value {
            Value::List(values) => values.iter().map(|value| value.text().map(ToOwned::to_owned)).collect(),
            other => bail!("expected an array of texts, found {}", other.kind()),
        })
    }

    /// A count that is written as a text, as XGBoost writes its parameters.
    pub(super) fn count(&self, key: &str) -> Result<usize> {
        let text = self.text(key)?;
        text.parse().with_context(|| self.complain(key, format_args!("{text:?} is no count")))
    }

    /// The integer number under `key`.
    pub(super) fn integer(&self, key: &str) -> Result<i64> {
        self.with(key, |value| match value {
            Value::Number(number) => number.i64(),
            other => bail!("expected an integer, found {}", other.kind()),
        })
    }

    pub(super) fn f32s(&self, key: &str) -> Result<Vec<f32>> {
        self.with(key, |value| value.numbers(Number::f32))
    }

    pub(super) fn i64s(&self, key: &str) -> Result<Vec<i64>> {
        self.with(key, |value| value.numbers(Number::i64))
    }
}

pub(super) const SAVE_AGAIN: &str = "save the model again with XGBoost's save_model";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_numbers_are_rounded_once() {
        // Halfway between two f32, but not in f64: rounding through f64 would give the even neighbour.
        let text = "1.00000005960464477540";
        assert_eq!(Number::Text(text).f32().unwrap(), 1.0_f32.next_up());
        assert_eq!(text.parse::<f64>().unwrap() as f32, 1.0);
        assert!(Number::Text("NaN").f32().unwrap().is_nan());
        assert_eq!(Number::Text("-Infinity").f32().unwrap(), f32::NEG_INFINITY);
        assert!(Number::Text("1e39").f32().is_err(), "a finite text is never infinite");
    }

    #[test]
    fn numbers_that_would_change_are_refused() {
        assert_eq!(Number::Float64(0.5).f32().unwrap(), 0.5);
        assert!(Number::Float64(0.1).f32().is_err());
        assert!(Number::Integer(16_777_217).f32().is_err());
        assert!(Number::Integer(i64::MAX).f32().is_err());
        assert!(Number::Text("1E0").i64().is_err());
        assert!(Number::Float32(1.0).i64().is_err());
    }
}
