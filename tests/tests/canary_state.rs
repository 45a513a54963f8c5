//! Rollback, promotion and the audit log, with every file of the state broken in turn; `qsc run` on live weights.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt as _;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use qsc_tests::canary::{Scene, baseline};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_rollback_restores_the_baseline_and_does_nothing_twice() {
    let scene = Scene::default();
    let run = scene.rollback(&[]);
    assert_eq!((run.code, &run.json()["rolled_back"]), (Some(0), &json!(false)), "nothing was ever active");
    assert!(!scene.path("state").exists());

    scene.activated();
    let run = scene.rollback(&["--reason", "by the book"]);
    assert_eq!((run.code, &run.json()["rolled_back"]), (Some(0), &json!(true)));
    assert_eq!(scene.weights(), json!({"generation": 2, "canary": null, "weights": baseline()}));
    let last = scene.log().pop().unwrap();
    assert_eq!((&last["event"], &last["model"]), (&json!("rolled_back"), &json!("xgb")));
    assert_eq!(last["details"]["reason"], "by the book");

    let run = scene.rollback(&[]);
    assert_eq!((run.code, &run.json()["rolled_back"]), (Some(0), &json!(false)));
    assert_eq!((scene.log().len(), scene.weights()["generation"].as_u64()), (2, Some(2)));
    assert_eq!(scene.verify(), Some(0));
}

/// A torn or edited file is never believed, never blocks a rollback, and is replaced by the baseline.
#[test]
fn weights_torn_edited_or_gone_are_rolled_back() {
    let whole =
        r#"{"generation":1,"canary":"xgb","weights":{"lgbm":0.3,"nhits":0.36,"patchtst":0.24,"xgb":0.1}}"#;
    for broken in [
        whole[..40].to_owned(),
        String::new(),
        whole.replace("0.36", "0.26").replace("\"xgb\":0.1", "\"xgb\":0.2"),
        whole.replace("\"canary\":\"xgb\"", "\"canary\":null"),
        whole.replace("\"generation\":1", "\"generation\":9"),
    ] {
        let scene = Scene::default();
        scene.activated();
        fs::write(scene.path("state/weights.json"), &broken).unwrap();
        let status = scene.qsc(&["canary", "status", "--format", "json"]);
        assert_eq!((status.code, &status.json()["standing"]), (Some(1), &json!("foreign")), "{broken:?}");
        assert_eq!(scene.activate(&["--model", "lgbm"]).code, Some(2), "{broken:?}");

        let run = scene.rollback(&[]);
        assert_eq!((run.code, &run.json()["rolled_back"]), (Some(1), &json!(true)), "{broken:?} {run:?}");
        assert_eq!(scene.weights()["weights"], baseline(), "{broken:?}");
        assert!(scene.weights()["generation"].as_u64() > Some(1), "{broken:?}");
        assert_eq!(scene.log().last().unwrap()["model"], "xgb", "the cool-down is the canary's");
        assert_eq!(scene.verify(), Some(0), "{broken:?}");
        assert_eq!(scene.rollback(&[]).code, Some(0), "whole again");
    }
}

/// Weights that are gone right after an activation look like those of one that died before it put them in place. Either
/// way the baseline comes in force, under a generation that a running engine takes up.
#[test]
fn weights_removed_after_an_activation_come_back_as_the_baseline() {
    let scene = Scene::default();
    scene.activated();
    fs::remove_file(scene.path("state/weights.json")).unwrap();
    let status = scene.qsc(&["canary", "status", "--format", "json"]);
    assert_eq!(status.json()["standing"], "interrupted");
    let text = scene.qsc(&["canary", "status"]).stdout;
    assert!(text.contains("unknown") && !text.contains("are in force"), "{text}");
    // What the recovery did is the rollback that was asked for, and it is told.
    let run = scene.rollback(&["--on-event", "cat > heard.json"]);
    assert_eq!((run.code, &run.json()["rolled_back"]), (Some(0), &json!(true)), "{run:?}");
    assert_eq!(run.json()["model"], "xgb");
    assert!(scene.read("heard.json").unwrap().contains("\"rolled_back\""));
    assert_eq!(scene.weights(), json!({"generation": 2, "canary": null, "weights": baseline()}));
    assert_eq!(scene.log().last().unwrap()["event"], "voided");
    assert_eq!(scene.verify(), Some(0));
    scene.activated();
    assert_eq!(scene.weights()["generation"], 3);
}

#[test]
fn without_a_log_a_rollback_still_restores() {
    for broken in ["truncated", "edited", "gone", "unreadable"] {
        let scene = Scene::default();
        scene.activated();
        let log = scene.path("state/audit.jsonl");
        let text = fs::read_to_string(&log).unwrap();
        match broken {
            "truncated" => fs::write(&log, "").unwrap(),
            "edited" => fs::write(&log, text.replace("xgb", "XGB")).unwrap(),
            "gone" => fs::remove_file(&log).unwrap(),
            _ => {
                fs::remove_file(&log).unwrap();
                fs::create_dir(&log).unwrap();
            }
        }
        let verify = scene.qsc(&["canary", "audit", "verify", "--format", "json"]);
        if broken == "unreadable" {
            verify.assert_refused(&["audit.jsonl"]);
        } else {
            assert_eq!((verify.code, &verify.json()["first_bad_line"]), (Some(2), &json!(1)), "{broken}");
        }
        assert_eq!(
            scene.activate(&["--model", "lgbm"]).code,
            Some(1),
            "{broken}: no activation without a log"
        );
        let run = scene.rollback(&[]);
        assert_eq!((run.code, &run.json()["rolled_back"]), (Some(1), &json!(true)), "{broken}: {run:?}");
        assert!(!run.json()["broken"].as_array().unwrap().is_empty());
        assert_eq!(scene.weights()["weights"], baseline(), "{broken}");
        assert_eq!(scene.weights()["canary"], Value::Null, "{broken}");
    }
}

/// Without a log nothing proves what is in force, and a running engine may have other weights than the file.
#[test]
fn without_a_log_no_weights_file_is_believed() {
    let edited =
        r#"{"generation":1,"canary":null,"weights":{"lgbm":0.1,"nhits":0.1,"patchtst":0.1,"xgb":0.7}}"#;
    for edit in [None, Some(edited)] {
        let scene = Scene::default();
        scene.activated();
        fs::write(scene.path("state/audit.jsonl"), "").unwrap();
        let path = scene.path("state/weights.json");
        match edit {
            None => fs::remove_file(path).unwrap(),
            Some(text) => fs::write(path, text).unwrap(),
        }
        let run = scene.rollback(&[]);
        assert_eq!((run.code, &run.json()["rolled_back"]), (Some(1), &json!(true)), "{edit:?}: {run:?}");
        assert_eq!(scene.weights()["weights"], baseline(), "{edit:?}");
        assert!(scene.weights()["generation"].as_u64() > Some(1), "a running engine takes it up");
    }
}

/// What the next canary starts from is held against the log, too.
#[test]
fn an_edited_promotion_is_no_baseline() {
    let scene = Scene::default();
    scene.watched();
    assert_eq!(scene.qsc(&["canary", "promote"]).code, Some(0));
    assert_eq!(scene.activate(&["--model", "lgbm"]).code, Some(0));
    assert_eq!(scene.rollback(&[]).code, Some(0));
    let whole = scene.read("state/baseline.json").unwrap();
    let edited = whole.replace("\"lgbm\":0.3,", "\"lgbm\":0.1,").replace("\"xgb\":0.1", "\"xgb\":0.3");
    assert_ne!(whole, edited);
    fs::write(scene.path("state/baseline.json"), edited).unwrap();
    let run = scene.activate(&["--model", "nhits"]);
    assert_eq!(run.code, Some(2), "{run:?}");
    assert!(run.json()["blocked_by"].to_string().contains("it was edited"), "{run:?}");
    fs::write(scene.path("state/baseline.json"), whole).unwrap();
    assert_eq!(scene.activate(&["--model", "nhits"]).code, Some(0));
}

#[test]
fn a_missing_or_edited_baseline_is_never_guessed() {
    for broken in ["gone", "torn", "edited"] {
        let scene = Scene::default();
        scene.activated();
        let path = scene.path("state/baseline.json");
        let text = fs::read_to_string(&path).unwrap();
        match broken {
            "gone" => fs::remove_file(&path).unwrap(),
            "torn" => fs::write(&path, &text[..30]).unwrap(),
            _ => fs::write(
                &path,
                text.replace("0.3,", "0.2,")
                    .replace("0.2}", "0.3}")
                    .replace("\"patchtst\":0.2", "\"patchtst\":0.3"),
            )
            .unwrap(),
        }
        let before = scene.weights();
        assert_eq!(scene.qsc(&["canary", "status"]).code, Some(1), "{broken}: no rollback would hold");
        scene.rollback(&[]).assert_refused(&["baseline.json", "--models MODELS.toml"]);
        assert_eq!(scene.weights(), before, "{broken}: never a guess");
        assert_eq!(scene.verify(), Some(0));
        let run = scene.rollback(&["--models", "MODELS.toml"]);
        assert_eq!(run.code, Some(0), "{broken}: {run:?}");
        assert_eq!(scene.weights()["weights"], baseline(), "{broken}");
    }
}

/// A pipe under the name of a file of the state holds nobody up.
#[test]
fn what_is_no_file_does_not_hold_a_rollback_up() {
    let scene = Scene::default();
    scene.activated();
    let path = scene.path("state/weights.json");
    fs::remove_file(&path).unwrap();
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    assert_eq!(scene.qsc(&["canary", "status"]).code, Some(1));
    let run = scene.rollback(&[]);
    assert!(run.json()["broken"].to_string().contains("it is no regular file"), "{run:?}");
    assert_eq!(scene.weights()["weights"], baseline());
}

#[test]
fn the_first_bad_line_of_the_log_is_named() {
    let scene = Scene::default();
    for _ in 0..3 {
        let run = scene.activate(&["--cool-down", "0s"]);
        assert_eq!(run.code, Some(0), "{run:?}");
        assert_eq!(scene.rollback(&[]).code, Some(0));
    }
    let path = scene.path("state/audit.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let joined = |lines: &[&str]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    let mut swapped = lines.clone();
    swapped.swap(2, 3);
    let changed = lines[4].replace("xgb", "lgbm");
    let mut with_change = lines.clone();
    with_change[4] = &changed;
    for (bad, line) in [
        (joined(&swapped), 3),
        (joined(&with_change), 5),
        (joined(&[&lines[..1], &lines[2..]].concat()), 2),
        (joined(&lines[..5]), 6),
        (text[..text.len() - 20].to_owned(), 6),
        (format!("{text}{}\n", lines[5]), 7),
    ] {
        fs::write(&path, bad).unwrap();
        let verify = scene.qsc(&["canary", "audit", "verify", "--format", "json"]);
        assert_eq!((verify.code, &verify.json()["first_bad_line"]), (Some(2), &json!(line)), "{verify:?}");
    }
    fs::write(&path, text).unwrap();
    assert_eq!(scene.verify(), Some(0));
}

/// Whoever looks in the wrong place hears where; where nobody can look, nothing is said to be idle.
#[test]
fn a_state_that_is_not_seen_is_not_idle() {
    let scene = Scene::default();
    scene.activated();
    for command in ["rollback", "status"] {
        let elsewhere = scene.qsc(&["canary", command, "--state-dir", "stat"]);
        let words = format!("{}, which does not exist", scene.path("stat").display());
        assert!(elsewhere.code == Some(0) && elsewhere.stdout.contains(&words), "{elsewhere:?}");
        // A file on the way keeps even root from looking.
        let unseen = scene.qsc(&["canary", command, "--state-dir", "MODELS.toml/state"]);
        assert_eq!(unseen.code, Some(1), "{unseen:?}");
    }
    let json = scene.qsc(&["canary", "rollback", "--state-dir", "stat", "--format", "json"]).json();
    assert_eq!((&json["state_exists"], &json["rolled_back"]), (&json!(false), &json!(false)));
    for command in ["rollback", "status"] {
        let mut no_utf8 = scene.command(&["canary", command, "--format", "json", "--state-dir"]);
        no_utf8.arg(OsStr::from_bytes(b"st\xff"));
        let named = qsc_tests::qsc::finish(no_utf8, &[]);
        assert_eq!((named.code, &named.json()["state_exists"]), (Some(0), &json!(false)), "{named:?}");
    }
    let unseen = ["canary", "promote", "--state-dir", "MODELS.toml/state"];
    scene.qsc(&unseen).assert_refused(&["MODELS.toml/state"]);
    assert_eq!(scene.weights()["canary"], "xgb", "still active");
}

#[test]
fn promotion_needs_a_watch_that_ended_clean() {
    let scene = Scene::default();
    let refused = scene.qsc(&["canary", "promote", "--format", "json"]);
    assert_eq!(refused.code, Some(2));
    scene.activated();
    let before = scene.weights();
    let refused = scene.qsc(&["canary", "promote", "--format", "json"]);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert_eq!(refused.json()["checks"][1]["check"], "watch");
    assert_eq!(scene.weights(), before);
    // No file but the log says that a watch ended.
    fs::write(scene.path("state/watch.json"), "{}").unwrap();
    assert_eq!(scene.qsc(&["canary", "promote"]).code, Some(2));
}

/// The lock of a running activation keeps a second one out; a rollback does not wait for it.
#[test]
fn a_second_actor_loses_and_says_to_whom() {
    let scene = Scene::default();
    fs::create_dir(scene.path("state")).unwrap();
    // A server that takes connections and never answers.
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://{}", server.local_addr().unwrap());
    let patience = ["--redis-connect-timeout", "10m", "--redis-reply-timeout", "10m"];
    let arguments = scene.activation(&[&["--source", &*url][..], &patience].concat());
    let mut first = scene.command(&arguments);
    let mut first = first.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let deadline = Instant::now() + PATIENCE;
    let holder = loop {
        let pid = scene.read("state/activate.lock").unwrap_or_default();
        if pid.trim() == first.id().to_string() {
            break pid;
        }
        assert!(Instant::now() < deadline, "the first never took the lock");
        std::thread::sleep(Duration::from_millis(5));
    };
    scene.activate(&[]).assert_refused(&["another qsc", holder.trim(), "activate.lock"]);
    assert_eq!(scene.rollback(&[]).code, Some(0));
    first.kill().unwrap();
    first.wait().unwrap();
    assert_eq!(scene.weights(), Value::Null);
    scene.activated();
}

#[test]
fn two_activations_at_once_are_one() {
    let scene = Scene::default();
    let mut children: Vec<_> = (0..4)
        .map(|_| {
            let mut command = scene.command(&scene.activation(&[]));
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
        })
        .collect();
    let codes: Vec<_> = children.iter_mut().map(|child| child.wait().unwrap().code().unwrap()).collect();
    assert!(codes.contains(&0) && codes.iter().all(|code| matches!(code, 0 | 1)), "{codes:?}");
    assert_eq!((scene.weights()["generation"].as_u64(), scene.log().len()), (Some(1), 1));
    assert_eq!(scene.verify(), Some(0));
}

/// A hook hears of what happened; one that fails or hangs changes nothing.
#[test]
fn hooks_hear_and_never_hold_anything_up() {
    let scene = Scene::default();
    let run = scene.activate(&["--on-event", "cat > heard.json"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    let heard: Value = serde_json::from_str(&scene.read("heard.json").unwrap()).unwrap();
    assert_eq!(
        (&heard["event"], &heard["model"], &heard["generation"]),
        (&json!("activated"), &json!("xgb"), &json!(1))
    );

    let mut command = scene.command(&["canary", "rollback", "--on-event", "touch started; sleep 600"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let deadline = Instant::now() + PATIENCE;
    while !scene.path("started").exists() {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(scene.weights()["canary"], Value::Null, "in force before the hook begins");
    assert_eq!(scene.log().len(), 2, "and recorded");
    assert_eq!(child.wait().unwrap().code(), Some(0), "the hook is killed, the rollback holds");
    let run = scene.activate(&["--cool-down", "0s", "--on-event", "exit 7"]);
    assert_eq!(run.code, Some(0));
    assert!(run.stderr.contains("the hook failed"), "{run:?}");
}

/// A rollback that could not be carried out is the one thing somebody has to hear of: first whoever reads, then the hook.
#[test]
fn a_failed_rollback_reaches_the_hook() {
    let scene = Scene::default();
    scene.activated();
    let before = scene.weights();
    fs::remove_file(scene.path("state/baseline.json")).unwrap();
    let run = scene.rollback(&["--reason", "spread widened", "--on-event", "cat > heard.json"]);
    run.assert_refused(&["baseline.json is missing"]);
    let heard: Value = serde_json::from_str(&scene.read("heard.json").unwrap()).unwrap();
    assert_eq!(
        (&heard["event"], &heard["model"], &heard["generation"]),
        (&json!("rollback_failed"), &json!("xgb"), &json!(1))
    );
    assert_eq!(heard["detail"]["reasons"], json!(["spread widened"]));
    assert!(heard["detail"]["error"].as_str().unwrap().contains("baseline.json is missing"), "{heard}");
    assert_eq!(scene.weights(), before, "the canary is still active");

    // A hook that hangs keeps nobody from reading why: the refusal is there before the hook begins.
    let mut command = scene.command(&["canary", "rollback", "--on-event", "touch started; sleep 600"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let said = lines_of(child.stderr.take().unwrap()).recv_timeout(PATIENCE).unwrap();
    assert!(said.starts_with("QSC FAIL-CLOSED: ") && said.contains("baseline.json is missing"), "{said}");
    assert_eq!(child.try_wait().unwrap(), None, "the hook runs, or is about to");
    // Nor does it hold up the rollback that works.
    let run = scene.rollback(&["--models", "MODELS.toml"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    child.kill().unwrap();
    child.wait().unwrap();
}

/// `run` takes weights up live, keeps the last ones when the file breaks, and refuses to start on a torn one.
#[test]
fn a_running_engine_takes_weights_up_and_never_a_torn_file() {
    let scene = Scene::default();
    let arguments =
        ["run", "--source", "-", "--sink", "-", "--models", "MODELS.toml", "--state-dir", "state"];
    let mut child = scene
        .command(&arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log = lines_of(child.stderr.take().unwrap());
    let intents = lines_of(child.stdout.take().unwrap());
    let mut stdin = child.stdin.take().unwrap();
    let mut features = qsc_models::FEATURES_CAPTURE.lines();
    let mut weight_now = || {
        writeln!(stdin, "{}", features.next().unwrap()).unwrap();
        let event: Value = serde_json::from_str(&intents.recv_timeout(PATIENCE).unwrap()).unwrap();
        let intent: Value = serde_json::from_str(event["fields"]["payload"].as_str().unwrap()).unwrap();
        let of = |name: &str| intent["effective_weights"][name].as_f64().unwrap();
        // Networks need a full window first; among the trees the proportion tells.
        of("xgb") / of("lgbm")
    };
    let effective = || loop {
        let line = log.recv_timeout(PATIENCE).unwrap();
        if line.starts_with("EFFECTIVE_WEIGHTS") {
            return line;
        }
    };
    assert_eq!(
        effective(),
        "EFFECTIVE_WEIGHTS generation=0 canary=none lgbm=0.25 nhits=0.3 patchtst=0.2 xgb=0.25"
    );
    assert!((weight_now() - 1.0).abs() < 1e-9);

    scene.activated();
    assert_eq!(
        effective(),
        "EFFECTIVE_WEIGHTS generation=1 canary=xgb lgbm=0.3 nhits=0.36 patchtst=0.24 xgb=0.1"
    );
    assert!((weight_now() - 1.0 / 3.0).abs() < 1e-9);

    let whole = scene.read("state/weights.json").unwrap();
    fs::write(scene.path("state/weights.json"), &whole[..50]).unwrap();
    assert!(effective().starts_with("EFFECTIVE_WEIGHTS generation=1 stays in force: "));
    assert!((weight_now() - 1.0 / 3.0).abs() < 1e-9);
    scene.qsc(&arguments).assert_state_refused();

    assert_eq!(scene.rollback(&[]).code, Some(1), "done, and the torn file is told");
    // A file that is written in place may be seen torn twice.
    let taken_up = std::iter::repeat_with(effective).find(|line| !line.contains("stays in force")).unwrap();
    assert!(taken_up.starts_with("EFFECTIVE_WEIGHTS generation=2 canary=none"), "{taken_up}");
    assert!((weight_now() - 1.0).abs() < 1e-9);
    drop(stdin);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// A running engine takes up what the log recorded and nothing else, and a rollback also where there is no log.
#[test]
fn a_running_engine_believes_what_the_log_recorded() {
    let scene = Scene::default();
    scene.activated();
    let arguments =
        ["run", "--source", "-", "--sink", "-", "--models", "MODELS.toml", "--state-dir", "state"];
    let mut child = scene
        .command(&arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log = lines_of(child.stderr.take().unwrap());
    let mut lines = std::iter::repeat_with(|| log.recv_timeout(PATIENCE).unwrap())
        .filter(|line| line.starts_with("EFFECTIVE"));
    assert!(lines.next().unwrap().starts_with("EFFECTIVE_WEIGHTS generation=1 canary=xgb"));
    let edited =
        r#"{"generation":9,"canary":"xgb","weights":{"lgbm":0.01,"nhits":0.01,"patchtst":0.01,"xgb":0.97}}"#;
    fs::write(scene.path("new"), edited).unwrap();
    fs::rename(scene.path("new"), scene.path("state/weights.json")).unwrap();
    let refused = lines.next().unwrap();
    assert!(refused.starts_with("EFFECTIVE_WEIGHTS generation=1 stays in force: "), "{refused}");
    assert!(refused.contains("is not what the audit log recorded"), "{refused}");
    let second = scene.qsc(&arguments);
    assert_eq!(second.code, Some(1), "{second:?}");
    assert!(second.stderr.contains("is not what the audit log recorded"), "{second:?}");

    fs::write(scene.path("state/audit.jsonl"), "").unwrap();
    assert_eq!(scene.rollback(&[]).code, Some(1), "done, and the log is told");
    let taken_up = lines.find(|line| !line.contains("stays in force")).unwrap();
    assert!(taken_up.starts_with("EFFECTIVE_WEIGHTS generation=10 canary=none"), "{taken_up}");
    drop(child.stdin.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// A file that could not be read once, as with too many files open, is read at the next look.
#[test]
fn weights_that_could_not_be_read_once_are_read_again() {
    let traced = Command::new("strace").args(["-o", "/dev/null", "true"]).output();
    if !traced.is_ok_and(|output| output.status.success()) {
        qsc_tests::skip("strace is not installed or may not trace");
        return;
    }
    let scene = Scene::default();
    scene.activated();
    let mut child = Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null", "-P", "state/weights.json"])
        .args(["-e", "trace=openat", "-e", "inject=openat:error=EMFILE:when=2"])
        .arg(qsc_tests::qsc::binary())
        .args(["run", "--source", "-", "--sink", "-", "--models", "MODELS.toml", "--state-dir", "state"])
        .current_dir(scene.directory())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log = lines_of(child.stderr.take().unwrap());
    let mut lines = std::iter::repeat_with(|| log.recv_timeout(PATIENCE).unwrap())
        .filter(|line| line.starts_with("EFFECTIVE"));
    assert!(lines.next().unwrap().starts_with("EFFECTIVE_WEIGHTS generation=1 canary=xgb"));
    assert_eq!(scene.rollback(&[]).code, Some(0));
    let unread = lines.next().unwrap();
    assert!(unread.starts_with("EFFECTIVE_WEIGHTS generation=1 stays in force: cannot read"), "{unread}");
    assert!(lines.next().unwrap().starts_with("EFFECTIVE_WEIGHTS generation=2 canary=none"));
    drop(child.stdin.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

trait StateRefused {
    fn assert_state_refused(&self);
}

impl StateRefused for qsc_tests::qsc::Run {
    /// Exit 1, no intent, and the reason as the last line of the log.
    fn assert_state_refused(&self) {
        assert_eq!((self.code, self.stdout.as_str()), (Some(1), ""), "{self:?}");
        let last = self.stderr.trim_end().lines().last().unwrap();
        assert!(last.starts_with("QSC FAIL-CLOSED: ") && last.contains("weights.json is torn"), "{self:?}");
    }
}

fn lines_of(pipe: impl std::io::Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines() {
            if sender.send(line.unwrap()).is_err() {
                return;
            }
        }
    });
    receiver
}
