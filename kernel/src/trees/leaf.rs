//! Leaf values and the one way to add them up.

use bytemuck::{AnyBitPattern, NoUninit};

use crate::num::single;

/// A leaf, and the sum over leaves: integers in any order, floats in tree order.
pub(crate) trait Leaf: Copy + AnyBitPattern {
    /// The sum with one leaf more.
    fn plus(self, leaf: Self) -> Self;

    /// The start of a group's sum from its record; `None` only if the image changed after its check.
    fn from_base(base: u64) -> Option<Self>;

    /// Whether adding this leaf changes no sum: 0, or −0 for floats.
    fn is_neutral(self) -> bool;

    /// |leaf| in units where sums could overflow; 0 for floats.
    fn magnitude(self) -> u64;
}

/// A leaf of four bytes, as blocks hold them.
pub(crate) trait Leaf32: Leaf + NoUninit {
    /// The leaf with these bits.
    fn from_bits(bits: u32) -> Self;

    /// Its bits.
    #[cfg_attr(
        not(all(target_arch = "x86_64", target_feature = "sse2")),
        allow(dead_code, reason = "what batches that blend ask of leaves: this target has none")
    )]
    fn to_bits(self) -> u32;
}

impl Leaf for i32 {
    fn is_neutral(self) -> bool {
        self == 0
    }

    #[inline]
    fn plus(self, leaf: Self) -> Self {
        // The check has proven that no sum overflows.
        self.wrapping_add(leaf)
    }

    fn from_base(base: u64) -> Option<Self> {
        Self::try_from(base.cast_signed()).ok()
    }

    fn magnitude(self) -> u64 {
        u64::from(self.unsigned_abs())
    }
}

impl Leaf32 for i32 {
    #[inline]
    fn from_bits(bits: u32) -> Self {
        bits.cast_signed()
    }

    #[inline]
    fn to_bits(self) -> u32 {
        self.cast_unsigned()
    }
}

impl Leaf for i64 {
    fn is_neutral(self) -> bool {
        self == 0
    }

    #[inline]
    fn plus(self, leaf: Self) -> Self {
        self.wrapping_add(leaf)
    }

    fn from_base(base: u64) -> Option<Self> {
        Some(base.cast_signed())
    }

    fn magnitude(self) -> u64 {
        self.unsigned_abs()
    }
}

impl Leaf for f32 {
    fn is_neutral(self) -> bool {
        self.to_bits() == (-0.0_f32).to_bits()
    }

    #[inline]
    fn plus(self, leaf: Self) -> Self {
        self + leaf
    }

    fn from_base(base: u64) -> Option<Self> {
        Some(single(f64::from_bits(base)))
    }

    fn magnitude(self) -> u64 {
        0
    }
}

impl Leaf32 for f32 {
    #[inline]
    fn from_bits(bits: u32) -> Self {
        Self::from_bits(bits)
    }

    #[inline]
    fn to_bits(self) -> u32 {
        Self::to_bits(self)
    }
}

impl Leaf for f64 {
    fn is_neutral(self) -> bool {
        self.to_bits() == (-0.0_f64).to_bits()
    }

    #[inline]
    fn plus(self, leaf: Self) -> Self {
        self + leaf
    }

    fn from_base(base: u64) -> Option<Self> {
        Some(Self::from_bits(base))
    }

    fn magnitude(self) -> u64 {
        0
    }
}
