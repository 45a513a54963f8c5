//! Values moved to where the next step wants them: patches, channels, reversed time.

use crate::image::records::NO_INDEX;
use crate::num::index;

/// `target [n]` = `source` at `indices [n]`; [`NO_INDEX`] gives 0. Exact.
pub(crate) fn gather(source: &[f32], indices: &[u32], target: &mut [f32]) -> Option<()> {
    for (to, &at) in target.iter_mut().zip(indices) {
        *to = if at == NO_INDEX { 0.0 } else { *source.get(index(at))? };
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_are_followed_and_bounded() {
        let mut out = [9.0; 4];
        gather(&[1.0, 2.0, 3.0], &[2, 0, NO_INDEX, 2], &mut out).unwrap();
        assert_eq!(out, [3.0, 1.0, 0.0, 3.0]);
        assert!(gather(&[1.0], &[1], &mut out).is_none());
    }
}
