//! One file per command: its arguments, and `run`, which returns the exit code. A command reads and prints; verdicts and
//! their reports are made in the other rooms.
//!
//! `drift`, `overwrite`, `progress`, `redis` and `source` hold what several commands share: flags, and what goes with them;
//! `predict` also how rows and `--backend` are read for `bench` and `model`.

pub mod bench;
pub mod build_info;
pub mod canary;
pub mod capture;
pub mod completions;
pub mod config;
pub mod demo;
pub mod deploy;
mod drift;
pub mod feature_sanity;
pub mod model;
mod overwrite;
pub mod predict;
mod progress;
pub mod quality_gate;
mod redis;
pub mod report;
pub mod run;
pub mod scoreboard;
mod source;
pub mod stream;

use crate::exit::Exit;
use crate::log;

/// Refuses flags that do not go together: on the command line and in the environment clap sees to it, in a settings file
/// nobody else.
fn misfit(what: &str) -> Exit {
    log::say(format_args!("error: {what}; the settings file has it otherwise"));
    Exit::Usage
}
