//! From a stream of feature events to a stream of intents on one Redis server, exactly once in effect.
//!
//! | file | decides |
//! | --- | --- |
//! | [`keys`] | which keys belong together, and that they share a slot |
//! | `lease.lua`, `settle.lua`, `claim.lua`, `fenced.lua` | everything that is written: who owns a stream, what an entry becomes, what is claimed, and whatever else only the owner may do |
//! | `script`, `reply` | their calls and answers, and other answers of the server |
//! | [`consumer`] | one owner's shift, and what each fault means |
//! | `lease` | taking, keeping and handing over the lease |
//! | [`fair`] | which shards a worker takes where several share them |
//! | `group` | the consumer group, what was removed before it was read |
//! | `standing` | where the group is to stand, and which pending entries are settled already |
//! | `settle` | a batch on its way to the server |
//! | [`inspect`] | what a server must be like |
//! | `rebuild` | what the engine remembers, read back from the stream |
//! | `pending` | entries that were delivered and not settled, in their order |
//! | `steady` | read, decide, settle |
//! | `rehearsal` | what a consumer does on a core that it keeps |
//! | [`proof`] | that every feature event has exactly one intent or one dead letter |
//!
//! Three things make it exact. An intent is added and its entry acknowledged by one script, which settles a batch only if that
//! is exactly what is pending up to its last entry: nothing has an outcome twice, and nothing is taken for settled that
//! somebody else acknowledged. The script works for nobody but the holder of the lease in its present shift, so a consumer
//! that was stopped and wakes late writes nothing. And a batch begins with the first entry after all that are settled, so
//! every entry was decided with all entries before it remembered.

pub mod consumer;
pub mod fair;
mod group;
pub mod inspect;
pub mod keys;
mod lease;
mod pending;
pub mod proof;
mod rebuild;
mod rehearsal;
mod reply;
mod script;
mod settle;
mod standing;
mod steady;

pub use consumer::{Consumer, Settings};
pub use fair::Fair;
pub use keys::Keys;

use crate::replay::Replay;
use crate::tally::Tally;

/// What a consumer lives among: a log, a service manager, signals, new weights.
pub trait Surroundings<P> {
    /// Takes one line.
    fn log(&mut self, line: &str);

    /// Called several times a second wherever the consumer provably goes on; false if it shall end.
    fn goes_on(&mut self, replay: &mut Replay<P>, tally: &Tally) -> bool;
}
