//! The fixed-size records of an image, exactly as they lie in memory.
//!
//! Every record is plain old data without padding; integers and floats are little-endian. Field meanings that
//! are not obvious from a name stand in `models-bin/FORMAT.md`.
#![allow(unsafe_code, reason = "the Pod derives implement unsafe marker traits after checking the layout")]

use bytemuck::{Pod, Zeroable};

/// First bytes of every image. The non-text bytes make damage by text-mode transfers visible at once.
pub const MAGIC: [u8; 8] = *b"\x89QSM\r\n\x1a\n";
/// Images of another major version are refused.
pub const VERSION_MAJOR: u16 = 1;
/// Images of a newer minor version are refused: they may hold sections this kernel does not know.
pub const VERSION_MINOR: u16 = 0;

/// Golden vectors an image may carry, so that checking them costs no more than as many predictions.
pub const MAX_GOLDEN_ROWS: u32 = 256;

/// Values the arena of a network may hold, 4 MiB: an image cannot ask for memory out of proportion.
pub const MAX_ARENA: u32 = 1 << 20;

/// The first 64 bytes.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Header {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// [`VERSION_MAJOR`].
    pub version_major: u16,
    /// At most [`VERSION_MINOR`].
    pub version_minor: u16,
    /// Kind of model, see [`kind`].
    pub kind: u32,
    /// Bytes of the whole image.
    pub total_len: u64,
    /// Entries of the section table that follows the header.
    pub section_count: u32,
    /// Zero.
    pub reserved: u32,
    /// SHA-256 of all bytes of the image except these 32.
    pub sha256: [u8; 32],
}

/// Values of [`Header::kind`].
pub mod kind {
    /// A tree ensemble.
    pub const TREES: u32 = 1;
    /// A network: a list of steps.
    pub const NET: u32 = 2;
}

/// One entry of the section table.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct SectionRecord {
    /// A [`crate::image::SectionKind`] by number.
    pub kind: u32,
    /// First byte, from the start of the image; a multiple of 64.
    pub offset: u32,
    /// Bytes, without the padding that follows.
    pub len: u32,
    /// Zero.
    pub reserved: u32,
}

/// A UTF-8 text in the strings section.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct StringRef {
    /// First byte, from the start of the section.
    pub offset: u32,
    /// Bytes.
    pub len: u32,
}

/// The training values of one feature: where they lie, in ten bins.
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct DecileRecord {
    /// The inner deciles, ascending; a value belongs to the bin whose number is that of the deciles below it.
    pub edges: [f32; 9],
    /// Training values in each bin; ties may leave bins empty.
    pub counts: [u32; 10],
}

/// What every kind of model says of itself.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct ModelRecord {
    /// Features per step.
    pub n_features: u32,
    /// Time steps of a row: 1 for tabular models.
    pub seq_len: u32,
    /// Raw outputs (margins, logits).
    pub n_raw: u32,
    /// Outputs after the link.
    pub n_outputs: u32,
    /// Golden vectors, at most [`MAX_GOLDEN_ROWS`].
    pub golden_rows: u32,
    /// Scratch memory one prediction needs, in bytes.
    pub scratch_bytes: u32,
    /// How outputs become an action, see [`decision`].
    pub decision: u32,
    /// One probability, or the return over a forecast's horizon: below this is SELL …
    pub low: f32,
    /// … above this BUY; between them lies no answer (dead zone) or HOLD (return).
    pub high: f32,
    /// Zero.
    pub reserved: u32,
    /// Trees: proven bound of |raw output as f32 − exact sum of the trained leaves|. NaN where no bound is proven.
    pub max_abs_error: f64,
    /// The model's name.
    pub name: StringRef,
    /// File the image was compiled from.
    pub source_file: StringRef,
    /// Library that trained it.
    pub library: StringRef,
    /// That library's version.
    pub library_version: StringRef,
    /// The objective or architecture, in the library's words.
    pub objective: StringRef,
    /// SHA-256 of the source file.
    pub source_sha256: [u8; 32],
}

/// Values of [`ModelRecord::decision`].
pub mod decision {
    /// The outputs are no votes.
    pub const NONE: u32 = 0;
    /// The most probable output, first of equals, mapped by the classes section.
    pub const CLASSES: u32 = 1;
    /// One probability against the dead zone.
    pub const DEAD_ZONE: u32 = 2;
    /// A forecast's return over the horizon against two thresholds.
    pub const HORIZON_RETURN: u32 = 3;
}

/// What a tree ensemble says of itself.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct TreesRecord {
    /// Bits of a rank: 8 or 16.
    pub rank_bits: u32,
    /// How leaves are stored and summed, see [`sum`].
    pub sum: u32,
    /// Fixed-point leaves are multiples of 2^−scale_log2.
    pub scale_log2: i32,
    /// From margins to outputs, see [`link`].
    pub link: u32,
    /// Margins are multiplied by this before the link.
    pub link_scale: f64,
    /// Comparison rule of thresholds, see [`compare`].
    pub compare: u32,
    /// How trees are stored: 0 plain nodes; 3 to 9 blocks of trees with that many levels; 32 or 64 masks of that many leaves.
    pub layout: u32,
}

/// Values of [`TreesRecord::sum`].
pub mod sum {
    /// i32 fixed point, summed in any order.
    pub const FIXED_I32: u32 = 0;
    /// i64 fixed point, summed in any order.
    pub const FIXED_I64: u32 = 1;
    /// f32, summed in tree order from the base (XGBoost's own bits).
    pub const EXACT_F32: u32 = 2;
    /// f64, summed in tree order from the base (LightGBM's own bits).
    pub const EXACT_F64: u32 = 3;
}

/// Values of [`TreesRecord::link`].
pub mod link {
    /// The margin itself.
    pub const IDENTITY: u32 = 0;
    /// 1 / (1 + e^−m).
    pub const SIGMOID: u32 = 1;
    /// e^mᵢ / Σ e^mⱼ.
    pub const SOFTMAX: u32 = 2;
    /// e^m.
    pub const EXP: u32 = 3;
    /// sign(m) · m².
    pub const SIGNED_SQUARE: u32 = 4;
    /// ln(1 + e^m).
    pub const LOG1P_EXP: u32 = 5;
    /// 1 where m > 0, else 0.
    pub const STEP: u32 = 6;
}

/// Values of [`TreesRecord::compare`].
pub mod compare {
    /// `x < t` goes left (XGBoost).
    pub const LESS: u32 = 0;
    /// `x <= t` goes left (LightGBM, whose |x| ≤ 1e-35 counts as 0: no threshold lies in between).
    pub const LESS_EQUAL: u32 = 1;
}

/// Thresholds of one cache line, all of them compared at once.
pub type ThresholdBlock = [f32; THRESHOLD_BLOCK];

/// Values of a [`ThresholdBlock`].
pub const THRESHOLD_BLOCK: usize = 16;

/// Bits of the NaN that fills blocks up: no value compares with it, not even +∞.
pub const THRESHOLD_PAD: u32 = 0x7FC0_0000;

/// The thresholds of one input feature: a run of blocks of the thresholds section, a search tree of 16 branches.
///
/// The lowest level holds the thresholds, ascending, without repeats. Each level above holds the last value of every
/// block below but the very last, up to a level of one block. Levels lie from the top down.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct FeatureRecord {
    /// Index of the first block.
    pub first: u32,
    /// Number of thresholds.
    pub count: u32,
}

/// One value of the quantized row.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct SlotRecord {
    /// Input feature.
    pub feature: u32,
    /// How the feature's value becomes this slot's rank, see [`slot`].
    pub rule: u32,
    /// Category slots: first word of the set in the categories section.
    pub first: u32,
    /// Category slots: words of the set, 32 categories each, lowest bit first.
    pub count: u32,
}

/// Values of [`SlotRecord::rule`]. A rank is the number of thresholds that send the value right.
pub mod slot {
    /// Rank; NaN is 0 (always left).
    pub const NAN_LEFT: u32 = 0;
    /// Rank; NaN is the largest rank (always right).
    pub const NAN_RIGHT: u32 = 1;
    /// Rank; NaN counts as 0.0.
    pub const NAN_IS_ZERO: u32 = 2;
    /// Rank; NaN and zero are 0 (always left).
    pub const ZERO_LEFT: u32 = 3;
    /// Rank; NaN and zero are the largest rank (always right).
    pub const ZERO_RIGHT: u32 = 4;
    /// 0 for NaN, 1 for a number.
    pub const IS_NUMBER: u32 = 5;
    /// 1 for a truncated value in the set, else 0; NaN is 0 (XGBoost, default left).
    pub const IN_SET_NAN_0: u32 = 6;
    /// 1 for a truncated value in the set, else 0; NaN is 1 (XGBoost, default right).
    pub const IN_SET_NAN_1: u32 = 7;
    /// 0 for a truncated value in the set, else 1; NaN is 1 (LightGBM).
    pub const NOT_IN_SET: u32 = 8;
}

/// One output group: its trees are consecutive.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct GroupRecord {
    /// Where the sum starts: an i64 for fixed point, the bits of an f64 otherwise (exact f32: the f32 widened).
    pub base: u64,
    /// First tree.
    pub first_tree: u32,
    /// Number of trees.
    pub count: u32,
}

/// One tree of the plain layout: its nodes are consecutive, the root first.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct TreeRecord {
    /// Index of the root in the nodes section.
    pub first_node: u32,
    /// Number of nodes.
    pub count: u32,
}

/// One node of the plain layout.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct NodeRecord {
    /// Slot of the quantized row to compare, or [`LEAF`].
    pub slot: u16,
    /// A slot rank above this goes right.
    pub rank: u16,
    /// Split: index of the left child from the tree's root; the right child follows it. Leaf: index in the leaves section.
    pub child: u32,
}

/// [`NodeRecord::slot`] of a leaf.
pub const LEAF: u16 = u16::MAX;

/// Three levels of a tree: node i's children are 2i and 2i + 1, node 1 is the root.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct BlockRecord {
    /// Slot of each node; 0 where there is none.
    pub slots: [u8; 8],
    /// A slot rank above this goes right; [`NO_NODE`] where there is no node, and always at 0.
    pub ranks: [u8; 8],
}

/// The first blocks of eight trees, side by side.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct TopBlocksRecord {
    /// [`BlockRecord::slots`] of each tree.
    pub slots: [[u8; 8]; 8],
    /// [`BlockRecord::ranks`] of each tree.
    pub ranks: [[u8; 8]; 8],
}

/// The last three levels of a tree and the leaves below: one cache line.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct LeafBlockRecord {
    /// The nodes.
    pub nodes: BlockRecord,
    /// Bits of the leaves, i32 or f32, left to right.
    pub leaves: [u32; 8],
    /// Zero.
    pub reserved: [u8; 16],
}

/// The nodes of one tree of up to 64 leaves, or of two trees of up to 32: places of a tree are numbered from left to right
/// by the leaf on their left.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct MaskNodesRecord {
    /// Slot of each node; 0 where there is none.
    pub slots: [u8; 64],
    /// A slot rank above this goes right; [`NO_NODE`] where there is no node.
    pub ranks: [u8; 64],
    /// First leaf of the left subtree; 0 where there is no node.
    pub firsts: [u8; 64],
}

/// The rank of a place without a node: no 8-bit rank is above it, so every row goes left.
pub const NO_NODE: u8 = u8::MAX;
/// Trees of a group in blocks are filled up to a multiple of this with trees that add nothing …
pub const BLOCK_TREES: u32 = 8;
/// … and trees with masks up to a multiple of this.
pub const MASK_TREES: u32 = 4;

/// What a network says of itself.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct NetRecord {
    /// f32 values of the arena that steps read and write.
    pub arena: u32,
    /// First of the `n_raw` logits in the arena, after the last step.
    pub output: u32,
    /// From logits to outputs, see [`link`].
    pub link: u32,
    /// Rows the errors below were measured on, against the unquantized network in f64.
    pub measured_rows: u32,
    /// Largest |raw output − exact|.
    pub max_raw_error: f64,
    /// Root mean square of the raw error, over that of the exact raw output.
    pub relative_rms_error: f64,
    /// Largest |output − exact|.
    pub max_output_error: f64,
    /// Share of rows with the same action, or the same largest output where there is none.
    pub agreement: f64,
}

/// One step of a network: an operation on regions of the arena.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct StepRecord {
    /// What is done, see [`op`].
    pub op: u32,
    /// Variant of the operation.
    pub mode: u32,
    /// First value read.
    pub source: u32,
    /// First value written.
    pub target: u32,
    /// Rows of the source.
    pub rows: u32,
    /// Values of a source row.
    pub width: u32,
    /// Values of a target row.
    pub out: u32,
    /// Rows after which positions repeat.
    pub period: u32,
    /// First of the step's values in the constants section.
    pub constants: u32,
    /// First of the step's elements in the weights or indices section.
    pub first: u32,
    /// A small number added under a root or to a divisor.
    pub epsilon: f32,
    /// Zero.
    pub reserved: u32,
    /// The layer's name in the source file; empty where there is none.
    pub name: StringRef,
}

/// Values of [`StepRecord::op`]; shapes and rounding stand in `kernel/src/nets/ops/`.
pub mod op {
    /// target `[width]` = constants.
    pub const CONSTANTS: u32 = 0;
    /// target `[out]` = source `[width]` at the indices, 0 at [`NO_INDEX`](super::NO_INDEX).
    pub const GATHER: u32 = 1;
    /// target `[2, width]` = shift and divisor of each column of source `[rows, width]`; see [`statistics`](super::statistics).
    pub const STATISTICS: u32 = 2;
    /// target `[rows, width]` = (target − shift) / divisor, both from source `[2, width]`.
    pub const NORMALIZE: u32 = 3;
    /// target `[rows, width]` = target · divisor + shift, both from source `[2, width]`.
    pub const DENORMALIZE: u32 = 4;
    /// target `[rows, out]` = (mode bit 0: +=) source `[rows, width]` · weights + bias, in 8 bits; mode bit 1: two digits
    /// for each activation.
    pub const LINEAR_I8: u32 = 5;
    /// target `[rows, out]` = (mode 1: +=) source `[rows, width]` · weights + bias, in f32.
    pub const LINEAR_F32: u32 = 6;
    /// target `[rows, width]` from source `[rows, width]`, which may be the target.
    pub const LAYER_NORM: u32 = 7;
    /// target `[rows, width]`, in place.
    pub const RELU: u32 = 8;
    /// target `[rows, width]`, in place.
    pub const GELU: u32 = 9;
    /// target `[rows, width]` from queries, keys and values, source `[rows, 3 · width]`; mode heads, period tokens per sequence.
    pub const ATTENTION: u32 = 10;
    /// target `[rows, out]` = largest of each `mode` values of source `[rows, width]`; the last window may be shorter.
    pub const MAX_POOL: u32 = 11;
    /// target `[rows / period, width]` = mean (mode 0) or maximum (mode 1) over `period` rows of source `[rows, width]`.
    pub const TOKEN_POOL: u32 = 12;
}

/// Modes of [`op::STATISTICS`].
pub mod statistics {
    /// Shift: minimum. Divisor: maximum − minimum + ε.
    pub const MIN_MAX: u32 = 0;
    /// Shift: mean. Divisor: root of (population variance + ε).
    pub const STD_UNDER_ROOT: u32 = 1;
    /// Shift: mean. Divisor: population standard deviation, 1 for 0, + ε.
    pub const STD: u32 = 2;
    /// Shift: 0. Divisor: mean of |x|, at least ε.
    pub const MEAN_ABS: u32 = 3;
}

/// An index of [`op::GATHER`] that stands for 0.
pub const NO_INDEX: u32 = u32::MAX;

const _: () = {
    assert!(size_of::<NetRecord>() == 48);
    assert!(size_of::<StepRecord>() == 56);
    assert!(size_of::<Header>() == 64);
    assert!(size_of::<SectionRecord>() == 16);
    assert!(size_of::<ModelRecord>() == 120);
    assert!(size_of::<TreesRecord>() == 32);
    assert!(size_of::<NodeRecord>() == 8);
    assert!(size_of::<TopBlocksRecord>() == 128);
    assert!(size_of::<LeafBlockRecord>() == 64);
    assert!(size_of::<MaskNodesRecord>() == 192);
};
