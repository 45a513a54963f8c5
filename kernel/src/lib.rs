//! Inference and voting for small trading ensembles, down to bare metal: no allocation, no panic, no guess.
//!
//! ```text
//! image bytes ──Model::check──▶ Model ───┐
//!                                        ▼
//! features ─▶ bind ─▶ guard::input ─▶ quantize ─▶ walk ─▶ guard::degeneracy ─▶ vote ─▶ Round
//!             └──────────────── ensemble::Pipeline::decide ────────────────┘
//! ```
//!
//! | room | holds |
//! | --- | --- |
//! | [`image`] | the `.qsm` format: records, sections, the one check of foreign bytes |
//! | [`model`] | a checked image that predicts, and its golden vectors |
//! | [`trees`] | quantizer, layouts (`blocks`, `masks`, `plain`), walks, sums and batches of tree models |
//! | [`nets`] | networks: a checked list of steps and the operations they are made of |
//! | [`guard`] | input validation, degeneracy window, feature fingerprint |
//! | [`ensemble`] | members, the vote, one call for all of it |
//! | `answer` | what a model may say: an action with a confidence, or why it says nothing |
//! | [`simd`] | backend tokens and the caller's float environment |
//! | `link`, `math` | outputs, and how margins become them; elementary functions |
//! | `num`, `rows` | conversions and cuts of slices that cannot panic |
//! | [`scratch`] | working memory, which the caller brings |
//! | [`error`] | what can go wrong with an image, a prediction, a batch, golden vectors; other refusals stand in their rooms |
//! | [`observe`] | where the time goes, for whoever measures |
//!
//! # Promises
//! - **Checked once.** [`Model::check`] treats its bytes as hostile; afterwards predictions stay in bounds.
//! - **No default answer.** A model yields a [`Prediction`] or a named [`Inactive`] reason; the vote yields a
//!   decision over active models or [`NoActiveModel`].
//! - **Same bits everywhere.** Integer walks, sums and 8-bit dot products; f32 and f64 only for correctly rounded operations
//!   in a fixed order, under round-to-nearest without flush-to-zero. Whatever the caller has set is set aside on x86-64 with SSE2,
//!   AArch64 with NEON and Arm with a float unit; targets without one have nothing to set. Others (32-bit x86, RISC-V) compile, but
//!   their bits are not proven: x87 rounds twice, and their control registers are left as they are.
//! - Cargo features change no bit: `serde` and `defmt` add derives; without `nets`, which is on by default, images of networks are
//!   refused as [`ImageError::Kind`].
//!
//! All tensors are C order. Errors are small types, one per operation; nothing here panics.

#![no_std]
#![deny(unsafe_code)]
#![cfg_attr(
    not(feature = "nets"),
    allow(dead_code, unused_imports, reason = "what only networks ask of the shared rooms")
)]
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

#[cfg(target_endian = "big")]
compile_error!("model images are little-endian and borrowed in place; big-endian targets are not supported");
#[cfg(target_pointer_width = "16")]
compile_error!("model images use 32-bit offsets; 16-bit targets are not supported");

mod answer;
pub mod ensemble;
pub mod error;
pub mod guard;
pub mod image;
mod link;
mod math;
pub mod model;
#[cfg(feature = "nets")]
pub mod nets;
#[cfg(not(feature = "nets"))]
#[path = "nets/absent.rs"]
pub mod nets;
mod num;
pub mod observe;
mod rows;
pub mod scratch;
pub mod simd;
pub mod trees;

pub use answer::{Action, Inactive, Prediction};
pub use ensemble::NoActiveModel;
pub use error::{BatchError, GoldenError, ImageError, PredictError};
pub use link::Output;
pub use model::Model;
pub use scratch::{Scratch, ScratchBuffer};
pub use simd::Backend;

/// Of what a test takes, less under Miri, which runs a thousand times slower: enough to reach every pointer once.
#[cfg(test)]
const fn under_miri<T: Copy>(thinned: T, full: T) -> T {
    if cfg!(miri) { thinned } else { full }
}

/// The README's code runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
