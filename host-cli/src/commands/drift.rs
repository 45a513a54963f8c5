//! What the gates compare features with: the training rows of an ensemble's models.

use std::path::PathBuf;

use clap::Args;

use crate::gate::{Drift, Rules};
use crate::judge::drift;

/// Whether to compare.
#[derive(Debug, Args)]
pub(super) struct DriftArgs {
    /// Compare the features with the rows these models were trained on, by PSI; above 0.25 warns
    #[arg(long, value_name = "MODELS.toml")]
    models: Option<PathBuf>,
    /// Block when the PSI of a feature is above this; needs --models
    #[arg(long, value_name = "PSI", value_parser = parse_psi)]
    max_psi: Option<f64>,
}

fn parse_psi(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(psi) if (0.0..f64::INFINITY).contains(&psi) => Ok(psi),
        _ => Err("expected a number from 0".to_owned()),
    }
}

impl DriftArgs {
    /// The models to compare with, if any; `--max-psi` goes into `rules`.
    pub(super) fn load(&self, rules: &mut Rules) -> anyhow::Result<Option<Drift>> {
        rules.max_psi = self.max_psi.or(rules.max_psi);
        self.models.as_deref().map(drift::of_ensemble).transpose()
    }
}
