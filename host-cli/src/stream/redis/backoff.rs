//! Pauses between attempts.

use std::time::Duration;

use crate::random::SplitMix;

/// Pauses that double up to a cap, with full jitter: each is drawn evenly from zero to its bound, so that clients who
/// lost the same server do not come back together.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    cap: Duration,
    bound: Duration,
    random: SplitMix,
}

impl Backoff {
    /// Pauses from `first` to `cap`; equal seeds draw equal pauses.
    #[must_use]
    pub fn new(first: Duration, cap: Duration, seed: u64) -> Self {
        Self { first, cap, bound: first.min(cap), random: SplitMix(seed) }
    }

    /// The next pause.
    #[expect(
        clippy::should_implement_trait,
        reason = "it never ends: an iterator's Option would be unwrapped"
    )]
    pub fn next(&mut self) -> Duration {
        let bound = self.bound;
        self.bound = bound.saturating_mul(2).min(self.cap);
        bound.mul_f64(self.random.unit())
    }

    /// Begins again with the first bound: the server answered.
    pub const fn reset(&mut self) {
        self.bound = if self.first.as_nanos() < self.cap.as_nanos() { self.first } else { self.cap };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(50);
    const CAP: Duration = Duration::from_secs(5);

    #[test]
    fn pauses_grow_within_their_bounds_and_begin_again() {
        let mut largest = Duration::ZERO;
        for seed in 0..200 {
            let mut backoff = Backoff::new(FIRST, CAP, seed);
            for round in 0..2 {
                let mut bound = FIRST;
                for attempt in 0..12 {
                    let pause = backoff.next();
                    assert!(pause <= bound, "seed {seed}, round {round}, attempt {attempt}: {pause:?}");
                    largest = largest.max(pause);
                    bound = (bound * 2).min(CAP);
                }
                backoff.reset();
            }
        }
        assert!(largest > CAP.mul_f64(0.9), "the cap is reached: {largest:?}");
    }

    #[test]
    fn jitter_is_spread_evenly_and_repeats_with_its_seed() {
        let firsts: Vec<Duration> = (0..1000).map(|seed| Backoff::new(FIRST, CAP, seed).next()).collect();
        let mean = firsts.iter().sum::<Duration>() / 1000;
        assert!(mean > FIRST.mul_f64(0.45) && mean < FIRST.mul_f64(0.55), "{mean:?}");
        assert_eq!(firsts[7], Backoff::new(FIRST, CAP, 7).next());
        assert_ne!(firsts[7], firsts[8]);
    }
}
