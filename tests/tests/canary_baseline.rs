//! What a rollback restores is never lost without a word: the audit log holds it, and an activation that cannot have it is
//! blocked.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use qsc_tests::canary::{Scene, baseline};
use qsc_tests::qsc;
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);

/// `xgb` at 10 % was promoted: that is the baseline.
fn promoted() -> Scene {
    let scene = Scene::default();
    scene.watched();
    assert_eq!(scene.qsc(&["canary", "promote"]).code, Some(0));
    scene
}

/// A promotion, and a canary after it that was rolled back.
fn promoted_long_ago() -> Scene {
    let scene = promoted();
    assert_eq!(scene.activate(&["--model", "lgbm"]).code, Some(0));
    assert_eq!(scene.rollback(&[]).code, Some(0));
    scene
}

fn assert_blocked(scene: &Scene, what: &str) {
    for more in [&["--dry-run"][..], &[]] {
        let before = (scene.weights(), scene.log().len());
        let run = scene.activate(&[&["--model", "nhits", "--cool-down", "0s"], more].concat());
        assert_eq!(run.code, Some(2), "{what}: {run:?}");
        let why = run.json()["blocked_by"][0].as_str().unwrap().to_owned();
        for words in ["ensemble: ", "promot", "state/baseline.json", "`qsc canary rollback`"] {
            assert!(why.contains(words), "{what}: {words:?} is not in {why}");
        }
        assert_eq!((scene.weights(), scene.log().len()), before, "{what}");
    }
}

/// The next canary starts from the promoted weights and a rollback goes back to them.
fn assert_promotion_stands(scene: &Scene, what: &str) {
    let run = scene.activate(&["--model", "nhits", "--cool-down", "0s"]);
    assert_eq!(run.code, Some(0), "{what}: {run:?}");
    assert_eq!(scene.log().last().unwrap()["details"]["baseline_ppm"]["xgb"], 100_000, "{what}");
    assert_eq!(scene.rollback(&[]).code, Some(0), "{what}");
    assert_eq!(scene.weights()["weights"]["xgb"], 0.1, "{what}");
}

#[test]
fn promoted_weights_that_are_gone_block_and_can_be_written_again() {
    let scene = promoted_long_ago();
    let path = scene.path("state/baseline.json");
    let whole = fs::read_to_string(&path).unwrap();
    let edits: [(&str, &dyn Fn()); 4] = [
        ("gone", &|| fs::remove_file(&path).unwrap()),
        ("torn", &|| fs::write(&path, &whole[..30]).unwrap()),
        ("of another origin", &|| fs::write(&path, whole.replace("promotion", "MODELS.toml")).unwrap()),
        ("edited", &|| {
            let edited =
                whole.replace("\"lgbm\":0.3,", "\"lgbm\":0.1,").replace("\"xgb\":0.1", "\"xgb\":0.3");
            assert_ne!(edited, whole);
            fs::write(&path, edited).unwrap();
        }),
    ];
    for (what, edit) in edits {
        edit();
        assert_blocked(&scene, what);
        let run = scene.rollback(&[]);
        let document = run.json();
        assert_eq!((run.code, &document["rolled_back"]), (Some(0), &json!(false)), "{what}: {run:?}");
        assert_eq!(document["baseline_rewritten"], true, "{what}: {run:?}");
        assert_eq!(fs::read_to_string(&path).unwrap(), whole, "{what}");
        assert_eq!(scene.rollback(&[]).json()["baseline_rewritten"], false, "{what}");
    }
    assert_promotion_stands(&scene, "written again");
}

/// A promotion replaces the baseline last: where it is missing right after one, it is written.
#[test]
fn a_promotion_without_its_baseline_is_completed() {
    let scene = promoted();
    fs::remove_file(scene.path("state/baseline.json")).unwrap();
    assert_promotion_stands(&scene, "completed");
}

/// What a crash cannot have left is not replaced in silence.
#[test]
fn a_baseline_edited_right_after_its_promotion_blocks() {
    let scene = promoted();
    let path = scene.path("state/baseline.json");
    let whole = fs::read_to_string(&path).unwrap();
    let edited = whole.replace("\"lgbm\":0.3,", "\"lgbm\":0.1,").replace("\"xgb\":0.1", "\"xgb\":0.3");
    assert_ne!(edited, whole);
    fs::write(&path, &edited).unwrap();
    assert_eq!(scene.qsc(&["canary", "status"]).code, Some(1));
    assert_blocked(&scene, "edited");
    assert_eq!(fs::read_to_string(&path).unwrap(), edited);
    assert_eq!(scene.rollback(&[]).code, Some(0));
    assert_promotion_stands(&scene, "written again");
}

#[test]
fn a_promotion_is_given_up_by_name_only() {
    let scene = promoted();
    assert_eq!(scene.activate(&["--model", "lgbm"]).code, Some(0));
    fs::remove_file(scene.path("state/baseline.json")).unwrap();
    scene.rollback(&[]).assert_refused(&["baseline.json is missing", "--models MODELS.toml"]);
    assert_eq!(scene.rollback(&["--models", "MODELS.toml"]).code, Some(0));
    assert_eq!(scene.weights()["weights"], baseline());
    // The log says whose weights were chosen: nobody asks for those of the promotion again.
    let run = scene.activate(&["--model", "nhits"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert_eq!(scene.rollback(&[]).code, Some(0));
    assert_eq!(scene.weights()["weights"], baseline());
}

#[test]
fn a_new_log_knows_of_the_promotion_before_it() {
    let scene = promoted_long_ago();
    fs::create_dir(scene.path("state/broken")).unwrap();
    for name in ["audit.jsonl", "audit.head"] {
        fs::rename(scene.path("state").join(name), scene.path("state/broken").join(name)).unwrap();
    }
    let run = scene.rollback(&[]);
    assert_eq!((run.code, &run.json()["rolled_back"]), (Some(1), &json!(true)), "{run:?}");
    fs::remove_file(scene.path("state/baseline.json")).unwrap();
    assert_blocked(&scene, "a new log");
    assert_eq!(scene.rollback(&[]).code, Some(0));
    assert_promotion_stands(&scene, "a new log");
}

/// Files without a log are no state that was never used.
#[test]
fn a_log_that_is_gone_is_missed() {
    let scene = promoted_long_ago();
    let verify = || {
        let run = scene.qsc(&["canary", "audit", "verify"]);
        (run.code, run.stdout)
    };
    let head = scene.read("state/audit.head").unwrap();
    fs::remove_file(scene.path("state/audit.head")).unwrap();
    let (code, text) = verify();
    assert_eq!(code, Some(2), "{text}");
    for words in ["BROKEN in state: audit.head is missing", "state/broken", "`qsc canary rollback`"] {
        assert!(text.contains(words), "{words:?} is not in {text}");
    }
    fs::write(scene.path("state/audit.head"), &head).unwrap();
    let log = scene.read("state/audit.jsonl").unwrap();
    fs::write(scene.path("state/audit.jsonl"), format!("{log}{{\"actor\":")).unwrap();
    let (code, text) = verify();
    assert!(code == Some(2) && text.contains("cut off") && !text.contains("state/broken"), "{text}");

    for name in ["audit.jsonl", "audit.head"] {
        fs::remove_file(scene.path("state").join(name)).unwrap();
    }
    for left in ["weights.json", "baseline.json"] {
        let (code, text) = verify();
        assert_eq!(code, Some(2), "{text}");
        for words in [left, "state", "`qsc canary rollback`"] {
            assert!(text.contains(words), "{words:?} is not in {text}");
        }
        assert_eq!(scene.qsc(&["canary", "status"]).code, Some(1));
        let run = scene.activate(&["--model", "nhits"]);
        assert_eq!(run.code, Some(2), "{run:?}");
        let _ = fs::remove_file(scene.path("state/weights.json"));
    }
    // Without weights an engine has those of `MODELS.toml`, but not where there were others.
    let engine = ["run", "--source", "-", "--sink", "-", "--models", "MODELS.toml", "--state-dir", "state"];
    let run = scene.qsc(&engine);
    assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""), "{run:?}");
    assert!(
        run.stderr.contains("QSC FAIL-CLOSED: there is no log, but state/baseline.json is there"),
        "{run:?}"
    );
    let run = scene.rollback(&[]);
    assert_eq!((run.code, &run.json()["rolled_back"]), (Some(1), &json!(true)), "{run:?}");
    assert_promotion_stands(&scene, "what it said to do");
    fs::remove_dir_all(scene.path("state")).unwrap();
    fs::create_dir(scene.path("state")).unwrap();
    assert_eq!(verify().0, Some(0), "an empty directory has nothing to miss");
}

/// A running engine takes up no generation below its own, so a rollback makes one above all that anything still tells.
#[test]
fn a_rollback_goes_beyond_every_generation_that_can_still_be_read() {
    for torn in ["{\"generation\":4", "{\"gen", "{\"generation\":18446744073709551615,\"canary\":null}"] {
        let scene = Scene::default();
        for _ in 0..2 {
            assert_eq!(scene.activate(&["--cool-down", "0s"]).code, Some(0));
            assert_eq!(scene.rollback(&[]).code, Some(0));
        }
        let log = scene.read("state/audit.jsonl").unwrap();
        fs::write(scene.path("state/audit.jsonl"), log.replacen("xgb", "XGB", 1)).unwrap();
        fs::write(scene.path("state/weights.json"), torn).unwrap();
        fs::remove_file(scene.path("state/baseline.json")).unwrap();
        let run = scene.rollback(&["--models", "MODELS.toml"]);
        assert_eq!(run.code, Some(1), "{torn}: {run:?}");
        assert_eq!(scene.weights()["generation"], 5, "{torn}: {run:?}");
        let broken = run.json()["broken"].to_string();
        assert!(broken.contains("EFFECTIVE_WEIGHTS generation=5") && broken.contains("restart"), "{broken}");
    }
    // Where only the torn file tells, it is asked.
    let scene = Scene::default();
    scene.activated();
    fs::write(scene.path("state/audit.jsonl"), "").unwrap();
    fs::write(scene.path("state/weights.json"), "{\"generation\":41,\"can").unwrap();
    assert_eq!(scene.rollback(&[]).code, Some(1));
    assert_eq!(scene.weights()["generation"], 42);
}

/// What the next command will do by itself is no secret of its own.
#[test]
fn status_says_what_the_next_command_completes() {
    let scene = Scene::default();
    scene.activated();
    let status = || {
        let run = scene.qsc(&["canary", "status", "--format", "json"]);
        let text = scene.qsc(&["canary", "status"]).stdout;
        assert_eq!(run.code, Some(0), "{run:?}");
        (run.json()["standing"].clone(), run.json()["pending"].clone(), text)
    };
    assert_eq!(status().1, Value::Null, "nothing is left to do");
    let weights = scene.read("state/weights.json").unwrap();
    fs::remove_file(scene.path("state/weights.json")).unwrap();
    let (standing, pending, text) = status();
    assert_eq!(standing, "interrupted");
    assert!(pending.as_str().unwrap().contains("voids"), "{pending}");
    assert!(text.contains(&format!("PENDING: {}", pending.as_str().unwrap())), "{text}");

    let saved: Value = serde_json::from_str(&scene.read("state/baseline.json").unwrap()).unwrap();
    let rolled_back = json!({"generation": 2, "canary": null, "weights": saved["weights"]});
    fs::write(scene.path("state/weights.json"), rolled_back.to_string() + "\n").unwrap();
    let (standing, pending, text) = status();
    assert_eq!(standing, "unrecorded_rollback");
    assert!(pending.as_str().unwrap().contains("records"), "{pending}");
    assert!(text.contains("PENDING: "), "{text}");
    fs::write(scene.path("state/weights.json"), weights).unwrap();
    assert_eq!(status().1, Value::Null);
}

/// Whoever rolls back does not want the canary that is being judged just then.
#[test]
fn a_rollback_voids_the_activation_that_is_judging() {
    let traced = Command::new("strace").args(["-o", "/dev/null", "true"]).output();
    if !traced.is_ok_and(|output| output.status.success()) {
        qsc_tests::skip("strace is not installed or may not trace");
        return;
    }
    // Without a log, with one, and with one that was broken and begun anew meanwhile.
    for (before, is_begun_anew) in [(0, false), (2, false), (1, true)] {
        let scene = Scene::default();
        if before > 0 {
            scene.activated();
            assert_eq!(scene.rollback(&[]).code, Some(0));
        }
        if is_begun_anew {
            begin_anew(&scene);
        }
        let weights = scene.weights();
        assert_eq!(scene.log().len(), before);
        let _ = fs::remove_file(scene.path("state/activate.lock"));
        let mut judging = Command::new("strace")
            .args(["-f", "-qq", "-o", "/dev/null", "-P", "intents.jsonl", "-e", "trace=openat"])
            .args(["-e", "inject=openat:delay_enter=3000000:when=1"])
            .arg(qsc::binary())
            .args(scene.activation(&["--cool-down", "0s"]))
            .current_dir(scene.directory())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + PATIENCE;
        while scene.read("state/activate.lock").unwrap_or_default().trim().is_empty() {
            assert!(Instant::now() < deadline, "it never took the lock");
            std::thread::sleep(Duration::from_millis(5));
        }
        // It has read the state as soon as it lets go of the other one.
        fs::File::open(scene.path("state/lock")).unwrap().lock().unwrap();
        if is_begun_anew {
            begin_anew(&scene);
        } else {
            let run = scene.rollback(&["--reason", "not now"]);
            let document = run.json();
            assert_eq!((run.code, &document["rolled_back"]), (Some(0), &json!(false)), "{run:?}");
            assert_eq!(document["withdrawn"], true, "{run:?}");
            assert!(judging.try_wait().unwrap().is_none(), "it was judging all the time");
        }
        let ended = judging.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&ended.stdout).into_owned();
        assert_ne!(scene.weights()["canary"], "xgb", "{said}");
        if is_begun_anew {
            assert_eq!(ended.status.code(), Some(1), "{said}");
            continue;
        }
        assert_eq!(ended.status.code(), Some(2), "{said}");
        let blocked = serde_json::from_str::<Value>(&said).unwrap()["blocked_by"].to_string();
        assert!(blocked.contains("rollback: ") && blocked.contains("not now"), "{blocked}");
        assert_eq!((scene.weights(), scene.log().len()), (weights, before + 1));
        assert_eq!((scene.log()[before]["event"].clone(), scene.verify()), (json!("withdrawn"), Some(0)));
        // Nothing is pending any more: a rollback writes nothing, and the model may be activated.
        assert_eq!(scene.rollback(&[]).json()["withdrawn"], false);
        assert_eq!(scene.log().len(), before + 1);
        assert_eq!(scene.activate(&["--cool-down", "0s"]).code, Some(0));
    }
}

fn begin_anew(scene: &Scene) {
    fs::remove_file(scene.path("state/audit.jsonl")).unwrap();
    fs::remove_file(scene.path("state/audit.head")).unwrap();
    let run = scene.rollback(&[]);
    assert_eq!((run.code, scene.log().len()), (Some(1), 1), "{run:?}");
}
