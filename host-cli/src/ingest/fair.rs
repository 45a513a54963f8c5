//! Which shards a worker takes: its fair share, so that workers started one after the other end up with equally many.
//!
//! Nobody divides the shards. Every worker hears from each shard how many workers would own it, and from that knows its
//! own share. It takes what is free as long as it has less than that; with more, it hands over what another worker has
//! room for. A shard that nobody takes for a whole lease is taken by whoever sees it: shares decide who is first, never
//! whether.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// The shards of one process.
#[derive(Debug)]
pub struct Fair(Mutex<State>);

#[derive(Debug)]
struct State {
    /// Workers that would own each shard, this one included.
    workers: Vec<u32>,
    /// Shards that this worker owns, or is about to ask for.
    taken: usize,
}

impl State {
    /// Shards this worker should own: of each shard the part that its workers share it in, in sum, and no fraction.
    fn share(&self) -> usize {
        let share: f64 = self.workers.iter().map(|&workers| 1.0 / f64::from(workers.max(1))).sum();
        // What rounding adds is no shard.
        (share - 1e-6).ceil() as usize
    }
}

impl Fair {
    /// Of so many shards; nothing is known of other workers yet.
    #[must_use]
    pub fn new(shards: usize) -> Self {
        Self(Mutex::new(State { workers: vec![1; shards], taken: 0 }))
    }

    /// The seat of the shard at this place.
    #[must_use]
    pub const fn seat(&self, at: usize, count: u16) -> Seat<'_> {
        Seat { fair: self, at, count, holds: false }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Counts are whole between any two statements.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a worker says to one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bid {
    /// It takes the shard if it is free.
    pub(super) take: bool,
    /// It has room for the shard, which another worker may hand over.
    pub(super) room: bool,
}

/// One shard's part in a process.
#[derive(Debug)]
pub struct Seat<'fair> {
    fair: &'fair Fair,
    at: usize,
    /// Number of shards of the stream.
    pub(super) count: u16,
    /// Counted as taken.
    holds: bool,
}

impl Seat<'_> {
    /// What to say to the shard; `overdue` if it was free for too long.
    pub(super) fn bid(&mut self, overdue: bool) -> Bid {
        let mut state = self.fair.state();
        if self.holds {
            return Bid { take: true, room: false };
        }
        let room = state.taken < state.share();
        if room || overdue {
            state.taken += 1;
            self.holds = true;
        }
        Bid { take: room || overdue, room }
    }

    /// So many workers would own this shard.
    pub(super) fn heard(&self, workers: u32) {
        self.fair.state().workers[self.at] = workers;
    }

    /// The shard is this worker's.
    pub(super) fn hold(&mut self) {
        if !std::mem::replace(&mut self.holds, true) {
            self.fair.state().taken += 1;
        }
    }

    /// The shard is not, or no longer, this worker's.
    pub(super) fn leave(&mut self) {
        if std::mem::take(&mut self.holds) {
            self.fair.state().taken -= 1;
        }
    }

    /// Whether this shard is one too many; if so it counts no longer.
    pub(super) fn hand_over(&mut self) -> bool {
        let mut state = self.fair.state();
        let too_many = self.holds && state.taken > state.share();
        if too_many {
            state.taken -= 1;
            self.holds = false;
        }
        too_many
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_alone_takes_everything_and_gives_half_to_a_second_one() {
        let fair = Fair::new(8);
        let mut seats: Vec<Seat<'_>> = (0..8).map(|at| fair.seat(at, 8)).collect();
        assert!(seats.iter_mut().all(|seat| seat.bid(false) == Bid { take: true, room: true }));
        assert!(seats.iter_mut().all(|seat| seat.bid(false) == Bid { take: true, room: false }));
        assert!(!seats[0].hand_over());
        seats.iter().for_each(|seat| seat.heard(2));
        assert_eq!(
            seats.iter_mut().filter(|seat| seat.holds).map(Seat::hand_over).filter(|&gives| gives).count(),
            4
        );
        assert_eq!(seats[0].bid(false), Bid { take: false, room: false });
        assert_eq!(seats[0].bid(true), Bid { take: true, room: false }, "nobody else took it");
        seats[0].leave();
        seats.iter().for_each(|seat| seat.heard(1));
        assert_eq!(seats[0].bid(false), Bid { take: true, room: true }, "the second one is gone");
    }

    #[test]
    fn shares_are_enough_for_every_shard() {
        for shards in 1..40_usize {
            for workers in 1..12_u32 {
                let fair = Fair::new(shards);
                (0..shards).for_each(|at| fair.seat(at, 1).heard(workers));
                assert_eq!(fair.state().share(), shards.div_ceil(workers as usize), "{shards} {workers}");
            }
        }
    }
}
