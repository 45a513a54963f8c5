//! One step: its record becomes a typed operation whose parameters are slices of the image.

use super::Data;
use super::ops::attention::Attention;
use super::ops::linear_f32::LinearF32;
use super::ops::linear_i8::{LinearI8, MAX_WIDTH};
use super::ops::token_pool::TokenPool;
use super::ops::window::Statistics;
use crate::image::records::{StepRecord, op, statistics};
use crate::num::{count_single, index};
use crate::simd::LANES;

/// Consecutive values of the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Region {
    pub(super) first: usize,
    pub(super) len: usize,
}

impl Region {
    pub(super) fn end(self) -> Option<usize> {
        self.first.checked_add(self.len)
    }

    pub(super) fn of(self, arena: &[f32]) -> Option<&[f32]> {
        arena.get(self.first..)?.get(..self.len)
    }

    pub(super) fn of_mut(self, arena: &mut [f32]) -> Option<&mut [f32]> {
        arena.get_mut(self.first..)?.get_mut(..self.len)
    }

    /// All values of `other` are among this region's.
    pub(super) fn contains(self, other: Self) -> bool {
        other.first >= self.first && other.end().zip(self.end()).is_some_and(|(other, own)| other <= own)
    }
}

/// A step with parameters in bounds. Rows, widths and lengths fit each other by construction in [`Step::parse`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Step<'image> {
    pub(super) op: Op<'image>,
    pub(super) source: Region,
    pub(super) target: Region,
    pub(super) rows: usize,
    pub(super) width: usize,
    pub(super) out: usize,
}

/// What a step does.
#[derive(Clone, Copy, Debug)]
pub(super) enum Op<'image> {
    Constants(&'image [f32]),
    Gather(&'image [u32]),
    Statistics { kind: Statistics, epsilon: f32, count: f32 },
    Normalize,
    Denormalize,
    LinearI8(LinearI8<'image>),
    LinearF32(LinearF32<'image>),
    LayerNorm { gain: &'image [f32], bias: &'image [f32], epsilon: f32, count: f32 },
    Relu,
    Gelu,
    Attention(Attention),
    MaxPool { kernel: usize },
    TokenPool { kind: TokenPool, tokens: usize, count: f32 },
}

/// What a step does with its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Fills it without reading any region.
    Fill,
    /// Fills it from the source.
    Map,
    /// Changes it in place; the source is the target.
    InPlace,
    /// Changes what is there with the source.
    Update,
}

impl<'image> Step<'image> {
    /// The step of a record; `None` if anything in it is out of bounds, contradictory, or not finite.
    pub(super) fn parse(record: &StepRecord, data: &Data<'image>) -> Option<Self> {
        let (rows, width, out) = (index(record.rows), index(record.width), index(record.out));
        let (mode, period) = (index(record.mode), index(record.period));
        let constants = Constants(data.constants.get(index(record.constants)..)?);
        let first = index(record.first);
        let epsilon = record.epsilon;
        let sized = rows > 0 && width > 0 && out > 0;
        if !sized || !(0.0..=1.0).contains(&epsilon) || !unused_fields_are_zero(record) {
            return None;
        }
        let area = rows.checked_mul(width)?;
        let linear_period = || (1..=rows).contains(&period).then_some(());
        // Source and target lengths follow from the shape alone.
        let (op, source, target) = match record.op {
            op::CONSTANTS => (Op::Constants(constants.take(width)?.0), 0, width),
            op::GATHER => (Op::Gather(data.indices.get(first..)?.get(..out)?), width, out),
            op::STATISTICS => {
                let kind = match record.mode {
                    statistics::MIN_MAX => Statistics::MinMax,
                    statistics::STD_UNDER_ROOT => Statistics::StdUnderRoot,
                    statistics::STD => Statistics::Std,
                    statistics::MEAN_ABS => Statistics::MeanAbs,
                    _ => return None,
                };
                (Op::Statistics { kind, epsilon, count: count_single(rows) }, area, width.checked_mul(2)?)
            }
            op::NORMALIZE => (Op::Normalize, width.checked_mul(2)?, area),
            op::DENORMALIZE => (Op::Denormalize, width.checked_mul(2)?, area),
            op::LINEAR_I8 => {
                linear_period().filter(|()| width <= MAX_WIDTH)?;
                let padded = out.checked_next_multiple_of(LANES)?;
                let (scale, constants) = constants.take(padded)?;
                let (units, constants) = constants.take(padded)?;
                let (bias, _) = constants.take(padded.checked_mul(period)?)?;
                let blocks = (padded / LANES).checked_mul(width.div_ceil(4))?;
                let weights = data.weights.get(first..)?.get(..blocks)?;
                let (add, fine) = match mode {
                    0..=3 => (mode & 1 == 1, mode & 2 == 2),
                    _ => return None,
                };
                let layer = LinearI8 { weights, scale, units, bias, add, fine };
                (Op::LinearI8(layer), area, rows.checked_mul(out)?)
            }
            op::LINEAR_F32 => {
                linear_period()?;
                let padded = out.checked_next_multiple_of(LANES)?;
                let (weights, constants) = constants.take(padded.checked_mul(width)?)?;
                let (bias, _) = constants.take(padded.checked_mul(period)?)?;
                let layer =
                    LinearF32 { weights: weights.as_chunks().0, bias, add: (mode < 2).then_some(mode == 1)? };
                (Op::LinearF32(layer), area, rows.checked_mul(out)?)
            }
            op::LAYER_NORM => {
                let (gain, constants) = constants.take(width)?;
                let (bias, _) = constants.take(width)?;
                (Op::LayerNorm { gain, bias, epsilon, count: count_single(width) }, area, area)
            }
            op::RELU => (Op::Relu, area, area),
            op::GELU => (Op::Gelu, area, area),
            op::ATTENTION => {
                let divides = rows.checked_rem(period)? == 0 && width.checked_rem(mode)? == 0;
                let attention = Attention { width, heads: mode, tokens: period };
                divides.then_some((Op::Attention(attention), area.checked_mul(3)?, area))?
            }
            op::MAX_POOL => {
                let fits = mode > 0 && out == width.div_ceil(mode);
                fits.then_some((Op::MaxPool { kernel: mode }, area, rows.checked_mul(out)?))?
            }
            op::TOKEN_POOL => {
                let kind = match mode {
                    0 => TokenPool::Mean,
                    1 => TokenPool::Max,
                    _ => return None,
                };
                if rows.checked_rem(period)? != 0 {
                    return None;
                }
                let sequences = rows.checked_div(period)?;
                let op = Op::TokenPool { kind, tokens: period, count: count_single(period) };
                (op, area, sequences.checked_mul(width)?)
            }
            _ => return None,
        };
        let source = Region { first: index(record.source), len: source };
        let target = Region { first: index(record.target), len: target };
        Some(Self { op, source, target, rows, width, out })
    }

    /// Multiplications of the step, or as many steps of other work.
    pub(super) fn work(&self) -> Option<usize> {
        let area = self.rows.checked_mul(self.width)?;
        match self.op {
            Op::LinearI8(layer) => area.checked_mul(self.out)?.checked_mul(layer.digits()),
            Op::LinearF32(_) => area.checked_mul(self.out),
            Op::Attention(attention) => area.checked_mul(attention.tokens)?.checked_mul(2),
            _ => area.checked_add(self.target.len),
        }
    }

    /// What the step does with its target.
    pub(super) fn access(&self) -> Access {
        match self.op {
            Op::Constants(_) => Access::Fill,
            Op::LayerNorm { .. } if self.source != self.target => Access::Map,
            Op::LayerNorm { .. } | Op::Relu | Op::Gelu => Access::InPlace,
            Op::Normalize | Op::Denormalize => Access::Update,
            Op::LinearI8(LinearI8 { add: true, .. }) | Op::LinearF32(LinearF32 { add: true, .. }) => {
                Access::Update
            }
            _ => Access::Map,
        }
    }
}

/// What an operation does not look at is 0 (but for the source of constants), rows are 1 where there is one row only, and a target
/// as wide as the source says so.
fn unused_fields_are_zero(record: &StepRecord) -> bool {
    // Mode, period, constants, first, epsilon; whether rows and out are looked at.
    let (used, rows, out) = match record.op {
        op::CONSTANTS => ([false, false, true, false, false], false, false),
        op::GATHER => ([false, false, false, true, false], false, true),
        op::STATISTICS => ([true, false, false, false, true], true, false),
        op::LINEAR_I8 => ([true, true, true, true, false], true, true),
        op::LINEAR_F32 => ([true, true, true, false, false], true, true),
        op::LAYER_NORM => ([false, false, true, false, true], true, false),
        op::ATTENTION | op::TOKEN_POOL => ([true, true, false, false, false], true, false),
        op::MAX_POOL => ([true, false, false, false, false], true, true),
        _ => ([false; 5], true, false),
    };
    let fields = [record.mode, record.period, record.constants, record.first, record.epsilon.to_bits()];
    record.reserved == 0
        && used.iter().zip(fields).all(|(used, field)| *used || field == 0)
        && (rows || record.rows == 1)
        && (out || record.out == record.width)
}

/// The rest of the constants from a step's first one.
#[derive(Clone, Copy)]
struct Constants<'image>(&'image [f32]);

impl<'image> Constants<'image> {
    fn take(self, count: usize) -> Option<(&'image [f32], Self)> {
        self.0.split_at_checked(count).map(|(taken, rest)| (taken, Self(rest)))
    }
}

/// `step` is the ReLU of all outputs of the 8-bit layer before it.
pub(super) fn rectifies(step: &StepRecord, layer: &StepRecord) -> bool {
    (layer.op, step.op) == (op::LINEAR_I8, op::RELU)
        && (step.target, step.rows, step.width) == (layer.target, layer.rows, layer.out)
}

/// The step's name in the strings section.
pub(super) fn name<'image>(record: &StepRecord, strings: &'image [u8]) -> Option<&'image str> {
    let bytes = strings.get(index(record.name.offset)..)?.get(..index(record.name.len))?;
    core::str::from_utf8(bytes).ok()
}

/// The operation's name in FORMAT.md.
pub(super) const fn op_name(number: u32) -> &'static str {
    match number {
        op::CONSTANTS => "constants",
        op::GATHER => "gather",
        op::STATISTICS => "statistics",
        op::NORMALIZE => "normalize",
        op::DENORMALIZE => "denormalize",
        op::LINEAR_I8 => "linear_i8",
        op::LINEAR_F32 => "linear_f32",
        op::LAYER_NORM => "layer_norm",
        op::RELU => "relu",
        op::GELU => "gelu",
        op::ATTENTION => "attention",
        op::MAX_POOL => "max_pool",
        op::TOKEN_POOL => "token_pool",
        _ => "unknown",
    }
}
