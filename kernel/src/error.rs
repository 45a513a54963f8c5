//! What can go wrong with an image, a prediction, a batch and the golden vectors: one small enum each. What a room refuses stands there.

use core::fmt;

use crate::image::SectionKind;
use crate::image::records::kind;

/// Why bytes are not a model image this kernel runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum ImageError {
    /// The bytes do not start on a 64-byte boundary.
    Misaligned,
    /// The bytes do not begin with the magic of a model image.
    NotAnImage,
    /// The format version, major and minor, is not one this kernel reads.
    Version {
        /// Major version of the image.
        major: u16,
        /// Minor version of the image.
        minor: u16,
    },
    /// The bytes are fewer or more than the header says.
    Length {
        /// Bytes by the header.
        expected: u64,
        /// Bytes given.
        actual: u64,
    },
    /// The bytes end inside the header.
    NoHeader,
    /// The SHA-256 does not match: some byte was altered.
    Digest,
    /// The section table is broken: overlap, disorder, bounds, or an unknown or repeated section.
    SectionTable,
    /// The model is of a kind this kernel does not run.
    Kind(u32),
    /// A section that must be there is not.
    MissingSection(SectionKind),
    /// A section's contents contradict themselves or another section.
    Invalid(SectionKind),
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Misaligned => f.write_str("the image does not start on a 64-byte boundary"),
            Self::NotAnImage => f.write_str("these bytes are not a model image"),
            Self::Version { major, minor } => {
                write!(f, "image format {major}.{minor} is not supported: compile the model again")
            }
            Self::Length { expected, actual } => {
                write!(f, "the image has {actual} bytes where its header says {expected}")
            }
            Self::NoHeader => f.write_str("the image ends inside its header: copy it again, whole"),
            Self::Digest => f.write_str(
                "the SHA-256 of the image does not match its contents: copy it or compile the model again",
            ),
            Self::SectionTable => {
                f.write_str("the section table of the image is broken: compile the model again")
            }
            Self::Kind(kind::NET) if !cfg!(feature = "nets") => {
                f.write_str("the image is a network, and this build has none: build it with the feature nets")
            }
            Self::Kind(kind) => write!(f, "model kind {kind} is not supported"),
            Self::MissingSection(kind) => write!(f, "the image lacks its section {}", kind.name()),
            Self::Invalid(kind) => write!(f, "section {} of the image is invalid", kind.name()),
        }
    }
}

impl core::error::Error for ImageError {}

/// Why a row was not predicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum PredictError {
    /// The row has not the length the model was trained with.
    RowLength {
        /// Values the model needs.
        expected: usize,
        /// Values given.
        actual: usize,
    },
    /// The scratch memory is smaller than the model's `scratch_bytes`.
    ScratchTooSmall,
    /// A value a sequence model cannot take: NaN or infinite.
    NonFiniteInput,
    /// The walk left its checked bounds: memory was altered after the check. No answer is given.
    Corrupt,
}

impl fmt::Display for PredictError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RowLength { expected, actual } => {
                write!(f, "the row has {actual} values where the model needs {expected}")
            }
            Self::ScratchTooSmall => f.write_str("the scratch memory is smaller than the model needs"),
            Self::NonFiniteInput => {
                f.write_str("the row holds NaN or an infinity, which this model cannot take")
            }
            Self::Corrupt => f.write_str("the model's memory changed after it was checked"),
        }
    }
}

impl core::error::Error for PredictError {}

/// Why a batch of rows was not predicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum BatchError {
    /// Rows, raw outputs and outputs are not the same whole number of rows.
    Lengths,
    /// The scratch memory is smaller than the model's `batch_scratch_bytes`.
    ScratchTooSmall,
    /// Row `row` could not be predicted; what was written of others is no answer.
    Row {
        /// Index of the row.
        row: usize,
        /// Why.
        error: PredictError,
    },
    /// The walk left its checked bounds: memory was altered after the check. No answer is given.
    Corrupt,
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lengths => f.write_str("the rows of the batch and the room for its outputs do not match"),
            Self::ScratchTooSmall => {
                f.write_str("the scratch memory is smaller than a batch of this model needs")
            }
            Self::Row { row, error } => write!(f, "row {row}: {error}"),
            Self::Corrupt => PredictError::Corrupt.fmt(f),
        }
    }
}

impl core::error::Error for BatchError {}

/// Why an image's golden vectors did not hold on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum GoldenError {
    /// The image carries no golden vectors: nothing is proven.
    Absent,
    /// Row `row` gave other bits than the compiler recorded.
    Mismatch {
        /// Index of the golden row.
        row: usize,
    },
    /// A golden row could not be predicted.
    Predict(PredictError),
}

impl fmt::Display for GoldenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("the image carries no golden vectors"),
            Self::Mismatch { row } => {
                write!(f, "golden row {row} gave other bits than were recorded at compile time")
            }
            Self::Predict(error) => write!(f, "a golden row could not be predicted: {error}"),
        }
    }
}

impl core::error::Error for GoldenError {}
