//! The last steps of one symbol as a sequence model sees them, in memory the caller brings.

use super::Inactive;
use crate::guard::input::{Row, Unusual};
use crate::rows::copy;

/// The last `seq_len` steps of `n_features` values each, always in one piece, so that a model reads them where they lie.
///
/// `S` is the memory: twice the window, so that steps are moved to the front only once in `seq_len`.
///
/// ```
/// use qsc_kernel::ensemble::Window;
///
/// let mut window = Window::new(2, 1, [0.0; 4])?;
/// window.push(&[1.0]);
/// assert_eq!(window.row(), None, "it waits for its second step");
/// window.push(&[2.0]);
/// window.push(&[3.0]);
/// assert_eq!(window.row(), Some(&[2.0, 3.0][..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Window<S> {
    values: S,
    /// Values of a whole window.
    row_len: usize,
    /// Values of a step, at least 1.
    step_len: usize,
    /// Values in use, from the front.
    used: usize,
    /// Steps since the last one with NaN, and since the last one with an infinity.
    since_nan: usize,
    since_infinite: usize,
}

/// Memory smaller than two windows, or a window without values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct WindowTooSmall;

impl core::fmt::Display for WindowTooSmall {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("the memory is smaller than two windows of seq_len · n_features values")
    }
}

impl core::error::Error for WindowTooSmall {}

impl<S: AsRef<[f32]> + AsMut<[f32]>> Window<S> {
    /// An empty window.
    ///
    /// # Errors
    /// `values` holds less than `2 · seq_len · n_features`, or one of them is 0.
    pub fn new(seq_len: usize, n_features: usize, values: S) -> Result<Self, WindowTooSmall> {
        let row_len = seq_len.checked_mul(n_features).filter(|&len| len > 0).ok_or(WindowTooSmall)?;
        if row_len.checked_mul(2).is_none_or(|needed| values.as_ref().len() < needed) {
            return Err(WindowTooSmall);
        }
        let never = usize::MAX;
        Ok(Self { values, row_len, step_len: n_features, used: 0, since_nan: never, since_infinite: never })
    }

    /// `seq_len` and `n_features`, as [`Self::new`] was given them.
    #[must_use]
    pub fn shape(&self) -> (usize, usize) {
        // A step has at least one value.
        (self.row_len.checked_div(self.step_len).unwrap_or(0), self.step_len)
    }

    /// Forgets all steps: after one that could not be read the window would hide a gap in time.
    pub fn clear(&mut self) {
        self.used = 0;
        (self.since_nan, self.since_infinite) = (usize::MAX, usize::MAX);
    }

    /// Appends a step `[n_features]`; one of another length clears the window.
    pub fn push(&mut self, step: &[f32]) {
        let fill = |place: &mut [f32]| copy(step, place).map(|()| Row::of(step).unusual);
        // A cleared window says for itself that it waits.
        let _ = self.push_with(|place| fill(place).ok_or(Inactive::FeatureDimMismatch));
    }

    /// Appends a step that `fill` writes in place; where it cannot, the window is cleared.
    pub(super) fn push_with(
        &mut self,
        fill: impl FnOnce(&mut [f32]) -> Result<Unusual, Inactive>,
    ) -> Result<(), Inactive> {
        let filled = self.place().ok_or(Inactive::ExceptionInPredict).and_then(fill);
        match filled {
            Ok(unusual) => {
                self.used = self.used.saturating_add(self.step_len);
                let since = |steps: usize, now: bool| if now { 0 } else { steps.saturating_add(1) };
                self.since_nan = since(self.since_nan, unusual.nan);
                self.since_infinite = since(self.since_infinite, unusual.infinite);
            }
            Err(_) => self.clear(),
        }
        filled.map(|_| ())
    }

    /// Where the next step goes, `[n_features]`.
    fn place(&mut self) -> Option<&mut [f32]> {
        let values = self.values.as_mut();
        if self.used.checked_add(self.step_len)? > values.len() {
            // All but the oldest step go to the front, where nothing of them lies yet.
            let kept = self.row_len.checked_sub(self.step_len)?;
            let (front, window) = values.split_at_mut_checked(self.used.checked_sub(kept)?)?;
            copy(window.get(..kept)?, front.get_mut(..kept)?)?;
            self.used = kept;
        }
        values.get_mut(self.used..)?.get_mut(..self.step_len)
    }

    /// The last `seq_len` steps, oldest first, `[seq_len, n_features]`; `None` until there are so many.
    #[must_use]
    pub fn row(&self) -> Option<&[f32]> {
        self.values.as_ref().get(self.used.checked_sub(self.row_len)?..self.used)
    }

    /// The row with what is unusual in it.
    pub(super) fn checked_row(&self) -> Option<Row<'_>> {
        let seq_len = self.row_len.checked_div(self.step_len)?;
        let unusual = Unusual { nan: self.since_nan < seq_len, infinite: self.since_infinite < seq_len };
        Some(Row { values: self.row()?, unusual })
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec;

    #[test]
    fn a_window_is_the_last_steps() {
        let mut window = Window::new(3, 2, vec![0.0; 12]).unwrap();
        for step in 0..40_u8 {
            let value = f32::from(step);
            window.push(&[value, -value]);
            if step < 2 {
                assert_eq!(window.row(), None);
                continue;
            }
            let expected = [value - 2.0, 2.0 - value, value - 1.0, 1.0 - value, value, -value];
            assert_eq!(window.row(), Some(&expected[..]), "step {step}");
        }
        window.clear();
        window.push(&[1.0, 2.0]);
        assert_eq!(window.row(), None);
    }

    #[test]
    fn what_is_unusual_is_known_as_long_as_it_is_inside() {
        let mut window = Window::new(3, 1, vec![0.0; 6]).unwrap();
        for step in 0..60_u8 {
            let value = match step % 10 {
                4 => f32::NAN,
                6 => f32::INFINITY,
                _ => 1.0,
            };
            window.push(&[value]);
            if let Some(row) = window.checked_row() {
                assert_eq!(row.unusual, Row::of(row.values).unusual, "step {step}");
            }
        }
        window.clear();
        window.push(&[f32::NAN]);
        window.push(&[0.0]);
        window.push(&[0.0]);
        assert!(window.checked_row().unwrap().unusual.nan);
    }

    #[test]
    fn a_step_of_another_length_leaves_a_gap() {
        let mut window = Window::new(2, 1, [0.0; 4]).unwrap();
        window.push(&[1.0]);
        window.push(&[2.0, 3.0]);
        window.push(&[4.0]);
        assert_eq!(window.row(), None);
        window.push(&[5.0]);
        assert_eq!(window.row(), Some(&[4.0, 5.0][..]));
    }

    #[test]
    fn memory_is_two_windows() {
        assert_eq!(Window::new(2, 3, [0.0; 11]).unwrap_err(), WindowTooSmall);
        assert_eq!(Window::new(0, 3, [0.0; 12]).unwrap_err(), WindowTooSmall);
        assert_eq!(Window::new(usize::MAX, 2, [0.0; 12]).unwrap_err(), WindowTooSmall);
    }
}
