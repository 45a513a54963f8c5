//! The feature fingerprint: did the same vector come again?

use heapless::Deque;
use sha2::{Digest, Sha256};

use crate::math::round_ties_even;
use crate::num::index;
use crate::simd::with_default_float_environment;

/// Vectors a ring remembers.
const RING: usize = 50;

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
        with_default_float_environment(|| {
            let mut hash = Sha256::new();
            for (name, value) in features {
                let length = u32::try_from(name.len()).unwrap_or(u32::MAX);
                hash.update(length.to_le_bytes());
                hash.update(name.as_bytes());
                hash.update(canonical(value).to_le_bytes());
            }
            Self::first(hash)
        })
    }

    fn first(hash: Sha256) -> Self {
        let digest: [u8; 32] = hash.finalize().into();
        let [a, b, c, d, ..] = digest;
        Self([a, b, c, d])
    }
}

/// The bytes a fingerprint is taken over, laid out once for a vector of fixed names: an event only changes the values, and
/// SHA-256 runs over one piece.
#[derive(Clone, Debug)]
pub struct FingerprintLayout<B> {
    bytes: B,
    len: usize,
}

/// Memory smaller than the layout, or a name longer than 4 GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct LayoutTooSmall;

impl core::fmt::Display for LayoutTooSmall {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("the memory is smaller than the names and values that are hashed")
    }
}

impl core::error::Error for LayoutTooSmall {}

/// Bytes of a feature besides its name: the name's length and the value.
const FRAME: usize = size_of::<u32>() + size_of::<f64>();

impl<B: AsRef<[u8]> + AsMut<[u8]>> FingerprintLayout<B> {
    /// Bytes the layout of these names takes; `None` if they are more than memory has.
    pub fn bytes<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<usize> {
        names.into_iter().try_fold(0_usize, |sum, name| sum.checked_add(FRAME)?.checked_add(name.len()))
    }

    /// Lays out the names of a vector, in order, in `bytes`.
    ///
    /// # Errors
    /// `bytes` holds fewer than [`Self::bytes`], or a name is longer than 4 GiB.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>, mut bytes: B) -> Result<Self, LayoutTooSmall> {
        let mut rest = bytes.as_mut();
        let before = rest.len();
        for name in names {
            rest = lay(name, rest).ok_or(LayoutTooSmall)?;
        }
        let len = before.saturating_sub(rest.len());
        Ok(Self { bytes, len })
    }

    /// The fingerprint of a vector of these values, in the order of the names; `None` is a feature that is not there, nor in the
    /// hash. The same as [`Fingerprint::of`] the names and values that are there.
    pub fn fingerprint(&mut self, values: impl IntoIterator<Item = Option<f32>>) -> Fingerprint {
        with_default_float_environment(|| self.hash(values))
    }

    fn hash(&mut self, values: impl IntoIterator<Item = Option<f32>>) -> Fingerprint {
        let mut hash = Sha256::new();
        let bytes = self.bytes.as_mut();
        let mut pending = bytes.get_mut(..self.len).unwrap_or_default();
        // Neighbours that are all there are hashed in one piece.
        let mut piece = 0_usize;
        let mut values = values.into_iter();
        while let Some(feature) = next_feature(pending.get(piece..).unwrap_or_default()) {
            match values.next().flatten() {
                Some(value) => {
                    piece = piece.saturating_add(feature);
                    if let Some(place) = pending.get_mut(..piece).and_then(|piece| piece.last_chunk_mut()) {
                        *place = canonical(value).to_le_bytes();
                    }
                }
                None => {
                    let (there, rest) = pending.split_at_mut_checked(piece).unwrap_or_default();
                    hash.update(there);
                    pending = rest.get_mut(feature..).unwrap_or_default();
                    piece = 0;
                }
            }
        }
        hash.update(pending);
        Fingerprint::first(hash)
    }
}

/// Writes one feature, and gives the bytes behind it.
fn lay<'b>(name: &str, bytes: &'b mut [u8]) -> Option<&'b mut [u8]> {
    let (length, bytes) = bytes.split_first_chunk_mut()?;
    *length = u32::try_from(name.len()).ok()?.to_le_bytes();
    let (place, bytes) = bytes.split_at_mut_checked(name.len())?;
    for (place, &byte) in place.iter_mut().zip(name.as_bytes()) {
        *place = byte;
    }
    bytes.get_mut(size_of::<f64>()..)
}

/// Bytes of the feature that begins here; `None` at the end.
fn next_feature(bytes: &[u8]) -> Option<usize> {
    let (length, _) = bytes.split_first_chunk()?;
    index(u32::from_le_bytes(*length)).checked_add(FRAME).filter(|&feature| feature <= bytes.len())
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

    /// Fingerprints remembered, at most 50.
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
    use crate::under_miri;
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
    fn a_layout_gives_what_names_and_values_give() {
        let names = ["a", "", "a longer name, é", "b"];
        let mut bytes = [0xa5; 100];
        let needed = FingerprintLayout::<[u8; 100]>::bytes(names).unwrap();
        assert_eq!(FingerprintLayout::new(names, &mut bytes[..needed - 1]).unwrap_err(), LayoutTooSmall);
        let mut layout = FingerprintLayout::new(names, bytes).unwrap();
        for round in 0..under_miri(1, 3) {
            for there in (0..16_u8).step_by(under_miri(5, 1)) {
                let value = |at: u8| {
                    (there >> at & 1 == 1)
                        .then_some([1.5, -0.0, f32::NAN, 1e30][usize::from((at + round) % 4)])
                };
                let given = names.into_iter().zip(0..4).filter_map(|(name, at)| Some((name, value(at)?)));
                assert_eq!(layout.fingerprint((0..4).map(value)), Fingerprint::of(given), "{there:04b}");
            }
        }
        // A vector that is too short: the rest is not there.
        assert_eq!(layout.fingerprint([Some(1.0)]), Fingerprint::of([("a", 1.0)]));
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
