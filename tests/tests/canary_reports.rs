//! Reports cannot lie: every tampering is found by name, and signatures are those of OpenSSL, in-toto and DSSE.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use qsc_tests::bundle::{sha256, text};
use qsc_tests::canary::{CUTOVER, Scene};
use qsc_tests::qsc::Run;
use serde_json::{Value, json};

/// A scene with the report of a passed gate: Markdown and JSON.
fn reported(more: &[&str]) -> (Scene, PathBuf, PathBuf) {
    let scene = Scene::default();
    let gate = ["quality-gate", "--format", "json", "--source", "file:intents.jsonl", "--after", CUTOVER];
    let run = scene.qsc(&[&gate, more].concat());
    let report = &run.json()["report"];
    let path = |name: &str| scene.path(report[name].as_str().unwrap());
    let (markdown, json) = (path("markdown"), path("json"));
    (scene, markdown, json)
}

fn verify(scene: &Scene, report: &Path, more: &[&str]) -> Run {
    scene.qsc(&[&["report", "verify", "--format", "json", text(report)], more].concat())
}

fn failed(run: &Run) -> Vec<String> {
    let checks = run.json()["checks"].as_array().unwrap().clone();
    let failed = checks.iter().filter(|check| check["passed"] == false);
    failed.map(|check| check["check"].as_str().unwrap().to_owned()).collect()
}

fn edit(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{from} is not in {}", path.display());
    fs::write(path, text.replace(from, to)).unwrap();
}

#[test]
fn an_honest_report_holds() {
    let (scene, markdown, json) = reported(&["--mode", "canary"]);
    let digest = sha256(&fs::read(&json).unwrap());
    for report in [&markdown, &json] {
        let run = verify(
            &scene,
            report,
            &["--model", "xgb", "--cutover", CUTOVER, "--max-age", "1h", "--sha256", &digest],
        );
        assert_eq!((run.code, failed(&run)), (Some(0), vec![]), "{run:?}");
    }
}

#[test]
fn every_tampering_is_found() {
    type Tamper = fn(&Path, &Path);
    let cases: [(&str, Tamper, &[&str], &[&str]); 10] = [
        (
            "header",
            |md, _| edit(md, "🚀 CANARY (DEPLOYMENT ELIGIBLE)", "🚀 CANARY"),
            &[],
            &["header", "digests"],
        ),
        (
            "second header",
            |md, _| edit(md, "## Events", "**MODE:** 🚀 CANARY (DEPLOYMENT ELIGIBLE)\n\n## Events"),
            &[],
            &["header", "digests"],
        ),
        ("body", |md, _| edit(md, "## Models", "## Models!"), &[], &["digests"]),
        (
            "verdict",
            |_, json| {
                edit(
                    json,
                    "\"verdict\": \"pass\",\n  \"exit_code\": 0",
                    "\"verdict\": \"fail\",\n  \"exit_code\": 2",
                )
            },
            &[],
            &["result"],
        ),
        ("digest", |_, json| edit(json, "\"markdown\": \"", "\"markdown\": \"0"), &[], &["digests"]),
        ("count", |_, json| edit(json, "\"count\": 300", "\"count\": 199"), &[], &["events"]),
        (
            "eligible",
            |_, json| edit(json, "\"eligible\": [", "\"eligible\": [\n    \"gru\","),
            &["--model", "gru"],
            &["eligible"],
        ),
        (
            "any byte",
            |_, json| edit(json, "\"contract\": 1", "\"contract\":  1"),
            &["--sha256", "0000"],
            &["digests"],
        ),
        ("another cutover", |_, _| (), &["--cutover", "2026-01-10T05:43:16Z"], &["events", "cutover"]),
        ("too old", |_, _| (), &["--max-age", "0s"], &["age"]),
    ];
    for (what, tamper, more, expected) in cases {
        let (scene, markdown, json) = reported(&["--mode", "canary"]);
        // Reports bear milliseconds: with no age allowed, at least one must have passed.
        std::thread::sleep(Duration::from_millis(5));
        tamper(&markdown, &json);
        let run = verify(&scene, &json, more);
        assert_eq!(run.code, Some(2), "{what}: {run:?}");
        assert_eq!(failed(&run), expected, "{what}: {run:?}");
    }
}

#[test]
fn a_report_of_another_time_or_name_does_not_hold() {
    let (scene, _, json) = reported(&["--mode", "canary", "--now", "2100-01-01T00:00:00Z"]);
    let run = verify(&scene, &json, &[]);
    assert_eq!((run.code, failed(&run)), (Some(2), vec!["age".to_owned()]), "from the future");

    let (scene, markdown, json) = reported(&["--mode", "canary"]);
    let renamed = |path: &Path| {
        path.with_file_name(format!(
            "quality_gate_20200101_000000_post_cutover.{}",
            path.extension().unwrap().to_str().unwrap()
        ))
    };
    for path in [&markdown, &json, &json.with_extension("html")] {
        fs::rename(path, renamed(path)).unwrap();
    }
    let run = verify(&scene, &renamed(&json), &[]);
    assert_eq!((run.code, failed(&run)), (Some(2), vec!["name".to_owned(), "own_names".to_owned()]));
    fs::remove_file(renamed(&markdown)).unwrap();
    verify(&scene, &renamed(&json), &[]).assert_refused(&["cannot read", ".md"]);
}

#[test]
fn a_collection_report_promotes_nothing_under_any_name() {
    let (scene, markdown, json) = reported(&["--mode", "collection"]);
    let run = verify(&scene, &json, &[]);
    assert_eq!(run.code, Some(3), "{run:?}");
    assert!(failed(&run).len() >= 3, "result, header and name all tell");

    // Renamed, with names and digests made right again: header and result still tell.
    let plain = |path: &Path| PathBuf::from(text(path).replace("_collection", ""));
    edit(&json, "_collection", "");
    for path in [&markdown, &json, &json.with_extension("html")] {
        fs::rename(path, plain(path)).unwrap();
    }
    let run = verify(&scene, &plain(&json), &[]);
    assert_eq!(
        (run.code, failed(&run)),
        (Some(3), vec!["result".to_owned(), "header".to_owned()]),
        "{run:?}"
    );

    // The JSON edited too: the header alone still blocks, and so does an activation that is given it.
    edit(&plain(&json), "\"mode\": \"collection\"", "\"mode\": \"canary\"");
    edit(
        &plain(&json),
        "\"verdict\": \"collection\",\n  \"exit_code\": 3",
        "\"verdict\": \"pass\",\n  \"exit_code\": 0",
    );
    let run = verify(&scene, &plain(&json), &[]);
    assert_eq!((run.code, failed(&run)), (Some(3), vec!["header".to_owned()]), "{run:?}");
    let Some((_, public)) = keys(&scene, "ops") else { return };
    let run = scene.activate(&["--require-signed", &public, "--signed-report", text(&plain(&json))]);
    assert_eq!((run.code, &run.json()["status"]), (Some(3), &json!("blocked_by_collection")), "{run:?}");
    assert_eq!(scene.weights(), Value::Null);
}

/// A key pair as OpenSSL makes it.
fn keys(scene: &Scene, name: &str) -> Option<(String, String)> {
    let (private, public) = (format!("{name}.pem"), format!("{name}.pub"));
    let openssl = |arguments: &[&str]| {
        Command::new("openssl")
            .args(arguments)
            .current_dir(scene.directory())
            .status()
            .map(|status| status.success())
    };
    let made = openssl(&["genpkey", "-algorithm", "ed25519", "-out", &private]);
    if !made.unwrap_or(false) {
        qsc_tests::skip("openssl with Ed25519 is not installed");
        return None;
    }
    assert!(openssl(&["pkey", "-in", &private, "-pubout", "-out", &public]).unwrap());
    Some((private, public))
}

#[test]
fn a_signature_binds_every_file_and_openssl_agrees() {
    let (scene, markdown, json) = reported(&["--mode", "canary"]);
    let Some((private, public)) = keys(&scene, "ops") else { return };
    assert_eq!(failed(&verify(&scene, &json, &["--pubkey", &public])), ["signature"], "not signed yet");
    let run = scene.qsc(&["report", "sign", text(&json), "--key", &private]);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert_eq!(verify(&scene, &json, &["--pubkey", &public]).code, Some(0));

    // By another's hand: the pre-authentication encoding of DSSE, under OpenSSL's own verification.
    let envelope: Value =
        serde_json::from_slice(&fs::read(json.with_extension("dsse.json")).unwrap()).unwrap();
    let decode = |field: &Value, file: &str| {
        fs::write(scene.path("b64"), field.as_str().unwrap()).unwrap();
        let status = Command::new("openssl")
            .args(["base64", "-d", "-A", "-in", "b64", "-out", file])
            .current_dir(scene.directory())
            .status();
        assert!(status.unwrap().success());
        fs::read(scene.path(file)).unwrap()
    };
    let payload = decode(&envelope["payload"], "payload");
    decode(&envelope["signatures"][0]["sig"], "sig");
    let kind = envelope["payloadType"].as_str().unwrap();
    let mut signed = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).into_bytes();
    signed.extend(&payload);
    fs::write(scene.path("signed"), signed).unwrap();
    let openssl = Command::new("openssl")
        .args([
            "pkeyutl", "-verify", "-pubin", "-inkey", &public, "-rawin", "-in", "signed", "-sigfile", "sig",
        ])
        .current_dir(scene.directory())
        .status();
    assert!(openssl.unwrap().success());
    let statement: Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!(statement["_type"], "https://in-toto.io/Statement/v1");
    assert_eq!(statement["predicateType"], "https://in-toto.io/attestation/test-result/v0.1");
    assert_eq!(statement["predicate"]["result"], "PASSED");
    assert_eq!(statement["subject"][0]["digest"]["sha256"], sha256(&fs::read(&json).unwrap()));
    assert_eq!(statement["subject"][1]["digest"]["sha256"], sha256(&fs::read(&markdown).unwrap()));

    // A report of which something is changed or missing is not signed.
    let intact = fs::read(&markdown).unwrap();
    edit(&markdown, "PASS", "FAIL");
    let words = ["is not the file that was written"];
    scene.qsc(&["report", "sign", text(&json), "--key", &private]).assert_refused(&words);
    fs::remove_file(&markdown).unwrap();
    scene.qsc(&["report", "sign", text(&json), "--key", &private]).assert_refused(&words);
    fs::write(&markdown, intact).unwrap();

    let (_, other) = keys(&scene, "other").unwrap();
    assert_eq!(failed(&verify(&scene, &json, &["--pubkey", &other])), ["signature"], "another key");
    edit(&json, "\"contract\": 1", "\"contract\":  1");
    assert_eq!(failed(&verify(&scene, &json, &["--pubkey", &public])), ["signature"], "one more blank");
    scene.qsc(&["report", "sign", text(&json), "--key", &public]).assert_refused(&["no Ed25519 private key"]);
}

#[test]
fn an_activation_may_demand_a_signature() {
    let scene = Scene::default();
    let Some((_, public)) = keys(&scene, "ops") else { return };
    let (other, _) = keys(&scene, "other").unwrap();
    for more in [&["--require-signed", &public][..], &["--require-signed", &public, "--sign-key", &other]] {
        let run = scene.activate(more);
        assert_eq!(run.code, Some(2), "{run:?}");
        assert!(run.json()["blocked_by"][0].as_str().unwrap().starts_with("signature: "), "{run:?}");
        assert_eq!(scene.weights(), Value::Null);
    }
    // As systemd hands a key over.
    let mut command =
        scene.command(&scene.activation(&["--require-signed", &public, "--sign-key", "credential:ops.pem"]));
    command.env("CREDENTIALS_DIRECTORY", scene.directory());
    let run = qsc_tests::qsc::finish(command, &[]);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(scene.log()[0]["details"]["evidence"]["report"]["signed_by"].is_string());
    scene.activate(&["--sign-key", "credential:../ops.pem"]).assert_refused(&["CREDENTIALS_DIRECTORY"]);
}

#[test]
fn a_report_signed_elsewhere_must_match() {
    let (scene, _, json) = reported(&["--mode", "canary"]);
    let Some((private, public)) = keys(&scene, "ops") else { return };
    assert_eq!(scene.qsc(&["report", "sign", text(&json), "--key", &private]).code, Some(0));
    let more = ["--require-signed", &public, "--signed-report", text(&json)];
    // The same ids, but other events.
    let intents = scene.read("intents.jsonl").unwrap();
    fs::write(scene.path("intents.jsonl"), intents.replace("BTCUSDT", "ETHUSDT")).unwrap();
    let run = scene.activate(&more);
    assert_eq!(run.code, Some(2), "{run:?}");
    assert!(
        run.json()["blocked_by"][0].as_str().unwrap().contains("other events under the same ids"),
        "{run:?}"
    );
    assert_eq!(scene.weights(), Value::Null);
    fs::write(scene.path("intents.jsonl"), intents).unwrap();
    let run = scene.activate(&more);
    assert_eq!(run.code, Some(0), "{run:?}");
}

/// What `report verify` finds also keeps an activation from happening, and leaves no trace in the state.
#[test]
fn a_tampered_signed_report_activates_nothing() {
    type Tamper = fn(&Path, &Path);
    let cases: [(&str, &[&str], Tamper, &str); 7] = [
        ("header", &[], |md, _| edit(md, "🚀 CANARY (DEPLOYMENT ELIGIBLE)", "🚀 CANARY"), "header: "),
        ("body", &[], |md, _| edit(md, "## Models", "## Models!"), "digests: "),
        ("digest", &[], |_, json| edit(json, "\"markdown\": \"", "\"markdown\": \"0"), "digests: "),
        ("data", &[], |_, json| edit(json, "\"contract\": 1", "\"contract\":  1"), "signature"),
        ("age", &["--now", "2026-01-10T06:43:15Z"], |_, _| (), "age: made 2026-01-10"),
        ("cutover", &["--after", "2026-01-10T05:43:16Z"], |_, _| (), "cutover: it is 2026-01-10T05:43:16Z"),
        ("rules", &["--min-events", "250"], |_, _| (), "judged by other rules"),
    ];
    for (what, gate, tamper, words) in cases {
        let scene = Scene::default();
        let Some((private, public)) = keys(&scene, "ops") else { return };
        let mut arguments = vec!["quality-gate", "--format", "json", "--source", "file:intents.jsonl"];
        arguments.extend(["--mode", "canary"]);
        arguments.extend(if gate.contains(&"--after") { &[][..] } else { &["--after", CUTOVER] });
        arguments.extend(gate);
        let run = scene.qsc(&arguments);
        assert_eq!(run.code, Some(0), "{what}: {run:?}");
        let report = &run.json()["report"];
        let path = |name: &str| scene.path(report[name].as_str().unwrap());
        let (markdown, json) = (path("markdown"), path("json"));
        assert_eq!(scene.qsc(&["report", "sign", text(&json), "--key", &private]).code, Some(0), "{what}");
        tamper(&markdown, &json);
        let run = scene.activate(&["--require-signed", &public, "--signed-report", text(&json)]);
        assert_eq!((run.code, &run.json()["status"]), (Some(2), &json!("blocked")), "{what}: {run:?}");
        let blocked = run.json()["blocked_by"].clone();
        assert!(blocked.to_string().contains(words), "{what}: {blocked}");
        assert_eq!((scene.weights(), scene.log().len()), (Value::Null, 0), "{what}");
        assert!(scene.read("state/baseline.json").is_none(), "{what}: nothing was begun");
        // By itself the scene would pass: only the report kept it.
        assert_eq!(scene.activate(&[]).code, Some(0), "{what}");
    }
}

/// A gate that signs says when it judged, wherever another time comes from.
#[test]
fn a_signed_report_bears_the_time_it_was_made() {
    let scene = Scene::default();
    let Some((private, public)) = keys(&scene, "ops") else { return };
    let gate = ["quality-gate", "--format", "json", "--source", "file:intents.jsonl", "--mode", "canary"];
    let gate = [&gate, &["--after", CUTOVER][..]].concat();
    let (now, key) = (["--now", "2026-01-10T06:43:15Z"], ["--sign-key", &*private]);
    let file = |settings: &str| {
        fs::write(scene.path("qsc.toml"), format!("[quality-gate]\n{settings}\n")).unwrap();
        ["--settings", "qsc.toml"]
    };
    let (now_line, key_line) = ("now = \"2026-01-10T06:43:15Z\"", format!("sign-key = \"{private}\""));
    type Variables<'a> = &'a [(&'a str, &'a str)];
    let cases: [(Vec<&str>, Variables<'_>, String); 6] = [
        ([now, key].concat(), &[], String::new()),
        (key.to_vec(), &[("QSC_NOW", now[1])], String::new()),
        (now.to_vec(), &[("QSC_SIGN_KEY", &private)], String::new()),
        (key.to_vec(), &[], now_line.to_owned()),
        (now.to_vec(), &[], key_line.clone()),
        (vec![], &[], format!("{now_line}\n{key_line}")),
    ];
    for (more, variables, settings) in cases {
        let mut command = scene.command(&[&gate[..], &more, &file(&settings)].concat());
        command.envs(variables.iter().copied());
        let run = qsc_tests::qsc::finish(command, &[]);
        assert_eq!(
            (run.code, run.stdout.as_str()),
            (Some(64), ""),
            "{more:?} {variables:?} {settings}: {run:?}"
        );
        assert!(!scene.path("reports").exists(), "{more:?} {variables:?} {settings}");
    }
    // Each alone is fine, and what is signed is new.
    assert_eq!(scene.qsc(&[&gate[..], &now].concat()).code, Some(0));
    let run = scene.qsc(&[&gate[..], &key].concat());
    assert_eq!(run.code, Some(0), "{run:?}");
    let json = scene.path(run.json()["report"]["json"].as_str().unwrap());
    assert_eq!(verify(&scene, &json, &["--max-age", "1m", "--pubkey", &public]).code, Some(0));
}

/// Whoever may write into the report directory must not get another report signed in the moment before the signature.
#[test]
fn only_the_report_that_was_just_written_is_signed() {
    let traced = Command::new("strace").args(["-o", "/dev/null", "true"]).output();
    if !traced.is_ok_and(|output| output.status.success()) {
        qsc_tests::skip("strace is not installed or may not trace");
        return;
    }
    for replaced in ["json", "md", "html"] {
        let scene = Scene::default();
        let Some((private, _)) = keys(&scene, "ops") else { return };
        // Each file appears a while before the next step.
        let mut gate = Command::new("strace")
            .args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=linkat,renameat2"])
            .args(["-e", "inject=linkat,renameat2:delay_exit=1500000"])
            .arg(qsc_tests::qsc::binary())
            .args(["quality-gate", "--source", "file:intents.jsonl", "--mode", "canary", "--after", CUTOVER])
            .args(["--sign-key", &private])
            .current_dir(scene.directory())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let file_with = |ending: &str| {
            let files = fs::read_dir(scene.path("reports/safety")).into_iter().flatten();
            files.map(|entry| entry.unwrap().path()).find(|path| text(path).ends_with(ending))
        };
        let twin = loop {
            assert!(gate.try_wait().unwrap().is_none(), "it ended without a report");
            if let Some(twin) = file_with(".json") {
                break twin;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        edit(&twin.with_extension(replaced), "xgb", "gru");
        let ended = gate.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!((ended.status.code(), ended.stdout.len()), (Some(1), 0), "{replaced}: {said}");
        assert!(said.contains(&format!(".{replaced} is not the file that was written")), "{said}");
        assert_eq!(file_with(".dsse.json"), None, "{replaced}");
    }
}

/// Activations and gates of one second keep their reports apart, and each is proven by its own.
#[test]
fn two_reports_in_one_second_are_two() {
    let scene = Scene::default();
    let now = ["--now", "2026-01-10T06:43:15Z", "--after", CUTOVER, "--source", "file:intents.jsonl"];
    let paths: Vec<PathBuf> = (0..3)
        .map(|_| {
            let run =
                scene.qsc(&[&["quality-gate", "--mode", "canary", "--format", "json"], &now[..]].concat());
            assert_eq!(run.code, Some(0), "{run:?}");
            scene.path(run.json()["report"]["json"].as_str().unwrap())
        })
        .collect();
    let names: Vec<&str> = paths.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
    let stem = "quality_gate_20260110_064315_post_cutover";
    assert_eq!(names, [format!("{stem}.json"), format!("{stem}_2.json"), format!("{stem}_3.json")]);
    for path in &paths {
        let run = verify(&scene, path, &["--model", "xgb", "--cutover", CUTOVER]);
        assert_eq!((run.code, failed(&run)), (Some(0), vec![]), "{run:?}");
    }
    // One under the other's name is neither.
    fs::rename(&paths[1], &paths[0]).unwrap();
    let run = verify(&scene, &paths[0], &[]);
    assert_eq!(run.code, Some(2), "{run:?}");
    assert!(failed(&run).contains(&"own_names".to_owned()), "{run:?}");

    // Dry runs within one second, each beside the others.
    let before = fs::read_dir(scene.path("reports/safety")).unwrap().count();
    assert!((0..3).all(|_| scene.activate(&["--dry-run"]).code == Some(0)));
    assert_eq!(fs::read_dir(scene.path("reports/safety")).unwrap().count(), before + 9);
    scene.activated();
}
