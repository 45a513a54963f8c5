//! An event's features by name become the vector the kernel decides on.

use std::collections::HashMap;

use qsc_kernel::ensemble::{Feature, Window};

use crate::stream::{Json, Members};

/// Every feature any model needs, once, in order of first use, with its value in the current event.
#[derive(Clone, Debug, Default)]
pub struct Schema {
    names: Vec<String>,
    features: Vec<Feature>,
}

impl Schema {
    /// Adds the features of a model, and says where they are; `None` if there are more than 65 536.
    pub fn bind(&mut self, feature_names: &[String]) -> Option<Vec<u16>> {
        feature_names.iter().map(|name| self.index(name)).collect()
    }

    fn index(&mut self, name: &str) -> Option<u16> {
        let at = self.names.iter().position(|known| known == name).unwrap_or_else(|| {
            self.names.push(name.to_owned());
            self.features.push(Feature::Absent);
            self.names.len() - 1
        });
        u16::try_from(at).ok()
    }

    /// Takes the values of an event; names no model needs are left out.
    pub fn read(&mut self, features: &Members<'_>) {
        for (name, value) in self.names.iter().zip(&mut self.features) {
            *value = match features.get(name) {
                None => Feature::Absent,
                Some(Json::Number(number)) => Feature::Number(*number as f32),
                Some(Json::Null) => Feature::Number(f32::NAN),
                Some(_) => Feature::NotANumber,
            };
        }
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// The values of the current event, in the order of the names.
    #[must_use]
    pub fn features(&self) -> &[Feature] {
        &self.features
    }

    /// Names and values of the features that are there; NaN for those that are no number.
    pub fn present(&self) -> impl Iterator<Item = (&str, f32)> {
        self.names().zip(&self.features).filter_map(|(name, feature)| Some((name, feature.shown()?)))
    }
}

/// The windows of every symbol, for all sequence models of an ensemble. Memory is taken when a symbol is first seen.
#[derive(Clone, Debug)]
pub struct Histories {
    /// `seq_len` and `n_features` of each sequence model.
    sizes: Vec<(usize, usize)>,
    symbols: HashMap<String, Vec<Window<Vec<f32>>>>,
}

impl Histories {
    /// No symbol seen yet.
    #[must_use]
    pub fn new(sizes: Vec<(usize, usize)>) -> Self {
        Self { sizes, symbols: HashMap::new() }
    }

    /// Whether any model keeps a window.
    #[must_use]
    pub const fn any(&self) -> bool {
        !self.sizes.is_empty()
    }

    /// The symbol's windows, one for each sequence model.
    pub fn of(&mut self, symbol: &str) -> &mut [Window<Vec<f32>>] {
        if !self.symbols.contains_key(symbol) {
            let window = |&(seq_len, n_features)| {
                let memory = vec![0.0; 2 * seq_len * n_features];
                Window::new(seq_len, n_features, memory).expect("the memory is two windows")
            };
            self.symbols.insert(symbol.to_owned(), self.sizes.iter().map(window).collect());
        }
        self.symbols.get_mut(symbol).map_or(&mut [], Vec::as_mut_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn features(text: &str) -> Members<'_> {
        Json::parse(text).unwrap().as_object().unwrap().clone()
    }

    #[test]
    fn a_feature_of_two_models_has_one_place() {
        let mut schema = Schema::default();
        assert_eq!(schema.bind(&["b".into(), "a".into()]), Some(vec![0, 1]));
        assert_eq!(schema.bind(&["c".into(), "a".into()]), Some(vec![2, 1]));
        schema.read(&features(r#"{"a": 1, "b": 0.1, "z": 9}"#));
        assert_eq!(schema.features(), [Feature::Number(0.1), Feature::Number(1.0), Feature::Absent]);
        assert_eq!(schema.present().collect::<Vec<_>>(), [("b", 0.1), ("a", 1.0)]);
    }

    #[test]
    fn what_is_no_number_is_told_from_what_is_missing() {
        let mut schema = Schema::default();
        schema.bind(&["a".into()]);
        for bad in [r#"{"a": "1"}"#, r#"{"a": true}"#, r#"{"a": [1]}"#, r#"{"a": "NaN"}"#] {
            schema.read(&features(bad));
            assert_eq!(schema.features(), [Feature::NotANumber], "{bad}");
        }
        for missing in [r#"{"a": null}"#, r#"{"a": NaN}"#] {
            schema.read(&features(missing));
            assert!(matches!(schema.features(), [Feature::Number(value)] if value.is_nan()), "{missing}");
        }
        schema.read(&features(r#"{"a": 1e300}"#));
        assert_eq!(schema.features(), [Feature::Number(f32::INFINITY)]);
    }

    #[test]
    fn every_symbol_has_windows_of_its_own() {
        let mut histories = Histories::new(vec![(2, 1), (1, 3)]);
        for value in [1.0, 2.0] {
            histories.of("A")[0].push(&[value]);
        }
        histories.of("B")[0].push(&[9.0]);
        assert_eq!(histories.of("A")[0].row(), Some(&[1.0, 2.0][..]));
        assert_eq!(histories.of("B")[0].row(), None);
        assert_eq!(histories.of("C").len(), 2);
    }
}
