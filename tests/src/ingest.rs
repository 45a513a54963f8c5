//! Streams under `qsc run`: a Redis server that survives being killed, workers, a proxy that cuts connections at a
//! chosen command, shards, feature events, and what an undisturbed run makes of them.

mod lane;
mod proxy;
mod server;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

pub use qsc_cli::random::SplitMix as Random;
use qsc_cli::stream::{Backoff, EventId, Link, LinkOptions, RedisAddress};
use serde_json::Value;
use tempfile::TempDir;

use crate::bundle::{self, text};
use crate::capture::Capture;
use crate::qsc;
use crate::serving::{Answer, ask};

pub use lane::Lane;
pub use proxy::{Cut, Proxy};
pub use server::{Disk, Server};

/// Longer than anything takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// The stream of events; all keys share a hash tag, so that a Cluster keeps them together.
pub const FEATURES: &str = "{t}:f";
/// Where intents go.
pub const INTENTS: &str = "{t}:i";
/// Where dead letters go.
pub const DEAD: &str = "{t}:f:dead";
/// Who owns the stream.
pub const OWNER: &str = "{t}:f:owner:qsc";

/// Waits until `done` gives something.
///
/// # Panics
/// If it does not within [`PATIENCE`].
pub fn wait_for<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(done) = done() {
            return done;
        }
        assert!(Instant::now() < deadline, "in vain: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until there are so many intents.
///
/// # Panics
/// If there are not within [`PATIENCE`].
pub fn wait_for_intents(server: &Server, count: usize) {
    wait_for(&format!("{count} intents"), || (server.length(INTENTS) >= count).then_some(()));
}

/// A `qsc run` in the background.
pub struct Worker {
    child: Child,
    /// What it has logged, in its own file.
    pub log: PathBuf,
    directory: TempDir,
}

impl Worker {
    /// Starts a consumer with this name on the streams behind `url`; `more` arguments follow.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start(url: &str, models: &Path, consumer: &str, more: &[&str]) -> Self {
        Self::start_on(FEATURES, INTENTS, url, models, consumer, more)
    }

    /// The same on streams of these names.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start_on(
        features: &str,
        intents: &str,
        url: &str,
        models: &Path,
        consumer: &str,
        more: &[&str],
    ) -> Self {
        let directory = TempDir::new().expect("a scratch directory");
        let log = directory.path().join("log");
        let mut command = qsc::command(["run", "--source", url, "--sink", url, "--models", text(models)]);
        command.args([
            "--stream",
            features,
            "--sink-stream",
            intents,
            "--consumer",
            consumer,
            "--format",
            "json",
        ]);
        command.args(more).stdin(Stdio::null());
        command.stdout(File::create(directory.path().join("out")).expect("a file"));
        command.stderr(File::create(&log).expect("a file"));
        Self { child: command.spawn().expect("qsc starts"), log, directory }
    }

    /// Everything it has logged.
    ///
    /// # Panics
    /// If the file is gone.
    #[must_use]
    pub fn logged(&self) -> String {
        fs::read_to_string(&self.log).expect("the log is readable")
    }

    /// Waits for a line that contains `part`.
    ///
    /// # Panics
    /// If none comes.
    pub fn wait_for(&self, part: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.logged().contains(part) {
            assert!(Instant::now() < deadline, "{part:?} is not logged: {}", self.logged());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// What it serves at this path, if it was started with `--metrics`.
    ///
    /// # Panics
    /// If it serves nothing.
    #[must_use]
    pub fn served(&self, path: &str) -> Answer {
        self.wait_for("METRICS http://");
        let logged = self.logged();
        let address = logged.split("METRICS http://").nth(1).and_then(|rest| rest.split('/').next());
        let address = address.and_then(|address| address.parse().ok()).expect("an address");
        ask(address, format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").as_bytes())
    }

    /// Sends a signal by name.
    ///
    /// # Panics
    /// If it is gone.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status();
        assert!(sent.expect("kill runs").success());
    }

    /// Kills it.
    ///
    /// # Panics
    /// If it is gone already.
    pub fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }

    /// Asks it to end; its result.
    ///
    /// # Panics
    /// If it does not end well.
    #[must_use]
    pub fn end(self) -> Value {
        self.signal("TERM");
        self.ended()
    }

    /// Waits for its end, which must be a good one; its result.
    ///
    /// # Panics
    /// If it does not end well.
    #[must_use]
    pub fn ended(mut self) -> Value {
        let code = wait_for("the worker ends", || self.child.try_wait().expect("it is our child")).code();
        assert_eq!(code, Some(0), "{}", self.logged());
        let out = fs::read_to_string(self.directory.path().join("out")).expect("the result is readable");
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Feature events, and what a run over a file makes of them.
pub struct Events {
    /// Payloads, in order.
    pub payloads: Vec<String>,
}

/// Id of the event `index`: the same in file and stream.
#[must_use]
pub fn id(index: usize) -> String {
    format!("{}-0", crate::capture::FIRST_MS + 1000 * index as u64)
}

impl Events {
    /// `count` events of the bundled capture, over and over, for `symbols` symbols in an order that `seed` decides.
    #[must_use]
    pub fn new(count: usize, symbols: u64, seed: u64) -> Self {
        let symbols: Vec<String> = (0..symbols).map(|symbol| format!("SYM{symbol}")).collect();
        Self::of_symbols(count, &symbols, seed)
    }

    /// The same for symbols of these names.
    #[must_use]
    pub fn of_symbols(count: usize, symbols: &[String], seed: u64) -> Self {
        let bundled: Vec<Value> = bundle::captured_payloads().collect();
        let mut random = Random(seed);
        let payload = |index: usize| {
            let mut payload = bundled[index % bundled.len()].clone();
            payload["symbol"] = symbols[random.below(symbols.len() as u64) as usize].clone().into();
            payload.to_string()
        };
        Self { payloads: (0..count).map(payload).collect() }
    }

    /// Adds the events of `range` to the stream. What is there already is left as it is.
    ///
    /// # Errors
    /// The server is gone; what was added is unknown, and may be asked for again.
    pub fn add(
        &self,
        connection: &mut redis::Connection,
        range: std::ops::Range<usize>,
    ) -> redis::RedisResult<()> {
        if range.is_empty() {
            return Ok(());
        }
        let mut pipe = redis::pipe();
        for index in range {
            let add = pipe.cmd("XADD").arg(FEATURES).arg(id(index));
            add.arg("event_type").arg("market.features").arg("payload").arg(&self.payloads[index]).ignore();
        }
        match pipe.exec(connection) {
            Err(error) if error.to_string().contains("equal or smaller") => Ok(()),
            result => result,
        }
    }

    /// Adds all of them.
    ///
    /// # Panics
    /// If the server refuses.
    pub fn add_all(&self, server: &Server) {
        let mut connection = server.connection();
        for start in (0..self.payloads.len()).step_by(500) {
            let end = self.payloads.len().min(start + 500);
            self.add(&mut connection, start..end).expect("the events are added");
        }
    }

    /// Payloads of the intents an undisturbed run makes, by event.
    ///
    /// # Panics
    /// If the run fails.
    #[must_use]
    pub fn undisturbed(&self, models: &Path) -> BTreeMap<EventId, String> {
        let directory = TempDir::new().expect("a scratch directory");
        let mut capture = Capture::new();
        for payload in &self.payloads {
            capture.push("market.features", payload);
        }
        let source = format!("file:{}", text(&capture.write(directory.path(), "features.jsonl")));
        let path = directory.path().join("intents.jsonl");
        let sink = format!("file:{}", text(&path));
        let run = qsc::run(["run", "--source", &source, "--sink", &sink, "--models", text(models)]);
        assert_eq!(run.code, Some(0), "{run:?}");
        let lines = fs::read_to_string(path).expect("the intents are readable");
        lines
            .lines()
            .map(|line| {
                let event: Value = serde_json::from_str(line).expect("a capture line");
                let payload = event["fields"]["payload"].as_str().expect("a payload").to_owned();
                (event["id"].as_str().expect("an id").parse().expect("an id"), payload)
            })
            .collect()
    }
}

/// A link to the owner of a stream that is made anew until it is answered.
pub struct Patient(Link);

impl Patient {
    /// Of the stream `key` behind `url`.
    ///
    /// # Panics
    /// If nobody answers.
    #[must_use]
    pub fn to(url: &str, key: &str) -> Self {
        let address = RedisAddress::parse(url).expect("the URL is valid");
        Self(Link::connect(&address, key, &LinkOptions::default()).expect("a server answers"))
    }

    /// The answer to a command, which is sent again until there is one.
    ///
    /// # Panics
    /// If it is refused, or nobody answers for too long.
    pub fn ask<T: redis::FromRedisValue>(&mut self, cmd: &redis::Cmd) -> T {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1), 1);
        wait_for("an answer", || match self.0.query(cmd) {
            Ok(answer) => Some(answer),
            Err(trouble) => {
                assert!(trouble.calls_for_reconnect(), "{trouble}");
                thread::sleep(backoff.next());
                let _ = self.0.reconnect();
                None
            }
        })
    }

    /// Adds these events to the stream.
    pub fn add(&mut self, events: &Events, range: std::ops::Range<usize>) {
        for index in range {
            let mut add = redis::cmd("XADD");
            add.arg(self.0.key()).arg(id(index)).arg("event_type").arg("market.features");
            add.arg("payload").arg(&events.payloads[index]);
            let _: String = self.ask(&add);
        }
    }

    /// Waits until the stream `key` of the same slot is so long.
    pub fn wait_for_length(&mut self, key: &str, count: usize) {
        wait_for(&format!("{count} entries of {key}"), || {
            (self.ask::<usize>(redis::cmd("XLEN").arg(key)) >= count).then_some(())
        });
    }
}

/// Ids and fields of a stream.
pub type Entries = Vec<(String, BTreeMap<String, String>)>;

/// Checks that the intents on the server are, one for one and in order, those of an undisturbed run.
///
/// # Panics
/// With the first that is not.
pub fn assert_undisturbed(server: &Server, expected: &BTreeMap<EventId, String>) {
    assert_same(&server.entries(INTENTS), expected);
}

/// The same for intents that were read already.
///
/// # Panics
/// With the first that is not.
pub fn assert_same(intents: &Entries, expected: &BTreeMap<EventId, String>) {
    let mut expected = expected.iter();
    for (id, fields) in intents {
        let payload: Value = serde_json::from_str(&fields["payload"]).expect("an intent is JSON");
        let source: EventId = payload["source_id"].as_str().expect("a source").parse().expect("an id");
        let (next, as_undisturbed) = expected.next().unwrap_or_else(|| panic!("{id} is one intent too many"));
        assert_eq!(source, *next, "every event once, in order");
        assert_eq!(&fields["payload"], as_undisturbed, "the intent of {source} is another than undisturbed");
        assert_eq!(fields["event_type"], "trade.intent");
    }
    assert_eq!(expected.next(), None, "events without intent");
}

/// The proof by `qsc stream verify`, which must agree with what a test sees: its exit code and what it counts.
#[must_use]
pub fn verify(server: &Server) -> (Option<i32>, Value) {
    let run = qsc::run([
        "stream",
        "verify",
        "--source",
        &server.url(),
        "--stream",
        FEATURES,
        "--sink-stream",
        INTENTS,
        "--format",
        "json",
    ]);
    let proof = run.json()["proof"].clone();
    (run.code, proof)
}
