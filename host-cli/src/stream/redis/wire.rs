//! One connection, and whether it is still in step.

use std::time::Duration;

use redis::{Connection, ConnectionInfo, ConnectionLike, RedisError, RedisResult, Value};

use super::LinkOptions;

/// A connection that reads an answer for each command it wrote, or is out of step for good.
pub(super) struct Wire {
    connection: Connection,
    /// An answer is missing or was no answer: what comes next belongs to nobody knows which command.
    lost: bool,
}

impl Wire {
    pub(super) fn open(info: &ConnectionInfo, options: &LinkOptions) -> RedisResult<Self> {
        let client = redis::Client::open(info.clone())?;
        let connection = client.get_connection_with_timeout(options.connect_timeout)?;
        connection.set_write_timeout(Some(options.reply_timeout))?;
        Ok(Self { connection, lost: false })
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
        match values.into_iter().find_map(|value| match value {
            Value::ServerError(error) => Some(error),
            _ => None,
        }) {
            Some(error) => Err(RedisError::from(error)),
            None => Ok(results),
        }
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
