//! Streams under `qsc run`: a Redis server that survives being killed, workers, a proxy that cuts connections at a
//! chosen command, feature events, and what an undisturbed run makes of them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use qsc_cli::stream::{Backoff, EventId, Link, LinkOptions, RedisAddress};
use serde_json::Value;
use tempfile::TempDir;

use crate::bundle::{self, text};
use crate::capture::Capture;
use crate::qsc;

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

/// A server with an append-only file on a port of its own, which can be killed and started again.
pub struct Server {
    process: Child,
    directory: TempDir,
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
        if Command::new("redis-server").arg("--version").stdout(Stdio::null()).status().is_err() {
            crate::skip("redis-server is not installed");
            return None;
        }
        let directory = TempDir::new().expect("a scratch directory");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        drop(listener);
        let config = format!(
            "bind 127.0.0.1\nport {port}\ndir {0}\nsave \"\"\nappendonly yes\nappendfsync always\n\
             auto-aof-rewrite-percentage 0\nlogfile {0}/redis.log\n",
            directory.path().display()
        );
        fs::write(directory.path().join("redis.conf"), config).expect("the configuration is written");
        let process = Self::spawn(directory.path());
        let server = Self { process, directory, port };
        drop(server.connection());
        Some(server)
    }

    fn spawn(directory: &Path) -> Child {
        let mut command = Command::new("redis-server");
        command.arg(directory.join("redis.conf")).stdin(Stdio::null()).stdout(Stdio::null());
        command.spawn().expect("redis-server starts")
    }

    /// Kills it as a power cut would.
    ///
    /// # Panics
    /// If it is gone already.
    pub fn kill(&mut self) {
        self.process.kill().expect("it runs");
        self.process.wait().expect("it ends");
    }

    /// Starts it again on what it has written.
    pub fn start_again(&mut self) {
        self.process = Self::spawn(self.directory.path());
        drop(self.connection());
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
            redis::cmd("PING").query::<String>(&mut connection).ok().map(|_| connection)
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

/// SplitMix64: the same numbers for the same seed everywhere.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (word ^ (word >> 31)) % bound.max(1)
    }
}

/// When a proxy cuts a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The server never sees the command.
    Before,
    /// The server carries it out; its answer never arrives.
    After,
}

/// What a proxy does next.
#[derive(Default)]
struct Plan {
    /// The command to cut at, how many of them still pass, and where.
    at: Option<(&'static str, usize, Cut)>,
    /// Both ends of every open connection.
    open: Vec<(TcpStream, TcpStream)>,
    cuts: usize,
}

/// A proxy in front of a server, which cuts connections: all at once, or at a chosen command.
pub struct Proxy {
    plan: Arc<Mutex<Plan>>,
    port: u16,
}

impl Proxy {
    /// A proxy to the server on `port`.
    ///
    /// # Panics
    /// If no port is free.
    #[must_use]
    pub fn start(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let own = listener.local_addr().expect("it is bound").port();
        let plan = Arc::new(Mutex::new(Plan::default()));
        let shared = Arc::clone(&plan);
        thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(("127.0.0.1", port))) else {
                    continue;
                };
                pump_both(&client, &server, &shared);
            }
        });
        Self { plan, port: own }
    }

    /// URL of the proxy.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Cuts every open connection.
    ///
    /// # Panics
    /// If another thread died of it.
    pub fn cut(&self) {
        let mut plan = self.plan.lock().expect("no thread died");
        let Plan { open, cuts, .. } = &mut *plan;
        for (client, server) in open.drain(..) {
            // Closed already, perhaps.
            let _ = (client.shutdown(Shutdown::Both), server.shutdown(Shutdown::Both));
            *cuts += 1;
        }
    }

    /// Cuts the connection on which `command` is sent after `pass` of them have passed.
    ///
    /// # Panics
    /// If another thread died of it.
    pub fn cut_at(&self, command: &'static str, pass: usize, when: Cut) {
        self.plan.lock().expect("no thread died").at = Some((command, pass, when));
    }

    /// Connections cut so far.
    ///
    /// # Panics
    /// If another thread died of it.
    #[must_use]
    pub fn cuts(&self) -> usize {
        self.plan.lock().expect("no thread died").cuts
    }
}

fn pump_both(client: &TcpStream, server: &TcpStream, plan: &Arc<Mutex<Plan>>) {
    let ends = || Some((client.try_clone().ok()?, server.try_clone().ok()?));
    let (Some(kept), Some(up), Some(down)) = (ends(), ends(), ends()) else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    plan.lock().expect("no thread died").open.push(kept);
    // An answer that must not arrive must not be on its way already either: both directions look at this.
    let deaf = Arc::new(Mutex::new(false));
    let (plan, deaf_down) = (Arc::clone(plan), Arc::clone(&deaf));
    thread::spawn(move || {
        let (mut from, mut to) = up;
        let mut buffer = vec![0; 1 << 16];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            let cut = {
                let mut plan = plan.lock().expect("no thread died");
                let hits = plan.at.map_or(0, |(command, _, _)| count(&buffer[..length], command));
                match plan.at {
                    Some((_, pass, when)) if hits > pass => {
                        plan.at = None;
                        plan.cuts += 1;
                        Some(when)
                    }
                    Some((command, pass, when)) => {
                        plan.at = Some((command, pass - hits, when));
                        None
                    }
                    None => None,
                }
            };
            if cut == Some(Cut::Before) {
                break;
            }
            if cut == Some(Cut::After) {
                *deaf.lock().expect("no thread died") = true;
            }
            if to.write_all(&buffer[..length]).is_err() {
                break;
            }
            if cut == Some(Cut::After) {
                // The server answers in order: once it answers anything, it has carried out the command.
                thread::sleep(Duration::from_millis(150));
                break;
            }
        }
        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    });
    thread::spawn(move || {
        let (mut to, mut from) = down;
        let mut buffer = vec![0; 1 << 16];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            if !*deaf_down.lock().expect("no thread died") && to.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    });
}

/// How often `word` is in `bytes`.
fn count(bytes: &[u8], word: &str) -> usize {
    bytes.windows(word.len()).filter(|window| *window == word.as_bytes()).count()
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
