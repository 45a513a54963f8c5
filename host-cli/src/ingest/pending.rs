//! Entries that were delivered and not settled: by this consumer before it died, or by one that is dead.
//!
//! They are worked off in the order of the stream, together with the settled entries between them, which only pass the
//! models again. Each is claimed right before it is decided, and its delivery counted: what was delivered once comes in
//! batches, what comes back comes alone, so that an entry that kills its consumer is found out and no other with it.

use qsc_kernel::ensemble::Predict;

use super::consumer::{Consumer, Halt};
use super::rebuild::{PAGE, ask};
use super::script::{self, Batch};
use super::{Surroundings, reply};
use crate::stream::{EventId, MARKET_FEATURES, Trouble, entry_item};

/// An entry of the group's pending list.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub(super) id: EventId,
    /// Delivered to this consumer, by its name.
    ours: bool,
    deliveries: u64,
}

impl<P: Predict + Clone> Consumer<'_, P> {
    /// Brings the engine and the stream of intents to the last entry the group has `delivered`.
    pub(super) fn work_off(
        &mut self,
        delivered: EventId,
        around: &mut impl Surroundings<P>,
    ) -> Result<(), Halt> {
        let mut pending = self.pending_after(None)?;
        let next = EventId { ms: delivered.ms, seq: delivered.seq.saturating_add(1) };
        let first = pending.first().map_or(next, |first| first.id);
        // What was removed before it was ever delivered is told before anything is decided.
        if pending.is_empty() {
            self.look_for_gaps(around)?;
        }
        self.rebuild(first, around)?;
        let mut from = first.to_string();
        let mut worked_off = 0_u64;
        while let Some(newest) = pending.last().map(|last| last.id) {
            let due = std::mem::take(&mut pending);
            worked_off += due.len() as u64;
            self.work_off_page(&due, &from, around)?;
            from = format!("({newest}");
            pending = self.pending_after(Some(newest))?;
        }
        if worked_off > 0 {
            around.log(&format!("{worked_off} entries were delivered and not settled: they are now"));
        }
        // What was delivered meanwhile, to whomever, is worked off too.
        self.met_to = self.met_to.max(self.settled);
        // Settled entries after the last pending one.
        let mut predictions = vec![0; self.replay.engine.members().len()];
        loop {
            let page = self.page(&from, &delivered.to_string())?;
            self.keep_lease(around)?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            from = format!("({last}");
            for (id, fields) in page {
                self.pass(id, fields, &mut predictions);
            }
        }
    }

    /// Works off `due`, and lets pass what lies between.
    fn work_off_page(
        &mut self,
        due: &[Pending],
        from: &str,
        around: &mut impl Surroundings<P>,
    ) -> Result<(), Halt> {
        let end = due.last().map(|last| last.id.to_string()).unwrap_or_default();
        let mut from = from.to_owned();
        let mut due = due.iter().peekable();
        let mut predictions = vec![0; self.replay.engine.members().len()];
        loop {
            let page = self.page(&from, &end)?;
            self.keep_lease(around)?;
            let Some((last, _)) = page.last() else { break };
            from = format!("({last}");
            let mut page = page.into_iter().peekable();
            while let Some((id, _)) = page.peek() {
                // What is pending and not in the stream was removed.
                while let Some(gone) = due.next_if(|pending| pending.id < *id) {
                    self.bury(gone, around)?;
                }
                if due.peek().is_none_or(|pending| pending.id != *id) {
                    if let Some((id, fields)) = page.next() {
                        self.pass(id, fields, &mut predictions);
                    }
                    continue;
                }
                self.ensure_not_settled(*id)?;
                if self.doubtful.contains(id) {
                    if let (Some(doubtful), Some((id, fields))) = (due.next(), page.next()) {
                        if entry_item(id, fields.clone(), &[MARKET_FEATURES]).is_some() {
                            self.leave_undecided(doubtful, around)?;
                            self.pass(id, fields, &mut predictions);
                        } else {
                            // No event, so there never was an intent to doubt.
                            self.decide_and_settle(vec![(id, fields)], around)?;
                        }
                    }
                    continue;
                }
                let mut batch: Vec<Pending> = Vec::new();
                let mut entries = Vec::new();
                while let Some((id, _)) = page.peek()
                    && !self.doubtful.contains(id)
                    && let Some(next) = due.next_if(|next| next.id == *id && self.go_together(&batch, next))
                {
                    batch.push(next.clone());
                    entries.extend(page.next());
                }
                if let [one] = &batch[..]
                    && one.deliveries >= self.settings.deliveries
                {
                    self.give_up(one, around)?;
                    continue;
                }
                let met = self.met;
                self.claim(&batch)?;
                if let Err(halt) = self.decide_and_settle(entries, around) {
                    self.take_back(&batch, met, &halt);
                    return Err(halt);
                }
            }
        }
        for gone in due {
            self.bury(gone, around)?;
        }
        Ok(())
    }

    /// What became pending after it was looked what the pending ones became is looked at anew.
    fn ensure_not_settled(&self, id: EventId) -> Result<(), Halt> {
        if id > self.settled || self.undecided.contains(&id) || self.doubtful.contains(&id) {
            return Ok(());
        }
        Err(Halt::Astray(format!("the entry {id} is settled and became pending again")))
    }

    /// Whether `next` may be decided and settled in one go with `batch`.
    fn go_together(&self, batch: &[Pending], next: &Pending) -> bool {
        batch.first().is_none_or(|first| {
            batch.len() < self.settings.batch
                && first.deliveries == 1
                && next.deliveries == 1
                && (first.id > self.settled) == (next.id > self.settled)
        })
    }

    /// A settled entry passes the models again.
    pub(super) fn pass(&mut self, id: EventId, fields: Vec<Vec<u8>>, predictions: &mut [usize]) {
        if !self.poison.contains(&id)
            && let Some(Ok(event)) = entry_item(id, fields, &[MARKET_FEATURES])
        {
            ask(&mut self.replay.engine, &event, predictions);
        }
    }

    /// The oldest pending entries after `after`.
    pub(super) fn pending_after(&mut self, after: Option<EventId>) -> Result<Vec<Pending>, Halt> {
        let start = after.map_or_else(|| "-".to_owned(), |after| format!("({after}"));
        let mut list = redis::cmd("XPENDING");
        list.arg(&self.keys.features).arg(&self.settings.group).arg(start).arg("+").arg(PAGE);
        let list = self.ask(&list, reply::array)?;
        let pending = |value| {
            let mut parts = reply::array(value)?.into_iter();
            let (id, consumer) = (reply::id(parts.next()?)?, reply::bytes(parts.next()?)?);
            let ours = consumer == self.settings.consumer.as_bytes();
            Some(Pending { id, ours, deliveries: reply::number(&parts.nth(1)?)? })
        };
        list.into_iter().map(|value| pending(value).ok_or(Halt::Odd("XPENDING".to_owned()))).collect()
    }

    /// Makes these entries ours. That counts as a delivery where it is one to another process.
    fn claim(&mut self, batch: &[Pending]) -> Result<(), Halt> {
        let Some(first) = batch.first() else { return Ok(()) };
        let again = first.id > self.met || !first.ours;
        // Also if no answer comes: it may be counted already.
        self.met = batch.last().map_or(self.met, |last| last.id.max(self.met));
        self.claim_as(batch, first.deliveries + u64::from(again))
    }

    /// Counts no delivery that ended without its consumer dying of it: `halt` is the server's refusal to settle, or the wish
    /// to end. `met` is the last entry met before. Where that fails as well it stays counted, as if the process had died here.
    fn take_back(&mut self, batch: &[Pending], met: EventId, halt: &Halt) {
        if let (Some(first), Halt::Stop | Halt::Trouble(Trouble::Refused { .. })) = (batch.first(), halt)
            && self.claim_as(batch, first.deliveries).is_ok()
        {
            // The next attempt counts again, even if this process makes it.
            self.met = met;
        }
    }

    /// Makes these entries ours, delivered so many times; those that are not pending any more stay so.
    fn claim_as(&mut self, batch: &[Pending], deliveries: u64) -> Result<(), Halt> {
        let mut claim = redis::cmd("EVAL");
        claim.arg(script::CLAIM).arg(2).arg(&self.keys.features).arg(&self.keys.owner).arg(&self.token);
        claim.arg(&self.settings.group).arg(&self.settings.consumer).arg(deliveries);
        for pending in batch {
            claim.arg(pending.id.to_string());
        }
        match self.ask(&claim, reply::text)?.as_str() {
            "" => Ok(()),
            removed => Err(Halt::Astray(format!("the pending entry {removed} was removed from the stream"))),
        }
    }

    /// An entry that was removed while it was pending.
    fn bury(&mut self, gone: &Pending, around: &mut impl Surroundings<P>) -> Result<(), Halt> {
        self.ensure_not_settled(gone.id)?;
        if self.doubtful.contains(&gone.id) {
            return self.leave_undecided(gone, around);
        }
        let reason = "removed from the stream before it was decided";
        around.log(&format!("LOST: the entry {} was {reason}", gone.id));
        let mut batch = Batch::default();
        batch.dead(gone.id, reason);
        self.tally.dead += self.settle(&batch, around)?.entries();
        Ok(())
    }

    /// An entry that is pending again after it was settled, or was taken by somebody else and never settled: what could tell
    /// is trimmed. A second intent would be a second position.
    fn leave_undecided(&mut self, doubtful: &Pending, around: &mut impl Surroundings<P>) -> Result<(), Halt> {
        let reason = "delivered again, and whether it has an intent is not known, for intents or dead letters were \
                      removed";
        around
            .log(&format!("DOUBTFUL: the entry {} was {reason}; it goes to {}", doubtful.id, self.keys.dead));
        let mut batch = Batch::default();
        batch.dead(doubtful.id, reason);
        self.tally.dead += self.settle(&batch, around)?.entries();
        Ok(())
    }

    /// An entry that was delivered too often.
    fn give_up(&mut self, poison: &Pending, around: &mut impl Surroundings<P>) -> Result<(), Halt> {
        let reason =
            format!("delivered {} times and never settled: its consumers died of it", poison.deliveries);
        around.log(&format!("POISON: the entry {} was {reason}; it goes to {}", poison.id, self.keys.dead));
        let mut batch = Batch::default();
        batch.poison(poison.id, &reason);
        self.tally.poison += self.settle(&batch, around)?.entries();
        self.poison.insert(poison.id);
        Ok(())
    }
}
