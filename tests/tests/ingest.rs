//! `qsc run` from stream to stream on a real Redis: every event has exactly one intent or one dead letter, whatever is
//! killed, stopped, cut, trimmed, taken away or full, and every intent is that of an undisturbed run.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use qsc_tests::bundle::{self, text};
use qsc_tests::ingest::{
    Cut, DEAD, Events, FEATURES, INTENTS, OWNER, Proxy, Server, Worker, assert_undisturbed, id, verify,
    wait_for, wait_for_intents,
};
use qsc_tests::qsc;
use serde_json::Value;
use tempfile::TempDir;

/// All four bundled models: two of them keep windows of every symbol.
fn all_models() -> PathBuf {
    bundle::file("MODELS.toml")
}

#[test]
fn every_entry_becomes_an_intent_a_dead_letter_or_nothing() {
    let Some(server) = Server::start() else { return };
    let events = Events::new(400, 2, 1);
    let expected = events.undisturbed(&all_models());
    events.add_all(&server);
    for (kind, payload) in [
        ("market.features", "no JSON"),
        ("market.features", r#"{"symbol":"A"}"#),
        ("market.features", r#"{"features":{}}"#),
        ("market.ticks", "whatever"),
    ] {
        server.ask::<String>(&[
            "XADD",
            FEATURES,
            "*",
            "event_type",
            kind,
            "payload",
            payload,
            "trace_id",
            "t7",
        ]);
    }
    server.ask::<String>(&["XADD", FEATURES, "*", "x", "y"]);
    let worker = Worker::start(&server.url(), &all_models(), "a", &[]);
    wait_for("all dead letters", || (server.length(DEAD) == 4).then_some(()));
    let result = worker.end();
    assert_undisturbed(&server, &expected);

    let letters = server.entries(DEAD);
    let reasons: Vec<&str> = letters.iter().map(|(_, letter)| letter["reason"].as_str()).collect();
    for (reason, part) in reasons.iter().zip(["no JSON", "no features", "no symbol", "event_type is missing"])
    {
        assert!(reason.contains(part), "{part:?} is not in {reason:?}");
    }
    let (_, first) = &letters[0];
    assert_eq!(
        (first["payload"].as_str(), first["trace_id"].as_str()),
        ("no JSON", "t7"),
        "the entry is kept whole"
    );
    assert_eq!((letters[3].1["x"].as_str(), letters[3].1["group"].as_str()), ("y", "qsc"));
    assert_eq!(result["stream"]["added"], 400);
    assert_eq!((&result["stream"]["dead"], &result["other_types"]), (&4.into(), &1.into()));
    let pending: Vec<redis::Value> = server.ask(&["XPENDING", FEATURES, "qsc"]);
    assert_eq!(pending[0], redis::Value::Int(0));

    let (code, proof) = verify(&server);
    assert_eq!(code, Some(0), "{proof}");
    assert_eq!((&proof["intents"], &proof["dead"], &proof["waiting"]), (&400.into(), &4.into(), &0.into()));
}

#[test]
fn intents_carry_on_what_the_producer_traced() {
    let Some(server) = Server::start() else { return };
    let events = Events::new(1, 1, 1);
    let payload = events.payloads[0].as_str();
    server.ask::<String>(&[
        "XADD",
        FEATURES,
        "5-5",
        "event_type",
        "market.features",
        "payload",
        payload,
        "trace_id",
        "t",
        "timestamp",
        "now",
    ]);
    let worker = Worker::start(&server.url(), &all_models(), "a", &[]);
    wait_for_intents(&server, 1);
    drop(worker.end());
    let (_, intent) = &server.entries(INTENTS)[0];
    assert_eq!(
        (intent["trace_id"].as_str(), intent["timestamp"].as_str(), intent["source"].as_str()),
        ("t", "now", "qsc")
    );
    let payload: Value = serde_json::from_str(&intent["payload"]).unwrap();
    assert_eq!(payload["source_id"], "5-5");
}

/// Kills and cuts at every step: before and after the server has read, and before and after it has settled; each time
/// with the same process going on, and with another one after kill −9.
#[test]
fn nothing_is_lost_or_doubled_at_any_step() {
    let Some(server) = Server::start() else { return };
    let events = Events::new(1230, 3, 2);
    let expected = events.undisturbed(&all_models());
    let mut cases = Vec::new();
    for command in ["XREADGROUP", "EVALSHA", "XRANGE", "XCLAIM"] {
        for when in [Cut::Before, Cut::After] {
            for kill in [false, true] {
                cases.push((command, when, kill));
            }
        }
    }
    let mut connection = server.connection();
    let proxy = Proxy::start(server.port);
    let mut worker = Worker::start(&proxy.url(), &all_models(), "a", &["--batch", "16", "--lease", "2s"]);
    let step = events.payloads.len() / cases.len();
    for (at, (command, when, kill)) in cases.iter().enumerate() {
        let before = proxy.cuts();
        if *command == "XCLAIM" || *command == "XRANGE" {
            // Only a consumer that finds something pending, or rebuilds, sends it.
            proxy.cut_at("EVALSHA", 1, Cut::Before);
        } else {
            proxy.cut_at(command, at % 3, *when);
        }
        events.add(&mut connection, at * step..(at + 1) * step).unwrap();
        wait_for("the cut", || (proxy.cuts() > before).then_some(()));
        if *command == "XCLAIM" || *command == "XRANGE" {
            proxy.cut_at(command, 0, *when);
            wait_for("the second cut", || (proxy.cuts() > before + 1).then_some(()));
        }
        if *kill {
            worker.kill();
            worker = Worker::start(&proxy.url(), &all_models(), "a", &["--batch", "16", "--lease", "2s"]);
        }
        wait_for_intents(&server, (at + 1) * step);
    }
    events.add(&mut connection, cases.len() * step..events.payloads.len()).unwrap();
    wait_for_intents(&server, expected.len());
    let result = worker.end();
    assert_undisturbed(&server, &expected);
    assert_eq!(server.length(DEAD), 0, "{result}");
    assert_eq!(verify(&server).0, Some(0));
}

#[test]
fn an_owner_that_sleeps_past_its_lease_writes_nothing_more() {
    let Some(server) = Server::start() else { return };
    let events = Events::new(900, 2, 3);
    let expected = events.undisturbed(&all_models());
    let mut connection = server.connection();
    let lease = ["--lease", "500ms", "--batch", "8"];
    let first = Worker::start(&server.url(), &all_models(), "a", &lease);
    events.add(&mut connection, 0..300).unwrap();
    wait_for_intents(&server, 1);
    first.signal("STOP");
    let stopped = Instant::now();
    let second = Worker::start(&server.url(), &all_models(), "b", &lease);
    events.add(&mut connection, 300..600).unwrap();
    wait_for_intents(&server, 600);
    assert!(stopped.elapsed() > Duration::from_millis(250), "not before the lease was over");
    second.wait_for("took over the lease");
    first.signal("CONT");
    // By the first thing it wanted to write, not by what it found settled.
    first.wait_for(&format!("the lease of {FEATURES} went to b: nothing more is written"));
    first.wait_for("standing by: b holds the lease");
    events.add(&mut connection, 600..900).unwrap();
    wait_for_intents(&server, 900);
    thread::sleep(Duration::from_millis(300));
    let (first, second) = (first.end(), second.end());
    assert_undisturbed(&server, &expected);
    assert_eq!(second["stream"]["leases_lost"], 0, "{first} {second}");
    assert_eq!(verify(&server).0, Some(0));
}

#[test]
fn a_standby_takes_over_within_the_lease() {
    let Some(server) = Server::start() else { return };
    let events = Events::new(600, 2, 4);
    let expected = events.undisturbed(&all_models());
    let lease = ["--lease", "1s"];
    let owner = Worker::start(&server.url(), &all_models(), "a", &lease);
    events.add(&mut server.connection(), 0..300).unwrap();
    wait_for_intents(&server, 300);
    let standby = Worker::start(&server.url(), &all_models(), "b", &lease);
    standby.wait_for("standing by: a holds the lease");
    owner.kill();
    let killed = Instant::now();
    events.add(&mut server.connection(), 300..600).unwrap();
    wait_for_intents(&server, 600);
    // The rest of the lease, a tenth of it between two looks, and rebuilding; generous, for the machine may be busy.
    assert!(killed.elapsed() < Duration::from_secs(6), "{:?}", killed.elapsed());
    drop(standby.end());
    assert_undisturbed(&server, &expected);
}

/// As if the server's clock had gone back by an hour.
#[test]
fn a_lease_is_never_waited_for_longer_than_its_term() {
    let Some(server) = Server::start() else { return };
    let events = Events::new(100, 1, 43);
    events.add(&mut server.connection(), 0..50).unwrap();
    let owner = Worker::start(&server.url(), &all_models(), "a", &["--lease", "1s"]);
    wait_for_intents(&server, 50);
    owner.kill();
    let until: u64 = server.ask(&["HGET", OWNER, "until"]);
    server.ask::<i64>(&["HSET", OWNER, "until", &(until + 3_600_000).to_string()]);
    events.add(&mut server.connection(), 50..100).unwrap();
    let standby = Worker::start(&server.url(), &all_models(), "b", &["--lease", "1s"]);
    standby.wait_for("took over the lease");
    wait_for_intents(&server, 100);
    drop(standby.end());
}

/// Far away: a renewal takes longer than the time after which the next one is due.
#[test]
fn a_slow_way_to_the_server_leaves_time_to_read() {
    let Some(server) = Server::start() else { return };
    let events = Events::new(3, 1, 44);
    let proxy = Proxy::start(server.port);
    let worker = Worker::start(&proxy.url(), &all_models(), "a", &["--lease", "500ms"]);
    worker.wait_for("created the group");
    proxy.delay_by(Duration::from_millis(60));
    for index in 0..3 {
        events.add(&mut server.connection(), index..index + 1).unwrap();
        wait_for_intents(&server, index + 1);
        thread::sleep(Duration::from_millis(200));
    }
    drop(worker.end());
}

#[test]
fn a_clean_end_hands_the_lease_on_at_once() {
    let Some(server) = Server::start() else { return };
    let events = Events::new(20, 1, 5);
    events.add(&mut server.connection(), 0..10).unwrap();
    let owner = Worker::start(&server.url(), &all_models(), "a", &["--lease", "1h"]);
    wait_for_intents(&server, 10);
    let standby = Worker::start(&server.url(), &all_models(), "b", &["--lease", "1h"]);
    standby.wait_for("standing by");
    drop(owner.end());
    // Looked for once in six minutes with this lease: a start does so at once.
    standby.kill();
    let next = Worker::start(&server.url(), &all_models(), "c", &["--lease", "1h"]);
    events.add(&mut server.connection(), 10..20).unwrap();
    wait_for_intents(&server, 20);
    drop(next.end());
}

#[test]
fn connections_and_servers_may_die() {
    let Some(mut server) = Server::start() else { return };
    let events = Events::new(900, 2, 6);
    let expected = events.undisturbed(&all_models());
    let worker = Worker::start(&server.url(), &all_models(), "a", &["--batch", "8"]);
    events.add(&mut server.connection(), 0..300).unwrap();
    wait_for_intents(&server, 50);
    server.ask::<i64>(&["CLIENT", "KILL", "TYPE", "normal"]);
    wait_for_intents(&server, 300);
    events.add(&mut server.connection(), 300..600).unwrap();
    server.kill();
    worker.wait_for("trying again");
    server.start_again();
    wait_for_intents(&server, 600);
    server.ask::<String>(&["SCRIPT", "FLUSH"]);
    events.add(&mut server.connection(), 600..900).unwrap();
    wait_for_intents(&server, 900);
    let result = worker.end();
    assert!(result["stream"]["reconnects"].as_u64().unwrap() >= 2, "{result}");
    assert_undisturbed(&server, &expected);
}

/// A worker that keeps its core makes the same intents, ends as soon, and sees a server that does not answer.
#[test]
fn a_worker_that_keeps_its_core_is_otherwise_the_same() {
    let Some(server) = Server::start() else { return };
    let events = Events::new(900, 2, 25);
    let expected = events.undisturbed(&all_models());
    let more = ["--spin", "--redis-reply-timeout", "1s"];
    let worker = Worker::start(&server.url(), &all_models(), "a", &more);
    events.add(&mut server.connection(), 0..300).unwrap();
    wait_for_intents(&server, 300);
    // One by one, with a pause in which the last one is decided again, for nobody.
    for index in 300..330 {
        events.add(&mut server.connection(), index..index + 1).unwrap();
        thread::sleep(Duration::from_millis(2));
    }
    wait_for_intents(&server, 330);
    // It decides the last one a hundred times and more: an engine that counted that would take its models for frozen.
    thread::sleep(Duration::from_secs(2));
    events.add(&mut server.connection(), 330..340).unwrap();
    wait_for_intents(&server, 340);
    server.signal("STOP");
    worker.wait_for("did not answer");
    worker.wait_for("trying again");
    server.signal("CONT");
    events.add(&mut server.connection(), 340..900).unwrap();
    wait_for_intents(&server, 900);
    let asked = Instant::now();
    let result = worker.end();
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    assert!(result["stream"]["reconnects"].as_u64().unwrap() >= 1, "{result}");
    assert_undisturbed(&server, &expected);
    assert_eq!(verify(&server).0, Some(0));
}

/// A server that does not answer is waited for, and the loop that waits does not hang.
#[test]
fn a_slow_server_is_no_hung_loop() {
    let Some(server) = Server::start() else { return };
    let more = ["--metrics", "127.0.0.1:0", "--redis-reply-timeout", "30s"];
    let worker = Worker::start(&server.url(), &all_models(), "a", &more);
    worker.wait_for("created the group");
    server.signal("STOP");
    // Longer than the silence that is taken for a hung loop.
    thread::sleep(Duration::from_secs(12));
    let health = worker.served("/healthz");
    server.signal("CONT");
    assert_eq!(health.status, 200, "{health:?}");
    drop(worker.end());
}

#[test]
fn nothing_left_to_rebuild_from_is_told() {
    let Some(server) = Server::start() else { return };
    let events = Events::new(20, 1, 26);
    events.add(&mut server.connection(), 0..10).unwrap();
    let worker = Worker::start(&server.url(), &all_models(), "a", &[]);
    wait_for_intents(&server, 10);
    drop(worker.end());
    let worker = Worker::start(&server.url(), &all_models(), "a", &["--rebuild", "0"]);
    worker.wait_for("windows and predictions begin empty");
    drop(worker.end());
    server.ask::<i64>(&["XTRIM", FEATURES, "MAXLEN", "0"]);
    let worker = Worker::start(&server.url(), &all_models(), "a", &[]);
    worker.wait_for("windows and predictions begin empty");
    drop(worker.end());
}

/// A pass is not given where nothing can be known.
#[test]
fn the_proof_needs_something_to_prove() {
    let Some(server) = Server::start() else { return };
    let events = Events::new(10, 1, 27);
    let worker = Worker::start(&server.url(), &all_models(), "a", &[]);
    events.add_all(&server);
    wait_for_intents(&server, 10);
    drop(worker.end());
    let url = server.url();
    let refused = |arguments: &[&str], part: &str| {
        let always = ["stream", "verify", "--source", &url, "--sink-stream", INTENTS];
        let run = qsc::run(always.iter().chain(arguments));
        assert_eq!(run.code, Some(1), "{run:?}");
        assert!(run.stderr.contains(part), "{part:?} is not in {run:?}");
    };
    assert_eq!(verify(&server).0, Some(0));
    // An event without intent would count as waiting.
    server.ask::<i64>(&["HDEL", OWNER, "last"]);
    refused(&["--stream", FEATURES], "has no field last");
    server.ask::<i64>(&["HSET", OWNER, "last", &id(9)]);
    server.ask::<i64>(&["XTRIM", FEATURES, "MAXLEN", "0"]);
    refused(&["--stream", FEATURES], "no settled event is left");
    refused(&["--stream", "typo"], "there is no stream typo");
    refused(&["--stream", FEATURES, "--group", "other"], "nothing says what the group other has settled");
    server.ask::<i64>(&["HSET", OWNER, "last", "never"]);
    refused(&["--stream", FEATURES], "is no stream id");
    // Nor does a worker take it for nothing settled yet.
    server.ask::<i64>(&["XGROUP", "DESTROY", FEATURES, "qsc"]);
    let worker = qsc::run(
        ["run", "--source", &url, "--sink", &url, "--stream", FEATURES, "--sink-stream", INTENTS]
            .iter()
            .chain(&["--models", text(&all_models())]),
    );
    assert_eq!((worker.code, server.length(INTENTS)), (Some(1), 10), "{worker:?}");
}

#[test]
fn what_is_trimmed_before_it_is_decided_is_told() {
    let Some(server) = Server::start() else { return };
    let events = Events::new(300, 1, 8);
    events.add(&mut server.connection(), 0..100).unwrap();
    let worker = Worker::start(&server.url(), &all_models(), "a", &[]);
    wait_for_intents(&server, 100);
    drop(worker.end());
    // Read by a consumer that dies of it, and trimmed: 100 to 109. Trimmed unread: 110 to 149.
    events.add(&mut server.connection(), 100..200).unwrap();
    server.ask::<redis::Value>(&[
        "XREADGROUP",
        "GROUP",
        "qsc",
        "dead",
        "COUNT",
        "10",
        "STREAMS",
        FEATURES,
        ">",
    ]);
    server.ask::<i64>(&["XTRIM", FEATURES, "MINID", &id(150)]);
    let worker = Worker::start(&server.url(), &all_models(), "a", &[]);
    wait_for_intents(&server, 150);
    worker.wait_for(&format!("GAP: 40 entries of {FEATURES} were removed"));
    let result = worker.end();
    assert_eq!((&result["stream"]["lost"], &result["stream"]["dead"]), (&40.into(), &10.into()), "{result}");
    let letters = server.entries(DEAD);
    assert_eq!(letters.len(), 10);
    for ((_, letter), index) in letters.iter().zip(100..) {
        assert_eq!(letter["source_id"], id(index));
        assert!(letter["reason"].contains("removed from the stream"), "{letter:?}");
    }
    // One that is removed alone, in the middle, is missed when everything is settled.
    events.add(&mut server.connection(), 200..300).unwrap();
    server.ask::<i64>(&["XDEL", FEATURES, &id(250)]);
    let worker = Worker::start(&server.url(), &all_models(), "a", &[]);
    worker.wait_for(&format!("GAP: 1 entries of {FEATURES} were removed"));
    wait_for_intents(&server, 249);
    drop(worker.end());
    assert_eq!(server.length(INTENTS), 249);
}

#[test]
fn poison_is_given_up_alone() {
    let Some(server) = Server::start() else { return };
    let events = Events::new(300, 1, 9);
    events.add_all(&server);
    // A consumer has taken ten entries and died five times at the fourth; those behind it came as often, but one.
    server.ask::<i64>(&["DEL", OWNER]);
    server.ask::<String>(&["XGROUP", "CREATE", FEATURES, "qsc", "0"]);
    server.ask::<redis::Value>(&[
        "XREADGROUP",
        "GROUP",
        "qsc",
        "dead",
        "COUNT",
        "10",
        "STREAMS",
        FEATURES,
        ">",
    ]);
    for (index, deliveries) in [(3, "5"), (4, "4"), (5, "2")] {
        server.ask::<redis::Value>(&[
            "XCLAIM",
            FEATURES,
            "qsc",
            "dead",
            "0",
            &id(index),
            "RETRYCOUNT",
            deliveries,
            "JUSTID",
        ]);
    }
    let worker = Worker::start(&server.url(), &all_models(), "a", &["--deliveries", "5"]);
    wait_for_intents(&server, 299);
    worker.wait_for(&format!("POISON: the entry {}", id(3)));
    drop(worker.end());
    let letters = server.entries(DEAD);
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].1["source_id"], id(3));
    assert!(letters[0].1["reason"].contains("delivered 5 times"), "{letters:?}");
    assert_eq!(letters[0].1["payload"], events.payloads[3]);
    // Nor does it pass the models again when they are rebuilt: the intents after it are those without it.
    let mut without = Events { payloads: events.payloads.clone() };
    without.payloads[3] = "poison".to_owned();
    assert_undisturbed(&server, &without.undisturbed(&all_models()));
    let worker = Worker::start(&server.url(), &all_models(), "a", &[]);
    worker.wait_for("rebuilt from 300 entries");
    server.ask::<String>(&[
        "XADD",
        FEATURES,
        &id(300),
        "event_type",
        "market.features",
        "payload",
        &events.payloads[0],
    ]);
    wait_for_intents(&server, 300);
    drop(worker.end());
    without.payloads.push(events.payloads[0].clone());
    assert_undisturbed(&server, &without.undisturbed(&all_models()));
    assert_eq!(verify(&server).0, Some(0));
}

/// Nobody dies of an event that the server refuses to settle, however often that is tried.
#[test]
fn what_is_refused_is_no_poison() {
    let Some(server) = Server::start() else { return };
    let events = Events::new(20, 1, 47);
    let expected = events.undisturbed(&all_models());
    events.add_all(&server);
    server.ask::<String>(&["XGROUP", "CREATE", FEATURES, "qsc", "0"]);
    let read = ["XREADGROUP", "GROUP", "qsc", "dead", "COUNT", "20", "STREAMS", FEATURES, ">"];
    server.ask::<redis::Value>(&read);
    // One that came back already, and so comes alone.
    let claim = ["XCLAIM", FEATURES, "qsc", "dead", "0", &id(7), "RETRYCOUNT", "2", "JUSTID"];
    server.ask::<redis::Value>(&claim);
    server.ask::<String>(&["ACL", "SETUSER", "weak", "on", ">pw", "~*", "+@all", "-xadd"]);
    let weak = server.url().replace("redis://", "redis://weak:pw@");
    let streams = ["--stream", FEATURES, "--sink-stream", INTENTS, "--deliveries", "3"];
    let arguments: Vec<&str> = ["--source", &weak, "--sink", &weak].into_iter().chain(streams).collect();
    let deliveries = || {
        let pending: Vec<(String, String, u64, u64)> =
            server.ask(&["XPENDING", FEATURES, "qsc", "-", "+", "20"]);
        pending.into_iter().map(|(_, _, _, deliveries)| deliveries).collect::<Vec<_>>()
    };
    let before = deliveries();
    for _ in 0..4 {
        refused(&all_models(), &arguments, &["can't run this command"]);
        assert_eq!(deliveries(), before);
    }
    let worker = Worker::start(&server.url(), &all_models(), "a", &["--deliveries", "3"]);
    wait_for_intents(&server, 20);
    drop(worker.end());
    assert_undisturbed(&server, &expected);
    assert_eq!(server.length(DEAD), 0);
}

#[test]
fn a_full_server_is_waited_for() {
    let Some(server) = Server::start() else { return };
    let events = Events::new(400, 1, 11);
    let expected = events.undisturbed(&all_models());
    let worker = Worker::start(&server.url(), &all_models(), "a", &["--lease", "500ms"]);
    events.add(&mut server.connection(), 0..200).unwrap();
    wait_for_intents(&server, 200);
    // Writers of features fail as well, so the events are there before.
    worker.signal("STOP");
    events.add(&mut server.connection(), 200..400).unwrap();
    server.ask::<String>(&["CONFIG", "SET", "maxmemory", "1mb"]);
    worker.signal("CONT");
    wait_for("the worker says so", || worker.logged().contains("maxmemory").then_some(()));
    assert_eq!(server.length(INTENTS), 200);
    server.ask::<String>(&["CONFIG", "SET", "maxmemory", "0"]);
    wait_for_intents(&server, 400);
    drop(worker.end());
    assert_undisturbed(&server, &expected);
}

#[test]
fn an_intent_that_cannot_be_added_leaves_its_event_pending() {
    let Some(server) = Server::start() else { return };
    let events = Events::new(200, 1, 12);
    let expected = events.undisturbed(&all_models());
    let worker = Worker::start(&server.url(), &all_models(), "a", &["--batch", "4"]);
    events.add(&mut server.connection(), 0..100).unwrap();
    wait_for_intents(&server, 100);
    server.ask::<String>(&["RENAME", INTENTS, "kept"]);
    server.ask::<String>(&["SET", INTENTS, "no stream"]);
    events.add(&mut server.connection(), 100..200).unwrap();
    worker.wait_for("WRONGTYPE");
    server.ask::<i64>(&["DEL", INTENTS]);
    server.ask::<String>(&["RENAME", "kept", INTENTS]);
    wait_for_intents(&server, 200);
    drop(worker.end());
    assert_undisturbed(&server, &expected);
}

#[test]
fn intents_are_trimmed_only_where_asked() {
    let Some(server) = Server::start() else { return };
    let events = Events::new(2000, 1, 13);
    events.add_all(&server);
    let two = TempDir::new().unwrap();
    let models = bundle::write_models(two.path(), "", "");
    let worker = Worker::start(&server.url(), &models, "a", &["--intents-maxlen", "200"]);
    wait_for("everything is settled", || {
        let last: Option<String> = server.ask(&["HGET", OWNER, "last"]);
        (last == Some(id(1999))).then_some(())
    });
    drop(worker.end());
    // Whole nodes of a stream are trimmed, a hundred entries each.
    let kept = server.length(INTENTS);
    assert!((200..500).contains(&kept), "{kept}");
}

#[test]
fn new_weights_are_taken_up_between_two_events() {
    let Some(server) = Server::start() else { return };
    let directory = TempDir::new().unwrap();
    let models = bundle::write_models(directory.path(), "", "");
    let state = directory.path().join("state");
    std::fs::create_dir(&state).unwrap();
    let weigh = |generation: u32, xgb: f64| {
        let text = format!(
            r#"{{"generation":{generation},"canary":null,"weights":{{"xgb":{xgb},"lgbm":{}}}}}"#,
            1.0 - xgb
        );
        // Without a log an engine takes up what is the baseline, and nothing else.
        let weights = text.split_once("\"weights\":").unwrap().1;
        let saved = format!(r#"{{"generation":0,"origin":"MODELS.toml","weights":{weights}"#);
        std::fs::write(state.join("baseline.json"), saved).unwrap();
        std::fs::write(state.join("new"), text).unwrap();
        std::fs::rename(state.join("new"), state.join("weights.json")).unwrap();
    };
    weigh(1, 0.5);
    let worker = Worker::start(&server.url(), &models, "a", &["--state-dir", text(&state)]);
    let events = Events::new(2, 1, 14);
    events.add(&mut server.connection(), 0..1).unwrap();
    wait_for_intents(&server, 1);
    weigh(2, 0.1);
    worker.wait_for("EFFECTIVE_WEIGHTS generation=2");
    // A lost connection rebuilds what is remembered, not what is weighed.
    server.ask::<i64>(&["CLIENT", "KILL", "TYPE", "normal"]);
    events.add(&mut server.connection(), 1..2).unwrap();
    wait_for_intents(&server, 2);
    drop(worker.end());
    let weights: Vec<Value> = server
        .entries(INTENTS)
        .iter()
        .map(|(_, intent)| {
            serde_json::from_str::<Value>(&intent["payload"]).unwrap()["effective_weights"]["xgb"].clone()
        })
        .collect();
    assert_eq!(weights, [Value::from(0.5), Value::from(0.1)]);
}

#[test]
fn a_short_memory_is_owned_up_to() {
    let Some(server) = Server::start() else { return };
    let events = Events::new(400, 1, 15);
    events.add(&mut server.connection(), 0..300).unwrap();
    let worker = Worker::start(&server.url(), &all_models(), "a", &[]);
    wait_for_intents(&server, 300);
    drop(worker.end());
    let worker = Worker::start(&server.url(), &all_models(), "a", &["--rebuild", "50"]);
    worker.wait_for("rebuilt from 50 entries");
    assert!(worker.logged().contains("older ones were not read"), "{}", worker.logged());
    events.add(&mut server.connection(), 300..400).unwrap();
    wait_for_intents(&server, 400);
    drop(worker.end());
    let reasons: Vec<Value> = server
        .entries(INTENTS)
        .iter()
        .skip(300)
        .map(|(_, intent)| {
            let intent: Value = serde_json::from_str(&intent["payload"]).unwrap();
            intent["model_breakdown"]["nhits"]["inactive_reason"].clone()
        })
        .collect();
    // Windows of 120 steps: 50 were read back.
    let waiting = reasons.iter().filter(|reason| *reason == "insufficient_history").count();
    assert_eq!(waiting, 120 - 50 - 1, "{reasons:?}");
}

fn refused(models: &Path, arguments: &[&str], parts: &[&str]) {
    let mut command = qsc::command(["run", "--models", text(models)]);
    command.args(arguments);
    let run = qsc::finish(command, &[]);
    assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""), "{run:?}");
    let last = run.stderr.lines().last().unwrap();
    assert!(last.starts_with("QSC FAIL-CLOSED: "), "{run:?}");
    for part in parts {
        assert!(last.contains(part), "{part:?} is not in {last}");
    }
}

#[test]
fn what_cannot_be_exact_is_refused_in_one_sentence() {
    let (Some(server), Some(other)) = (Server::start(), Server::start()) else { return };
    let directory = TempDir::new().unwrap();
    let models = bundle::write_models(directory.path(), "", "");
    let (url, elsewhere) = (server.url(), other.url());
    let database = format!("{url}/1");
    let file = format!("file:{}", text(&directory.path().join("out")));
    let dead = format!("{FEATURES}:dead");
    for (arguments, parts) in [
        (&["--source", &url, "--sink", &elsewhere][..], &["another server or database", "replicate"][..]),
        (&["--source", &url, "--sink", &database], &["another server or database"]),
        (&["--source", &url, "--sink", &file], &["same server", "capture the stream"]),
        (&["--source", "-", "--sink", &url], &["only from a stream of the same server"]),
        (&["--source", &url, "--sink", &url, "--rejects", "r"], &["leave --rejects out"]),
        (&["--source", &url, "--sink", &url, "--stream", "x", "--sink-stream", "x"], &["--sink-stream"]),
        (
            &["--source", &url, "--sink", &url, "--stream", FEATURES, "--sink-stream", &dead],
            &["--sink-stream"],
        ),
        (&["--source", "redis://127.0.0.1:1", "--sink", &url], &["127.0.0.1:1"]),
    ] {
        refused(&models, arguments, parts);
    }
    server.ask::<String>(&["SET", "text", "x"]);
    refused(
        &models,
        &["--source", &url, "--sink", &url, "--stream", "text"],
        &["must be streams", "--stream"],
    );
    server.ask::<String>(&["ACL", "SETUSER", "weak", "on", ">pw", "~*", "+@all", "-xreadgroup", "-evalsha"]);
    let weak = url.replace("redis://", "redis://weak:pw@");
    refused(&models, &["--source", &weak, "--sink", &weak], &["does not permit", "docs/ingest.md"]);
    assert!(!directory.path().join("out").exists());
}

/// What comes while it reads is not held against anybody.
#[test]
fn the_proof_holds_while_a_worker_works() {
    let Some(server) = Server::start() else { return };
    let events = Events::new(6000, 2, 45);
    let two = TempDir::new().unwrap();
    let worker = Worker::start(&server.url(), &bundle::write_models(two.path(), "", ""), "a", &[]);
    worker.wait_for("created the group");
    thread::scope(|scope| {
        let feeder = scope.spawn(|| {
            let mut connection = server.connection();
            for start in (0..6000).step_by(20) {
                events.add(&mut connection, start..start + 20).unwrap();
                thread::sleep(Duration::from_millis(5));
            }
        });
        wait_for_intents(&server, 1);
        while !feeder.is_finished() {
            let (code, proof) = verify(&server);
            assert_eq!(code, Some(0), "{proof}");
        }
    });
    wait_for_intents(&server, 6000);
    drop(worker.end());
    assert_eq!(verify(&server).1["intents"], 6000);
}

#[test]
fn the_proof_finds_what_is_wrong() {
    let Some(server) = Server::start() else { return };
    let directory = TempDir::new().unwrap();
    let models = bundle::write_models(directory.path(), "", "");
    let events = Events::new(1500, 1, 16);
    events.add(&mut server.connection(), 0..1400).unwrap();
    let worker = Worker::start(&server.url(), &models, "a", &[]);
    wait_for_intents(&server, 1400);
    drop(worker.end());
    events.add(&mut server.connection(), 1400..1500).unwrap();
    let (code, proof) = verify(&server);
    assert_eq!((code, &proof["waiting"]), (Some(0), &100.into()), "{proof}");

    let intents = server.entries(INTENTS);
    let again = |index: usize, payload: &str| {
        let (_, fields) = &intents[index];
        server.ask::<String>(&[
            "XADD",
            INTENTS,
            "*",
            "event_type",
            &fields["event_type"],
            "payload",
            payload,
        ]);
    };
    server.ask::<i64>(&["XDEL", INTENTS, &intents[700].0]);
    let (code, proof) = verify(&server);
    assert_eq!((code, &proof["missing"]), (Some(2), &1.into()), "{proof}");
    assert_eq!(proof["examples"][0], format!("{} has neither intent nor dead letter", id(700)));
    // Late is not missing.
    again(700, &intents[700].1["payload"]);
    let (code, proof) = verify(&server);
    assert_eq!((code, &proof["missing"], &proof["disordered"]), (Some(0), &0.into(), &1.into()), "{proof}");
    again(3, &intents[3].1["payload"]);
    let (code, proof) = verify(&server);
    assert_eq!(code, Some(2), "{proof}");
    let name = proof["examples"][0].as_str().unwrap();
    assert!(name.starts_with(&id(3)) && name.contains("too many"), "{proof}");
}

/// What docs/ingest.md says a user must be permitted is enough, and is what it says.
#[test]
fn the_documented_permissions_suffice() {
    let Some(server) = Server::start() else { return };
    let page =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/ingest.md")).unwrap();
    let (_, rules) = page.split_once("ACL SETUSER qsc on >\u{2026} ").unwrap();
    let rules: Vec<&str> = rules.split_whitespace().collect();
    let tagged = format!("~{}*", FEATURES.split_once('f').unwrap().0);
    let rules = rules.iter().map(|rule| if rule.starts_with('~') { tagged.as_str() } else { rule });
    let set: Vec<&str> = ["ACL", "SETUSER", "trader", "on", ">pw"].into_iter().chain(rules).collect();
    server.ask::<String>(&set);
    let url = server.url().replace("redis://", "redis://trader:pw@");
    let events = Events::new(300, 1, 17);
    events.add(&mut server.connection(), 0..100).unwrap();
    server.ask::<String>(&["XADD", FEATURES, &id(100), "event_type", "market.features", "payload", "x"]);
    let worker = Worker::start(&url, &all_models(), "a", &[]);
    wait_for("the dead letter", || (server.length(DEAD) == 1).then_some(()));
    worker.kill();
    events.add(&mut server.connection(), 101..200).unwrap();
    server.ask::<redis::Value>(&["XREADGROUP", "GROUP", "qsc", "b", "COUNT", "5", "STREAMS", FEATURES, ">"]);
    let worker = Worker::start(&url, &all_models(), "a", &[]);
    wait_for_intents(&server, 199);
    drop(worker.end());
    let run =
        qsc::run(["stream", "verify", "--source", &url, "--stream", FEATURES, "--sink-stream", INTENTS]);
    assert_eq!(run.code, Some(0), "{run:?}");
}
