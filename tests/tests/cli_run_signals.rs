//! Signals and silence: `run` shuts down cleanly and keeps what it decided; a finite command ends with its own code.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use qsc_tests::bundle::{self, names_in, text};
use qsc_tests::qsc;
use serde_json::Value;
use tempfile::TempDir;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args(["-s", name, &child.id().to_string()]).status();
    assert!(sent.unwrap().success());
}

/// Exit code of a child that must end soon.
fn code(child: &mut Child) -> Option<i32> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    panic!("it does not end");
}

/// The next line of a pipe, or a panic where none comes.
fn lines_of(pipe: impl std::io::Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines() {
            if sender.send(line.unwrap()).is_err() {
                return;
            }
        }
    });
    receiver
}

fn spawn(mut command: Command) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

#[test]
fn a_signal_ends_a_silent_run_cleanly_and_keeps_its_intents() {
    for name in ["TERM", "INT"] {
        let directory = TempDir::new().unwrap();
        let models = bundle::write_models(directory.path(), "", "");
        let mut command =
            qsc::command(["run", "--source", "-", "--sink", "file:intents.jsonl", "--format", "json"]);
        command.args(["--rejects", "rejects.jsonl", "--models", text(&models)]).current_dir(directory.path());
        let mut child = spawn(command);
        let log = lines_of(child.stderr.take().unwrap());
        let mut stdin = child.stdin.take().unwrap();
        for line in qsc_models::FEATURES_CAPTURE.lines().take(50) {
            writeln!(stdin, "{line}").unwrap();
        }
        // A reject is logged at once: when it is, everything before it has been decided.
        writeln!(stdin, "no capture line").unwrap();
        while !log.recv_timeout(PATIENCE).unwrap().starts_with("rejected line 51") {}
        assert_eq!(names_in(directory.path()).iter().filter(|name| *name == "intents.jsonl").count(), 0);

        // stdin stays open and silent.
        signal(&child, name);
        assert_eq!(code(&mut child), Some(0), "{name}");
        assert!(log.recv_timeout(PATIENCE).unwrap().contains("stopped by a signal"));
        let mut stdout = String::new();
        std::io::Read::read_to_string(&mut child.stdout.take().unwrap(), &mut stdout).unwrap();
        let json: Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!((&json["intents"], &json["rejects"]), (&50.into(), &1.into()));
        assert_eq!(json["other_types"], Value::Null, "what was never read to its end is not counted");
        assert_eq!(fs::read_to_string(directory.path().join("intents.jsonl")).unwrap().lines().count(), 50);
        assert_eq!(names_in(directory.path()), ["MODELS.toml", "intents.jsonl", "rejects.jsonl"]);
        drop(stdin);
    }
}

/// A pipe nobody writes to cannot even be opened.
#[test]
fn a_signal_ends_a_run_that_waits_for_its_source() {
    let directory = TempDir::new().unwrap();
    let models = bundle::write_models(directory.path(), "", "");
    assert!(Command::new("mkfifo").arg(directory.path().join("features")).status().unwrap().success());
    let mut command = qsc::command(["run", "--source", "file:features", "--sink", "file:intents.jsonl"]);
    command.args(["--models", text(&models)]).current_dir(directory.path());
    let mut child = spawn(command);
    let log = lines_of(child.stderr.take().unwrap());
    while !log.recv_timeout(PATIENCE).unwrap().contains("feature_dim: 21") {}
    signal(&child, "TERM");
    assert_eq!(code(&mut child), Some(0));
    assert_eq!(fs::read_to_string(directory.path().join("intents.jsonl")).unwrap(), "");
}

#[test]
fn a_signal_ends_a_busy_run_cleanly() {
    let directory = TempDir::new().unwrap();
    let models = bundle::write_models(directory.path(), "", "");
    let mut command = qsc::command(["run", "--source", "-", "--sink", "file:intents.jsonl"]);
    command.args(["--models", text(&models)]).current_dir(directory.path());
    let mut child = spawn(command);
    let log = lines_of(child.stderr.take().unwrap());
    let mut stdin = child.stdin.take().unwrap();
    let (fed, feeding) = mpsc::channel();
    // Without end, until the pipe breaks.
    let feeder = thread::spawn(move || {
        let line = qsc_models::FEATURES_CAPTURE.lines().next().unwrap();
        let (_, rest) = line.split_once("-0").unwrap();
        for ms in 1_u64.. {
            if writeln!(stdin, "{{\"id\":\"{ms}-0{rest}").is_err() {
                return;
            }
            if ms == 2000 {
                fed.send(()).unwrap();
            }
        }
    });
    feeding.recv_timeout(PATIENCE).unwrap();
    signal(&child, "TERM");
    assert_eq!(code(&mut child), Some(0));
    feeder.join().unwrap();
    assert!(log.iter().any(|line| line.contains("stopped by a signal")));
    let intents = fs::read_to_string(directory.path().join("intents.jsonl")).unwrap();
    assert!(intents.lines().count() > 100, "{}", intents.lines().count());
    for (line, ms) in intents.lines().zip(1..) {
        let event: Value = serde_json::from_str(line).unwrap();
        assert_eq!(event["id"], format!("{ms}-0"), "whole lines, in order, without a gap");
    }
}

#[test]
fn a_reader_of_stdout_waits_for_no_further_event() {
    let directory = TempDir::new().unwrap();
    let models = bundle::write_models(directory.path(), "", "");
    let mut child = spawn(qsc::command(["run", "--source", "-", "--sink", "-", "--models", text(&models)]));
    // Read all the while, or the child could wait for room in the pipe.
    let _log = lines_of(child.stderr.take().unwrap());
    let intents = lines_of(child.stdout.take().unwrap());
    let mut stdin = child.stdin.take().unwrap();
    for line in qsc_models::FEATURES_CAPTURE.lines().take(3) {
        writeln!(stdin, "{line}").unwrap();
        let event: Value = serde_json::from_str(&intents.recv_timeout(PATIENCE).unwrap()).unwrap();
        let source: Value = serde_json::from_str(line).unwrap();
        assert_eq!(event["id"], source["id"]);
    }
    drop(stdin);
    assert_eq!(code(&mut child), Some(0));
}

#[test]
fn a_finite_command_ends_with_the_signals_code() {
    let directory = TempDir::new().unwrap();
    let fifo = directory.path().join("rows.csv");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let xgb = bundle::file("images/xgb.qsm");
    let predict = ["predict", text(&xgb), "--input", text(&fifo), "--output", "out.csv"];
    let gate = ["quality-gate", "--source", "-", "--mode", "canary"];
    let sanity = ["feature-sanity", "--source", "-", "--after", "0"];
    for arguments in [&predict[..], &gate, &sanity] {
        for (name, expected) in [("INT", 130), ("TERM", 143)] {
            let mut command = qsc::command(arguments);
            command.current_dir(directory.path());
            let mut child = spawn(command);
            // Once it waits for input, its handlers are in place.
            let waiting = wait_until_asleep(&child);
            assert!(waiting, "{arguments:?} does not wait for its input");
            signal(&child, name);
            assert_eq!(code(&mut child), Some(expected), "{arguments:?}");
            let mut stdout = String::new();
            std::io::Read::read_to_string(&mut child.stdout.take().unwrap(), &mut stdout).unwrap();
            assert_eq!(stdout, "", "no verdict");
            assert_eq!(names_in(directory.path()), ["rows.csv"], "no report, no output");
        }
    }
}

/// True once the process waits in a system call for what this test never sends.
fn wait_until_asleep(child: &Child) -> bool {
    let status = format!("/proc/{}/status", child.id());
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let status = fs::read_to_string(&status).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap().trim();
        // Bit 14 is SIGTERM (15), registered after SIGINT.
        let watches = u64::from_str_radix(caught, 16).unwrap() & (1 << 14) != 0;
        if watches && status.contains("State:\tS") {
            return true;
        }
        thread::sleep(Duration::from_millis(5));
    }
    false
}
