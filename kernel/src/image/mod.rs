//! The `.qsm` model image: its records, its section table, and the one check of foreign bytes.
//!
//! An image is a header, a table of sections and the sections, all little-endian and aligned to 64 bytes, so
//! that it can be used where it lies: flash, `include_bytes!`, or memory the host read it into. The field by
//! field description is `models-bin/FORMAT.md`.

pub mod records;
mod sections;

pub use records::{Header, ModelRecord, SectionRecord, StringRef};
pub use sections::{SectionKind, Sections};
