//! What a Redis URL names.

use std::fmt;

use redis::{ConnectionInfo, IntoConnectionInfo as _};

/// Where a Redis server is and how to log in. `Display` and `Debug` show neither user nor password.
#[derive(Clone)]
pub struct RedisAddress(ConnectionInfo);

impl RedisAddress {
    /// Reads `redis://[user:pass@]host:port[/db]` or `redis+unix:///socket[?db=N&user=…&pass=…]`.
    ///
    /// # Errors
    /// What form is expected; never quotes the URL.
    pub fn parse(url: &str) -> Result<Self, String> {
        url.into_connection_info().map(Self).map_err(|_| {
            "the Redis URL is not valid; expected redis://[user:pass@]host:port[/db] or \
             redis+unix:///path/to/socket[?db=N], with special characters in the password percent-encoded"
                .to_owned()
        })
    }

    /// Number of the database.
    #[must_use]
    pub fn db(&self) -> i64 {
        self.0.redis_settings().db()
    }

    /// The server.
    pub(super) const fn info(&self) -> &ConnectionInfo {
        &self.0
    }
}

impl fmt::Display for RedisAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0.addr())?;
        match self.0.redis_settings().db() {
            0 => Ok(()),
            db => write!(formatter, "/{db}"),
        }
    }
}

impl fmt::Debug for RedisAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "RedisAddress({self})")
    }
}
