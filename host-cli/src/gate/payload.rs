//! What the payload of an event says: read here, judged elsewhere.

use std::borrow::Cow;

use qsc_kernel::Action;

use super::excerpt;
use crate::stream::{Json, Members};

/// Read from the payload itself where it has no `features`.
const FALLBACK: [&str; 6] = [
    "atr_value",
    "volatility_factor",
    "exchange_divergence",
    "funding_rate",
    "confidence",
    "consensus_count",
];

/// A model's entry in the `model_breakdown` of an intent.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry<'payload> {
    /// It takes no part, for the reason it gives.
    Inactive(&'payload str),
    /// It votes.
    Active {
        /// What for; the text itself if it is none of `BUY`, `SELL`, `HOLD`, `None` without one.
        action: Result<Action, Option<&'payload str>>,
        /// How sure it is: finite, not negative, perhaps above 1. Otherwise what there is instead, in words.
        confidence: Result<f64, String>,
    },
}

impl<'payload> Entry<'payload> {
    /// Reads an entry. Only a plain `false` (or nothing) in `inactive` says that a model votes.
    #[must_use]
    pub fn read(entry: &'payload Json<'_>) -> Self {
        if !matches!(entry.get("inactive"), None | Some(Json::Bool(false) | Json::Null)) {
            return Self::Inactive(
                entry.get("inactive_reason").and_then(Json::as_str).unwrap_or("unspecified"),
            );
        }
        let action = entry.get("action").and_then(Json::as_str);
        Self::Active {
            action: action.and_then(Action::from_wire_name).ok_or(action),
            confidence: confidence(entry.get("confidence")),
        }
    }
}

fn confidence(value: Option<&Json<'_>>) -> Result<f64, String> {
    let number = match value {
        None => return Err("missing".to_owned()),
        Some(Json::Number(number)) => *number,
        Some(Json::Text(text)) => match text.trim().parse() {
            Ok(number) => number,
            Err(_) => return Err(format!("the text {}", excerpt(text))),
        },
        Some(Json::Null) => return Err("null".to_owned()),
        Some(Json::Bool(_) | Json::List(_) | Json::Object(_)) => return Err("no number".to_owned()),
    };
    if number.is_finite() && number >= 0.0 { Ok(number) } else { Err(number.to_string()) }
}

/// The entries of an intent by model; or why it has none.
pub(super) fn breakdown<'a, 'text>(payload: &'a Json<'text>) -> Result<&'a Members<'text>, String> {
    let models = payload
        .get("model_breakdown")
        .ok_or("the payload has no model_breakdown")?
        .as_object()
        .ok_or("model_breakdown is no object")?;
    if models.is_empty() { Err("model_breakdown names no model".to_owned()) } else { Ok(models) }
}

/// The features of a payload: `features`, else those of its own members that are known to be features.
pub(super) fn features<'a, 'text>(payload: &'a Json<'text>) -> Result<Cow<'a, Members<'text>>, String> {
    let members = payload.as_object().ok_or("the payload is no object")?;
    if let Some(features) = members.get("features") {
        let features = features.as_object().ok_or("features is no object")?;
        return if features.is_empty() {
            Err("features is empty".to_owned())
        } else {
            Ok(Cow::Borrowed(features))
        };
    }
    let found = members.filtered(|name| FALLBACK.contains(&name));
    if found.is_empty() { Err("the payload has no features".to_owned()) } else { Ok(Cow::Owned(found)) }
}

/// The values of features in order of their names; NaN for what is no finite number.
pub(super) fn vector(features: &Members<'_>) -> impl Iterator<Item = f64> {
    let finite = |value| if let Value::Finite(value) = Value::from(value) { value } else { f64::NAN };
    features.values().map(finite)
}

/// A feature's value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value {
    Finite(f64),
    /// ±∞, also as text.
    Infinite,
    /// NaN, null, or anything else that is no number.
    NotANumber,
}

impl From<&Json<'_>> for Value {
    fn from(value: &Json<'_>) -> Self {
        match value {
            Json::Number(number) if number.is_finite() => Self::Finite(*number),
            Json::Number(number) if number.is_infinite() => Self::Infinite,
            Json::Text(text) if text.trim().parse().is_ok_and(f64::is_infinite) => Self::Infinite,
            _ => Self::NotANumber,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_as_written() {
        let read = |text: &str, wanted: Entry<'_>| {
            assert_eq!(Entry::read(&Json::parse(text).unwrap()), wanted, "{text}");
        };
        let active = |action, confidence: Result<f64, &str>| Entry::Active {
            action,
            confidence: confidence.map_err(str::to_owned),
        };
        read(r#"{"action":"BUY","confidence":0.5}"#, active(Ok(Action::Buy), Ok(0.5)));
        read(r#"{"action":"SELL","confidence":" 7 ","inactive":false}"#, active(Ok(Action::Sell), Ok(7.0)));
        read(r#"{"action":"buy","confidence":-1,"inactive":null}"#, active(Err(Some("buy")), Err("-1")));
        read(r#"{"action":1}"#, active(Err(None), Err("missing")));
        read(r#"{"action":"HOLD","confidence":NaN}"#, active(Ok(Action::Hold), Err("NaN")));
        read(r#"{"inactive":true,"inactive_reason":"nan_input"}"#, Entry::Inactive("nan_input"));
        for odd in [r#"{"inactive":"false"}"#, r#"{"inactive":0,"inactive_reason":3}"#] {
            read(odd, Entry::Inactive("unspecified"));
        }
    }

    #[test]
    fn features_are_members_only_where_there_is_no_object_of_them() {
        let names = |text: &str| {
            let payload = Json::parse(text).unwrap();
            features(&payload).map(|features| features.names().map(str::to_owned).collect::<Vec<_>>())
        };
        assert_eq!(names(r#"{"features":{"a":1},"confidence":1}"#).unwrap(), ["a"]);
        assert_eq!(names(r#"{"symbol":"X","confidence":1}"#).unwrap(), ["confidence"]);
        for none in [r#"{"features":{}}"#, r#"{"features":[]}"#, r#"{"symbol":"X"}"#, "3"] {
            assert!(names(none).is_err(), "{none}");
        }
    }
}
