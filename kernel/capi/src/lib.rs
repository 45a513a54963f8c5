//! The C ABI of the kernel: its models, its batches, and an engine's decision in one call.
//!
//! | file | decides |
//! | --- | --- |
//! | [`status`] | what every call returns, as stable numbers |
//! | [`memory`] | what is checked of a caller's pointers before anything is touched, and what a handle is |
//! | [`model`] | one image: facts, predictions, batches, golden vectors, backends |
//! | [`engine`] | members, weights and windows in caller-owned memory; one event in, one decision out |
//! | [`codes`] | the numbers of actions, reasons and rules, and their names on the wire |
//!
//! # Panics and unwinding
//! Built with `panic = "abort"` (profile `capi`, what `install.sh` ships) this crate is free of std, and its panic handler calls a
//! symbol that nobody defines: a library in which a panic is reachable does not link. Built with unwinding, as by `cargo test`, std is
//! linked and an `extern "C"` function aborts rather than unwind into C. Neither allocates.
//!
//! `include/qsc.h` is generated from this crate; a test holds the two together.

#![no_std]
#![allow(non_camel_case_types, reason = "types are named as C knows them")]
#![deny(clippy::ptr_as_ptr)]
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::expect_used,
        clippy::panic,
        clippy::float_cmp
    )
)]

#[cfg(panic = "unwind")]
extern crate std;

pub mod codes;
pub mod engine;
pub mod memory;
pub mod model;
pub mod status;

use core::ffi::c_char;

pub use status::qsc_status;

/// Version of this ABI: a caller's `QSC_ABI_VERSION` must be what `qsc_abi_version` returns.
pub const QSC_ABI_VERSION: u32 = 1;

/// Alignment of model images, in bytes. Handles need that of `double` and `void *`; scratch memory needs none.
pub const QSC_IMAGE_ALIGNMENT: usize = 64;

/// The linker's last word on panics: nobody defines the symbol.
#[cfg(panic = "abort")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    unsafe extern "C" {
        safe fn qsc_panic_is_reachable() -> !;
    }
    qsc_panic_is_reachable()
}

/// UTF-8 text that is not terminated by NUL: `printf("%.*s", (int)text.len, text.data)`.
///
/// Texts of a model lie in its image and live as long; all others are static.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct qsc_str {
    /// First byte; never null.
    pub data: *const c_char,
    /// Bytes.
    pub len: usize,
}

impl qsc_str {
    pub(crate) const fn new(text: &'static str) -> Self {
        Self { data: text.as_ptr().cast(), len: text.len() }
    }
}

/// The ABI version of this library.
#[unsafe(no_mangle)]
pub extern "C" fn qsc_abi_version() -> u32 {
    QSC_ABI_VERSION
}

/// The release of this library, e.g. `0.1.0`.
#[unsafe(no_mangle)]
pub extern "C" fn qsc_version() -> qsc_str {
    qsc_str::new(env!("CARGO_PKG_VERSION"))
}

/// What a status means, in one sentence that ends in NUL; also for numbers this library does not know.
#[unsafe(no_mangle)]
pub extern "C" fn qsc_status_text(status: u32) -> *const c_char {
    qsc_status::text(status).as_ptr()
}

/// `qsc_struct_bytes`: a `qsc_str`.
pub const QSC_STRUCT_STR: u32 = 0;
/// `qsc_struct_bytes`: a `qsc_model_facts`.
pub const QSC_STRUCT_MODEL_FACTS: u32 = 1;
/// `qsc_struct_bytes`: a `qsc_member`.
pub const QSC_STRUCT_MEMBER: u32 = 2;
/// `qsc_struct_bytes`: a `qsc_engine_config`.
pub const QSC_STRUCT_ENGINE_CONFIG: u32 = 3;
/// `qsc_struct_bytes`: a `qsc_engine_facts`.
pub const QSC_STRUCT_ENGINE_FACTS: u32 = 4;
/// `qsc_struct_bytes`: a `qsc_outcome`.
pub const QSC_STRUCT_OUTCOME: u32 = 5;
/// `qsc_struct_bytes`: a `qsc_decision`.
pub const QSC_STRUCT_DECISION: u32 = 6;

/// Size of a struct as this library has it, by `QSC_STRUCT_…`; 0 for an unknown one. `qsc_abi_matches` compares all of them.
#[unsafe(no_mangle)]
pub extern "C" fn qsc_struct_bytes(which: u32) -> usize {
    match which {
        QSC_STRUCT_STR => size_of::<qsc_str>(),
        QSC_STRUCT_MODEL_FACTS => size_of::<model::qsc_model_facts>(),
        QSC_STRUCT_MEMBER => size_of::<engine::qsc_member>(),
        QSC_STRUCT_ENGINE_CONFIG => size_of::<engine::qsc_engine_config>(),
        QSC_STRUCT_ENGINE_FACTS => size_of::<engine::qsc_engine_facts>(),
        QSC_STRUCT_OUTCOME => size_of::<engine::qsc_outcome>(),
        QSC_STRUCT_DECISION => size_of::<engine::qsc_decision>(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests;
