//! Read, decide, settle: while one batch is decided, the server settles the one before and hands out the one after.

use std::time::{Duration, Instant};

use qsc_kernel::ensemble::Predict;

use super::Surroundings;
use super::consumer::{Consumer, Halt, WAIT};
use super::reply::{self, Entry};
use super::script::Batch;
use crate::replay::Outlet;
use crate::stream::{EventId, MARKET_FEATURES, entry_item};

/// Rejected events logged one by one; the dead-letter stream has them all.
const LOGGED: u64 = 20;

/// A batch that is decided, and what its entries became.
struct DecidedBatch {
    batch: Batch,
    intents: u64,
    dead: u64,
    other_types: u64,
}

impl<P: Predict + Clone> Consumer<'_, P> {
    /// Decides everything that comes in; ends only by what [`Halt`] names.
    pub(super) fn decide_all(
        &mut self,
        around: &mut impl Surroundings<P>,
    ) -> Result<std::convert::Infallible, Halt> {
        let waiting = self.read_call(Some(WAIT.min(self.settings.lease / 4)));
        let at_once = self.read_call(None);
        let mut entries: Vec<Entry> = Vec::new();
        let mut decided = self.decided();
        // The first round shows whether the server takes what is to come.
        self.settle(self.batch(), around)?;
        loop {
            self.meet_workers()?;
            let ends = !around.goes_on(&mut self.replay, &self.tally);
            let stop = ends || self.handing_over;
            if stop && entries.is_empty() && decided.batch.len() == 0 {
                return Err(if ends { Halt::Stop } else { Halt::HandOver });
            }
            if entries.is_empty() && decided.batch.len() == 0 && self.gaps_are_due() {
                self.look_for_gaps(around)?;
            }
            let write = decided.batch.len() > 0 || self.renewal_is_due();
            let counts = (decided.intents, decided.dead, decided.other_types);
            let mut call = decided.batch.call(self.settled);
            let read = match entries.len() {
                _ if stop => None,
                // A read may follow a renewal only once that is known to have held.
                0 if write && call.entries == 0 => None,
                0 => Some(&waiting),
                full if full == self.settings.batch => Some(&at_once),
                _ => None,
            };
            let sent = Instant::now();
            self.send_both(write.then_some(&mut call.bytes), read)?;
            let in_hand = entries.first().map(|(id, _)| *id);
            decided = self.decide(entries, self.settled, around);
            let written = write.then(|| self.link.receive());
            let answer = read.map(|_| self.link.receive());
            if let Some(written) = written {
                let settled = self.settlement(&call, written, sent, around)?;
                if call.entries == 0 {
                    self.ensure_nothing_astray(settled.oldest, in_hand)?;
                }
                self.tally.intents += counts.0;
                self.tally.dead += counts.1;
                self.tally.other_types += counts.2;
            }
            entries = match answer {
                Some(answer) => {
                    let entries = reply::read(answer?).ok_or(Halt::Odd("XREADGROUP"))?;
                    self.served = true;
                    self.met = entries.last().map_or(self.met, |(last, _)| (*last).max(self.met));
                    entries
                }
                None => Vec::new(),
            };
        }
    }

    /// Sends a write and a read in one piece, so that the server takes both in one go.
    fn send_both(&mut self, write: Option<&mut Vec<u8>>, read: Option<&Vec<u8>>) -> Result<(), Halt> {
        match (write, read) {
            (Some(write), Some(read)) => {
                let alone = write.len();
                write.extend_from_slice(read);
                let sent = self.link.send_ahead(write);
                // It may have to be sent again by itself.
                write.truncate(alone);
                sent?;
            }
            (Some(one), None) => self.link.send_ahead(one)?,
            (None, Some(one)) => self.link.send_ahead(one)?,
            (None, None) => {}
        }
        Ok(())
    }

    /// Nothing older than what is in hand may be pending.
    fn ensure_nothing_astray(&self, oldest: Option<EventId>, in_hand: Option<EventId>) -> Result<(), Halt> {
        match oldest {
            Some(oldest) if in_hand.is_none_or(|first| oldest < first) => Err(Halt::Astray(format!(
                "the entry {oldest} was delivered to another consumer of the group and is not settled"
            ))),
            _ => Ok(()),
        }
    }

    fn decided(&self) -> DecidedBatch {
        DecidedBatch { batch: self.batch(), intents: 0, dead: 0, other_types: 0 }
    }

    /// Decides entries. Those not after `settled` have what they became already: only a group that was set back from
    /// outside delivers them again.
    fn decide(
        &mut self,
        entries: Vec<Entry>,
        settled: EventId,
        around: &mut impl Surroundings<P>,
    ) -> DecidedBatch {
        let mut decided = self.decided();
        for (id, fields) in entries {
            if id <= settled {
                decided.batch.none(id);
                continue;
            }
            let Some(item) = entry_item(id, fields, &[MARKET_FEATURES]) else {
                decided.batch.none(id);
                decided.other_types += 1;
                continue;
            };
            let rejects = self.replay.summary().rejects;
            let fed = self.replay.feed(&item, |outlet| {
                match outlet {
                    Outlet::Intent(intent) => {
                        decided.batch.intent(intent);
                        decided.intents += 1;
                    }
                    Outlet::Reject { reason, .. } => {
                        if rejects < LOGGED {
                            around.log(&format!("rejected event {id}: {reason}"));
                        }
                        decided.batch.dead(id, &reason);
                        decided.dead += 1;
                    }
                }
                Ok(())
            });
            debug_assert!(fed.is_ok(), "the outlet cannot fail");
        }
        decided
    }

    /// Decides pending entries and settles them at once.
    pub(super) fn decide_and_settle(
        &mut self,
        entries: Vec<Entry>,
        around: &mut impl Surroundings<P>,
    ) -> Result<(), Halt> {
        // They may lie before what is settled, where somebody else had taken them.
        let decided = self.decide(entries, EventId::default(), around);
        if decided.batch.len() > 0 {
            self.settle(decided.batch, around)?;
            self.tally.intents += decided.intents;
            self.tally.dead += decided.dead;
            self.tally.other_types += decided.other_types;
        }
        Ok(())
    }

    /// XREADGROUP for entries never delivered, packed.
    fn read_call(&self, wait: Option<Duration>) -> Vec<u8> {
        let mut read = redis::cmd("XREADGROUP");
        read.arg("GROUP").arg(&self.settings.group).arg(&self.settings.consumer);
        read.arg("COUNT").arg(self.settings.batch);
        if let Some(wait) = wait {
            read.arg("BLOCK").arg(wait.as_millis().max(1) as u64);
        }
        read.arg("STREAMS").arg(&self.keys.features).arg(">").get_packed_command()
    }
}
