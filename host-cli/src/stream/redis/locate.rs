//! Which server owns a key: the one named, the one Sentinels name, or the one a Cluster's slots name.

use std::ops::RangeInclusive;

use redis::{ConnectionAddr, FromRedisValue as _, Value};

use super::address::{Place, list};
use super::login::Login;
use super::wire::Wire;
use super::{LinkOptions, RedisAddress, Trouble};

const SLOTS: u16 = 16384;

/// The slot of a key in a Cluster: of what stands in its first `{…}`, or of all of it.
#[must_use]
pub fn key_slot(key: &str) -> u16 {
    let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag);
    let hashed = tag.filter(|tag| !tag.is_empty()).unwrap_or(key);
    crc16::State::<crc16::XMODEM>::calculate(hashed.as_bytes()) % SLOTS
}

/// Finds servers, and remembers whom to ask.
pub(super) struct Locator {
    /// Sentinels, or nodes of a Cluster; who answered last is first.
    known: Vec<ConnectionAddr>,
}

impl Locator {
    pub(super) fn new(address: &RedisAddress) -> Self {
        let known = match address.place() {
            Place::Server(_) => Vec::new(),
            Place::Sentinels { sentinels, .. } => sentinels.clone(),
            Place::Cluster(nodes) => nodes.clone(),
        };
        Self { known }
    }

    /// Connects to the server that owns `key`. One attempt, which asks whoever is known until one answers.
    pub(super) fn connect(
        &mut self,
        address: &RedisAddress,
        key: &str,
        options: &LinkOptions,
    ) -> Result<Wire, Trouble> {
        let login = Login::to_server(address, options)?;
        match address.place() {
            Place::Server(server) => Wire::open(server, &login, options),
            Place::Sentinels { sentinels, master } => {
                let nobody = || {
                    Trouble::Unreachable(format!(
                        "no Sentinel at {} that answers knows a master {master}; SENTINEL MASTERS tells the names they know",
                        list(sentinels)
                    ))
                };
                self.ask_each(nobody, |sentinel| through_sentinel(sentinel, master, &login, options))
            }
            Place::Cluster(seeds) => {
                let slot = key_slot(key);
                let nobody = || Trouble::Refused {
                    code: "CLUSTERDOWN".to_owned(),
                    message: format!("no node serves the slot {slot} of the key {key}"),
                };
                let mut named = Vec::new();
                let wire =
                    self.ask_each(nobody, |node| through_node(node, slot, &login, options, &mut named));
                if !named.is_empty() {
                    // Nodes that left are forgotten, but for those the URL names.
                    self.known.clear();
                    named.into_iter().chain(seeds.iter().cloned()).for_each(|node| self.remember(node));
                }
                wire
            }
        }
    }

    /// Takes note of a node that another one named.
    pub(super) fn remember(&mut self, node: ConnectionAddr) {
        if !self.known.contains(&node) {
            self.known.push(node);
        }
    }

    /// Asks one after the other until one leads to a connection, or refuses; who does not goes to the end of the line.
    /// `nobody` says that those who answered know of no such server.
    fn ask_each(
        &mut self,
        nobody: impl FnOnce() -> Trouble,
        mut ask: impl FnMut(&ConnectionAddr) -> Result<Option<Wire>, Trouble>,
    ) -> Result<Wire, Trouble> {
        let mut unreachable = None;
        let mut answered = false;
        for _ in 0..self.known.len() {
            match self.known.first().map(&mut ask) {
                Some(Ok(Some(wire))) => return Ok(wire),
                Some(Err(trouble @ Trouble::Unreachable(_))) => unreachable = Some(trouble),
                Some(Err(trouble)) => return Err(trouble),
                Some(Ok(None)) | None => answered = true,
            }
            self.known.rotate_left(1);
        }
        Err(unreachable.filter(|_| !answered).unwrap_or_else(nobody))
    }
}

/// `None`: the Sentinel knows no such master.
fn through_sentinel(
    sentinel: &ConnectionAddr,
    master: &str,
    login: &Login,
    options: &LinkOptions,
) -> Result<Option<Wire>, Trouble> {
    let own = |trouble: Trouble| match trouble {
        Trouble::Refused { code, message } => Trouble::Unreachable(format!(
            "the Sentinel at {sentinel} refused ({code} {message}); check --redis-sentinel-user and \
             --redis-sentinel-password-file"
        )),
        trouble => trouble,
    };
    let mut asked = Wire::open(sentinel, &Login::to_sentinel(options)?, options).map_err(own)?;
    let mut question = redis::cmd("SENTINEL");
    question.arg("GET-MASTER-ADDR-BY-NAME").arg(master);
    let Some((host, port)) = asked.ask::<Option<(String, u16)>>(&question).map_err(own)? else {
        return Ok(None);
    };
    let mut wire = Wire::open(&beside(sentinel, host, port), login, options)?;
    // A Sentinel may not have heard yet of a failover: what it names must call itself the master.
    match wire.ask::<Vec<Value>>(&redis::cmd("ROLE")) {
        Ok(role) => match role.first().map(String::from_redis_value_ref) {
            Some(Ok(role)) if role == "master" => Ok(Some(wire)),
            _ => Err(Trouble::Unreachable(format!(
                "Redis at {}, which the Sentinel at {sentinel} names as the master {master}, is a replica: a failover \
                 is under way",
                wire.node()
            ))),
        },
        // A user who may not ask will hear of it at the first write.
        Err(Trouble::Refused { code, .. }) if code == "NOPERM" => Ok(Some(wire)),
        Err(trouble) => Err(trouble),
    }
}

/// `None`: no node serves the slot. Adds all nodes of the Cluster to `named`, first the one that answered.
fn through_node(
    node: &ConnectionAddr,
    slot: u16,
    login: &Login,
    options: &LinkOptions,
    named: &mut Vec<ConnectionAddr>,
) -> Result<Option<Wire>, Trouble> {
    let mut wire = Wire::open(node, login, options)?;
    let mut question = redis::cmd("CLUSTER");
    question.arg("SLOTS");
    let ranges: Vec<Value> = wire.ask(&question).map_err(|trouble| match trouble {
        Trouble::Refused { message, .. } if message.contains("cluster support disabled") => {
            Trouble::Unreachable(format!("Redis at {node} is no node of a Cluster; name it as redis://"))
        }
        trouble => trouble,
    })?;
    named.push(node.clone());
    let mut owner = None;
    for (slots, nodes) in ranges.iter().filter_map(|range| slot_range(range, node)) {
        if slots.contains(&slot) {
            owner = nodes.first().cloned();
        }
        named.extend(nodes);
    }
    match owner {
        Some(owner) if owner != *node => Wire::open(&owner, login, options).map(Some),
        owner => Ok(owner.map(|_| wire)),
    }
}

/// An entry of CLUSTER SLOTS: a range, and its nodes, the master first.
fn slot_range(value: &Value, asked: &ConnectionAddr) -> Option<(RangeInclusive<u16>, Vec<ConnectionAddr>)> {
    let Value::Array(fields) = value else { return None };
    let [from, to, nodes @ ..] = fields.as_slice() else { return None };
    let nodes = nodes.iter().map(|node| endpoint(node, asked)).collect::<Option<Vec<_>>>()?;
    Some((number(from)?..=number(to)?, nodes))
}

/// A node as `asked` names it.
fn endpoint(value: &Value, asked: &ConnectionAddr) -> Option<ConnectionAddr> {
    let Value::Array(fields) = value else { return None };
    let [host, port, ..] = fields.as_slice() else { return None };
    let host = Option::<String>::from_redis_value_ref(host).ok()?.unwrap_or_default();
    Some(beside(asked, host, number(port)?))
}

/// A slot or a port. Read as an i64 first: redis-rs wraps what does not fit.
fn number(value: &Value) -> Option<u16> {
    u16::try_from(i64::from_redis_value_ref(value).ok()?).ok()
}

/// The server at `host` and `port`, spoken to as `node` is. An empty host is that of `node`: a Cluster whose nodes do
/// not know by what name they are reached leaves it out.
pub(super) fn beside(node: &ConnectionAddr, host: String, port: u16) -> ConnectionAddr {
    match node {
        ConnectionAddr::TcpTls { host: own, .. } => ConnectionAddr::TcpTls {
            host: if host.is_empty() { own.clone() } else { host },
            port,
            insecure: false,
            tls_params: None,
        },
        ConnectionAddr::Tcp(own, _) if host.is_empty() => ConnectionAddr::Tcp(own.clone(), port),
        _ => ConnectionAddr::Tcp(host, port),
    }
}

#[cfg(test)]
mod tests {
    use redis::cluster_routing::Slot;

    use super::*;

    #[test]
    fn keys_share_a_slot_by_their_tag() {
        // From the specification of Redis Cluster.
        assert_eq!(key_slot("123456789"), 12739);
        assert_eq!(key_slot("{user1000}.following"), key_slot("{user1000}.followers"));
        for key in ["", "a", "{}", "{}{a}", "a{b", "a}b{c}", "{a{b}c}", "x{shard-3}y", "Ω{µ}"] {
            assert_eq!(Slot::new(key_slot(key)), Some(Slot::for_key(key)), "as the library has it: {key}");
        }
        assert_ne!(key_slot("quantum:stream:trade.intent"), key_slot("quantum:stream:market.features"));
    }

    #[test]
    fn nodes_are_spoken_to_as_the_one_that_names_them() {
        let plain = ConnectionAddr::Tcp("a".to_owned(), 1);
        assert_eq!(beside(&plain, "b".to_owned(), 2), ConnectionAddr::Tcp("b".to_owned(), 2));
        assert_eq!(beside(&plain, String::new(), 2), ConnectionAddr::Tcp("a".to_owned(), 2));
        let tls = |host: &str, port| ConnectionAddr::TcpTls {
            host: host.to_owned(),
            port,
            insecure: false,
            tls_params: None,
        };
        assert_eq!(beside(&tls("a", 1), "b".to_owned(), 2), tls("b", 2));
        assert_eq!(beside(&tls("a", 1), String::new(), 2), tls("a", 2));
    }

    #[test]
    fn an_entry_of_cluster_slots_is_read() {
        let node = |host: Value, port| {
            Value::Array(vec![
                host,
                Value::Int(port),
                Value::BulkString(b"id".to_vec()),
                Value::Array(Vec::new()),
            ])
        };
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let asked = ConnectionAddr::Tcp("a".to_owned(), 1);
        let entry = |nodes: Vec<Value>| Value::Array([vec![Value::Int(0), Value::Int(99)], nodes].concat());
        let read = slot_range(&entry(vec![node(text("b"), 2), node(Value::Nil, 3)]), &asked);
        let nodes = vec![ConnectionAddr::Tcp("b".to_owned(), 2), ConnectionAddr::Tcp("a".to_owned(), 3)];
        assert_eq!(read, Some((0..=99, nodes)));
        for bad in [Value::Nil, Value::Array(vec![Value::Int(0)]), entry(vec![node(text("b"), 70_000)])] {
            assert_eq!(slot_range(&bad, &asked), None);
        }
    }
}
