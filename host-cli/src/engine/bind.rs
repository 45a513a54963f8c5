//! An event's features by name become each model's row.

use std::collections::BTreeMap;

use qsc_kernel::Inactive;
use qsc_kernel::ensemble::Input;

use super::window::Windows;
use crate::stream::Json;

/// Every feature any model needs, once, in order of first use, with its value in the current event.
#[derive(Clone, Debug, Default)]
pub struct Schema {
    names: Vec<String>,
    values: Vec<Value>,
}

/// A feature of the current event.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Value {
    /// The event lacks the name.
    Absent,
    /// There is a value, but it is no number: text, a list, true.
    NotANumber,
    /// A number, rounded to f32 once; NaN for `null` and NaN.
    Number(f32),
}

/// Which features of a [`Schema`] make up one model's row.
#[derive(Clone, Debug)]
pub struct Binding {
    indices: Vec<usize>,
    /// The features of the current event, `[n_features]`.
    step: Vec<f32>,
    /// Histories of a sequence model.
    windows: Option<Windows>,
    /// Why the step could not be made.
    unavailable: Option<Inactive>,
}

impl Schema {
    /// Adds the features of a model that sees `seq_len` steps, and says where they are.
    pub fn bind(&mut self, feature_names: &[String], seq_len: usize) -> Binding {
        let indices = feature_names.iter().map(|name| self.index(name)).collect();
        let n_features = feature_names.len();
        let windows = (seq_len > 1).then(|| Windows::new(seq_len, n_features));
        Binding { indices, step: Vec::with_capacity(n_features), windows, unavailable: None }
    }

    fn index(&mut self, name: &str) -> usize {
        self.names.iter().position(|known| known == name).unwrap_or_else(|| {
            self.names.push(name.to_owned());
            self.values.push(Value::Absent);
            self.names.len() - 1
        })
    }

    /// Takes the values of an event; names no model needs are left out.
    pub fn read(&mut self, features: &BTreeMap<String, Json>) {
        for (name, value) in self.names.iter().zip(&mut self.values) {
            *value = match features.get(name) {
                None => Value::Absent,
                Some(Json::Number(number)) => Value::Number(*number as f32),
                Some(Json::Null) => Value::Number(f32::NAN),
                Some(_) => Value::NotANumber,
            };
        }
    }

    /// Names and values of the features that are there; NaN for those that are no number.
    #[must_use]
    pub fn present(&self) -> Vec<(&str, f32)> {
        let value = |value: &Value| match value {
            Value::Absent => None,
            Value::NotANumber => Some(f32::NAN),
            Value::Number(number) => Some(*number),
        };
        self.names
            .iter()
            .zip(&self.values)
            .filter_map(|(name, of)| Some((name.as_str(), value(of)?)))
            .collect()
    }
}

impl Binding {
    /// Collects the model's step of `symbol`. A missing name is the graver reason: it is named before a value that is no
    /// number. A step that cannot be made ends the symbol's window.
    pub fn gather(&mut self, schema: &Schema, symbol: &str) {
        self.step.clear();
        self.unavailable = None;
        for &index in &self.indices {
            match schema.values[index] {
                Value::Number(number) => self.step.push(number),
                Value::NotANumber => {
                    self.unavailable.get_or_insert(Inactive::NanInput);
                }
                Value::Absent => self.unavailable = Some(Inactive::MissingFeature),
            }
        }
        match &mut self.windows {
            Some(windows) if self.unavailable.is_some() => windows.clear(symbol),
            Some(windows) => windows.push(symbol, &self.step),
            None => {}
        }
    }

    /// What the model gets to see of `symbol`.
    #[must_use]
    pub fn input(&self, symbol: &str) -> Input<'_> {
        match (self.unavailable, &self.windows) {
            (Some(reason), _) => Input::Unavailable(reason),
            (None, None) => Input::Row(&self.step),
            (None, Some(windows)) => {
                windows.row(symbol).map_or(Input::Unavailable(Inactive::InsufficientHistory), Input::Row)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn features(text: &str) -> BTreeMap<String, Json> {
        Json::parse(text).unwrap().as_object().unwrap().clone()
    }

    #[test]
    fn rows_follow_the_model_not_the_event() {
        let mut schema = Schema::default();
        let mut first = schema.bind(&["b".into(), "a".into()], 1);
        let mut second = schema.bind(&["c".into(), "a".into()], 1);
        schema.read(&features(r#"{"a": 1, "b": 0.1, "z": 9}"#));
        first.gather(&schema, "S");
        second.gather(&schema, "S");
        assert_eq!(first.input("S"), Input::Row(&[0.1, 1.0]));
        assert_eq!(second.input("S"), Input::Unavailable(Inactive::MissingFeature));
        assert_eq!(schema.present(), [("b", 0.1), ("a", 1.0)]);
    }

    #[test]
    fn values_that_are_no_numbers_are_nan_input() {
        let mut schema = Schema::default();
        let mut binding = schema.bind(&["a".into()], 1);
        for bad in [r#"{"a": "1"}"#, r#"{"a": true}"#, r#"{"a": [1]}"#, r#"{"a": "NaN"}"#] {
            schema.read(&features(bad));
            binding.gather(&schema, "S");
            assert_eq!(binding.input("S"), Input::Unavailable(Inactive::NanInput), "{bad}");
        }
        for missing in [r#"{"a": null}"#, r#"{"a": NaN}"#] {
            schema.read(&features(missing));
            binding.gather(&schema, "S");
            assert!(matches!(binding.input("S"), Input::Row([value]) if value.is_nan()), "{missing}");
        }
        schema.read(&features(r#"{"a": 1e300}"#));
        binding.gather(&schema, "S");
        assert_eq!(binding.input("S"), Input::Row(&[f32::INFINITY]));
    }

    #[test]
    fn a_sequence_model_waits_for_its_window_and_starts_anew_after_a_gap() {
        let mut schema = Schema::default();
        let mut binding = schema.bind(&["a".into()], 3);
        let mut see = |symbol: &str, text: &str| {
            schema.read(&features(text));
            binding.gather(&schema, symbol);
            match binding.input(symbol) {
                Input::Row(row) => Ok(row.to_vec()),
                Input::Unavailable(reason) => Err(reason),
            }
        };
        let waiting = Err(Inactive::InsufficientHistory);
        assert_eq!(see("X", r#"{"a": 1}"#), waiting);
        assert_eq!(see("X", r#"{"a": 2}"#), waiting);
        assert_eq!(see("Y", r#"{"a": 9}"#), waiting);
        assert_eq!(see("X", r#"{"a": 3}"#), Ok(vec![1.0, 2.0, 3.0]));
        assert_eq!(see("X", r#"{"a": 4}"#), Ok(vec![2.0, 3.0, 4.0]));
        assert_eq!(see("X", "{}"), Err(Inactive::MissingFeature));
        assert_eq!(see("X", r#"{"a": 5}"#), waiting);
        assert_eq!(see("Y", r#"{"a": 8}"#), waiting);
        assert_eq!(see("Y", r#"{"a": 7}"#), Ok(vec![9.0, 8.0, 7.0]));
    }
}
