//! Read, decide, settle: while one batch is decided, the server settles the one before and hands out the one after.

use std::time::Duration;

use qsc_kernel::ensemble::Predict;

use super::Surroundings;
use super::consumer::{Consumer, Halt, WAIT};
use super::reply::{self, Entry};
use super::script::{Batch, Settled};
use crate::replay::Outlet;
use crate::stream::{EventId, MARKET_FEATURES, entry_item};

/// Rejected events logged one by one; the dead-letter stream has them all.
const LOGGED: u64 = 20;

/// A batch that is decided, and what its entries became.
#[derive(Default)]
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
        let mut decided = DecidedBatch::default();
        // The first round shows whether the server takes what is to come.
        if let Settled::Oldest(oldest) = self.settle(&Batch::default(), around)? {
            self.ensure_nothing_astray(oldest, None)?;
        }
        // Where an answer takes longer than a renewal is good for, every second round reads all the same.
        let mut just_renewed = true;
        loop {
            self.meet_workers()?;
            let ends = !around.goes_on(&mut self.replay, &self.tally);
            let stop = ends || self.handing_over;
            if stop && entries.is_empty() && decided.batch.len() == 0 {
                return Err(if ends { Halt::Stop } else { Halt::HandOver });
            }
            if self.look_is_due() {
                if entries.is_empty() && decided.batch.len() == 0 {
                    self.look_for_gaps(around)?;
                } else {
                    self.look()?;
                }
            }
            let settling = decided;
            let renews = self.renewal_is_due() && !just_renewed;
            let write = (settling.batch.len() > 0 || renews).then(|| self.call(&settling.batch));
            just_renewed = write.is_some();
            let read = match entries.len() {
                _ if stop => None,
                // A read may follow a renewal only once that is known to have held.
                0 if write.is_some() && settling.batch.len() == 0 => None,
                0 => Some(&waiting),
                full if full == self.settings.batch => Some(&at_once),
                _ => None,
            };
            // In one piece, so that the server takes both in one go.
            let (write, sent) = write.unzip();
            let mut calls = write.unwrap_or_default();
            calls.extend_from_slice(read.map_or(&[], Vec::as_slice));
            if !calls.is_empty() {
                self.link.send_ahead(&calls)?;
            }
            let in_hand = entries.first().map(|(id, _)| *id);
            decided = self.decide(entries, around);
            if decided.intents > 0 {
                self.rehearse_last();
            }
            let written = sent.map(|sent| self.answer(sent));
            let answer = read.map(|_| self.receive());
            if let Some(written) = written {
                if let Settled::Oldest(oldest) = self.settlement(&settling.batch, written, around)? {
                    self.ensure_nothing_astray(oldest, in_hand)?;
                }
                self.count(&settling);
            }
            entries = match answer {
                Some(answer) => {
                    let entries = reply::read(answer?).ok_or(Halt::Odd("XREADGROUP".to_owned()))?;
                    self.served = true;
                    if let (Some((first, _)), Some((last, _))) = (entries.first(), entries.last()) {
                        self.ensure_not_set_back(*first)?;
                        self.met = (*last).max(self.met);
                        self.met_to = *last;
                    }
                    entries
                }
                None => Vec::new(),
            };
        }
    }

    fn count(&mut self, settled: &DecidedBatch) {
        self.tally.intents += settled.intents;
        self.tally.dead += settled.dead;
        self.tally.other_types += settled.other_types;
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

    /// Nothing comes a second time, unless the group was set back: then it is settled, or in hand and still pending.
    fn ensure_not_set_back(&self, first: EventId) -> Result<(), Halt> {
        if first > self.met_to {
            return Ok(());
        }
        Err(Halt::Astray(format!("the group was set back: {first} came again, and {} had come", self.met_to)))
    }

    /// Decides entries.
    fn decide(&mut self, entries: Vec<Entry>, around: &mut impl Surroundings<P>) -> DecidedBatch {
        let mut decided = DecidedBatch::default();
        for (id, fields) in entries {
            if self.answered.contains(&id) {
                self.pass(id, fields, &mut []);
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
        let decided = self.decide(entries, around);
        if decided.batch.len() > 0 {
            self.settle(&decided.batch, around)?;
            self.count(&decided);
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
