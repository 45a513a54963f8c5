//! A model that panics becomes an error of that model: the others go on voting.

use std::panic::{AssertUnwindSafe, catch_unwind};

use qsc_kernel::ensemble::{ConfidenceRule, Predict};
use qsc_kernel::{Inactive, Prediction, Scratch};

/// Catches panics of what it wraps.
#[derive(Clone, Debug)]
pub struct PanicGuard<P>(pub P);

impl<P: Predict> Predict for PanicGuard<P> {
    fn row_len(&self) -> usize {
        self.0.row_len()
    }

    fn n_features(&self) -> usize {
        self.0.n_features()
    }

    fn predict(
        &self,
        row: &[f32],
        rule: ConfidenceRule,
        scratch: Scratch<'_>,
    ) -> Result<Prediction, Inactive> {
        // Unwind safety: a prediction only borrows the model, and scratch contents never carry over.
        catch_unwind(AssertUnwindSafe(|| self.0.predict(row, rule, scratch)))
            .unwrap_or(Err(Inactive::ExceptionInPredict))
    }
}
