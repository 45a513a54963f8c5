//! What is asked of a server before a consumer trusts it.

use std::collections::HashMap;

use anyhow::{Context as _, anyhow, ensure};

use super::Keys;
use crate::stream::{Durability, Link};

/// What INFO tells, by name.
struct Info(HashMap<String, String>);

impl Info {
    fn of(link: &mut Link) -> anyhow::Result<Self> {
        let mut info = redis::cmd("INFO");
        info.arg("server");
        let text: String = link.query(&info).map_err(|trouble| anyhow!(trouble.explain(link.address())))?;
        let pairs = text.lines().filter_map(|line| line.split_once(':'));
        Ok(Self(pairs.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()))
    }

    fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// What tells a server from every other one.
    fn run_id(&self) -> Option<&str> {
        self.0.get("run_id").map(String::as_str).filter(|id| !id.is_empty())
    }

    /// Whether both are of one server; `None` where that is not told.
    fn is_of_the_server_of(&self, other: &Self) -> Option<bool> {
        Some(self.run_id()? == other.run_id()?)
    }
}

/// Makes sure that the server can do what is needed; in what ways it may lose what it acknowledges.
///
/// # Errors
/// It is older than Redis 7, or its Cluster keeps the keys apart.
pub fn inspect(link: &mut Link, keys: &Keys) -> anyhow::Result<Vec<String>> {
    let info = Info::of(link)?;
    let address = link.address();
    let version = info.get("redis_version");
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    let major = major.with_context(|| format!("Redis at {address} does not tell its version"))?;
    ensure!(
        major >= 7,
        "Redis at {address} is version {version}; 7.0 or later is needed, whose scripts are refused whole or not at all"
    );
    ensure!(
        info.get("redis_mode") != "cluster" || keys.share_a_slot(),
        "Redis at {address} is a Cluster that keeps {} and {} apart; give both one hash tag, for instance {{qsc}}:features \
         and {{qsc}}:intents",
        keys.features,
        keys.intents
    );
    let kept = Durability::inspect(link).map_err(|trouble| anyhow!(trouble.explain(link.address())))?;
    Ok(kept.warnings())
}

/// Makes sure that both links speak to one server and database.
///
/// # Errors
/// They do not, or do not tell.
pub fn ensure_one_server(source: &mut Link, sink: &mut Link) -> anyhow::Result<()> {
    let same = Info::of(source)?.is_of_the_server_of(&Info::of(sink)?).with_context(|| {
        format!(
            "whether --source and --sink ({} and {}) are one server is not known, for it hides run_id in INFO server; permit \
             that",
            source.address(),
            sink.address()
        )
    })?;
    ensure!(
        same && source.address().db() == sink.address().db(),
        "--sink is another server or database than --source ({} and {}): an intent can only be added together with the \
         acknowledgement of its event where both are on one server; replicate the stream of intents from there",
        sink.address(),
        source.address()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_that_hide_who_they_are_are_not_taken_for_one() {
        let info = |run_id: Option<&str>| {
            Info(run_id.map(|id| ("run_id".to_owned(), id.to_owned())).into_iter().collect())
        };
        assert_eq!(info(Some("a")).is_of_the_server_of(&info(Some("a"))), Some(true));
        assert_eq!(info(Some("a")).is_of_the_server_of(&info(Some("b"))), Some(false));
        for (one, other) in [(None, None), (Some(""), Some("")), (Some("a"), None)] {
            assert_eq!(info(one).is_of_the_server_of(&info(other)), None, "{one:?} {other:?}");
        }
    }
}
