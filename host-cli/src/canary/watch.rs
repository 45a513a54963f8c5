//! How far a watch is: kept on disk, so that a monitor that restarts continues the same watch.

use std::io;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};

use super::clock::Moment;
use super::state::State;
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
    /// When it began.
    pub started: Moment,
    /// The last check.
    pub last_check: Moment,
    /// Time that was watched, ms.
    pub watched_ms: u64,
    /// Time to watch, ms.
    pub duration_ms: u64,
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
}

impl Watch {
    /// A watch that begins now.
    #[must_use]
    pub fn begin(generation: u64, model: &str, duration: Duration, now: &Moment) -> Self {
        Self {
            generation,
            model: model.to_owned(),
            started: now.clone(),
            last_check: now.clone(),
            watched_ms: 0,
            duration_ms: millis(duration),
            checks: 0,
            failed_in_row: 0,
            last_id: None,
            last_canary_id: None,
            last_new_ms: 0,
            any_new: false,
        }
    }

    /// The watch on disk; `None` if there is none.
    ///
    /// # Errors
    /// It cannot be read, or is no watch that a monitor has written.
    pub fn read(state: &State) -> anyhow::Result<Option<Self>> {
        let path = state.watch_path();
        let text = match bounded::read_text(&path, bounded::SMALL) {
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

    /// Takes the ids of a successful reading.
    ///
    /// # Errors
    /// In words: the stream was reset, or the canary is silent.
    pub fn take(
        &mut self,
        last: Option<EventId>,
        last_canary: Option<EventId>,
        interval: Duration,
    ) -> Result<(), String> {
        let parse = |id: &Option<String>| id.as_ref().and_then(|id| id.parse::<EventId>().ok());
        let first_reading = self.last_id.is_none();
        if let Some(before) = parse(&self.last_id)
            && last.is_none_or(|last| last < before)
        {
            let now = last.map_or_else(|| "empty".to_owned(), |last| format!("at {last}"));
            return Err(format!("the stream was reset: it was at {before} and is {now}"));
        }
        self.last_id = last.map(|id| id.to_string());
        let before = parse(&self.last_canary_id);
        if last_canary > before {
            // What was there when the watch began is not new.
            self.any_new |= !first_reading;
            self.last_new_ms = self.watched_ms;
            self.last_canary_id = last_canary.map(|id| id.to_string());
        }
        let silent = self.watched_ms.saturating_sub(self.last_new_ms);
        if silent >= millis(interval * LIMIT) {
            return Err(format!(
                "the canary is silent: no new prediction for {silent} ms, at most {} ms ({LIMIT} intervals) is allowed",
                millis(interval * LIMIT)
            ));
        }
        if self.left().is_zero() && !self.any_new {
            return Err(
                "the canary is silent: no new prediction until the end of the watch, at least 1 is needed"
                    .to_owned(),
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(30);

    fn at(ms: u64) -> Moment {
        Moment { wall: 1_000_000 + ms, boot: ms, awake: ms, boot_id: "a".to_owned() }
    }

    fn id(ms: u64) -> Option<EventId> {
        Some(EventId { ms, seq: 0 })
    }

    #[test]
    fn time_that_nobody_watched_does_not_count() {
        let mut watch = Watch::begin(1, "xgb", Duration::from_secs(120), &at(0));
        watch.advance(&at(30_000), INTERVAL * LIMIT).unwrap();
        watch.advance(&at(130_000), INTERVAL * LIMIT).unwrap();
        assert_eq!(watch.left(), Duration::from_secs(90), "100 s are more than three intervals");
        watch.advance(&at(220_000), INTERVAL * LIMIT).unwrap();
        assert!(watch.left().is_zero());
    }

    #[test]
    fn a_silent_canary_and_a_reset_stream_are_named() {
        let mut watch = Watch::begin(1, "xgb", Duration::from_secs(3600), &at(0));
        // A check that failed before has read nothing.
        (watch.checks, watch.failed_in_row) = (1, 1);
        watch.take(id(5), id(5), INTERVAL).unwrap();
        assert!(!watch.any_new, "what was there is not new");
        watch.advance(&at(60_000), INTERVAL * LIMIT).unwrap();
        watch.take(id(9), id(7), INTERVAL).unwrap();
        assert!(watch.any_new);
        watch.advance(&at(149_000), INTERVAL * LIMIT).unwrap();
        watch.take(id(20), id(7), INTERVAL).unwrap();
        watch.advance(&at(150_000), INTERVAL * LIMIT).unwrap();
        assert!(watch.clone().take(id(21), id(7), INTERVAL).unwrap_err().contains("silent"));
        assert!(watch.clone().take(id(19), id(19), INTERVAL).unwrap_err().contains("reset"));
        assert!(watch.take(None, None, INTERVAL).unwrap_err().contains("empty"));
    }

    #[test]
    fn a_watch_that_contradicts_itself_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let state = State::new(directory.path());
        let mut watch = Watch::begin(1, "xgb", Duration::from_secs(10), &at(0));
        watch.write(&state).unwrap();
        assert_eq!(Watch::read(&state).unwrap().as_ref(), Some(&watch));
        watch.last_new_ms = 1;
        watch.write(&state).unwrap();
        assert!(Watch::read(&state).unwrap_err().to_string().contains("contradicts itself"));
        watch.take(id(5), id(5), INTERVAL).unwrap();
    }

    #[test]
    fn nothing_new_by_the_end_is_silent() {
        let mut watch = Watch::begin(1, "xgb", Duration::from_secs(10), &at(0));
        watch.take(id(5), id(5), INTERVAL).unwrap();
        watch.checks = 1;
        watch.advance(&at(10_000), INTERVAL * LIMIT).unwrap();
        assert!(watch.take(id(6), id(5), INTERVAL).unwrap_err().contains("until the end"));
    }
}
