//! Durations in buckets of powers of two.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::board::add;

/// The first bucket holds durations up to 2^7 = 128 ns.
const FIRST_BIT: u32 = 7;
/// The last bucket with a bound holds durations up to 2^30 ns, about a second.
const LAST_BIT: u32 = 30;
/// Buckets with a bound; one without follows.
const BOUNDED: usize = (LAST_BIT - FIRST_BIT + 1) as usize;

/// A histogram with one writer and any number of readers.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BOUNDED + 1],
    sum_ns: AtomicU64,
}

/// The counts of a histogram at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// Upper bound in seconds, infinite for the last, and the durations in each bucket.
    pub buckets: Vec<(f64, u64)>,
    /// Durations counted.
    pub count: u64,
    /// Their sum in seconds.
    pub sum: f64,
}

impl Histogram {
    /// Counts one duration. Only the one writer calls this.
    pub(super) fn record(&self, duration: Duration) {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        // A duration on a bound is in the bucket below it: `le` means at most.
        let bits = u64::BITS - ns.saturating_sub(1).leading_zeros();
        let at = (bits.saturating_sub(FIRST_BIT) as usize).min(BOUNDED);
        add(&self.buckets[at], 1);
        add(&self.sum_ns, ns);
    }

    /// Counts what another one has counted. Only the one writer calls this.
    pub(super) fn add(&self, other: &Self) {
        for (bucket, by) in self.buckets.iter().zip(&other.buckets) {
            add(bucket, by.load(Ordering::Relaxed));
        }
        add(&self.sum_ns, other.sum_ns.load(Ordering::Relaxed));
    }

    /// The counts as they are.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let counts = self.buckets.each_ref().map(|bucket| bucket.load(Ordering::Relaxed));
        let buckets = counts.iter().enumerate().map(|(at, &count)| (bound(at), count)).collect();
        let sum = self.sum_ns.load(Ordering::Relaxed) as f64 / 1e9;
        Snapshot { buckets, count: counts.iter().sum(), sum }
    }
}

/// The upper bound of a bucket in seconds.
fn bound(at: usize) -> f64 {
    if at < BOUNDED { (1_u64 << (at + FIRST_BIT as usize)) as f64 / 1e9 } else { f64::INFINITY }
}

impl Snapshot {
    /// The duration in seconds that this share of all does not exceed, interpolated within its bucket; `None` without
    /// any, or if it lies beyond the last bound.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let rank = self.count as f64 * share;
        let (mut below, mut low) = (0, 0.0);
        for &(high, count) in &self.buckets {
            if count > 0 && (below + count) as f64 >= rank {
                let inside = (rank - below as f64) / count as f64;
                return high.is_finite().then_some(low + (high - low) * inside);
            }
            (below, low) = (below + count, high);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_on_a_bound_is_at_most_that_bound() {
        let histogram = Histogram::default();
        for ns in [0, 1, 128, 129, 256, 1 << 30, (1 << 30) + 1, u64::MAX / 2] {
            histogram.record(Duration::from_nanos(ns));
        }
        let snapshot = histogram.snapshot();
        let of = |at: usize| snapshot.buckets[at];
        assert_eq!((of(0), of(1)), ((1.28e-7, 3), (2.56e-7, 2)));
        assert_eq!((of(BOUNDED - 1), of(BOUNDED)), ((1.073_741_824, 1), (f64::INFINITY, 2)));
        assert_eq!(snapshot.count, 8);
    }

    #[test]
    fn quantiles_lie_in_their_bucket() {
        let histogram = Histogram::default();
        assert_eq!(histogram.snapshot().quantile(0.5), None);
        (0..99).for_each(|_| histogram.record(Duration::from_nanos(1000)));
        histogram.record(Duration::from_millis(3));
        let snapshot = histogram.snapshot();
        let half = snapshot.quantile(0.5).unwrap();
        assert!((5.12e-7..=1.024e-6).contains(&half), "{half}");
        let last = snapshot.quantile(0.999).unwrap();
        assert!((2.09e-3..=4.2e-3).contains(&last), "{last}");
        histogram.record(Duration::from_secs(9));
        assert_eq!(histogram.snapshot().quantile(1.0), None, "beyond the last bound nothing is known");
    }
}
