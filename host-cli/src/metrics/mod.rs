//! What `qsc run --metrics` shows over HTTP: how the engine is, never how it decides.
//!
//! | file | does |
//! | --- | --- |
//! | [`board`] | the figures: atomics with one writer, the deciding loop, which never waits for a reader |
//! | [`boards`] | the boards of several loops, one a shard, read as one |
//! | [`meter`] | the writer's side, told by the loop and by the engine's stages |
//! | [`histogram`] | durations in buckets of powers of two |
//! | [`recent`] | what the models said in the newest decisions, for the live scoreboard |
//! | [`health`] | whether the loop goes on, and whether it can decide |
//! | [`exposition`] | `/metrics`: the figures as Prometheus text or OpenMetrics |
//! | [`live`] | `/` and `/scoreboard.json`: the scoreboard page and what it polls |
//! | [`server`] | the listener, its threads and its bounds |

pub mod board;
pub mod boards;
pub mod exposition;
pub mod health;
pub mod histogram;
pub mod live;
pub mod meter;
pub mod recent;
pub mod server;

pub use board::{Board, Lease, SourceState};
pub use boards::Boards;
pub use live::Live;
pub use meter::Meter;
pub use server::Server;
