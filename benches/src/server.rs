//! A real `redis-server` to measure against.

use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tempfile::TempDir;

/// A `redis-server` of its own on a Unix socket, without persistence; dropped, it is gone with its data.
pub struct Server {
    process: Child,
    directory: TempDir,
}

impl Server {
    /// Starts it and waits until it answers.
    ///
    /// # Errors
    /// `redis-server` is not installed, or does not answer within 20 s.
    pub fn start() -> anyhow::Result<Self> {
        let directory = TempDir::new()?;
        let process = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"])
            .arg(directory.path().join("redis.sock"))
            .arg("--dir")
            .arg(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("redis-server does not start; install it, for nothing can be measured without")?;
        let server = Self { process, directory };
        let deadline = Instant::now() + Duration::from_secs(20);
        while server.connection().is_err() {
            ensure!(Instant::now() < deadline, "redis-server does not answer within 20 s");
            thread::sleep(Duration::from_millis(10));
        }
        Ok(server)
    }

    /// What `--source` takes.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis+unix://{}", self.directory.path().join("redis.sock").display())
    }

    /// A connection that has been answered.
    ///
    /// # Errors
    /// The server does not answer.
    pub fn connection(&self) -> anyhow::Result<redis::Connection> {
        let mut connection = redis::Client::open(self.url())?.get_connection()?;
        redis::cmd("PING").exec(&mut connection)?;
        Ok(connection)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if the server is gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
