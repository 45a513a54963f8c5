//! Slices cut into rows, and copied, in forms that no linker sees a panic in.

/// The rows of `width` values; 0 counts as 1.
///
/// Not `chunks_exact` itself: where one is zipped with another, rows are counted by a division, and unless all of it is inlined nothing
/// shows the compiler that it is not by zero.
#[inline(always)]
pub(crate) fn each_row<T>(values: &[T], width: usize) -> impl Iterator<Item = &[T]> {
    let mut rows = values.chunks_exact(width.max(1));
    core::iter::from_fn(move || rows.next())
}

/// Pieces of `len` values, the last one perhaps shorter; 0 counts as 1. As [`each_row`], in place of `chunks_mut`.
#[inline(always)]
pub(crate) fn each_part_mut<T>(values: &mut [T], len: usize) -> impl Iterator<Item = &mut [T]> {
    let mut parts = values.chunks_mut(len.max(1));
    core::iter::from_fn(move || parts.next())
}

/// [`each_row`], to be changed.
#[inline(always)]
pub(crate) fn each_row_mut<T>(values: &mut [T], width: usize) -> impl Iterator<Item = &mut [T]> {
    let mut rows = values.chunks_exact_mut(width.max(1));
    core::iter::from_fn(move || rows.next())
}

/// Copies values between slices of one length; other lengths are `None`, where `copy_from_slice` would panic.
pub(crate) fn copy<T: Copy>(source: &[T], target: &mut [T]) -> Option<()> {
    if source.len() != target.len() {
        return None;
    }
    for (target, &value) in target.iter_mut().zip(source) {
        *target = value;
    }
    Some(())
}
