//! What every call returns. Numbers are part of the ABI: a new status takes a new one.

use core::ffi::CStr;

use qsc_kernel::{BatchError, GoldenError, ImageError, PredictError};

/// How a call ended. Whatever is not `QSC_STATUS_OK` has changed nothing but what its function says.
#[repr(C)]
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum qsc_status {
    /// Done.
    Ok = 0,
    /// A pointer that must not be null is.
    Null = 1,
    /// A pointer lacks the alignment of what it points to.
    Misaligned = 2,
    /// The memory is smaller than needed.
    TooSmall = 3,
    /// The handle was never initialized, is of another kind, or was overwritten.
    NoHandle = 4,
    /// A number is out of its range or unknown, or reserved space is not zero.
    Argument = 5,
    /// Nothing has this index.
    Index = 6,
    /// An array has another length than the model or engine needs.
    Length = 7,
    /// Memory that is written to overlaps other memory of the call.
    Overlap = 8,
    /// The caller was compiled for another version of this ABI.
    Abi = 9,
    /// A text is not UTF-8.
    Text = 10,
    /// This machine has no backend of that name.
    Backend = 11,
    /// The image does not start on a 64-byte boundary.
    ImageMisaligned = 16,
    /// The bytes are no model image.
    ImageMagic = 17,
    /// The version of the image's format is not supported.
    ImageVersion = 18,
    /// The image is longer or shorter than its header says.
    ImageLength = 19,
    /// The SHA-256 of the image does not match its contents.
    ImageDigest = 20,
    /// The section table of the image is broken.
    ImageSections = 21,
    /// The kind of model is not supported.
    ImageKind = 22,
    /// The image lacks a section.
    ImageMissingSection = 23,
    /// A section of the image contradicts itself or another.
    ImageInvalid = 24,
    /// The row holds NaN or an infinity, which this model cannot take.
    NonFiniteInput = 32,
    /// The memory of a model changed after it was checked: no answer is given.
    Corrupt = 33,
    /// The image carries no golden vectors: nothing is proven.
    GoldenAbsent = 40,
    /// A golden row gave other bits than were recorded at compile time.
    GoldenMismatch = 41,
    /// An engine has 1 to `QSC_MAX_MEMBERS` members.
    Members = 48,
    /// The outputs of a member's model are no votes.
    CannotVote = 49,
    /// A model needs a feature that the vector lacks.
    UnknownFeature = 50,
    /// A model needs a feature whose name the vector has twice.
    AmbiguousFeature = 51,
    /// The windows were made for another engine.
    Windows = 52,
    /// The kernel gave a reason this library has no number for.
    Other = 255,
}

impl qsc_status {
    /// What the status with this number means.
    pub(crate) const fn text(number: u32) -> &'static CStr {
        match number {
            0 => c"done",
            1 => c"a pointer that must not be null is",
            2 => c"a pointer lacks the alignment of what it points to",
            3 => c"the memory is smaller than needed",
            4 => c"the handle was never initialized, is of another kind, or was overwritten",
            5 => c"a number is out of its range or unknown, or reserved space is not zero",
            6 => c"nothing has this index",
            7 => c"an array has another length than the model or engine needs",
            8 => c"memory that is written to overlaps other memory of the call",
            9 => c"the caller was compiled for another version of this ABI",
            10 => c"a text is not UTF-8",
            11 => c"this machine has no backend of that name",
            16 => c"the image does not start on a 64-byte boundary",
            17 => c"these bytes are not a model image",
            18 => c"the version of the image's format is not supported",
            19 => c"the image is longer or shorter than its header says",
            20 => c"the SHA-256 of the image does not match its contents",
            21 => c"the section table of the image is broken",
            22 => c"the kind of model is not supported",
            23 => c"the image lacks a section",
            24 => c"a section of the image contradicts itself or another",
            32 => c"the row holds NaN or an infinity, which this model cannot take",
            33 => c"the model's memory changed after it was checked",
            40 => c"the image carries no golden vectors",
            41 => c"a golden row gave other bits than were recorded at compile time",
            48 => c"an engine has 1 to 16 members",
            49 => c"the outputs of a member's model are no votes",
            50 => c"a model needs a feature that the vector lacks",
            51 => c"a model needs a feature whose name the vector has twice",
            52 => c"the windows were made for another engine",
            255 => c"the kernel gave a reason this library has no number for",
            _ => c"this library does not know the status",
        }
    }
}

/// Runs a call's work and gives its status.
pub(crate) fn status(work: impl FnOnce() -> Result<(), qsc_status>) -> qsc_status {
    match work() {
        Ok(()) => qsc_status::Ok,
        Err(status) => status,
    }
}

impl From<ImageError> for qsc_status {
    fn from(error: ImageError) -> Self {
        match error {
            ImageError::Misaligned => Self::ImageMisaligned,
            ImageError::NotAnImage => Self::ImageMagic,
            ImageError::Version { .. } => Self::ImageVersion,
            ImageError::Length { .. } => Self::ImageLength,
            ImageError::Digest => Self::ImageDigest,
            ImageError::SectionTable => Self::ImageSections,
            ImageError::Kind(_) => Self::ImageKind,
            ImageError::MissingSection(_) => Self::ImageMissingSection,
            ImageError::Invalid(_) => Self::ImageInvalid,
            _ => Self::Other,
        }
    }
}

impl From<PredictError> for qsc_status {
    fn from(error: PredictError) -> Self {
        match error {
            PredictError::RowLength { .. } => Self::Length,
            PredictError::ScratchTooSmall => Self::TooSmall,
            PredictError::NonFiniteInput => Self::NonFiniteInput,
            PredictError::Corrupt => Self::Corrupt,
            _ => Self::Other,
        }
    }
}

impl From<BatchError> for qsc_status {
    fn from(error: BatchError) -> Self {
        match error {
            BatchError::Lengths => Self::Length,
            BatchError::ScratchTooSmall => Self::TooSmall,
            BatchError::Row { error, .. } => error.into(),
            BatchError::Corrupt => Self::Corrupt,
        }
    }
}

impl From<GoldenError> for qsc_status {
    fn from(error: GoldenError) -> Self {
        match error {
            GoldenError::Absent => Self::GoldenAbsent,
            GoldenError::Mismatch { .. } => Self::GoldenMismatch,
            GoldenError::Predict(error) => error.into(),
        }
    }
}
