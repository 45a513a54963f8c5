//! How many of the newest feature vectors are the same.

use std::collections::{BTreeSet, VecDeque};

use serde::Serialize;

use super::rules::Rules;

/// Vectors compared.
const WINDOW: usize = 50;

/// The newest feature vectors, as they came.
#[derive(Debug, Default)]
pub(super) struct RecentVectors(VecDeque<Vec<f64>>);

/// Repetition among the newest vectors, each value rounded to 4 decimals.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Duplicates {
    /// Vectors compared: the newest 50, or all if there are fewer.
    pub window: usize,
    /// Different ones among them.
    pub unique: usize,
    /// `(1 − unique / window) · 100`; 0 without vectors.
    pub duplicate_pct: f64,
    /// More than the warning threshold; never a failure.
    pub warning: bool,
}

impl RecentVectors {
    /// Takes the next vector; a value that is no number is NaN.
    pub(super) fn push(&mut self, vector: impl IntoIterator<Item = f64>) {
        let oldest = if self.0.len() == WINDOW { self.0.pop_front() } else { None };
        let mut memory = oldest.unwrap_or_default();
        memory.clear();
        memory.extend(vector);
        self.0.push_back(memory);
    }

    pub(super) fn figures(&self, rules: &Rules) -> Duplicates {
        let window = self.0.len();
        let rounded: BTreeSet<Vec<String>> =
            self.0.iter().map(|vector| vector.iter().copied().map(rounded).collect()).collect();
        let unique = rounded.len();
        let repeated = (window - unique) as u64;
        Duplicates {
            window,
            unique,
            duplicate_pct: repeated as f64 * 100.0 / window.max(1) as f64,
            warning: rules.warn_duplicate_pct.is_exceeded_by(repeated, window as u64),
        }
    }
}

/// The exact decimal value to 4 places, ties to even; −0 is 0.
fn rounded(value: f64) -> String {
    let text = format!("{value:.4}");
    if text == "-0.0000" { "0.0000".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_that_of_python() {
        // [(x, f"{round(x, 4):.4f}") for x in (…)]
        for (value, expected) in [
            (0.03125, "0.0312"),
            (0.09375, "0.0938"),
            (0.00005, "0.0001"),
            (0.00015, "0.0001"),
            (-0.00001, "0.0000"),
            (2.675, "2.6750"),
            (1e22, "10000000000000000000000.0000"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(rounded(value), expected, "{value}");
        }
    }

    #[test]
    fn exactly_half_does_not_warn_and_one_more_does() {
        let figures = |different: usize| {
            let mut recent = RecentVectors::default();
            for index in 0..60 {
                recent.push(vec![0.5, index.min(different as i32 + 9) as f64]);
            }
            recent.figures(&Rules::default())
        };
        let half = figures(25);
        assert_eq!((half.window, half.unique, half.duplicate_pct, half.warning), (50, 25, 50.0, false));
        let more = figures(24);
        assert_eq!((more.unique, more.duplicate_pct, more.warning), (24, 52.0, true));
        let none = RecentVectors::default().figures(&Rules::default());
        assert_eq!((none.window, none.duplicate_pct, none.warning), (0, 0.0, false));
    }
}
