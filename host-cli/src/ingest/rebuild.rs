//! What the engine remembers, rebuilt from the stream: the windows of every symbol and each model's last predictions.
//!
//! Both depend on nothing but the entries before the first undecided one, so they are what an undisturbed run would
//! have, as far back as the stream is read. Windows need the steps alone, which is cheap; predictions are needed for
//! the last hundred of each model only, so models are asked for as few events as give them.

use qsc_kernel::ensemble::{Outcome, Predict};
use qsc_kernel::guard::degeneracy::WINDOW;

use super::consumer::{Consumer, Halt};
use super::{Surroundings, reply};
use crate::engine::Engine;
use crate::stream::{Event, EventId, MARKET_FEATURES, entry_item};

/// Entries read at once.
pub(super) const PAGE: usize = 500;
/// How many entries models are asked for: the next step where the last one gave too few predictions.
const DEPTHS: [u64; 3] = [1_000, 10_000, 100_000];

/// Where a rebuilding begins.
struct Reach {
    /// The oldest entry that is read.
    from: EventId,
    /// Entries from there on.
    entries: u64,
    /// Older entries exist, or did once.
    cut: bool,
    /// For some of [`DEPTHS`], the entry so far back.
    marks: Vec<EventId>,
}

impl<P: Predict + Clone> Consumer<'_, P> {
    /// Rebuilds the engine's memory from the entries before `first`.
    pub(super) fn rebuild(&mut self, first: EventId, around: &mut impl Surroundings<P>) -> Result<(), Halt> {
        let memory = self.unfed.memory();
        if !(memory.windows || memory.predictions) {
            return Ok(());
        }
        let reach = self.reach(first, around)?;
        let needed = if memory.predictions { WINDOW } else { 0 };
        for ask_from in reach.marks.iter().chain([&reach.from]) {
            let mut engine = self.unfed.clone();
            let mut predictions = vec![0; engine.members().len()];
            let from = if memory.windows { reach.from } else { *ask_from };
            self.each_entry(from, first, around, |poisoned, id, fields| {
                if poisoned {
                    return;
                }
                let Some(Ok(event)) = entry_item(id, fields, &[MARKET_FEATURES]) else { return };
                if id >= *ask_from && memory.predictions {
                    ask(&mut engine, &event, &mut predictions);
                } else {
                    // What cannot be decided leaves no trace in any window.
                    let _ = engine.remember(&event);
                }
            })?;
            let loaded = engine.members().iter().map(|member| member.predictor().is_some());
            let enough = predictions.iter().zip(loaded).all(|(&of, loaded)| !loaded || of >= needed);
            if enough || *ask_from == reach.from {
                self.replay.resume_with(engine);
                self.say_rebuilt(&reach, first, enough, around);
                return Ok(());
            }
        }
        Ok(())
    }

    fn say_rebuilt(&self, reach: &Reach, first: EventId, enough: bool, around: &mut impl Surroundings<P>) {
        if reach.entries == 0 {
            if reach.cut {
                around.log(&format!(
                    "windows and predictions begin empty: nothing before {first} is left, or --rebuild is 0; sequence \
                     models are insufficient_history at first, and no model is judged for degeneracy until it has 100 \
                     predictions"
                ));
            }
            return;
        }
        let how_far = match (reach.cut, enough) {
            (false, _) => "the whole stream before it",
            (true, true) => {
                "older ones were not read: a symbol not seen since is insufficient_history at first"
            }
            (true, false) => {
                "older ones were not read: a symbol not seen since is insufficient_history at first, and a model with \
                 fewer than 100 predictions since is not judged for degeneracy until it has them"
            }
        };
        around.log(&format!(
            "windows and predictions are rebuilt from {} entries before {first}, from {} on ({how_far})",
            reach.entries, reach.from
        ));
    }

    /// Looks back from `first` as far as allowed.
    fn reach(&mut self, first: EventId, around: &mut impl Surroundings<P>) -> Result<Reach, Halt> {
        let limit = self.settings.rebuild;
        let mut reach = Reach { from: first, entries: 0, cut: false, marks: Vec::new() };
        let mut before = first;
        while reach.entries < limit {
            let count = PAGE.min(usize::try_from(limit - reach.entries).unwrap_or(PAGE));
            let mut page = redis::cmd("XREVRANGE");
            page.arg(&self.keys.features).arg(format!("({before}")).arg("-").arg("COUNT").arg(count);
            let page = self.ask(&page, reply::entries)?;
            self.keep_lease(around)?;
            let Some((oldest, _)) = page.last() else { break };
            before = *oldest;
            for (id, _) in &page {
                reach.entries += 1;
                if DEPTHS.contains(&reach.entries) {
                    reach.marks.push(*id);
                }
            }
            reach.from = *oldest;
        }
        // The last mark may be the end itself.
        reach.marks.retain(|mark| *mark != reach.from);
        let info = self.features_info()?;
        reach.cut = info.added > info.length
            || reach.entries >= limit && info.first.is_some_and(|first| first < reach.from);
        Ok(reach)
    }

    /// Hands every entry from `from` on and before `end` to `on_entry`, with whether it is known to be poison.
    fn each_entry(
        &mut self,
        from: EventId,
        end: EventId,
        around: &mut impl Surroundings<P>,
        mut on_entry: impl FnMut(bool, EventId, Vec<Vec<u8>>),
    ) -> Result<(), Halt> {
        let mut start = from.to_string();
        loop {
            let page = self.page(&start, &format!("({end}"))?;
            self.keep_lease(around)?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            start = format!("({last}");
            for (id, fields) in page {
                on_entry(self.poison.contains(&id), id, fields);
            }
        }
    }

    /// Entries from `start` to `end`, as many as are read at once.
    pub(super) fn page(&mut self, start: &str, end: &str) -> Result<Vec<reply::Entry>, Halt> {
        let mut page = redis::cmd("XRANGE");
        page.arg(&self.keys.features).arg(start).arg(end).arg("COUNT").arg(PAGE);
        self.ask(&page, reply::entries)
    }
}

/// Asks the models about an event that is decided already; counts the predictions of each.
pub(super) fn ask<P: Predict>(engine: &mut Engine<P>, event: &Event, predictions: &mut [usize]) {
    // It was decided about when it came in, so that is the time its age is judged by.
    let Ok(decided) = engine.decide(event, event.id.ms) else { return };
    for (count, outcome) in predictions.iter_mut().zip(&decided.round.outcomes) {
        let predicted = match outcome {
            Outcome::Active { .. } => true,
            Outcome::Inactive { prediction, .. } => prediction.is_some(),
        };
        *count += usize::from(predicted);
    }
}
