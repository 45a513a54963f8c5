//! Max pooling over time.

use super::size;
use crate::rows::{each_row, each_row_mut};

/// `target [rows, ⌈width / kernel⌉]` from `source [rows, width]`: the largest of each `kernel` neighbours, without overlap;
/// the last window holds what is left (PyTorch's ceil mode). NaN is larger than any number. Exact.
pub(crate) fn max_pool(source: &[f32], width: usize, kernel: usize, target: &mut [f32], out: usize) {
    for (source, target) in each_row(source, width).zip(each_row_mut(target, out)) {
        for (window, to) in source.chunks(size(kernel)).zip(target) {
            *to = maximum(window.iter().copied());
        }
    }
}

/// The largest value; NaN if there is one.
#[inline]
fn maximum(values: impl Iterator<Item = f32>) -> f32 {
    values.fold(f32::NEG_INFINITY, |max, x| if x > max || x.is_nan() { x } else { max })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_window_may_be_short() {
        let mut out = [0.0; 6];
        max_pool(&[1.0, 5.0, 2.0, -4.0, -3.0, 0.5, 9.0, 8.0, 7.0, -6.0], 5, 2, &mut out, 3);
        assert_eq!(out, [5.0, 2.0, -3.0, 9.0, 8.0, -6.0]);
    }

    #[test]
    fn nan_wins_wherever_it_stands() {
        for at in 0..3 {
            let mut x = [1.0, 2.0, 3.0];
            x[at] = f32::NAN;
            assert!(maximum(x.into_iter()).is_nan(), "NaN at {at}");
        }
    }
}
