//! Where the group is to stand when a shift begins: behind the first entries that are all settled or pending.
//!
//! Whoever may touch the group may set it back or forward, and acknowledge or claim what is not theirs. What is left
//! then is one of three things. Entries up to the last one settled that are pending: most come again and have their
//! intent, others were never decided; only the streams of intents and dead letters can tell, so they are read. Entries
//! after it that were passed over: the group goes back to them. And what is pending behind those: it is read again in
//! its order.
//!
//! Everything written here is written for the holder of the lease alone. What is not finished when the process dies is
//! found again by the next one, for all of it is seen from the group and the streams.

use std::collections::BTreeSet;

use qsc_kernel::ensemble::Predict;
use redis::Cmd;

use super::consumer::{Consumer, Halt};
use super::proof::{of_dead_letter, of_intent};
use super::rebuild::PAGE;
use super::{Keys, Surroundings, reply, script};
use crate::stream::EventId;

impl<P: Predict + Clone> Consumer<'_, P> {
    /// Makes the group, which has delivered entries up to `delivered`, stand where it belongs; the last entry that is
    /// delivered then. Up to there everything is settled or pending, and nothing is pending behind it.
    pub(super) fn stand(
        &mut self,
        delivered: EventId,
        around: &mut impl Surroundings<P>,
    ) -> Result<EventId, Halt> {
        (self.answered, self.undecided, self.doubtful) = Default::default();
        let pending = self.all_pending(around)?;
        let again: BTreeSet<EventId> = pending.range(..=self.settled).copied().collect();
        let (mut frontier, mut passed_over) = self.walk(&pending, delivered, around)?;
        if !again.is_empty() || passed_over.is_some_and(|entry| entry <= delivered) {
            self.look_for_outcomes(&again, around)?;
            if self.answered.iter().any(|id| *id > self.settled) {
                // The account of what is settled lags behind the intents.
                (frontier, passed_over) = self.walk(&pending, delivered, around)?;
            }
        }
        let Some(passed_over) = passed_over else {
            let stands = frontier.max(delivered);
            if stands > delivered {
                around.log(&format!(
                    "the group {} was set back to {delivered}, but everything up to {stands} is settled or pending: it \
                     goes on from there",
                    self.settings.group
                ));
                self.set_group(stands)?;
            }
            return Ok(stands);
        };
        if frontier < delivered {
            around.log(&format!(
                "the group {} was set forward to {delivered}, or somebody acknowledged what is not settled: it goes on \
                 from {frontier}, for {passed_over} is not settled",
                self.settings.group
            ));
        } else if frontier > delivered {
            around.log(&format!(
                "the group {} was set back to {delivered}, but everything up to {frontier} is settled or pending: it \
                 goes on from there",
                self.settings.group
            ));
        }
        if frontier != delivered {
            self.set_group(frontier)?;
        }
        // Not delivered any more, so not pending either: they come again, in their order.
        let behind: Vec<EventId> = pending.iter().filter(|id| **id > frontier).copied().collect();
        self.acknowledge(&behind)?;
        Ok(frontier)
    }

    /// Goes from the last entry settled to the last one delivered or pending; the last entry before which everything is
    /// settled or pending, and the first one that is neither.
    fn walk(
        &mut self,
        pending: &BTreeSet<EventId>,
        delivered: EventId,
        around: &mut impl Surroundings<P>,
    ) -> Result<(EventId, Option<EventId>), Halt> {
        let end = pending.last().map_or(delivered, |last| delivered.max(*last));
        let mut frontier = self.settled;
        let mut settled = self.settled;
        let mut from = format!("({settled}");
        while frontier < end {
            let page = self.page(&from, &end.to_string())?;
            self.keep_lease(around)?;
            let Some((last, _)) = page.last() else { break };
            from = format!("({last}");
            for (id, _) in &page {
                if !(pending.contains(id) || self.answered.contains(id)) {
                    // What is pending and not in the stream any more counts as well.
                    let before = pending.range(..*id).next_back().copied().unwrap_or_default();
                    self.settle_up_to(settled)?;
                    return Ok((frontier.max(before), Some(*id)));
                }
                if settled == frontier && !pending.contains(id) {
                    settled = *id;
                }
                frontier = *id;
            }
        }
        self.settle_up_to(settled)?;
        Ok((frontier.max(pending.last().copied().unwrap_or_default()), None))
    }

    /// Everything up to `settled` has its intent or dead letter.
    pub(super) fn settle_up_to(&mut self, settled: EventId) -> Result<(), Halt> {
        if settled > self.settled {
            let mut account = redis::cmd("HSET");
            account.arg(&self.keys.owner).arg("last").arg(settled.to_string());
            self.fenced(&account)?;
            self.settled = settled;
        }
        Ok(())
    }

    /// Finds out which of these entries, which are pending `again`, have their intent or dead letter, and acknowledges
    /// those: that is true for good, so it cannot be too late. Also finds what lies after everything settled and has one.
    fn look_for_outcomes(
        &mut self,
        again: &BTreeSet<EventId>,
        around: &mut impl Surroundings<P>,
    ) -> Result<(), Halt> {
        let Keys { intents, dead, .. } = self.keys;
        around.log(&if again.is_empty() {
            format!("looking through {intents} and {dead} for anything after {}, the last one settled", self.settled)
        } else {
            let (many, settled) = (again.len(), self.settled);
            format!(
                "{many} entries up to {settled}, the last one settled, are pending: looking through {intents} and {dead} for \
                 what they became"
            )
        });
        let keys = self.keys;
        let mut trimmed = false;
        for (key, first, source) in [
            (&keys.intents, "intents_from", of_intent as fn(_, _, &str) -> _),
            (&keys.dead, "dead_from", of_dead_letter as fn(_, _, &str) -> _),
        ] {
            let mut from = "-".to_owned();
            loop {
                let mut page = redis::cmd("XRANGE");
                page.arg(key).arg(&from).arg("+").arg("COUNT").arg(PAGE);
                let page = self.ask(&page, reply::entries)?;
                self.keep_lease(around)?;
                let Some((last, _)) = page.last() else { break };
                from = format!("({last}");
                for (id, fields) in page {
                    if let Some(source) = source(id, fields, &self.settings.group)
                        && (source > self.settled || again.contains(&source))
                    {
                        self.answered.insert(source);
                    }
                }
            }
            // Asked after it was read: what is trimmed meanwhile is seen too.
            trimmed |= self.stream_info(key)?.is_some_and(|info| info.added > info.length);
            trimmed |= self.lacks_first(key, first)?;
        }
        let (known, unknown): (Vec<EventId>, Vec<EventId>) =
            again.iter().partition(|id| self.answered.contains(id) || self.poison.contains(id));
        self.acknowledge(&known)?;
        if !again.is_empty() {
            around.log(&format!("{} of them are settled, and acknowledged again", known.len()));
        }
        if trimmed {
            self.doubtful.extend(unknown);
        } else {
            self.undecided.extend(unknown);
        }
        Ok(())
    }

    /// Whether the first entry added to the stream `key`, which the owner's hash names in `field`, is not there any more: the
    /// stream was removed or renamed since.
    fn lacks_first(&mut self, key: &str, field: &str) -> Result<bool, Halt> {
        let mut first = redis::cmd("HGET");
        first.arg(&self.keys.owner).arg(field);
        let Some(first) = self.ask(&first, reply::text_if_any)? else { return Ok(false) };
        let mut entry = redis::cmd("XRANGE");
        entry.arg(key).arg(&first).arg(&first);
        Ok(self.ask(&entry, reply::entries)?.is_empty())
    }

    /// Takes entries off the pending list that need no intent now.
    fn acknowledge(&mut self, entries: &[EventId]) -> Result<(), Halt> {
        for some in entries.chunks(PAGE) {
            let mut acknowledge = redis::cmd("XACK");
            acknowledge.arg(&self.keys.features).arg(&self.settings.group);
            for id in some {
                acknowledge.arg(id.to_string());
            }
            self.fenced(&acknowledge)?;
        }
        Ok(())
    }

    /// Every pending entry of the group.
    fn all_pending(&mut self, around: &mut impl Surroundings<P>) -> Result<BTreeSet<EventId>, Halt> {
        let mut all = BTreeSet::new();
        loop {
            let page = self.pending_after(all.last().copied())?;
            if page.is_empty() {
                return Ok(all);
            }
            all.extend(page.iter().map(|pending| pending.id));
            self.keep_lease(around)?;
        }
    }

    pub(super) fn set_group(&mut self, stands: EventId) -> Result<(), Halt> {
        let mut set = redis::cmd("XGROUP");
        set.arg("SETID").arg(&self.keys.features).arg(&self.settings.group).arg(stands.to_string());
        self.fenced(&set)
    }

    /// Does `cmd` if the lease is ours at that moment: who sleeps and wakes when another has taken over changes nothing.
    pub(super) fn fenced(&mut self, cmd: &Cmd) -> Result<(), Halt> {
        let mut call = redis::cmd("EVAL");
        call.arg(script::FENCED).arg(2).arg(&self.keys.features).arg(&self.keys.owner).arg(&self.token);
        for argument in cmd.args_iter() {
            if let redis::Arg::Simple(argument) = argument {
                call.arg(argument);
            }
        }
        self.ask(&call, Some).map(|_| ())
    }
}
