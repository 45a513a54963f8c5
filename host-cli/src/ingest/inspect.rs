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
}

/// Makes sure that the server can do what is needed; in what ways it may lose
/// what it acknowledges.
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
/// They do not.
pub fn ensure_one_server(source: &mut Link, sink: &mut Link) -> anyhow::Result<()> {
    let run_id = |link: &mut Link| -> anyhow::Result<String> { Ok(Info::of(link)?.get("run_id").to_owned()) };
    let same = run_id(source)? == run_id(sink)? && source.address().db() == sink.address().db();
    ensure!(
        same,
        "--sink is another server or database than --source ({} and {}): an intent can only be added together with the \
         acknowledgement of its event where both are on one server; replicate the stream of intents from there",
        sink.address(),
        source.address()
    );
    Ok(())
}
