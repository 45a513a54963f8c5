//! Population statistics, as `numpy` computes them.

/// Mean and population standard deviation of finite values; `None` without values.
///
/// Two passes with compensated sums: correct to about one unit in the last place, so a std that is exactly on a
/// bound in decimal is not pushed over it by rounding.
pub(super) fn mean_std(values: &[f64]) -> Option<(f64, f64)> {
    if values.is_empty() {
        return None;
    }
    let count = values.len() as f64;
    let sum = compensated_sum(values.iter().copied());
    let mean = (sum.high + sum.low) / count;
    // What rounding took from the mean, so that deviations are taken from the exact one.
    let rest = (sum.high - mean * count + mean_product_error(mean, count) + sum.low) / count;
    let squares = compensated_sum(values.iter().map(|value| {
        let deviation = (value - mean) - rest;
        deviation * deviation
    }));
    Some((mean, ((squares.high + squares.low) / count).sqrt()))
}

/// The `percent`-th percentile of ascending values by linear interpolation, bit for bit `numpy.percentile`.
pub(super) fn percentile(sorted: &[f64], percent: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let position = last as f64 * (percent / 100.0);
    let below = position.floor();
    let fraction = position - below;
    let low = *sorted.get(below as usize)?;
    let high = *sorted.get((below as usize + 1).min(last))?;
    let step = high - low;
    // The lerp of numpy is taken from the nearer end.
    Some(if fraction >= 0.5 { high - step * (1.0 - fraction) } else { low + step * fraction })
}

/// A sum as two numbers whose exact sum it is (up to the rounding of `low`).
struct Sum {
    high: f64,
    low: f64,
}

/// Neumaier's sum.
fn compensated_sum(values: impl Iterator<Item = f64>) -> Sum {
    values.fold(Sum { high: 0.0, low: 0.0 }, |sum, value| {
        let high = sum.high + value;
        let lost =
            if sum.high.abs() >= value.abs() { (sum.high - high) + value } else { (value - high) + sum.high };
        Sum { high, low: sum.low + lost }
    })
}

/// `fl(mean · count) − mean · count`, by fused multiply-add.
fn mean_product_error(mean: f64, count: f64) -> f64 {
    -f64::mul_add(mean, count, -(mean * count))
}

/// Running figures of one series in constant memory (Welford).
#[derive(Clone, Debug)]
pub(super) struct Moments {
    count: u64,
    mean: f64,
    squares: f64,
    pub(super) min: f64,
    pub(super) max: f64,
}

impl Moments {
    pub(super) const EMPTY: Self =
        Self { count: 0, mean: 0.0, squares: 0.0, min: f64::INFINITY, max: f64::NEG_INFINITY };

    pub(super) fn add(&mut self, value: f64) {
        self.count += 1;
        let deviation = value - self.mean;
        self.mean += deviation / self.count as f64;
        self.squares += deviation * (value - self.mean);
        self.min = self.min.min(value);
        self.max = self.max.max(value);
    }

    /// Mean and population standard deviation; `None` without values. Beyond about 1e154 the std overflows to
    /// infinity or NaN.
    pub(super) fn mean_std(&self) -> Option<(f64, f64)> {
        (self.count > 0).then(|| (self.mean, (self.squares / self.count as f64).sqrt()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const NUMPY: &str = include_str!("../../../tests/fixtures/gates/numpy_stats.json");

    /// Calls `check(name, sorted values, figures)` for each series.
    fn each(check: impl Fn(&str, &[f64], &Value)) {
        let all: Value = serde_json::from_str(NUMPY).unwrap();
        let all = all.as_object().unwrap();
        assert!(all.len() > 20);
        for (name, figures) in all {
            let values = figures["values"].as_array().unwrap();
            let mut values: Vec<f64> = values.iter().map(|value| value.as_f64().unwrap()).collect();
            values.sort_unstable_by(f64::total_cmp);
            check(name, &values, figures);
        }
    }

    fn ulps(left: f64, right: f64) -> u64 {
        left.to_bits().abs_diff(right.to_bits())
    }

    #[test]
    fn percentiles_are_those_of_numpy_bit_for_bit() {
        each(|name, values, figures| {
            for percent in [10.0, 50.0, 90.0] {
                let expected = figures["percentiles"][percent.to_string()].as_f64().unwrap();
                assert_eq!(
                    percentile(values, percent).unwrap().to_bits(),
                    expected.to_bits(),
                    "{name} P{percent}"
                );
            }
        });
        assert_eq!(percentile(&[], 10.0), None);
    }

    #[test]
    fn mean_and_std_are_exact_to_the_last_place() {
        each(|name, values, figures| {
            let (mean, std) = mean_std(values).unwrap();
            assert!(ulps(mean, figures["mean_exact"].as_f64().unwrap()) <= 1, "{name}");
            let exact = figures["std_exact"].as_f64().unwrap();
            // The squares of the rounding errors of a constant series are far below any threshold.
            assert!(ulps(std, exact) <= 1 || (exact == 0.0 && std < 1e-30), "{name}: {std:e} {exact:e}");
            assert!((std - figures["std"].as_f64().unwrap()).abs() <= 1e-12 * (1.0 + std), "{name}");
        });
        assert_eq!(mean_std(&[]), None);
    }

    #[test]
    fn running_figures_agree() {
        each(|name, values, figures| {
            let mut moments = Moments::EMPTY;
            values.iter().for_each(|value| moments.add(*value));
            let (mean, std) = moments.mean_std().unwrap();
            let exact = figures["mean_exact"].as_f64().unwrap();
            assert!((mean - exact).abs() <= 1e-14 * exact.abs(), "{name}");
            assert!(
                (std - figures["std_exact"].as_f64().unwrap()).abs() <= 1e-15 * exact.abs().max(0.1),
                "{name}"
            );
            assert_eq!((moments.min, moments.max), (values[0], *values.last().unwrap()), "{name}");
        });
        assert!(Moments::EMPTY.mean_std().is_none());
    }
}
