//! ReLU.

/// `values` in place: 0 below 0; NaN stays NaN. Exact.
pub(crate) fn relu(values: &mut [f32]) {
    for x in values {
        *x = if *x < 0.0 { 0.0 } else { *x };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn negative_values_vanish_and_nan_stays() {
        let mut x = [-1.0, 0.0, 2.5, f32::NAN, f32::NEG_INFINITY];
        relu(&mut x);
        assert_eq!((x[0], x[1], x[2], x[4]), (0.0, 0.0, 2.5, 0.0));
        assert!(x[3].is_nan());
    }
}
