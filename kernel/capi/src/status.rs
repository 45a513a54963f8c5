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
    /// Memory that is written to overlaps other memory of the call; `qsc_model_init` and the predictions look.
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
    /// The windows have another shape than the sequence models of the engine.
    Windows = 52,
    /// The kernel gave a reason this library has no number for.
    Other = 255,
}

impl qsc_status {
    /// What the status with this number means.
    pub(crate) const fn text(number: u32) -> &'static CStr {
        match number {
            0 => c"done",
            1 => c"a pointer is null that must not be: only arrays of length 0, and arguments documented as such, may be",
            2 => c"a pointer lacks the alignment of what it points to: take memory from malloc, or align it",
            3 => c"the memory is smaller than needed: ask for its size first",
            4 => c"the handle was never initialized, is of another kind, or was overwritten: call its init, and use what that gave",
            5 => c"a number is out of its range or unknown, or reserved space is not zero: begin with a zeroed or standard struct",
            6 => c"nothing has this index: it must be below the number of what is indexed",
            7 => c"an array has another length than the model or engine needs: describe says which",
            8 => c"memory that is written to overlaps other memory of the call: keep them apart",
            9 => c"the caller was compiled for another version of this ABI: compile it with the header of this library",
            10 => c"a text is not UTF-8: names of features must be",
            11 => c"this machine has no backend of that name: qsc_backend_name lists them",
            16 => c"the image does not start on a 64-byte boundary: copy it to one",
            17 => c"these bytes are not a model image: qsc model compile makes one",
            18 => c"the version of the image's format is not supported: compile the model again with the qsc of this release",
            19 => c"the image is longer or shorter than its header says: copy the file again, whole",
            20 => c"the SHA-256 of the image does not match its contents: copy the file again, or compile the model again",
            21 => c"the section table of the image is broken: compile the model again",
            22 => c"the kind of model is not supported by this library",
            23 => c"the image lacks a section: compile the model again",
            24 => c"a section of the image contradicts itself or another: compile the model again",
            32 => c"the row holds NaN or an infinity, which this model cannot take: leave the row out",
            33 => c"the model's memory changed after it was checked: keep it and the image unchanged, and init the model anew",
            40 => c"the image carries no golden vectors, so nothing is proven: compile the model again",
            41 => c"a golden row gave other bits than were recorded at compile time: do not use the model on this machine, and report it",
            48 => c"an engine has 1 to 16 members",
            49 => c"the outputs of a member's model are no votes: leave it out, or compile it with a decision",
            50 => c"a model needs a feature that the vector lacks: name it, or bind the model by indices",
            51 => c"a model needs a feature whose name the vector has twice: rename one, or bind the model by indices",
            52 => c"the windows have another shape than the engine's sequence models: make windows with this engine",
            255 => c"the kernel gave a reason this library has no number for: use one release of both",
            _ => c"this library does not know the status",
        }
    }
}

const _: () = assert!(crate::engine::QSC_MAX_MEMBERS == 16, "status 48 says how many");

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
            ImageError::Length { .. } | ImageError::NoHeader => Self::ImageLength,
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
