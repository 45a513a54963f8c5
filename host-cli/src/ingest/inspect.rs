//! What is asked of a server before a consumer trusts it.

use std::collections::HashMap;

use anyhow::{Context as _, anyhow, ensure};

use super::Keys;
use crate::stream::Link;

/// What INFO tells, by name.
struct Info(HashMap<String, String>);

impl Info {
    fn of(link: &mut Link, sections: &[&str]) -> anyhow::Result<Self> {
        let mut info = redis::cmd("INFO");
        info.arg(sections);
        let text: String =
            link.query(&info).map_err(|trouble| anyhow!("Redis at {}: {trouble}", link.address()))?;
        let pairs = text.lines().filter_map(|line| line.split_once(':'));
        Ok(Self(pairs.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()))
    }

    fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }
}

/// Makes sure that the server can do what is needed; what an operator should know of it.
///
/// # Errors
/// It is older than Redis 7, or its Cluster keeps the keys apart.
pub fn inspect(link: &mut Link, keys: &Keys) -> anyhow::Result<Vec<String>> {
    let info = Info::of(link, &["server", "persistence", "memory"])?;
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
    let mut advice = Vec::new();
    if info.get("aof_enabled") != "1" {
        advice.push(format!(
            "WARNING: Redis at {address} keeps no append-only file: when it crashes, events and intents since its last \
             snapshot are gone together; set appendonly yes (docs/ingest.md)"
        ));
    }
    let policy = info.get("maxmemory_policy");
    if info.get("maxmemory") != "0" && policy.starts_with("allkeys") {
        advice.push(format!(
            "WARNING: Redis at {address} may evict whole streams when its memory is full (maxmemory-policy {policy}); set \
             noeviction"
        ));
    }
    Ok(advice)
}

/// Makes sure that both links speak to one server and database.
///
/// # Errors
/// They do not.
pub fn ensure_one_server(source: &mut Link, sink: &mut Link) -> anyhow::Result<()> {
    let run_id = |link: &mut Link| Ok(Info::of(link, &["server"])?.get("run_id").to_owned());
    let ids: [anyhow::Result<String>; 2] = [run_id(source), run_id(sink)];
    let [source_id, sink_id] = ids;
    ensure!(
        source_id? == sink_id? && source.address().db() == sink.address().db(),
        "--sink is another server or database than --source ({} and {}): an intent can only be added together with the \
         acknowledgement of its event where both are on one server; replicate the stream of intents from there",
        sink.address(),
        source.address()
    );
    Ok(())
}
