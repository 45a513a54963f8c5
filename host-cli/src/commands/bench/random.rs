//! Random values within what a model's golden rows span.

use qsc_kernel::Model;

use crate::random::SplitMix;

/// From a fixed seed: every bench of an image sees the same rows.
pub(super) struct Random(SplitMix);

impl Random {
    pub(super) const fn new() -> Self {
        Self(SplitMix(0x5eed))
    }

    /// A value from `low` to `high`.
    pub(super) fn within(&mut self, (low, high): (f32, f32)) -> f32 {
        let unit = self.0.unit();
        (f64::from(low) * (1.0 - unit) + f64::from(high) * unit) as f32
    }
}

/// Smallest and largest finite golden value of each feature, `[n_features]`; −1 to 1 where there is none.
pub(super) fn ranges(model: &Model<'_>) -> Vec<(f32, f32)> {
    let mut ranges = vec![(f32::INFINITY, f32::NEG_INFINITY); model.n_features()];
    for step in model.golden_inputs().chunks_exact(model.n_features()) {
        for ((low, high), &value) in ranges.iter_mut().zip(step) {
            if value.is_finite() {
                (*low, *high) = (low.min(value), high.max(value));
            }
        }
    }
    for range in &mut ranges {
        if range.0 > range.1 {
            *range = (-1.0, 1.0);
        }
    }
    ranges
}
