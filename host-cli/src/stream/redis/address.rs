//! What a Redis URL names.

use std::fmt;

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _};

const DEFAULT_PORT: u16 = 6379;
const DEFAULT_SENTINEL_PORT: u16 = 26379;

const FORMS: &str = "expected redis://[user:pass@]host:port[/db], rediss:// for TLS, \
     redis+unix:///path/to/socket[?db=N&user=…&pass=…], redis-sentinel://host:port,…/MASTER[/db] or \
     redis-cluster://host:port,… (with TLS: rediss-sentinel://, rediss-cluster://), with special characters in the \
     password percent-encoded";

/// Where Redis is and how to log in. `Display` and `Debug` show neither user nor password.
#[derive(Clone)]
pub struct RedisAddress {
    place: Place,
    db: i64,
    user: Option<String>,
    password: Option<String>,
}

/// Which server is meant.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// This one.
    Server(ConnectionAddr),
    /// The one these Sentinels call the master of this name.
    Sentinels { sentinels: Vec<ConnectionAddr>, master: String },
    /// The node that owns the key, of the Cluster these nodes belong to.
    Cluster(Vec<ConnectionAddr>),
}

impl RedisAddress {
    /// Whether `scheme` is one of those read here.
    pub(in crate::stream) fn reads(scheme: &str) -> bool {
        let plain = scheme.strip_prefix("rediss").or_else(|| scheme.strip_prefix("redis"));
        matches!(plain, Some("" | "-sentinel" | "-cluster")) || matches!(scheme, "redis+unix" | "unix")
    }

    /// Reads a URL:
    /// `redis://[user:pass@]host:port[/db]`, `redis+unix:///socket[?db=N&user=…&pass=…]`,
    /// `redis-sentinel://[user:pass@]host:port,host:port/MASTER[/db]`, `redis-cluster://[user:pass@]host:port,host:port`;
    /// with TLS `rediss://`, `rediss-sentinel://`, `rediss-cluster://`.
    ///
    /// # Errors
    /// What form is expected; never quotes the URL.
    pub fn parse(url: &str) -> Result<Self, String> {
        let invalid = || format!("the Redis URL is not valid; {FORMS}");
        let (scheme, rest) = url.split_once("://").ok_or_else(invalid)?;
        if matches!(scheme, "redis+unix" | "unix") {
            // The library passes over what it does not know, and with it a database that is misspelt.
            if rest.contains('#') || !rest.split_once('?').is_none_or(|(_, query)| is_known(query)) {
                return Err(format!(
                    "the URL of a Redis socket takes db, user and pass in its query, each once, and no fragment; {FORMS}"
                ));
            }
            let info = url.into_connection_info().map_err(|_| invalid())?;
            return Ok(Self::new(Place::Server(info.addr().clone()), &info));
        }
        let (tls, kind) = match scheme.strip_prefix("rediss") {
            Some(kind) => ("rediss", kind),
            None => ("redis", scheme.strip_prefix("redis").ok_or_else(invalid)?),
        };
        if rest.contains(['?', '#']) {
            return Err(format!("a Redis URL takes neither a query nor a fragment; {FORMS}"));
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, hosts) =
            authority.rsplit_once('@').map_or(("", authority), |(login, hosts)| (login, hosts));
        let path = path.strip_suffix('/').unwrap_or(path);
        let (master, db) = match kind {
            "-sentinel" => path.split_once('/').unwrap_or((path, "")),
            _ => ("", path),
        };
        // The library reads each host as if it stood alone: brackets of IPv6, percent-encoding, bounds of ports.
        let default_port = if kind == "-sentinel" { DEFAULT_SENTINEL_PORT } else { DEFAULT_PORT };
        let read = |host: &str| {
            let port = match host.rsplit_once(':') {
                Some((_, port)) if !port.contains(']') => String::new(),
                _ => format!(":{default_port}"),
            };
            let login = if login.is_empty() { String::new() } else { format!("{login}@") };
            format!("{tls}://{login}{host}{port}/{db}").into_connection_info().map_err(|_| invalid())
        };
        let infos = hosts.split(',').map(read).collect::<Result<Vec<ConnectionInfo>, _>>()?;
        let first = infos.first().ok_or_else(invalid)?;
        let nodes: Vec<ConnectionAddr> = infos.iter().map(|info| info.addr().clone()).collect();
        let place = match kind {
            "" if nodes.len() == 1 => Place::Server(first.addr().clone()),
            "-cluster" if matches!(db, "" | "0") => Place::Cluster(nodes),
            "-cluster" => {
                return Err("a Redis Cluster has no databases; end the URL after the last port".to_owned());
            }
            "-sentinel" if is_master_name(master) => {
                Place::Sentinels { sentinels: nodes, master: master.to_owned() }
            }
            _ => return Err(invalid()),
        };
        Ok(Self::new(place, first))
    }

    fn new(place: Place, info: &ConnectionInfo) -> Self {
        let settings = info.redis_settings();
        Self {
            place,
            db: settings.db(),
            user: settings.username().map(str::to_owned),
            password: settings.password().map(str::to_owned),
        }
    }

    pub(super) const fn place(&self) -> &Place {
        &self.place
    }

    pub(crate) const fn db(&self) -> i64 {
        self.db
    }

    pub(super) fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    pub(super) fn password(&self) -> Option<&str> {
        self.password.as_deref()
    }

    /// Whether keys have owners: both streams of one script must then share a slot.
    #[must_use]
    pub const fn is_cluster(&self) -> bool {
        matches!(self.place, Place::Cluster(_))
    }
}

/// Whether a query names nothing but what is read from it, and nothing twice.
fn is_known(query: &str) -> bool {
    let mut left = vec!["db", "user", "pass"];
    query.split('&').all(|pair| {
        let name = pair.split_once('=').map_or(pair, |(name, _)| name);
        left.iter().position(|known| *known == name).map(|at| left.swap_remove(at)).is_some()
    })
}

/// What Sentinel itself takes for a name.
fn is_master_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|char| char.is_ascii_alphanumeric() || ".-_".contains(char))
}

impl fmt::Display for RedisAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Server(server) => write!(formatter, "{server}")?,
            Place::Sentinels { sentinels, master } => {
                write!(formatter, "{} (Sentinels of {master})", list(sentinels))?;
            }
            Place::Cluster(nodes) => write!(formatter, "{} (Cluster)", list(nodes))?,
        }
        match self.db {
            0 => Ok(()),
            db => write!(formatter, "/{db}"),
        }
    }
}

/// `host:port,host:port`
pub(super) fn list(nodes: &[ConnectionAddr]) -> String {
    nodes.iter().map(ConnectionAddr::to_string).collect::<Vec<_>>().join(",")
}

impl fmt::Debug for RedisAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "RedisAddress({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read() {
        for (url, shown) in [
            ("redis://h:6380/3", "h:6380/3"),
            ("redis://h", "h:6379"),
            ("rediss://u:p@h/1", "h:6379/1"),
            ("redis+unix:///run/r.sock?db=2&user=u&pass=p", "/run/r.sock/2"),
            ("unix:///run/r.sock", "/run/r.sock"),
            ("redis-sentinel://a:1,b/mymaster", "a:1,b:26379 (Sentinels of mymaster)"),
            ("rediss-sentinel://u:p@a:1,[::1]:2/my.master/4", "a:1,::1:2 (Sentinels of my.master)/4"),
            ("redis-cluster://a:1,b,c:3", "a:1,b:6379,c:3 (Cluster)"),
            ("rediss-cluster://:p@a:1/", "a:1 (Cluster)"),
        ] {
            let address = RedisAddress::parse(url).unwrap_or_else(|error| panic!("{url}: {error}"));
            assert_eq!(address.to_string(), shown);
            assert!(RedisAddress::reads(url.split_once("://").unwrap().0), "{url}");
        }
    }

    #[test]
    fn tls_and_login_reach_every_node() {
        let address = RedisAddress::parse("rediss-cluster://tr%40der:p%2Fw@a:1,b:2").unwrap();
        assert_eq!((address.user(), address.password()), (Some("tr@der"), Some("p/w")));
        let Place::Cluster(nodes) = address.place() else { panic!("a Cluster") };
        assert!(nodes.iter().all(|node| matches!(node, ConnectionAddr::TcpTls { insecure: false, .. })));
    }

    #[test]
    fn what_is_no_address_is_refused_without_its_secret() {
        for url in [
            "redis://u:hunter2@h:port",
            "redis://u:hunter2@a,b",
            "redis://u:hunter2@h/x",
            "rediss://u:hunter2@h#insecure",
            "redis://u:hunter2@h?protocol=resp3",
            "redis-cluster://u:hunter2@a:1/3",
            "redis-cluster://u:hunter2@a:1,,b",
            "redis-sentinel://u:hunter2@a:1",
            "redis-sentinel://u:hunter2@a:1/",
            "redis-sentinel://u:hunter2@a:1/my master",
            "redis-sentinel://u:hunter2@a:1/m/x",
            "redis-other://u:hunter2@a",
            "redis+unix:///run/r.sock?database=2&pass=hunter2",
            "redis+unix:///run/r.sock?db=2&protocol=resp3&pass=hunter2",
            "redis+unix:///run/r.sock?db=2&db=3&pass=hunter2",
            "redis+unix:///run/r.sock?pass=hunter2#2",
            "unix:///run/r.sock?pass=hunter2&",
            "redis://",
        ] {
            let error = RedisAddress::parse(url).expect_err(url);
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
