//! Caller-owned working memory: a model says how much it needs, the caller says where it lives.

use bytemuck::{AnyBitPattern, NoUninit};

use crate::error::PredictError;

/// Alignment of scratch memory and of model images, in bytes: one cache line, one AVX-512 register.
pub const ALIGNMENT: usize = 64;

/// `N` bytes aligned for any model: a `static` on bare metal, a local on the host.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub struct ScratchBuffer<const N: usize>([u8; N]);

impl<const N: usize> ScratchBuffer<N> {
    /// A zeroed buffer.
    #[must_use]
    pub const fn new() -> Self {
        Self([0; N])
    }

    /// The whole buffer, ready for predictions.
    pub const fn scratch(&mut self) -> Scratch<'_> {
        Scratch { bytes: &mut self.0 }
    }
}

impl<const N: usize> Default for ScratchBuffer<N> {
    fn default() -> Self {
        Self::new()
    }
}

/// Borrowed working memory. Contents never carry over from one prediction to the next.
#[derive(Debug)]
pub struct Scratch<'a> {
    bytes: &'a mut [u8],
}

impl<'a> Scratch<'a> {
    /// Uses `bytes`, skipping up to 63 leading ones to reach the alignment.
    #[must_use]
    pub fn new(bytes: &'a mut [u8]) -> Self {
        let skip = bytes.as_ptr().align_offset(ALIGNMENT).min(bytes.len());
        let (_, bytes) = bytes.split_at_mut(skip);
        Self { bytes }
    }

    /// Bytes available after alignment.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// True if no byte is available.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// A shorter-lived handle to the same memory.
    pub fn reborrow(&mut self) -> Scratch<'_> {
        Scratch { bytes: self.bytes }
    }

    /// Takes `count` elements off the front; the rest stays aligned to 64 bytes.
    pub(crate) fn take<T: AnyBitPattern + NoUninit>(
        self,
        count: usize,
    ) -> Result<(&'a mut [T], Self), PredictError> {
        let bytes = count.checked_mul(size_of::<T>()).ok_or(PredictError::ScratchTooSmall)?;
        let padded = padded(bytes).ok_or(PredictError::ScratchTooSmall)?;
        let (front, rest) = self.bytes.split_at_mut_checked(padded).ok_or(PredictError::ScratchTooSmall)?;
        let front = front.get_mut(..bytes).ok_or(PredictError::ScratchTooSmall)?;
        let front = bytemuck::try_cast_slice_mut(front).map_err(|_| PredictError::ScratchTooSmall)?;
        Ok((front, Scratch { bytes: rest }))
    }
}

/// `bytes` rounded up to the scratch alignment.
pub(crate) fn padded(bytes: usize) -> Option<usize> {
    bytes.checked_next_multiple_of(ALIGNMENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unaligned_slice_loses_only_its_head() {
        let mut buffer = ScratchBuffer::<256>::new();
        let scratch = Scratch::new(&mut buffer.0[1..]);
        assert_eq!(scratch.len(), 192);
        let (floats, rest) = scratch.take::<f64>(3).unwrap();
        assert_eq!((floats.len(), rest.len()), (3, 128));
        let (_, rest) = rest.take::<u8>(128).unwrap();
        assert!(rest.is_empty());
        assert_eq!(rest.take::<u8>(1).unwrap_err(), PredictError::ScratchTooSmall);
    }
}
