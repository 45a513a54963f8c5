//! The plain interpreter of the intermediate model: the specification of what a model means.
//!
//! Written for reading, not for speed. Every faster form is judged by it, and it is judged by the libraries
//! themselves: [`TreeModel::margins_library`] gives their margins bit for bit.

use super::ir::{LibraryRules, Link, Missing, Node, Test, Tree, TreeModel};

/// LightGBM's zero: values this close to 0.0 are 0.0 (the f32 `1e-35`, widened).
pub const LIGHTGBM_ZERO: f64 = 1e-35_f32 as f64;

/// Categories XGBoost can tell apart: all integers below 2^24, exact in f32.
const XGBOOST_CATEGORIES: f32 = 16_777_216.0;

impl TreeModel {
    /// The sum of base and leaves in f64, `[groups]`, for a `[n_features]` row (NaN is a missing value).
    ///
    /// # Panics
    /// If `row` is not `[n_features]` wide.
    #[must_use]
    pub fn margins_f64(&self, row: &[f32]) -> Vec<f64> {
        self.margins(row, |sum, leaf| sum + leaf)
    }

    /// The margins as the library itself computes them, `[groups]`: XGBoost sums in f32 (widened here), LightGBM in f64,
    /// both in tree order.
    ///
    /// # Panics
    /// If `row` is not `[n_features]` wide.
    #[must_use]
    pub fn margins_library(&self, row: &[f32]) -> Vec<f64> {
        match self.rules {
            // Base and leaves are f32 widened, so narrowing them back is exact.
            LibraryRules::XgBoost => self.margins(row, |sum, leaf| f64::from(sum as f32 + leaf as f32)),
            LibraryRules::LightGbm => self.margins_f64(row),
        }
    }

    /// From `[groups]` margins to `[groups]` outputs, in f64.
    #[must_use]
    pub fn outputs(&self, margins: &[f64]) -> Vec<f64> {
        let scale = self.average.map_or(1.0, f64::from);
        let margins = margins.iter().map(|margin| margin / scale);
        match self.link {
            Link::Identity => margins.collect(),
            Link::Sigmoid { scale } => {
                margins.map(|margin| 1.0 / (1.0 + libm::exp(-scale * margin))).collect()
            }
            Link::Softmax => softmax(&margins.collect::<Vec<_>>()),
            Link::Exp => margins.map(libm::exp).collect(),
            Link::SignedSquare => margins.map(|margin| margin * margin.abs()).collect(),
            Link::Log1pExp => margins.map(log1p_exp).collect(),
            Link::Step => margins.map(|margin| if margin > 0.0 { 1.0 } else { 0.0 }).collect(),
        }
    }

    fn margins(&self, row: &[f32], add: impl Fn(f64, f64) -> f64) -> Vec<f64> {
        assert_eq!(row.len(), self.n_features(), "a row has one value per feature");
        let mut sums = self.base.clone();
        for tree in &self.trees {
            sums[tree.group] = add(sums[tree.group], tree.leaf(self.rules, row));
        }
        sums
    }
}

impl Tree {
    /// The leaf value that `row` reaches.
    fn leaf(&self, rules: LibraryRules, row: &[f32]) -> f64 {
        let mut node = 0;
        loop {
            match &self.nodes[node] {
                Node::Leaf(value) => return *value,
                Node::Split { feature, test, left, right } => {
                    node = if decide(test, rules, row[*feature]) { *left } else { *right };
                }
            }
        }
    }
}

/// Whether the feature value `x` goes left.
#[must_use]
pub fn decide(test: &Test, rules: LibraryRules, x: f32) -> bool {
    match test {
        Test::Number { threshold, missing } => {
            let value = match rules {
                LibraryRules::XgBoost => f64::from(x),
                LibraryRules::LightGbm => lightgbm_value(x),
            };
            let value = match *missing {
                Missing::Nan { left } if value.is_nan() => return left,
                Missing::Zero { left } if value.is_nan() || value == 0.0 => return left,
                Missing::NanIsZero if value.is_nan() => 0.0,
                Missing::Nan { .. } | Missing::Zero { .. } | Missing::NanIsZero => value,
            };
            match rules {
                // Both sides are f32 widened: the f64 comparison is the f32 one.
                LibraryRules::XgBoost => value < *threshold,
                LibraryRules::LightGbm => value <= *threshold,
            }
        }
        Test::CategoryRight { set, nan_left } => {
            if x.is_nan() {
                return *nan_left;
            }
            let in_set = (0.0..XGBOOST_CATEGORIES).contains(&x) && set.binary_search(&(x as u32)).is_ok();
            !in_set
        }
        Test::CategoryLeft { set } => {
            let category = lightgbm_value(x).trunc();
            // Also false for NaN. Values that LightGBM's cast to int cannot hold are in no set.
            (0.0..2_147_483_648.0).contains(&category) && set.binary_search(&(category as u32)).is_ok()
        }
    }
}

/// The value LightGBM sees: its C interface replaces what is as good as zero by zero.
fn lightgbm_value(x: f32) -> f64 {
    let value = f64::from(x);
    if value.abs() <= LIGHTGBM_ZERO { 0.0 } else { value }
}

/// exp(mᵢ) / Σ exp(mⱼ), shifted by the largest so that nothing overflows.
fn softmax(margins: &[f64]) -> Vec<f64> {
    let largest = margins.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = margins.iter().map(|margin| libm::exp(margin - largest)).collect();
    let sum: f64 = powers.iter().sum();
    powers.iter().map(|power| power / sum).collect()
}

/// ln(1 + exp(m)) without overflow for large `m`.
fn log1p_exp(margin: f64) -> f64 {
    margin.max(0.0) + libm::log1p(libm::exp(-margin.abs()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use LibraryRules::{LightGbm, XgBoost};

    fn number(threshold: f64, missing: Missing) -> Test {
        Test::Number { threshold, missing }
    }

    #[test]
    fn xgboost_numbers() {
        let test = number(f64::from(0.3_f32), Missing::Nan { left: true });
        assert!(!decide(&test, XgBoost, 0.3), "a tie goes right");
        assert!(decide(&test, XgBoost, 0.3_f32.next_down()));
        assert!(decide(&test, XgBoost, f32::NAN));
        assert!(!decide(&number(0.0, Missing::Nan { left: false }), XgBoost, f32::NAN));
        assert!(!decide(&number(0.0, Missing::Nan { left: true }), XgBoost, -0.0), "-0 is not below 0");
        assert!(
            decide(&number(0.0, Missing::Nan { left: true }), XgBoost, -1e-40),
            "XGBoost knows no near-zero"
        );
        assert!(!decide(&number(f64::INFINITY, Missing::Nan { left: true }), XgBoost, f32::INFINITY));
    }

    #[test]
    fn lightgbm_numbers() {
        let tie = number(0.5, Missing::Nan { left: false });
        assert!(decide(&tie, LightGbm, 0.5), "a tie goes left");
        assert!(!decide(&tie, LightGbm, f32::NAN));
        // 0.1 as f32 is above 0.1 as f64: the comparison must not be narrowed.
        assert!(!decide(&number(0.1, Missing::NanIsZero), LightGbm, 0.1));

        let none = number(-0.5, Missing::NanIsZero);
        assert!(!decide(&none, LightGbm, f32::NAN), "NaN is 0.0, and 0.0 > -0.5");
        let zero = number(-0.5, Missing::Zero { left: true });
        for missing in [f32::NAN, 0.0, -0.0, 1e-35, -1e-35, 1e-45] {
            assert!(decide(&zero, LightGbm, missing), "{missing}");
        }
        assert!(!decide(&zero, LightGbm, 1.1e-35));

        // The C interface zeroes -1e-36 before a numeric comparison, whatever the missing type.
        assert!(!decide(&number(-1e-37, Missing::Nan { left: false }), LightGbm, -1e-36));
        assert!(decide(&number(0.0, Missing::Nan { left: false }), LightGbm, 1e-36));
    }

    #[test]
    fn categories() {
        let right = Test::CategoryRight { set: vec![0, 2], nan_left: false };
        for (x, left) in [(0.0, false), (2.9, false), (1.0, true), (-0.5, true), (-1.0, true), (3.0, true)] {
            assert_eq!(decide(&right, XgBoost, x), left, "{x}");
        }
        assert!(!decide(&right, XgBoost, -0.0) && !decide(&right, XgBoost, f32::NAN));
        assert!(decide(&right, XgBoost, 16_777_216.0) && decide(&right, XgBoost, f32::INFINITY));

        let left = Test::CategoryLeft { set: vec![0, 2] };
        for (x, goes_left) in
            [(0.0, true), (2.9, true), (-0.5, true), (1.0, false), (-1.0, false), (3.0, false)]
        {
            assert_eq!(decide(&left, LightGbm, x), goes_left, "{x}");
        }
        for x in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 4e9, -4e9] {
            assert!(!decide(&left, LightGbm, x), "{x}");
        }
    }

    #[test]
    fn links_do_not_overflow() {
        assert_eq!(softmax(&[1e9, 0.0]), [1.0, 0.0]);
        assert_eq!(log1p_exp(1e9), 1e9);
        assert!(log1p_exp(-1e9) == 0.0 && (log1p_exp(0.0) - 2.0_f64.ln()).abs() < 1e-15);
    }
}
