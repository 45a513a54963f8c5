//! Shared set-up of the tests: the binary, scratch directories, a real Redis.

pub mod fixtures;
