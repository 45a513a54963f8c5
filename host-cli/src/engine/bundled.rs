//! The bundled ensemble and its events, as `qsc demo`, `qsc bench` and measurements use them.

use std::path::Path;

use anyhow::Context as _;
use qsc_kernel::ensemble::Feature;

use super::bind::Schema;
use super::config::ModelsConfig;
use super::load::Images;
use crate::image::ImageBytes;
use crate::stream::Json;

/// The bundled `MODELS.toml`.
///
/// # Errors
/// It is damaged.
pub fn config() -> anyhow::Result<ModelsConfig> {
    ModelsConfig::parse(qsc_models::MODELS_TOML, Path::new(""))
}

/// The bundled images, in the order of [`config`].
#[must_use]
pub fn images() -> Images {
    Images::from_bytes(qsc_models::IMAGES.iter().map(|(_, image)| ImageBytes::copy_of(image)))
}

/// The features of every bundled event, bound to `schema`.
///
/// # Errors
/// The capture is damaged.
pub fn events(schema: &Schema) -> anyhow::Result<Vec<Vec<Feature>>> {
    let mut schema = schema.clone();
    let mut bind = |line: &str| {
        let event = Json::parse(line).ok()?;
        let payload = Json::parse(event.get("fields")?.get("payload")?.as_str()?).ok()?;
        schema.read(payload.get("features")?.as_object()?);
        Some(schema.features().to_vec())
    };
    let events =
        qsc_models::FEATURES_CAPTURE.lines().map(|line| bind(line).context("the bundled capture is damaged"));
    events.collect()
}
