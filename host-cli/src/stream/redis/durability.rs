//! What a server keeps when it, its machine or its master is lost, as far as it says.

use std::collections::HashMap;

use redis::Value;

use super::{Link, Trouble};

/// The settings that decide what is kept. Each is `None` where the server does not say: `CONFIG GET` may be forbidden.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Durability {
    /// `appendonly`: whether writes go to a log on disk.
    pub appendonly: Option<bool>,
    /// `appendfsync`: when the log reaches the disk (`always`, `everysec`, `no`).
    pub appendfsync: Option<String>,
    /// `maxmemory` in bytes; 0 is no bound.
    pub maxmemory: Option<u64>,
    /// `maxmemory-policy`: what happens at the bound.
    pub maxmemory_policy: Option<String>,
    /// `min-replicas-to-write`: with fewer replicas in touch, writes are refused.
    pub min_replicas_to_write: Option<u64>,
    /// Replicas connected now.
    pub replicas: Option<u64>,
}

impl Durability {
    /// Asks the server of `link`. Changes nothing.
    ///
    /// # Errors
    /// The connection was lost. A refusal is no error: what is not said is `None`.
    pub fn inspect(link: &mut Link) -> Result<Self, Trouble> {
        // One by one: `CONFIG GET *` would bring the server's passwords along.
        let mut setting = |name: &str| -> Result<Option<String>, Trouble> {
            Ok(said::<HashMap<String, String>>(link, "CONFIG", &["GET", name])?
                .and_then(|mut settings| settings.remove(name)))
        };
        let appendonly = setting("appendonly")?;
        let appendfsync = setting("appendfsync")?;
        let maxmemory = setting("maxmemory")?;
        let maxmemory_policy = setting("maxmemory-policy")?;
        let min_replicas_to_write = setting("min-replicas-to-write")?;
        let number = |text: Option<String>| text.and_then(|text| text.parse().ok());
        let replication: Option<String> = said(link, "INFO", &["replication"])?;
        let replicas = replication.as_deref().and_then(|text| {
            text.lines().find_map(|line| line.strip_prefix("connected_slaves:"))?.trim().parse().ok()
        });
        Ok(Self {
            appendonly: appendonly.map(|text| text == "yes"),
            appendfsync,
            maxmemory: number(maxmemory),
            maxmemory_policy,
            min_replicas_to_write: number(min_replicas_to_write),
            replicas,
        })
    }

    /// One sentence for each way in which acknowledged writes may be lost, and what to set against it. Empty: the server
    /// keeps what it acknowledges.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let mut warn = |text: &str| warnings.push(text.to_owned());
        match (self.appendonly, self.appendfsync.as_deref()) {
            (None, _) | (Some(true), None) => warn(
                "Redis does not say whether it keeps what it acknowledges (CONFIG GET is not permitted); permit it, or \
                 make sure of appendonly yes and appendfsync always",
            ),
            (Some(false), _) => warn(
                "Redis keeps no log (appendonly no): when it ends, everything since its last snapshot is lost; set \
                 appendonly yes and appendfsync always",
            ),
            (Some(true), Some("always")) => {}
            (Some(true), Some("everysec")) => warn(
                "Redis writes its log to disk once a second (appendfsync everysec): a crash may lose what it \
                 acknowledged in the last two seconds; set appendfsync always to keep it",
            ),
            (Some(true), Some(policy)) => warn(&format!(
                "Redis leaves it to the kernel when its log reaches the disk (appendfsync {policy}): a crash of the machine \
                 may lose half a minute; set appendfsync always"
            )),
        }
        let evicts = self.maxmemory_policy.as_deref().filter(|policy| policy.starts_with("allkeys"));
        if let (Some(1..), Some(policy)) = (self.maxmemory, evicts) {
            warn(&format!(
                "Redis may throw whole streams away when its memory is full (maxmemory-policy {policy}); set noeviction"
            ));
        }
        if let (Some(1..), Some(0)) = (self.replicas, self.min_replicas_to_write) {
            warn(
                "Redis acknowledges writes that no replica has (min-replicas-to-write 0): a failover may lose them; set it \
                 to 1, and min-replicas-max-lag low",
            );
        }
        warnings
    }
}

/// The answer; `None` if the server refuses it or answers something else.
fn said<T: redis::FromRedisValue>(
    link: &mut Link,
    command: &str,
    arguments: &[&str],
) -> Result<Option<T>, Trouble> {
    match link.query::<Value>(redis::cmd(command).arg(arguments)) {
        Ok(value) => Ok(T::from_redis_value(value).ok()),
        Err(Trouble::Refused { .. }) => Ok(None),
        Err(trouble) => Err(trouble),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn safe() -> Durability {
        Durability {
            appendonly: Some(true),
            appendfsync: Some("always".to_owned()),
            maxmemory: Some(0),
            maxmemory_policy: Some("noeviction".to_owned()),
            min_replicas_to_write: Some(1),
            replicas: Some(1),
        }
    }

    #[test]
    fn what_loses_nothing_is_not_warned_of() {
        assert_eq!(safe().warnings(), Vec::<String>::new());
        let alone = Durability { replicas: Some(0), min_replicas_to_write: Some(0), ..safe() };
        assert_eq!(alone.warnings(), Vec::<String>::new());
        let unbounded = Durability { maxmemory_policy: Some("allkeys-lru".to_owned()), ..safe() };
        assert_eq!(unbounded.warnings(), Vec::<String>::new(), "nothing is evicted without a bound");
    }

    #[test]
    fn each_way_to_lose_has_its_warning() {
        let fsync = |policy: &str| Durability { appendfsync: Some(policy.to_owned()), ..safe() };
        for (durability, named) in [
            (Durability::default(), "does not say"),
            (Durability { appendfsync: None, ..safe() }, "does not say"),
            (Durability { appendonly: Some(false), ..safe() }, "appendonly no"),
            (fsync("everysec"), "last two seconds"),
            (fsync("no"), "appendfsync no"),
            (
                Durability { maxmemory: Some(1), maxmemory_policy: Some("allkeys-lru".to_owned()), ..safe() },
                "allkeys-lru",
            ),
            (Durability { min_replicas_to_write: Some(0), ..safe() }, "min-replicas-to-write 0"),
        ] {
            let warnings = durability.warnings();
            assert!(warnings.len() == 1 && warnings[0].contains(named), "{durability:?}: {warnings:?}");
        }
    }
}
