//! What the settling script itself refuses, whatever its callers remember: calls that reached the server are recorded, and sent
//! once more.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;

use qsc_tests::bundle;
use qsc_tests::ingest::{Events, FEATURES, INTENTS, Server, Worker, id, verify, wait_for};

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
    let count = events.payloads.len();
    let mut monitor = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    monitor.write_all(b"MONITOR\r\n").unwrap();
    let mut lines = BufReader::new(monitor).lines().map(Result::unwrap);
    assert_eq!(lines.next().unwrap(), "+OK");
    worker.wait_for("created the group");
    events.add_all(server);
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
    // The worker still holds the lease, so the script does its work.
    for call in settling {
        call.exec(&mut server.connection()).unwrap();
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
