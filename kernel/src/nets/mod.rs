//! Networks: a checked list of steps, each one operation on regions of a caller-owned arena of f32 values.
//!
//! One list for all architectures: shapes and regions are proven once for every net there can be, the compiler is free to
//! fold and reorder, and a backend only has to make the few operations of `ops` fast.
//!
//! | file | does |
//! | --- | --- |
//! | `step` | a record becomes a typed step whose slices are in bounds |
//! | `check` | the list holds together: regions, order, scratch memory |
//! | `ops` | one operation per file: shapes, rounding, scalar reference |

mod check;
pub(crate) mod ops;
mod step;

use crate::error::PredictError;
use crate::guard::input::all_finite;
use crate::image::records::{NetRecord, StepRecord};
use crate::link::{Link, Output};
use crate::num::index;
use crate::observe::{Observer, Stage};
use crate::rows::copy;
use crate::scratch::Scratch;
use crate::simd::{Backend, Block, Simd, Work, dispatch};
use ops::gather::gather;
use ops::gelu::gelu;
use ops::layer_norm::layer_norm;
use ops::linear_i8::Quantized;
use ops::max_pool::max_pool;
use ops::quantize::Token;
use ops::relu::relu;
use ops::window::{denormalize, normalize};
use step::{Op, Region, Step};

/// A checked network, borrowed from its image.
#[derive(Clone, Debug)]
pub struct Net<'image> {
    record: &'image NetRecord,
    steps: &'image [StepRecord],
    data: Data<'image>,
    sizes: Sizes,
    link: Link,
}

/// What steps take their parameters from.
#[derive(Clone, Copy, Debug)]
struct Data<'image> {
    constants: &'image [f32],
    weights: &'image [Block],
    indices: &'image [u32],
    strings: &'image [u8],
}

/// Working memory one prediction needs, in elements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sizes {
    raw: usize,
    arena: usize,
    /// Groups of four quantized values.
    quantized: usize,
    tokens: usize,
    scores: usize,
}

/// How far a quantized network is from the exact one, as measured when the image was compiled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MeasuredError {
    /// Rows it was measured on.
    pub rows: u32,
    /// Largest |raw output − exact|.
    pub max_raw: f64,
    /// Root mean square of the raw error, over that of the exact raw output.
    pub relative_rms: f64,
    /// Largest |output − exact|.
    pub max_output: f64,
    /// Share of rows with the same action, or the same largest output where there is none.
    pub agreement: f64,
}

/// One step in words, for `qsc model inspect`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Layer<'image> {
    /// The layer's name in the source file; empty where there is none.
    pub name: &'image str,
    /// What it does: `linear_i8`, `layer_norm`, ….
    pub op: &'static str,
    /// Rows of the source.
    pub rows: usize,
    /// Values of a source row.
    pub width: usize,
    /// Values of a target row.
    pub out: usize,
}

impl<'image> Net<'image> {
    /// The steps, in the order they run.
    pub fn layers(&self) -> impl ExactSizeIterator<Item = Layer<'image>> + use<'image> {
        let strings = self.data.strings;
        self.steps.iter().map(move |record| Layer {
            name: step::name(record, strings).unwrap_or_default(),
            op: step::op_name(record.op),
            rows: index(record.rows),
            width: index(record.width),
            out: index(record.out),
        })
    }

    pub(crate) const fn link(&self) -> Link {
        self.link
    }

    /// Weights kept in 8 bits.
    #[must_use]
    pub const fn n_weights_i8(&self) -> usize {
        self.data.weights.len().saturating_mul(size_of::<Block>())
    }

    /// Values kept in f32: biases, scales, norms, and weights of layers that stay wide.
    #[must_use]
    pub const fn n_constants(&self) -> usize {
        self.data.constants.len()
    }

    /// How far the image is from the trained network.
    #[must_use]
    pub const fn measured_error(&self) -> MeasuredError {
        MeasuredError {
            rows: self.record.measured_rows,
            max_raw: self.record.max_raw_error,
            relative_rms: self.record.relative_rms_error,
            max_output: self.record.max_output_error,
            agreement: self.record.agreement,
        }
    }

    /// Predicts one row `[seq_len, n_features] f32` of finite values.
    pub(crate) fn predict<'s>(
        &self,
        row: &[f32],
        scratch: Scratch<'s>,
        backend: Backend,
        observer: &mut dyn Observer,
    ) -> Result<Output<'s>, PredictError> {
        if !all_finite(row) {
            return Err(PredictError::NonFiniteInput);
        }
        let sizes = self.sizes;
        let (raw, scratch) = scratch.take::<f64>(sizes.raw)?;
        let (values, scratch) = scratch.take::<f32>(sizes.raw)?;
        let (arena, scratch) = scratch.take::<f32>(sizes.arena)?;
        let (quantized, scratch) = scratch.take::<[i16; 4]>(sizes.quantized)?;
        let (tokens, scratch) = scratch.take::<Token>(sizes.tokens)?;
        let (scores, _) = scratch.take::<f32>(sizes.scores)?;
        let mut memory = Memory { arena, quantized, tokens, scores };
        copy(row, memory.arena.get_mut(..row.len()).ok_or(PredictError::Corrupt)?)
            .ok_or(PredictError::Corrupt)?;
        dispatch(backend, Steps { net: self, memory: &mut memory, observer }).ok_or(PredictError::Corrupt)?;
        let logits = Region { first: index(self.record.output), len: sizes.raw };
        let logits = logits.of(memory.arena).ok_or(PredictError::Corrupt)?;
        for (raw, &logit) in raw.iter_mut().zip(logits) {
            *raw = f64::from(logit);
        }
        self.link.apply(raw, values);
        observer.ended(Stage::Link);
        Ok(Output { raw, values })
    }
}

/// Working memory of one prediction.
struct Memory<'s> {
    arena: &'s mut [f32],
    quantized: &'s mut [[i16; 4]],
    tokens: &'s mut [Token],
    scores: &'s mut [f32],
}

/// All steps of a network over one row's memory.
struct Steps<'a, 's> {
    net: &'a Net<'a>,
    memory: &'a mut Memory<'s>,
    observer: &'a mut dyn Observer,
}

impl Work for Steps<'_, '_> {
    /// `None` only if memory changed after the check.
    type Output = Option<()>;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Option<()> {
        let (mut records, mut at) = (self.net.steps.iter(), 0_usize);
        while let Some(record) = records.next() {
            let step = Step::parse(record, &self.net.data)?;
            // A ReLU behind a layer is done while the layer's outputs are still in registers.
            let rectified = records.as_slice().first().is_some_and(|next| step::rectifies(next, record));
            step.run(simd, self.memory, rectified)?;
            self.observer.ended(Stage::Step(at));
            at = at.wrapping_add(1);
            if rectified {
                records.next()?;
                self.observer.ended(Stage::Step(at));
                at = at.wrapping_add(1);
            }
        }
        Some(())
    }
}

impl Step<'_> {
    /// Runs the step, and the ReLU behind it where it is `rectified`. `None` only if memory changed after the check.
    #[inline(always)]
    fn run<S: Simd>(&self, simd: S, memory: &mut Memory<'_>, rectified: bool) -> Option<()> {
        let Self { op, source, target, rows, width, out } = *self;
        let (arena, scores) = (&mut *memory.arena, &mut *memory.scores);
        match op {
            Op::Constants(values) => copy(values, target.of_mut(arena)?)?,
            Op::LayerNorm { gain, bias, epsilon, count } => {
                if source != target {
                    let (source, target) = disjoint(arena, source, target)?;
                    copy(source, target)?;
                }
                layer_norm(simd, target.of_mut(arena)?, gain, bias, epsilon, count);
            }
            Op::Relu => relu(simd, target.of_mut(arena)?),
            Op::Gelu => gelu(simd, target.of_mut(arena)?),
            _ => {
                let (source, target) = disjoint(arena, source, target)?;
                match op {
                    Op::Gather(indices) => gather(source, indices, target)?,
                    Op::Statistics { kind, epsilon, count } => {
                        kind.run(simd, source, (rows, width), epsilon, count, target)?
                    }
                    Op::Normalize => normalize(simd, target, source, width)?,
                    Op::Denormalize => denormalize(simd, target, source, width)?,
                    Op::LinearI8(layer) => {
                        let (values, tokens) = (&mut *memory.quantized, &mut *memory.tokens);
                        let memory = Quantized { values, tokens };
                        layer.run(simd, (source, width), (target, out), rectified, memory)?;
                    }
                    Op::LinearF32(layer) => layer.run(simd, source, width, target, out)?,
                    Op::Attention(attention) => attention.run(simd, source, target, scores)?,
                    Op::MaxPool { kernel } => max_pool(source, width, kernel, target, out),
                    Op::TokenPool { kind, tokens, count } => {
                        kind.run(simd, source, width, tokens, count, target)?
                    }
                    Op::Constants(_) | Op::LayerNorm { .. } | Op::Relu | Op::Gelu => return None,
                }
            }
        }
        Some(())
    }
}

/// Two regions of the arena, one to read and one to write; `None` if they overlap or leave it.
fn disjoint(arena: &mut [f32], source: Region, target: Region) -> Option<(&[f32], &mut [f32])> {
    if source.end()? <= target.first {
        let (low, high) = arena.split_at_mut_checked(target.first)?;
        Some((source.of(low)?, high.get_mut(..target.len)?))
    } else {
        let (low, high) = arena.split_at_mut_checked(source.first)?;
        Some((high.get(..source.len)?, target.of_mut(low)?))
    }
}

#[cfg(test)]
mod tests {
    use crate::simd::{Backend, with_hostile_float_environment};
    use crate::{Model, ScratchBuffer};

    /// A bundled image, where images must lie.
    #[repr(C, align(64))]
    struct Aligned<const N: usize>([u8; N]);

    static NHITS: &[u8] = &Aligned(*include_bytes!("../../../models-bin/images/nhits.qsm")).0;
    static PATCHTST: &[u8] = &Aligned(*include_bytes!("../../../models-bin/images/patchtst.qsm")).0;

    #[test]
    #[cfg_attr(miri, ignore = "an hour under Miri; each operation runs there alone, in `ops::identity`")]
    fn golden_vectors_hold_on_every_backend_in_any_float_environment() {
        let mut scratch = ScratchBuffer::<65_536>::new();
        for image in [NHITS, PATCHTST] {
            for backend in Backend::available() {
                let model = Model::check(image).unwrap().with_backend(backend);
                let (name, at) = (model.name(), backend.name());
                assert_eq!(model.check_golden(scratch.scratch()), Ok(()), "{name} on {at}");
                let result = with_hostile_float_environment(|| model.check_golden(scratch.scratch()));
                assert_eq!(result, Ok(()), "{name} on {at}, flushing to zero and rounding toward zero");
            }
        }
    }
}
