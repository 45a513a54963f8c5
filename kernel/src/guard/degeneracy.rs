//! The degeneracy window: a model that keeps giving one answer is thrown out by name.

use heapless::Deque;

use crate::answer::Prediction;
use crate::num::index;

/// Predictions a window holds; nothing is judged before it is full.
pub const WINDOW: usize = 100;
/// Degenerate needs more than this many of [`WINDOW`] predictions on one action (95 %) …
const MAX_ONE_ACTION: u32 = 95;
/// … and a population standard deviation of confidence below 0.02: var · WINDOW² < 0.02² · WINDOW² = 4.
const MAX_SCALED_VARIANCE: u64 = 4;
/// Confidence in fixed point: 1.0 is 2^24, so an f32 from 0.5 up is held exactly.
const ONE: f32 = 16_777_216.0;
const ONE_BITS: u32 = 24;

/// A prediction in one word, since a window of them is most of what an ensemble remembers: the action's code in the two highest
/// bits, the confidence below.
#[derive(Clone, Copy, Debug)]
struct Entry(u32);

impl Entry {
    const ACTION: u32 = 30;

    fn of(prediction: Prediction) -> Self {
        Self(u32::from(prediction.action().code()) << Self::ACTION | fixed_point(prediction.confidence()))
    }

    fn action_code(self) -> usize {
        index(self.0 >> Self::ACTION)
    }

    fn confidence(self) -> u64 {
        u64::from(self.0 & ((1 << Self::ACTION) - 1))
    }
}

/// The last 100 predictions of one model, with exact running sums.
///
/// ```
/// use qsc_kernel::guard::{DegeneracyWindow, degeneracy};
/// use qsc_kernel::{Action, Prediction};
///
/// let mut window = DegeneracyWindow::new();
/// let frozen = Prediction::new(Action::Buy, 0.615)?;
/// let fills = (1..=degeneracy::WINDOW).find(|_| window.observe(frozen));
/// assert_eq!(fills, Some(100), "nothing is judged before the window is full");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct DegeneracyWindow {
    entries: Deque<Entry, WINDOW>,
    counts: [u32; 3],
    sum: u64,
    sum_of_squares: u64,
}

impl DegeneracyWindow {
    /// An empty window.
    #[must_use]
    pub const fn new() -> Self {
        Self { entries: Deque::new(), counts: [0; 3], sum: 0, sum_of_squares: 0 }
    }

    /// Enters a prediction and says whether the window, now with it, is degenerate.
    pub fn observe(&mut self, prediction: Prediction) -> bool {
        if self.entries.is_full()
            && let Some(oldest) = self.entries.pop_front()
        {
            self.account(oldest, u32::wrapping_sub, u64::wrapping_sub);
        }
        let entry = Entry::of(prediction);
        if self.entries.push_back(entry).is_ok() {
            self.account(entry, u32::wrapping_add, u64::wrapping_add);
        }
        self.is_degenerate()
    }

    /// True while the full window holds more than 95 % of one action with a confidence spread below 0.02.
    fn is_degenerate(&self) -> bool {
        self.entries.is_full()
            && self.counts.iter().any(|&count| count > MAX_ONE_ACTION)
            && self.scaled_variance() < MAX_SCALED_VARIANCE << (2 * ONE_BITS)
    }

    /// Predictions seen, at most [`WINDOW`].
    #[must_use]
    pub const fn len(&self) -> usize {
        self.entries.len()
    }

    /// True before the first prediction.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// n · Σc² − (Σc)² = n² · variance, exact: at most 100² · 2^48 < 2^62.
    fn scaled_variance(&self) -> u64 {
        let n = u64::try_from(self.entries.len()).unwrap_or(u64::MAX);
        n.wrapping_mul(self.sum_of_squares).wrapping_sub(self.sum.wrapping_mul(self.sum))
    }

    fn account(&mut self, entry: Entry, count: fn(u32, u32) -> u32, add: fn(u64, u64) -> u64) {
        let confidence = entry.confidence();
        if let Some(of_action) = self.counts.get_mut(entry.action_code()) {
            *of_action = count(*of_action, 1);
        }
        self.sum = add(self.sum, confidence);
        self.sum_of_squares = add(self.sum_of_squares, confidence.wrapping_mul(confidence));
    }
}

/// A confidence in [0, 1] as a multiple of 2^−24, truncated.
#[allow(clippy::as_conversions, reason = "the product is within 0..=2^24, and float casts saturate")]
fn fixed_point(confidence: f32) -> u32 {
    (confidence * ONE) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::Action;
    use crate::under_miri;

    fn feed(window: &mut DegeneracyWindow, action: Action, confidence: f32, times: usize) -> bool {
        let prediction = Prediction::new(action, confidence).unwrap();
        (0..times).map(|_| window.observe(prediction)).last().unwrap()
    }

    #[test]
    fn a_frozen_model_is_caught_at_the_hundredth_prediction_and_recovers() {
        let mut window = DegeneracyWindow::new();
        assert!(!feed(&mut window, Action::Buy, 0.615, 99));
        assert!(feed(&mut window, Action::Buy, 0.615, 1));
        assert!(feed(&mut window, Action::Sell, 0.615, 4), "96 of 100");
        assert!(!feed(&mut window, Action::Sell, 0.615, 1), "95 of 100 is allowed");
    }

    #[test]
    fn spread_of_confidence_saves_a_one_sided_model() {
        let mut window = DegeneracyWindow::new();
        for _ in 0..50 {
            feed(&mut window, Action::Hold, 0.5, 1);
            feed(&mut window, Action::Hold, 0.53125, 1);
        }
        assert!(window.is_degenerate(), "std 0.0156");
        for _ in 0..50 {
            feed(&mut window, Action::Hold, 0.5, 1);
            feed(&mut window, Action::Hold, 0.5625, 1);
        }
        assert!(!window.is_degenerate(), "std 0.031");
    }

    #[test]
    fn sums_stay_exact_over_many_turns() {
        let mut window = DegeneracyWindow::new();
        let mut state = 1_u32;
        for _ in 0..under_miri(250, 10_000) {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let action = [Action::Buy, Action::Sell, Action::Hold][(state >> 8) as usize % 3];
            feed(&mut window, action, (state >> 8) as f32 / 16_777_216.0, 1);
        }
        let of = |f: fn(u64) -> u64| window.entries.iter().map(|e| f(e.confidence())).sum::<u64>();
        assert_eq!(window.sum, of(|c| c));
        assert_eq!(window.sum_of_squares, of(|c| c * c));
        assert_eq!(window.counts.iter().sum::<u32>(), 100);
    }
}
