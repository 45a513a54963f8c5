//! Events: where they come from ([`Source`]) and where they go ([`Sink`]).
//!
//! An event is the same thing whether a Redis stream entry or a capture line brought it. What cannot be
//! read is never dropped: it reaches the reader as [`Malformed`], with its place and its reason.
//!
//! | file | does |
//! | --- | --- |
//! | `address` | what `--source` and `--sink` name |
//! | `event`, `json` | one event, and JSON as payloads carry it |
//! | `source`, `capture` | a window of events out of a stream or a file |
//! | `sink` | events into a file |
//! | `redis/` | streams and connections of Redis |
//! | `shard` | one stream cut into several by symbol |
//! | `atomic`, `time` | files that appear whole or not at all; points in time |

mod address;
mod atomic;
mod capture;
mod event;
mod json;
mod redis;
mod shard;
mod sink;
mod source;
mod time;

pub use address::{SinkSpec, SourceSpec};
pub use atomic::{AtomicFile, TEMPORARY, create_new, replace_durably};
pub(crate) use event::entry_item;
pub use event::{Event, EventId, Item, Malformed};
pub use json::{Json, Members};
pub use redis::{
    Backoff, Dump, Durability, Link, LinkOptions, Patience, Pulse, RedisAddress, Refusal, SentinelLogin,
    TlsFiles, Trouble, command_name, key_slot,
};
pub use shard::{Shard, Shards};
pub use sink::Sink;
pub use source::{Gap, Reading, Source, Window};
pub use time::{format_rfc3339, millis, now_ms, parse_duration, parse_positive_duration, parse_timestamp};

/// The stream of intents unless `--stream` names another.
pub const INTENT_STREAM: &str = "quantum:stream:trade.intent";
/// The stream of features unless `--stream` names another.
pub const FEATURE_STREAM: &str = "quantum:stream:market.features";
/// `event_type` of an intent.
pub const TRADE_INTENT: &str = "trade.intent";
/// `event_type` of a feature event.
pub const MARKET_FEATURES: &str = "market.features";
/// Member of a payload that is `true` where the event is simulated.
pub const SYNTHETIC: &str = "synthetic";
/// The member of an intent that names the build which wrote it.
pub const BUILD: &str = "build";
