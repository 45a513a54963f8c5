//! What a gate notes of every item before it judges: which it was, and whether it is corrupt.

use super::evidence::{Evidence, Witness, Writers};
use crate::stream::{BUILD, Event, Item, Json, SYNTHETIC};

/// The items a gate was shown.
#[derive(Debug, Default)]
pub(super) struct Intake {
    witness: Witness,
    writers: Writers,
    simulated: u64,
    malformed: u64,
    first_malformed: Option<String>,
}

impl Intake {
    /// Notes the next item; the event and its payload, unless they cannot be read.
    pub(super) fn open<'item>(&mut self, item: &'item Item) -> Option<(&'item Event, Json<'item>)> {
        self.witness.observe(item);
        match item {
            Ok(event) => match Json::parse(&event.payload) {
                Ok(payload) => {
                    self.simulated += u64::from(matches!(payload.get(SYNTHETIC), Some(Json::Bool(true))));
                    self.writers.observe(payload.get(BUILD).and_then(Json::as_str));
                    return Some((event, payload));
                }
                Err(error) => self.refuse(event, &format!("the payload is no JSON ({error})")),
            },
            Err(malformed) => self.note(malformed.to_string()),
        }
        None
    }

    /// An opened event turns out to be corrupt.
    pub(super) fn refuse(&mut self, event: &Event, reason: &str) {
        self.note(format!("event {}: {reason}", event.id));
    }

    fn note(&mut self, words: String) {
        self.malformed += 1;
        self.first_malformed.get_or_insert(words);
    }

    /// Corrupt items so far.
    pub(super) const fn malformed(&self) -> u64 {
        self.malformed
    }

    /// Which items there were, and the first corrupt one in words.
    pub(super) fn finish(self) -> (Evidence, Option<String>) {
        let Self { witness, writers, simulated, first_malformed, .. } = self;
        (Evidence { simulated, written_by: writers.finish(), ..witness.finish() }, first_malformed)
    }
}
