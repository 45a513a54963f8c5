//! The monitor against a real Redis: every violation rolls back and is named, a clean watch ends clean, and nothing else
//! does.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use qsc_kernel::Model;
use qsc_tests::canary::{Scene, agreeing, baseline, breakdown, payload};
use qsc_tests::capture::{Capture, spread};
use qsc_tests::redis::{Options, RedisServer};
use serde_json::{Map, Value, json};

const INTENTS: &str = "quantum:stream:trade.intent";
const PATIENCE: Duration = Duration::from_secs(120);

/// An active canary on a server that holds the 300 intents it was activated on.
struct Watched {
    scene: Scene,
    server: RedisServer,
}

impl Watched {
    fn start() -> Option<Self> {
        Self::on(&agreeing(300))
    }

    fn on(intents: &Capture) -> Option<Self> {
        let server = RedisServer::start(&Options::default())?;
        let scene = Scene::default();
        intents.load(&mut server.connection(), INTENTS);
        let url = server.url();
        let run = scene.activate(&["--source", &url]);
        assert_eq!(run.code, Some(0), "{run:?}");
        Some(Self { scene, server })
    }

    fn monitor(&self, more: &[&str]) -> Child {
        let url = self.server.url();
        let arguments = ["canary", "monitor", "--format", "json", "--source", &url];
        let mut command = self.scene.command(&[&arguments, more].concat());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Adds `count` intents at once.
    fn add(&self, count: usize, models: impl Fn(usize) -> Value) {
        let mut connection = self.server.connection();
        for index in 0..count {
            add(&mut connection, &payload(index, &models(index)));
        }
    }

    /// Adds an intent every 20 ms until dropped.
    fn live(&self) -> Live {
        self.live_of(|index| payload(index, &breakdown(index)))
    }

    fn live_of(&self, payload: impl Fn(usize) -> String + Send + 'static) -> Live {
        let stop = Arc::new(AtomicBool::new(false));
        let mut connection = self.server.connection();
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            for index in 0.. {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                add(&mut connection, &payload(index));
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        Live { stop, thread: Some(thread) }
    }

    /// Ends as a rollback that names `words`.
    fn assert_rolled_back(&self, child: Child, words: &str) {
        let (code, document) = end(child);
        assert_eq!((code, &document["status"]), (Some(2), &json!("rolled_back")), "{document}");
        let reasons = document["reasons"].to_string();
        assert!(reasons.contains(words), "{words:?} is not in {reasons}");
        assert_eq!(
            (&self.scene.weights()["canary"], &self.scene.weights()["weights"]),
            (&Value::Null, &baseline())
        );
        assert_eq!(self.scene.log().last().unwrap()["event"], "rolled_back");
        assert_eq!(self.scene.verify(), Some(0));
        assert_eq!(
            self.scene.qsc(&["canary", "promote"]).code,
            Some(2),
            "what was rolled back is not promoted"
        );
    }
}

/// As [`breakdown`], but the canary says nothing but BUY.
fn collapsed(index: usize) -> Value {
    let mut models = breakdown(index);
    models["xgb"]["action"] = json!("BUY");
    models
}

fn add(connection: &mut redis::Connection, payload: &str) {
    let mut add = redis::cmd("XADD");
    add.arg(INTENTS).arg("*").arg("event_type").arg("trade.intent").arg("payload").arg(payload);
    add.exec(connection).unwrap();
}

struct Live {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Live {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

/// Exit code and document of a child that must end.
fn end(mut child: Child) -> (Option<i32>, Value) {
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        assert!(Instant::now() < deadline, "it does not end");
        std::thread::sleep(Duration::from_millis(10));
    };
    let (mut stdout, mut stderr) = (String::new(), String::new());
    child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    (status.code(), serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stderr}")))
}

fn wait_for_checks(scene: &Scene, checks: u64) -> Value {
    wait_for_watch(scene, |watch| watch["checks"].as_u64() >= Some(checks))
}

fn wait_for_watch(scene: &Scene, is_it: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let watch = scene.read("state/watch.json").and_then(|text| serde_json::from_str::<Value>(&text).ok());
        match watch {
            Some(watch) if is_it(&watch) => return watch,
            _ => assert!(Instant::now() < deadline, "no check is made"),
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args(["-s", name, &child.id().to_string()]).status().unwrap().success());
}

#[test]
fn a_clean_watch_proves_the_weight_and_lets_a_person_promote() {
    let Some(watched) = Watched::start() else { return };
    let live = watched.live();
    let (code, document) = end(watched.monitor(&["--duration", "1500ms", "--interval", "500ms"]));
    drop(live);
    assert_eq!((code, &document["status"]), (Some(0), &json!("clean")), "{document}");
    let measured = &document["measured"];
    assert_eq!(measured["weight"]["newest"], 0.1);
    assert_eq!(measured["weight"]["events"], measured["weight"]["as_expected"]);
    assert!(measured["events"].as_u64() > Some(300));
    assert_eq!(watched.scene.weights()["canary"], "xgb", "a monitor never promotes");

    let run = watched.scene.qsc(&["canary", "promote", "--format", "json"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert_eq!(
        (&watched.scene.weights()["generation"], &watched.scene.weights()["canary"]),
        (&json!(2), &Value::Null)
    );
    assert_eq!(watched.scene.weights()["weights"]["xgb"], 0.1, "what was watched is what stays");
    let events: Vec<Value> = watched.scene.log().iter().map(|line| line["event"].clone()).collect();
    assert_eq!(events, ["activated", "watch_started", "watch_passed", "promoted"]);
    assert_eq!(watched.scene.verify(), Some(0));
    assert_eq!(
        watched.scene.rollback(&[]).json()["rolled_back"],
        false,
        "the promoted weights are the baseline"
    );

    // The next canary starts from them.
    let url = watched.server.url();
    let run = watched.scene.activate(&["--model", "lgbm", "--source", &url]);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert_eq!(watched.scene.weights()["generation"], 3);
    assert_eq!(watched.scene.rollback(&[]).code, Some(0));
    assert_eq!(watched.scene.weights()["weights"]["xgb"], 0.1);
}

#[test]
fn nothing_to_watch_is_an_error() {
    let scene = Scene::default();
    let arguments = ["canary", "monitor", "--source", "file:intents.jsonl"];
    scene.qsc(&arguments).assert_refused(&["no canary is active"]);
    scene.activated();
    assert_eq!(scene.rollback(&[]).code, Some(0));
    scene.qsc(&arguments).assert_refused(&["no canary is active"]);
    let run = scene.qsc(&["canary", "monitor", "--source", "-"]);
    assert!(run.code == Some(64) && run.stderr.contains("stdin"), "{run:?}");
}

/// A source that is away when the watch ends gets as long to come back as at any other time.
#[test]
fn the_end_of_a_watch_has_the_patience_of_every_check() {
    let scene = Scene::default();
    scene.activated();
    let arguments = ["canary", "monitor", "--format", "json", "--source", "file:intents.jsonl"];
    let mut command = scene.command(&[&arguments, &["--duration", "3s", "--interval", "3s"][..]].concat());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for_checks(&scene, 1);
    fs::rename(scene.path("intents.jsonl"), scene.path("away")).unwrap();
    assert_eq!(wait_for_checks(&scene, 3)["failed_in_row"], 2);
    // A sixth of an interval more is no third check.
    std::thread::sleep(Duration::from_millis(500));
    scene.intents(340);
    let (code, document) = end(child);
    assert_eq!((code, &document["status"]), (Some(0), &json!("clean")), "{document}");
}

/// What was watched so far is lost with its file, and a canary is never unwatched for that.
#[test]
fn a_torn_watch_begins_anew() {
    for torn in ["{", "{}"] {
        let scene = Scene::default();
        scene.activated();
        fs::write(scene.path("state/watch.json"), torn).unwrap();
        let arguments = ["canary", "monitor", "--format", "json", "--source", "file:intents.jsonl"];
        let mut command = scene.command(&[&arguments, &["--interval", "60s"][..]].concat());
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        assert_eq!(wait_for_checks(&scene, 1)["failed_in_row"], 0, "{torn}");
        signal(&child, "TERM");
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("watch.json is torn") && said.contains("the watch begins anew"), "{said}");
        assert_eq!(scene.weights()["canary"], "xgb");
    }
}

#[test]
fn faults_of_the_canary_roll_back() {
    type Models = fn(usize) -> Value;
    let one_action: Models = |index| {
        let mut models = breakdown(index);
        models["xgb"]["action"] = json!("BUY");
        models
    };
    let constant: Models = |index| {
        let mut models = breakdown(index);
        models["xgb"]["confidence"] = json!(0.8);
        models
    };
    let no_confidence: Models = |index| {
        let mut models = breakdown(index);
        models["xgb"]["confidence"] = json!(-1);
        models
    };
    for (models, words) in [
        (one_action, "majority_class: BUY is"),
        (constant, "confidence_std: the population std of the confidences is"),
        (no_confidence, "confidence_violation: "),
    ] {
        let Some(watched) = Watched::start() else { return };
        watched.add(2000, models);
        watched.assert_rolled_back(watched.monitor(&["--interval", "1s"]), words);
    }
}

#[test]
fn an_ensemble_that_agrees_too_much_too_little_or_collides_rolls_back() {
    type Models = fn(usize) -> Value;
    let same: Models = |index| {
        let mut models = breakdown(index);
        for name in ["xgb", "lgbm", "nhits", "patchtst"] {
            models[name]["action"] = json!(["BUY", "SELL", "HOLD"][index % 3]);
        }
        models
    };
    // BUY, HOLD, HOLD, BUY in turns: the largest vote has one half.
    let split: Models = |index| {
        let mut models = breakdown(index);
        for (at, name) in ["xgb", "lgbm", "nhits", "patchtst"].into_iter().enumerate() {
            let side = ["BUY", "SELL"][index / 2 % 2];
            models[name]["action"] = json!(if (at + index) % 2 == 0 { side } else { "HOLD" });
        }
        models
    };
    let collision: Models = |index| {
        let mut models = breakdown(index);
        if index % 4 == 0 {
            models["lgbm"]["action"] = json!("BUY");
            models["nhits"]["action"] = json!("SELL");
        }
        models
    };
    for (models, words) in [
        (same, "the models agree by 100.00 %, 55 to 80 % is allowed"),
        (split, "the models agree by 50.00 %, 55 to 80 % is allowed"),
        (collision, "25.00 % of the events hold both BUY and SELL, at most 20 % is allowed"),
    ] {
        let Some(watched) = Watched::start() else { return };
        watched.add(2000, models);
        watched.assert_rolled_back(watched.monitor(&["--interval", "1s"]), words);
    }
}

#[test]
fn corrupt_events_and_a_canary_without_others_roll_back() {
    let Some(watched) = Watched::start() else { return };
    watched.add(1978, breakdown);
    let mut connection = watched.server.connection();
    (0..22).for_each(|_| add(&mut connection, "{"));
    watched.assert_rolled_back(
        watched.monitor(&["--interval", "1s"]),
        "22 of 2000 events are corrupt, at most 1 % may be",
    );

    let Some(watched) = Watched::start() else { return };
    watched.add(2000, |index| {
        let mut models = breakdown(index);
        models.as_object_mut().unwrap().retain(|name, _| name == "xgb");
        models
    });
    watched.assert_rolled_back(
        watched.monitor(&["--interval", "1s"]),
        "no event has two active models, so their agreement is unknown",
    );
}

#[test]
fn a_silent_canary_rolls_back() {
    let Some(watched) = Watched::start() else { return };
    watched.assert_rolled_back(
        watched.monitor(&["--interval", "300ms"]),
        "the canary is silent: no new prediction for",
    );

    let Some(watched) = Watched::start() else { return };
    let short = ["--interval", "1s", "--duration", "1500ms"];
    watched.assert_rolled_back(watched.monitor(&short), "no new prediction until the end of the watch");
}

#[test]
fn three_failed_checks_in_a_row_roll_back() {
    let Some(watched) = Watched::start() else { return };
    let Watched { scene, server } = watched;
    let url = server.url();
    drop(server);
    let mut command =
        scene.command(&["canary", "monitor", "--format", "json", "--source", &url, "--interval", "200ms"]);
    let (code, document) = end(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    assert_eq!(code, Some(2), "{document}");
    assert!(
        document["reasons"].to_string().contains("3 checks in a row failed, at most 2 may"),
        "{document}"
    );
    assert_eq!(document["watch"]["checks"], 3);
    assert_eq!(scene.weights()["weights"], baseline());
}

/// The violation is there and the baseline is not: exit 1, and the hook hears what could not be done.
#[test]
fn a_rollback_that_cannot_be_carried_out_is_told() {
    let Some(watched) = Watched::start() else { return };
    watched.add(2000, collapsed);
    fs::remove_file(watched.scene.path("state/baseline.json")).unwrap();
    let (code, document) = end(watched.monitor(&["--interval", "1s", "--on-event", "cat > heard.json"]));
    assert_eq!((code, &document["status"]), (Some(1), &json!("rollback_failed")), "{document}");
    assert!(document["reasons"].to_string().contains("majority_class: BUY is"), "{document}");
    assert_eq!(watched.scene.weights()["canary"], "xgb", "it may still be active, and is");
    let heard: Value = serde_json::from_str(&watched.scene.read("heard.json").unwrap()).unwrap();
    assert_eq!((&heard["event"], &heard["model"]), (&json!("rollback_failed"), &json!("xgb")), "{heard}");
    assert_eq!(heard["detail"]["reasons"], document["reasons"]);
    let error = heard["detail"]["error"].as_str().unwrap();
    assert!(error.contains("ROLLBACK FAILED") && error.contains("baseline.json is missing"), "{error}");
    // The next one, told where weights are, makes up for it, although what it would see is healthy again.
    watched.add(2000, breakdown);
    watched.assert_rolled_back(
        watched.monitor(&["--interval", "1s", "--models", "MODELS.toml"]),
        "majority_class: BUY is",
    );
}

/// Without its log a canary does not stay: what is owed is made up for, and what nobody proves is rolled back.
#[test]
fn a_log_that_no_longer_holds_does_not_keep_a_canary() {
    for is_owed in [true, false] {
        let Some(watched) = Watched::start() else { return };
        let live = watched.live();
        let child = watched.monitor(&["--interval", "500ms"]);
        wait_for_checks(&watched.scene, 1);
        if is_owed {
            fs::remove_file(watched.scene.path("state/baseline.json")).unwrap();
            watched.add(2000, collapsed);
            assert_eq!(end(child).0, Some(1));
        } else {
            signal(&child, "TERM");
            end(child);
        }
        let path = watched.scene.path("state/audit.jsonl");
        let log = fs::read_to_string(&path).unwrap();
        fs::write(&path, log.replacen("\"xgb\"", "\"xgB\"", 1)).unwrap();
        let (code, document) = end(watched.monitor(&["--interval", "200ms", "--models", "MODELS.toml"]));
        assert_eq!((code, &document["status"]), (Some(2), &json!("rolled_back")), "{document}");
        let (weights, checks) = (watched.scene.weights(), &document["watch"]["checks"]);
        assert_eq!((&weights["canary"], &weights["weights"]), (&Value::Null, &baseline()));
        let words = if is_owed { "majority_class: BUY is" } else { "the audit log does not hold" };
        assert!(document["reasons"].to_string().contains(words), "{checks}: {document}");
        // What was rolled back is not watched.
        let again = watched.monitor(&["--interval", "200ms", "--models", "MODELS.toml"]).wait_with_output();
        assert_eq!(again.unwrap().status.code(), Some(1));
        drop(live);
    }
}

#[test]
fn a_reset_stream_and_foreign_weights_roll_back() {
    let Some(watched) = Watched::start() else { return };
    let child = watched.monitor(&["--interval", "500ms"]);
    wait_for_checks(&watched.scene, 1);
    redis::cmd("DEL").arg(INTENTS).exec(&mut watched.server.connection()).unwrap();
    watched.assert_rolled_back(child, "the stream was reset");

    let Some(watched) = Watched::start() else { return };
    let live = watched.live();
    let child = watched.monitor(&["--interval", "300ms"]);
    wait_for_checks(&watched.scene, 1);
    let text = watched.scene.read("state/weights.json").unwrap();
    fs::write(
        watched.scene.path("state/weights.json"),
        text.replace("0.3,", "0.2,").replace("\"xgb\":0.1", "\"xgb\":0.2"),
    )
    .unwrap();
    watched.assert_rolled_back(child, "edited by hand");
    drop(live);
}

#[test]
fn a_clock_that_jumped_rolls_back() {
    let Some(watched) = Watched::start() else { return };
    let child = watched.monitor(&["--interval", "500ms"]);
    let mut watch = wait_for_checks(&watched.scene, 1);
    signal(&child, "KILL");
    child.wait_with_output().unwrap();
    // As if the wall clock had been set forward by an hour since the last check; two clocks in milliseconds may differ by one.
    let wall = watch["last_check"]["wall"].as_u64().unwrap();
    watch["last_check"]["wall"] = json!(wall - 3_605_000);
    fs::write(watched.scene.path("state/watch.json"), watch.to_string()).unwrap();
    watched.assert_rolled_back(watched.monitor(&["--interval", "500ms"]), "the wall clock jumped by 36");
}

/// Stopped in any way, a watch is not clean; started again, it goes on where it was.
#[test]
fn an_interrupted_watch_never_counts_as_clean_and_continues() {
    let Some(watched) = Watched::start() else { return };
    let live = watched.live();
    // Long enough for four runs, of which the last one has the rest to itself.
    let long = ["--duration", "6s", "--interval", "500ms"];
    for name in ["TERM", "INT", "KILL"] {
        let before = watched.scene.read("state/watch.json");
        let child = watched.monitor(&long);
        let checks = before
            .map_or(0, |text| serde_json::from_str::<Value>(&text).unwrap()["checks"].as_u64().unwrap());
        let watch = wait_for_checks(&watched.scene, checks + 1);
        signal(&child, name);
        if name == "KILL" {
            assert_eq!(child.wait_with_output().unwrap().status.code(), None);
        } else {
            let (code, document) = end(child);
            assert_eq!((code, &document["status"]), (Some(1), &json!("interrupted")), "{document}");
        }
        assert!(watch["checks"].as_u64() > Some(checks));
        assert_eq!(watched.scene.qsc(&["canary", "promote"]).code, Some(2), "after SIG{name}");
        assert_eq!(watched.scene.weights()["canary"], "xgb");
    }
    let (code, document) = end(watched.monitor(&long));
    assert_eq!(code, Some(0), "{document}");
    let events: Vec<Value> = watched.scene.log().iter().map(|line| line["event"].clone()).collect();
    assert_eq!(events, ["activated", "watch_started", "watch_passed"], "one watch");
    drop(live);
}

#[test]
fn one_monitor_at_a_time_and_a_rollback_by_hand_ends_it() {
    let Some(watched) = Watched::start() else { return };
    let live = watched.live();
    let child = watched.monitor(&["--interval", "300ms"]);
    wait_for_checks(&watched.scene, 1);
    let url = watched.server.url();
    watched
        .scene
        .qsc(&["canary", "monitor", "--source", &url])
        .assert_refused(&["another qsc", "monitor.lock"]);
    assert_eq!(watched.scene.rollback(&["--reason", "by hand"]).code, Some(0));
    let (code, document) = end(child);
    assert_eq!((code, &document["status"]), (Some(2), &json!("ended_elsewhere")), "{document}");
    assert_eq!(watched.scene.log().last().unwrap()["details"]["reason"], "by hand");
    drop(live);
}

/// Confidences that differ are reported, and roll back only with `--strict`.
#[test]
fn strict_makes_the_comparison_block() {
    let shifted = |index: usize| {
        let mut models = breakdown(index);
        models["xgb"]["confidence"] = json!(0.75 + 0.2 * spread(index));
        models
    };
    let Some(watched) = Watched::start() else { return };
    watched.add(2000, shifted);
    let lax = watched.monitor(&["--interval", "1s"]);
    wait_for_checks(&watched.scene, 1);
    signal(&lax, "TERM");
    let (code, document) = end(lax);
    assert_eq!(code, Some(1));
    assert_eq!(document["measured"]["comparison"]["findings"].as_array().unwrap().len(), 1, "{document}");
    watched.assert_rolled_back(
        watched.monitor(&["--interval", "1s", "--strict"]),
        "the canary's confidence is above",
    );
}

/// The disk that its log goes to is full, or whoever read it has died.
#[test]
fn a_watch_that_nobody_hears_goes_on_and_rolls_back() {
    let Some(watched) = Watched::start() else { return };
    let url = watched.server.url();
    let monitor = ["canary", "monitor", "--format", "json", "--source", &url, "--interval", "300ms"];
    let mut command = watched.scene.command(&monitor);
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let mut child = command.stdout(Stdio::piped()).stderr(full).spawn().unwrap();
    let mut stdout = String::new();
    // No new intent comes: the canary is silent.
    child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(2), "{stdout}");
    assert!(stdout.contains("\"rolled_back\""), "{stdout}");
    assert_eq!(watched.scene.weights()["canary"], Value::Null);
}

/// What a demo or a test made up says nothing about the canary, good or bad.
#[test]
fn one_simulated_event_rolls_back() {
    let Some(watched) = Watched::start() else { return };
    let simulated = payload(0, &breakdown(0)).replacen('{', "{\"synthetic\":true,", 1);
    add(&mut watched.server.connection(), &simulated);
    watched.assert_rolled_back(watched.monitor(&["--interval", "1s"]), "1 of 301 events are simulated");
}

/// A limit that cannot be measured is not one that holds.
#[test]
fn a_limit_on_drift_is_held_by_the_watch_too() {
    let settings = |watched: &Watched, most: f64| {
        fs::write(watched.scene.path("qsc.toml"), format!("[rules]\nmax_psi = {most:?}\n")).unwrap();
    };
    let limited = ["--settings", "qsc.toml", "--interval", "60s"];
    let compared = [&limited[..], &["--models", "MODELS.toml"]].concat();
    let Some(watched) = Watched::start() else { return };
    settings(&watched, 0.25);
    let url = watched.server.url();
    let run = watched.scene.qsc(&[&["canary", "monitor", "--source", &url][..], &limited].concat());
    assert_eq!(run.code, Some(64), "{run:?}");
    assert!(run.stderr.contains("max_psi") && run.stderr.contains("--models MODELS.toml"), "{run:?}");
    assert_eq!(watched.scene.weights()["canary"], "xgb");
    watched.assert_rolled_back(watched.monitor(&compared), "no event has a value of");

    let models: Vec<_> = qsc_models::IMAGES.iter().map(|(_, image)| Model::check(image).unwrap()).collect();
    let features = |index: usize| -> Value {
        let names = models.iter().flat_map(|model| model.feature_names());
        names.map(|name| (name.to_owned(), json!(spread(index)))).collect::<Map<_, _>>().into()
    };
    let Some(watched) = Watched::start() else { return };
    let mut connection = watched.server.connection();
    for index in 0..50 {
        let mut intent: Value = serde_json::from_str(&payload(index, &breakdown(index))).unwrap();
        intent["features"] = features(index);
        add(&mut connection, &intent.to_string());
    }
    settings(&watched, 1000.0);
    let child = watched.monitor(&compared);
    wait_for_checks(&watched.scene, 1);
    signal(&child, "TERM");
    assert_eq!(end(child).1["status"], "interrupted", "what holds is no fault");
    settings(&watched, 0.25);
    watched.assert_rolled_back(watched.monitor(&compared), "the largest PSI is");
}

/// Another interval would count other pauses as watched, and a watch is strict as a whole or not at all.
#[test]
fn a_watch_asked_for_otherwise_begins_anew() {
    let scene = Scene::default();
    scene.activated();
    let source = ["canary", "monitor", "--format", "json", "--source", "file:intents.jsonl"];
    // Runs until the watch asked for, its times in hours, has `checks` checks; why it began anew.
    let run = |duration: u64, interval: u64, strict: bool, checks: u64| {
        let [hours, every] = [duration, interval].map(|hours| format!("{hours}h"));
        let mut more = vec!["--duration", &hours, "--interval", &every];
        more.extend(strict.then_some("--strict"));
        let mut command = scene.command(&[&source[..], &more].concat());
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        wait_for_watch(&scene, |watch| {
            let times =
                watch["duration_ms"] == duration * 3_600_000 && watch["interval_ms"] == interval * 3_600_000;
            times && watch["strict"] == strict && watch["checks"] == checks
        });
        signal(&child, "TERM");
        let (code, document) = end(child);
        assert_eq!((code, &document["status"]), (Some(1), &json!("interrupted")), "{document}");
        document["anew"].clone()
    };
    assert_eq!(run(6, 1, false, 1), Value::Null);
    assert_eq!(run(6, 1, false, 2), Value::Null, "the same goes on");
    let why = run(6, 2, false, 1);
    assert_eq!(
        why,
        "the watch so far is one of --duration 21600s --interval 3600s, not of --duration 21600s --interval 7200s"
    );
    assert!(run(6, 2, true, 1).is_string());
    assert!(run(7, 2, true, 1).is_string());
    assert_eq!(run(7, 2, true, 2), Value::Null);
    // What an older version wrote says less.
    let mut watch: Value = serde_json::from_str(&scene.read("state/watch.json").unwrap()).unwrap();
    watch.as_object_mut().unwrap().remove("strict");
    fs::write(scene.path("state/watch.json"), watch.to_string()).unwrap();
    assert!(run(7, 2, true, 1).as_str().unwrap().contains("strict"));
    let events: Vec<Value> = scene.log().iter().map(|line| line["event"].clone()).collect();
    assert_eq!(events[1..], [(); 5].map(|()| json!("watch_started")));
}

/// A state that was begun afresh has the same generations again.
#[test]
fn a_watch_of_another_activation_is_none_of_this_one() {
    let scene = Scene::default();
    scene.watched();
    fs::rename(scene.path("state"), scene.path("before")).unwrap();
    scene.activated();
    fs::copy(scene.path("before/watch.json"), scene.path("state/watch.json")).unwrap();
    let status = scene.qsc(&["canary", "status", "--format", "json"]).json();
    assert_eq!((&status["generation"], &status["watch"]), (&json!(1), &Value::Null), "{status}");
    let arguments = ["canary", "monitor", "--format", "json", "--source", "file:intents.jsonl"];
    let asked = ["--duration", "4s", "--interval", "2s"];
    let mut command = scene.command(&[&arguments[..], &asked].concat());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (code, document) = end(child);
    assert_eq!(
        (code, &document["status"]),
        (Some(2), &json!("rolled_back")),
        "it saw nothing new: {document}"
    );
}

#[test]
fn a_second_watch_that_did_not_end_clean_takes_the_first_ones_word_back() {
    let scene = Scene::default();
    scene.watched();
    let arguments = ["canary", "monitor", "--format", "json", "--source", "file:intents.jsonl"];
    let mut command = scene.command(&[&arguments[..], &["--interval", "1h"]].concat());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for_watch(&scene, |watch| watch["duration_ms"] == 21_600_000 && watch["checks"] == 1);
    signal(&child, "TERM");
    assert_eq!(end(child).0, Some(1));
    let run = scene.qsc(&["canary", "promote", "--format", "json"]);
    assert_eq!(run.code, Some(2), "{run:?}");
    assert!(run.json()["checks"][1]["detail"].as_str().unwrap().contains("has not ended clean"), "{run:?}");
    assert_eq!(scene.weights()["canary"], "xgb");
}

#[test]
fn a_stream_that_was_reset_and_is_ahead_again_rolls_back() {
    for (before, after, kept, words) in [
        (0, 320, 320, "nothing is as old"),
        (0, 2500, 2500, "nothing is as old"),
        (2500, 2101, 2100, "2800 entries had been added to it, and now it says 2101"),
    ] {
        let Some(watched) = Watched::start() else { return };
        watched.add(before, breakdown);
        let child = watched.monitor(&["--interval", "5s"]);
        wait_for_checks(&watched.scene, 1);
        let mut pipe = redis::pipe();
        pipe.atomic().del(INTENTS).ignore();
        for index in 0..after {
            let payload = payload(index, &breakdown(index));
            pipe.cmd("XADD").arg(INTENTS).arg("*").arg("event_type").arg("trade.intent");
            pipe.arg("payload").arg(payload).ignore();
        }
        pipe.cmd("XTRIM").arg(INTENTS).arg("MAXLEN").arg(kept).ignore();
        pipe.exec(&mut watched.server.connection()).unwrap();
        watched.assert_rolled_back(child, words);
    }
}

/// An engine that never took the canary's weights up was not watched with them.
#[test]
fn weights_that_no_engine_uses_do_not_end_clean() {
    let unaware = |index: usize| {
        // Alone it has all the weight, whoever gave it: that is no sign.
        if index % 50 == 7 {
            let alone = json!({"xgb": breakdown(index)["xgb"]});
            return payload(index, &alone).replace("\"xgb\":0.1", "\"xgb\":1.0");
        }
        payload(index, &breakdown(index)).replace("\"xgb\":0.1", "\"xgb\":0.25")
    };
    let mut intents = Capture::new();
    (0..300).for_each(|index| intents.push("trade.intent", &unaware(index)));
    let Some(watched) = Watched::on(&intents) else { return };
    let live = watched.live_of(unaware);
    let child = watched.monitor(&["--duration", "1500ms", "--interval", "500ms"]);
    watched.assert_rolled_back(child, "no engine uses the canary's weight");
    drop(live);
}
