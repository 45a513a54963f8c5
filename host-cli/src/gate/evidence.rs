//! Which events a verdict was made from.

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::digest;
use crate::stream::{EventId, Item};

/// The events seen, so that a verdict can be bound to them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Evidence {
    /// Id of the first event, `null` if there was none with an id.
    pub first_id: Option<String>,
    /// Id of the last event.
    pub last_id: Option<String>,
    /// Events seen, corrupt ones included.
    pub count: u64,
    /// SHA-256 over all of them in order. An event adds its id, its payload's length as 8 bytes little-endian and
    /// its payload; an entry that is no event adds its id (`-` without one), 8 bytes 0xff and the reason.
    pub sha256: String,
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
        self.last = id.or(self.last);
    }

    pub(super) fn finish(self) -> Evidence {
        Evidence {
            first_id: self.first.map(|id| id.to_string()),
            last_id: self.last.map(|id| id.to_string()),
            count: self.count,
            sha256: digest::hex(&self.hash.finalize()),
            simulated: 0,
        }
    }
}
