//! Model images in memory the host owns: a mapped file could change after its check.

use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use bytemuck::{Pod, Zeroable};
use qsc_kernel::scratch::ALIGNMENT;

use crate::digest;

/// Larger files are no model images: offsets are 32 bits.
const MAX_BYTES: u64 = u32::MAX as u64;

#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([u8; ALIGNMENT]);

/// Bytes that start on a 64-byte boundary, as `Model::check` needs them.
#[derive(Clone, Debug)]
pub struct ImageBytes {
    lines: Vec<Line>,
    len: usize,
}

impl ImageBytes {
    /// A copy of `bytes`.
    #[must_use]
    pub fn copy_of(bytes: &[u8]) -> Self {
        let mut lines = vec![Line([0; ALIGNMENT]); bytes.len().div_ceil(ALIGNMENT)];
        bytemuck::cast_slice_mut::<_, u8>(&mut lines)[..bytes.len()].copy_from_slice(bytes);
        Self { lines, len: bytes.len() }
    }

    /// Zeroed bytes.
    #[must_use]
    pub fn zeroed(len: usize) -> Self {
        Self { lines: vec![Line([0; ALIGNMENT]); len.div_ceil(ALIGNMENT)], len }
    }

    /// Reads a whole file.
    ///
    /// # Errors
    /// The file cannot be read, or is larger than any image.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let file = std::fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        let mut bytes = Vec::new();
        let read = file.take(MAX_BYTES + 1).read_to_end(&mut bytes);
        let read = read.with_context(|| format!("cannot read {}", path.display()))?;
        ensure!(read as u64 <= MAX_BYTES, "{} is larger than 4 GiB, which no model image is", path.display());
        if read == 0 {
            bail!("{} is empty; compile it again with `qsc model compile`", path.display());
        }
        Ok(Self::copy_of(&bytes))
    }

    /// The bytes, on a 64-byte boundary.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.lines)[..self.len]
    }

    /// SHA-256 of the bytes, in hexadecimal: what `sha256sum` prints for the file.
    #[must_use]
    pub fn sha256(&self) -> String {
        digest::sha256(self.as_bytes())
    }

    /// The bytes, on a 64-byte boundary.
    pub fn as_bytes_mut(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.len]
    }
}
