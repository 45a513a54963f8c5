//! JSON as payloads carry it: Python writers put bare `NaN`, `Infinity` and `-Infinity` where a number is.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// One JSON value. Numbers are `f64` and may be NaN or infinite; names in an object are unique.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number, or one of the bare tokens `NaN`, `Infinity`, `-Infinity`.
    Number(f64),
    /// A string.
    Text(String),
    /// An array.
    List(Vec<Json>),
    /// An object.
    Object(BTreeMap<String, Json>),
}

// Bare tokens travel through serde_json as strings no producer writes. A payload that did write one would
// be read as the same non-finite number, which every reader of payloads refuses.
const NAN: &str = "\0NaN";
const INFINITY: &str = "\0Infinity";
const NEGATIVE_INFINITY: &str = "\0-Infinity";

impl Json {
    /// Reads one JSON text.
    ///
    /// # Errors
    /// What is wrong with the text: no JSON, a name that an object has twice, nesting deeper than 127 levels,
    /// a number beyond the range of `f64`.
    pub fn parse(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).or_else(|error| match quote_bare_tokens(text) {
            Cow::Owned(quoted) => serde_json::from_str(&quoted).map_err(|error| error.to_string()),
            Cow::Borrowed(_) => Err(error.to_string()),
        })
    }

    /// The member `name`, if this is an object that has it.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Self> {
        self.as_object()?.get(name)
    }

    /// The members, if this is an object.
    #[must_use]
    pub fn as_object(&self) -> Option<&BTreeMap<String, Self>> {
        if let Self::Object(members) = self { Some(members) } else { None }
    }

    /// The text, if this is a string.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// The number (NaN and infinities too), if this is one. A string is none, whatever it spells.
    #[must_use]
    pub fn as_number(&self) -> Option<f64> {
        if let Self::Number(number) = self { Some(*number) } else { None }
    }
}

/// Replaces the bare tokens outside strings; borrowed if there are none.
fn quote_bare_tokens(text: &str) -> Cow<'_, str> {
    const TOKENS: [(&str, &str); 3] = [
        ("NaN", r#""\u0000NaN""#),
        ("Infinity", r#""\u0000Infinity""#),
        ("-Infinity", r#""\u0000-Infinity""#),
    ];
    let bytes = text.as_bytes();
    let mut quoted = String::new();
    let mut copied = 0;
    let mut at = 0;
    let mut in_string = false;
    while let Some(&byte) = bytes.get(at) {
        if in_string {
            match byte {
                b'\\' => at += 1,
                b'"' => in_string = false,
                _ => {}
            }
        } else if byte == b'"' {
            in_string = true;
        } else if is_word(byte) {
            let end = at + bytes[at..].iter().take_while(|&&next| is_word(next)).count();
            // Words are ASCII, so both ends are character boundaries.
            if let Some((_, replacement)) = TOKENS.iter().find(|(token, _)| *token == &text[at..end]) {
                quoted.push_str(&text[copied..at]);
                quoted.push_str(replacement);
                copied = end;
            }
            at = end;
            continue;
        }
        at += 1;
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    quoted.push_str(&text[copied..]);
    Cow::Owned(quoted)
}

/// A byte that may be part of a number, literal or bare token.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.' | b'_')
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Number(value as f64))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Number(value as f64))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Json, E> {
        Ok(Json::Number(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Json, E> {
        self.visit_string(value.to_owned())
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Json, E> {
        Ok(match value.as_str() {
            NAN => Json::Number(f64::NAN),
            INFINITY => Json::Number(f64::INFINITY),
            NEGATIVE_INFINITY => Json::Number(f64::NEG_INFINITY),
            _ => Json::Text(value),
        })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json, A::Error> {
        let mut members = BTreeMap::new();
        while let Some((name, value)) = entries.next_entry::<String, Json>()? {
            if members.contains_key(&name) {
                return Err(A::Error::custom(format_args!("the name {name:?} appears twice")));
            }
            members.insert(name, value);
        }
        Ok(Json::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_tokens_are_numbers_and_strings_stay_strings() {
        let json =
            Json::parse(r#"{"a":NaN,"b":[Infinity,-Infinity,1],"c":"NaN, \"Infinity\" -Infinity"}"#).unwrap();
        assert!(json.get("a").and_then(Json::as_number).unwrap().is_nan());
        let expected =
            Json::List(vec![Json::Number(f64::INFINITY), Json::Number(f64::NEG_INFINITY), Json::Number(1.0)]);
        assert_eq!(json.get("b"), Some(&expected));
        assert_eq!(json.get("c").and_then(Json::as_str), Some(r#"NaN, "Infinity" -Infinity"#));
    }

    #[test]
    fn what_python_does_not_write_is_no_json() {
        for text in ["-NaN", "nan", "[NaNs]", "Infinity1", "+Infinity", "{\"a\":NaN", "NaN NaN", "", "[1,]"] {
            assert!(Json::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_name_twice_is_refused_by_name() {
        assert!(Json::parse(r#"{"a":1,"a":2}"#).unwrap_err().contains("\"a\" appears twice"));
    }

    #[test]
    fn deep_nesting_is_refused() {
        for open in ["[", "{\"a\":"] {
            assert!(Json::parse(&open.repeat(100_000)).is_err());
            assert!(Json::parse(&format!("{}NaN", open.repeat(100_000))).is_err());
        }
        assert!(Json::parse(&format!("{}{}", "[".repeat(127), "]".repeat(127))).is_ok());
    }

    #[test]
    fn numbers_are_correctly_rounded() {
        assert_eq!(Json::parse("9007199254740993").unwrap(), Json::Number(9_007_199_254_740_992.0));
        assert_eq!(Json::parse("0.1").unwrap(), Json::Number(0.1));
        assert_eq!(Json::parse("-5").unwrap(), Json::Number(-5.0));
        assert!(Json::parse("1e999").is_err());
    }

    #[test]
    fn multibyte_text_survives_the_rewrite() {
        let json = Json::parse("{\"größe→\":\"é\\\\\",\"x\":NaN,\"ü\":\"✓\"}").unwrap();
        assert_eq!(json.get("größe→").and_then(Json::as_str), Some("é\\"));
        assert_eq!(json.get("ü").and_then(Json::as_str), Some("✓"));
    }
}
