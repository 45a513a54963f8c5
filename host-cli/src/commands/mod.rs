//! One file per command: its arguments, and `run`, which returns the exit code. A command reads and prints; what it
//! prints is decided in the other rooms.
//!
//! `drift`, `events`, `outputs`, `progress` and `redis` hold what several commands share: flags, and what goes with them.

pub mod bench;
pub mod build_info;
pub mod canary;
pub mod capture;
pub mod completions;
pub mod config;
pub mod demo;
pub mod deploy;
mod drift;
mod events;
pub mod feature_sanity;
pub mod model;
mod outputs;
pub mod predict;
mod progress;
pub mod quality_gate;
mod redis;
pub mod report;
pub mod run;
pub mod scoreboard;
pub mod stream;
