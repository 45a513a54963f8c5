//! The clock, what reading it costs, and where the time between two readings went.

use std::time::{Duration, Instant};

use qsc_kernel::observe::{Observer, Stage};

/// What two readings one after the other are apart: the smallest median of many short rounds.
pub(super) fn timer_cost() -> Duration {
    let round = |_| {
        let mut costs = [Duration::ZERO; 101];
        for cost in &mut costs {
            let started = Instant::now();
            *cost = started.elapsed();
        }
        costs.sort_unstable();
        costs[costs.len() / 2]
    };
    (0..20).map(round).min().unwrap_or_default()
}

/// Time per name, in order of first use.
#[derive(Debug, Default)]
pub(super) struct Shares(Vec<(String, Duration)>);

impl Shares {
    fn add(&mut self, name: &str, time: Duration) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, sum)) => *sum += time,
            None => self.0.push((name.to_owned(), time)),
        }
    }

    /// Names and shares of the whole.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        let whole: Duration = self.0.iter().map(|(_, time)| *time).sum();
        let whole = whole.as_secs_f64().max(f64::MIN_POSITIVE);
        self.0.iter().map(move |(name, time)| (name.as_str(), time.as_secs_f64() / whole))
    }
}

/// A stopwatch that the kernel presses at the end of each stage. Stages that end more than once in a call are summed.
pub(super) struct Stopwatch {
    last: Instant,
    timer: Duration,
    /// Time of each stage of this call, in the order they ended.
    laps: Vec<(Stage, Duration)>,
}

impl Stopwatch {
    pub(super) fn new(timer: Duration) -> Self {
        Self { last: Instant::now(), timer, laps: Vec::with_capacity(2048) }
    }

    /// The work begins now.
    pub(super) fn start(&mut self) {
        self.laps.clear();
        self.last = Instant::now();
    }

    /// Enters the laps since the start under these names.
    pub(super) fn enter(&self, shares: &mut Shares, name: impl Fn(Stage) -> String) {
        for &(stage, time) in &self.laps {
            shares.add(&name(stage), time);
        }
    }
}

impl Observer for Stopwatch {
    fn ended(&mut self, stage: Stage) {
        let now = Instant::now();
        self.laps.push((stage, (now - self.last).saturating_sub(self.timer)));
        self.last = now;
    }
}
