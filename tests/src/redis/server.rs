//! One `redis-server`.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::Identity;

/// How the server is configured.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options<'text> {
    /// Password of the default user.
    pub requirepass: Option<&'text str>,
    /// Rules of further users, e.g. `reader on >secret ~* +xrange`.
    pub users: &'text [&'text str],
    /// Further lines of its configuration, e.g. `appendonly yes`.
    pub config: &'text [&'text str],
    /// Its certificate: then its port speaks TLS only, and asks for a certificate of the same authority.
    pub tls: Option<&'text Identity>,
    /// Runs as a Sentinel.
    pub sentinel: bool,
}

/// A server; dropped, it is gone with its data.
#[derive(Debug)]
pub struct RedisServer {
    process: Child,
    directory: TempDir,
    port: u16,
    password: Option<String>,
    tls: bool,
    sentinel: bool,
}

impl RedisServer {
    /// Starts a server, or says loudly that none is installed.
    ///
    /// # Panics
    /// If the server is installed but does not start, or `QSC_REQUIRE_ALL=1` and it is not installed.
    #[must_use]
    pub fn start(options: &Options<'_>) -> Option<Self> {
        let installed = Command::new("redis-server").arg("--version").stdout(Stdio::null()).status().is_ok();
        if !installed {
            crate::skip("redis-server is not installed");
            return None;
        }
        // Another process may take the port between our look and the server's: then the next one is tried.
        (0..5).find_map(|_| Self::try_start(options)).or_else(|| panic!("redis-server does not start"))
    }

    fn try_start(options: &Options<'_>) -> Option<Self> {
        let directory = TempDir::new().expect("a scratch directory");
        let port = free_port()?;
        let mut config = format!(
            "bind 127.0.0.1\nunixsocket {0}/redis.sock\ndir {0}\nlogfile {0}/redis.log\n",
            directory.path().display(),
        );
        config += &match options.tls {
            Some(identity) => identity.config(port),
            None => format!("port {port}\n"),
        };
        if !options.sentinel {
            config += "save \"\"\nappendonly no\n";
        }
        if let Some(password) = options.requirepass {
            config += &format!("requirepass {password}\n");
        }
        for user in options.users {
            config += &format!("user {user}\n");
        }
        for line in options.config {
            config += &format!("{line}\n");
        }
        fs::write(directory.path().join("redis.conf"), config).expect("the configuration is written");
        let process = spawn(&directory, options.sentinel);
        let mut server = Self {
            process,
            directory,
            port,
            password: options.requirepass.map(str::to_owned),
            tls: options.tls.is_some(),
            sentinel: options.sentinel,
        };
        server.answers().then_some(server)
    }

    /// Waits until the server answers; `false` if it ends instead.
    fn answers(&mut self) -> bool {
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline && self.process.try_wait().is_ok_and(|ended| ended.is_none()) {
            let client = redis::Client::open(self.url()).expect("the URL is valid");
            if let Ok(mut connection) = client.get_connection()
                && redis::cmd("PING").query::<String>(&mut connection).is_ok()
            {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }

    /// Kills the server with SIGKILL. Its files stay.
    pub fn kill(&mut self) {
        // Both fail only if the server is gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Starts the killed server again, with its files, at its port.
    ///
    /// # Panics
    /// If it does not start.
    pub fn restart(&mut self) {
        self.kill();
        // What a killed server left would answer nobody, and count as a server that is there.
        let _ = fs::remove_file(self.socket());
        self.process = spawn(&self.directory, self.sentinel);
        assert!(self.answers(), "redis-server does not start again:\n{}", self.log());
    }

    /// Sends a signal by its name, such as `STOP` and `CONT`.
    ///
    /// # Panics
    /// If `kill` cannot.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.process.id().to_string()).status();
        assert!(status.is_ok_and(|status| status.success()), "kill -{name}");
    }

    /// URL over the Unix socket, as the administrator.
    #[must_use]
    pub fn url(&self) -> String {
        let password =
            self.password.as_ref().map_or_else(String::new, |password| format!("?pass={password}"));
        format!("redis+unix://{}{password}", self.socket().display())
    }

    /// URL over TCP, with TLS where that is what the port speaks; `login` is empty or `user:password@`.
    #[must_use]
    pub fn tcp_url(&self, login: &str) -> String {
        let scheme = if self.tls { "rediss" } else { "redis" };
        format!("{scheme}://{login}127.0.0.1:{}", self.port)
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Path of the Unix socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("redis.sock")
    }

    /// What the server has logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("redis.log")).unwrap_or_default()
    }

    /// A connection as the administrator.
    ///
    /// # Panics
    /// If the server is gone.
    #[must_use]
    pub fn connection(&self) -> redis::Connection {
        let client = redis::Client::open(self.url()).expect("the URL is valid");
        client.get_connection().expect("the server answers")
    }

    /// Asks as the administrator; the words of `line` are the command.
    ///
    /// # Panics
    /// If the server is gone, refuses, or answers something else.
    pub fn ask<T: redis::FromRedisValue>(&self, line: &str) -> T {
        let mut words = line.split_ascii_whitespace();
        let mut command = redis::cmd(words.next().expect("a command"));
        words.for_each(|word| {
            command.arg(word);
        });
        command.query(&mut self.connection()).unwrap_or_else(|error| panic!("{line}: {error}"))
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port that is free now.
pub(super) fn free_port() -> Option<u16> {
    Some(TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok()?.port())
}

fn spawn(directory: &TempDir, sentinel: bool) -> Child {
    let mut command = Command::new("redis-server");
    command.arg(directory.path().join("redis.conf"));
    if sentinel {
        command.arg("--sentinel");
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("redis-server starts")
}
