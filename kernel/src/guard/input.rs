//! Input validation: the row as it is about to reach a model.

use crate::ensemble::Inactive;

/// What a member does with NaN in its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Missing {
    /// NaN makes the member inactive.
    Reject,
    /// NaN takes the tree's own missing-value branch.
    Native,
}

/// Checks the row `[row_len] f32` of a model that needs `expected` values.
///
/// # Errors
/// The first reason, in the order dimension, NaN, infinity.
pub fn validate(row: &[f32], expected: usize, missing: Missing) -> Result<(), Inactive> {
    if row.len() != expected {
        return Err(Inactive::FeatureDimMismatch);
    }
    if missing == Missing::Reject && row.iter().any(|value| value.is_nan()) {
        return Err(Inactive::NanInput);
    }
    if row.iter().any(|value| value.is_infinite()) {
        return Err(Inactive::InfInput);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_named() {
        assert_eq!(validate(&[1.0, 2.0], 2, Missing::Reject), Ok(()));
        assert_eq!(validate(&[1.0], 2, Missing::Native), Err(Inactive::FeatureDimMismatch));
        assert_eq!(validate(&[1.0, f32::NAN], 2, Missing::Reject), Err(Inactive::NanInput));
        assert_eq!(validate(&[1.0, f32::NAN], 2, Missing::Native), Ok(()));
        for inf in [f32::INFINITY, f32::NEG_INFINITY] {
            assert_eq!(validate(&[f32::NAN, inf], 2, Missing::Native), Err(Inactive::InfInput));
        }
    }
}
