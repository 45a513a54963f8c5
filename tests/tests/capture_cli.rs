//! `qsc capture` from a real Redis, and reports where the disk gives out.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use qsc_tests::bundle::names_in;
use qsc_tests::capture::{FIRST_MS, healthy_capture};
use qsc_tests::qsc::{self, Run};
use qsc_tests::redis::{Options, RedisServer};
use serde_json::{Value, json};
use tempfile::TempDir;

const KEY: &str = "quantum:stream:trade.intent";

fn capture(directory: &Path, server: &RedisServer, more: &[&str]) -> Run {
    let mut command = qsc::command(["capture", "--stream", KEY, "--output", "out.jsonl", "--format", "json"]);
    command.env("QSC_SOURCE", server.url()).current_dir(directory).args(more);
    qsc::finish(command, &[])
}

fn gate(directory: &Path, source: &str, more: &[&str]) -> Value {
    let mut command = qsc::command(["quality-gate", "--mode", "canary", "--format", "json"]);
    command.env("QSC_SOURCE", source).current_dir(directory).args(more);
    qsc::finish(command, &[]).json()
}

#[test]
fn a_gate_on_the_capture_judges_as_on_the_stream() {
    let Some(server) = RedisServer::start(&Options::default()) else { return };
    let mut connection = server.connection();
    let mut capture_of = healthy_capture(1234);
    capture_of.push("market.ticks", "{}");
    capture_of.push("trade.intent", "no json");
    capture_of.load(&mut connection, KEY);
    // A field twice, an unknown one, a missing one.
    redis::cmd("XADD")
        .arg(KEY)
        .arg("1999999999999-0")
        .arg(&["event_type", "trade.intent", "payload", "{}", "payload", "[]", "spare", "\u{1F680}\n\"x\""])
        .exec(&mut connection)
        .unwrap();
    redis::cmd("XADD").arg(KEY).arg("1999999999999-1").arg(&["x", "y"]).exec(&mut connection).unwrap();
    let directory = TempDir::new().unwrap();
    let run = capture(directory.path(), &server, &[]);
    assert_eq!((run.code, &run.json()["entries"]), (Some(0), &json!(1238)), "{run:?}");
    let lines = fs::read_to_string(directory.path().join("out.jsonl")).unwrap();
    assert_eq!(lines.lines().count(), 1238);
    assert!(lines.contains("market.ticks") && lines.contains("\u{1F680}\\n\\\"x\\\""));

    let [mut live, mut file] = [server.url(), "file:out.jsonl".to_owned()]
        .map(|source| gate(directory.path(), &source, &["--count", "0", "--now", "0"]));
    assert_eq!(live["events"], json!({"count": 1234, "requested": 0, "min": 200, "malformed": 3}));
    for json in [&mut live, &mut file] {
        // What the file adds is only where a corrupt line stands; what both saw is the same.
        json.as_object_mut()
            .unwrap()
            .retain(|name, _| !matches!(name.as_str(), "report" | "evidence" | "first_malformed"));
    }
    assert_eq!(live, file);
}

#[test]
fn ranges_are_those_asked_for() {
    let Some(server) = RedisServer::start(&Options::default()) else { return };
    healthy_capture(700).load(&mut server.connection(), KEY);
    let directory = TempDir::new().unwrap();
    let id = |index: u64| json!(format!("{}-0", FIRST_MS + 1000 * index));
    let after = (FIRST_MS + 100_000).to_string();
    for (more, entries, first) in [
        (&["--count", "3"][..], 3, 697),
        (&["--after", &after], 600, 100),
        (&["--after", &after, "--count", "9999"], 600, 100),
        (&["--after", &after, "--count", "1"], 1, 699),
    ] {
        let json = capture(directory.path(), &server, more).json();
        assert_eq!(json["entries"], entries, "{more:?}");
        assert_eq!((&json["first_id"], &json["last_id"]), (&id(first), &id(699)), "{more:?}");
    }
}

#[test]
fn a_capture_that_would_lie_is_refused_and_the_old_file_stays() {
    let Some(server) = RedisServer::start(&Options::default()) else { return };
    let mut connection = server.connection();
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("out.jsonl"), "old").unwrap();
    let kept = || assert_eq!(fs::read_to_string(directory.path().join("out.jsonl")).unwrap(), "old");
    capture(directory.path(), &server, &[]).assert_refused(&["no stream", KEY]);
    healthy_capture(300).load(&mut connection, KEY);
    redis::cmd("XADD")
        .arg(KEY)
        .arg("*")
        .arg("payload")
        .arg(&[0xff_u8, 0xfe][..])
        .exec(&mut connection)
        .unwrap();
    capture(directory.path(), &server, &[]).assert_refused(&["no UTF-8 text", "-0 of the stream"]);
    kept();
    redis::cmd("XTRIM").arg(KEY).arg("MAXLEN").arg(50).exec(&mut connection).unwrap();
    redis::cmd("XREVRANGE").arg(KEY).arg("+").arg("-").arg("COUNT").arg(1).exec(&mut connection).unwrap();
    let last: Vec<(String, Vec<Vec<u8>>)> = redis::cmd("XREVRANGE")
        .arg(KEY)
        .arg("+")
        .arg("-")
        .arg("COUNT")
        .arg(1)
        .query(&mut connection)
        .unwrap();
    redis::cmd("XDEL").arg(KEY).arg(&last[0].0).exec(&mut connection).unwrap();
    let after = FIRST_MS.to_string();
    capture(directory.path(), &server, &["--after", &after]).assert_refused(&["events may be missing"]);
    kept();
    assert_eq!(names_in(directory.path()), ["out.jsonl"], "no temporary file is left");
    let run = qsc::run(["capture", "--source", "file:x", "--stream", "s", "--output", "/nonexistent/o"]);
    run.assert_refused(&["a capture already"]);
}

/// A report that does not fit is none: no half file, no verdict.
#[test]
fn a_full_disk_leaves_no_half_report() {
    let directory = TempDir::new().unwrap();
    healthy_capture(300).write(directory.path(), "capture.jsonl");
    // The Markdown is a few KB, page and data some tens: the limit falls between them.
    for limit in [1_u64, 8, 20] {
        let mut command = Command::new("sh");
        let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" \"$@\"", limit * 2);
        command.arg("-c").arg(script).arg(qsc::binary()).args([
            "quality-gate",
            "--source",
            "file:capture.jsonl",
            "--mode",
            "canary",
            "--report-dir",
            "r",
        ]);
        command.current_dir(directory.path()).process_group(0);
        let run = qsc::finish(command, &[]);
        run.assert_refused(&["cannot write the report into r"]);
        assert_eq!(names_in(&directory.path().join("r")), [""; 0], "limit {limit} KiB");
    }
}
