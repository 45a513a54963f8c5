//! The thresholds of all gates: the only place where they are.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::quality::Mode;

/// A percentage in steps of 0.0001, compared in integers: 70 % of 10 is exactly 7.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent {
    ppm: u32,
}

impl Percent {
    /// A whole percentage.
    #[must_use]
    pub const fn whole(percent: u32) -> Self {
        Self { ppm: percent * 10_000 }
    }

    /// Whether `part` of `whole` is strictly more than this percentage.
    #[must_use]
    pub fn is_exceeded_by(self, part: u64, whole: u64) -> bool {
        u128::from(part) * 1_000_000 > u128::from(self.ppm) * u128::from(whole)
    }

    /// The percentage as a number, 70 % as 70.0.
    #[must_use]
    pub fn value(self) -> f64 {
        f64::from(self.ppm) / 10_000.0
    }
}

impl FromStr for Percent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<f64>() {
            Ok(percent) if (0.0..=100.0).contains(&percent) => {
                Ok(Self { ppm: (percent * 10_000.0).round() as u32 })
            }
            _ => Err("expected a percentage from 0 to 100".to_owned()),
        }
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.value())
    }
}

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        f64::deserialize(deserializer)?.to_string().parse().map_err(D::Error::custom)
    }
}

impl Serialize for Percent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.value())
    }
}

/// A bound that a value can be compared with: with NaN every comparison would hold.
fn bound<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let value = f64::deserialize(deserializer)?;
    if value.is_finite() && value >= 0.0 {
        Ok(value)
    } else {
        Err(D::Error::custom("expected a finite number from 0"))
    }
}

fn optional_bound<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    bound(deserializer).map(Some)
}

/// A number of events: none at all would prove nothing.
fn some_events<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    match u64::deserialize(deserializer)? {
        0 => Err(D::Error::custom("expected a number from 1")),
        events => Ok(events),
    }
}

/// Every threshold, as `[rules]` of the settings names them. All comparisons are strict: what is exactly on a bound
/// holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rules {
    /// Events (and active predictions of a model) that collection mode needs.
    #[serde(deserialize_with = "some_events")]
    pub collection_min_events: u64,
    /// Events (and active predictions of a model) that canary mode needs.
    #[serde(deserialize_with = "some_events")]
    pub canary_min_events: u64,
    /// Largest share of corrupt events, in both gates.
    pub max_malformed_pct: Percent,
    /// Largest share of one action.
    pub max_action_pct: Percent,
    /// Largest share of HOLD.
    pub max_hold_pct: Percent,
    /// Least population std of the confidences.
    #[serde(deserialize_with = "bound")]
    pub min_confidence_std: f64,
    /// Least P90 − P10 of the confidences.
    #[serde(deserialize_with = "bound")]
    pub min_p10_p90_range: f64,
    /// Std below which the confidences are constant.
    #[serde(deserialize_with = "bound")]
    pub constant_std: f64,
    /// P90 − P10 below which the confidences are constant.
    #[serde(deserialize_with = "bound")]
    pub constant_range: f64,
    /// Events that feature-sanity needs.
    #[serde(deserialize_with = "some_events")]
    pub sanity_min_events: u64,
    /// Population std below which a feature is flat.
    #[serde(deserialize_with = "bound")]
    pub flat_std: f64,
    /// Largest share of flat features.
    pub max_flatline_pct: Percent,
    /// Features that may be flat.
    pub allow_flat: BTreeSet<String>,
    /// Share of repeated feature vectors above which a warning is given.
    pub warn_duplicate_pct: Percent,
    /// PSI of a feature above which a warning is given.
    #[serde(deserialize_with = "bound")]
    pub warn_psi: f64,
    /// Largest PSI of a feature; `None` blocks nothing.
    #[serde(deserialize_with = "optional_bound")]
    pub max_psi: Option<f64>,
    /// Scoreboard and monitor: least agreement of the models.
    pub min_agreement_pct: Percent,
    /// Scoreboard and monitor: largest agreement; models that always agree are one model.
    pub max_agreement_pct: Percent,
    /// Scoreboard: the share of events with both BUY and SELL must be below this; monitor: at most this.
    pub max_hard_disagreement_pct: Percent,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            collection_min_events: 100,
            canary_min_events: 200,
            max_malformed_pct: Percent::whole(1),
            max_action_pct: Percent::whole(70),
            max_hold_pct: Percent::whole(85),
            min_confidence_std: 0.05,
            min_p10_p90_range: 0.12,
            constant_std: 0.01,
            constant_range: 0.001,
            sanity_min_events: 50,
            flat_std: 1e-6,
            max_flatline_pct: Percent::whole(0),
            allow_flat: BTreeSet::new(),
            warn_duplicate_pct: Percent::whole(50),
            warn_psi: 0.25,
            max_psi: None,
            min_agreement_pct: Percent::whole(55),
            max_agreement_pct: Percent::whole(80),
            max_hard_disagreement_pct: Percent::whole(20),
        }
    }
}

impl Rules {
    /// Events a mode needs, which is also the number of active predictions a model needs.
    #[must_use]
    pub const fn min_events(&self, mode: Mode) -> u64 {
        match mode {
            Mode::Collection => self.collection_min_events,
            Mode::Canary => self.canary_min_events,
        }
    }

    /// Sets the number of events a mode needs.
    pub const fn set_min_events(&mut self, mode: Mode, events: u64) {
        match mode {
            Mode::Collection => self.collection_min_events = events,
            Mode::Canary => self.canary_min_events = events,
        }
    }

    /// The rules of `quality-gate` and `scoreboard` that are looser than their defaults, as `name value (default
    /// value)`.
    #[must_use]
    pub fn loosened(&self, mode: Mode) -> Vec<String> {
        let default = Self::default();
        let number = |name, read: fn(&Self) -> f64| (name, read(self), read(&default));
        let percent = |name, read: fn(&Self) -> Percent| (name, read(self).value(), read(&default).value());
        let at_least = [
            ("min_events", self.min_events(mode) as f64, default.min_events(mode) as f64),
            number("min_confidence_std", |rules| rules.min_confidence_std),
            number("min_p10_p90_range", |rules| rules.min_p10_p90_range),
            number("constant_std", |rules| rules.constant_std),
            number("constant_range", |rules| rules.constant_range),
            percent("min_agreement_pct", |rules| rules.min_agreement_pct),
        ];
        let at_most = [
            percent("max_malformed_pct", |rules| rules.max_malformed_pct),
            percent("max_action_pct", |rules| rules.max_action_pct),
            percent("max_hold_pct", |rules| rules.max_hold_pct),
            percent("max_agreement_pct", |rules| rules.max_agreement_pct),
            percent("max_hard_disagreement_pct", |rules| rules.max_hard_disagreement_pct),
            percent("warn_duplicate_pct", |rules| rules.warn_duplicate_pct),
            number("warn_psi", |rules| rules.warn_psi),
        ];
        looser(&at_least, &at_most)
    }

    /// The rules of `feature-sanity` that are looser than their defaults.
    #[must_use]
    pub fn loosened_sanity(&self) -> Vec<String> {
        let default = Self::default();
        let number = |name, read: fn(&Self) -> f64| (name, read(self), read(&default));
        let at_least = [
            number("sanity_min_events", |rules| rules.sanity_min_events as f64),
            number("flat_std", |rules| rules.flat_std),
        ];
        let at_most = [
            number("max_malformed_pct", |rules| rules.max_malformed_pct.value()),
            number("max_flatline_pct", |rules| rules.max_flatline_pct.value()),
            number("warn_duplicate_pct", |rules| rules.warn_duplicate_pct.value()),
            number("warn_psi", |rules| rules.warn_psi),
        ];
        let mut found = looser(&at_least, &at_most);
        if !self.allow_flat.is_empty() {
            let names: Vec<&str> = self.allow_flat.iter().map(String::as_str).collect();
            found.push(format!("allow_flat {} (default none)", names.join(", ")));
        }
        found
    }
}

/// Of `(name, value, default)`, the lower bounds that are lower and the upper bounds that are higher than by default.
fn looser(at_least: &[(&str, f64, f64)], at_most: &[(&str, f64, f64)]) -> Vec<String> {
    let lower = at_least.iter().filter(|(_, value, default)| value < default);
    let higher = at_most.iter().filter(|(_, value, default)| value > default);
    lower.chain(higher).map(|(name, value, default)| format!("{name} {value} (default {default})")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_are_exact_at_the_bound() {
        for (percent, part, whole) in
            [("70", 7, 10), ("70", 140, 200), ("85", 170, 200), ("70.1", 701, 1000), ("0", 0, 9)]
        {
            let percent: Percent = percent.parse().unwrap();
            assert!(!percent.is_exceeded_by(part, whole), "{percent} {part}/{whole}");
            assert!(percent.is_exceeded_by(part + 1, whole), "{percent} {part}/{whole}");
        }
        for text in ["-1", "101", "NaN", "x", ""] {
            assert!(text.parse::<Percent>().is_err(), "{text}");
        }
    }

    #[test]
    fn only_looser_rules_are_named() {
        let mut rules = Rules::default();
        assert!(rules.loosened(Mode::Canary).is_empty());
        rules.set_min_events(Mode::Canary, 300);
        rules.max_hold_pct = Percent::whole(50);
        assert!(rules.loosened(Mode::Canary).is_empty(), "stricter is not looser");
        rules.set_min_events(Mode::Canary, 50);
        rules.max_action_pct = Percent::whole(80);
        assert_eq!(
            rules.loosened(Mode::Canary),
            ["min_events 50 (default 200)", "max_action_pct 80 (default 70)"]
        );
        assert_eq!(rules.loosened(Mode::Collection), ["max_action_pct 80 (default 70)"]);
        rules.warn_duplicate_pct = Percent::whole(100);
        let silenced = ["max_action_pct 80 (default 70)", "warn_duplicate_pct 100 (default 50)"];
        assert_eq!(rules.loosened(Mode::Collection), silenced, "no warning at all");
    }
}
