//! The connection that reads and writes a stream.

use std::time::Duration;

use anyhow::anyhow;
use redis::{Cmd, FromRedisValue, Pipeline, RedisError, RedisResult, Value};

use super::wire::Wire;
use super::{LinkOptions, RedisAddress, Trouble};

/// A connection to the server (of a Cluster: the node) that owns a key; made again after it is lost, by who uses it.
pub struct Link {
    address: RedisAddress,
    key: String,
    options: LinkOptions,
    reply_timeout: Duration,
    wire: Option<Wire>,
}

impl Link {
    /// Connects to the server that owns `key`.
    ///
    /// # Errors
    /// One sentence on why there is no connection.
    pub fn connect(address: &RedisAddress, key: &str, options: &LinkOptions) -> anyhow::Result<Self> {
        let mut link = Self {
            address: address.clone(),
            key: key.to_owned(),
            options: options.clone(),
            reply_timeout: options.reply_timeout,
            wire: None,
        };
        link.reconnect().map_err(|trouble| anyhow!("Redis at {address}: {trouble}"))?;
        Ok(link)
    }

    /// Sends `cmd` once and reads its answer.
    ///
    /// # Errors
    /// What became of it. After `Unreachable` and `Unknown` there is no connection until [`reconnect`](Self::reconnect).
    pub fn query<T: FromRedisValue>(&mut self, cmd: &Cmd) -> Result<T, Trouble> {
        self.ask(|wire| cmd.query(wire))
    }

    /// Sends all of `pipe` once and reads its answers.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    pub fn pipeline<T: FromRedisValue>(&mut self, pipe: &Pipeline) -> Result<T, Trouble> {
        self.ask(|wire| pipe.query(wire))
    }

    /// Sends a packed command; its answer is read later, with [`receive`](Self::receive), in the order of sending.
    /// Redirections of a Cluster are not followed.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        self.ask(|wire| wire.send(bytes))
    }

    /// Reads the answer to the oldest command sent ahead and not answered yet.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    pub fn receive(&mut self) -> Result<Value, Trouble> {
        self.ask(|wire| match wire.receive()? {
            Value::ServerError(error) => Err(error.into()),
            answer => Ok(answer),
        })
    }

    fn ask<T>(&mut self, ask: impl Fn(&mut Wire) -> RedisResult<T>) -> Result<T, Trouble> {
        let Some(wire) = &mut self.wire else {
            return Err(Trouble::Unreachable("not connected".to_owned()));
        };
        let result = ask(wire);
        if wire.is_lost() {
            self.wire = None;
        }
        result.map_err(|error| {
            Trouble::refusal(&error).unwrap_or_else(|| Trouble::Unknown(format!("no answer ({error})")))
        })
    }

    /// One attempt to connect anew; what was open is closed first.
    ///
    /// # Errors
    /// Why there is no connection: `Unreachable` or `Refused`.
    pub fn reconnect(&mut self) -> Result<(), Trouble> {
        self.wire = None;
        let open = || -> Result<Wire, RedisError> {
            let wire = Wire::open(self.address.info(), &self.options)?;
            wire.set_reply_timeout(self.reply_timeout)?;
            Ok(wire)
        };
        let wire = open().map_err(|error| {
            Trouble::refusal(&error)
                .unwrap_or_else(|| Trouble::Unreachable(format!("cannot be reached ({error})")))
        })?;
        self.wire = Some(wire);
        Ok(())
    }

    /// Waits this long for answers from here on, on this connection and later ones: a command that blocks needs longer
    /// than it blocks.
    pub fn set_reply_timeout(&mut self, timeout: Duration) {
        self.reply_timeout = timeout;
        // A socket that takes no time-out is of no use.
        if self.wire.as_ref().is_some_and(|wire| wire.set_reply_timeout(timeout).is_err()) {
            self.wire = None;
        }
    }

    /// Whether there is a connection that nothing is known against.
    #[must_use]
    pub const fn is_connected(&self) -> bool {
        self.wire.is_some()
    }

    /// What was connected to.
    #[must_use]
    pub const fn address(&self) -> &RedisAddress {
        &self.address
    }

    /// The key whose server this is.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// How the connection is made.
    #[must_use]
    pub const fn options(&self) -> &LinkOptions {
        &self.options
    }
}
