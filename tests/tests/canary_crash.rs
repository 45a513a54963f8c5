//! Killed at any step, or out of disk space at any byte: the old or the new state is there, whole, and the next command
//! goes on from it.
//!
//! `strace` delivers SIGKILL at the n-th call of each system call that changes a file, before it is executed, until the
//! command runs through without meeting it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use qsc_tests::canary::{Scene, agreeing, baseline};
use qsc_tests::qsc;
use serde_json::Value;

/// What changes a file or makes a change last.
const CALLS: [&str; 10] = [
    "write",
    "fsync",
    "rename",
    "renameat",
    "renameat2",
    "linkat",
    "unlink",
    "unlinkat",
    "ftruncate",
    "mkdir",
];
/// More calls of one kind than a command makes.
const MOST: usize = 200;

fn has_strace() -> bool {
    let works = Command::new("strace").args(["-o", "/dev/null", "true"]).stderr(Stdio::null()).status();
    let works = works.is_ok_and(|status| status.success());
    if !works {
        qsc_tests::skip("strace is not installed or may not trace");
    }
    works
}

/// Runs `qsc` killed at its `nth` `call`; false if it ended by itself.
fn killed(scene: &Scene, arguments: &[&str], call: &str, nth: usize) -> bool {
    let inject = format!("inject={call}:signal=KILL:when={nth}");
    let trace = format!("trace={call}");
    let status = Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject])
        .arg(qsc::binary())
        .args(arguments)
        .current_dir(scene.directory())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    // strace ends as its tracee does.
    std::os::unix::process::ExitStatusExt::signal(&status) == Some(9)
}

/// The files are whole, the log verifies, and the state is one of the two.
fn assert_whole(scene: &Scene, canaries: &[Value], point: &str) {
    let weights = scene.weights();
    assert!(canaries.contains(&weights["canary"]), "{point}: {weights}");
    if let Some(text) = scene.read("state/baseline.json") {
        let saved: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{point}: {error}"));
        assert_eq!(saved["weights"], baseline(), "{point}: the baseline is never lost");
    }
    if scene.path("state").exists() {
        let verify = scene.qsc(&["canary", "audit", "verify"]);
        assert_eq!(verify.code, Some(0), "{point}: {verify:?}");
    }
    let status = scene.qsc(&["canary", "status"]);
    assert_eq!(status.code, Some(0), "{point}: {status:?}");
    if weights["canary"] == "xgb" {
        assert_eq!(
            scene.log().last().unwrap()["event"],
            "activated",
            "{point}: no activation without its record"
        );
    }
}

#[test]
fn killed_at_any_step_an_activation_happened_or_did_not() {
    if !has_strace() {
        return;
    }
    let (mut points, mut states) = (0, BTreeSet::new());
    for call in CALLS {
        for nth in 1..MOST {
            let scene = Scene::default();
            if !killed(&scene, &scene.activation(&[]), call, nth) {
                break;
            }
            let point = format!("{call} {nth}");
            points += 1;
            assert_whole(&scene, &[Value::Null, "xgb".into()], &point);
            let log = scene.log().len();
            states.insert((scene.weights()["canary"].to_string(), log));
            // What nobody has touched for a minute is nobody's any more.
            for entry in fs::read_dir(scene.path("state")).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.file_name().unwrap().to_string_lossy().starts_with(".qsc-") {
                    let old = SystemTime::now() - Duration::from_secs(90);
                    fs::File::options().write(true).open(path).unwrap().set_modified(old).unwrap();
                }
            }
            // Tried again, it is active, once, and its leftovers are gone.
            let run = scene.activate(&[]);
            assert_eq!(run.code, Some(0), "{point}: {run:?}");
            assert_whole(&scene, &["xgb".into()], &point);
            let leftovers = fs::read_dir(scene.path("state"))
                .unwrap()
                .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with(".qsc-"));
            assert_eq!(leftovers.count(), 0, "{point}");
            assert_eq!(scene.rollback(&[]).code, Some(0), "{point}");
            assert_eq!(scene.weights()["weights"], baseline(), "{point}");
        }
    }
    println!("{points} points, states {states:?}");
    assert!(points >= 36, "{points} points");
    let null = || "null".to_owned();
    let xgb = || "\"xgb\"".to_owned();
    assert!(
        states.contains(&(null(), 0)) && states.contains(&(null(), 1)),
        "before and after the record: {states:?}"
    );
    assert!(states.contains(&(xgb(), 1)), "after the weights: {states:?}");
}

/// Behind a promotion, the baseline is not that of `MODELS.toml`: it must outlast an activation that dies at any step.
#[test]
fn killed_at_any_step_an_activation_keeps_the_promoted_baseline() {
    if !has_strace() {
        return;
    }
    // The rollback makes the next activation save the promoted weights under another generation.
    let promoted = Scene::default();
    promoted.watched();
    assert_eq!(promoted.qsc(&["canary", "promote"]).code, Some(0));
    assert_eq!(promoted.activate(&["--model", "lgbm"]).code, Some(0));
    assert_eq!(promoted.rollback(&[]).code, Some(0));
    let kept = promoted.weights()["weights"].clone();
    assert_eq!(kept["xgb"], 0.1);
    let (mut points, mut states) = (0, BTreeSet::new());
    for call in CALLS {
        for nth in 1..MOST {
            let scene = Scene::new(&agreeing(340));
            copy_state(&promoted, &scene);
            if !killed(&scene, &scene.activation(&["--model", "nhits"]), call, nth) {
                break;
            }
            let point = format!("{call} {nth}");
            points += 1;
            let active = scene.weights()["canary"] == "nhits";
            assert!(active || scene.weights()["weights"] == kept, "{point}: {}", scene.weights());
            assert_eq!(scene.verify(), Some(0), "{point}");
            let status = scene.qsc(&["canary", "status", "--format", "json"]).json();
            assert_eq!(status["exit_code"], 0, "{point}: {status}");
            let saved: Value = serde_json::from_str(&scene.read("state/baseline.json").unwrap()).unwrap();
            assert_eq!(saved["weights"], kept, "{point}: the baseline is never lost");
            let log = scene.log().len();
            let is_pending = status["standing"] == "interrupted";
            assert_eq!(is_pending, !active && log == 7, "{point}: {status}");
            states.insert((active, log, saved["generation"].as_u64()));
            // Whatever comes next goes on: another activation, or a rollback.
            if points % 2 == 0 {
                let run = scene.activate(&["--model", "nhits"]);
                assert_eq!(run.code, Some(0), "{point}: {run:?}");
                assert_eq!(scene.log().last().unwrap()["details"]["baseline_ppm"]["xgb"], 100_000, "{point}");
            }
            let run = scene.rollback(&[]);
            assert_eq!(run.code, Some(0), "{point}: {run:?}");
            assert_eq!(scene.weights()["weights"], kept, "{point}");
            let run = scene.activate(&["--model", "nhits", "--cool-down", "0s"]);
            assert_eq!(run.code, Some(0), "{point}: {run:?}");
        }
    }
    println!("{points} points, states {states:?}");
    // Before the record, after it, after the baseline, after the weights.
    for state in [(false, 6, Some(2)), (false, 7, Some(2)), (false, 7, Some(4)), (true, 7, Some(4))] {
        assert!(states.contains(&state), "{state:?} is not among {states:?}");
    }
}

fn copy_state(from: &Scene, to: &Scene) {
    fs::create_dir(to.path("state")).unwrap();
    for entry in fs::read_dir(from.path("state")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.path("state").join(entry.file_name())).unwrap();
    }
}

#[test]
fn killed_at_any_step_a_rollback_happened_or_did_not() {
    if !has_strace() {
        return;
    }
    let (mut points, mut states) = (0, BTreeSet::new());
    for call in CALLS {
        for nth in 1..MOST {
            let scene = Scene::default();
            scene.activated();
            if !killed(&scene, &["canary", "rollback"], call, nth) {
                break;
            }
            let point = format!("{call} {nth}");
            points += 1;
            assert_whole(&scene, &[Value::Null, "xgb".into()], &point);
            states.insert((scene.weights()["canary"].to_string(), scene.log().len()));
            assert_eq!(scene.rollback(&[]).code, Some(0), "{point}");
            assert_whole(&scene, &[Value::Null], &point);
            assert_eq!(scene.weights()["weights"], baseline(), "{point}");
            let last = scene.log().pop().unwrap();
            assert_eq!((&last["event"], &last["model"]), (&"rolled_back".into(), &"xgb".into()), "{point}");
            assert_eq!(scene.activate(&[]).code, Some(2), "{point}: it cools down");
        }
    }
    println!("{points} points, states {states:?}");
    assert!(points >= 14, "{points} points");
    assert!(states.contains(&("null".to_owned(), 1)), "between weights and record: {states:?}");
}

#[test]
fn killed_at_any_step_a_promotion_happened_or_did_not() {
    if !has_strace() {
        return;
    }
    let watched = Scene::default();
    watched.watched();
    let (mut points, mut states) = (0, BTreeSet::new());
    for call in CALLS {
        for nth in 1..MOST {
            let scene = Scene::default();
            copy_state(&watched, &scene);
            if !killed(&scene, &["canary", "promote"], call, nth) {
                break;
            }
            let point = format!("{call} {nth}");
            points += 1;
            let promoted = scene.weights()["canary"] == Value::Null;
            states.insert((promoted, scene.log().len()));
            assert_eq!(scene.verify(), Some(0), "{point}");
            // Promoted weights are the baseline; otherwise the canary is rolled back like any other.
            let run = scene.rollback(&[]);
            assert_eq!(
                (run.code, &run.json()["rolled_back"]),
                (Some(0), &(!promoted).into()),
                "{point}: {run:?}"
            );
            let xgb = scene.weights()["weights"]["xgb"].clone();
            assert_eq!(xgb, if promoted { 0.1 } else { 0.25 }, "{point}");
            let status = scene.qsc(&["canary", "status", "--format", "json"]);
            assert_eq!((status.code, &status.json()["standing"]), (Some(0), &"idle".into()), "{point}");
        }
    }
    println!("{points} points, states {states:?}");
    assert!(points >= 10, "{points} points");
    for state in [(false, 3), (false, 4), (true, 4)] {
        assert!(states.contains(&state), "{state:?} is not among {states:?}");
    }
}

/// A temporary file of somebody who writes without the lock, as a monitor does, is left alone.
#[test]
fn the_temporary_file_of_a_live_writer_stays() {
    let scene = Scene::default();
    fs::create_dir(scene.path("state")).unwrap();
    let temporary = scene.path("state/.qsc-watch");
    let mut file = fs::File::create(&temporary).unwrap();
    std::io::Write::write_all(&mut file, b"{").unwrap();
    scene.activated();
    assert!(temporary.exists());
    file.set_modified(SystemTime::now() - Duration::from_secs(90)).unwrap();
    assert_eq!(scene.rollback(&[]).code, Some(0));
    assert!(!temporary.exists());
}

/// The recovery itself may be killed: the weights of an activation are gone, and the next command is on its way to put
/// the baseline in force.
#[test]
fn killed_at_any_step_a_recovery_is_completed_by_the_next_command() {
    if !has_strace() {
        return;
    }
    let mut points = 0;
    for call in CALLS {
        for nth in 1..MOST {
            let scene = Scene::default();
            scene.activated();
            fs::remove_file(scene.path("state/weights.json")).unwrap();
            if !killed(&scene, &["canary", "rollback"], call, nth) {
                break;
            }
            let point = format!("{call} {nth}");
            points += 1;
            assert_whole(&scene, &[Value::Null], &point);
            assert_eq!(scene.rollback(&[]).code, Some(0), "{point}");
            assert_whole(&scene, &[Value::Null], &point);
            assert_eq!(scene.weights()["weights"], baseline(), "{point}");
        }
    }
    println!("{points} points");
    assert!(points >= 10, "{points} points");
}

/// Files that may not grow beyond a size, as on a full disk: swept from nothing to enough.
#[test]
fn a_full_disk_leaves_the_old_state_or_the_new_one() {
    let limited = |scene: &Scene, arguments: &[&str], bytes: usize| {
        // With the signal ignored, the write fails as on a full disk: after a part of it.
        let status = Command::new("sh")
            .args(["-c", "trap '' XFSZ; exec prlimit --fsize=\"$@\"", "sh"])
            .arg(bytes.to_string())
            .arg(qsc::binary())
            .args(arguments)
            .current_dir(scene.directory())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        status.ok().map(|status| status.code())
    };
    if limited(&Scene::default(), &["build-info"], 1 << 20) != Some(Some(0)) {
        qsc_tests::skip("prlimit is not installed");
        return;
    }
    let mut seen = BTreeSet::new();
    for bytes in [0, 4, 20, 60, 100, 130, 200, 1000, 2000, 20_000, 1 << 20] {
        let scene = Scene::default();
        let code = limited(&scene, &scene.activation(&[]), bytes).unwrap();
        let active = scene.weights()["canary"] == "xgb";
        assert_eq!(code == Some(0), active, "{bytes} bytes: {code:?}");
        assert_whole(&scene, &[Value::Null, "xgb".into()], &format!("activation, {bytes} bytes"));
        seen.insert(active);
        if !active {
            scene.activated();
        }
        let before = scene.weights();
        let code = limited(&scene, &["canary", "rollback"], bytes).unwrap();
        let rolled_back = scene.weights()["canary"] == Value::Null;
        assert!(rolled_back || scene.weights() == before, "{bytes} bytes: {code:?}");
        assert!(code != Some(0) || rolled_back, "{bytes} bytes");
        let run = scene.rollback(&[]);
        assert_eq!(run.code, Some(0), "{bytes} bytes: {run:?}");
        assert_whole(&scene, &[Value::Null], &format!("rollback, {bytes} bytes"));
    }
    assert_eq!(seen.len(), 2, "some limits stop it, some do not");
}
