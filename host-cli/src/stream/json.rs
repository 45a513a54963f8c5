//! JSON as payloads carry it: Python writers put bare `NaN`, `Infinity` and `-Infinity` where a number is.
//!
//! Values borrow their text from the payload: millions of payloads are read once each and thrown away.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// One JSON value. Numbers are `f64` and may be NaN or infinite; names in an object are unique.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Json<'text> {
    /// `null`
    #[default]
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number, or one of the bare tokens `NaN`, `Infinity`, `-Infinity`.
    Number(f64),
    /// A string.
    Text(Cow<'text, str>),
    /// An array.
    List(Vec<Self>),
    /// An object.
    Object(Members<'text>),
}

/// The order of their bytes, mostly told by the first eight of them.
fn compare(left: &str, right: &str) -> Ordering {
    first_word(left).cmp(&first_word(right)).then_with(|| left.cmp(right))
}

/// The first eight bytes as a number; a shorter text is filled up with zeros.
fn first_word(text: &str) -> u64 {
    let bytes = text.as_bytes();
    match bytes.first_chunk() {
        Some(word) => u64::from_be_bytes(*word),
        None => bytes.iter().zip((0..8).rev()).map(|(&byte, place)| u64::from(byte) << (8 * place)).sum(),
    }
}

/// The members of an object in order of their names, which are unique.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Members<'text>(Vec<Member<'text>>);

type Member<'text> = (Cow<'text, str>, Json<'text>);

impl<'text> Members<'text> {
    /// The value of the member `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Json<'text>> {
        let at = self.0.binary_search_by(|(own, _)| compare(own, name)).ok()?;
        self.0.get(at).map(|(_, value)| value)
    }

    /// Names and values, by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Json<'text>)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), value))
    }

    /// The names, in order.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_ref())
    }

    /// The values, in order of their names.
    pub fn values(&self) -> impl ExactSizeIterator<Item = &Json<'text>> {
        self.0.iter().map(|(_, value)| value)
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The members that `keep` wants.
    #[must_use]
    pub fn filtered(&self, mut keep: impl FnMut(&str) -> bool) -> Self {
        Self(self.0.iter().filter(|(name, _)| keep(name)).cloned().collect())
    }
}

// Bare tokens travel through serde_json as strings no producer writes. A payload that did write one would
// be read as the same non-finite number, which every reader of payloads refuses.
const NAN: &str = "\0NaN";
const INFINITY: &str = "\0Infinity";
const NEGATIVE_INFINITY: &str = "\0-Infinity";

impl<'text> Json<'text> {
    /// Reads one JSON text.
    ///
    /// # Errors
    /// What is wrong with the text: no JSON, a name that an object has twice, nesting deeper than 127 levels,
    /// a number beyond the range of `f64`.
    pub fn parse(text: &'text str) -> Result<Self, String> {
        serde_json::from_str(text).or_else(|error| match quote_bare_tokens(text) {
            Cow::Owned(quoted) => {
                serde_json::from_str(&quoted).map(Json::into_owned).map_err(|error| error.to_string())
            }
            Cow::Borrowed(_) => Err(error.to_string()),
        })
    }

    /// The same value, with text of its own.
    #[must_use]
    pub fn into_owned(self) -> Json<'static> {
        let own = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        match self {
            Self::Null => Json::Null,
            Self::Bool(value) => Json::Bool(value),
            Self::Number(number) => Json::Number(number),
            Self::Text(text) => Json::Text(own(text)),
            Self::List(items) => Json::List(items.into_iter().map(Json::into_owned).collect()),
            Self::Object(Members(members)) => {
                let member = |(name, value): Member<'_>| (own(name), value.into_owned());
                Json::Object(Members(members.into_iter().map(member).collect()))
            }
        }
    }

    /// The member `name`, if this is an object that has it.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Self> {
        self.as_object()?.get(name)
    }

    /// The members, if this is an object.
    #[must_use]
    pub const fn as_object(&self) -> Option<&Members<'text>> {
        if let Self::Object(members) = self { Some(members) } else { None }
    }

    /// The text, if this is a string.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// The number (NaN and infinities too), if this is one. A string is none, whatever it spells.
    #[must_use]
    pub const fn as_number(&self) -> Option<f64> {
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

impl<'de> Deserialize<'de> for Json<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Builder(&mut Vec::with_capacity(DEEP)))
    }
}

/// Members that are being read at the same time, in a common payload.
const DEEP: usize = 48;

/// Reads a value. Members of objects that are still open lie on one stack, so that an object takes its memory once, when
/// it is known how many it has.
struct Builder<'stack, 'text>(&'stack mut Vec<Member<'text>>);

impl<'de> DeserializeSeed<'de> for Builder<'_, 'de> {
    type Value = Json<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Builder<'_, 'de> {
    type Value = Json<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Json<'de>, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Json<'de>, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Json<'de>, E> {
        Ok(Json::Number(value as f64))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Json<'de>, E> {
        Ok(Json::Number(value as f64))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Json<'de>, E> {
        Ok(Json::Number(value))
    }

    fn visit_borrowed_str<E: Error>(self, value: &'de str) -> Result<Json<'de>, E> {
        // A token's first character is always escaped, so text that needed no unescaping is none.
        Ok(Json::Text(Cow::Borrowed(value)))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Json<'de>, E> {
        Ok(match value {
            NAN => Json::Number(f64::NAN),
            INFINITY => Json::Number(f64::INFINITY),
            NEGATIVE_INFINITY => Json::Number(f64::NEG_INFINITY),
            _ => Json::Text(Cow::Owned(value.to_owned())),
        })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json<'de>, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Builder(self.0))? {
            list.push(item);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json<'de>, A::Error> {
        let stack = self.0;
        let below = stack.len();
        while let Some(name) = entries.next_key_seed(Name)? {
            let value = entries.next_value_seed(Builder(stack))?;
            stack.push((name, value));
        }
        // What is sorted is small; the members themselves are moved once.
        let members = &mut stack[below..];
        let mut order: Vec<(u64, usize)> =
            members.iter().enumerate().map(|(at, (name, _))| (first_word(name), at)).collect();
        order.sort_unstable_by(|&(left, at), &(right, other)| {
            left.cmp(&right).then_with(|| members[at].0.cmp(&members[other].0))
        });
        let sorted: Vec<Member<'de>> =
            order.iter().map(|&(_, at)| std::mem::take(&mut members[at])).collect();
        stack.truncate(below);
        match sorted.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            None => Ok(Json::Object(Members(sorted))),
            Some(twice) => Err(A::Error::custom(format_args!("the name {:?} appears twice", twice[0].0))),
        }
    }
}

/// A member's name; serde's own `Cow` never borrows.
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name {
    type Value = Cow<'de, str>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a name")
    }

    fn visit_borrowed_str<E: Error>(self, name: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(name))
    }

    /// Bare tokens come here, for their marks hold an escape.
    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        match name.strip_prefix('\0') {
            Some(token @ ("NaN" | "Infinity" | "-Infinity")) => {
                Err(E::custom(format!("{token} is no name of a member")))
            }
            _ => Ok(Cow::Owned(name.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_tokens_are_no_names() {
        for text in ["{NaN:1}", r#"{"a":{Infinity:1}}"#, "{-Infinity:1}"] {
            assert!(Json::parse(text).is_err(), "{text}");
        }
        assert!(Json::parse(r#"{"NaN":1,"\n":2}"#).is_ok());
    }

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
    fn members_are_in_the_order_of_their_bytes() {
        let names = [
            "",
            "a",
            "ab",
            "abcdefgh",
            "abcdefgi",
            "abcdefgha",
            "abcdefg",
            "\u{0}",
            "é",
            "b",
            "abcdefgh\u{0}",
        ];
        let text: Vec<String> =
            names.iter().map(|name| format!("{}:1", serde_json::to_string(name).unwrap())).collect();
        let json = format!("{{{}}}", text.join(","));
        let json = Json::parse(&json).unwrap();
        let mut sorted = names.to_vec();
        sorted.sort_unstable();
        assert_eq!(json.as_object().unwrap().names().collect::<Vec<_>>(), sorted);
        assert!(names.iter().all(|name| json.get(name).is_some()) && json.get("abc").is_none());
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
