//! One connection to one server, and whether it is still in step.

use std::time::Duration;

use redis::{
    Client, Cmd, Connection, ConnectionAddr, ConnectionLike, FromRedisValue, IntoConnectionInfo as _,
    RedisConnectionInfo, RedisError, RedisResult, Value,
};
use rustls::crypto::{CryptoProvider, ring};

use super::login::{Login, certificates};
use super::trouble::refusals;
use super::{LinkOptions, Trouble};

/// A connection that reads an answer for each command it wrote, or is out of step for good.
pub(super) struct Wire {
    connection: Connection,
    node: ConnectionAddr,
    /// An answer is missing or was no answer: what comes next belongs to nobody knows which command.
    lost: bool,
}

impl Wire {
    /// Connects and logs in.
    pub(super) fn open(node: &ConnectionAddr, login: &Login, options: &LinkOptions) -> Result<Self, Trouble> {
        let is_tls = matches!(node, ConnectionAddr::TcpTls { .. });
        let unreachable = |error: RedisError| Trouble::unreachable(&error, &node.to_string(), is_tls);
        // Nothing is said at first: the greeting below says it all, and hears every refusal.
        let silent = RedisConnectionInfo::default().set_skip_set_lib_name();
        let info = node.clone().into_connection_info().map_err(unreachable)?.set_redis_settings(silent);
        let client = if is_tls {
            if CryptoProvider::get_default().is_none() {
                // An error means that another thread was first, with the same provider.
                let _ = ring::default_provider().install_default();
            }
            Client::build_with_tls(info, certificates(&options.tls)?).map_err(|error| {
                Trouble::Unreachable(format!("TLS with Redis at {node} cannot be set up ({error})"))
            })?
        } else {
            Client::open(info).map_err(unreachable)?
        };
        let connect = || -> RedisResult<Connection> {
            let connection = client.get_connection_with_timeout(options.connect_timeout)?;
            connection.set_read_timeout(Some(options.connect_timeout))?;
            connection.set_write_timeout(Some(options.connect_timeout))?;
            Ok(connection)
        };
        let connection = connect().map_err(unreachable)?;
        let mut wire = Self { connection, node: node.clone(), lost: false };
        wire.greet(login).map_err(|trouble| trouble.unwrap_or_else(unreachable))?;
        let settled = wire.connection.set_write_timeout(Some(options.reply_timeout));
        settled.and_then(|()| wire.set_reply_timeout(options.reply_timeout)).map_err(unreachable)?;
        Ok(wire)
    }

    /// Logs in and makes sure that the server answers. The inner error is of the connection.
    fn greet(&mut self, login: &Login) -> Result<(), Result<Trouble, RedisError>> {
        let mut greeting = redis::pipe();
        if let Some(password) = &login.password {
            greeting.cmd("AUTH").arg(&login.user).arg(password);
        }
        if login.db != 0 {
            greeting.cmd("SELECT").arg(login.db);
        }
        // For operators, who see it in CLIENT LIST; a user who may not set it is none the worse for it.
        greeting.cmd("CLIENT").arg("SETNAME").arg("qsc");
        greeting.cmd("PING");
        self.connection.send_packed_command(&greeting.get_packed_pipeline()).map_err(Err)?;
        let mut refused = None;
        for (at, command) in greeting.cmd_iter().enumerate() {
            let error = match self.connection.recv_response() {
                Ok(Value::ServerError(error)) => error,
                Ok(_) => continue,
                // A server that has no room for one more client says so before it closes.
                Err(error) => return Err(refused.ok_or(error)),
            };
            let matters = match command.args_iter().next() {
                // A server whose disk is full refuses even PING: it is there, and what it takes is seen later.
                _ if at + 1 == greeting.len() => !matches!(error.code(), "NOPERM" | "MISCONF"),
                Some(redis::Arg::Simple(b"CLIENT")) => false,
                _ => true,
            };
            let trouble = match Trouble::refused(&error) {
                Trouble::Refused { code, message }
                    if at == 0 && login.password.is_some() && code == "ERR" =>
                {
                    Trouble::Refused { code: "WRONGPASS".to_owned(), message }
                }
                trouble => trouble,
            };
            if matters {
                return Err(Ok(trouble));
            }
            refused = Some(trouble);
        }
        Ok(())
    }

    /// A question that changes nothing: without an answer it is as if it had not been asked.
    pub(super) fn ask<T: FromRedisValue>(&mut self, question: &Cmd) -> Result<T, Trouble> {
        question.query(self).map_err(|error| match refusals(&error).first() {
            Some(refusal) => Trouble::refused(refusal),
            None => {
                let is_tls = matches!(self.node, ConnectionAddr::TcpTls { .. });
                Trouble::unreachable(&error, &self.node.to_string(), is_tls)
            }
        })
    }

    pub(super) fn set_reply_timeout(&self, timeout: Duration) -> RedisResult<()> {
        self.connection.set_read_timeout(Some(timeout))
    }

    pub(super) const fn is_lost(&self) -> bool {
        self.lost
    }

    /// Writes a command whose answer [`receive`](Self::receive) reads.
    pub(super) fn send(&mut self, bytes: &[u8]) -> RedisResult<()> {
        let sent = self.connection.send_packed_command(bytes);
        self.lost |= sent.is_err();
        sent
    }

    /// Reads one answer.
    pub(super) fn receive(&mut self) -> RedisResult<Value> {
        let answer = self.connection.recv_response();
        self.lost |= answer.is_err();
        answer
    }

    /// What this is connected to.
    pub(super) const fn node(&self) -> &ConnectionAddr {
        &self.node
    }

    fn exchange(&mut self, bytes: &[u8], answers: usize) -> RedisResult<Vec<Value>> {
        self.lost = true;
        self.connection.send_packed_command(bytes)?;
        // The first error of the connection is the last thing read from it: each further one would wait in vain.
        let values = (0..answers).map(|_| self.connection.recv_response()).collect::<RedisResult<_>>()?;
        self.lost = false;
        Ok(values)
    }
}

impl ConnectionLike for Wire {
    fn req_packed_command(&mut self, bytes: &[u8]) -> RedisResult<Value> {
        let mut values = self.exchange(bytes, 1)?;
        Ok(values.pop().unwrap_or(Value::Nil))
    }

    /// `offset` answers come first that only say whether a command was queued.
    fn req_packed_commands(&mut self, bytes: &[u8], offset: usize, count: usize) -> RedisResult<Vec<Value>> {
        let mut values = self.exchange(bytes, offset + count)?;
        let results = values.split_off(offset);
        let refused = values.into_iter().find_map(|value| match value {
            Value::ServerError(error) => Some(error),
            _ => None,
        });
        refused.map_or(Ok(results), |error| Err(error.into()))
    }

    fn get_db(&self) -> i64 {
        self.connection.get_db()
    }

    fn check_connection(&mut self) -> bool {
        redis::cmd("PING").exec(self).is_ok()
    }

    fn is_open(&self) -> bool {
        !self.lost && self.connection.is_open()
    }
}
