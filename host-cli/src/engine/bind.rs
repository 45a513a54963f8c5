//! An event's features by name become each model's row.

use std::collections::BTreeMap;

use qsc_kernel::Inactive;
use qsc_kernel::ensemble::Input;

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
    row: Vec<f32>,
    /// Why the row could not be made.
    unavailable: Option<Inactive>,
}

impl Schema {
    /// Adds a model's features and says where they are.
    pub fn bind(&mut self, feature_names: &[String]) -> Binding {
        let indices = feature_names.iter().map(|name| self.index(name)).collect();
        Binding { indices, row: Vec::with_capacity(feature_names.len()), unavailable: None }
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
    /// Collects the model's row. A missing name is the graver reason: it is named before a value that is no number.
    pub fn gather(&mut self, schema: &Schema) {
        self.row.clear();
        self.unavailable = None;
        for &index in &self.indices {
            match schema.values[index] {
                Value::Number(number) => self.row.push(number),
                Value::NotANumber => {
                    self.unavailable.get_or_insert(Inactive::NanInput);
                }
                Value::Absent => self.unavailable = Some(Inactive::MissingFeature),
            }
        }
    }

    /// What the model gets to see.
    #[must_use]
    pub fn input(&self) -> Input<'_> {
        self.unavailable.map_or(Input::Row(&self.row), Input::Unavailable)
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
        let mut first = schema.bind(&["b".into(), "a".into()]);
        let mut second = schema.bind(&["c".into(), "a".into()]);
        schema.read(&features(r#"{"a": 1, "b": 0.1, "z": 9}"#));
        first.gather(&schema);
        second.gather(&schema);
        assert_eq!(first.input(), Input::Row(&[0.1, 1.0]));
        assert_eq!(second.input(), Input::Unavailable(Inactive::MissingFeature));
        assert_eq!(schema.present(), [("b", 0.1), ("a", 1.0)]);
    }

    #[test]
    fn values_that_are_no_numbers_are_nan_input() {
        let mut schema = Schema::default();
        let mut binding = schema.bind(&["a".into()]);
        for bad in [r#"{"a": "1"}"#, r#"{"a": true}"#, r#"{"a": [1]}"#, r#"{"a": "NaN"}"#] {
            schema.read(&features(bad));
            binding.gather(&schema);
            assert_eq!(binding.input(), Input::Unavailable(Inactive::NanInput), "{bad}");
        }
        for missing in [r#"{"a": null}"#, r#"{"a": NaN}"#] {
            schema.read(&features(missing));
            binding.gather(&schema);
            assert!(matches!(binding.input(), Input::Row([value]) if value.is_nan()), "{missing}");
        }
        schema.read(&features(r#"{"a": 1e300}"#));
        binding.gather(&schema);
        assert_eq!(binding.input(), Input::Row(&[f32::INFINITY]));
    }
}
