//! Memory does not grow with what was decided: an engine that has seen eleven times as many events holds no more.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;
use std::thread;

use qsc_tests::bundle::{self, text};
use qsc_tests::qsc;
use tempfile::TempDir;

/// The most memory a process ever held, in KiB.
fn peak(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}

/// Lines of the bundled capture over and over, with ids that grow.
fn events() -> impl Iterator<Item = String> {
    let lines = qsc_models::FEATURES_CAPTURE.lines().cycle();
    let renumbered = |(at, line): (u64, &str)| {
        let (_, rest) = line.split_once(',').unwrap();
        format!("{{\"id\":\"{at}-0\",{rest}\n")
    };
    (1_768_023_795_000..).zip(lines).map(renumbered)
}

#[test]
fn an_engine_holds_no_more_after_eleven_times_as_many_events() {
    let directory = TempDir::new().unwrap();
    let models = bundle::write_models(directory.path(), "", "");
    let mut child = qsc::command(["run", "--source", "-", "--sink", "-", "--models", text(&models)])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (mut stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut intents = BufReader::new(stdout).lines();
    let mut events = events();
    let mut decide = |count: usize| {
        thread::scope(|scope| {
            scope.spawn(|| {
                events.by_ref().take(count).for_each(|event| stdin.write_all(event.as_bytes()).unwrap());
            });
            let sides =
                intents.by_ref().take(count).filter(|line| line.as_ref().unwrap().contains(r#"\"side\""#));
            assert!(sides.count() > count / 2, "they were decisions");
        });
        peak(child.id())
    };
    let (few, many) = (decide(600), decide(6000));
    println!("{few} KiB after 600 events, {many} KiB after 6600");
    assert!(many <= few + 1024, "{few} KiB became {many} KiB");
    drop(stdin);
    assert!(child.wait().unwrap().success());
}
