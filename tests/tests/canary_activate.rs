//! Activation: proof or nothing. Every doubt blocks with its exit code and leaves no weights behind.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::fs;

use qsc_tests::canary::{CANARY_WEIGHTS, Scene, agreeing, baseline, breakdown, ms_of, payload};
use qsc_tests::capture::Capture;
use qsc_tests::qsc::Run;
use serde_json::{Value, json};

fn blocked_by(run: &Run) -> Vec<String> {
    run.json()["blocked_by"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap().to_owned())
        .collect()
}

/// Blocked with `code`, by exactly these checks, and no weights.
fn assert_blocked(scene: &Scene, run: &Run, code: i32, checks: &[&str]) {
    assert_eq!(run.code, Some(code), "{run:?}");
    let blocked: Vec<String> =
        blocked_by(run).iter().map(|reason| reason.split(':').next().unwrap().to_owned()).collect();
    assert_eq!(blocked, checks, "{run:?}");
    assert_eq!(scene.weights(), Value::Null);
    assert!(scene.log().is_empty());
}

#[test]
fn a_proven_model_gets_ten_percent_and_the_others_keep_their_proportions() {
    let scene = Scene::default();
    let run = scene.activate(&[]);
    assert_eq!(run.code, Some(0), "{run:?}");
    let document = run.json();
    assert_eq!((&document["verdict"], &document["status"]), (&json!("pass"), &json!("activated")));
    assert_eq!(document["scoreboard"], json!({"signal": "GO", "reasons": []}), "reported, no condition");

    let weights: serde_json::Map<String, Value> =
        CANARY_WEIGHTS.iter().map(|(name, weight)| ((*name).to_owned(), json!(weight))).collect();
    assert_eq!(scene.weights(), json!({"generation": 1, "canary": "xgb", "weights": weights}));
    let saved: Value = serde_json::from_str(&scene.read("state/baseline.json").unwrap()).unwrap();
    assert_eq!(saved["weights"], baseline());

    // The log holds the evidence: digests of what lies on disk.
    let log = scene.log();
    assert_eq!(log.len(), 1);
    assert_eq!(
        (&log[0]["seq"], &log[0]["model"], &log[0]["event"]),
        (&json!(1), &json!("xgb"), &json!("activated"))
    );
    let report = &log[0]["details"]["evidence"]["report"];
    let json = fs::read(scene.path("reports/safety").join(report["json"].as_str().unwrap())).unwrap();
    assert_eq!(report["sha256"], qsc_tests::bundle::sha256(&json));
    let weights_file = scene.read("state/weights.json").unwrap();
    assert_eq!(log[0]["details"]["weights_sha256"], qsc_tests::bundle::sha256(weights_file.as_bytes()));
    assert_eq!(scene.verify(), Some(0));

    let status = scene.qsc(&["canary", "status", "--format", "json", "--source", "file:intents.jsonl"]);
    assert_eq!(status.code, Some(0), "{status:?}");
    let proof = &status.json()["telemetry"]["weight"];
    assert_eq!((&proof["events"], &proof["as_expected"]), (&json!(300), &json!(300)), "{proof}");
    assert_eq!(proof["newest"], 0.1);
}

#[test]
fn the_same_activation_twice_is_one() {
    let scene = Scene::default();
    scene.activated();
    let before = (scene.read("state/weights.json"), scene.read("state/audit.jsonl"));
    let run = scene.activate(&[]);
    assert_eq!((run.code, &run.json()["status"]), (Some(0), &json!("already_active")));
    assert_eq!((scene.read("state/weights.json"), scene.read("state/audit.jsonl")), before);

    // Anything else is another activation, and one canary at a time is enough.
    for more in [&["--model", "lgbm"][..], &["--weight", "0.2"], &["--cutover", "2026-01-10T05:43:16Z"]] {
        let run = scene.activate(more);
        assert_eq!(run.code, Some(2), "{run:?}");
        assert!(blocked_by(&run)[0].contains("a canary is active already: xgb"), "{run:?}");
        assert_eq!((scene.read("state/weights.json"), scene.read("state/audit.jsonl")), before);
    }
}

#[test]
fn a_dry_run_judges_and_changes_nothing() {
    let scene = Scene::default();
    let run = scene.activate(&["--dry-run"]);
    assert_eq!((run.code, &run.json()["status"]), (Some(0), &json!("would_activate")));
    assert!(!scene.path("state").exists());
    assert_eq!(fs::read_dir(scene.path("reports/safety")).unwrap().count(), 3, "md, json, html");

    let sick = Scene::new(&agreeing(199));
    let run = sick.activate(&["--dry-run"]);
    assert_eq!(run.code, Some(2));
    assert!(!sick.path("state").exists());
}

#[test]
fn doubt_about_the_telemetry_blocks() {
    let few = Scene::new(&agreeing(199));
    let too_few = ["gate", "result", "header", "events", "eligible"];
    assert_blocked(&few, &few.activate(&[]), 2, &too_few);

    // 300 events, 199 of them since the cutover.
    let late = Scene::default();
    let cutover = ms_of(101).to_string();
    assert_blocked(&late, &late.activate(&["--cutover", &cutover]), 2, &too_few);

    let mut capture = Capture::new();
    for index in 0..300 {
        let mut models = breakdown(index);
        models["xgb"]["action"] = json!("BUY");
        capture.push("trade.intent", &payload(index, &models));
    }
    let collapsed = Scene::new(&capture);
    assert_blocked(&collapsed, &collapsed.activate(&[]), 2, &["eligible"]);
    assert_eq!(collapsed.activate(&[]).json()["eligible"], json!(["lgbm", "nhits", "patchtst"]));

    let mut capture = agreeing(300);
    capture.push("trade.intent", &payload(7, &breakdown(7)).replace("\"macd\":", "\"macd\":NaN,\"x\":"));
    let insane = Scene::new(&capture);
    assert_blocked(&insane, &insane.activate(&[]), 2, &["feature_sanity"]);

    let empty = Scene::new(&Capture::new());
    let run = empty.activate(&[]);
    assert_eq!(run.code, Some(2));
    assert!(blocked_by(&run).len() > 5);
    assert_eq!(empty.weights(), Value::Null);
}

#[test]
fn doubt_about_model_cutover_and_image_blocks() {
    let scene = Scene::default();
    assert_blocked(&scene, &scene.activate(&["--model", "gru"]), 2, &["ensemble"]);
    let future = scene.activate(&["--cutover", "2100-01-01T00:00:00Z"]);
    assert_eq!(future.code, Some(2));
    assert!(blocked_by(&future)[0].contains("in the future"), "{future:?}");
    assert_eq!(scene.activate(&["--cutover", "0"]).code, Some(2));

    let models = scene.read("MODELS.toml").unwrap();
    fs::write(
        scene.path("MODELS.toml"),
        models.replacen("weight = 0.25", "weight = 0.25\nmode = \"shadow\"", 1),
    )
    .unwrap();
    assert_blocked(&scene, &scene.activate(&[]), 2, &["ensemble"]);

    let mut image = fs::read(qsc_tests::bundle::file("images/xgb.qsm")).unwrap();
    image[5000] ^= 1;
    fs::write(scene.path("xgb.qsm"), image).unwrap();
    let line = models.lines().find(|line| line.contains("xgb.qsm")).unwrap();
    fs::write(scene.path("MODELS.toml"), models.replace(line, "image = \"xgb.qsm\"")).unwrap();
    assert_blocked(&scene, &scene.activate(&[]), 2, &["infra"]);

    fs::remove_file(scene.path("intents.jsonl")).unwrap();
    fs::write(scene.path("MODELS.toml"), models).unwrap();
    scene.activate(&[]).assert_refused(&["intents.jsonl"]);
    assert_eq!(scene.weights(), Value::Null);
}

/// What `[rules]` ask for is judged by what activation itself knows, and what they forgive stands in its report.
#[test]
fn rules_of_both_gates_bind_an_activation() {
    let scene = Scene::default();
    let with = |rules: &str, more: &[&str]| {
        fs::write(scene.path("qsc.toml"), format!("[rules]\n{rules}\n")).unwrap();
        scene.activate(&[&["--dry-run", "--settings", "qsc.toml"], more].concat())
    };
    // The training rows are those of --models: no event has a value of them, and that is what it says.
    let run = with("max_psi = 9", &[]);
    let blocked = blocked_by(&run);
    assert_eq!(run.code, Some(2), "{run:?}");
    assert!(
        blocked.iter().any(|why| why.starts_with("feature_sanity: no event has a value of")),
        "{blocked:?}"
    );
    assert!(!run.stdout.contains("name the ensemble with --models"), "{run:?}");

    let run = with("sanity_min_events = 20\nallow_flat = [\"macd\"]", &[]);
    assert_eq!(run.code, Some(0), "{run:?}");
    let report = run.json()["report"]["markdown"].as_str().unwrap().to_owned();
    let head = scene.read(&report).unwrap().split("## Events").next().unwrap().to_owned();
    for rule in ["sanity_min_events 20 (default 50)", "allow_flat macd (default none)"] {
        assert!(head.contains(rule), "{rule:?} is not in {head}");
    }
}

#[test]
fn a_source_that_one_reading_uses_up_is_refused() {
    let scene = Scene::default();
    assert!(std::process::Command::new("mkfifo").arg(scene.path("pipe")).status().unwrap().success());
    for source in ["-", "file:pipe"] {
        for run in [
            scene.activate(&["--source", source]),
            scene.qsc(&["canary", "monitor", "--source", source]),
            scene.qsc(&["scoreboard", "--watch", "--source", source]),
        ] {
            assert_eq!((run.code, run.stdout.as_str()), (Some(64), ""), "{run:?}");
            assert!(run.stderr.contains("read again and again here; give --source redis://"), "{run:?}");
        }
    }
    let pipe = format!("file:{}", scene.path("pipe").display());
    let run = scene.qsc(&["deploy", "--unit", "x", "--gate", "--source", &pipe]);
    assert_eq!((run.code, run.stdout.as_str()), (Some(64), ""), "{run:?}");
}

/// A clock that stands before the newest event cannot say how old anything is.
#[test]
fn an_event_from_the_future_blocks() {
    let text = agreeing(300).text();
    let last = format!("{}-0", ms_of(299));
    let scene = Scene::default();
    fs::write(scene.path("intents.jsonl"), text.replace(&last, "4102444800000-0")).unwrap();
    assert_blocked(&scene, &scene.activate(&[]), 2, &["clock"]);
}

/// Features that are judged beside the intents have to be of this market and time, too.
#[test]
fn simulated_features_or_those_from_the_future_block() {
    let intents = agreeing(300);
    for (more, first, check) in
        [(json!({"synthetic": true}), ms_of(300), "origin"), (json!({}), 4_102_444_800_000, "clock")]
    {
        let mut text = intents.text();
        for index in 0..200_u32 {
            let at = first + u64::from(index);
            let mut payload = json!({"symbol": "BTCUSDT", "timestamp": at, "features": {"rsi_14": index, "macd": 500 - index}});
            payload.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let fields = json!({"event_type": "market.features", "payload": payload.to_string()});
            writeln!(text, "{}", json!({"id": format!("{at}-0"), "fields": fields})).unwrap();
        }
        let scene = Scene::default();
        fs::write(scene.path("intents.jsonl"), text).unwrap();
        assert_blocked(&scene, &scene.activate(&[]), 2, &[check]);
    }
}

#[test]
fn after_a_rollback_the_model_cools_down() {
    let scene = Scene::default();
    scene.activated();
    assert_eq!(scene.rollback(&["--reason", "spread widened"]).code, Some(0));
    let run = scene.activate(&[]);
    assert_eq!(run.code, Some(2));
    assert!(blocked_by(&run)[0].contains("spread widened"), "{run:?}");
    assert_eq!(scene.weights()["canary"], Value::Null);
    assert_eq!(
        scene.activate(&["--model", "lgbm", "--dry-run"]).code,
        Some(0),
        "another model does not cool down"
    );

    let run = scene.activate(&["--force", "false alarm"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert_eq!((&scene.weights()["generation"], &scene.weights()["canary"]), (&json!(3), &json!("xgb")));
    assert_eq!(scene.log().last().unwrap()["details"]["force"], "false alarm");

    assert_eq!(scene.rollback(&[]).code, Some(0));
    assert_eq!(scene.activate(&["--cool-down", "0s"]).code, Some(0));
    assert_eq!(scene.verify(), Some(0));
}

#[test]
fn wrong_arguments_are_usage_errors() {
    let scene = Scene::default();
    for more in [
        &["--weight", "0"][..],
        &["--weight", "1"],
        &["--weight", "nan"],
        &["--weight", "0.12345678"],
        &["--cutover", "yesterday"],
        &["--cool-down", "soon"],
        &["--force", ""],
        &["--signed-report", "x.json"],
    ] {
        assert_eq!(scene.activate(more).code, Some(64), "{more:?}");
    }
    assert_eq!(scene.qsc(&["canary"]).code, Some(64));
    assert_eq!(scene.qsc(&["canary", "monitor", "--source", "file:x", "--interval", "0s"]).code, Some(64));
    assert!(!scene.path("state").exists());
}
