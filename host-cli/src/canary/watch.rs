//! How far a watch is: kept on disk, so that a monitor that restarts continues the same watch, of the same activation and
//! asked for in the same way.

use std::io;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};

use super::audit::{Chain, Entry, Transition};
use super::clock::Moment;
use super::state::State;
use super::telemetry::Seen;
use crate::bounded;
use crate::stream::{EventId, millis, replace_durably};

/// Checks that may fail in a row before the last one rolls back, and intervals without a new prediction that make a
/// canary silent.
pub const LIMIT: u32 = 3;

/// `watch.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watch {
    /// Generation of the weights that are watched.
    pub generation: u64,
    /// The canary.
    pub model: String,
    /// Hash of the line of the audit log that says they were activated: a log that was begun anew has others.
    pub activation: String,
    /// When it began.
    pub started: Moment,
    /// The last check.
    pub last_check: Moment,
    /// Time that was watched, ms.
    pub watched_ms: u64,
    /// Time to watch, ms.
    pub duration_ms: u64,
    /// Time between two checks, ms.
    pub interval_ms: u64,
    /// Findings of the comparison roll back too.
    pub strict: bool,
    /// Checks made.
    pub checks: u64,
    /// Failed checks in a row.
    pub failed_in_row: u32,
    /// Newest event seen.
    pub last_id: Option<String>,
    /// Newest prediction of the canary seen.
    pub last_canary_id: Option<String>,
    /// Time watched when the last new prediction was seen, ms.
    pub last_new_ms: u64,
    /// New predictions were seen since the watch began.
    pub any_new: bool,
    /// Entries that were ever added to the stream, as last seen.
    pub entries_added: Option<u64>,
    /// Why a rollback was due that could not be made: the next check makes it, whatever it would find.
    pub owed: Vec<String>,
}

/// The last line about a watch of this activation: only where that is its end was it watched.
#[must_use]
pub fn last_word<'a>(chain: &'a Chain, activation: &Entry) -> Option<&'a Entry> {
    chain.entries.iter().rfind(|entry| {
        matches!(entry.event, Transition::WatchStarted | Transition::WatchPassed)
            && entry.generation == activation.generation
            && entry.seq > activation.seq
    })
}

impl Watch {
    /// A watch of what `activation` put in force that begins now.
    #[must_use]
    pub fn begin(
        activation: &Entry,
        duration: Duration,
        interval: Duration,
        strict: bool,
        now: &Moment,
    ) -> Self {
        Self {
            generation: activation.generation,
            model: activation.model.clone().unwrap_or_default(),
            activation: activation.hash.clone(),
            started: now.clone(),
            last_check: now.clone(),
            watched_ms: 0,
            duration_ms: millis(duration),
            interval_ms: millis(interval),
            strict,
            checks: 0,
            failed_in_row: 0,
            last_id: None,
            last_canary_id: None,
            last_new_ms: 0,
            any_new: false,
            entries_added: None,
            owed: Vec::new(),
        }
    }

    /// How it was asked for. Another interval would count other pauses as watched, and be silent at another time.
    #[must_use]
    pub fn asked(&self) -> String {
        let [duration, interval] = [self.duration_ms, self.interval_ms].map(Duration::from_millis);
        let strict = if self.strict { " --strict" } else { "" };
        format!("--duration {duration:?} --interval {interval:?}{strict}")
    }

    /// The watch on disk; `None` if there is none.
    ///
    /// # Errors
    /// It cannot be read, or is no watch that a monitor has written.
    pub fn read(state: &State) -> anyhow::Result<Option<Self>> {
        let path = state.watch_path();
        let text = match bounded::read_state(&path, bounded::SMALL).and_then(bounded::text) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let watch: Self =
            serde_json::from_str(&text).with_context(|| format!("{} is torn", path.display()))?;
        // Nothing signs it, but what no monitor has written is none.
        ensure!(
            watch.last_new_ms <= watch.watched_ms && u64::from(watch.failed_in_row) <= watch.checks,
            "{} contradicts itself",
            path.display()
        );
        Ok(Some(watch))
    }

    /// Keeps it.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, state: &State) -> anyhow::Result<()> {
        let path = state.watch_path();
        let text = serde_json::to_string(self)? + "\n";
        replace_durably(&path, text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Moves on to `now`. More than `longest` since the last check is time that nobody watched: it does not count.
    ///
    /// # Errors
    /// A clock jumped.
    pub fn advance(&mut self, now: &Moment, longest: Duration) -> Result<(), String> {
        let elapsed = now.since(&self.last_check);
        self.last_check = now.clone();
        let elapsed = elapsed?;
        if elapsed <= longest {
            self.watched_ms += millis(elapsed);
        }
        Ok(())
    }

    /// Time left to watch.
    #[must_use]
    pub const fn left(&self) -> Duration {
        Duration::from_millis(self.duration_ms.saturating_sub(self.watched_ms))
    }

    /// Takes what a successful reading has seen.
    ///
    /// # Errors
    /// In words: the stream was reset, the canary is silent, or by the end no intent shows its weight.
    pub fn take(&mut self, seen: &Seen) -> Result<(), String> {
        let first_reading = self.last_id.is_none();
        self.ensure_same_stream(seen)?;
        self.last_id = seen.last.map(|id| id.to_string());
        self.entries_added = seen.entries_added.or(self.entries_added);
        if seen.last_canary > parse(self.last_canary_id.as_ref()) {
            // What was there when the watch began is not new.
            self.any_new |= !first_reading;
            self.last_new_ms = self.watched_ms;
            self.last_canary_id = seen.last_canary.map(|id| id.to_string());
        }
        let silent = self.watched_ms.saturating_sub(self.last_new_ms);
        let most = self.interval_ms.saturating_mul(u64::from(LIMIT));
        if silent >= most {
            return Err(format!(
                "the canary is silent: no new prediction for {silent} ms, at most {most} ms ({LIMIT} intervals) is allowed"
            ));
        }
        if self.left().is_zero() && !self.any_new {
            return Err(
                "the canary is silent: no new prediction until the end of the watch, at least 1 is needed"
                    .to_owned(),
            );
        }
        // Engines take new weights up within a second: what was there before is long outnumbered.
        if self.left().is_zero() && seen.proof.events > 0 && seen.proof.as_expected == 0 {
            return Err(format!(
                "no engine uses the canary's weight: until the end of the watch none of {} intents has the effective weight \
                 that the weights in force give it, at least 1 is needed",
                seen.proof.events
            ));
        }
        Ok(())
    }

    /// Ids only grow, and so does the number of entries that were ever added; and events that were seen are still there,
    /// unless newer ones alone fill the window; in a stream that never lost an entry also then.
    fn ensure_same_stream(&self, seen: &Seen) -> Result<(), String> {
        if let Some(before) = parse(self.last_id.as_ref()) {
            let Some(last) = seen.last.filter(|&last| last >= before) else {
                let now = seen.last.map_or_else(|| "empty".to_owned(), |last| format!("at {last}"));
                return Err(format!("the stream was reset: it was at {before} and is {now}"));
            };
            if let Some(first) = seen.first.or(seen.oldest).filter(|&first| first > before) {
                return Err(format!(
                    "the stream was reset: it was at {before}, and of {first} to {last} nothing is as old"
                ));
            }
        }
        match (self.entries_added, seen.entries_added) {
            (Some(before), Some(now)) if now < before => Err(format!(
                "the stream was reset: {before} entries had been added to it, and now it says {now}"
            )),
            _ => Ok(()),
        }
    }
}

fn parse(id: Option<&String>) -> Option<EventId> {
    id?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canary::actor::Actor;
    use crate::canary::telemetry::WeightProof;

    const INTERVAL: Duration = Duration::from_secs(30);

    fn at(ms: u64) -> Moment {
        Moment { wall: 1_000_000 + ms, boot: ms, awake: ms, boot_id: "a".to_owned() }
    }

    fn watch(seconds: u64) -> Watch {
        let activation = Entry {
            seq: 1,
            ts: String::new(),
            event: Transition::Activated,
            model: Some("xgb".to_owned()),
            generation: 1,
            actor: Actor::current(),
            details: serde_json::Map::new(),
            prev: String::new(),
            hash: "a".to_owned(),
        };
        Watch::begin(&activation, Duration::from_secs(seconds), INTERVAL, false, &at(0))
    }

    /// Events from id 1 to `last`, the newest of the canary at `last_canary`.
    fn seen(last: u64, last_canary: u64) -> Seen {
        let id = |ms| Some(EventId { ms, seq: 0 });
        Seen { first: id(1), last: id(last), last_canary: id(last_canary), ..Seen::default() }
    }

    #[test]
    fn time_that_nobody_watched_does_not_count() {
        let mut watch = watch(120);
        watch.advance(&at(30_000), INTERVAL * LIMIT).unwrap();
        watch.advance(&at(130_000), INTERVAL * LIMIT).unwrap();
        assert_eq!(watch.left(), Duration::from_secs(90), "100 s are more than three intervals");
        watch.advance(&at(220_000), INTERVAL * LIMIT).unwrap();
        assert!(watch.left().is_zero());
    }

    #[test]
    fn a_silent_canary_and_a_reset_stream_are_named() {
        let mut watch = watch(3600);
        // A check that failed before has read nothing.
        (watch.checks, watch.failed_in_row) = (1, 1);
        watch.take(&seen(5, 5)).unwrap();
        assert!(!watch.any_new, "what was there is not new");
        watch.advance(&at(60_000), INTERVAL * LIMIT).unwrap();
        watch.take(&seen(9, 7)).unwrap();
        assert!(watch.any_new);
        watch.advance(&at(149_000), INTERVAL * LIMIT).unwrap();
        watch.take(&seen(20, 7)).unwrap();
        watch.advance(&at(150_000), INTERVAL * LIMIT).unwrap();
        assert!(watch.clone().take(&seen(21, 7)).unwrap_err().contains("silent"));
        assert!(watch.clone().take(&seen(19, 19)).unwrap_err().contains("reset"));
        assert!(watch.take(&Seen::default()).unwrap_err().contains("empty"));
    }

    #[test]
    fn a_watch_that_contradicts_itself_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let state = State::new(directory.path());
        let mut watch = watch(10);
        watch.write(&state).unwrap();
        assert_eq!(Watch::read(&state).unwrap().as_ref(), Some(&watch));
        watch.last_new_ms = 1;
        watch.write(&state).unwrap();
        assert!(Watch::read(&state).unwrap_err().to_string().contains("contradicts itself"));
        watch.take(&seen(5, 5)).unwrap();
    }

    #[test]
    fn nothing_new_by_the_end_is_silent() {
        let mut watch = watch(10);
        watch.take(&seen(5, 5)).unwrap();
        watch.checks = 1;
        watch.advance(&at(10_000), INTERVAL * LIMIT).unwrap();
        assert!(watch.take(&seen(6, 5)).unwrap_err().contains("until the end"));
    }

    #[test]
    fn a_reset_stream_whose_ids_are_ahead_again_is_named() {
        let mut watch = watch(3600);
        watch.take(&Seen { entries_added: Some(300), ..seen(5, 5) }).unwrap();
        let ahead = |first: Option<u64>, entries_added| Seen {
            first: first.map(|ms| EventId { ms, seq: 0 }),
            entries_added,
            ..seen(9, 9)
        };
        let says = |seen: &Seen| watch.clone().take(seen);
        assert_eq!(says(&ahead(Some(5), Some(301))), Ok(()));
        assert!(says(&ahead(Some(6), Some(301))).unwrap_err().contains("nothing is as old"));
        assert_eq!(says(&ahead(None, Some(300))), Ok(()), "newer ones alone fill the window");
        assert!(says(&ahead(None, Some(299))).unwrap_err().contains("300 entries had been added"));
        assert_eq!(says(&ahead(None, None)), Ok(()), "not every source counts");
        // What does not count once has not forgotten.
        watch.take(&ahead(None, None)).unwrap();
        assert!(watch.take(&ahead(None, Some(299))).unwrap_err().contains("reset"));
    }

    #[test]
    fn a_weight_that_no_intent_shows_by_the_end_is_named() {
        let mut watch = watch(20);
        watch.take(&seen(5, 5)).unwrap();
        let told = |events, as_expected| Seen {
            proof: WeightProof { events, as_expected, ..WeightProof::default() },
            ..seen(9, 9)
        };
        watch.advance(&at(10_000), INTERVAL * LIMIT).unwrap();
        watch.take(&told(4, 0)).unwrap();
        watch.advance(&at(20_000), INTERVAL * LIMIT).unwrap();
        assert!(watch.clone().take(&told(4, 0)).unwrap_err().contains("none of 4 intents"));
        watch.clone().take(&told(4, 1)).unwrap();
        // Who does not tell weights contradicts nothing.
        watch.take(&told(0, 0)).unwrap();
    }
}
