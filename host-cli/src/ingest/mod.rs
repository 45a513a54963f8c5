//! From a stream of feature events to a stream of intents on one Redis server, exactly once in effect.
//!
//! | file | decides |
//! | --- | --- |
//! | [`keys`] | which keys belong together, and that they share a slot |
//! | `lease.lua`, `settle.lua` | everything that is written: who owns a stream, and what an entry becomes |
//! | `script` | their calls and answers |
//! | [`consumer`] | one owner's shift, and what each fault means |
//! | `lease` | taking, keeping and handing over the lease |
//! | [`fair`] | which shards a worker takes where several share them |
//! | `group` | the consumer group, how far it stands, what was removed before it was read |
//! | `settle` | a batch on its way to the server |
//! | [`inspect`] | what a server must be like |
//! | `rebuild` | what the engine remembers, read back from the stream |
//! | `pending` | entries that were delivered and not settled, in their order |
//! | `steady` | read, decide, settle |
//! | [`proof`] | that every feature event has exactly one intent or one dead letter |
//!
//! Three things make it exact. An entry is acknowledged and its intent added by one script, which adds only what it
//! acknowledged. The script works for nobody but the holder of the lease, so a consumer that was stopped and wakes late
//! writes nothing. And a batch is settled only if it begins with the oldest pending entry, so every entry was decided
//! with all entries before it remembered.

pub mod consumer;
pub mod fair;
mod group;
pub mod inspect;
pub mod keys;
mod lease;
mod pending;
pub mod proof;
mod rebuild;
mod reply;
mod script;
mod settle;
mod steady;

use std::fmt;

pub use consumer::{Consumer, Settings};
pub use fair::Fair;
pub use keys::Keys;

use crate::replay::Replay;

/// What a consumer has done and is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Intents the server has added.
    pub intents: u64,
    /// Dead letters: events that cannot be decided, and entries that were removed while pending.
    pub dead: u64,
    /// Dead letters for killing their consumer too often.
    pub poison: u64,
    /// Entries that are no feature events.
    pub other_types: u64,
    /// Entries somebody else settled meanwhile.
    pub foreign: u64,
    /// Entries that were removed from the stream before they were read.
    pub lost: u64,
    /// Connections made after the first.
    pub reconnects: u64,
    /// Times the lease went to another consumer while this one held it.
    pub leases_lost: u64,
    /// Shards handed over to another worker.
    pub handed_over: u64,
    /// Entries in the stream that are not settled, when last looked at by the owner.
    pub lag: u64,
    /// What it is doing.
    pub doing: Doing,
}

impl Tally {
    /// Adds what another consumer has done; what it is doing stays its own.
    pub fn add(&mut self, other: &Self) {
        self.intents += other.intents;
        self.dead += other.dead;
        self.poison += other.poison;
        self.other_types += other.other_types;
        self.foreign += other.foreign;
        self.lost += other.lost;
        self.reconnects += other.reconnects;
        self.leases_lost += other.leases_lost;
        self.handed_over += other.handed_over;
        self.lag += other.lag;
    }
}

/// What a consumer is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Doing {
    /// Connecting for the first time.
    #[default]
    Starting,
    /// Another consumer holds the lease.
    Waiting {
        /// Its name.
        owner: String,
    },
    /// The shard is free, and left to workers that have fewer.
    InReserve,
    /// Reading back what the engine must remember.
    Rebuilding,
    /// Deciding events.
    Deciding,
    /// Something outside must become well first.
    Troubled {
        /// What.
        reason: String,
    },
}

impl fmt::Display for Doing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => formatter.write_str("starting"),
            Self::Waiting { owner } => write!(formatter, "standing by: {owner} holds the lease"),
            Self::InReserve => formatter.write_str("standing by: the shard is another worker's share"),
            Self::Rebuilding => formatter.write_str("rebuilding windows from the stream"),
            Self::Deciding => formatter.write_str("deciding"),
            Self::Troubled { reason } => write!(formatter, "waiting: {reason}"),
        }
    }
}

/// What a consumer lives among: a log, a service manager, signals, new weights.
pub trait Surroundings<P> {
    /// Takes one line.
    fn log(&mut self, line: &str);

    /// Called several times a second wherever the consumer provably goes on; false if it shall end.
    fn goes_on(&mut self, replay: &mut Replay<P>, tally: &Tally) -> bool;
}
