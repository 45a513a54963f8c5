//! The lease of a stream: taking it, keeping it, and handing it over.

use std::time::{Duration, Instant};

use qsc_kernel::ensemble::Predict;
use redis::Cmd;

use super::Surroundings;
use super::consumer::{Consumer, Halt};
use super::fair::{Bid, Seat};
use super::script::{self, Batch, Lease};
use crate::stream::{Patience, Refusal, millis};
use crate::tally::Doing;

/// In a lease's term its owner renews it so often, who waits for it looks so often, and workers that share shards hear of
/// each other so often.
const LOOKS: u32 = 10;

impl<P: Predict + Clone> Consumer<'_, P> {
    /// Waits until the lease is ours.
    pub(super) fn take_lease(&mut self, around: &mut impl Surroundings<P>) -> Result<(), Halt> {
        self.begin_shift();
        let mut said = String::new();
        let mut free_since = None;
        loop {
            let overdue = free_since.is_some_and(|since: Instant| since.elapsed() > self.settings.lease);
            let bid = match &mut self.seat {
                Some(seat) => seat.bid(overdue),
                None => Bid { take: true, room: false },
            };
            let asked = Instant::now();
            let lease = self.ask(&self.lease_call(bid), Lease::read);
            // Who may write nothing for now owns what it owned.
            let keeps = match &lease {
                Ok(Lease::Taken { .. }) => true,
                Err(Halt::Trouble(trouble)) => Refusal::of(trouble).is_some(),
                _ => false,
            };
            if !keeps {
                self.leave();
            }
            let lease = lease?;
            self.successor = false;
            let pause = match lease {
                Lease::Taken { taken_over, last, seen, workers, .. } => {
                    self.heard(workers, asked);
                    self.seat.iter_mut().for_each(Seat::hold);
                    self.renewed = asked;
                    self.handing_over = false;
                    self.settled = last.unwrap_or_default();
                    self.seen = seen;
                    if taken_over || !said.is_empty() {
                        around.log(&format!("took over the lease of {}", self.keys.features));
                    }
                    return Ok(());
                }
                Lease::Held { by, left_ms, workers } => {
                    self.heard(workers, asked);
                    free_since = None;
                    if said != by {
                        around.log(&format!(
                            "standing by: {by} holds the lease of {} for {left_ms} ms unless renewed",
                            self.keys.features
                        ));
                        said.clone_from(&by);
                    }
                    self.tally.doing = Doing::Waiting { owner: by };
                    Duration::from_millis(left_ms)
                }
                Lease::Free { workers } => {
                    self.heard(workers, asked);
                    free_since = free_since.or(Some(asked));
                    self.tally.doing = Doing::InReserve;
                    self.settings.lease
                }
            };
            let pause = pause.clamp(Duration::from_millis(5), self.settings.lease / LOOKS);
            if !self.pause(pause, around) {
                return Err(Halt::Stop);
            }
        }
    }

    /// What was sent in an earlier shift, on a connection that is lost, may arrive yet: it is not taken for this one's.
    fn begin_shift(&mut self) {
        self.shifts += 1;
        self.token = format!("{}/{}", self.process, self.shifts);
    }

    fn lease_call(&self, bid: Bid) -> Cmd {
        let mut call = redis::cmd("EVAL");
        call.arg(script::LEASE).arg(2).arg(&self.keys.owner).arg(&self.keys.workers);
        call.arg(&self.token).arg(&self.settings.consumer).arg(millis(self.settings.lease));
        call.arg(u8::from(self.successor));
        call.arg(self.seat.as_ref().map_or_else(String::new, |seat| seat.count.to_string()));
        call.arg(u8::from(bid.take)).arg(u8::from(bid.room));
        call
    }

    fn heard(&mut self, workers: u32, asked: Instant) {
        self.told = asked;
        self.seat.iter().for_each(|seat| seat.heard(workers));
    }

    /// This worker does not own the shard.
    pub(super) fn leave(&mut self) {
        (self.tally.lag, self.tally.pending) = (0, 0);
        self.seat.iter_mut().for_each(Seat::leave);
    }

    /// Where shards are shared: tells the others that this worker lives, when it is time to, and finds out whether one of
    /// them is to have this shard.
    pub(super) fn meet_workers(&mut self) -> Result<(), Halt> {
        if self.seat.is_none() || self.told.elapsed() < self.settings.lease / LOOKS {
            return Ok(());
        }
        let asked = Instant::now();
        match self.ask(&self.lease_call(Bid { take: false, room: false }), Lease::read)? {
            Lease::Taken { workers, wanted, .. } => {
                self.heard(workers, asked);
                self.renewed = asked;
                if wanted && self.seat.as_mut().is_some_and(Seat::hand_over) {
                    self.handing_over = true;
                }
                Ok(())
            }
            Lease::Held { by, .. } => Err(Halt::Fenced(Some(by))),
            Lease::Free { .. } => Err(Halt::Fenced(None)),
        }
    }

    /// Called in everything that takes long: renews the lease when it is time to.
    pub(super) fn keep_lease(&mut self, around: &mut impl Surroundings<P>) -> Result<(), Halt> {
        if !around.goes_on(&mut self.replay, &self.tally) {
            return Err(Halt::Stop);
        }
        self.meet_workers()?;
        if self.renewal_is_due() {
            self.settle(&Batch::default(), around)?;
        }
        if self.look_is_due() {
            self.look()?;
        }
        Ok(())
    }

    /// A tenth of the lease is over.
    pub(super) fn renewal_is_due(&self) -> bool {
        self.renewed.elapsed() >= self.settings.lease / LOOKS
    }

    /// Does not count as a worker of this shard any more, and gives its lease back.
    pub(super) fn retire(&mut self) {
        if self.seat.is_some() {
            let mut quit = redis::cmd("HDEL");
            quit.arg(&self.keys.workers).arg(&self.settings.consumer);
            // If that fails it ends by itself.
            let _ = self.ask(&quit, Some);
        }
        self.release();
    }

    /// Gives the lease back. If that fails it ends by itself.
    pub(super) fn release(&mut self) {
        self.leave();
        let call = self.call_by("EVALSHA", &self.sha, &Batch::default(), Some(Duration::ZERO));
        let _ = self.link.send_ahead(&call).and_then(|()| self.link.receive(Patience::Asleep));
    }
}
