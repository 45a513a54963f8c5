//! Gates on a real Redis: the same verdict as from a file, and every way a server refuses.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use qsc_tests::capture::{Capture, FIRST_MS, healthy, healthy_capture};
use qsc_tests::qsc::{self, Run};
use qsc_tests::redis::{Options, RedisServer};
use serde_json::{Value, json};
use tempfile::TempDir;

const INTENTS: &str = "quantum:stream:trade.intent";

/// `qsc quality-gate` on `source`, its reports out of the way.
fn gate(source: &str, mode: &str, more: &[&str]) -> Run {
    let reports = TempDir::new().unwrap();
    let reports = reports.path().to_str().unwrap();
    let fixed =
        ["quality-gate", "--format", "json", "--now", "2026-01-10T05:43:15Z", "--report-dir", reports];
    qsc::run(fixed.into_iter().chain(["--source", source, "--mode", mode]).chain(more.iter().copied()))
}

fn sanity(source: &str, more: &[&str]) -> Run {
    let fixed = ["feature-sanity", "--format", "json", "--source", source];
    qsc::run(fixed.into_iter().chain(more.iter().copied()))
}

/// The document without what depends on where events and reports are.
fn without_paths(mut json: Value) -> Value {
    json.as_object_mut().unwrap().remove("report");
    json["evidence"].as_object_mut().unwrap().remove("source");
    json
}

fn command(connection: &mut redis::Connection, words: &[&str]) {
    let (name, arguments) = words.split_first().unwrap();
    redis::cmd(name).arg(arguments).exec(connection).unwrap();
}

#[test]
fn file_and_redis_give_the_same_verdict() {
    let Some(server) = RedisServer::start(&Options::default()) else { return };
    // More than two pages; two models, other types and corrupt events among them.
    let mut capture = Capture::new();
    for index in 0..1200 {
        let mut second = healthy(index + 5);
        second["confidence"] = if index % 3 == 0 { json!("0.5") } else { json!(index % 7) };
        second["inactive"] = (index % 4 == 0).into();
        capture.push_intent(&[("xgb", healthy(index)), ("lgbm", second)]);
        if index % 10 == 0 {
            capture.push("market.features", "{\"features\":{\"a\":NaN}}");
        }
        if index % 200 == 0 {
            capture.push("trade.intent", "{\"model_breakdown\":");
        }
    }
    capture.load(&mut server.connection(), INTENTS);
    let directory = TempDir::new().unwrap();
    let file = format!("file:{}", capture.write(directory.path(), "capture.jsonl").display());

    let after = (FIRST_MS + 500_000).to_string();
    for (mode, more, code) in [
        ("canary", &[][..], 0),
        ("canary", &["--count", "0"], 0),
        ("canary", &["--count", "0", "--require", "all"], 0),
        ("canary", &["--count", "501"], 0),
        ("collection", &["--count", "700"], 3),
        ("canary", &["--after", &after], 0),
        ("canary", &["--after", &after, "--count", "300"], 0),
        ("canary", &["--after", "2030-01-01T00:00:00Z"], 2),
    ] {
        let (from_file, from_redis) = (gate(&file, mode, more), gate(&server.url(), mode, more));
        assert_eq!((from_file.code, from_redis.code), (Some(code), Some(code)), "{more:?} {from_redis:?}");
        let verdict = without_paths(from_file.json());
        assert_eq!(verdict, without_paths(from_redis.json()), "{more:?}");
        assert_eq!(verdict, without_paths(gate(&server.tcp_url(""), mode, more).json()), "{more:?}");
    }
    for more in
        [&["--after", "0"][..], &["--after", &after, "--count", "0"], &["--after", "0", "--count", "77"]]
    {
        let (from_file, from_redis) = (sanity(&file, more), sanity(&server.url(), more));
        assert_eq!(from_file.code, from_redis.code);
        assert_eq!(without_paths(from_file.json()), without_paths(from_redis.json()), "{more:?}");
    }
}

#[test]
fn another_stream_is_read_by_its_key_and_database() {
    let Some(server) = RedisServer::start(&Options::default()) else { return };
    let mut connection = server.connection();
    command(&mut connection, &["SELECT", "3"]);
    healthy_capture(200).load(&mut connection, "{qsc}:intents");
    let url = format!("{}/3", server.tcp_url(""));
    assert_eq!(gate(&url, "canary", &["--stream", "{qsc}:intents"]).code, Some(0));
    let run = gate(&url, "canary", &[]);
    assert_eq!(
        (run.code, &run.json()["verdict"]),
        (Some(2), &json!("inconclusive")),
        "a missing stream has no events"
    );
    assert_eq!(run.json()["events"]["count"], 0);
    assert_eq!(gate(&server.url(), "canary", &["--stream", "{qsc}:intents", "--after", "0"]).code, Some(2));
}

#[test]
fn a_stream_trimmed_behind_the_cutover_is_inconclusive() {
    let Some(server) = RedisServer::start(&Options::default()) else { return };
    let mut connection = server.connection();
    healthy_capture(600).load(&mut connection, INTENTS);
    let before = FIRST_MS.to_string();
    // An entry removed in the middle leaves the first one in place.
    command(&mut connection, &["XDEL", INTENTS, &format!("{}-0", FIRST_MS + 300_000)]);
    assert_eq!(gate(&server.url(), "canary", &["--after", &before]).code, Some(0));

    command(&mut connection, &["XTRIM", INTENTS, "MAXLEN", "500"]);
    for mode in ["canary", "collection"] {
        let run = gate(&server.url(), mode, &["--after", &before]);
        let json = run.json();
        assert_eq!((run.code, &json["verdict"]), (Some(2), &json!("inconclusive")), "{mode}");
        let reason = json["reasons"][0].as_str().unwrap();
        assert!(
            reason.starts_with("events may be missing") && reason.contains("100 entries were removed"),
            "{reason}"
        );
        assert_eq!(json["eligible"], json!(["xgb"]), "figures are made for every verdict");
    }
    let run = sanity(&server.url(), &["--after", &before]);
    assert_eq!((run.code, &run.json()["verdict"]), (Some(2), &json!("inconclusive")));
    assert_eq!(run.json()["failures"][0]["check"], "gap");

    // 601 added less 500 left; from the first one left on, nothing is missing.
    let first_left = (FIRST_MS + 99_000).to_string();
    let run = gate(&server.url(), "canary", &["--after", &first_left]);
    assert_eq!((run.code, &run.json()["events"]["count"]), (Some(0), &json!(500)), "{run:?}");
    let just_before = (FIRST_MS + 98_999).to_string();
    assert_eq!(gate(&server.url(), "canary", &["--after", &just_before]).code, Some(2));
    assert_eq!(gate(&server.url(), "canary", &[]).code, Some(0), "without a start there is no gap");

    command(&mut connection, &["XTRIM", INTENTS, "MAXLEN", "0"]);
    let json = gate(&server.url(), "canary", &["--after", &before]).json();
    assert!(json["reasons"].to_string().contains("no entry is left in the stream"), "{json}");
}

#[test]
fn a_stream_nothing_was_removed_from_has_no_gap() {
    let Some(server) = RedisServer::start(&Options::default()) else { return };
    healthy_capture(200).load(&mut server.connection(), INTENTS);
    assert_eq!(gate(&server.url(), "canary", &["--after", "0"]).code, Some(0));
}

#[test]
fn a_reader_may_be_given_nothing_but_three_commands() {
    let users =
        ["reader on >secret ~quantum:* -@all +xrange +xrevrange +xinfo", "blind on >secret ~* -@all +xlen"];
    let Some(server) =
        RedisServer::start(&Options { requirepass: Some("top"), users: &users, ..Options::default() })
    else {
        return;
    };
    let mut connection = server.connection();
    healthy_capture(600).load(&mut connection, INTENTS);
    for more in [&["--count", "0"][..], &["--count", "250", "--after", "0"]] {
        let run = gate(&server.tcp_url("reader:secret@"), "canary", more);
        assert_eq!(run.code, Some(0), "{run:?}");
    }
    gate(&server.tcp_url("blind:secret@"), "canary", &[]).assert_refused(&[
        "does not permit",
        INTENTS,
        "xrange",
    ]);
    gate(&server.tcp_url("reader:secret@"), "canary", &["--stream", "other"])
        .assert_refused(&["does not permit"]);
}

#[test]
fn a_refused_login_is_one_sentence_without_the_password() {
    let users = ["off off >hunter2 ~* +@all"];
    let options = Options { requirepass: Some("top-secret"), users: &users, ..Options::default() };
    let Some(server) = RedisServer::start(&options) else { return };
    for url in [
        server.tcp_url(""),
        server.tcp_url("default:hunter2@"),
        server.tcp_url(":hunter2@"),
        server.tcp_url("off:hunter2@"),
        format!("redis+unix://{}?pass=hunter2", server.socket().display()),
    ] {
        for run in [gate(&url, "canary", &[]), sanity(&url, &["--after", "0"])] {
            run.assert_refused(&["refused the login", "check user and password"]);
            assert!(!run.stderr.contains("hunter2") && !run.stderr.contains("top-secret"), "{run:?}");
        }
    }
    assert_eq!(gate(&server.url(), "canary", &[]).code, Some(2), "the right password opens");
}

#[test]
fn a_key_that_is_no_stream_is_named() {
    let Some(server) = RedisServer::start(&Options::default()) else { return };
    let mut connection = server.connection();
    for (key, add) in [("text", &["SET", "text", "x"][..]), ("list", &["RPUSH", "list", "x"])] {
        command(&mut connection, add);
        for run in [
            gate(&server.url(), "canary", &["--stream", key]),
            gate(&server.url(), "canary", &["--stream", key, "--after", "0", "--count", "0"]),
        ] {
            run.assert_refused(&[&format!("the key {key} of Redis"), "is not a stream", "--stream"]);
        }
    }
}

#[test]
fn a_server_that_is_not_there_is_named() {
    gate("redis://127.0.0.1:1", "canary", &[]).assert_refused(&["cannot reach Redis at 127.0.0.1:1"]);
    let directory = TempDir::new().unwrap();
    let socket = directory.path().join("none.sock");
    gate(&format!("redis+unix://{}", socket.display()), "canary", &[])
        .assert_refused(&["cannot reach Redis at", "none.sock"]);
}

#[test]
fn a_server_that_never_answers_does_not_hang_the_gate() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let begin = Instant::now();
    gate(&format!("redis://127.0.0.1:{port}"), "canary", &[]).assert_refused(&["did not answer in time"]);
    assert!(begin.elapsed() < Duration::from_secs(30));
}

#[test]
fn a_server_that_dies_while_it_is_read_is_no_verdict() {
    let Some(server) = RedisServer::start(&Options::default()) else { return };
    healthy_capture(200).load(&mut server.connection(), INTENTS);
    let url = server.url();
    drop(server);
    let reports = TempDir::new().unwrap();
    let path = reports.path().join("r");
    let arguments =
        ["quality-gate", "--mode", "canary", "--source", &url, "--report-dir", path.to_str().unwrap()];
    qsc::run(arguments).assert_refused(&["cannot reach Redis"]);
    assert!(!path.exists(), "no report without a verdict");
}

#[test]
fn entries_that_are_no_events_are_counted() {
    let Some(server) = RedisServer::start(&Options::default()) else { return };
    let mut connection = server.connection();
    healthy_capture(300).load(&mut connection, INTENTS);
    for fields in [
        &[&b"event_type"[..], b"trade.intent"][..],
        &[b"payload", b"{}"],
        &[b"event_type", b"trade.intent", b"payload", b"\xff\xfe"],
        &[b"event_type", b"trade.intent", b"payload", b"{}", b"payload", b"{}"],
        &[b"event_type", b"market.ticks", b"payload", b"\xff\xfe"],
    ] {
        redis::cmd("XADD").arg(INTENTS).arg("*").arg(fields).exec(&mut connection).unwrap();
    }
    let run = gate(&server.url(), "canary", &[]);
    assert_eq!((run.code, &run.json()["events"]["malformed"]), (Some(2), &json!(4)), "{run:?}");
    assert!(run.stderr.contains("the field payload is missing"), "{run:?}");
}

#[test]
fn reading_is_paged_and_writes_nothing() {
    let Some(server) = RedisServer::start(&Options::default()) else { return };
    let mut connection = server.connection();
    healthy_capture(1300).load(&mut connection, INTENTS);
    command(&mut connection, &["CONFIG", "SET", "slowlog-max-len", "1000"]);
    command(&mut connection, &["CONFIG", "SET", "slowlog-log-slower-than", "0"]);
    for more in [&["--count", "0"][..], &["--count", "700"], &["--after", "0"]] {
        assert_eq!(gate(&server.url(), "canary", more).code, Some(0));
    }
    command(&mut connection, &["CONFIG", "SET", "slowlog-log-slower-than", "-1"]);
    type Slow = (u64, u64, u64, Vec<String>, String, String);
    let log: Vec<Slow> = redis::cmd("SLOWLOG").arg("GET").arg("-1").query(&mut connection).unwrap();
    let ranges: Vec<&Vec<String>> =
        log.iter().map(|entry| &entry.3).filter(|words| words[0].ends_with("RANGE")).collect();
    assert!(ranges.len() > 8, "{ranges:?}");
    for words in ranges {
        assert_eq!((words[4].as_str(), words[5].as_str()), ("COUNT", "500"), "{words:?}");
    }
    let others: Vec<&String> =
        log.iter().map(|entry| &entry.3[0]).filter(|name| !name.ends_with("RANGE")).collect();
    assert!(
        others.iter().all(|name| ["XINFO", "CLIENT", "CONFIG", "PING"].contains(&name.as_str())),
        "{others:?}"
    );
}

#[test]
fn a_stream_that_keeps_growing_is_read_to_where_it_ended() {
    let Some(server) = RedisServer::start(&Options::default()) else { return };
    let mut connection = server.connection();
    healthy_capture(3000).load(&mut connection, INTENTS);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut connection = server.connection();
            while !done.load(Ordering::Relaxed) {
                let mut add = redis::cmd("XADD");
                add.arg(INTENTS).arg("*").arg("event_type").arg("trade.intent").arg("payload").arg("{}");
                add.exec(&mut connection).unwrap();
            }
        });
        // Corrupt events pour in; the newest 100 and all of them both come to an end.
        let all = gate(&server.url(), "canary", &["--count", "0"]);
        let newest = gate(&server.url(), "canary", &["--count", "100"]);
        done.store(true, Ordering::Relaxed);
        assert_eq!(all.json()["events"]["count"], 3000);
        assert_eq!(
            newest.json()["events"]["count"].as_u64().unwrap()
                + newest.json()["events"]["malformed"].as_u64().unwrap(),
            100
        );
    });
}
