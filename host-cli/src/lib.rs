//! The host side of QSC: what turns trained files into model images, events into intents, and telemetry
//! into verdicts. The kernel decides; this crate reads, writes and refuses.
//!
//! | room | does |
//! | --- | --- |
//! | [`args`], [`exit`] | the command line and the exit codes of the contract |
//! | [`identity`] | what this binary was built from |
//! | [`bounded`] | files read whole, up to a size |
//! | [`commands`] | one file per command: arguments in, exit code out |
//! | [`compile`] | trained files ─▶ intermediate model ─▶ image |
//! | [`digest`], [`random`] | SHA-256, spelled one way; numbers that are the same everywhere |
//! | [`image`] | model images in memory the host owns |
//! | [`rows`] | `.npy`, CSV and JSONL rows |
//! | [`settings`] | flag, environment, file, default |
//! | [`signals`] | what SIGINT and SIGTERM do |
//! | [`stream`] | events from files and Redis, intents to files; links to Redis |
//! | [`engine`] | features by name ─▶ kernel ─▶ intents |
//! | [`replay`] | events through an engine: an intent or a reject for each, counted |
//! | [`ingest`] | Redis streams of features ─▶ of intents, exactly once in effect |
//! | [`tally`] | what a consumer of a stream has done and is doing |
//! | [`notify`] | what the engine tells the service manager |
//! | [`log`] | where log lines go |
//! | [`metrics`] | how the engine is, over HTTP |
//! | [`gate`] | telemetry ─▶ verdict, without I/O |
//! | [`judge`] | a source's events through a gate |
//! | [`canary`] | activation, watch, rollback and promotion, with evidence and an audit log |
//! | [`attest`] | signed reports |
//! | [`deploy`] | a service restarted, and proof of what runs then |
//! | [`report`] | one verdict as text, JSON, Markdown and HTML |

#![deny(unsafe_code)]
// What is printed so panics where it cannot be written: `log::say` and `report::print` do not.
#![cfg_attr(not(test), deny(clippy::print_stderr, clippy::print_stdout))]

pub mod args;
pub mod attest;
pub mod bounded;
pub mod canary;
pub mod commands;
pub mod compile;
pub mod deploy;
pub mod digest;
pub mod engine;
pub mod exit;
pub mod gate;
pub mod identity;
pub mod image;
pub mod ingest;
pub mod judge;
pub mod log;
pub mod metrics;
pub mod notify;
pub mod random;
pub mod replay;
pub mod report;
pub mod rows;
pub mod settings;
pub mod signals;
pub mod stream;
pub mod tally;
