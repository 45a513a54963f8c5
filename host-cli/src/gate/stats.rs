//! Population statistics, as `numpy` computes them.

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

/// Running figures of one series of finite values, in constant memory.
///
/// Sums are kept to twice the precision of `f64`, so the figures are correct to the last place: a std that is exactly
/// on a bound is not pushed over it by rounding.
#[derive(Clone, Debug)]
pub(super) struct Moments {
    count: u64,
    /// The first value; the others enter as their distance from it.
    shift: f64,
    sum: Pair,
    squares: Pair,
    pub(super) min: f64,
    pub(super) max: f64,
}

impl Default for Moments {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl Moments {
    pub(super) const EMPTY: Self = Self {
        count: 0,
        shift: 0.0,
        sum: Pair::ZERO,
        squares: Pair::ZERO,
        min: f64::INFINITY,
        max: f64::NEG_INFINITY,
    };

    pub(super) fn of(values: &[f64]) -> Self {
        values.iter().fold(Self::EMPTY, |mut moments, value| {
            moments.add(*value);
            moments
        })
    }

    pub(super) fn add(&mut self, value: f64) {
        if self.count == 0 {
            self.shift = value;
        }
        self.count += 1;
        let distance = Pair::sum_of(value, -self.shift);
        self.sum.add(distance);
        self.squares.add(distance.squared());
        self.min = self.min.min(value);
        self.max = self.max.max(value);
    }

    /// Mean and population standard deviation; `None` without values. With distances beyond about 1e154 the std is
    /// NaN.
    pub(super) fn mean_std(&self) -> Option<(f64, f64)> {
        if self.count == 0 {
            return None;
        }
        let count = self.count as f64;
        let mean_distance = self.sum.divided_by(count);
        let mut mean = Pair::sum_of(self.shift, mean_distance.high);
        mean.low += mean_distance.low;
        let mut variance = self.squares;
        let square_of_sum = self.sum.squared().divided_by(count);
        variance.add(Pair { high: -square_of_sum.high, low: -square_of_sum.low });
        Some((mean.high + mean.low, variance.divided_by(count).sqrt()))
    }
}

/// A number as the sum of two: `low` holds what `high` cannot.
#[derive(Clone, Copy, Debug)]
struct Pair {
    high: f64,
    low: f64,
}

impl Pair {
    const ZERO: Self = Self { high: 0.0, low: 0.0 };

    /// `left + right`, exactly.
    fn sum_of(left: f64, right: f64) -> Self {
        let high = left + right;
        let of_right = high - left;
        Self { high, low: (left - (high - of_right)) + (right - of_right) }
    }

    fn add(&mut self, other: Self) {
        let sum = Self::sum_of(self.high, other.high);
        *self = Self::sum_of(sum.high, sum.low + self.low + other.low);
    }

    fn squared(self) -> Self {
        let high = self.high * self.high;
        Self { high, low: self.high.mul_add(self.high, -high) + 2.0 * self.high * self.low }
    }

    fn divided_by(self, divisor: f64) -> Self {
        let high = self.high / divisor;
        Self { high, low: ((-high).mul_add(divisor, self.high) + self.low) / divisor }
    }

    /// The root, rounded once; 0 of what rounding left below 0.
    fn sqrt(self) -> f64 {
        if self.high <= 0.0 {
            return 0.0;
        }
        let root = self.high.sqrt();
        root + ((-root).mul_add(root, self.high) + self.low) / (2.0 * root)
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
            let moments = Moments::of(values);
            let (mean, std) = moments.mean_std().unwrap();
            assert!(ulps(mean, figures["mean_exact"].as_f64().unwrap()) <= 1, "{name}");
            assert!(ulps(std, figures["std_exact"].as_f64().unwrap()) <= 1, "{name}: {std:e}");
            assert!((std - figures["std"].as_f64().unwrap()).abs() <= 1e-12 * (1.0 + std), "{name}");
            assert_eq!((moments.min, moments.max), (values[0], *values.last().unwrap()), "{name}");
        });
        assert!(Moments::EMPTY.mean_std().is_none());
    }

    #[test]
    fn a_std_on_a_bound_stays_there_however_many_values() {
        for (low, high, std) in [(0.0, 2e-6, 1e-6), (0.0, 0.1, 0.05), (0.02, 0.0, 0.01), (-1e-6, 1e-6, 1e-6)]
        {
            let mut moments = Moments::EMPTY;
            for count in 1..=1000 {
                moments.add(low);
                moments.add(high);
                assert_eq!(moments.mean_std().unwrap().1, std, "{count}");
            }
        }
    }

    #[test]
    fn a_constant_has_no_spread_whatever_its_size() {
        for value in [0.1, 1e-300, 1e300, -7.3e15] {
            assert_eq!(Moments::of(&[value; 77]).mean_std().unwrap(), (value, 0.0));
        }
    }

    #[test]
    fn what_overflows_is_no_spread() {
        let (_, std) = Moments::of(&[-1e300, 1e300, 1e300]).mean_std().unwrap();
        assert!(std.is_nan());
    }
}
