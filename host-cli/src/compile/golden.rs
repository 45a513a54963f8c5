//! Golden vectors: rows, and the bits the scalar backend gives for them, as an image stores them.

use anyhow::Context as _;
use qsc_kernel::image::SectionKind;
use qsc_kernel::{Backend, Model, Scratch};

use super::writer::Writer;
use crate::image::ImageBytes;

/// Rows with their margins or logits and their outputs.
#[derive(Default)]
pub(super) struct Vectors {
    pub(super) rows: u32,
    inputs: Vec<f32>,
    raw: Vec<u64>,
    outputs: Vec<u32>,
}

impl Vectors {
    /// The kernel's own answers.
    pub(super) fn of<'row>(
        image: &Model<'_>,
        rows: impl Iterator<Item = &'row Vec<f32>>,
    ) -> anyhow::Result<Self> {
        let image = image.clone().with_backend(Backend::SCALAR);
        let mut scratch = scratch(&image);
        let mut vectors = Self::default();
        for row in rows {
            let output = image.predict(row, Scratch::new(&mut scratch))?;
            vectors.rows += 1;
            vectors.inputs.extend_from_slice(row);
            vectors.raw.extend(output.raw.iter().map(|value| value.to_bits()));
            vectors.outputs.extend(output.values.iter().map(|value| value.to_bits()));
        }
        Ok(vectors)
    }

    pub(super) fn write(&self, writer: &mut Writer) {
        writer.slice(SectionKind::GoldenRows, &self.inputs);
        writer.slice(SectionKind::GoldenRaw, &self.raw);
        writer.slice(SectionKind::GoldenOutputs, &self.outputs);
    }
}

/// Reads an image of this process back; a refusal is a defect of the packer, not of the input.
pub(super) fn read_back(image: &ImageBytes) -> anyhow::Result<Model<'_>> {
    Model::check(image.as_bytes())
        .context("the packed image does not pass its own check; please report this model")
}

/// Memory for predictions of an image.
pub(super) fn scratch(image: &Model<'_>) -> Vec<u8> {
    vec![0; image.scratch_bytes() + qsc_kernel::scratch::ALIGNMENT]
}
