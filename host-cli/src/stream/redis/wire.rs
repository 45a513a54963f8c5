//! One connection to one server, and whether it is still in step.

use std::cell::Cell;
use std::fmt;
use std::io::{self, Write as _};
use std::time::Duration;

use redis::{Cmd, ConnectionAddr, ConnectionLike, FromRedisValue, Parser, RedisError, RedisResult, Value};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, Stream};

use super::login::{Login, tls_config};
use super::socket::{Patient, Socket};
use super::trouble::refusals;
use super::{LinkOptions, Patience, Pulse, Trouble};

/// A connection that reads an answer for each command it wrote, or is out of step for good.
pub(super) struct Wire {
    socket: Socket,
    tls: Option<Box<ClientConnection>>,
    parser: Parser,
    node: ConnectionAddr,
    /// Longest wait for the socket.
    timeout: Cell<Duration>,
    pulse: Pulse,
    /// An answer is missing or was no answer: what comes next belongs to nobody knows which command.
    lost: bool,
}

impl Wire {
    /// Connects and logs in.
    pub(super) fn open(node: &ConnectionAddr, login: &Login, options: &LinkOptions) -> Result<Self, Trouble> {
        let tls = match node {
            ConnectionAddr::TcpTls { host, .. } => Some(Box::new(tls(node, host, options)?)),
            _ => None,
        };
        let is_tls = tls.is_some();
        let unreachable = |error: RedisError| Trouble::unreachable(&error, &node.to_string(), is_tls);
        let socket = Socket::connect(node, options.connect_timeout, &options.pulse)
            .and_then(|socket| {
                socket.set_read_timeout(options.connect_timeout)?;
                socket.set_write_timeout(options.connect_timeout)?;
                Ok(socket)
            })
            .map_err(|error| unreachable(error.into()))?;
        let mut wire = Self {
            socket,
            tls,
            parser: Parser::new(),
            node: node.clone(),
            timeout: Cell::new(options.connect_timeout),
            pulse: options.pulse.clone(),
            lost: false,
        };
        wire.greet(login).map_err(|trouble| trouble.unwrap_or_else(unreachable))?;
        wire.set_reply_timeout(options.reply_timeout).map_err(|error| unreachable(error.into()))?;
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
        self.write(&greeting.get_packed_pipeline()).map_err(Err)?;
        let mut refused = None;
        for (at, command) in greeting.cmd_iter().enumerate() {
            let error = match self.read(Patience::Asleep) {
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

    pub(super) fn set_reply_timeout(&self, timeout: Duration) -> io::Result<()> {
        self.timeout.set(timeout);
        self.socket.set_read_timeout(timeout)?;
        self.socket.set_write_timeout(timeout)
    }

    pub(super) const fn is_lost(&self) -> bool {
        self.lost
    }

    /// Writes a command whose answer [`receive`](Self::receive) reads.
    pub(super) fn send(&mut self, bytes: &[u8]) -> RedisResult<()> {
        let sent = self.write(bytes);
        self.lost |= sent.is_err();
        sent
    }

    /// Reads one answer.
    pub(super) fn receive(&mut self, patience: Patience<'_>) -> RedisResult<Value> {
        let answer = self.read(patience);
        self.lost |= answer.is_err();
        answer
    }

    /// What this is connected to.
    pub(super) const fn node(&self) -> &ConnectionAddr {
        &self.node
    }

    fn write(&mut self, bytes: &[u8]) -> RedisResult<()> {
        let mut socket = Patient {
            socket: &self.socket,
            patience: Patience::Asleep,
            timeout: self.timeout.get(),
            pulse: &self.pulse,
        };
        match &mut self.tls {
            None => socket.write_all(bytes)?,
            Some(tls) => {
                let mut stream = Stream::new(tls.as_mut(), &mut socket);
                stream.write_all(bytes)?;
                stream.flush()?;
            }
        }
        Ok(())
    }

    fn read(&mut self, patience: Patience<'_>) -> RedisResult<Value> {
        let mut socket =
            Patient { socket: &self.socket, patience, timeout: self.timeout.get(), pulse: &self.pulse };
        match &mut self.tls {
            None => self.parser.parse_value(socket),
            Some(tls) => self.parser.parse_value(Stream::new(tls.as_mut(), &mut socket)),
        }
    }

    fn exchange(&mut self, bytes: &[u8], answers: usize) -> RedisResult<Vec<Value>> {
        self.lost = true;
        self.write(bytes)?;
        // The first error of the connection is the last thing read from it: each further one would wait in vain.
        let values = (0..answers).map(|_| self.read(Patience::Asleep)).collect::<RedisResult<_>>()?;
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

    /// The login chose the database; this is asked of whoever manages connections, and here nobody does.
    fn get_db(&self) -> i64 {
        0
    }

    fn check_connection(&mut self) -> bool {
        redis::cmd("PING").exec(self).is_ok()
    }

    fn is_open(&self) -> bool {
        !self.lost
    }
}

/// TLS with the server at `host`, before its first byte.
fn tls(node: &ConnectionAddr, host: &str, options: &LinkOptions) -> Result<ClientConnection, Trouble> {
    let unusable = |error: &dyn fmt::Display| {
        Trouble::Unreachable(format!("TLS with Redis at {node} cannot be set up ({error})"))
    };
    let name = ServerName::try_from(host.to_owned()).map_err(|error| unusable(&error))?;
    ClientConnection::new(tls_config(&options.tls)?, name).map_err(|error| unusable(&error))
}
