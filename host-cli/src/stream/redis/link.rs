//! The connection that reads and writes a stream.

use std::time::Duration;

use anyhow::anyhow;
use redis::{Arg, Cmd, ConnectionAddr, FromRedisValue, Pipeline, RedisResult, ServerError, Value};

use super::locate::{Locator, beside};
use super::login::Login;
use super::trouble::refusals;
use super::wire::Wire;
use super::{LinkOptions, Patience, RedisAddress, Trouble};

/// A Cluster that sends a command further than this is not agreed with itself.
const MAX_REDIRECTS: usize = 4;

/// A connection to the server (of a Cluster: the node) that owns a key; made again after it is lost, by who uses it.
pub struct Link {
    address: RedisAddress,
    key: String,
    options: LinkOptions,
    reply_timeout: Duration,
    locator: Locator,
    wire: Option<Wire>,
    /// To the node that the slot is moving to, while it moves.
    importing: Option<Wire>,
}

/// Where a node of a Cluster says that a command belongs.
enum Redirect {
    /// The slot is there for good.
    Moved(ConnectionAddr),
    /// This key is there already; the slot still moves.
    Ask(ConnectionAddr),
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
            locator: Locator::new(address),
            wire: None,
            importing: None,
        };
        link.reconnect().map_err(|trouble| anyhow!(trouble.explain(address)))?;
        Ok(link)
    }

    /// Sends `cmd` and reads its answer. It is sent again only where a node of a Cluster refused it and said which node
    /// it is for.
    ///
    /// # Errors
    /// What became of it. After `Unreachable` and `Unknown` connect anew, with [`reconnect`](Self::reconnect).
    pub fn query<T: FromRedisValue>(&mut self, cmd: &Cmd) -> Result<T, Trouble> {
        for _ in 0..MAX_REDIRECTS {
            match self.send(|wire| cmd.query(wire), &[cmd], 1)? {
                Ok(answer) => return Ok(answer),
                Err(Redirect::Moved(node)) => self.follow(&node)?,
                Err(Redirect::Ask(node)) => return self.ask_importing(&node, cmd),
            }
        }
        Err(Trouble::Unreachable("the nodes of the Cluster send a command around in circles".to_owned()))
    }

    /// Sends all of `pipe` and reads its answers. It is sent again only where a node of a Cluster refused every command
    /// of it and said which node they are for.
    ///
    /// # Errors
    /// As [`query`](Self::query); a pipeline that a Cluster refused in part is `Refused` with `MOVED` or `ASK`.
    pub fn pipeline<T: FromRedisValue>(&mut self, pipe: &Pipeline) -> Result<T, Trouble> {
        let commands: Vec<&Cmd> = pipe.cmd_iter().collect();
        // A transaction is refused whole with its first error.
        let all = if pipe.is_transaction() { 1 } else { commands.len() };
        for _ in 0..MAX_REDIRECTS {
            match self.send(|wire| pipe.query(wire), &commands, all)? {
                Ok(answer) => return Ok(answer),
                Err(Redirect::Moved(node)) => self.follow(&node)?,
                Err(Redirect::Ask(node)) => {
                    return Err(Trouble::Refused { code: "ASK".to_owned(), message: node.to_string() });
                }
            }
        }
        Err(Trouble::Unreachable("the nodes of the Cluster send a pipeline around in circles".to_owned()))
    }

    /// Sends a packed command; its answer is read later, with [`receive`](Self::receive), in the order of sending.
    /// Redirections of a Cluster are not followed.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    pub fn send_ahead(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        self.ahead(|wire| wire.send(bytes))
    }

    /// Reads the answer to the oldest command sent ahead and not answered yet; `patience` is how it is waited for.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    pub fn receive(&mut self, patience: Patience<'_>) -> Result<Value, Trouble> {
        match self.ahead(|wire| wire.receive(patience))? {
            Value::ServerError(error) => Err(Trouble::refused(&error)),
            answer => Ok(answer),
        }
    }

    fn ahead<T>(&mut self, act: impl FnOnce(&mut Wire) -> RedisResult<T>) -> Result<T, Trouble> {
        let Some(wire) = &mut self.wire else {
            return Err(Trouble::Unreachable(format!("there is no connection to Redis at {}", self.address)));
        };
        let result = act(wire);
        let result =
            result.map_err(|error| Trouble::unknown(&error, &wire.node().to_string(), "what was sent ahead"));
        if result.is_err() {
            self.wire = None;
        }
        result
    }

    /// Sends `commands`, as `ask` writes them, once; `all` refusals mean that none of them was carried out.
    fn send<T>(
        &mut self,
        ask: impl Fn(&mut Wire) -> RedisResult<T>,
        commands: &[&Cmd],
        all: usize,
    ) -> Result<Result<T, Redirect>, Trouble> {
        let Some(wire) = &mut self.wire else {
            return Err(Trouble::Unreachable(format!("there is no connection to Redis at {}", self.address)));
        };
        let error = match ask(wire) {
            Ok(answer) => return Ok(Ok(answer)),
            Err(error) => error,
        };
        let node = wire.node().clone();
        if wire.is_lost() {
            self.wire = None;
        }
        let refusals = refusals(&error);
        let trouble = match refusals.first() {
            None => return Err(Trouble::unknown(&error, &node.to_string(), &command_name(commands))),
            Some(first) => Trouble::refused(first),
        };
        let redirect = if self.address.is_cluster() { redirect(&refusals, all, &node) } else { None };
        match (redirect, trouble) {
            (Some(redirect), _) => Ok(Err(redirect)),
            (None, Trouble::Refused { code, message }) if code == "NOPERM" => {
                Err(Trouble::Refused { code, message: format!("{}: {message}", command_name(commands)) })
            }
            (None, trouble) => Err(trouble),
        }
    }

    /// Goes over to the node that owns the slot by now.
    fn follow(&mut self, node: &ConnectionAddr) -> Result<(), Trouble> {
        self.wire = None;
        self.locator.remember(node.clone());
        let wire = self.open(node)?;
        self.wire = Some(wire);
        Ok(())
    }

    /// Asks the node that the slot is moving to, without going over to it.
    fn ask_importing<T: FromRedisValue>(&mut self, node: &ConnectionAddr, cmd: &Cmd) -> Result<T, Trouble> {
        let mut wire = match self.importing.take().filter(|wire| wire.node() == node) {
            Some(wire) => wire,
            None => self.open(node)?,
        };
        let mut pipe = redis::pipe();
        pipe.cmd("ASKING").ignore().add_command(cmd.clone());
        let answer = pipe.query::<(T,)>(&mut wire);
        if !wire.is_lost() {
            self.importing = Some(wire);
        }
        answer.map(|(answer,)| answer).map_err(|error| match refusals(&error).first() {
            Some(refusal) => Trouble::refused(refusal),
            None => Trouble::unknown(&error, &node.to_string(), &command_name(&[cmd])),
        })
    }

    fn open(&self, node: &ConnectionAddr) -> Result<Wire, Trouble> {
        let wire = Wire::open(node, &Login::to_server(&self.address, &self.options)?, &self.options)?;
        self.settle(wire)
    }

    /// One attempt to connect anew, to whichever server owns the key by now; what was open is closed first.
    ///
    /// # Errors
    /// Why there is no connection: `Unreachable` or `Refused`.
    pub fn reconnect(&mut self) -> Result<(), Trouble> {
        self.wire = None;
        self.importing = None;
        let wire = self.locator.connect(&self.address, &self.key, &self.options)?;
        self.wire = Some(self.settle(wire)?);
        Ok(())
    }

    /// The wire with this link's time-out.
    fn settle(&self, wire: Wire) -> Result<Wire, Trouble> {
        match wire.set_reply_timeout(self.reply_timeout) {
            Ok(()) => Ok(wire),
            Err(error) => Err(Trouble::Unreachable(format!("the socket takes no time-out ({error})"))),
        }
    }

    /// Waits this long for answers from here on, on this connection and later ones: a command that blocks needs longer
    /// than it blocks.
    pub fn set_reply_timeout(&mut self, timeout: Duration) {
        self.reply_timeout = timeout;
        self.importing = None;
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

/// Where commands belong, if `node` refused `all` of them for being elsewhere.
fn redirect(refusals: &[ServerError], all: usize, node: &ConnectionAddr) -> Option<Redirect> {
    let first = refusals.first()?;
    if refusals.len() != all || refusals.iter().any(|refusal| refusal != first) {
        return None;
    }
    let (_, at) = first.details()?.split_once(' ')?;
    let (host, port) = at.rsplit_once(':')?;
    let at = beside(node, host.to_owned(), port.parse().ok()?);
    match first.code() {
        "MOVED" => Some(Redirect::Moved(at)),
        "ASK" => Some(Redirect::Ask(at)),
        _ => None,
    }
}

/// What was sent, for messages: never its arguments.
pub fn command_name(commands: &[&Cmd]) -> String {
    let first = commands.first().and_then(|cmd| cmd.args_iter().next());
    let first = match first {
        Some(Arg::Simple(name)) => String::from_utf8_lossy(name).to_uppercase(),
        _ => "nothing".to_owned(),
    };
    if commands.len() > 1 { format!("{first} and {} more", commands.len() - 1) } else { first }
}
