//! The server under a consumer, and a disk for its files that can be full.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::{Entries, wait_for};

/// A server with an append-only file on a port of its own, which can be killed and started again.
pub struct Server {
    process: Child,
    directory: TempDir,
    disk: Option<Disk>,
    /// Its port on 127.0.0.1.
    pub port: u16,
}

impl Server {
    /// Starts a server, or says loudly that none is installed.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start() -> Option<Self> {
        Self::start_with("always", None)
    }

    /// Starts a server whose files are on a disk of so many MiB, which can be filled; `fsync` is when they reach it. Or
    /// says loudly why that is not possible here.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start_on_disk(mebibytes: u32, fsync: &str) -> Option<Self> {
        Self::start_with(fsync, Some(mebibytes))
    }

    fn start_with(fsync: &str, disk: Option<u32>) -> Option<Self> {
        if Command::new("redis-server").arg("--version").stdout(Stdio::null()).status().is_err() {
            crate::skip("redis-server is not installed");
            return None;
        }
        let directory = TempDir::new().expect("a scratch directory");
        let files = directory.path().join("files");
        fs::create_dir(&files).expect("a directory");
        let disk = match disk {
            Some(mebibytes) => Some(Disk::mount(&files, mebibytes)?),
            None => None,
        };
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        drop(listener);
        let config = format!(
            "bind 127.0.0.1\nport {port}\ndir {}\nsave \"\"\nappendonly yes\nappendfsync {fsync}\n\
             auto-aof-rewrite-percentage 0\nlogfile {}/redis.log\n",
            files.display(),
            directory.path().display()
        );
        fs::write(directory.path().join("redis.conf"), config).expect("the configuration is written");
        let process = spawn(directory.path(), disk.as_ref());
        let server = Self { process, directory, disk, port };
        drop(server.connection());
        Some(server)
    }

    /// Kills it as a power cut would.
    ///
    /// # Panics
    /// If it is gone already.
    pub fn kill(&mut self) {
        self.process.kill().expect("it runs");
        self.process.wait().expect("it ends");
    }

    /// Sends it a signal by name.
    ///
    /// # Panics
    /// If it is gone.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.process.id().to_string()]).status();
        assert!(sent.expect("kill runs").success());
    }

    /// Starts it again on what it has written.
    pub fn start_again(&mut self) {
        self.process = spawn(self.directory.path(), self.disk.as_ref());
        drop(self.connection());
    }

    /// Waits until it has ended by itself.
    ///
    /// # Panics
    /// If it does not.
    pub fn wait_for_its_end(&mut self) {
        wait_for("the server ends", || self.process.try_wait().expect("it is our child"));
    }

    /// The disk it was started on.
    ///
    /// # Panics
    /// If it was started on none of its own.
    #[must_use]
    pub const fn disk(&self) -> &Disk {
        self.disk.as_ref().expect("it was started on a disk")
    }

    /// URL of its port.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// A connection; waits for the server.
    ///
    /// # Panics
    /// If it does not answer.
    #[must_use]
    pub fn connection(&self) -> redis::Connection {
        let client = redis::Client::open(self.url()).expect("the URL is valid");
        wait_for("Redis answers", || {
            let mut connection = client.get_connection().ok()?;
            match redis::cmd("PING").exec(&mut connection) {
                // With its disk full it refuses even this.
                Err(error) if error.code() != Some("MISCONF") => None,
                _ => Some(connection),
            }
        })
    }

    /// Sends one command given as words.
    ///
    /// # Panics
    /// If the server refuses it.
    pub fn ask<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        redis::cmd(words[0]).arg(&words[1..]).query(&mut self.connection()).expect("the server obeys")
    }

    /// Ids and fields of a stream.
    #[must_use]
    pub fn entries(&self, key: &str) -> Entries {
        self.ask(&["XRANGE", key, "-", "+"])
    }

    /// Length of a stream.
    #[must_use]
    pub fn length(&self, key: &str) -> usize {
        self.ask(&["XLEN", key])
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if it is gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn spawn(directory: &Path, disk: Option<&Disk>) -> Child {
    let mut command = disk.map_or_else(|| Command::new("redis-server"), |disk| disk.command("redis-server"));
    command.arg(directory.join("redis.conf")).stdin(Stdio::null()).stdout(Stdio::null());
    command.spawn().expect("redis-server starts")
}

/// A filesystem of a few MiB over a directory, in a mount namespace of its own: only processes started through it see it.
pub struct Disk {
    /// Held open, it outlives every process in it.
    namespace: File,
    path: PathBuf,
}

impl Disk {
    /// Mounts it, or says loudly that this is not allowed here.
    fn mount(path: &Path, mebibytes: u32) -> Option<Self> {
        let mount = "mount -t tmpfs -o size=\"$1\"m,mode=700 disk \"$2\" && echo mounted && read -r _";
        let keeper = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", mount, "sh", &mebibytes.to_string()])
            .arg(path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut said = String::new();
        let mut keeper = keeper.ok();
        if let Some(out) = keeper.as_mut().and_then(|keeper| keeper.stdout.take()) {
            let _ = BufReader::new(out).read_line(&mut said);
        }
        let mounted = keeper.as_mut().filter(|_| said == "mounted\n").map(|keeper| {
            let namespace = File::open(format!("/proc/{}/ns/mnt", keeper.id())).expect("it has a namespace");
            Self { namespace, path: path.to_owned() }
        });
        if let Some(mut keeper) = keeper {
            drop(keeper.stdin.take());
            let _ = keeper.wait();
        }
        if mounted.is_none() {
            crate::skip(
                "a filesystem cannot be mounted in a namespace of its own here (this needs root and unshare)",
            );
        }
        mounted
    }

    /// A program that sees the disk.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        let namespace = format!("--mount=/proc/{}/fd/{}", std::process::id(), self.namespace.as_raw_fd());
        command.args([&namespace, "--", program]);
        command
    }

    /// Writes until nothing more fits.
    ///
    /// # Panics
    /// If there is room left.
    pub fn fill(&self) {
        let fill = "cat /dev/zero >\"$1/filler\" 2>/dev/null; ! echo more 2>/dev/null >\"$1/another\"";
        self.sh(fill);
    }

    /// Makes room again.
    ///
    /// # Panics
    /// If it was not full.
    pub fn free(&self) {
        self.sh("rm \"$1/filler\"");
    }

    fn sh(&self, script: &str) {
        let status = self.command("sh").args(["-c", script, "sh"]).arg(&self.path).status();
        assert!(status.expect("nsenter runs").success(), "{script}");
    }
}
