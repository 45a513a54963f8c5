//! Canary and baseline side by side, over the same events: confidences by Mann-Whitney's U, actions by the population
//! stability index.

use serde::Serialize;

use crate::gate::psi;

/// Below this probability, and beyond [`MAX_EFFECT`], confidences differ in earnest. A watch of 6 h makes 720 checks:
/// one in a thousand would raise false alarms, so chance alone must be rarer.
pub const MAX_P: f64 = 1e-6;
/// Largest distance of P(canary > baseline) from one half. With thousands of values everything is significant; this
/// says that it also matters.
pub const MAX_EFFECT: f64 = 0.20;
/// Largest population stability index of the actions.
pub const MAX_PSI: f64 = 0.25;
/// Least values on each side: below, the normal approximation is none.
const MIN_VALUES: usize = 20;

/// What the comparison found.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Comparison {
    /// Events in which the canary and at least one other model voted.
    pub events: u64,
    /// Mann-Whitney on the confidences; `None` with too few, or where all are equal.
    pub mann_whitney: Option<MannWhitney>,
    /// Population stability index of the canary's actions against the others'; `None` with too few.
    pub action_psi: Option<f64>,
    /// What crossed its bound, in words.
    pub findings: Vec<String>,
}

/// Mann-Whitney's test, two-sided.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct MannWhitney {
    /// U of the canary.
    pub u: f64,
    /// Standardized, with corrections for ties and continuity.
    pub z: f64,
    /// Two-sided probability under equality, by the normal approximation.
    pub p: f64,
    /// P(canary > baseline) + ½ P(equal): 0.5 is no difference.
    pub superiority: f64,
}

/// Values of both sides; actions are counts of BUY, SELL, HOLD.
#[derive(Clone, Debug, Default)]
pub struct Sides {
    pub(super) events: u64,
    pub(super) canary: Vec<f64>,
    pub(super) baseline: Vec<f64>,
    pub(super) canary_actions: [u64; 3],
    pub(super) baseline_actions: [u64; 3],
}

impl Sides {
    /// Compares them.
    #[must_use]
    pub fn compare(&self) -> Comparison {
        let mann_whitney = mann_whitney(&self.canary, &self.baseline);
        let action_psi = action_psi(self.canary_actions, self.baseline_actions);
        let mut findings = Vec::new();
        if let Some(MannWhitney { p, superiority, .. }) = mann_whitney
            && p < MAX_P
            && (superiority - 0.5).abs() > MAX_EFFECT
        {
            findings.push(format!(
                "the canary's confidence is above the others' in {:.1} % of pairs (p {p:.1e}), {:.0} to {:.0} % is allowed",
                superiority * 100.0,
                (0.5 - MAX_EFFECT) * 100.0,
                (0.5 + MAX_EFFECT) * 100.0,
            ));
        }
        if let Some(psi) = action_psi
            && psi > MAX_PSI
        {
            findings.push(format!("the PSI of the canary's actions against the others' is {psi:.3}, at most {MAX_PSI} is allowed"));
        }
        Comparison { events: self.events, mann_whitney, action_psi, findings }
    }
}

/// Mann-Whitney's U of `first` against `second`, all values finite.
fn mann_whitney(first: &[f64], second: &[f64]) -> Option<MannWhitney> {
    if first.len() < MIN_VALUES || second.len() < MIN_VALUES {
        return None;
    }
    let mut all: Vec<(f64, bool)> =
        first.iter().map(|&value| (value, true)).chain(second.iter().map(|&value| (value, false))).collect();
    all.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let (mut rank_sum, mut ties, mut rank) = (0.0, 0.0, 0_usize);
    for equal in all.chunk_by(|a, b| a.0 == b.0) {
        let count = equal.len() as f64;
        // Equal values share the mean of their ranks.
        let mean_rank = rank as f64 + (count + 1.0) / 2.0;
        rank_sum += mean_rank * equal.iter().filter(|(_, is_first)| *is_first).count() as f64;
        ties += count.powi(3) - count;
        rank += equal.len();
    }
    let (n1, n2) = (first.len() as f64, second.len() as f64);
    let n = n1 + n2;
    let u = rank_sum - n1 * (n1 + 1.0) / 2.0;
    let mean = n1 * n2 / 2.0;
    let variance = n1 * n2 / 12.0 * ((n + 1.0) - ties / (n * (n - 1.0)));
    if variance <= 0.0 {
        return None;
    }
    let distance = u - mean;
    let z = distance.signum() * (distance.abs() - 0.5).max(0.0) / variance.sqrt();
    let p = libm::erfc(z.abs() / std::f64::consts::SQRT_2).min(1.0);
    Some(MannWhitney { u, z, p, superiority: u / (n1 * n2) })
}

/// Population stability index of the actions; `None` with too few.
fn action_psi(canary: [u64; 3], baseline: [u64; 3]) -> Option<f64> {
    let enough = |counts: [u64; 3]| counts.iter().sum::<u64>() >= MIN_VALUES as u64;
    if enough(canary) && enough(baseline) { psi(&baseline, &canary) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `scipy.stats.mannwhitneyu(range(0, 60, 2), [x * 1.5 + 7 for x in range(25)] + [10, 10, 20],
    /// use_continuity=True, method="asymptotic")`.
    #[test]
    fn mann_whitney_is_scipys() {
        let first: Vec<f64> = (0..30).map(|i| f64::from(i) * 2.0).collect();
        let mut second: Vec<f64> = (0..25).map(|i| f64::from(i) * 1.5 + 7.0).collect();
        second.extend([10.0, 10.0, 20.0]);
        let test = mann_whitney(&first, &second).unwrap();
        assert_eq!(test.u, 493.5);
        assert!((test.p - 0.255_872_926_020_826_1).abs() < 1e-12, "{test:?}");
        assert!((mann_whitney(&second, &first).unwrap().p - 0.255_872_926_020_826_1).abs() < 1e-12);
    }

    #[test]
    fn what_cannot_be_compared_gives_no_number() {
        assert_eq!(mann_whitney(&[0.5; 100], &[0.5; 100]), None, "all equal");
        assert_eq!(mann_whitney(&[0.5; 5], &[0.1; 100]), None, "too few");
        assert_eq!(action_psi([1, 2, 3], [100, 100, 100]), None);
    }

    #[test]
    fn a_difference_that_matters_is_named() {
        let spread = |from: f64| (0..500).map(|i| from + f64::from(i) / 1000.0).collect::<Vec<_>>();
        let sides = |canary, canary_actions| Sides {
            events: 500,
            canary: spread(canary),
            baseline: spread(0.3),
            canary_actions,
            baseline_actions: [170, 170, 160],
        };
        assert_eq!(
            sides(0.32, [165, 165, 170]).compare().findings,
            [""; 0],
            "significant or not, it is small"
        );
        assert_eq!(sides(0.5, [165, 165, 170]).compare().findings.len(), 1);
        assert_eq!(sides(0.5, [400, 50, 50]).compare().findings.len(), 2);
        let equal = action_psi([170, 170, 160], [170, 170, 160]).unwrap();
        assert!(equal.abs() < 1e-12);
    }
}
