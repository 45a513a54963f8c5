//! Latencies as quantiles and as a picture.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::clock::timer_cost;

/// Rows of the text histogram.
const BARS: usize = 12;
/// Width of the longest bar.
const BAR: f64 = 40.0;
/// Kept up to a minute per row; longer ones count as one.
const LONGEST_PS: u64 = 60_000_000_000_000;

/// Time per row, kept in picoseconds.
pub(super) struct Latency {
    histogram: Histogram<u64>,
    timer: Duration,
    batch: u32,
}

impl Latency {
    /// Nothing measured yet; the clock's own cost is measured now.
    pub(super) fn new(batch: u32) -> Self {
        let histogram =
            Histogram::new_with_max(LONGEST_PS, 3).expect("the bounds of the histogram are in range");
        Self { histogram, timer: timer_cost(), batch }
    }

    pub(super) const fn timer(&self) -> Duration {
        self.timer
    }

    pub(super) fn timer_ns(&self) -> f64 {
        self.timer.as_nanos() as f64
    }

    /// Enters one call.
    pub(super) fn record(&mut self, elapsed: Duration) {
        let ns = u64::try_from(elapsed.saturating_sub(self.timer).as_nanos()).unwrap_or(u64::MAX);
        self.histogram.saturating_record(ns.saturating_mul(1000) / u64::from(self.batch));
    }

    pub(super) fn calls(&self) -> u64 {
        self.histogram.len()
    }

    fn quantiles(&self) -> [(&'static str, &'static str, f64); 6] {
        let at = |quantile| self.histogram.value_at_quantile(quantile) as f64 / 1000.0;
        [
            ("min", "min", self.histogram.min() as f64 / 1000.0),
            ("p50", "p50", at(0.5)),
            ("p90", "p90", at(0.9)),
            ("p99", "p99", at(0.99)),
            ("p999", "p99.9", at(0.999)),
            ("max", "max", self.histogram.max() as f64 / 1000.0),
        ]
    }

    /// Nanoseconds by quantile.
    pub(super) fn document(&self) -> Value {
        self.quantiles().into_iter().map(|(key, _, ns)| (key.to_owned(), json!(ns))).collect()
    }

    /// A table of quantiles, and a histogram from the fastest call to p99.
    pub(super) fn text(&self) -> String {
        let mut text = String::from("Time per row\n");
        for (_, name, ns) in self.quantiles() {
            text.push_str(&format!("  {name:5}  {:>12}\n", duration(ns)));
        }
        text.push('\n');
        let (low, high) =
            (self.histogram.min(), self.histogram.value_at_quantile(0.99).max(self.histogram.min() + 1));
        let edge = |bar: usize| low as f64 * (high as f64 / low.max(1) as f64).powf(bar as f64 / BARS as f64);
        let mut counts = [0_u64; BARS];
        let mut beyond = 0;
        for value in self.histogram.iter_recorded() {
            let at = value.value_iterated_to();
            match (0..BARS).find(|&bar| (at as f64) <= edge(bar + 1)) {
                Some(bar) => counts[bar] += value.count_at_value(),
                None => beyond += value.count_at_value(),
            }
        }
        let largest = counts.iter().copied().max().unwrap_or(0).max(1) as f64;
        let share = |count: u64| count as f64 * 100.0 / self.calls().max(1) as f64;
        for (bar, &count) in counts.iter().enumerate() {
            let length = (count as f64 / largest * BAR).round() as usize;
            let (share, bar) = (share(count), duration(edge(bar + 1) / 1000.0));
            text.push_str(&format!("  ≤ {bar:>10}  {share:5.1} %  {}\n", "█".repeat(length)));
        }
        text.push_str(&format!("  beyond        {:5.1} %\n", share(beyond)));
        text
    }
}

fn duration(ns: f64) -> String {
    match ns {
        ns if ns < 1e4 => format!("{ns:.1} ns"),
        ns if ns < 1e7 => format!("{:.2} µs", ns / 1e3),
        ns => format!("{:.2} ms", ns / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_per_row_and_without_the_clock() {
        let mut latency = Latency::new(4);
        let timer = latency.timer();
        for us in 1..=1000 {
            latency.record(Duration::from_micros(us) + timer);
        }
        let quantiles = latency.document();
        for (key, expected) in
            [("min", 250.0), ("p50", 125e3), ("p90", 225e3), ("p99", 247.5e3), ("max", 250e3)]
        {
            let ns = quantiles[key].as_f64().unwrap();
            assert!((ns / expected - 1.0).abs() < 2e-3, "{key}: {ns}");
        }
        assert_eq!(latency.calls(), 1000);
        let share = |line: &str| line.split_once(" %")?.0.split(' ').next_back()?.parse::<f64>().ok();
        let text = latency.text();
        let shares: f64 = text.lines().filter_map(share).sum();
        assert!((shares - 100.0).abs() < 1.0, "{shares}: every call is in the picture");
    }
}
