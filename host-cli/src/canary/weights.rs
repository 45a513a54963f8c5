//! Weights in parts per million that always sum to one million, and the two files that hold them.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail, ensure};
use qsc_kernel::ensemble::Ppm;
use serde::{Deserialize, Serialize};

use crate::engine::config::ModelsConfig;

const ONE: u32 = Ppm::ONE.get();

/// A weight for every model, in parts per million; they sum to exactly one million.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "BTreeMap<String, f64>", into = "BTreeMap<String, f64>")]
pub struct Weights(BTreeMap<String, Ppm>);

impl Weights {
    /// The weights of `MODELS.toml`, scaled to a sum of one.
    ///
    /// # Errors
    /// A weight is too small to be one part per million.
    pub fn of_ensemble(config: &ModelsConfig) -> anyhow::Result<Self> {
        let weights = config.models.iter().map(|model| (model.name.clone(), model.weight)).collect();
        Ok(Self(apportion(&weights, ONE)?))
    }

    /// `model` at `share`; the others keep their proportions in the rest.
    ///
    /// # Errors
    /// There is no such model, nobody to carry the rest, or too little rest for everybody.
    pub fn with_canary(&self, model: &str, share: Ppm) -> anyhow::Result<Self> {
        let mut others = self.0.clone();
        ensure!(others.remove(model).is_some(), "there is no model {model:?} among the weights");
        ensure!(!others.is_empty(), "{model:?} is the only model; nobody would carry the rest of the weight");
        ensure!(share < Ppm::ONE, "the canary's weight must leave something to the others");
        let mut weights = apportion(&others, ONE - share.get())?;
        weights.insert(model.to_owned(), share);
        Ok(Self(weights))
    }

    /// The weight of `model`.
    #[must_use]
    pub fn get(&self, model: &str) -> Option<Ppm> {
        self.0.get(model).copied()
    }

    /// Names and weights, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Ppm)> {
        self.0.iter().map(|(name, weight)| (name.as_str(), *weight))
    }

    /// Whether these are weights for exactly the models of `config`.
    ///
    /// # Errors
    /// Which models differ.
    pub fn ensure_for(&self, config: &ModelsConfig) -> anyhow::Result<()> {
        let mut here: Vec<&str> = self.iter().map(|(name, _)| name).collect();
        let mut there: Vec<&str> = config.models.iter().map(|model| model.name.as_str()).collect();
        here.sort_unstable();
        there.sort_unstable();
        ensure!(here == there, "they are for the models {here:?}, MODELS.toml has {there:?}");
        Ok(())
    }

    /// Parts per million by name, for records that hold no fractions.
    #[must_use]
    pub fn ppm(&self) -> BTreeMap<&str, u32> {
        self.iter().map(|(name, weight)| (name, weight.get())).collect()
    }

    /// The weights that [`ppm`](Self::ppm) gave; `None` if they are none.
    #[must_use]
    pub fn of_ppm(ppm: BTreeMap<String, u32>) -> Option<Self> {
        let weights: Option<BTreeMap<String, Ppm>> =
            ppm.into_iter().map(|(name, ppm)| Some((name, Ppm::new(ppm)?))).collect();
        let weights = weights?;
        let sum: u64 = weights.values().map(|weight| u64::from(weight.get())).sum();
        (sum == u64::from(ONE)).then_some(Self(weights))
    }

    /// One line for the log: `lgbm=0.9 xgb=0.1`.
    #[must_use]
    pub fn log_line(&self) -> String {
        let part = |(name, weight): (&str, Ppm)| format!("{name}={}", fraction(weight));
        self.iter().map(part).collect::<Vec<_>>().join(" ")
    }
}

/// The integer shares of `total` in the proportions of `weights`, by the largest remainder; ties go by name.
fn apportion(weights: &BTreeMap<String, Ppm>, total: u32) -> anyhow::Result<BTreeMap<String, Ppm>> {
    let sum: u64 = weights.values().map(|weight| u64::from(weight.get())).sum();
    ensure!(sum > 0, "there is no model to weigh");
    // Both factors are at most a million.
    let product = |weight: &Ppm| u64::from(weight.get()) * u64::from(total);
    let mut shares: Vec<(&String, u64, u64)> =
        weights.iter().map(|(name, weight)| (name, product(weight) / sum, product(weight) % sum)).collect();
    let given: u64 = shares.iter().map(|(_, share, _)| share).sum();
    let left = usize::try_from(u64::from(total) - given).context("more is left than there are models")?;
    shares.sort_by(|a, b| b.2.cmp(&a.2).then_with(|| a.0.cmp(b.0)));
    shares.iter_mut().take(left).for_each(|(_, share, _)| *share += 1);
    let whole = |(name, share, _): (&String, u64, u64)| {
        let ppm = u32::try_from(share).ok().and_then(Ppm::new);
        Ok((
            name.clone(),
            ppm.with_context(|| format!("the weight of {name:?} is below one part per million"))?,
        ))
    };
    shares.into_iter().map(whole).collect()
}

/// A weight as the number it stands for; its shortest decimal form has at most six decimals.
#[must_use]
pub fn fraction(weight: Ppm) -> f64 {
    f64::from(weight.get()) / f64::from(ONE)
}

/// Reads a weight in (0, 1] that is a whole number of parts per million.
///
/// # Errors
/// It is none.
pub fn parse_fraction(weight: f64) -> Result<Ppm, String> {
    let ppm = weight * f64::from(ONE);
    let whole = ppm.round();
    let valid = weight > 0.0 && weight <= 1.0 && (ppm - whole).abs() < 1e-6;
    // In range, so the cast is exact.
    valid
        .then(|| Ppm::new(whole as u32))
        .flatten()
        .ok_or_else(|| format!("the weight {weight} is not above 0, at most 1, and of at most six decimals"))
}

impl TryFrom<BTreeMap<String, f64>> for Weights {
    type Error = String;

    fn try_from(fractions: BTreeMap<String, f64>) -> Result<Self, String> {
        let weights: BTreeMap<String, Ppm> = fractions
            .into_iter()
            .map(|(name, weight)| Ok((name, parse_fraction(weight)?)))
            .collect::<Result<_, String>>()?;
        let sum: u64 = weights.values().map(|weight| u64::from(weight.get())).sum();
        if sum != u64::from(ONE) {
            return Err(format!("the weights sum to {sum} parts per million, not to a million"));
        }
        Ok(Self(weights))
    }
}

impl From<Weights> for BTreeMap<String, f64> {
    fn from(weights: Weights) -> Self {
        weights.0.into_iter().map(|(name, weight)| (name, fraction(weight))).collect()
    }
}

/// `weights.json`: what is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeightsFile {
    /// Grows with every change; never used twice.
    pub generation: u64,
    /// The canary, if one is active.
    pub canary: Option<String>,
    /// The weights.
    pub weights: Weights,
}

impl WeightsFile {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// It is torn, or was never written by `qsc canary`.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let file: Self = serde_json::from_str(text).map_err(|error| anyhow::anyhow!("{error}"))?;
        if let Some(canary) = &file.canary
            && file.weights.get(canary).is_none()
        {
            bail!("the canary {canary:?} has no weight");
        }
        ensure!(file.generation > 0, "generation 0 is MODELS.toml's");
        Ok(file)
    }

    /// The text of the file.
    #[must_use]
    pub fn text(&self) -> String {
        line(self)
    }
}

/// Where a baseline comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// The weights of `MODELS.toml`.
    #[serde(rename = "MODELS.toml")]
    Models,
    /// The weights of a canary that was promoted.
    #[serde(rename = "promotion")]
    Promotion,
}

/// `baseline.json`: what a rollback restores.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    /// The generation that was in force when it was saved; 0 is `MODELS.toml`'s.
    pub generation: u64,
    /// Where it comes from.
    pub origin: Origin,
    /// The weights.
    pub weights: Weights,
}

impl Baseline {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// It is torn, or was never written by `qsc canary`.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        serde_json::from_str(text).map_err(|error| anyhow::anyhow!("{error}"))
    }

    /// The text of the file.
    #[must_use]
    pub fn text(&self) -> String {
        line(self)
    }
}

fn line(value: &impl Serialize) -> String {
    let mut text = serde_json::to_string(value).expect("names and numbers serialize");
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(parts: &[(&str, u32)]) -> BTreeMap<String, Ppm> {
        parts.iter().map(|(name, ppm)| ((*name).to_owned(), Ppm::new(*ppm).unwrap())).collect()
    }

    #[test]
    fn the_others_keep_their_proportions_in_the_rest() {
        let baseline = Weights(weights(&[
            ("xgb", 250_000),
            ("lgbm", 250_000),
            ("nhits", 300_000),
            ("patchtst", 200_000),
        ]));
        let canary = baseline.with_canary("patchtst", Ppm::new(100_000).unwrap()).unwrap();
        assert_eq!(
            canary,
            Weights(weights(&[
                ("xgb", 281_250),
                ("lgbm", 281_250),
                ("nhits", 337_500),
                ("patchtst", 100_000)
            ]))
        );
        assert!(baseline.with_canary("gru", Ppm::new(1).unwrap()).is_err());
        assert!(baseline.with_canary("xgb", Ppm::ONE).is_err());
        assert!(Weights(weights(&[("xgb", 1_000_000)])).with_canary("xgb", Ppm::new(1).unwrap()).is_err());
    }

    #[test]
    fn shares_sum_to_the_whole_however_odd_the_proportions() {
        for parts in 1..=16_u32 {
            for total in [1_000_000, 900_000, 999_999, 333_333] {
                let odd: BTreeMap<String, Ppm> =
                    (0..parts).map(|i| (format!("m{i}"), Ppm::new(i * 7919 + 1000).unwrap())).collect();
                let shares = apportion(&odd, total).unwrap();
                assert_eq!(shares.values().map(|ppm| ppm.get()).sum::<u32>(), total, "{parts} {total}");
            }
        }
        let thirds = apportion(&weights(&[("a", 1), ("b", 1), ("c", 1)]), ONE).unwrap();
        assert_eq!(thirds, weights(&[("a", 333_334), ("b", 333_333), ("c", 333_333)]));
        assert!(
            apportion(&weights(&[("a", 1), ("b", 1_000_000)]), 100).is_err(),
            "nothing would be left for a"
        );
    }

    #[test]
    fn a_file_reads_back_as_it_was_written_and_nothing_else_does() {
        let file = WeightsFile {
            generation: 7,
            canary: Some("xgb".to_owned()),
            weights: Weights(weights(&[("xgb", 1), ("lgbm", 999_999)])),
        };
        let text = file.text();
        assert_eq!(WeightsFile::parse(&text).unwrap(), file);
        // The last byte is the line end.
        for end in 0..text.len() - 1 {
            assert!(WeightsFile::parse(&text[..end]).is_err(), "torn after {end} bytes");
        }
        for bad in [
            r#"{"generation":1,"canary":null,"weights":{}}"#,
            r#"{"generation":1,"canary":null,"weights":{"a":0.5,"b":0.4}}"#,
            r#"{"generation":1,"canary":null,"weights":{"a":1.5,"b":-0.5}}"#,
            r#"{"generation":1,"canary":null,"weights":{"a":0.1234567,"b":0.8765433}}"#,
            r#"{"generation":1,"canary":"c","weights":{"a":1}}"#,
            r#"{"generation":0,"canary":null,"weights":{"a":1}}"#,
            r#"{"generation":1,"canary":null,"weights":{"a":1},"more":1}"#,
        ] {
            assert!(WeightsFile::parse(bad).is_err(), "{bad}");
        }
    }
}
