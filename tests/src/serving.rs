//! `qsc run --metrics` under test: the process, its stdin, its log, and a plain HTTP client.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// Longer than anything takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A running `qsc run --metrics 127.0.0.1:0`.
#[derive(Debug)]
pub struct Serving {
    process: Child,
    /// Its input; `None` once it was closed.
    pub stdin: Option<ChildStdin>,
    /// Its log, line by line.
    pub log: Receiver<String>,
    /// Where it serves.
    pub address: SocketAddr,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// The number in its first line.
    pub status: u16,
    /// Everything before the body, in lower case.
    pub head: String,
    /// The body.
    pub body: String,
}

impl Serving {
    /// Starts `command`, which must ask for metrics on a port of the system's choice and keep its text log.
    ///
    /// # Panics
    /// If it does not say where it serves.
    #[must_use]
    pub fn start(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().expect("the binary starts");
        let (sender, log) = mpsc::channel();
        let stderr = BufReader::new(process.stderr.take().expect("stderr is piped"));
        thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let address = loop {
            let line = log.recv_timeout(PATIENCE).expect("it says where it serves");
            if let Some(url) = line.strip_prefix("METRICS http://") {
                break url.trim_end_matches('/').parse().expect("an address");
            }
        };
        let stdin = process.stdin.take();
        Self { process, stdin, log, address }
    }

    /// Writes lines to its input.
    ///
    /// # Panics
    /// If it takes no more.
    pub fn feed<'line>(&mut self, lines: impl IntoIterator<Item = &'line str>) {
        let stdin = self.stdin.as_mut().expect("the input is open");
        lines.into_iter().for_each(|line| writeln!(stdin, "{line}").expect("it reads"));
        stdin.flush().expect("it reads");
    }

    /// Sends these bytes and reads the answer.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn send(&self, request: &[u8]) -> Answer {
        ask(self.address, request)
    }

    /// The answer to a GET.
    #[must_use]
    pub fn get(&self, path: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").as_bytes())
    }

    /// The value of a metric with its labels, as `/metrics` writes it.
    #[must_use]
    pub fn metric(&self, series: &str) -> Option<f64> {
        let page = self.get("/metrics").body;
        let value = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
        value.parse().ok()
    }

    /// Waits until `done` is so.
    ///
    /// # Panics
    /// If it is not within [`PATIENCE`].
    pub fn wait_until(&self, what: &str, done: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(self) {
            assert!(Instant::now() < deadline, "in vain: {what}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends it by SIGTERM; its exit code and what it wrote to stdout.
    ///
    /// # Panics
    /// If it does not end.
    #[must_use]
    pub fn end(mut self) -> (Option<i32>, String) {
        let sent = Command::new("kill").args(["-s", "TERM", &self.process.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "the signal is sent");
        let mut stdout = String::new();
        let mut pipe = self.process.stdout.take().expect("stdout is piped");
        pipe.read_to_string(&mut stdout).expect("UTF-8");
        (self.process.wait().expect("it ends").code(), stdout)
    }

    /// The live scoreboard's document.
    ///
    /// # Panics
    /// If it is no JSON.
    #[must_use]
    pub fn scoreboard(&self) -> Value {
        let answer = self.get("/scoreboard.json");
        assert_eq!(answer.status, 200);
        serde_json::from_str(&answer.body).expect("JSON")
    }
}

/// Sends these bytes to a server and reads the answer.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn ask(address: SocketAddr, request: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    // It may refuse before all is written.
    let _ = stream.write_all(request);
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer in UTF-8");
    let (head, body) = text.split_once("\r\n\r\n").expect("head and body");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    Answer { status, head: head.to_lowercase(), body: body.to_owned() }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
