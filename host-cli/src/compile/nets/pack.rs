//! The network becomes an image: weights in the kernel's layout, golden vectors, and the error against the exact network.

use anyhow::{Context as _, ensure};
use bytemuck::{Zeroable as _, bytes_of};
use qsc_kernel::image::SectionKind;
use qsc_kernel::image::records::{
    ModelRecord, NO_INDEX, NetRecord, StepRecord, StringRef, decision, kind, link, op, statistics,
};
use qsc_kernel::{Action, Scratch};

use super::ir::{Linear, NetDecision, NetLink, NetModel, Op, Precision, StatisticsKind, Step};
use super::measure;
use super::reference::QuantizedRow;
use crate::compile::golden::{self, Vectors, read_back};
use crate::compile::writer::{self, Strings, Writer};
use crate::image::ImageBytes;

/// Golden rows stored in an image: the first of those the error is measured on.
const STORED: usize = 8;

/// Outputs of a layer are kept in blocks of this many.
const LANES: usize = 16;

/// Attention holds the scores of this many queries at once.
const QUERIES: usize = 8;

/// What the image says beyond the trained network.
#[derive(Clone, Debug)]
pub struct NetPackOptions {
    /// The model's name, e.g. `patchtst`.
    pub name: String,
    /// Name of the trained file.
    pub source_file: String,
    /// SHA-256 of the trained file.
    pub source_sha256: [u8; 32],
}

/// Packs a network into an image and measures what 8 bits cost it.
///
/// # Errors
/// A network beyond the format's limits, or an image that is too far from the trained network to be trusted.
pub fn pack(model: &NetModel, options: &NetPackOptions) -> anyhow::Result<ImageBytes> {
    let rows = measure::rows(model);
    let mut parts = Parts::default();
    for step in &model.steps {
        parts.push(step).with_context(|| format!("layer {:?}", step.name))?;
    }
    // Without golden vectors first: the kernel itself says which bits they are, and how far it is from the exact network.
    let mut net = NetRecord {
        arena: u32::try_from(model.arena)?,
        output: u32::try_from(model.output.first)?,
        link: match model.link {
            NetLink::Identity => link::IDENTITY,
            NetLink::Sigmoid => link::SIGMOID,
            NetLink::Softmax => link::SOFTMAX,
        },
        ..NetRecord::zeroed()
    };
    let draft = parts.write(model, options, &net, &Vectors::default())?;
    let draft = read_back(&draft)?;
    let measured = measure::measure(model, &draft, &rows)?;
    measured.check()?;
    measured.record(&mut net);
    let vectors = Vectors::of(&draft, rows.iter().take(STORED))?;
    let finished = parts.write(model, options, &net, &vectors)?;
    let image = read_back(&finished)?;
    image
        .check_golden(Scratch::new(&mut golden::scratch(&image)))
        .context("the packed image does not keep its own golden vectors; please report this model")?;
    Ok(finished)
}

/// The sections of a network, as they grow.
#[derive(Default)]
struct Parts {
    steps: Vec<(StepRecord, String)>,
    constants: Vec<f32>,
    weights: Vec<[i8; 64]>,
    indices: Vec<u32>,
    /// Largest working memory of any step: groups of four quantized values, tokens, scores.
    quantized: usize,
    tokens: usize,
    scores: usize,
}

impl Parts {
    fn push(&mut self, step: &Step) -> anyhow::Result<()> {
        let mut record = StepRecord {
            source: u32::try_from(step.source.first)?,
            target: u32::try_from(step.target.first)?,
            rows: u32::try_from(step.rows)?,
            width: u32::try_from(step.width)?,
            out: u32::try_from(step.width)?,
            ..StepRecord::zeroed()
        };
        if matches!(step.op, Op::Constants(_) | Op::Linear(_) | Op::LayerNorm { .. }) {
            record.constants = u32::try_from(self.constants.len())?;
        }
        match &step.op {
            Op::Constants(values) => {
                record.op = op::CONSTANTS;
                self.constants.extend(values);
            }
            Op::Gather(indices) => {
                record.op = op::GATHER;
                record.out = u32::try_from(indices.len())?;
                record.first = u32::try_from(self.indices.len())?;
                for index in indices {
                    self.indices.push(index.map_or(Ok(NO_INDEX), u32::try_from)?);
                }
            }
            Op::Statistics { kind, epsilon } => {
                record.op = op::STATISTICS;
                record.epsilon = *epsilon;
                record.mode = match kind {
                    StatisticsKind::MinMax => statistics::MIN_MAX,
                    StatisticsKind::StdUnderRoot => statistics::STD_UNDER_ROOT,
                    StatisticsKind::Std => statistics::STD,
                    StatisticsKind::MeanAbs => statistics::MEAN_ABS,
                };
            }
            Op::Normalize => record.op = op::NORMALIZE,
            Op::Denormalize => record.op = op::DENORMALIZE,
            Op::Linear(layer) => self.linear(&mut record, layer, step.rows)?,
            Op::LayerNorm { gain, bias, epsilon } => {
                record.op = op::LAYER_NORM;
                record.epsilon = *epsilon;
                self.constants.extend(gain.iter().chain(bias));
            }
            Op::Relu => record.op = op::RELU,
            Op::Gelu => record.op = op::GELU,
            Op::Attention { heads, tokens } => {
                record.op = op::ATTENTION;
                record.mode = u32::try_from(*heads)?;
                record.period = u32::try_from(*tokens)?;
                self.scores = self.scores.max(tokens * QUERIES);
            }
            Op::MaxPool { kernel } => {
                record.op = op::MAX_POOL;
                record.mode = u32::try_from(*kernel)?;
                record.out = u32::try_from(step.width.div_ceil(*kernel))?;
            }
            Op::TokenPool { max, tokens } => {
                record.op = op::TOKEN_POOL;
                record.mode = u32::from(*max);
                record.period = u32::try_from(*tokens)?;
            }
        }
        self.steps.push((record, step.name.clone()));
        Ok(())
    }

    /// Weights and bias of a layer, outputs padded to whole blocks.
    fn linear(&mut self, record: &mut StepRecord, layer: &Linear, rows: usize) -> anyhow::Result<()> {
        let affine = &layer.affine;
        let (out, width) = (affine.out(), affine.width);
        let padded = out.next_multiple_of(LANES);
        let fine = layer.precision == Precision::I8Fine;
        record.op = if layer.precision == Precision::F32 { op::LINEAR_F32 } else { op::LINEAR_I8 };
        record.mode = u32::from(layer.add) | u32::from(fine) << 1;
        record.out = u32::try_from(out)?;
        record.period = u32::try_from(layer.bias().len() / out)?;
        if layer.precision == Precision::F32 {
            let first = self.constants.len();
            self.constants.resize(first + padded * width, 0.0);
            for (o, row) in affine.rows().enumerate() {
                for (k, w) in row.iter().enumerate() {
                    self.constants[first + (o / LANES * width + k) * LANES + o % LANES] = *w as f32;
                }
            }
        } else {
            let groups = width.div_ceil(4);
            let first = self.weights.len();
            record.first = u32::try_from(first)?;
            self.weights.resize(first + padded / LANES * groups, [0; 64]);
            let (mut scales, mut sums) = (vec![0.0; padded], vec![0.0; padded]);
            for (o, row) in affine.rows().enumerate() {
                let quantized = QuantizedRow::new(row);
                scales[o] = quantized.scale;
                // At most 2^23 in magnitude: exact.
                sums[o] = quantized.units.iter().map(|unit| i32::from(*unit)).sum::<i32>() as f32;
                for (k, unit) in quantized.units.iter().enumerate() {
                    self.weights[first + o / LANES * groups + k / 4][o % LANES * 4 + k % 4] = *unit;
                }
            }
            self.constants.extend(scales.iter().chain(&sums));
            self.quantized = self.quantized.max(rows * groups * if fine { 2 } else { 1 });
            self.tokens = self.tokens.max(rows);
        }
        for bias in layer.bias().chunks_exact(out) {
            self.constants.extend(bias.iter().map(|b| *b as f32));
            self.constants.resize(self.constants.len() + padded - out, 0.0);
        }
        ensure!(self.constants.iter().all(|c| c.is_finite()), "folding the layer leaves the range of f32");
        Ok(())
    }

    fn write(
        &self,
        model: &NetModel,
        options: &NetPackOptions,
        net: &NetRecord,
        vectors: &Vectors,
    ) -> anyhow::Result<ImageBytes> {
        let mut strings = Strings::default();
        let n_raw = u32::try_from(model.output.len)?;
        let (decision, (low, high), classes) = match &model.decision {
            NetDecision::None => (decision::NONE, (0.0, 0.0), Vec::new()),
            NetDecision::Classes(classes) => {
                (decision::CLASSES, (0.0, 0.0), classes.iter().map(|class: &Action| class.code()).collect())
            }
            NetDecision::DeadZone { low, high } => (decision::DEAD_ZONE, (*low, *high), Vec::new()),
            NetDecision::HorizonReturn { low, high } => (decision::HORIZON_RETURN, (*low, *high), Vec::new()),
        };
        let record = ModelRecord {
            n_features: u32::try_from(model.feature_names.len())?,
            seq_len: u32::try_from(model.seq_len)?,
            n_raw,
            n_outputs: n_raw,
            golden_rows: vectors.rows,
            scratch_bytes: self.scratch_bytes(model)?,
            decision,
            low,
            high,
            reserved: 0,
            max_abs_error: f64::NAN,
            name: strings.push(&options.name)?,
            source_file: strings.push(&options.source_file)?,
            library: strings.push(&model.library)?,
            library_version: strings.push(&model.version)?,
            objective: strings.push(model.architecture)?,
            source_sha256: options.source_sha256,
        };
        let names: Vec<StringRef> =
            model.feature_names.iter().map(|name| strings.push(name)).collect::<anyhow::Result<_>>()?;
        let steps: Vec<StepRecord> = self
            .steps
            .iter()
            .map(|(record, name)| Ok(StepRecord { name: strings.push(name)?, ..*record }))
            .collect::<anyhow::Result<_>>()?;
        let mut writer = Writer::new(kind::NET);
        writer.section(SectionKind::Model, bytes_of(&record));
        writer.section(SectionKind::Strings, strings.as_bytes());
        writer.slice(SectionKind::FeatureNames, &names);
        writer.slice(SectionKind::Classes, &classes);
        vectors.write(&mut writer);
        writer.section(SectionKind::Net, bytes_of(net));
        writer.slice(SectionKind::Steps, &steps);
        writer.slice(SectionKind::Constants, &self.constants);
        writer.slice(SectionKind::Weights, self.weights.as_flattened());
        writer.slice(SectionKind::Indices, &self.indices);
        writer.finish()
    }

    /// As `FORMAT.md` defines it: logits, outputs, arena, quantized rows, their scales and scores, each padded to 64 bytes.
    fn scratch_bytes(&self, model: &NetModel) -> anyhow::Result<u32> {
        let raw = model.output.len;
        writer::scratch_bytes(&[
            raw * 8,
            raw * 4,
            model.arena * 4,
            self.quantized * 8,
            self.tokens * 8,
            self.scores * 4,
        ])
    }
}
