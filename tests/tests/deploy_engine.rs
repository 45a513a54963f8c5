//! The real engine under a real systemd: ready, watched, restarted, deployed, and judged by the whole chain of gates.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use qsc_tests::qsc::{self, Run};
use qsc_tests::systemd::Systemd;
use serde_json::{Value, json};

const SHA: &str = "0123456789abcdef0123456789abcdef01234567";
const RUN: &str =
    "/usr/local/bin/qsc run --source file:/run/features.fifo --sink - --models /run/MODELS.toml";

/// Logs a build, and edits the engine's intents on their way.
const START: &str = "echo AI_ENGINE_BUILD: SHA >&2
rm -f /run/raw && mkfifo /run/raw
sed -u -f /run/edit.sed </run/raw >>/run/intents.jsonl &
exec RUN 2>/run/engine.log >/run/raw
";
/// Their payload is text in a text.
const BUILD_OF_INTENTS: &str = r#"s/\\"build\\":\\"[^"\\]*/\\"build\\":\\"SHA/"#;
const SIMULATE: &str = r#"s/"payload":"{/"payload":"{\\"synthetic\\":true,/"#;

/// A systemd with two bundled models, and the FIFO that features come through.
fn boot() -> Option<Systemd> {
    let systemd = Systemd::boot()?;
    let model =
        |name: &str| format!("[[model]]\nname = \"{name}\"\nimage = \"/qsc/models-bin/images/{name}.qsm\"\n");
    systemd.write("/run/MODELS.toml", model("xgb") + &model("lgbm"));
    systemd.sh("mkfifo /run/features.fifo");
    Some(systemd)
}

/// Keeps the FIFO open without waiting for the engine.
fn features(systemd: &Systemd) -> File {
    OpenOptions::new().read(true).write(true).open(systemd.path("/run/features.fifo")).unwrap()
}

/// Sends `count` events of the bundled capture from its `first` on, as events of now, and waits for their intents.
fn feed(systemd: &Systemd, fifo: &mut File, first: usize, count: usize) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    for (index, line) in qsc_models::FEATURES_CAPTURE.lines().skip(first).take(count).enumerate() {
        let mut event: Value = serde_json::from_str(line).unwrap();
        event["id"] = json!(format!("{now}-{index}"));
        writeln!(fifo, "{event}").unwrap();
    }
    systemd.wait("the intents are there", |systemd| {
        systemd.read("/run/intents.jsonl").lines().count() == first + count
    });
}

fn unit(systemd: &Systemd, start: &str, more: &str) {
    let output = "StandardOutput=append:/run/intents.jsonl\nStandardError=journal";
    systemd.unit("engine.service", &format!("{output}\n{start}\n{more}"));
}

#[test]
fn the_engine_is_ready_with_its_source_and_a_hung_one_is_restarted() {
    let Some(systemd) = boot() else { return };
    let watchdog = "Type=notify\nWatchdogSec=1\nTimeoutAbortSec=2\nRestart=on-failure\nRestartSec=100ms";
    unit(&systemd, &format!("ExecStart={RUN}"), watchdog);
    systemd.sh("systemctl start --no-block engine");
    systemd.wait("the engine has loaded its models", |systemd| {
        systemd.sh("journalctl --unit engine --output cat").contains("[LGBM-INIT] Expected feature_dim")
    });
    thread::sleep(Duration::from_millis(500));
    assert_eq!(systemd.property("engine", "ActiveState"), "activating", "nobody writes to its source yet");
    let mut fifo = features(&systemd);
    systemd.wait("it is ready", |systemd| systemd.property("engine", "ActiveState") == "active");

    // The whole of the contract on the real binary: what it is built from decides.
    let info: Value = serde_json::from_str(&systemd.sh("/qsc/qsc build-info --format json")).unwrap();
    let clean = info["dirty"] == json!(false);
    let build = info["build"].as_str().unwrap();
    let arguments = ["deploy", "--unit", "engine", "--format", "json"];
    let run = systemd.qsc(&[&arguments[..], &["--settle", "3s", "--warn-only"]].concat());
    let document = run.json();
    assert_eq!(run.code, Some(0), "{document:#}");
    assert_eq!(document["verdict"], if clean { "pass" } else { "fail" }, "{document:#}");
    assert_eq!((document["build"].as_str(), document["expected"].as_str()), (Some(build), Some(build)));
    assert_eq!(document["executable"]["path"], "/usr/local/bin/qsc");
    let expect = ["--settle", "0s", "--expect", info["git_sha"].as_str().unwrap()];
    let strict = systemd.qsc(&[&arguments[..], &expect].concat());
    assert_eq!(strict.code, Some(if clean { 0 } else { 2 }), "{strict:?}");

    // Silent for several watchdog periods, it is still polled and still alive; and it says how it is.
    feed(&systemd, &mut fifo, 0, 20);
    thread::sleep(Duration::from_millis(2500));
    assert_eq!(systemd.property("engine", "NRestarts"), "0");
    systemd.wait("the status says what it did", |systemd| {
        systemd.property("engine", "StatusText") == "20 intents, 0 rejected"
    });

    let hung = systemd.property("engine", "MainPID");
    systemd.sh(&format!("kill -STOP {hung}"));
    systemd.wait("systemd restarts it", |systemd| {
        systemd.property("engine", "NRestarts") == "1"
            && systemd.property("engine", "ActiveState") == "active"
    });
    assert_ne!(systemd.property("engine", "MainPID"), hung);
    assert!(systemd.sh("journalctl --unit engine --output cat").contains("Watchdog timeout"));
    systemd.sh("systemctl stop engine");
    assert_eq!(systemd.property("engine", "Result"), "success", "a stop is a clean end");
}

#[test]
fn the_shipped_unit_runs_the_engine_in_its_cage() {
    let Some(systemd) = boot() else { return };
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("../host-cli/units");
    systemd.write("/etc/systemd/system/qsc.service", fs::read(units.join("qsc.service")).unwrap());
    systemd.write("/etc/sysusers.d/qsc.conf", fs::read(units.join("qsc-sysusers.conf")).unwrap());
    let settings =
        "QSC_SOURCE=file:/run/features.fifo\nQSC_SINK=file:intents.jsonl\nQSC_MODELS=/run/MODELS.toml\n";
    systemd.write("/etc/qsc/engine.env", settings);
    systemd.sh("systemd-sysusers && systemctl daemon-reload && chmod 644 /run/features.fifo");
    let mut fifo = features(&systemd);
    let run = systemd.qsc(&["deploy", "--unit", "qsc", "--settle", "1s", "--warn-only"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    for line in qsc_models::FEATURES_CAPTURE.lines().take(60) {
        writeln!(fifo, "{line}").unwrap();
    }
    // The status is renewed with the sign of life, every half of the watchdog's ten seconds.
    systemd.wait("it decides", |systemd| systemd.property("qsc", "StatusText") == "60 intents, 0 rejected");
    let pid = systemd.property("qsc", "MainPID");
    assert_eq!(systemd.sh(&format!("ps -o user= -p {pid}")), "qsc");
    systemd.sh("systemctl stop qsc");
    assert_eq!(systemd.property("qsc", "Result"), "success");
    assert_eq!(systemd.read("/var/lib/qsc/intents.jsonl").lines().count(), 60);
    assert_eq!(systemd.sh("stat -c %U:%a /var/lib/qsc/intents.jsonl"), "qsc:640");
}

#[test]
fn the_chain_of_gates_goes_on_where_it_was_interrupted() {
    let Some(systemd) = boot() else { return };
    let mut fifo = features(&systemd);
    // The build of a test may be dirty: the build is the wrapper's, in the log and in the intents, everything else the engine's.
    systemd.write("/run/start.sh", START.replace("SHA", SHA).replace("RUN", RUN));
    let written_by = |sha: &str| systemd.write("/run/edit.sed", BUILD_OF_INTENTS.replace("SHA", sha));
    written_by(SHA);
    unit(&systemd, "ExecStart=/bin/sh /run/start.sh", "");
    let arguments =
        ["deploy", "--unit", "engine", "--expect", SHA, "--settle", "1s", "--format", "json", "--gate"];
    let source = [
        "--executable",
        "/usr/local/bin/qsc",
        "--source",
        "file:/run/intents.jsonl",
        "--report-dir",
        "/run/reports",
    ];
    let chain = [&arguments[..], &source].concat();
    let deploy = |more: &[&str]| systemd.qsc(&[&chain[..], more].concat());

    // No events: feature-sanity waits, but not for ever.
    let blocked = deploy(&["--wait", "1s"]);
    assert_eq!(blocked.code, Some(2), "{blocked:?}");
    let first = blocked.json();
    assert_eq!(
        (&first["verdict"], &first["failure"]["step"]),
        (&"inconclusive".into(), &"feature_sanity".into())
    );
    assert!(first["failure"]["seen"].as_str().unwrap().starts_with("0 of 50 intents"), "{first:#}");

    // The gates are part of it: a resume that leaves them out is none.
    let bare = ["deploy", "--unit", "engine", "--expect", SHA, "--resume"];
    systemd.qsc(&bare).assert_refused(&["feature_sanity", "--gate --source"]);
    // So is one that asks them for less, or for more.
    deploy(&["--resume", "--require", "all"]).assert_refused(&["--require any", "not for --require all"]);

    // Killed while the canary gate waits for more.
    feed(&systemd, &mut fifo, 0, 150);
    let script = format!("echo $$ >/run/deploy.pid; exec /qsc/qsc {} --resume", chain.join(" "));
    let mut command = systemd.command("sh");
    command.args(["-c", &script]);
    let killed = thread::scope(|scope| {
        let deploy = scope.spawn(|| qsc::finish(command, &[]));
        systemd.wait("the canary gate waits", |systemd| {
            systemd.read("/run/state/deploy-engine.service.json").contains("\"step\": \"canary\"")
        });
        systemd.sh("kill -KILL $(cat /run/deploy.pid)");
        deploy.join().unwrap()
    });
    assert!(killed.code != Some(0) && killed.stdout.is_empty(), "{killed:?}");
    assert!(!killed.stderr.contains("intents since"), "no bar in a pipe: {killed:?}");

    feed(&systemd, &mut fifo, 150, 150);
    let passed = deploy(&["--resume"]);
    let last = assert_chain_passed(&passed);
    assert_eq!(last["invocation_id"], first["invocation_id"], "it was not restarted");
    assert_eq!(last["cutover_ms"], first["cutover_ms"], "the cutover stays");
    assert_eq!(last["gates"]["canary"]["cutover"], last["cutover"]);
    let report = last["gates"]["canary"]["report"]["markdown"].as_str().unwrap();
    assert!(systemd.read(report).contains("CANARY (DEPLOYMENT ELIGIBLE)"), "{report}");
    deploy(&["--resume"]).assert_refused(&["no deployment to go on with"]);

    // What another engine on the same stream has written proves nothing, nor do simulated events.
    let (other, simulated) = (SHA.replace('0', "f"), format!("{BUILD_OF_INTENTS}\n{SIMULATE}"));
    for (edit, seen) in [
        (BUILD_OF_INTENTS.replace("SHA", &other), format!("were written by build {other}, not {SHA}")),
        (simulated.replace("SHA", SHA), "say that they are simulated".to_owned()),
    ] {
        systemd.write("/run/edit.sed", edit);
        let blocked = deploy(&["--wait", "1s"]);
        assert_eq!(
            blocked.json()["failure"]["step"],
            "feature_sanity",
            "old events do not count: {blocked:?}"
        );
        let before = systemd.read("/run/intents.jsonl").lines().count();
        // As many as would pass every gate.
        feed(&systemd, &mut fifo, before, 210);
        let blocked = deploy(&["--resume"]);
        assert_eq!(blocked.code, Some(2), "{blocked:?}");
        let failure = &blocked.json()["failure"];
        assert_eq!(failure["step"], "feature_sanity", "{failure:#}");
        assert!(failure["seen"].as_str().unwrap().contains(&seen), "{failure:#}");
    }

    // Also where so many came since that the gates judge none of them.
    systemd.write("/run/edit.sed", BUILD_OF_INTENTS.replace("SHA", SHA));
    assert_eq!(deploy(&["--wait", "1s"]).code, Some(2));
    let before = systemd.read("/run/intents.jsonl").lines().count();
    feed(&systemd, &mut fifo, before, 210);
    let intents = systemd.read("/run/intents.jsonl");
    let own: Vec<&str> = intents.lines().skip(before).collect();
    let foreign = own[..10].iter().map(|line| line.replace(SHA, &other));
    let lines = foreign.chain(own.iter().cycle().take(2100).map(|&line| line.to_owned()));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    let mut text = String::new();
    for (index, line) in lines.enumerate() {
        let mut event: Value = serde_json::from_str(&line).unwrap();
        event["id"] = json!(format!("{now}-{index}"));
        writeln!(text, "{event}").unwrap();
    }
    systemd.write("/run/intents.jsonl", text);
    let blocked = deploy(&["--resume"]);
    let failure = &blocked.json()["failure"];
    assert_eq!((blocked.code, &failure["step"]), (Some(2), &json!("collection")), "{failure:#}");
    let seen = format!("10 of 2110 intents were written by build {other}, not {SHA}");
    assert!(failure["seen"].as_str().unwrap().contains(&seen), "{failure:#}");

    // A restart in between voids the proof: events of another start must not count for this one.
    systemd.sh("systemctl restart engine");
    let void = deploy(&["--resume"]);
    assert_eq!(void.code, Some(2), "{void:?}");
    assert!(void.json()["failure"]["seen"].as_str().unwrap().contains("runs no longer"), "{void:?}");
}

fn assert_chain_passed(run: &Run) -> Value {
    assert_eq!(run.code, Some(0), "{run:?}");
    let document = run.json();
    assert_eq!(document["verdict"], "pass", "{document:#}");
    let mut steps = String::new();
    for step in document["steps"].as_array().unwrap() {
        write!(steps, "{} ", step["step"].as_str().unwrap()).unwrap();
    }
    assert_eq!(steps, "unit stop start build executable settle feature_sanity collection canary ");
    document
}

#[test]
fn without_systemd_it_refuses() {
    if Path::new("/run/systemd/system").exists() {
        qsc_tests::skip("this machine is managed by systemd");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut command = qsc::command(["deploy", "--unit", "qsc.service", "--expect", SHA]);
    command.current_dir(directory.path());
    qsc::finish(command, &[]).assert_refused(&["systemd does not manage this machine"]);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "no state is made");
}

#[test]
fn arguments_that_cannot_be_meant_are_usage_errors() {
    let unit = ["deploy", "--unit", "qsc.service"];
    for more in [
        &["--expect", "012345"][..],
        &["--expect", "HEAD"],
        &["--expect", ""],
        &["--settle", "5"],
        &["--gate"],
        &["--gate", "--source", "-"],
        &["--gate", "--warn-only", "--source", "file:x"],
        &["--unit", "qsc.service"],
    ] {
        let run = qsc::run([&unit[..], more].concat());
        assert_eq!((run.code, run.stdout.as_str()), (Some(64), ""), "{more:?}: {run:?}");
    }
    for unit in ["", "qsc.socket", "--now", "a*", "a/b"] {
        let run = qsc::run(["deploy", &format!("--unit={unit}"), "--expect", SHA]);
        assert_eq!(run.code, Some(64), "{unit}: {run:?}");
    }
}
