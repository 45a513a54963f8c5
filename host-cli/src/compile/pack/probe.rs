//! Rows that visit thresholds from both sides, and the finished image held against the interpreter on them.

use anyhow::ensure;
use qsc_kernel::{Model, Scratch};

use super::ranks::Quantizer;
use crate::compile::golden;
use crate::compile::ir::TreeModel;
use crate::random::SplitMix;

/// Rows the finished image is compared on with the interpreter.
const PROBES: usize = 256;

/// Rows whose values lie on, just below, just above and between thresholds, or are missing; the same for the
/// same model.
pub(super) fn rows(quantizer: &Quantizer, n_features: usize) -> Vec<Vec<f32>> {
    let mut random = SplitMix(0x5153_4D31);
    let value = |feature: usize, random: &mut SplitMix| {
        let thresholds = quantizer.thresholds_of(feature);
        let Some(&threshold) = thresholds.get(random.below(thresholds.len() as u64) as usize) else {
            // Only category sets, or no split at all, ask for this feature.
            return [0.0, 1.0, 2.0, 5.0, 31.0, 32.0, -1.0, f32::NAN][random.below(8) as usize];
        };
        match random.below(16) {
            0..=3 => threshold,
            4..=6 => threshold.next_down(),
            7..=9 => threshold.next_up(),
            10 => 0.0,
            11 => f32::NAN,
            _ => threshold * 1.01 + 0.01,
        }
    };
    (0..PROBES).map(|_| (0..n_features).map(|feature| value(feature, &mut random)).collect()).collect()
}

/// Refuses an image that does not mean what the model means.
pub(super) fn prove(
    image: &Model<'_>,
    model: &TreeModel,
    rows: &[Vec<f32>],
    exact: bool,
) -> anyhow::Result<()> {
    let mut scratch = golden::scratch(image);
    for row in rows {
        let raw = image.predict(row, Scratch::new(&mut scratch))?.raw;
        let sums = model.margins_f64(row);
        let within = raw
            .iter()
            .zip(&sums)
            .all(|(got, sum)| (f64::from(*got as f32) - sum).abs() <= image.max_abs_error());
        let same_bits = !exact || {
            let library = model.margins_library(row);
            raw.iter().zip(&library).all(|(got, bits)| got.to_bits() == bits.to_bits())
        };
        ensure!(
            within && same_bits && raw.len() == sums.len(),
            "the packed image gives {raw:?} where the model gives {sums:?}; nothing was written, please report this model"
        );
    }
    Ok(())
}
