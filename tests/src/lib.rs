//! Shared set-up of the tests: the binary, scratch directories, a real Redis.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

pub mod property;
pub mod tree_cases;
