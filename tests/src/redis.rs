//! A real `redis-server` of its own for a test, on a Unix socket and on loopback.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How the server is configured.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options<'text> {
    /// Password of the default user.
    pub requirepass: Option<&'text str>,
    /// Rules of further users, e.g. `reader on >secret ~* +xrange`.
    pub users: &'text [&'text str],
}

/// A running server; dropped, it is gone with its data.
#[derive(Debug)]
pub struct RedisServer {
    process: Child,
    directory: TempDir,
    port: u16,
    password: Option<String>,
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
        let port = TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok()?.port();
        let mut config = format!(
            "bind 127.0.0.1\nport {port}\nunixsocket {0}/redis.sock\ndir {0}\nsave \"\"\nappendonly no\n\
             logfile {0}/redis.log\n",
            directory.path().display(),
        );
        if let Some(password) = options.requirepass {
            config += &format!("requirepass {password}\n");
        }
        for user in options.users {
            config += &format!("user {user}\n");
        }
        let path = directory.path().join("redis.conf");
        fs::write(&path, config).expect("the configuration is written");
        let process = Command::new("redis-server")
            .arg(path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server starts");
        let mut server = Self { process, directory, port, password: options.requirepass.map(str::to_owned) };
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline && server.process.try_wait().is_ok_and(|ended| ended.is_none()) {
            let client = redis::Client::open(server.url()).expect("the URL is valid");
            if let Ok(mut connection) = client.get_connection()
                && redis::cmd("PING").query::<String>(&mut connection).is_ok()
            {
                return Some(server);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        None
    }

    /// URL over the Unix socket, as the administrator.
    #[must_use]
    pub fn url(&self) -> String {
        let password =
            self.password.as_ref().map_or_else(String::new, |password| format!("?pass={password}"));
        format!("redis+unix://{}{password}", self.socket().display())
    }

    /// URL over TCP; `login` is empty or `user:password@`.
    #[must_use]
    pub fn tcp_url(&self, login: &str) -> String {
        format!("redis://{login}127.0.0.1:{}", self.port)
    }

    /// Path of the Unix socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("redis.sock")
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
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // Both fail only if the server is gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
