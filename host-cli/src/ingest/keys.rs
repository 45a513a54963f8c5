//! The keys of one feature stream and its intents, which one script touches together.

use crate::stream::{Shard, key_slot};

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
    /// The hash of the workers that share the shards of a stream, and until when each of them has been heard of.
    pub workers: String,
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
            workers: format!("{features}:workers:{group}"),
        };
        if [&keys.features, &keys.dead, &keys.owner, &keys.workers].contains(&&keys.intents) {
            return Err(format!(
                "intents cannot go to {intents}, which is {features} or belongs to it; name another key with --sink-stream"
            ));
        }
        Ok(keys)
    }

    /// The keys of one shard of `features`, turned into the same shard of `intents`.
    ///
    /// # Errors
    /// As [`new`](Self::new); or a hash tag in a name would keep all shards on one node.
    pub fn of_shard(shard: Shard, features: &str, intents: &str, group: &str) -> Result<Self, String> {
        if let Some(tagged) = [features, intents].into_iter().find(|name| name.contains('{')) {
            return Err(format!(
                "{tagged} has a hash tag of its own, which would keep all shards on one node; with --shards leave braces \
                 out, each shard adds its own"
            ));
        }
        Self::new(&shard.key(features), &shard.key(intents), group)
    }

    /// What the settling script touches, in its order.
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
    fn the_keys_of_a_shard_are_together() {
        let shard = Shard::new(3, 8.try_into().unwrap()).unwrap();
        let keys = Keys::of_shard(shard, "q:f", "q:i", "g").unwrap();
        assert_eq!((keys.features.as_str(), keys.intents.as_str()), ("q:f:{shard-3}", "q:i:{shard-3}"));
        assert!(keys.share_a_slot());
        assert!(Keys::of_shard(shard, "{q}:f", "q:i", "g").unwrap_err().contains("hash tag"));
    }

    #[test]
    fn one_hash_tag_keeps_all_keys_together() {
        assert!(Keys::new("{qsc}:features", "{qsc}:intents", "g").unwrap().share_a_slot());
        assert!(!Keys::new("quantum:features", "quantum:intents", "g").unwrap().share_a_slot());
        for intents in ["f", "f:dead", "f:owner:g", "f:workers:g"] {
            assert!(Keys::new("f", intents, "g").is_err(), "{intents}");
        }
    }
}
