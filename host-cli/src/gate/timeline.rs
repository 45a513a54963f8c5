//! Counts over time in constant memory: when the axis is full, each two neighbouring buckets become one.

use serde::Serialize;

/// Buckets of an axis; between half of them and all are in use once it has folded.
pub(super) const BUCKETS: usize = 96;

/// Width of a bucket before the first fold.
const BASE_MS: u64 = 1000;

/// The time axis all series of one gate share. Starts at the first event, which need not be the earliest.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Axis {
    start: Option<u64>,
    folds: u32,
    used: usize,
}

/// A place on the axis as it was when the event came.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tick {
    bucket: usize,
    folds: u32,
}

/// What the buckets of a verdict's series mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Timeline {
    /// Start of the first bucket, Unix ms; `None` without events.
    pub start_ms: Option<u64>,
    /// Width of a bucket.
    pub bucket_ms: u64,
    /// Buckets up to the last event.
    pub buckets: usize,
}

impl Axis {
    /// The place of an event at `ms`; one from before the start goes to the first bucket.
    pub(super) fn place(&mut self, ms: u64) -> Tick {
        let start = *self.start.get_or_insert(ms);
        let steps = ms.saturating_sub(start) / BASE_MS;
        while steps >> self.folds >= BUCKETS as u64 {
            self.folds += 1;
            self.used = self.used.div_ceil(2);
        }
        let bucket = (steps >> self.folds) as usize;
        self.used = self.used.max(bucket + 1);
        Tick { bucket, folds: self.folds }
    }

    pub(super) fn timeline(&self) -> Timeline {
        Timeline {
            start_ms: self.start,
            bucket_ms: BASE_MS.checked_shl(self.folds).unwrap_or(u64::MAX),
            buckets: self.used,
        }
    }

    /// `counts` as they stand on this axis, up to its last event.
    pub(super) fn read(&self, counts: &Counts) -> Vec<u64> {
        let mut counts = counts.clone();
        counts.fold_to(self.folds);
        counts.buckets.into_iter().take(self.used).collect()
    }
}

/// One series of counts.
#[derive(Clone, Debug)]
pub(super) struct Counts {
    folds: u32,
    buckets: [u64; BUCKETS],
}

impl Default for Counts {
    fn default() -> Self {
        Self { folds: 0, buckets: [0; BUCKETS] }
    }
}

impl Counts {
    pub(super) fn add(&mut self, tick: Tick) {
        self.fold_to(tick.folds);
        self.buckets[tick.bucket] += 1;
    }

    pub(super) fn total(&self) -> u64 {
        self.buckets.iter().sum()
    }

    fn fold_to(&mut self, folds: u32) {
        while self.folds < folds {
            for bucket in 0..BUCKETS / 2 {
                self.buckets[bucket] = self.buckets[2 * bucket] + self.buckets[2 * bucket + 1];
            }
            self.buckets[BUCKETS / 2..].fill(0);
            self.folds += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folding_loses_no_count_and_keeps_the_order() {
        let (mut axis, mut early, mut late) = (Axis::default(), Counts::default(), Counts::default());
        for second in 0..1000 {
            let tick = axis.place(5_000_000 + second * 1000);
            if second < 500 { early.add(tick) } else { late.add(tick) }
        }
        assert_eq!(axis.timeline(), Timeline { start_ms: Some(5_000_000), bucket_ms: 16_000, buckets: 63 });
        let (early, late) = (axis.read(&early), axis.read(&late));
        assert_eq!((early.iter().sum(), late.iter().sum()), (500_u64, 500_u64));
        assert_eq!((early.len(), early[0], early[31], late[31], late[62]), (63, 16, 4, 12, 8));
    }

    #[test]
    fn times_that_jump_stay_on_the_axis() {
        let (mut axis, mut counts) = (Axis::default(), Counts::default());
        for ms in [1000, 0, u64::MAX, 2000, 0] {
            counts.add(axis.place(ms));
        }
        assert_eq!(counts.total(), 5);
        assert!(axis.timeline().buckets <= BUCKETS);
        assert_eq!(axis.read(&counts).iter().sum::<u64>(), 5);
    }
}
