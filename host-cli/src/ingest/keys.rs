//! The keys of one feature stream and its intents, which one script touches together.

use crate::stream::key_slot;

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
        self.all().iter().all(|key| key_slot(key) == key_slot(&self.features))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_hash_tag_keeps_all_keys_together() {
        assert!(Keys::new("{qsc}:features", "{qsc}:intents", "g").unwrap().share_a_slot());
        assert!(!Keys::new("quantum:features", "quantum:intents", "g").unwrap().share_a_slot());
        for intents in ["f", "f:dead", "f:owner:g"] {
            assert!(Keys::new("f", intents, "g").is_err(), "{intents}");
        }
    }
}
