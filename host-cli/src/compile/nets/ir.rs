//! The intermediate network: a list of steps on regions of one arena, with real-valued parameters.
//!
//! The same steps as in an image, before anything is quantized. Importers prove what is promised here: regions are in
//! bounds and filled before they are read, parameters have the lengths the shapes ask for and are finite.

use qsc_kernel::Action;

/// A network as trained.
#[derive(Clone, Debug)]
pub struct NetModel {
    /// Library that wrote the file, e.g. `transformers`.
    pub library: String,
    /// Its version; empty where the file does not say.
    pub version: String,
    /// The architecture, in the library's words.
    pub architecture: &'static str,
    /// Time steps of a row.
    pub seq_len: usize,
    /// Names of the features of a step, unique.
    pub feature_names: Vec<String>,
    /// What is done, in order. The row stands at the start of the arena.
    pub steps: Vec<Step>,
    /// Values of the arena.
    pub arena: usize,
    /// The logits after the last step.
    pub output: Region,
    /// From logits to outputs.
    pub link: NetLink,
    /// How outputs vote.
    pub decision: NetDecision,
    /// What rows look like, for golden vectors.
    pub inputs: Inputs,
}

/// From logits to outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetLink {
    /// A forecast as it is.
    Identity,
    /// One probability.
    Sigmoid,
    /// One probability per class.
    Softmax,
}

/// How a network's outputs vote.
#[derive(Clone, Debug, PartialEq)]
pub enum NetDecision {
    /// They do not.
    None,
    /// The most probable class.
    Classes(Vec<Action>),
    /// One probability against two bounds.
    DeadZone {
        /// Below: SELL.
        low: f32,
        /// Above: BUY.
        high: f32,
    },
    /// The return over the forecast's horizon against two thresholds.
    HorizonReturn {
        /// Below: SELL.
        low: f32,
        /// Above: BUY.
        high: f32,
    },
}

/// What a network's rows look like, as far as it knows.
#[derive(Clone, Debug, PartialEq)]
pub enum Inputs {
    /// Values of unit size.
    Standard,
    /// Values around these means, with these standard deviations.
    Scaled {
        /// Per feature.
        mean: Vec<f32>,
        /// Per feature.
        std: Vec<f32>,
    },
    /// Prices far from zero.
    Prices,
}

/// Consecutive values of the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Index of the first.
    pub first: usize,
    /// How many.
    pub len: usize,
}

impl Region {
    /// The part from `start` with `len` values.
    #[must_use]
    pub const fn part(self, start: usize, len: usize) -> Self {
        assert!(start + len <= self.len, "a part lies inside its region");
        Self { first: self.first + start, len }
    }

    /// Its place in an arena.
    #[must_use]
    pub const fn range(self) -> std::ops::Range<usize> {
        self.first..self.first + self.len
    }
}

/// One operation on regions.
#[derive(Clone, Debug)]
pub struct Step {
    /// The layer's name in the source file; empty where there is none.
    pub name: String,
    /// What is done.
    pub op: Op,
    /// What is read; the target itself for operations in place.
    pub source: Region,
    /// What is written.
    pub target: Region,
    /// Rows of the source.
    pub rows: usize,
    /// Values of a source row.
    pub width: usize,
}

/// An operation; shapes as in `qsc_kernel::image::records::op`.
#[derive(Clone, Debug)]
pub enum Op {
    /// Constants.
    Constants(Vec<f32>),
    /// Source values at these places; `None` is 0.
    Gather(Vec<Option<usize>>),
    /// Shift and divisor of each column.
    Statistics {
        /// Which.
        kind: StatisticsKind,
        /// Added to the variance, or the least divisor.
        epsilon: f32,
    },
    /// (x − shift) / divisor.
    Normalize,
    /// x · divisor + shift.
    Denormalize,
    /// x · weights + bias.
    Linear(Linear),
    /// Layer normalization.
    LayerNorm {
        /// Per column.
        gain: Vec<f32>,
        /// Per column.
        bias: Vec<f32>,
        /// Added to the variance.
        epsilon: f32,
    },
    /// max(x, 0).
    Relu,
    /// GELU by the error function.
    Gelu,
    /// Self-attention; queries come divided by the root of the head's width.
    Attention {
        /// Heads.
        heads: usize,
        /// Tokens of a sequence.
        tokens: usize,
    },
    /// Largest of `kernel` neighbours, ceil mode.
    MaxPool {
        /// Neighbours.
        kernel: usize,
    },
    /// Mean or maximum over the tokens of a sequence.
    TokenPool {
        /// The maximum instead of the mean.
        max: bool,
        /// Tokens of a sequence.
        tokens: usize,
    },
}

/// Which shift and divisor a column gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatisticsKind {
    /// Minimum; maximum − minimum + ε.
    MinMax,
    /// Mean; √(population variance + ε).
    StdUnderRoot,
    /// Mean; the population standard deviation, 1 where it is 0, + ε.
    Std,
    /// 0; the mean of |x|, at least ε.
    MeanAbs,
}

/// A linear layer.
#[derive(Clone, Debug)]
pub struct Linear {
    /// Weights and bias.
    pub affine: Affine,
    /// Biases of the positions that repeat over the rows, `[period, out]`; replaces the affine map's own bias.
    pub positions: Option<Vec<f64>>,
    /// Adds to the target instead of replacing it.
    pub add: bool,
    /// How it is kept in an image.
    pub precision: Precision,
}

/// How a linear layer is kept in an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// Weights and activations in 8 bits.
    I8,
    /// Weights in 8 bits, activations in two digits of 8: for what reads the raw window, where outliers are.
    I8Fine,
    /// All in f32: small layers that 8 bits would hurt.
    F32,
}

/// y = W·x + b.
#[derive(Clone, Debug, PartialEq)]
pub struct Affine {
    /// Inputs.
    pub width: usize,
    /// `[out, width]`.
    pub weights: Vec<f64>,
    /// `[out]`.
    pub bias: Vec<f64>,
}

impl Affine {
    /// Outputs.
    #[must_use]
    pub const fn out(&self) -> usize {
        self.bias.len()
    }

    /// The weights of each output.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f64]> {
        self.weights.chunks_exact(self.width)
    }
}

impl Linear {
    /// A layer in 8 bits that replaces its target.
    #[must_use]
    pub const fn new(affine: Affine) -> Self {
        Self { affine, positions: None, add: false, precision: Precision::I8 }
    }

    /// A layer in 8 bits with fine activations that replaces its target.
    #[must_use]
    pub const fn fine(affine: Affine) -> Self {
        Self { affine, positions: None, add: false, precision: Precision::I8Fine }
    }

    /// A layer in 8 bits that adds to its target.
    #[must_use]
    pub const fn adding(affine: Affine) -> Self {
        Self { affine, positions: None, add: true, precision: Precision::I8 }
    }

    /// A layer in f32.
    #[must_use]
    pub const fn wide(affine: Affine) -> Self {
        Self { affine, positions: None, add: false, precision: Precision::F32 }
    }

    /// Bias rows, `[period, out]`.
    #[must_use]
    pub fn bias(&self) -> &[f64] {
        self.positions.as_deref().unwrap_or(&self.affine.bias)
    }
}
