//! What the scripts themselves refuse, whatever their callers remember: settling calls that reached the server are recorded, and
//! sent once more.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use qsc_tests::bundle;
use qsc_tests::ingest::{Events, FEATURES, INTENTS, OWNER, Server, Worker, id, verify, wait_for};

/// The arguments of a line that `MONITOR` wrote: quoted, with what cannot be printed as `\xHH`.
fn arguments(line: &str) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let mut bytes = line.bytes().skip_while(|&byte| byte != b'"');
    while bytes.next().is_some() {
        let mut argument = Vec::new();
        loop {
            match bytes.next().unwrap() {
                b'"' => break,
                b'\\' => argument.push(match bytes.next().unwrap() {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'a' => 7,
                    b'b' => 8,
                    b'x' => {
                        let digits = [bytes.next().unwrap(), bytes.next().unwrap()];
                        u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
                    }
                    other => other,
                }),
                byte => argument.push(byte),
            }
        }
        all.push(argument);
        bytes.next();
    }
    all
}

/// The settling calls of `events` on their way from a worker to the server.
fn recorded(server: &Server, worker: &Worker, events: &Events) -> Vec<redis::Cmd> {
    worker.wait_for("created the group");
    recorded_by(server, events, || ())
}

/// The same; `added` is called when all of them are added.
fn recorded_by(server: &Server, events: &Events, added: impl FnOnce()) -> Vec<redis::Cmd> {
    let count = events.payloads.len();
    let mut monitor = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    monitor.write_all(b"MONITOR\r\n").unwrap();
    let mut lines = BufReader::new(monitor).lines().map(Result::unwrap);
    assert_eq!(lines.next().unwrap(), "+OK");
    events.add_all(server);
    added();
    wait_for("the intents", || (server.length(INTENTS) == count).then_some(()));
    server.ask::<String>(&["ECHO", "recorded"]);
    let settling = lines
        .take_while(|line| !line.ends_with("\"ECHO\" \"recorded\""))
        .filter(|line| line.contains("\"EVALSHA\"") && line.contains("\"intent\""));
    settling
        .map(|line| {
            let mut call = redis::cmd("EVALSHA");
            call.arg(&arguments(&line)[1..]);
            call
        })
        .collect()
}

#[test]
fn a_batch_sent_twice_is_settled_once() {
    let Some(server) = Server::start() else { return };
    let events = Events::new(20, 1, 18);
    let worker = Worker::start(&server.url(), &bundle::file("MODELS.toml"), "a", &[]);
    let settling = recorded(&server, &worker, &events);
    assert!(!settling.is_empty(), "nothing was settled by EVALSHA");
    // The worker still holds the lease, but nothing of it is pending.
    for call in settling {
        let refusal = call.exec(&mut server.connection()).unwrap_err().to_string();
        assert!(refusal.contains("GONE"), "{refusal}");
    }
    assert_eq!(server.length(INTENTS), 20, "intents, after each batch was sent twice");
    drop(worker.end());
    assert_eq!(verify(&server).0, Some(0));
}

#[test]
fn a_batch_behind_an_older_pending_entry_is_refused_whole() {
    let Some(server) = Server::start() else { return };
    let worker = Worker::start(&server.url(), &bundle::file("MODELS.toml"), "a", &["--batch", "1"]);
    let settling = recorded(&server, &worker, &Events::new(3, 1, 19));
    assert_eq!(settling.len(), 3, "one call for each entry");
    // Asleep, it sees nothing of this, and its token still stands with the lease.
    worker.signal("STOP");
    let claim = ["XCLAIM", FEATURES, "qsc", "other", "0", &id(0), &id(1), "FORCE", "JUSTID"];
    assert_eq!(server.ask::<Vec<String>>(&claim), [id(0), id(1)]);
    let refusal = settling[1].exec(&mut server.connection()).unwrap_err().to_string();
    assert!(refusal.contains("STRAY"), "{refusal}");
    assert_eq!(server.length(INTENTS), 3);
    settling[0].exec(&mut server.connection()).unwrap();
    assert_eq!(server.length(INTENTS), 4, "the oldest one is settled");
    worker.kill();
}

/// Somebody acknowledged the first entry of a batch and holds an older one: the rest is refused all the same.
#[test]
fn a_batch_whose_first_entry_is_acknowledged_is_refused_behind_an_older_one() {
    let Some(server) = Server::start() else { return };
    let events = Events::new(4, 1, 28);
    let worker = Worker::start(&server.url(), &bundle::file("MODELS.toml"), "a", &[]);
    // The worker sleeps while they are added, and its read is over: so they come as one batch.
    worker.wait_for("created the group");
    worker.signal("STOP");
    thread::sleep(Duration::from_millis(500));
    let settling = recorded_by(&server, &events, || worker.signal("CONT"));
    assert_eq!(settling.len(), 1, "one call for all entries");
    worker.signal("STOP");
    // 1 is the batch's first in a call without 0; it stays acknowledged.
    let claim = ["XCLAIM", FEATURES, "qsc", "other", "0", &id(0), &id(2), &id(3), "FORCE", "JUSTID"];
    assert_eq!(server.ask::<Vec<String>>(&claim), [id(0), id(2), id(3)]);
    let refusal = without_first(&settling[0]).exec(&mut server.connection()).unwrap_err().to_string();
    assert!(refusal.contains("STRAY"), "{refusal}");
    assert_eq!(server.length(INTENTS), 4);
    worker.kill();
}

/// Somebody acknowledged one entry in the middle of a batch: nobody could tell later that it has no outcome.
#[test]
fn a_batch_with_an_entry_that_is_pending_no_more_is_refused_whole() {
    let Some(server) = Server::start() else { return };
    let events = Events::new(4, 1, 34);
    let worker = Worker::start(&server.url(), &bundle::file("MODELS.toml"), "a", &[]);
    worker.wait_for("created the group");
    worker.signal("STOP");
    thread::sleep(Duration::from_millis(500));
    let settling = recorded_by(&server, &events, || worker.signal("CONT"));
    worker.signal("STOP");
    let claim = ["XCLAIM", FEATURES, "qsc", "a", "0", &id(0), &id(2), &id(3), "FORCE", "JUSTID"];
    assert_eq!(server.ask::<Vec<String>>(&claim), [id(0), id(2), id(3)]);
    let (mut head, entries) = split(&settling[0]);
    head[LAST_SETTLED].clear();
    let refusal = joined(&head, &entries).exec(&mut server.connection()).unwrap_err().to_string();
    assert!(refusal.contains("GONE") && refusal.contains(&id(1)), "{refusal}");
    assert_eq!(server.length(INTENTS), 4);
    worker.kill();
}

/// Three calls that were sent, one for each entry; the worker sleeps, and the last entry is pending again.
fn last_pending_again(server: &Server, seed: u64) -> (Worker, Vec<redis::Cmd>) {
    let worker = Worker::start(&server.url(), &bundle::file("MODELS.toml"), "a", &["--batch", "1"]);
    let settling = recorded(server, &worker, &Events::new(3, 1, seed));
    assert_eq!(settling.len(), 3, "one call for each entry");
    worker.signal("STOP");
    let claim = ["XCLAIM", FEATURES, "qsc", "a", "0", &id(2), "FORCE", "JUSTID"];
    assert_eq!(server.ask::<Vec<String>>(&claim), [id(2)]);
    (worker, settling)
}

/// Set forward: what was decided here was decided without the entry passed over.
#[test]
fn a_batch_behind_an_entry_passed_over_is_refused_whole() {
    let Some(server) = Server::start() else { return };
    let (worker, settling) = last_pending_again(&server, 29);
    // As if entry 0 were the last one settled.
    let (mut head, entries) = split(&settling[2]);
    assert_eq!(head[LAST_SETTLED], format!("({}", id(1)).as_bytes());
    head[LAST_SETTLED] = format!("({}", id(0)).into_bytes();
    let refusal = joined(&head, &entries).exec(&mut server.connection()).unwrap_err().to_string();
    assert!(refusal.contains("SKIPPED") && refusal.contains(&id(1)), "{refusal}");
    assert_eq!(server.length(INTENTS), 3);
    settling[2].exec(&mut server.connection()).unwrap();
    assert_eq!(server.length(INTENTS), 4, "nothing lies between this one and what is settled");
    worker.kill();
}

/// Another consumer has the lease, and has settled nothing that would give the batch away.
#[test]
fn a_batch_of_who_lost_the_lease_is_refused_whole() {
    let Some(server) = Server::start() else { return };
    let (worker, settling) = last_pending_again(&server, 30);
    server.ask::<i64>(&["HSET", OWNER, "token", "new", "consumer", "b"]);
    let refusal = settling[2].exec(&mut server.connection()).unwrap_err().to_string();
    assert!(refusal.contains("FENCED") && refusal.ends_with('b'), "{refusal}");
    assert_eq!(server.length(INTENTS), 3);
    worker.kill();
}

/// Its connection was lost, and the process that sent it is in a later shift: it may have decided the same entries anew.
#[test]
fn a_batch_of_an_earlier_shift_is_refused_whole() {
    let Some(server) = Server::start() else { return };
    let worker = Worker::start(&server.url(), &bundle::file("MODELS.toml"), "a", &["--batch", "1"]);
    let settling = recorded(&server, &worker, &Events::new(3, 1, 33));
    let token = || server.ask::<String>(&["HGET", OWNER, "token"]);
    let before = token();
    server.ask::<i64>(&["CLIENT", "KILL", "TYPE", "normal"]);
    wait_for("the next shift", || (token() != before).then_some(()));
    worker.signal("STOP");
    let claim = ["XCLAIM", FEATURES, "qsc", "a", "0", &id(2), "FORCE", "JUSTID"];
    assert_eq!(server.ask::<Vec<String>>(&claim), [id(2)]);
    let refusal = settling[2].exec(&mut server.connection()).unwrap_err().to_string();
    assert!(refusal.contains("FENCED"), "{refusal}");
    assert_eq!(server.length(INTENTS), 3);
    worker.kill();
}

/// `fenced.lua` by itself: who slept and lost the lease sets no group and keeps no account.
#[test]
fn a_command_is_done_for_the_holder_of_the_lease_alone() {
    let Some(server) = Server::start() else { return };
    server.ask::<i64>(&["HSET", OWNER, "token", "new", "consumer", "b", "last", &id(1)]);
    let account = |token| {
        let mut call = redis::cmd("EVAL");
        call.arg(include_str!("../../host-cli/src/ingest/fenced.lua")).arg(2).arg(FEATURES).arg(OWNER);
        call.arg(token).arg(&["HSET", OWNER, "last", &id(0)]);
        call.exec(&mut server.connection())
    };
    let refusal = account("old").unwrap_err().to_string();
    assert!(refusal.contains("FENCED") && refusal.ends_with('b'), "{refusal}");
    assert_eq!(server.ask::<String>(&["HGET", OWNER, "last"]), id(1));
    account("new").unwrap();
    assert_eq!(server.ask::<String>(&["HGET", OWNER, "last"]), id(0));
}

/// `EVALSHA`, the script, the number of keys, four keys; then six arguments, the last of which is this.
const LAST_SETTLED: usize = 3 + 4 + 5;

/// What a call says of its batch, and the entries.
fn split(call: &redis::Cmd) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let mut arguments: Vec<Vec<u8>> = call
        .args_iter()
        .map(|argument| match argument {
            redis::Arg::Simple(bytes) => bytes.to_vec(),
            _ => panic!("a plain argument"),
        })
        .collect();
    let entries = arguments.split_off(LAST_SETTLED + 1);
    (arguments, entries)
}

fn joined(head: &[Vec<u8>], entries: &[Vec<u8>]) -> redis::Cmd {
    let mut call = redis::Cmd::new();
    call.arg(head).arg(entries);
    call
}

/// The call without its first entry.
fn without_first(call: &redis::Cmd) -> redis::Cmd {
    let (mut head, entries) = split(call);
    let count: usize = std::str::from_utf8(&entries[2]).unwrap().parse().unwrap();
    let rest = &entries[3 + count..];
    // It does not lie beyond what is settled.
    head[LAST_SETTLED].clear();
    joined(&head, rest)
}
