//! `MODELS.toml`: which models vote, and by which rules.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, ensure};
use qsc_kernel::ensemble::{ConfidenceRule, Degeneracy, Mode, Multipliers, Ppm, VoteRules};
use qsc_kernel::guard::input::Missing;
use serde::Deserialize;

use crate::bounded;
use crate::stream::parse_duration;

/// The whole file, checked: names are unique, weights and rules are in range, image paths are resolved.
#[derive(Clone, Debug)]
pub struct ModelsConfig {
    ensemble: EnsembleTable,
    rules: VoteRules,
    /// The models, in file order.
    pub models: Vec<ModelConfig>,
}

/// One model, checked.
#[derive(Clone, Debug)]
pub struct ModelConfig {
    /// Its name in telemetry.
    pub name: String,
    /// Path of its image.
    pub image: PathBuf,
    /// Its weight.
    pub weight: Ppm,
    table: ModelTable,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    ensemble: EnsembleTable,
    #[serde(default)]
    model: Vec<ModelTable>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct EnsembleTable {
    max_confidence: f32,
    degeneracy: DegeneracyMode,
    multipliers: MultiplierTable,
    /// A span of time with its unit; absent: the age of an event is never judged.
    max_age: Option<MaxAge>,
    /// The same in milliseconds.
    max_age_ms: Option<u64>,
}

impl Default for EnsembleTable {
    fn default() -> Self {
        Self {
            max_confidence: VoteRules::STANDARD.max_confidence(),
            degeneracy: DegeneracyMode::Enforce,
            multipliers: MultiplierTable::default(),
            max_age: None,
            max_age_ms: None,
        }
    }
}

/// `max_age = "30s"`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
struct MaxAge(u64);

impl TryFrom<String> for MaxAge {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let age = parse_duration(&text)?;
        u64::try_from(age.as_millis()).map(Self).map_err(|_| format!("{text} is too long"))
    }
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum DegeneracyMode {
    Enforce,
    Observe,
    Off,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct MultiplierTable {
    unanimous: f32,
    strong: f32,
    split: f32,
    weak: f32,
}

impl Default for MultiplierTable {
    fn default() -> Self {
        let Multipliers { unanimous, strong, split, weak } = VoteRules::STANDARD.multipliers();
        Self { unanimous, strong, split, weak }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ModelTable {
    name: String,
    image: PathBuf,
    weight: Option<f64>,
    #[serde(default)]
    mode: ModelMode,
    #[serde(default)]
    missing: MissingMode,
    #[serde(default)]
    confidence: ConfidenceMode,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ModelMode {
    #[default]
    Vote,
    Shadow,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum MissingMode {
    #[default]
    Reject,
    Native,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ConfidenceMode {
    #[default]
    Max,
    Margin,
}

impl ModelsConfig {
    /// Reads and checks a file; image paths are relative to it.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = bounded::read_text(path, bounded::SMALL)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let directory = path.parent().unwrap_or(Path::new(""));
        Self::parse(&text, directory).with_context(|| format!("{} is no valid MODELS.toml", path.display()))
    }

    /// Checks the text of a file that lies in `directory`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str, directory: &Path) -> anyhow::Result<Self> {
        let File { ensemble, model } = toml::from_str(text).map_err(|error| in_one_sentence(&error, text))?;
        let rules = ensemble.rules()?;
        ensure!(!model.is_empty(), "it names no model; add a [[model]] with name and image");
        let share = 1.0 / model.len() as f64;
        let mut names = BTreeSet::new();
        let mut models = Vec::new();
        for table in model {
            ensure!(!table.name.is_empty(), "a model has an empty name");
            ensure!(names.insert(table.name.clone()), "two models are named {:?}", table.name);
            let weight = ppm(table.weight.unwrap_or(share))
                .with_context(|| format!("the weight of {:?} must be above 0 and at most 1", table.name))?;
            models.push(ModelConfig {
                name: table.name.clone(),
                image: directory.join(&table.image),
                weight,
                table,
            });
        }
        Ok(Self { ensemble, rules, models })
    }

    /// The rules of the vote.
    #[must_use]
    pub const fn vote_rules(&self) -> VoteRules {
        self.rules
    }

    /// What the degeneracy windows do.
    #[must_use]
    pub const fn degeneracy(&self) -> Degeneracy {
        match self.ensemble.degeneracy {
            DegeneracyMode::Enforce => Degeneracy::Enforce,
            DegeneracyMode::Observe => Degeneracy::Observe,
            DegeneracyMode::Off => Degeneracy::Off,
        }
    }

    /// Events further than this from now are stale; `None` if age is not judged.
    #[must_use]
    pub const fn max_age_ms(&self) -> Option<u64> {
        match self.ensemble.max_age {
            Some(MaxAge(ms)) => Some(ms),
            None => self.ensemble.max_age_ms,
        }
    }
}

impl EnsembleTable {
    fn rules(&self) -> anyhow::Result<VoteRules> {
        ensure!(
            self.max_age.is_none() || self.max_age_ms.is_none(),
            "max_age and max_age_ms are both set; leave one of them out"
        );
        let MultiplierTable { unanimous, strong, split, weak } = self.multipliers;
        Ok(VoteRules::new(self.max_confidence, Multipliers { unanimous, strong, split, weak })?)
    }
}

impl ModelConfig {
    /// Whether it votes.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        match self.table.mode {
            ModelMode::Vote => Mode::Vote,
            ModelMode::Shadow => Mode::Shadow,
        }
    }

    /// What it does with NaN.
    #[must_use]
    pub const fn missing(&self) -> Missing {
        match self.table.missing {
            MissingMode::Reject => Missing::Reject,
            MissingMode::Native => Missing::Native,
        }
    }

    /// How sure it calls itself.
    #[must_use]
    pub const fn confidence(&self) -> ConfidenceRule {
        match self.table.confidence {
            ConfidenceMode::Max => ConfidenceRule::Max,
            ConfidenceMode::Margin => ConfidenceRule::Margin,
        }
    }
}

/// The TOML parser draws a picture of several lines; a message has one.
fn in_one_sentence(error: &toml::de::Error, text: &str) -> anyhow::Error {
    let message = error.message().replace('\n', ", ");
    match error.span().and_then(|span| text.get(..span.start)) {
        Some(before) => anyhow!("line {}: {message}", before.matches('\n').count() + 1),
        None => anyhow!(message),
    }
}

/// A weight rounded to parts per million.
fn ppm(weight: f64) -> Option<Ppm> {
    if weight > 0.0 && weight <= 1.0 { Ppm::new((weight * 1e6).round() as u32) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> anyhow::Result<ModelsConfig> {
        ModelsConfig::parse(text, Path::new("dir"))
    }

    #[test]
    fn defaults_are_those_of_the_contract() {
        let config =
            parse("[[model]]\nname = 'a'\nimage = 'a.qsm'\n[[model]]\nname = 'b'\nimage = 'b.qsm'").unwrap();
        assert_eq!(config.vote_rules(), VoteRules::STANDARD);
        assert_eq!(config.degeneracy(), Degeneracy::Enforce);
        assert_eq!(config.max_age_ms(), None);
        let model = &config.models[0];
        assert_eq!(
            (model.weight.get(), model.mode(), model.missing()),
            (500_000, Mode::Vote, Missing::Reject)
        );
        assert_eq!(model.confidence(), ConfidenceRule::Max);
        assert_eq!(model.image, Path::new("dir/a.qsm"));
    }

    #[test]
    fn an_age_has_a_unit_or_is_in_milliseconds() {
        let age = |text: &str| {
            let model = "[[model]]\nname = 'a'\nimage = 'a.qsm'";
            parse(&format!("[ensemble]\n{text}\n{model}")).unwrap().max_age_ms()
        };
        assert_eq!(age("max_age = '1m30s'"), Some(90_000));
        assert_eq!(age("max_age_ms = 250"), Some(250));
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        let model = "\n[[model]]\nname = 'a'\nimage = 'a.qsm'\n";
        for (text, words) in [
            ("", "names no model"),
            (&format!("{model}weight = 0"), "weight of \"a\""),
            (&format!("{model}weight = 1.5"), "weight of \"a\""),
            (&format!("{model}weight = nan"), "weight of \"a\""),
            (&format!("{model}{model}"), "two models are named \"a\""),
            (&format!("{model}mode = 'maybe'"), "maybe"),
            (&format!("{model}wieght = 0.5"), "wieght"),
            (&format!("[ensemble]\nmax_confidence = 1.5{model}"), "max_confidence"),
            (&format!("[ensemble]\nmax_age = '30'{model}"), "with its unit"),
            (&format!("[ensemble]\nmax_age = '30s'\nmax_age_ms = 1{model}"), "are both set"),
            (&format!("[ensemble]\nmultipliers = {{ weak = -1.0 }}{model}"), "weak"),
        ] {
            let error = format!("{:#}", parse(text).unwrap_err());
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
