//! The header and the section table: bounds, order and digest of foreign bytes.

use bytemuck::AnyBitPattern;
use sha2::{Digest, Sha256};

use super::records::{Header, MAGIC, SectionRecord, VERSION_MAJOR, VERSION_MINOR};
use crate::error::ImageError;
use crate::num::index;
use crate::scratch::ALIGNMENT;

/// What a section holds. Numbers are part of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u32)]
#[non_exhaustive]
pub enum SectionKind {
    /// One `ModelRecord`.
    Model = 1,
    /// UTF-8 texts.
    Strings = 2,
    /// `[n_features] StringRef`.
    FeatureNames = 3,
    /// `[n_outputs] u8` action codes.
    Classes = 4,
    /// `[golden_rows, seq_len · n_features] f32`.
    GoldenRows = 5,
    /// `[golden_rows, n_raw] f64` as bits.
    GoldenRaw = 6,
    /// `[golden_rows, n_outputs] f32` as bits.
    GoldenOutputs = 7,
    /// `[n_features] DecileRecord`; absent unless the model was calibrated.
    Deciles = 8,
    /// One `TreesRecord`.
    Trees = 16,
    /// `[n_features] FeatureRecord`.
    Features = 17,
    /// `ThresholdBlock`s.
    Thresholds = 18,
    /// `SlotRecord`s.
    Slots = 19,
    /// Category bit sets, u32 words.
    Categories = 20,
    /// `[n_raw] GroupRecord`.
    Groups = 21,
    /// `TreeRecord`s of the plain layout.
    PlainTrees = 22,
    /// `NodeRecord`s of the plain layout.
    PlainNodes = 23,
    /// Leaf values of plain trees and of those with masks: i32, i64, f32 or f64 by the sum mode.
    Leaves = 24,
    /// `TopBlocksRecord`s of the blocks layout.
    TopBlocks = 25,
    /// `BlockRecord`s between top and leaf blocks.
    MiddleBlocks = 26,
    /// `LeafBlockRecord`s.
    LeafBlocks = 27,
    /// `MaskNodesRecord`s.
    MaskTrees = 28,
    /// One `NetRecord`.
    Net = 32,
    /// `StepRecord`s in the order they run.
    Steps = 33,
    /// Biases, scales, norms and f32 weights.
    Constants = 34,
    /// 8-bit weights in blocks of 64.
    Weights = 35,
    /// Indices of gathers, u32.
    Indices = 36,
}

/// Highest section number plus one; the table of offsets is indexed by section number.
const KINDS: usize = 37;

impl SectionKind {
    /// The section with this number, if there is one.
    #[must_use]
    pub const fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            1 => Self::Model,
            2 => Self::Strings,
            3 => Self::FeatureNames,
            4 => Self::Classes,
            5 => Self::GoldenRows,
            6 => Self::GoldenRaw,
            7 => Self::GoldenOutputs,
            8 => Self::Deciles,
            16 => Self::Trees,
            17 => Self::Features,
            18 => Self::Thresholds,
            19 => Self::Slots,
            20 => Self::Categories,
            21 => Self::Groups,
            22 => Self::PlainTrees,
            23 => Self::PlainNodes,
            24 => Self::Leaves,
            25 => Self::TopBlocks,
            26 => Self::MiddleBlocks,
            27 => Self::LeafBlocks,
            28 => Self::MaskTrees,
            32 => Self::Net,
            33 => Self::Steps,
            34 => Self::Constants,
            35 => Self::Weights,
            36 => Self::Indices,
            _ => return None,
        })
    }

    /// The section's number in the table.
    #[must_use]
    #[allow(clippy::as_conversions, reason = "the discriminant is the number")]
    pub const fn number(self) -> u32 {
        self as u32
    }

    /// The section's name in FORMAT.md and in messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Strings => "strings",
            Self::FeatureNames => "feature-names",
            Self::Classes => "classes",
            Self::GoldenRows => "golden-rows",
            Self::GoldenRaw => "golden-raw",
            Self::GoldenOutputs => "golden-outputs",
            Self::Deciles => "deciles",
            Self::Trees => "trees",
            Self::Features => "features",
            Self::Thresholds => "thresholds",
            Self::Slots => "slots",
            Self::Categories => "categories",
            Self::Groups => "groups",
            Self::PlainTrees => "plain-trees",
            Self::PlainNodes => "plain-nodes",
            Self::Leaves => "leaves",
            Self::TopBlocks => "top-blocks",
            Self::MiddleBlocks => "middle-blocks",
            Self::LeafBlocks => "leaf-blocks",
            Self::MaskTrees => "mask-trees",
            Self::Net => "net",
            Self::Steps => "steps",
            Self::Constants => "constants",
            Self::Weights => "weights",
            Self::Indices => "indices",
        }
    }
}

/// The sections of an image whose header, digest and section table hold.
#[derive(Clone, Copy, Debug)]
pub struct Sections<'image> {
    header: &'image Header,
    found: [Option<&'image [u8]>; KINDS],
}

impl<'image> Sections<'image> {
    /// Checks everything that does not depend on what the sections mean.
    ///
    /// # Errors
    /// The first thing found wrong with `bytes`.
    pub fn check(bytes: &'image [u8]) -> Result<Self, ImageError> {
        // Foreign bytes are named as such before their alignment is blamed.
        if !bytes.starts_with(&MAGIC) {
            return Err(ImageError::NotAnImage);
        }
        if bytes.as_ptr().align_offset(ALIGNMENT) != 0 {
            return Err(ImageError::Misaligned);
        }
        let actual = u64::try_from(bytes.len()).map_err(|_| ImageError::NotAnImage)?;
        // Not even a header: how long the image is to be is not known.
        let (head, rest) = bytes.split_at_checked(size_of::<Header>()).ok_or(ImageError::NoHeader)?;
        let header: &Header = bytemuck::try_from_bytes(head).map_err(|_| ImageError::Misaligned)?;
        if header.version_major != VERSION_MAJOR || header.version_minor > VERSION_MINOR {
            return Err(ImageError::Version { major: header.version_major, minor: header.version_minor });
        }
        if header.total_len != actual {
            return Err(ImageError::Length { expected: header.total_len, actual });
        }
        if digest(bytes) != Some(header.sha256) {
            return Err(ImageError::Digest);
        }
        if header.reserved != 0 || index(header.section_count) > KINDS {
            return Err(ImageError::SectionTable);
        }
        let table_len = index(header.section_count).saturating_mul(size_of::<SectionRecord>());
        let table = rest.get(..table_len).ok_or(ImageError::SectionTable)?;
        let table: &[SectionRecord] =
            bytemuck::try_cast_slice(table).map_err(|_| ImageError::SectionTable)?;
        let found = locate(bytes, table, size_of::<Header>().saturating_add(table_len))?;
        Ok(Self { header, found })
    }

    /// The header.
    #[must_use]
    pub const fn header(&self) -> &'image Header {
        self.header
    }

    /// All elements of a section; a missing section is an error.
    pub(crate) fn slice<T: AnyBitPattern>(&self, kind: SectionKind) -> Result<&'image [T], ImageError> {
        let bytes = self.found.get(index(kind.number())).copied().flatten();
        let bytes = bytes.ok_or(ImageError::MissingSection(kind))?;
        bytemuck::try_cast_slice(bytes).map_err(|_| ImageError::Invalid(kind))
    }

    /// All elements of a section that must hold exactly `count`.
    pub(crate) fn exactly<T: AnyBitPattern>(
        &self,
        kind: SectionKind,
        count: usize,
    ) -> Result<&'image [T], ImageError> {
        let slice = self.slice(kind)?;
        if slice.len() == count { Ok(slice) } else { Err(ImageError::Invalid(kind)) }
    }

    /// All elements of a section that may be missing: then there are none.
    pub(crate) fn optional<T: AnyBitPattern>(&self, kind: SectionKind) -> Result<&'image [T], ImageError> {
        match self.slice(kind) {
            Err(ImageError::MissingSection(_)) => Ok(&[]),
            found => found,
        }
    }

    /// The one record of a section.
    pub(crate) fn record<T: AnyBitPattern>(&self, kind: SectionKind) -> Result<&'image T, ImageError> {
        match self.slice(kind)? {
            [record] => Ok(record),
            _ => Err(ImageError::Invalid(kind)),
        }
    }
}

/// SHA-256 of an image without the digest field; `None` for bytes shorter than a header.
#[must_use]
pub(crate) fn digest(bytes: &[u8]) -> Option<[u8; 32]> {
    let mut hash = Sha256::new();
    hash.update(bytes.get(..32)?);
    hash.update(bytes.get(64..)?);
    Some(hash.finalize().into())
}

/// Sections start on 64-byte boundaries, in ascending order, without overlap, each kind at most once; the
/// gaps between them and up to the next boundary behind the last are zero: no byte is without a meaning.
fn locate<'image>(
    bytes: &'image [u8],
    table: &[SectionRecord],
    table_end: usize,
) -> Result<[Option<&'image [u8]>; KINDS], ImageError> {
    let mut found = [None; KINDS];
    let mut end = table_end;
    for record in table {
        let kind = SectionKind::from_number(record.kind).ok_or(ImageError::SectionTable)?;
        let start = index(record.offset);
        let stop = start.checked_add(index(record.len)).ok_or(ImageError::SectionTable)?;
        let gap = bytes.get(end..start).ok_or(ImageError::SectionTable)?;
        let section = bytes.get(start..stop).ok_or(ImageError::SectionTable)?;
        let place = found.get_mut(index(kind.number())).ok_or(ImageError::SectionTable)?;
        let tidy = gap.len() < ALIGNMENT && gap.iter().all(|&byte| byte == 0);
        if record.reserved != 0 || !start.is_multiple_of(ALIGNMENT) || !tidy || place.is_some() {
            return Err(ImageError::SectionTable);
        }
        *place = Some(section);
        end = stop;
    }
    let tail = bytes.get(end..).ok_or(ImageError::SectionTable)?;
    if !bytes.len().is_multiple_of(ALIGNMENT) || tail.len() >= ALIGNMENT || tail.iter().any(|&byte| byte != 0)
    {
        return Err(ImageError::SectionTable);
    }
    Ok(found)
}
