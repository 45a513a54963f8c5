//! A master with replicas, under Sentinels.

use super::{Options, RedisServer, wait_until};

/// What the Sentinels call the master.
pub const MASTER: &str = "qsc-test";

/// Servers, one of them the master, and the Sentinels that watch them.
#[derive(Debug)]
pub struct Sentinels {
    /// The first was the master at the start.
    pub servers: Vec<RedisServer>,
    /// All are needed for nothing, most of them for a failover.
    pub sentinels: Vec<RedisServer>,
}

impl Sentinels {
    /// Starts a master with `replicas` and `sentinels`, which go over to a replica when the master is silent for half a
    /// second. `options` are those of the servers, `sentinel_options` further ones of the Sentinels.
    ///
    /// # Panics
    /// If they are installed and do not start.
    #[must_use]
    pub fn start(
        replicas: usize,
        sentinels: usize,
        options: &Options<'_>,
        sentinel_options: &Options<'_>,
    ) -> Option<Self> {
        let master = RedisServer::start(options)?;
        let replicaof = format!("replicaof 127.0.0.1 {}", master.port());
        let config = [options.config, &[&replicaof, "repl-diskless-sync-delay 0"]].concat();
        let mut servers = vec![master];
        for _ in 0..replicas {
            servers.push(RedisServer::start(&Options { config: &config, ..*options })?);
        }
        let quorum = sentinels / 2 + 1;
        let watch = [
            format!("sentinel monitor {MASTER} 127.0.0.1 {} {quorum}", servers[0].port()),
            format!("sentinel down-after-milliseconds {MASTER} 500"),
            format!("sentinel failover-timeout {MASTER} 3000"),
        ];
        let mut config: Vec<&str> = watch.iter().map(String::as_str).collect();
        config.extend(sentinel_options.config);
        let options = Options { config: &config, sentinel: true, ..*sentinel_options };
        let sentinels = (0..sentinels).map(|_| RedisServer::start(&options)).collect::<Option<Vec<_>>>()?;
        let group = Self { servers, sentinels };
        group.wait_for(replicas);
        Some(group)
    }

    /// Until every replica follows and every Sentinel knows of the replicas and the others.
    fn wait_for(&self, replicas: usize) {
        for replica in &self.servers[1..] {
            wait_until("replication", || {
                replica.ask::<String>("INFO replication").contains("master_link_status:up")
            });
        }
        let others = self.sentinels.len() - 1;
        for sentinel in &self.sentinels {
            wait_until("acquaintance of the Sentinels", || {
                sentinel.ask::<String>("INFO sentinel").contains(&format!(
                    "status=ok,address=127.0.0.1:{},slaves={replicas},sentinels={}",
                    self.servers[0].port(),
                    others + 1
                ))
            });
        }
    }

    /// The URL of the master through the Sentinels; `login` is empty or `user:password@`.
    #[must_use]
    pub fn url(&self, login: &str) -> String {
        let scheme = if self.sentinels[0].tcp_url("").starts_with("rediss") { "rediss" } else { "redis" };
        let hosts: Vec<String> =
            self.sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port())).collect();
        format!("{scheme}-sentinel://{login}{}/{MASTER}", hosts.join(","))
    }

    /// Which of the servers the Sentinels call the master.
    #[must_use]
    pub fn master(&self) -> usize {
        let (_, port): (String, u16) =
            self.sentinels[0].ask(&format!("SENTINEL GET-MASTER-ADDR-BY-NAME {MASTER}"));
        self.servers.iter().position(|server| server.port() == port).expect("the master is one of ours")
    }
}
