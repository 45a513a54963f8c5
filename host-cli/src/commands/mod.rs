//! One file per command: its arguments, and `run`, which returns the exit code.

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
pub mod report;
pub mod run;
pub mod scoreboard;
pub mod stream;
