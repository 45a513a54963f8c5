//! A batch that is settled a second time adds nothing: what reached the server is recorded, and sent once more.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;

use qsc_tests::bundle;
use qsc_tests::ingest::{Events, INTENTS, Server, Worker, verify, wait_for};

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

#[test]
fn a_batch_sent_twice_is_settled_once() {
    const EVENTS: usize = 20;
    let Some(server) = Server::start() else { return };
    let mut monitor = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    monitor.write_all(b"MONITOR\r\n").unwrap();
    let mut lines = BufReader::new(monitor).lines().map(Result::unwrap);
    assert_eq!(lines.next().unwrap(), "+OK");

    let worker = Worker::start(&server.url(), &bundle::file("MODELS.toml"), "a", &[]);
    Events::new(EVENTS, 1, 18).add_all(&server);
    wait_for("the intents", || (server.length(INTENTS) == EVENTS).then_some(()));
    server.ask::<String>(&["ECHO", "recorded"]);
    let settling: Vec<Vec<Vec<u8>>> = lines
        .take_while(|line| !line.ends_with("\"ECHO\" \"recorded\""))
        .filter(|line| line.contains("\"EVALSHA\"") && line.contains("\"intent\""))
        .map(|line| arguments(&line))
        .collect();
    assert!(!settling.is_empty(), "nothing was settled by EVALSHA");

    // The worker still holds the lease, so the script does its work.
    for call in settling {
        let mut again = redis::cmd("EVALSHA");
        again.arg(&call[1..]);
        again.exec(&mut server.connection()).unwrap();
    }
    assert_eq!(server.length(INTENTS), EVENTS, "intents, after each batch was sent twice");
    drop(worker.end());
    assert_eq!(verify(&server).0, Some(0));
}
