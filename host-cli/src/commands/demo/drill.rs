//! The drill: one model freezes in the middle of the replay, as a stuck feature cache would freeze it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use qsc_kernel::ensemble::{ConfidenceRule, Predict};
use qsc_kernel::{Inactive, Prediction, Scratch};

/// A model whose input can be frozen: it goes on predicting, for real, but always the row it saw first.
pub(super) struct Freezable<P> {
    inner: P,
    frozen: Rc<Cell<bool>>,
    row: RefCell<Vec<f32>>,
}

impl<P> Freezable<P> {
    /// The model and the switch that freezes it.
    pub(super) fn new(inner: P) -> (Self, Rc<Cell<bool>>) {
        let frozen = Rc::new(Cell::new(false));
        (Self { inner, frozen: Rc::clone(&frozen), row: RefCell::default() }, frozen)
    }
}

impl<P: Predict> Predict for Freezable<P> {
    fn row_len(&self) -> usize {
        self.inner.row_len()
    }

    fn n_features(&self) -> usize {
        self.inner.n_features()
    }

    fn predict(
        &self,
        row: &[f32],
        rule: ConfidenceRule,
        scratch: Scratch<'_>,
    ) -> Result<Prediction, Inactive> {
        let mut held = self.row.borrow_mut();
        if !self.frozen.get() || held.is_empty() {
            held.clear();
            held.extend_from_slice(row);
        }
        self.inner.predict(&held, rule, scratch)
    }
}
