//! The training rows of an ensemble's models, for gates to compare features with.

use std::path::Path;

use anyhow::Context as _;
use qsc_kernel::Model;

use crate::engine::config::ModelsConfig;
use crate::gate::{Drift, Reference};
use crate::image::ImageBytes;

/// The training rows of every model in this `MODELS.toml`.
///
/// # Errors
/// It or an image cannot be used.
pub fn of_ensemble(path: &Path) -> anyhow::Result<Drift> {
    let mut drift = Drift::default();
    for config in ModelsConfig::read(path)?.models {
        let image = ImageBytes::read(&config.image)?;
        let model = Model::check(image.as_bytes())
            .with_context(|| format!("{} is no valid image", config.image.display()))?;
        let references = model
            .deciles()
            .iter()
            .map(|deciles| Reference { deciles: deciles.edges, counts: deciles.counts.map(u64::from) });
        drift.add_model(&config.name, model.feature_names().map(str::to_owned).zip(references).collect());
    }
    Ok(drift)
}
