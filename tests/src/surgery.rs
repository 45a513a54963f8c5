//! Images taken apart and put together again: what a hostile writer could hand over with a valid digest.

use qsc_cli::image::ImageBytes;
use qsc_kernel::image::SectionKind;
use sha2::{Digest as _, Sha256};

/// Bytes of the header.
pub const HEADER: usize = 64;
/// Sections and images are multiples of this.
const ALIGNMENT: usize = 64;

/// Recomputes the digest in the header.
pub fn reseal(image: &mut [u8]) {
    if let Some((head, rest)) = image.split_at_mut_checked(HEADER) {
        let digest = Sha256::new().chain_update(&head[..32]).chain_update(rest).finalize();
        head[32..].copy_from_slice(&digest);
    }
}

/// An image as header and sections.
#[derive(Clone, Debug)]
pub struct Anatomy {
    /// The header; length, number of sections and digest are filled in by [`Anatomy::assemble`].
    pub header: [u8; HEADER],
    /// Number and contents of each section, in table order.
    pub sections: Vec<(u32, Vec<u8>)>,
}

impl Anatomy {
    /// Takes a valid image apart.
    #[must_use]
    pub fn of(image: &[u8]) -> Self {
        let word = |at: usize| u32::from_le_bytes(image[at..at + 4].try_into().unwrap());
        let section = |entry: usize| {
            let at = HEADER + 16 * entry;
            let (kind, offset, len) = (word(at), word(at + 4) as usize, word(at + 8) as usize);
            (kind, image[offset..offset + len].to_vec())
        };
        Self {
            header: image[..HEADER].try_into().unwrap(),
            sections: (0..word(24) as usize).map(section).collect(),
        }
    }

    /// The contents of a section.
    pub fn section(&mut self, kind: SectionKind) -> &mut Vec<u8> {
        let found = self.sections.iter_mut().find(|(number, _)| *number == kind.number());
        &mut found.expect("tree models have every section").1
    }

    /// Writes a u32 into a section, at a byte offset.
    pub fn set(&mut self, kind: SectionKind, at: usize, value: u32) {
        self.section(kind)[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    /// Lays the sections out as the format asks for and seals the image.
    #[must_use]
    pub fn assemble(&self) -> ImageBytes {
        let table_end = HEADER + 16 * self.sections.len();
        let mut body = self.header.to_vec();
        body.resize(table_end, 0);
        for (entry, (kind, bytes)) in self.sections.iter().enumerate() {
            body.resize(body.len().next_multiple_of(ALIGNMENT), 0);
            let words = [*kind, body.len() as u32, bytes.len() as u32, 0];
            for (at, word) in words.into_iter().enumerate() {
                let at = HEADER + 16 * entry + 4 * at;
                body[at..at + 4].copy_from_slice(&word.to_le_bytes());
            }
            body.extend(bytes);
        }
        body.resize(body.len().next_multiple_of(ALIGNMENT), 0);
        let total = body.len() as u64;
        body[16..24].copy_from_slice(&total.to_le_bytes());
        body[24..28].copy_from_slice(&(self.sections.len() as u32).to_le_bytes());
        reseal(&mut body);
        ImageBytes::copy_of(&body)
    }
}
