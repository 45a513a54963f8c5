//! Input validation: the row as it is about to reach a model.

use crate::answer::Inactive;

/// What a member does with NaN in its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Missing {
    /// NaN makes the member inactive.
    Reject,
    /// NaN takes the tree's own missing-value branch.
    Native,
}

/// True if no value is NaN or infinite. Without an early end, which would keep it from running many values at a time.
#[inline]
pub(crate) fn all_finite(values: &[f32]) -> bool {
    values.iter().fold(true, |all, value| all & value.is_finite())
}

/// Which values that are no finite numbers a row holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unusual {
    pub(crate) nan: bool,
    pub(crate) infinite: bool,
}

impl Unusual {
    /// The same with one more value.
    #[inline]
    pub(crate) fn and(self, value: f32) -> Self {
        Self { nan: self.nan | value.is_nan(), infinite: self.infinite | value.is_infinite() }
    }
}

/// A row and what is unusual in it: looked at once, whoever collected it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) unusual: Unusual,
}

impl<'a> Row<'a> {
    pub(crate) fn of(values: &'a [f32]) -> Self {
        Self { values, unusual: values.iter().fold(Unusual::default(), |unusual, &value| unusual.and(value)) }
    }

    /// The first reason against the row of a model that needs `expected` values, in the order dimension, NaN, infinity.
    pub(crate) fn validate(&self, expected: usize, missing: Missing) -> Result<(), Inactive> {
        if self.values.len() != expected {
            Err(Inactive::FeatureDimMismatch)
        } else if missing == Missing::Reject && self.unusual.nan {
            Err(Inactive::NanInput)
        } else if self.unusual.infinite {
            Err(Inactive::InfInput)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn validate(row: &[f32], expected: usize, missing: Missing) -> Result<(), Inactive> {
        Row::of(row).validate(expected, missing)
    }

    #[test]
    fn each_reason_is_named() {
        assert_eq!(validate(&[1.0, 2.0], 2, Missing::Reject), Ok(()));
        assert_eq!(validate(&[1.0], 2, Missing::Native), Err(Inactive::FeatureDimMismatch));
        assert_eq!(validate(&[1.0, f32::NAN], 2, Missing::Reject), Err(Inactive::NanInput));
        assert_eq!(validate(&[1.0, f32::NAN], 2, Missing::Native), Ok(()));
        for inf in [f32::INFINITY, f32::NEG_INFINITY] {
            assert_eq!(validate(&[f32::NAN, inf], 2, Missing::Native), Err(Inactive::InfInput));
        }
        assert!(all_finite(&[0.0, -1.0, f32::MAX]) && all_finite(&[]));
        assert!(!all_finite(&[0.0, f32::NAN, 1.0]) && !all_finite(&[f32::NEG_INFINITY]));
    }
}
