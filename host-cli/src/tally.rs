//! What a consumer of a stream has done and is doing, for whoever shows it.

use std::fmt;

use crate::stream::Refusal;

/// What a consumer has done and is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Intents of batches that are known to be settled.
    pub intents: u64,
    /// Dead letters: events that cannot be decided, and entries that were removed while pending.
    pub dead: u64,
    /// Dead letters for killing their consumer too often.
    pub poison: u64,
    /// Entries that are no feature events.
    pub other_types: u64,
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
    /// Those of them that were delivered.
    pub pending: u64,
    /// How often the server took no write for now, in the order of [`Refusal::ALL`].
    pub refusals: [u64; Refusal::ALL.len()],
    /// What it is doing.
    pub doing: Doing,
}

impl Tally {
    /// Something outside must become well first; whether that is news.
    pub fn troubled(&mut self, reason: &str, refusal: Option<Refusal>) -> bool {
        if let Some(refusal) = refusal {
            // In the order of `Refusal::ALL`, which is that of the variants.
            self.refusals[refusal as usize] += 1;
        }
        let doing = Doing::Troubled { reason: reason.to_owned(), refusal };
        let is_news = self.doing != doing;
        self.doing = doing;
        is_news
    }

    /// Whether the server takes no writes, as far as is known.
    #[must_use]
    pub const fn is_refused(&self) -> bool {
        matches!(self.doing, Doing::Troubled { refusal: Some(_), .. })
    }

    /// Whether it decides, or waits to be asked to.
    #[must_use]
    pub const fn is_ready(&self) -> bool {
        matches!(self.doing, Doing::Deciding | Doing::Waiting { .. } | Doing::InReserve)
    }

    /// Adds what another consumer has done; what it is doing stays its own.
    pub fn add(&mut self, other: &Self) {
        self.intents += other.intents;
        self.dead += other.dead;
        self.poison += other.poison;
        self.other_types += other.other_types;
        self.lost += other.lost;
        self.reconnects += other.reconnects;
        self.leases_lost += other.leases_lost;
        self.handed_over += other.handed_over;
        self.lag += other.lag;
        self.pending += other.pending;
        for (count, by) in self.refusals.iter_mut().zip(other.refusals) {
            *count += by;
        }
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
        /// The server takes no writes for now.
        refusal: Option<Refusal>,
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
            Self::Troubled { reason, .. } => write!(formatter, "waiting: {reason}"),
        }
    }
}
