//! The keys of one feature stream and its intents, which one script touches together.

/// Names of the keys, all in one slot.
#[derive(Clone, Debug)]
pub struct Keys {
    /// The stream of feature events.
    pub features: String,
    /// The stream of intents.
    pub intents: String,
    /// The stream of what could not be decided.
    pub dead: String,
    /// The hash that says who owns the stream, and how far it is settled.
    pub owner: String,
}

impl Keys {
    /// The keys for a group that turns `features` into `intents`.
    ///
    /// # Errors
    /// One key is meant to be two things.
    pub fn new(features: &str, intents: &str, group: &str) -> Result<Self, String> {
        let keys = Self {
            features: features.to_owned(),
            intents: intents.to_owned(),
            dead: format!("{features}:dead"),
            owner: format!("{features}:owner:{group}"),
        };
        if [&keys.features, &keys.dead, &keys.owner].contains(&&keys.intents) {
            return Err(format!(
                "intents cannot go to {intents}, which is {features} or belongs to it; name another key with --sink-stream"
            ));
        }
        Ok(keys)
    }

    /// All of them, as the settling script takes them.
    pub(super) fn all(&self) -> [&str; 4] {
        [&self.features, &self.intents, &self.dead, &self.owner]
    }

    /// Whether a Redis Cluster keeps all of them in one place.
    #[must_use]
    pub fn share_a_slot(&self) -> bool {
        self.all().iter().all(|key| slot(key) == slot(&self.features))
    }
}

/// The slot of a key in a Redis Cluster, from its hash tag if it has one (Redis Cluster specification).
#[must_use]
pub fn slot(key: &str) -> u16 {
    let tag = key.split_once('{').and_then(|(_, rest)| Some(rest.split_once('}')?.0));
    crc16(tag.filter(|tag| !tag.is_empty()).unwrap_or(key).as_bytes()) % 16384
}

/// CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc: u16, &byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
            (crc << 1) ^ if crc & 0x8000 == 0 { 0 } else { 0x1021 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
        assert_eq!(slot("foo"), 12182);
        assert_eq!(slot("{user1000}.following"), slot("{user1000}.followers"));
        assert_eq!(slot("foo{}{bar}"), crc16(b"foo{}{bar}") % 16384);
        assert_eq!(slot("foo{{bar}}zap"), slot("{bar"));
    }

    #[test]
    fn one_hash_tag_keeps_all_keys_together() {
        assert!(Keys::new("{qsc}:features", "{qsc}:intents", "g").unwrap().share_a_slot());
        assert!(!Keys::new("quantum:features", "quantum:intents", "g").unwrap().share_a_slot());
        for intents in ["f", "f:dead", "f:owner:g"] {
            assert!(Keys::new("f", intents, "g").is_err(), "{intents}");
        }
    }
}
