//! Writes a network step by step: hands out regions of the arena and keeps shapes together.

use super::ir::{Affine, Linear, Op, Region, StatisticsKind, Step};

/// Regions start on a cache line: 16 values of f32.
const REGION_ALIGNMENT: usize = 16;

/// The steps so far, and the arena they use.
pub(super) struct Builder {
    pub(super) steps: Vec<Step>,
    pub(super) arena: usize,
    /// The row, `[seq_len, n_features]`.
    pub(super) row: Region,
}

impl Builder {
    /// Nothing but the row.
    pub(super) fn new(row_len: usize) -> Self {
        let mut builder = Self { steps: Vec::new(), arena: 0, row: Region { first: 0, len: row_len } };
        builder.row = builder.region(row_len);
        builder
    }

    /// Values nobody else uses.
    pub(super) fn region(&mut self, len: usize) -> Region {
        let first = self.arena;
        self.arena = (first + len).next_multiple_of(REGION_ALIGNMENT);
        Region { first, len }
    }

    fn push(&mut self, name: &str, op: Op, source: Region, target: Region, rows: usize, width: usize) {
        self.steps.push(Step { name: name.to_owned(), op, source, target, rows, width });
    }

    /// Shift and divisor of the columns of `source [·, width]` by its own values.
    pub(super) fn statistics(
        &mut self,
        kind: StatisticsKind,
        epsilon: f32,
        source: Region,
        width: usize,
    ) -> Region {
        let target = self.region(2 * width);
        self.push("", Op::Statistics { kind, epsilon }, source, target, source.len / width, width);
        target
    }

    pub(super) fn constants(&mut self, values: Vec<f32>) -> Region {
        let target = self.region(values.len());
        let width = values.len();
        self.push("", Op::Constants(values), target, target, 1, width);
        target
    }

    /// Scales `target` by `statistics`, in place.
    pub(super) fn normalize(&mut self, statistics: Region, target: Region) {
        let width = statistics.len / 2;
        self.push("", Op::Normalize, statistics, target, target.len / width, width);
    }

    /// Undoes [`normalize`](Self::normalize) on `target`, `[·, width]` with the statistics' width.
    pub(super) fn denormalize(&mut self, statistics: Region, target: Region) {
        let width = statistics.len / 2;
        self.push("", Op::Denormalize, statistics, target, target.len / width, width);
    }

    pub(super) fn gather(&mut self, name: &str, source: Region, indices: Vec<Option<usize>>) -> Region {
        let target = self.region(indices.len());
        self.push(name, Op::Gather(indices), source, target, 1, source.len);
        target
    }

    /// A linear layer over all rows of `source` into `target`.
    pub(super) fn linear(&mut self, name: &str, linear: Linear, source: Region, target: Region) {
        let width = linear.affine.width;
        self.push(name, Op::Linear(linear), source, target, source.len / width, width);
    }

    /// A linear layer into a region of its own.
    pub(super) fn new_linear(&mut self, name: &str, linear: Linear, source: Region) -> Region {
        let Affine { width, .. } = linear.affine;
        let target = self.region(source.len / width * linear.affine.out());
        self.linear(name, linear, source, target);
        target
    }

    pub(super) fn layer_norm(
        &mut self,
        name: &str,
        (gain, bias): (Vec<f32>, Vec<f32>),
        epsilon: f32,
        source: Region,
        target: Region,
    ) {
        let width = gain.len();
        self.push(name, Op::LayerNorm { gain, bias, epsilon }, source, target, source.len / width, width);
    }

    pub(super) fn activation(&mut self, op: Op, target: Region, width: usize) {
        self.push("", op, target, target, target.len / width, width);
    }

    /// Self-attention among sequences of `tokens` rows: `source [·, 3 · width]` into `target [·, width]`.
    pub(super) fn attention(
        &mut self,
        name: &str,
        heads: usize,
        tokens: usize,
        source: Region,
        target: Region,
        width: usize,
    ) {
        self.push(name, Op::Attention { heads, tokens }, source, target, target.len / width, width);
    }

    /// The largest of each `kernel` neighbours of a single row.
    pub(super) fn max_pool(&mut self, kernel: usize, source: Region) -> Region {
        let target = self.region(source.len.div_ceil(kernel));
        self.push("", Op::MaxPool { kernel }, source, target, 1, source.len);
        target
    }

    pub(super) fn token_pool(&mut self, max: bool, tokens: usize, source: Region, width: usize) -> Region {
        let target = self.region(source.len / tokens);
        self.push("", Op::TokenPool { max, tokens }, source, target, source.len / width, width);
        target
    }
}
