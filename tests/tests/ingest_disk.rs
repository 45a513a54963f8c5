//! A disk that is full under a Redis server with an append-only file: nothing is lost or doubled, it is said what is
//! wrong, and everything goes on when there is room again.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use qsc_cli::stream::EventId;
use qsc_tests::bundle;
use qsc_tests::ingest::{DEAD, Events, INTENTS, Server, Worker, assert_undisturbed, verify, wait_for};

/// Room for everything a test writes, several times over.
const MEBIBYTES: u32 = 16;

fn worker(server: &Server) -> Worker {
    let more = ["--lease", "1s", "--metrics", "127.0.0.1:0", "--redis-backoff-cap", "200ms"];
    Worker::start(&server.url(), &bundle::file("MODELS.toml"), "a", &more)
}

fn wait_for_intents(server: &Server, count: usize) {
    wait_for(&format!("{count} intents"), || (server.length(INTENTS) >= count).then_some(()));
}

/// The value of a series on the page of metrics.
fn metric(worker: &Worker, series: &str) -> f64 {
    let page = worker.served("/metrics").body;
    let value = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok());
    value.unwrap_or_else(|| panic!("no {series} in {page}"))
}

#[test]
fn a_full_disk_is_waited_for_and_named() {
    let Some(mut server) = Server::start_on_disk(MEBIBYTES, "everysec") else { return };
    let events = Events::new(400, 2, 20);
    let expected = events.undisturbed(&bundle::file("MODELS.toml"));
    let worker = worker(&server);
    events.add(&mut server.connection(), 0..200).unwrap();
    wait_for_intents(&server, 200);
    wait_for("readiness", || (worker.served("/readyz").status == 200).then_some(()));
    assert_eq!(metric(&worker, "qsc_write_refusals_total{code=\"MISCONF\"}"), 0.0);

    // The server takes these in one go, before it finds that it cannot write them down: they are read and decided, and
    // cannot be settled.
    server.disk().fill();
    events.add(&mut server.connection(), 200..210).unwrap();
    worker.wait_for("MISCONF");
    let refused = || metric(&worker, "qsc_write_refusals_total{code=\"MISCONF\"}");
    wait_for("further tries", || (refused() >= 3.0).then_some(()));
    wait_for("figures of what is held up", || {
        (metric(&worker, "qsc_lag_entries") == 10.0 && metric(&worker, "qsc_pending_entries") >= 1.0)
            .then_some(())
    });
    assert_unready(&worker);
    let one = worker.logged();
    assert_eq!(one.matches("MISCONF").count(), 1, "said once: {one}");
    // A connection made meanwhile finds the same.
    server.ask::<i64>(&["CLIENT", "KILL", "TYPE", "normal"]);
    let before = refused();
    wait_for("a second connection", || {
        (metric(&worker, "qsc_reconnects_total") >= 1.0 && refused() >= before + 2.0).then_some(())
    });
    assert_unready(&worker);
    assert_eq!(server.length(INTENTS), 200);

    server.disk().free();
    worker.wait_for("the server takes writes again");
    wait_for_intents(&server, 210);
    events.add(&mut server.connection(), 210..400).unwrap();
    wait_for_intents(&server, 400);
    wait_for("readiness", || (worker.served("/readyz").status == 200).then_some(()));
    wait_for("figures at rest", || {
        let at_rest = ["qsc_lag_entries", "qsc_pending_entries"].map(|name| metric(&worker, name));
        (at_rest == [0.0, 0.0]).then_some(())
    });
    drop(worker.end());
    assert_exact(&server, &expected);

    // What was held back in memory reached the disk.
    wait_for("a log on disk", || {
        let info: String = server.ask(&["INFO", "persistence"]);
        let synced = ["aof_last_write_status:ok", "aof_buffer_length:0", "aof_pending_bio_fsync:0"];
        synced.iter().all(|line| info.contains(line)).then_some(())
    });
    server.kill();
    server.start_again();
    assert_exact(&server, &expected);
}

fn assert_unready(worker: &Worker) {
    let ready = worker.served("/readyz");
    assert_eq!(ready.status, 503, "{}", ready.body);
    assert!(ready.body.contains("source: FAIL (takes no writes for now: MISCONF)"), "{}", ready.body);
    assert_eq!(metric(worker, "qsc_ready"), 0.0);
}

/// With `appendfsync always` Redis ends itself rather than acknowledge what it cannot write.
#[test]
fn a_server_that_ends_with_its_disk_full_takes_nothing_acknowledged_along() {
    let Some(mut server) = Server::start_on_disk(MEBIBYTES, "always") else { return };
    let events = Events::new(400, 2, 21);
    let expected = events.undisturbed(&bundle::file("MODELS.toml"));
    let worker = worker(&server);
    events.add(&mut server.connection(), 0..200).unwrap();
    // In the middle of its work.
    wait_for_intents(&server, 50);
    // Connected before: a settlement of the worker can be what ends the server.
    let mut connection = server.connection();
    server.disk().fill();
    wait_for("the producer is cut off", || events.add(&mut connection, 200..400).err());
    server.wait_for_its_end();
    worker.wait_for("trying again");
    wait_for("unreadiness", || (worker.served("/readyz").status == 503).then_some(()));
    server.disk().free();
    server.start_again();
    events.add(&mut server.connection(), 200..400).unwrap();
    wait_for_intents(&server, 400);
    let result = worker.end();
    assert!(result["stream"]["reconnects"].as_u64().unwrap() >= 1, "{result}");
    assert_exact(&server, &expected);
}

fn assert_exact(server: &Server, expected: &BTreeMap<EventId, String>) {
    assert_undisturbed(server, expected);
    assert_eq!(server.length(DEAD), 0);
    let (code, proof) = verify(server);
    assert_eq!(code, Some(0), "{proof}");
}
