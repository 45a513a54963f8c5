//! Which events a verdict was made from.

use std::collections::BTreeMap;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::digest;
use crate::identity::UNKNOWN;
use crate::stream::{EventId, Item};

/// The events seen, so that a verdict can be bound to them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Evidence {
    /// Id of the first event, `null` if there was none with an id.
    pub first_id: Option<String>,
    /// Id of the newest event.
    pub last_id: Option<String>,
    /// Events seen, corrupt ones included.
    pub count: u64,
    /// SHA-256 over all of them in order. An event adds its id, its payload's length as 8 bytes little-endian and
    /// its payload; an entry that is no event adds its id (`-` without one), 8 bytes 0xff and the reason.
    pub sha256: String,
    /// How many events name which build as their writer. Those that name none count as `<unknown>`, and so do those of
    /// further builds where there are more than eight.
    pub written_by: BTreeMap<String, u64>,
    /// Events that say they are simulated; every rendering of the verdict then says so at its head.
    #[serde(skip)]
    pub simulated: u64,
}

/// Collects [`Evidence`].
#[derive(Debug, Default)]
pub(super) struct Witness {
    hash: Sha256,
    first: Option<EventId>,
    last: Option<EventId>,
    count: u64,
}

impl Witness {
    pub(super) fn observe(&mut self, item: &Item) {
        self.count += 1;
        let id = match item {
            Ok(event) => {
                let mut id = [0; EventId::LONGEST];
                self.hash.update(event.id.spell(&mut id));
                self.hash.update((event.payload.len() as u64).to_le_bytes());
                self.hash.update(&event.payload);
                Some(event.id)
            }
            Err(malformed) => {
                self.hash.update(malformed.id.map_or_else(|| "-".to_owned(), |id| id.to_string()));
                self.hash.update(u64::MAX.to_le_bytes());
                self.hash.update(&malformed.reason);
                malformed.id
            }
        };
        self.first = self.first.or(id);
        // A line out of place is no newer one.
        self.last = self.last.max(id);
    }

    pub(super) fn finish(self) -> Evidence {
        Evidence {
            first_id: self.first.map(|id| id.to_string()),
            last_id: self.last.map(|id| id.to_string()),
            count: self.count,
            sha256: digest::hex(&self.hash.finalize()),
            written_by: BTreeMap::new(),
            simulated: 0,
        }
    }
}

/// Counts events by the build that wrote them.
#[derive(Debug, Default)]
pub(super) struct Writers {
    /// The build of the event before, and how many in a row: nearly all are of one.
    current: String,
    run: u64,
    counts: BTreeMap<String, u64>,
}

impl Writers {
    const MOST: usize = 8;
    /// A SHA-256, and what may be said after it.
    const LONGEST: usize = 80;

    pub(super) fn observe(&mut self, build: Option<&str>) {
        let build = build.filter(|build| build.len() <= Self::LONGEST).unwrap_or(UNKNOWN);
        if build != self.current {
            self.count();
            build.clone_into(&mut self.current);
        }
        self.run += 1;
    }

    fn count(&mut self) {
        let run = std::mem::take(&mut self.run);
        if run == 0 {
            return;
        }
        let name = std::mem::take(&mut self.current);
        let name = if self.counts.len() < Self::MOST || self.counts.contains_key(&name) {
            name
        } else {
            UNKNOWN.to_owned()
        };
        *self.counts.entry(name).or_default() += run;
    }

    pub(super) fn finish(mut self) -> BTreeMap<String, u64> {
        self.count();
        self.counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_counted_by_the_build_that_wrote_them_and_no_more_builds_than_eight() {
        let mut writers = Writers::default();
        let builds: Vec<String> = (0..12).map(|build| format!("build-{build}")).collect();
        for build in builds.iter().chain(&builds[..2]) {
            writers.observe(Some(build));
            writers.observe(Some(build));
        }
        writers.observe(None);
        writers.observe(Some(&"f".repeat(1000)));
        let counts = writers.finish();
        assert_eq!(counts.values().sum::<u64>(), 30);
        assert_eq!((counts["build-0"], counts["build-1"], counts["build-7"], counts[UNKNOWN]), (4, 4, 2, 10));
        assert_eq!(counts.len(), 9);
    }
}
