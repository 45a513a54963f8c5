//! The feature fingerprint: did the same vector come again?

use heapless::Deque;
use sha2::{Digest, Sha256};

use crate::math::round_ties_even;

/// Vectors a ring remembers.
pub const RING: usize = 50;

/// First four bytes of the SHA-256 over names and rounded values, in order.
///
/// Per feature: the name's length as u32, its bytes, and `round(value · 10⁴)` as f64 (ties to even, −0 as 0,
/// every NaN as the same), all little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Fingerprint(pub [u8; 4]);

impl Fingerprint {
    /// The fingerprint of a vector given as pairs of name and value.
    pub fn of<'a>(features: impl IntoIterator<Item = (&'a str, f32)>) -> Self {
        let mut hash = Sha256::new();
        for (name, value) in features {
            let length = u32::try_from(name.len()).unwrap_or(u32::MAX);
            hash.update(length.to_le_bytes());
            hash.update(name.as_bytes());
            hash.update(canonical(value).to_le_bytes());
        }
        let digest: [u8; 32] = hash.finalize().into();
        let [a, b, c, d, ..] = digest;
        Self([a, b, c, d])
    }
}

impl core::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A value in units of 10⁻⁴; the product is exact, since 24 and 14 bits fit into 53.
fn canonical(value: f32) -> f64 {
    if value.is_nan() {
        return f64::NAN;
    }
    // Adding zero turns −0 into 0.
    round_ties_even(f64::from(value) * 10_000.0) + 0.0
}

/// The fingerprints of the last 50 vectors.
#[derive(Clone, Debug, Default)]
pub struct FingerprintRing {
    ring: Deque<Fingerprint, RING>,
}

impl FingerprintRing {
    /// An empty ring.
    #[must_use]
    pub const fn new() -> Self {
        Self { ring: Deque::new() }
    }

    /// Remembers a fingerprint, forgetting the oldest of a full ring.
    pub fn observe(&mut self, fingerprint: Fingerprint) {
        if self.ring.is_full() {
            self.ring.pop_front();
        }
        // There is room: a full ring has just lost its oldest.
        let _ = self.ring.push_back(fingerprint);
    }

    /// Fingerprints remembered, at most [`RING`].
    #[must_use]
    pub const fn len(&self) -> usize {
        self.ring.len()
    }

    /// True before the first vector.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    /// Different fingerprints among those remembered.
    #[must_use]
    pub fn unique(&self) -> usize {
        self.ring
            .iter()
            .enumerate()
            .filter(|&(at, f)| !self.ring.iter().take(at).any(|earlier| earlier == f))
            .count()
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::ToString;

    #[test]
    fn rounding_zero_and_order_are_defined() {
        let of = |value| Fingerprint::of([("a", value)]);
        assert_eq!(of(0.0), of(-0.0));
        assert_eq!(of(-0.000_04), of(0.0));
        assert_eq!(of(1.000_04), of(1.0));
        assert_ne!(of(1.0001), of(1.0));
        assert_eq!(of(f32::NAN), of(-f32::NAN));
        let pair = |a, b| Fingerprint::of([(a, 1.0), (b, 1.0)]);
        assert_ne!(pair("a", "b"), pair("b", "a"));
        assert_ne!(pair("ab", "c"), pair("a", "bc"));
    }

    #[test]
    fn the_encoding_is_pinned() {
        // sha256(01000000 61 000000000088c340): 1.0 is 10000 units.
        assert_eq!(Fingerprint::of([("a", 1.0)]).to_string(), "1c33dee2");
        assert_eq!(Fingerprint::of([]).to_string(), "e3b0c442");
    }

    #[test]
    fn the_ring_counts_the_last_fifty() {
        let mut ring = FingerprintRing::new();
        for i in 0..60_u8 {
            ring.observe(Fingerprint([i % 20, 0, 0, 0]));
        }
        assert_eq!((ring.len(), ring.unique()), (50, 20));
    }
}
