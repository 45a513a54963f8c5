//! Rows from `.npy` files, the little of the format that numpy writes for C-order float32.

use std::path::Path;

use anyhow::{Context, Result, ensure};

/// Rows `[count, …] f32`, in memory for the whole measurement.
#[derive(Debug)]
pub struct Rows {
    values: Vec<f32>,
    shape: Vec<usize>,
}

impl Rows {
    /// Reads a file.
    ///
    /// # Errors
    /// A file that is absent, cut, empty or not C-order little-endian float32.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&bytes).with_context(|| format!("{} holds no rows", path.display()))
    }

    fn parse(bytes: &[u8]) -> Result<Self> {
        let rest =
            bytes.strip_prefix(b"\x93NUMPY\x01\x00").context("it is not an .npy file of version 1.0")?;
        let (length, rest) = rest.split_first_chunk().context("it is cut")?;
        let (header, data) =
            rest.split_at_checked(u16::from_le_bytes(*length).into()).context("it is cut")?;
        let header = std::str::from_utf8(header)?;
        ensure!(
            header.contains("'<f4'") && header.contains("'fortran_order': False"),
            "it is not C-order float32: {header}"
        );
        let (_, shape) = header.split_once("'shape': (").context("it has no shape")?;
        let (shape, _) = shape.split_once(')').context("its shape does not end")?;
        let axes = shape.split(',').map(str::trim).filter(|axis| !axis.is_empty());
        let shape = axes.map(str::parse).collect::<Result<Vec<usize>, _>>()?;
        ensure!(shape.len() >= 2 && shape.iter().all(|&axis| axis > 0), "its shape is {shape:?}");
        ensure!(data.len() == 4 * shape.iter().product::<usize>(), "its length does not fit {shape:?}");
        let values = data.as_chunks().0.iter().map(|&value| f32::from_le_bytes(value)).collect();
        Ok(Self { values, shape })
    }

    /// Number of rows, at least 1.
    #[must_use]
    pub fn count(&self) -> usize {
        self.shape[0]
    }

    /// Values of one row.
    #[must_use]
    pub fn row_len(&self) -> usize {
        self.values.len() / self.count()
    }

    /// Axes of a tensor of `count` rows.
    #[must_use]
    pub fn shape_of(&self, count: usize) -> Vec<usize> {
        let mut shape = self.shape.clone();
        shape[0] = count;
        shape
    }

    /// All rows, in C order.
    #[must_use]
    pub fn all(&self) -> &[f32] {
        &self.values
    }

    /// Row by row.
    pub fn iter(&self) -> impl Iterator<Item = &[f32]> + Clone {
        self.values.chunks_exact(self.row_len())
    }
}
