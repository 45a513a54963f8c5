//! Lays sections out as `FORMAT.md` describes and seals them with the digest.

use anyhow::Context as _;
use bytemuck::{NoUninit, Zeroable as _, bytes_of, cast_slice};
use qsc_kernel::image::records::{Header, MAGIC, SectionRecord, StringRef, VERSION_MAJOR, VERSION_MINOR};
use qsc_kernel::image::{SectionKind, Sections};
use qsc_kernel::scratch::ALIGNMENT;
use sha2::{Digest as _, Sha256};

use crate::image::ImageBytes;

/// The texts of an image.
#[derive(Default)]
pub(super) struct Strings(String);

impl Strings {
    pub(super) fn push(&mut self, text: &str) -> anyhow::Result<StringRef> {
        let at = StringRef { offset: u32::try_from(self.0.len())?, len: u32::try_from(text.len())? };
        self.0.push_str(text);
        Ok(at)
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// Collects sections in the order they will lie.
pub(super) struct Writer {
    kind: u32,
    sections: Vec<(SectionKind, Vec<u8>)>,
}

impl Writer {
    pub(super) const fn new(kind: u32) -> Self {
        Self { kind, sections: Vec::new() }
    }

    /// The sections of a checked image, to add to.
    pub(super) fn of(image: &ImageBytes) -> anyhow::Result<Self> {
        let bytes = image.as_bytes();
        let header = *Sections::check(bytes)?.header();
        let table_len = header.section_count as usize * size_of::<SectionRecord>();
        let table: &[SectionRecord] = cast_slice(&bytes[size_of::<Header>()..][..table_len]);
        let mut writer = Self::new(header.kind);
        for record in table {
            let kind = SectionKind::from_number(record.kind).context("a checked image has known sections")?;
            writer.section(kind, &bytes[record.offset as usize..][..record.len as usize]);
        }
        Ok(writer)
    }

    /// Puts a section before those with a higher number.
    pub(super) fn insert(&mut self, kind: SectionKind, bytes: &[u8]) {
        let at = self.sections.partition_point(|(other, _)| other.number() < kind.number());
        self.sections.insert(at, (kind, bytes.to_vec()));
    }

    pub(super) fn section(&mut self, kind: SectionKind, bytes: &[u8]) {
        self.sections.push((kind, bytes.to_vec()));
    }

    pub(super) fn slice<T: NoUninit>(&mut self, kind: SectionKind, elements: &[T]) {
        self.section(kind, cast_slice(elements));
    }

    pub(super) fn finish(self) -> anyhow::Result<ImageBytes> {
        let too_large = || "the image would be larger than 4 GiB";
        let table_len = self.sections.len() * size_of::<SectionRecord>();
        let mut end = size_of::<Header>() + table_len;
        let mut table = Vec::new();
        for (kind, bytes) in &self.sections {
            let offset = end.next_multiple_of(ALIGNMENT);
            end = offset + bytes.len();
            table.push(SectionRecord {
                kind: kind.number(),
                offset: u32::try_from(offset).with_context(too_large)?,
                len: u32::try_from(bytes.len()).with_context(too_large)?,
                reserved: 0,
            });
        }
        let total = end.next_multiple_of(ALIGNMENT);
        u32::try_from(total).with_context(too_large)?;

        let mut image = ImageBytes::zeroed(total);
        let out = image.as_bytes_mut();
        let header = Header {
            magic: MAGIC,
            version_major: VERSION_MAJOR,
            version_minor: VERSION_MINOR,
            kind: self.kind,
            total_len: total as u64,
            section_count: u32::try_from(table.len())?,
            ..Header::zeroed()
        };
        out[..64].copy_from_slice(bytes_of(&header));
        out[64..64 + table_len].copy_from_slice(cast_slice(&table));
        for (record, (_, bytes)) in table.iter().zip(&self.sections) {
            out[record.offset as usize..][..bytes.len()].copy_from_slice(bytes);
        }
        seal(out);
        Ok(image)
    }
}

/// Scratch memory of a prediction: its parts, each padded to the alignment.
pub(super) fn scratch_bytes(parts: &[usize]) -> anyhow::Result<u32> {
    Ok(u32::try_from(parts.iter().map(|part| part.next_multiple_of(ALIGNMENT)).sum::<usize>())?)
}

/// Writes the digest of everything else into its place.
fn seal(image: &mut [u8]) {
    let mut hash = Sha256::new();
    hash.update(&image[..32]);
    hash.update(&image[64..]);
    image[32..64].copy_from_slice(&hash.finalize());
}
