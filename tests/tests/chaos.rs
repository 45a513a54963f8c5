//! Consumers, connections and servers killed, and the consumer group meddled with, at random while events come in: every
//! event has exactly one intent, in order, and each is bit for bit that of an undisturbed run.
//!
//! `QSC_CHAOS=long` is the long form (`ci.sh chaos`): 50 000 events, at least 200 consumers and 20 connections and
//! servers killed. `QSC_CHAOS_SEED` repeats a run's choices; how they meet with the workers is up to the machine.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use qsc_tests::bundle;
use qsc_tests::ingest::{
    DEAD, Entries, Events, FEATURES, INTENTS, Proxy, Random, Server, Worker, assert_undisturbed, id, verify,
    wait_for,
};

/// How much is done and destroyed.
struct Size {
    events: usize,
    consumers: usize,
    connections: usize,
}

/// What was destroyed.
#[derive(Debug, Default)]
struct Toll {
    killed: usize,
    stopped: usize,
    cut: usize,
    clients: usize,
    servers: usize,
    meddled: usize,
}

/// Adds all events a few at a time, through whatever happens to the server.
fn feed(events: &Arc<Events>, port: u16, done: &Arc<AtomicBool>, pace: Duration) -> thread::JoinHandle<()> {
    let (events, done) = (Arc::clone(events), Arc::clone(done));
    thread::spawn(move || {
        let client = redis::Client::open(format!("redis://127.0.0.1:{port}")).unwrap();
        let mut connection = None;
        let mut next = 0;
        while next < events.payloads.len() {
            let end = events.payloads.len().min(next + 20);
            if connection.is_none() {
                connection = client.get_connection_with_timeout(Duration::from_secs(1)).ok();
            }
            let added =
                connection.as_mut().is_some_and(|connection| events.add(connection, next..end).is_ok());
            if added {
                next = end;
                thread::sleep(pace);
            } else {
                connection = None;
                thread::sleep(Duration::from_millis(20));
            }
        }
        done.store(true, Ordering::Release);
    })
}

#[test]
fn no_kill_loses_doubles_or_changes_an_intent() {
    let long = std::env::var("QSC_CHAOS").is_ok_and(|form| form == "long");
    let size = if long {
        Size { events: 50_000, consumers: 200, connections: 20 }
    } else {
        Size { events: 3_000, consumers: 8, connections: 3 }
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let seed =
        std::env::var("QSC_CHAOS_SEED").map_or(now, |seed| seed.parse().expect("QSC_CHAOS_SEED is a number"));
    println!("QSC_CHAOS_SEED={seed}");
    let Some(server) = Server::start() else { return };
    let events = Arc::new(Events::new(size.events, 4, seed));
    let models = bundle::file("MODELS.toml");
    let expected = events.undisturbed(&models);

    let mut random = Random(seed);
    let proxy = Proxy::start(server.port);
    let port = server.port;
    let server = Mutex::new(server);
    // Far enough back for windows of 128 steps of 4 symbols and 100 predictions of each model.
    let more = ["--lease", "700ms", "--batch", "32", "--rebuild", "4000"];
    // One of them keeps its core.
    let start = |name: &str| {
        let spin: &[&str] = if name == "b" { &["--spin"] } else { &[] };
        Worker::start(&proxy.url(), &models, name, &[&more[..], spin].concat())
    };
    let mut workers = [Some(start("a")), Some(start("b"))];
    let mut toll = Toll::default();
    let done = Arc::new(AtomicBool::new(false));
    // Events come for as long as there is something left to kill.
    let pace = if long { Duration::from_millis(60) } else { Duration::from_millis(30) };
    let feeder = feed(&events, port, &done, pace);
    while toll.killed < size.consumers || toll.cut + toll.clients + toll.servers < size.connections {
        let at = random.below(2) as usize;
        thread::sleep(Duration::from_millis(random.below(if long { 700 } else { 900 })));
        match random.below(26) {
            0..=12 => {
                workers[at].take().unwrap().kill();
                toll.killed += 1;
                workers[at] = Some(start(["a", "b"][at]));
            }
            13..=15 => {
                // Past its lease, so that the other one takes over; then it wakes in the middle of something.
                let worker = workers[at].as_ref().unwrap();
                worker.signal("STOP");
                thread::sleep(Duration::from_millis(800 + random.below(400)));
                worker.signal("CONT");
                toll.stopped += 1;
            }
            16 | 17 => {
                proxy.cut();
                toll.cut += 1;
            }
            18 => {
                server.lock().unwrap().ask::<i64>(&["CLIENT", "KILL", "TYPE", "normal"]);
                toll.clients += 1;
            }
            19..=24 => {
                meddle(&server.lock().unwrap(), &mut random, size.events);
                toll.meddled += 1;
            }
            _ => {
                let mut server = server.lock().unwrap();
                server.kill();
                thread::sleep(Duration::from_millis(random.below(200)));
                server.start_again();
                toll.servers += 1;
            }
        }
    }
    println!("{toll:?}");
    wait_for_long("all events are added", || done.load(Ordering::Acquire));
    feeder.join().unwrap();
    let server = server.into_inner().unwrap();
    wait_for_long("all intents are there", || server.length(INTENTS) + server.length(DEAD) >= size.events);
    // Whoever would double an intent has the time to.
    thread::sleep(Duration::from_millis(300));
    for worker in workers.into_iter().flatten() {
        drop(worker.end());
    }
    assert_eq!(server.entries(DEAD), Entries::new(), "no event may be given up for it");
    assert_undisturbed(&server, &expected);
    let (code, proof) = verify(&server);
    println!("{proof}");
    assert_eq!(code, Some(0), "{proof}");
}

/// What another client of the server may do to the group: set it back or forward, take entries, remove it.
fn meddle(server: &Server, random: &mut Random, events: usize) {
    let somewhere = id(random.below(events as u64) as usize);
    let words: &[&str] = match random.below(6) {
        0 => &["XGROUP", "SETID", FEATURES, "qsc", "0"],
        1 => &["XGROUP", "SETID", FEATURES, "qsc", "$"],
        2 => &["XGROUP", "SETID", FEATURES, "qsc", &somewhere],
        3 => &["XCLAIM", FEATURES, "qsc", "z", "0", &somewhere, "FORCE", "JUSTID"],
        4 => &["XREADGROUP", "GROUP", "qsc", "z", "COUNT", "20", "STREAMS", FEATURES, ">"],
        _ => &["XGROUP", "DESTROY", FEATURES, "qsc"],
    };
    // There may be no group yet, or none any more.
    let _ = redis::cmd(words[0]).arg(&words[1..]).exec(&mut server.connection());
}

/// As [`wait_for`], for as long as a long run takes.
fn wait_for_long(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(600);
    while Instant::now() < deadline {
        if done() {
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
    wait_for(what, || done().then_some(()));
}
