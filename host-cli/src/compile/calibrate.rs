//! `--calibrate`: where the training values of each feature lie goes into the image, for drift to be seen later.

use anyhow::{Context as _, ensure};
use bytemuck::cast_slice;
use qsc_kernel::Model;
use qsc_kernel::image::SectionKind;
use qsc_kernel::image::records::DecileRecord;

use super::writer::Writer;
use crate::image::ImageBytes;
use crate::rows::Rows;

/// Bins, and so one more than the inner deciles.
const BINS: usize = 10;

/// The image with the deciles of `rows`, which have the model's features in its order. No prediction changes.
///
/// # Errors
/// The rows have another number of features, or a feature without any finite value.
pub fn calibrate(image: &ImageBytes, rows: &Rows) -> anyhow::Result<ImageBytes> {
    let model = Model::check(image.as_bytes())?;
    let features = model.n_features();
    ensure!(
        rows.shape().n_features == features,
        "the rows have {} features, but the model has {features}",
        rows.shape().n_features
    );
    let records = model
        .feature_names()
        .enumerate()
        .map(|(feature, name)| {
            let values = rows.data().iter().skip(feature).step_by(features).copied();
            deciles(values).with_context(|| format!("the feature {name:?} has no finite value in any row"))
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    let mut writer = Writer::of(image)?;
    writer.insert(SectionKind::Deciles, cast_slice(&records));
    let calibrated = writer.finish()?;
    Model::check(calibrated.as_bytes()).context("the calibrated image does not pass its own check")?;
    Ok(calibrated)
}

/// The deciles of the finite values; `None` without any.
fn deciles(values: impl Iterator<Item = f32>) -> Option<DecileRecord> {
    let mut values: Vec<f32> = values.filter(|value| value.is_finite()).collect();
    values.sort_unstable_by(f32::total_cmp);
    let count = values.len();
    // The ⌈k·n/10⌉-th smallest.
    let edge = |k: usize| values.get((k * count).div_ceil(BINS).checked_sub(1)?).copied();
    let mut edges = [0.0; BINS - 1];
    for (at, slot) in edges.iter_mut().enumerate() {
        // −0 and +0 are one value; an image has one encoding.
        *slot = edge(at + 1)? + 0.0;
    }
    let mut counts = [0; BINS];
    for value in &values {
        counts[edges.iter().filter(|edge| *edge < value).count()] += 1;
    }
    Some(DecileRecord { edges, counts })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deciles_are_values_and_bins_count_them() {
        let record = deciles((1..=100).map(|value| value as f32).chain([f32::NAN, f32::INFINITY])).unwrap();
        assert_eq!(record.edges, [10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0]);
        assert_eq!(record.counts, [10; BINS]);
        let tied = deciles([7.0; 30].into_iter().chain([8.0; 10])).unwrap();
        assert_eq!(tied.edges, [7.0, 7.0, 7.0, 7.0, 7.0, 7.0, 7.0, 8.0, 8.0]);
        assert_eq!(tied.counts, [30, 0, 0, 0, 0, 0, 0, 10, 0, 0]);
        assert_eq!(deciles([5.0].into_iter()).unwrap().counts, [1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert!(deciles([f32::NAN].into_iter()).is_none());
    }
}
