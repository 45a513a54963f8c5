//! A caller's pointers: everything about them that can be checked, before anything is touched.
//!
//! Null, alignment, size and overlap are checked. That memory is readable, writable and alive, and that no other thread writes to it,
//! cannot be: that is what a caller of an `unsafe` function here promises.

use core::ffi::c_void;
use core::slice;

use crate::qsc_status;

/// Fails unless `at` may point to `len` values of `T`.
pub(crate) fn check<T>(at: *const T, len: usize) -> Result<(), qsc_status> {
    if at.is_null() {
        return Err(qsc_status::Null);
    }
    if !at.is_aligned() {
        return Err(qsc_status::Misaligned);
    }
    // No object is larger, and none reaches beyond the end of the address space.
    let bytes = len.checked_mul(size_of::<T>()).filter(|&bytes| isize::try_from(bytes).is_ok());
    bytes.and_then(|bytes| at.addr().checked_add(bytes)).map(|_| ()).ok_or(qsc_status::Argument)
}

/// One value the caller lends.
///
/// # Safety
/// Unless `at` is null or misaligned: it points to a valid `T` that nobody writes to during `'a`.
pub(crate) unsafe fn one<'a, T>(at: *const T) -> Result<&'a T, qsc_status> {
    check(at, 1)?;
    // SAFETY: not null and aligned; the caller promises a valid value that nobody writes to.
    Ok(unsafe { &*at })
}

/// An array the caller lends for reading; null stands for an empty one.
///
/// # Safety
/// Unless a check fails or `len` is 0: `at` points to `len` valid values that nobody writes to during `'a`.
pub(crate) unsafe fn many<'a, T>(at: *const T, len: usize) -> Result<&'a [T], qsc_status> {
    if len == 0 {
        return Ok(&[]);
    }
    check(at, len)?;
    // SAFETY: not null, aligned, of a size that memory can have; the caller promises the values.
    Ok(unsafe { slice::from_raw_parts(at, len) })
}

/// An array the caller lends for writing; null stands for an empty one.
///
/// # Safety
/// Unless a check fails or `len` is 0: `at` points to `len` valid values that nobody else reads or writes during `'a`.
pub(crate) unsafe fn many_mut<'a, T>(at: *mut T, len: usize) -> Result<&'a mut [T], qsc_status> {
    if len == 0 {
        return Ok(&mut []);
    }
    check(at, len)?;
    // SAFETY: not null, aligned, of a size that memory can have; the caller promises the values, and that they are ours alone.
    Ok(unsafe { slice::from_raw_parts_mut(at, len) })
}

/// Writes a result where the caller wants it.
///
/// # Safety
/// Unless `at` is null or misaligned: it points to memory for a `T` that is ours to write.
pub(crate) unsafe fn put<T>(at: *mut T, value: T) -> Result<(), qsc_status> {
    check(at, 1)?;
    // SAFETY: not null and aligned; the caller promises that it may be written to.
    unsafe { at.write(value) };
    Ok(())
}

/// `len` values of `T` at an offset into a caller's memory, all of them this one.
///
/// # Safety
/// The values lie inside memory that is writable, is nobody else's during `'a`, and is aligned to `T` at `offset`.
pub(crate) unsafe fn fill<'a, T: Copy>(memory: *mut u8, offset: usize, len: usize, value: T) -> &'a mut [T] {
    // SAFETY: the caller promises that the values lie inside the memory.
    let first = unsafe { memory.add(offset) }.cast::<T>();
    for at in 0..len {
        // SAFETY: as above, for every value.
        let place = unsafe { first.add(at) };
        // SAFETY: the memory is writable, aligned and nobody else's, says the caller.
        unsafe { place.write(value) };
    }
    // SAFETY: all `len` values have just been written, in memory that is nobody else's.
    unsafe { slice::from_raw_parts_mut(first, len) }
}

/// Where some memory lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    start: usize,
    bytes: usize,
}

impl Span {
    pub(crate) fn of<T>(at: *const T, len: usize) -> Self {
        Self { start: at.addr(), bytes: len.saturating_mul(size_of::<T>()) }
    }

    fn overlaps(self, other: Self) -> bool {
        let (a, b) = if self.start <= other.start { (self, other) } else { (other, self) };
        a.bytes > 0 && b.bytes > 0 && a.start.saturating_add(a.bytes) > b.start
    }
}

/// Fails if what is written to overlaps anything of a call.
pub(crate) fn apart<const W: usize>(written: [Span; W], read: Span) -> Result<(), qsc_status> {
    let overlap = written.iter().enumerate().any(|(at, &span)| {
        span.overlaps(read) || written.iter().take(at).any(|&earlier| earlier.overlaps(span))
    });
    if overlap { Err(qsc_status::Overlap) } else { Ok(()) }
}

/// An opaque type of the ABI: what lies behind its pointers, and how that is told from other memory.
pub(crate) trait Handle {
    /// What lies there.
    type Content: 'static;
    /// What it begins with: eight letters.
    const TAG: u64;
}

/// What a handle points to.
#[repr(C)]
pub(crate) struct Tagged<T> {
    tag: u64,
    content: T,
}

/// Bytes of a handle.
pub(crate) const fn bytes<H: Handle>() -> usize {
    size_of::<Tagged<H::Content>>()
}

/// Fails unless the memory has room and alignment for a handle that takes `needed` bytes.
pub(crate) fn room<H: Handle>(memory: *mut c_void, bytes: usize, needed: usize) -> Result<(), qsc_status> {
    check(memory.cast::<Tagged<H::Content>>(), 0)?;
    if bytes < needed {
        return Err(qsc_status::TooSmall);
    }
    check(memory.cast::<u8>(), bytes)
}

/// Ends whatever handle began here: what lies behind it is about to be written over.
///
/// # Safety
/// [`room`] holds for a `Tagged<H::Content>`, and the memory is writable and nobody else's.
pub(crate) unsafe fn vacate<H: Handle>(memory: *mut c_void) {
    // SAFETY: the tag is first in `repr(C)`; the caller promises room, alignment and that the memory is writable.
    unsafe { memory.cast::<u64>().write(0) };
}

/// Writes a handle to the front of the caller's memory.
///
/// # Safety
/// [`room`] holds for at least a `Tagged<H::Content>`, and the memory is writable and nobody else's.
pub(crate) unsafe fn place<H: Handle>(memory: *mut c_void, content: H::Content) -> *mut H {
    let at = memory.cast::<Tagged<H::Content>>();
    // SAFETY: the caller promises room, alignment and that the memory is writable.
    unsafe { at.write(Tagged { tag: H::TAG, content }) };
    at.cast()
}

/// Fails unless a handle of this kind begins here.
///
/// # Safety
/// Unless a check fails: `at` points to readable memory of the size of a handle.
unsafe fn find<H: Handle>(at: *const H) -> Result<*const Tagged<H::Content>, qsc_status> {
    let at = at.cast::<Tagged<H::Content>>();
    check(at, 1)?;
    // SAFETY: not null and aligned, and a tag is first in `repr(C)`; the caller promises that it can be read.
    let tag = unsafe { at.cast::<u64>().read() };
    if tag == H::TAG { Ok(at) } else { Err(qsc_status::NoHandle) }
}

/// What lies behind a handle.
///
/// # Safety
/// Unless a check fails: the handle was initialized, its memory has not been written to by the caller since, and nobody writes to it
/// during `'a`.
pub(crate) unsafe fn get<'a, H: Handle>(at: *const H) -> Result<&'a H::Content, qsc_status> {
    // SAFETY: an initialized handle can be read.
    let at = unsafe { find(at) }?;
    // SAFETY: the tag says that a handle of this kind was written here, and the caller that it is still whole.
    Ok(unsafe { &(*at).content })
}

/// The same, to be changed.
///
/// # Safety
/// As [`get`]; nobody else uses the handle during `'a`.
pub(crate) unsafe fn get_mut<'a, H: Handle>(at: *mut H) -> Result<&'a mut H::Content, qsc_status> {
    // SAFETY: an initialized handle can be read.
    let at = unsafe { find(at.cast_const()) }?.cast_mut();
    // SAFETY: the tag says that a handle of this kind was written here; the caller, that it is still whole and ours alone.
    Ok(unsafe { &mut (*at).content })
}
