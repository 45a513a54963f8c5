//! The one check of a network's sections. What passes here stays in bounds, and reads only what this prediction wrote.

use super::step::{Access, Op, Region, Step, name};
use super::{Data, Net, Sizes};
use crate::error::ImageError;
use crate::image::records::{MAX_ARENA, ModelRecord, NO_INDEX, NetRecord, StepRecord};
use crate::image::{SectionKind, Sections};
use crate::link::Link;
use crate::num::index;
use crate::scratch::padded;

/// More steps than any net has; bounds the check's time, which grows with their square.
const MAX_STEPS: usize = 1024;
/// Most multiplications of one prediction: thirty times a PatchTST of 64 tokens.
const MAX_WORK: usize = 1 << 30;

impl<'image> Net<'image> {
    /// Checks every step, region and constant of the sections.
    pub(crate) fn check(sections: &Sections<'image>, model: &ModelRecord) -> Result<Self, ImageError> {
        let record: &NetRecord = sections.record(SectionKind::Net)?;
        let link = Link::parse(record.link, 1.0).ok_or(ImageError::Invalid(SectionKind::Net))?;
        let data = Data {
            constants: sections.slice(SectionKind::Constants)?,
            weights: sections.slice(SectionKind::Weights)?,
            indices: sections.slice(SectionKind::Indices)?,
            strings: sections.slice(SectionKind::Strings)?,
        };
        let steps: &[StepRecord] = sections.slice(SectionKind::Steps)?;
        let sizes = Sizes { raw: index(model.n_raw), arena: index(record.arena), ..Sizes::default() };
        let mut net = Self { record, steps, data, sizes, link };
        let holds = |holds: bool, kind| if holds { Ok(()) } else { Err(ImageError::Invalid(kind)) };
        holds(data.constants.iter().all(|value| value.is_finite()), SectionKind::Constants)?;
        // ±127 keeps pairs of products inside the 16 bits some backends add them in.
        holds(data.weights.as_flattened().iter().all(|&weight| weight != i8::MIN), SectionKind::Weights)?;
        net.sizes = net.steps_hold(model).ok_or(ImageError::Invalid(SectionKind::Steps))?;
        holds(net.measurement_holds(), SectionKind::Net)?;
        holds(net.dimensions_hold(model), SectionKind::Model)?;
        Ok(net)
    }

    /// Every step is sound and reads only regions that an earlier step, or the row, has filled; gives the memory they need.
    fn steps_hold(&self, model: &ModelRecord) -> Option<Sizes> {
        let arena = Region { first: 0, len: self.sizes.arena };
        let row = Region { first: 0, len: index(model.seq_len).checked_mul(index(model.n_features))? };
        let output = Region { first: index(self.record.output), len: self.sizes.raw };
        if self.steps.len() > MAX_STEPS || arena.len > index(MAX_ARENA) || !arena.contains(row) {
            return None;
        }
        let mut sizes = self.sizes;
        let mut work = 0_usize;
        for (at, record) in self.steps.iter().enumerate() {
            let step = Step::parse(record, &self.data)?;
            name(record, self.data.strings)?;
            let filled = |region| self.filled(at, row, region);
            let sound = match step.access() {
                Access::Fill => true,
                Access::InPlace => step.source == step.target && filled(step.target),
                Access::Map => filled(step.source) && apart(step.source, step.target),
                Access::Update => {
                    filled(step.source) && filled(step.target) && apart(step.source, step.target)
                }
            };
            let indices_hold = match step.op {
                Op::Gather(indices) => {
                    indices.iter().all(|&at| at == NO_INDEX || index(at) < step.source.len)
                }
                _ => true,
            };
            let units_hold = match step.op {
                Op::LinearI8(layer) => layer.units_hold(step.width),
                _ => true,
            };
            if !sound || !indices_hold || !units_hold || !arena.contains(step.target) {
                return None;
            }
            work = step.work().and_then(|step| work.checked_add(step)).filter(|work| *work <= MAX_WORK)?;
            match step.op {
                Op::LinearI8(layer) => {
                    let groups =
                        step.rows.checked_mul(step.width.div_ceil(4))?.checked_mul(layer.digits())?;
                    sizes.quantized = sizes.quantized.max(groups);
                    sizes.tokens = sizes.tokens.max(step.rows);
                }
                Op::Attention(attention) => sizes.scores = sizes.scores.max(attention.scores()?),
                _ => {}
            }
        }
        self.filled(self.steps.len(), row, output).then_some(sizes)
    }

    /// Some target before step `at`, or the row, holds the whole region. Filled once, it stays so.
    fn filled(&self, at: usize, row: Region, region: Region) -> bool {
        row.contains(region)
            || self.steps.iter().take(at).any(|record| {
                Step::parse(record, &self.data).is_some_and(|step| step.target.contains(region))
            })
    }

    /// The measured error is one: finite, not negative, a share where it is a share.
    fn measurement_holds(&self) -> bool {
        let NetRecord { max_raw_error, relative_rms_error, max_output_error, agreement, .. } = *self.record;
        let errors = [max_raw_error, relative_rms_error, max_output_error];
        errors.iter().all(|error| error.is_finite() && *error >= 0.0) && (0.0..=1.0).contains(&agreement)
    }

    /// Outputs and scratch memory are those the net has; a bound is not proven for quantized nets.
    fn dimensions_hold(&self, model: &ModelRecord) -> bool {
        model.n_outputs == model.n_raw
            && model.max_abs_error.is_nan()
            && self.scratch_bytes().and_then(|bytes| u32::try_from(bytes).ok()) == Some(model.scratch_bytes)
    }

    /// Bytes one prediction needs, each part padded: logits, outputs, arena, quantized rows, their scales, scores.
    fn scratch_bytes(&self) -> Option<usize> {
        let Sizes { raw, arena, quantized, tokens, scores } = self.sizes;
        let parts = [(raw, 8), (raw, 4), (arena, 4), (quantized, 8), (tokens, 8), (scores, 4)];
        parts
            .iter()
            .try_fold(0_usize, |total, &(count, size)| total.checked_add(padded(count.checked_mul(size)?)?))
    }
}

fn apart(a: Region, b: Region) -> bool {
    let before = |a: Region, b: Region| a.end().is_some_and(|end| end <= b.first);
    before(a, b) || before(b, a)
}
