//! What Redis keeps when it is killed, when its log is torn, and when a replica takes over: the claims of docs/redis.md,
//! each on a real server.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use qsc_cli::stream::{Durability, Link, LinkOptions, RedisAddress, Trouble};
use qsc_tests::redis::{Options, RedisServer, wait_until};
use redis::cmd;

const IN: &str = "{t}:in";
const OUT: &str = "{t}:out";

/// The acknowledgement and what follows from it are one.
const DECIDE: &str = "if redis.call('XACK', KEYS[1], 'g', ARGV[1]) == 1 then \
    return redis.call('XADD', KEYS[2], '*', 'source_id', ARGV[1]) end";

fn link(server: &RedisServer) -> Link {
    let address = RedisAddress::parse(&server.tcp_url("")).unwrap();
    Link::connect(&address, OUT, &LinkOptions::default()).unwrap()
}

fn start(config: &[&str]) -> Option<RedisServer> {
    RedisServer::start(&Options { config, ..Options::default() })
}

fn add(link: &mut Link, number: u32) -> Result<String, Trouble> {
    link.query(cmd("XADD").arg(OUT).arg(format!("{number}-0")).arg("n").arg(number))
}

/// Writes until the server is killed in the middle of it; how many writes were acknowledged.
fn write_until_killed(server: &mut RedisServer, after: Duration) -> u32 {
    let mut link = link(server);
    std::thread::scope(|scope| {
        let write = scope.spawn(move || {
            let mut number = link.query::<u32>(cmd("XLEN").arg(OUT)).unwrap();
            loop {
                match add(&mut link, number + 1) {
                    Ok(_) => number += 1,
                    Err(Trouble::Unknown(_)) => return number,
                    Err(trouble) => panic!("{trouble:?}"),
                }
            }
        });
        std::thread::sleep(after);
        server.kill();
        write.join().unwrap()
    })
}

#[test]
fn with_a_log_synced_always_a_kill_loses_nothing_acknowledged() {
    let Some(mut server) = start(&["appendonly yes", "appendfsync always"]) else { return };
    assert_eq!(Durability::inspect(&mut link(&server)).unwrap().warnings(), Vec::<String>::new());
    let mut total = 0;
    for round in 0..5 {
        let acknowledged = write_until_killed(&mut server, Duration::from_millis(100 + 70 * round));
        assert!(acknowledged > total, "round {round}");
        server.restart();
        let kept: u32 = server.ask(&format!("XLEN {OUT}"));
        assert!(
            kept == acknowledged || kept == acknowledged + 1,
            "{kept} of {acknowledged}, and one unknown"
        );
        total = kept;
    }
}

#[test]
fn without_a_log_a_kill_loses_everything() {
    let Some(mut server) = start(&[]) else { return };
    let warnings = Durability::inspect(&mut link(&server)).unwrap().warnings();
    assert!(warnings.len() == 1 && warnings[0].contains("appendonly no"), "{warnings:?}");
    assert!(write_until_killed(&mut server, Duration::from_millis(100)) > 0);
    server.restart();
    assert_eq!(server.ask::<u32>(&format!("XLEN {OUT}")), 0);
}

#[test]
fn a_log_cut_anywhere_keeps_a_prefix_with_each_decision_whole() {
    let Some(mut server) = start(&["appendonly yes", "appendfsync everysec"]) else { return };
    let warnings = Durability::inspect(&mut link(&server)).unwrap().warnings();
    assert!(warnings.len() == 1 && warnings[0].contains("everysec"), "{warnings:?}");
    server.ask::<()>(&format!("XGROUP CREATE {IN} g 0 MKSTREAM"));
    let mut link = link(&server);
    for number in 1..=50 {
        link.query::<()>(cmd("XADD").arg(IN).arg(format!("{number}-0")).arg("n").arg(number)).unwrap();
        let mut read = cmd("XREADGROUP");
        read.arg("GROUP").arg("g").arg("c").arg("COUNT").arg(1).arg("STREAMS").arg(IN).arg(">");
        link.query::<redis::Value>(&read).unwrap();
        let mut decide = cmd("EVAL");
        decide.arg(DECIDE).arg(2).arg(IN).arg(OUT).arg(format!("{number}-0"));
        link.query::<String>(&decide).unwrap();
    }
    server.kill();
    let log = log_file(&server);
    let whole = fs::read(&log).unwrap();
    let mut seen_open = false;
    // A power cut loses the end of the file, wherever that is: between entries, and in the middle of one.
    for cut in (1..24).map(|step| whole.len() - step * 37) {
        fs::write(&log, &whole[..cut]).unwrap();
        server.restart();
        let read: u64 = server.ask(&format!("XLEN {IN}"));
        let decided: Vec<(String, (String, String))> = server.ask(&format!("XRANGE {OUT} - +"));
        let sources: Vec<String> = decided.into_iter().map(|(_, (_, source))| source).collect();
        let expected: Vec<String> = (1..=sources.len()).map(|number| format!("{number}-0")).collect();
        assert_eq!(sources, expected, "cut at {cut}: a prefix, each once");
        // What was taken in is decided, pending, or not yet delivered; nothing is acknowledged without its decision.
        let mut pending: Vec<redis::Value> = server.ask(&format!("XPENDING {IN} g"));
        let pending: u64 = redis::from_redis_value(pending.swap_remove(0)).unwrap();
        let undelivered: redis::Value = server.ask(&format!("XREADGROUP GROUP g c STREAMS {IN} >"));
        let undelivered = match undelivered {
            redis::Value::Nil => 0,
            _ => 1,
        };
        assert_eq!(read, sources.len() as u64 + pending + undelivered, "cut at {cut}");
        seen_open |= pending + undelivered > 0;
        server.kill();
    }
    assert!(seen_open, "some cut falls between an event and its decision");
}

/// The part of the append-only file that grows.
fn log_file(server: &RedisServer) -> PathBuf {
    let directory = server.socket().parent().unwrap().join("appendonlydir");
    let mut files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    files.find(|path| path.to_string_lossy().contains(".incr.")).unwrap()
}

#[test]
fn a_failover_loses_what_no_replica_had_unless_replicas_are_demanded() {
    let Some(mut master) = start(&["repl-diskless-sync-delay 0"]) else { return };
    let replicaof = format!("replicaof 127.0.0.1 {}", master.port());
    let replica = start(&[&replicaof]).unwrap();
    wait_until("replication", || replica.ask::<String>("INFO replication").contains("master_link_status:up"));
    let mut link = link(&master);
    let warnings = Durability::inspect(&mut link).unwrap().warnings();
    assert!(warnings.iter().any(|warning| warning.contains("min-replicas-to-write 0")), "{warnings:?}");
    for number in 1..=10 {
        add(&mut link, number).unwrap();
    }
    assert_eq!(link.query::<u32>(cmd("WAIT").arg(1).arg(5000)).unwrap(), 1, "a replica has the first ten");
    replica.signal("STOP");
    for number in 11..=20 {
        add(&mut link, number).unwrap();
    }
    let begin = Instant::now();
    assert_eq!(link.query::<u32>(cmd("WAIT").arg(1).arg(100)).unwrap(), 0, "WAIT says that nobody has these");
    assert!(begin.elapsed() < Duration::from_secs(5));

    // With a replica demanded, the silence of the only one stops the writing within its bound.
    master.ask::<()>("CONFIG SET min-replicas-to-write 1 min-replicas-max-lag 1");
    let mut refused = None;
    wait_until("a refusal", || {
        refused = link.query::<()>(cmd("SET").arg("probe").arg(1)).err();
        refused.is_some()
    });
    assert_eq!(refused.unwrap().code(), Some("NOREPLICAS"));

    master.kill();
    replica.signal("CONT");
    replica.ask::<()>("REPLICAOF NO ONE");
    let kept: u32 = replica.ask(&format!("XLEN {OUT}"));
    assert!((10..=20).contains(&kept), "{kept}");
    let last: Vec<(String, redis::Value)> = replica.ask(&format!("XREVRANGE {OUT} + - COUNT 1"));
    assert_eq!(last[0].0, format!("{kept}-0"), "a prefix");
}

#[test]
fn a_server_that_may_not_be_asked_is_warned_of() {
    let users = ["writer on >secret ~* -@all +xadd +ping"];
    let Some(server) = RedisServer::start(&Options { users: &users, ..Options::default() }) else { return };
    let address = RedisAddress::parse(&server.tcp_url("writer:secret@")).unwrap();
    let mut link = Link::connect(&address, OUT, &LinkOptions::default()).unwrap();
    let durability = Durability::inspect(&mut link).unwrap();
    assert_eq!(durability, Durability::default());
    assert!(durability.warnings()[0].contains("does not say"));
    add(&mut link, 1).unwrap();
}
