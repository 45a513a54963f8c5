//! A Redis Cluster.

use std::process::Command;

use super::server::free_port;
use super::{Options, RedisServer, wait_until};

/// Nodes that form a Cluster.
#[derive(Debug)]
pub struct Cluster {
    /// Masters first, at the start.
    pub nodes: Vec<RedisServer>,
}

impl Cluster {
    /// Starts `masters` (1, or at least 3), each with `replicas`; a replica takes over when its master is silent for a
    /// second.
    ///
    /// # Panics
    /// If they are installed and do not form a Cluster.
    #[must_use]
    pub fn start(masters: usize, replicas: usize, options: &Options<'_>) -> Option<Self> {
        let count = masters * (1 + replicas);
        let mut nodes = Vec::new();
        for _ in 0..count {
            // The default, the port and 10 000, need not be one.
            let bus = format!("cluster-port {}", free_port()?);
            let own =
                ["cluster-enabled yes", "cluster-node-timeout 1000", "repl-diskless-sync-delay 0", &bus];
            nodes
                .push(RedisServer::start(&Options { config: &[&own, options.config].concat(), ..*options })?);
        }
        let cluster = Self { nodes };
        if masters == 1 {
            cluster.nodes[0].ask::<()>("CLUSTER ADDSLOTSRANGE 0 16383");
        } else {
            cluster.create(replicas);
        }
        for node in &cluster.nodes {
            wait_until("agreement of the Cluster", || {
                let info: String = node.ask("CLUSTER INFO");
                info.contains("cluster_state:ok") && info.contains(&format!("cluster_known_nodes:{count}"))
            });
        }
        Some(cluster)
    }

    fn create(&self, replicas: usize) {
        let output = Command::new("redis-cli")
            .args(["--cluster", "create", "--cluster-yes", "--cluster-replicas", &replicas.to_string()])
            .args(self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port())))
            .output()
            .expect("redis-cli runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        for node in &self.nodes {
            wait_until("replication", || {
                let info: String = node.ask("INFO replication");
                info.contains("role:master") || info.contains("master_link_status:up")
            });
        }
    }

    /// The URL by way of the nodes at `entries`; `login` is empty or `user:password@`.
    #[must_use]
    pub fn url(&self, login: &str, entries: &[usize]) -> String {
        let scheme = if self.nodes[0].tcp_url("").starts_with("rediss") { "rediss" } else { "redis" };
        let hosts: Vec<String> =
            entries.iter().map(|&entry| format!("127.0.0.1:{}", self.nodes[entry].port())).collect();
        format!("{scheme}-cluster://{login}{}", hosts.join(","))
    }

    /// Which node is the master that `witness` says owns `slot`.
    ///
    /// # Panics
    /// If none is.
    #[must_use]
    pub fn owner(&self, slot: u16, witness: usize) -> usize {
        type Range = (u16, u16, (String, u16));
        let ranges: Vec<Vec<redis::Value>> = self.nodes[witness].ask("CLUSTER SLOTS");
        let ranges = ranges.into_iter().map(|mut range| {
            range.truncate(3);
            let mut master: Vec<redis::Value> =
                redis::from_redis_value(range.pop().expect("a master")).expect("a list");
            master.truncate(2);
            range.push(redis::Value::Array(master));
            redis::from_redis_value::<Range>(redis::Value::Array(range)).expect("a range of slots")
        });
        let (_, _, (_, port)) = ranges
            .into_iter()
            .find(|(from, to, _)| (*from..=*to).contains(&slot))
            .expect("an owner of the slot");
        self.nodes.iter().position(|node| node.port() == port).expect("the owner is one of ours")
    }
}
