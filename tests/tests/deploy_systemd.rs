//! `qsc deploy` against a real systemd: only the right build, of this very start, from the installed file, passes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use qsc_tests::canary::{breakdown, payload};
use qsc_tests::qsc::Run;
use qsc_tests::systemd::Systemd;
use serde_json::{Value, json};

/// As Linux has it.
const O_NONBLOCK: i32 = 0o4000;

const SHA: &str = "0123456789abcdef0123456789abcdef01234567";

/// What a service does that stays: it waits for a writer that never comes. A child process, e.g. `sleep`, could outlive it
/// unnoticed where cgroups are of version 1, and make each stop long.
const STAY: &str = "read nothing </run/never";

fn boot() -> Option<Systemd> {
    let systemd = Systemd::boot()?;
    systemd.sh("mkfifo /run/never");
    Some(systemd)
}

/// A service that says `line` and stays.
fn saying(line: &str) -> String {
    format!("ExecStart=/bin/sh -c 'echo {line}; {STAY}'")
}

/// Deploys `unit` without long waits.
fn deploy(systemd: &Systemd, unit: &str, more: &[&str]) -> Run {
    let mut arguments = vec!["deploy", "--unit", unit, "--format", "json"];
    arguments.extend(more);
    if !more.contains(&"--settle") {
        arguments.extend(["--settle", "0s"]);
    }
    systemd.qsc(&arguments)
}

/// Checks verdict, exit code and the step that decided; returns the document.
fn assert_blocked(run: &Run, step: &str, parts: &[&str]) -> Value {
    assert_eq!(run.code, Some(2), "{run:?}");
    let document = run.json();
    assert_eq!(document["exit_code"], 2, "{document:#}");
    assert_eq!(document["verdict"], "fail", "{document:#}");
    assert_eq!(document["failure"]["step"], step, "{document:#}");
    for part in parts {
        assert!(document["failure"]["seen"].as_str().unwrap().contains(part), "{part}: {document:#}");
    }
    assert!(!document["failure"]["next"].as_str().unwrap().is_empty(), "{document:#}");
    document
}

fn assert_passed(run: &Run) -> Value {
    assert_eq!(run.code, Some(0), "{run:?}");
    let document = run.json();
    assert_eq!((&document["verdict"], &document["exit_code"]), (&"pass".into(), &0.into()), "{document:#}");
    assert_eq!(document["failure"], Value::Null);
    document
}

#[test]
fn only_the_expected_build_of_this_start_passes() {
    let Some(systemd) = boot() else { return };
    systemd.unit("right.service", &saying(&format!("INFO engine AI_ENGINE_BUILD: {SHA}")));
    // Without a running service, then over it; full and abbreviated on either side.
    let first = assert_passed(&deploy(&systemd, "right", &["--expect", SHA]));
    let second = assert_passed(&deploy(&systemd, "right.service", &["--expect", &SHA[..7].to_uppercase()]));
    assert_ne!(first["invocation_id"], second["invocation_id"]);
    assert_ne!(first["main_pid"], second["main_pid"]);
    assert!(second["cutover_ms"].as_u64() > first["cutover_ms"].as_u64(), "{second:#}");
    assert_eq!(second["contract"], 1);
    assert_eq!(second["command"], "deploy");
    assert_eq!(second["build"], SHA);
    assert_eq!(second["main_pid"].to_string(), systemd.property("right", "MainPID"));
    assert_eq!(second["invocation_id"].as_str(), Some(&*systemd.property("right", "InvocationID")));
    let steps: Vec<_> = second["steps"].as_array().unwrap().iter().map(|step| &step["step"]).collect();
    assert_eq!(steps, ["unit", "stop", "start", "build", "executable", "settle"]);
    systemd.unit("short.service", &saying(&format!("AI_ENGINE_BUILD: {}", &SHA[..12])));
    assert_passed(&deploy(&systemd, "short", &["--expect", SHA]));

    let text = systemd.qsc(&["deploy", "--unit", "right", "--expect", SHA, "--settle", "0s"]);
    assert_eq!(text.code, Some(0), "{text:?}");
    assert!(text.stdout.ends_with("Verdict:  pass\n[EXIT] CODE 0 - PASS (every step held)\n"), "{text:?}");
    assert!(text.stderr.contains("deploy right.service: start\n"), "{text:?}");
    assert!(!systemd.path("/run/state/deploy-right.service.json").exists(), "nothing is left to go on with");

    // Each of these names no build that anything matches, or another one.
    let other = SHA.replace('0', "f");
    for (unit, line) in [
        ("wrong", format!("AI_ENGINE_BUILD: {other}")),
        ("dirty", format!("AI_ENGINE_BUILD: {SHA}-dirty")),
        ("unknown", "AI_ENGINE_BUILD: \"<unknown>\"".to_owned()),
        ("six", format!("AI_ENGINE_BUILD: {}", &SHA[..6])),
        ("empty", "AI_ENGINE_BUILD: ".to_owned()),
        (
            "both",
            format!("AI_ENGINE_BUILD: {SHA}; echo AI_ENGINE_BUILD: {other}; echo AI_ENGINE_BUILD: {SHA}"),
        ),
    ] {
        systemd.unit(&format!("{unit}.service"), &saying(&line));
        assert_blocked(&deploy(&systemd, unit, &["--expect", SHA]), "build", &["but", SHA]);
    }
    // The way back: what ran before is installed again and deployed like anything else.
    systemd.unit("back.service", &saying(&format!("AI_ENGINE_BUILD: {SHA}")));
    assert_passed(&deploy(&systemd, "back", &["--expect", SHA]));
    systemd.unit("back.service", &saying(&format!("AI_ENGINE_BUILD: {other}")));
    assert_blocked(&deploy(&systemd, "back", &["--expect", SHA]), "build", &[&other]);
    systemd.unit("back.service", &saying(&format!("AI_ENGINE_BUILD: {SHA}")));
    assert_passed(&deploy(&systemd, "back", &["--expect", SHA]));

    let warned = deploy(&systemd, "wrong", &["--expect", SHA, "--warn-only"]);
    assert_eq!(warned.code, Some(0), "{warned:?}");
    let document = warned.json();
    assert_eq!((&document["verdict"], &document["exit_code"]), (&"fail".into(), &0.into()), "{document:#}");
    assert_eq!(document["failure"]["step"], "build");
    let text = systemd.qsc(&["deploy", "--unit", "wrong", "--expect", SHA, "--settle", "0s", "--warn-only"]);
    assert!(text.stdout.ends_with("Verdict:  fail\n[EXIT] CODE 0 - WARN ONLY (the verdict stays FAIL)\n"));

    // The line is there, but an earlier start has said it.
    systemd.unit(
        "stale.service",
        &format!("ExecStart=/bin/sh -c 'test -e /run/mute || echo AI_ENGINE_BUILD: {SHA}; {STAY}'"),
    );
    assert_passed(&deploy(&systemd, "stale", &["--expect", SHA]));
    systemd.write("/run/mute", "");
    let run = deploy(&systemd, "stale", &["--expect", SHA, "--timeout", "1s"]);
    let document = assert_blocked(&run, "build", &["no AI_ENGINE_BUILD line"]);
    assert_eq!(document["build"], Value::Null);
    assert!(systemd.sh("journalctl --unit stale").contains(SHA), "it is in the unit's journal");
    // So it is when something other than the service says it.
    systemd.sh(&format!("echo AI_ENGINE_BUILD: {SHA} | systemd-cat"));
    assert_blocked(&deploy(&systemd, "stale", &["--expect", SHA, "--timeout", "1s"]), "build", &[]);
}

#[test]
fn a_service_that_does_not_run_is_blocked() {
    let Some(systemd) = boot() else { return };
    let expect = ["--expect", SHA, "--timeout", "2s"];
    let line = format!("echo AI_ENGINE_BUILD: {SHA}");
    let deaf = |stop: &str| format!("{stop}\nExecStart=/bin/sh -c 'trap \"\" TERM; {line}; {STAY}'");
    for (name, service) in [
        ("fails", "Type=notify\nExecStart=/bin/sh -c 'echo no model; exit 7'".to_owned()),
        ("absent", "ExecStart=/run/no-such-program".to_owned()),
        ("loops", "Type=notify\nRestart=always\nExecStart=/bin/false".to_owned()),
        ("never", format!("Type=notify\nTimeoutStartSec=infinity\nExecStart=/bin/sh -c '{line}; {STAY}'")),
        ("oneshot", format!("Type=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh -c '{line}'")),
        ("brief", format!("ExecStart=/bin/sh -c '{line}; sleep 2; exit 3'")),
        ("hangs", deaf("TimeoutStopSec=infinity")),
        ("killed", deaf("TimeoutStopSec=1")),
        ("stays", deaf("KillMode=none")),
    ] {
        systemd
            .write(&format!("/run/systemd/system/{name}.service"), format!("[Unit]\n[Service]\n{service}\n"));
    }
    systemd.sh("systemctl daemon-reload; systemctl start hangs killed stays");
    let pid = systemd.property("stays", "MainPID");
    // Each waits for something that never comes; they wait together.
    let [fails, absent, loops, never, oneshot, brief, hangs, killed, stays] = std::thread::scope(|scope| {
        [
            ("fails", &expect[..]),
            ("absent", &expect),
            ("loops", &expect),
            ("never", &expect),
            ("oneshot", &expect),
            ("brief", &["--expect", SHA, "--settle", "30s"]),
            ("hangs", &expect),
            ("killed", &["--expect", SHA]),
            ("stays", &expect),
        ]
        .map(|(name, more)| scope.spawn(|| deploy(&systemd, name, more)))
        .map(|deployment| deployment.join().unwrap())
    });
    assert_blocked(&fails, "start", &["failed", "exit status 7", "no model"]);
    // Active for a moment, until its program is not found: when that is noticed may differ.
    assert!(["start", "build"].contains(&absent.json()["failure"]["step"].as_str().unwrap()), "{absent:?}");
    assert_eq!(absent.code, Some(2), "{absent:?}");
    assert_blocked(&loops, "start", &[]);
    assert_blocked(&never, "start", &["not active in 2 s", "activating"]);
    assert_blocked(&oneshot, "start", &["no main process"]);
    assert_blocked(&brief, "settle", &["runs no longer", "exit status 3"]);
    assert_blocked(&hangs, "stop", &["not stopped in 2 s", "deactivating"]);
    let seen = assert_passed(&killed)["steps"][1]["seen"].clone();
    assert!(seen.as_str().unwrap().contains("result timeout"), "{killed:?}");
    assert_blocked(&stays, "stop", &[&format!("its main process {pid} still runs")]);
    // That a wrong build only warns does not make a dead service a live one.
    let warned = deploy(&systemd, "fails", &[&expect[..], &["--warn-only"]].concat());
    assert_blocked(&warned, "start", &[]);
}

#[test]
fn the_running_program_must_be_the_installed_one() {
    let Some(systemd) = boot() else { return };
    let engine = |name: &str, post: &str| {
        systemd.sh(&format!("mkdir -p /run/bin && cp /bin/sh /run/bin/{name}"));
        let start = format!("ExecStart=/run/bin/{name} -c 'echo AI_ENGINE_BUILD: {SHA}; {STAY}'");
        // `exec`: what comes after the start must not change the file before it is executed.
        systemd.unit(&format!("{name}.service"), &format!("Type=exec\n{start}\n{post}"));
    };
    let replace = |name: &str, with: &str| {
        format!("cp {with} /run/bin/{name}.new; mv /run/bin/{name}.new /run/bin/{name}")
    };
    engine("kept", "");
    let document = assert_passed(&deploy(&systemd, "kept", &["--expect", SHA]));
    let digest = systemd.sh("sha256sum /bin/sh | cut -d' ' -f1");
    for side in ["installed_sha256", "running_sha256"] {
        assert_eq!(document["executable"][side].as_str(), Some(&*digest), "{document:#}");
    }
    assert_eq!(document["executable"]["path"], "/run/bin/kept");

    engine("swapped", &format!("ExecStartPost=/bin/sh -c '{}'", replace("swapped", "/bin/sleep")));
    let run = deploy(&systemd, "swapped", &["--expect", SHA]);
    let document = assert_blocked(&run, "executable", &["/run/bin/swapped"]);
    assert_ne!(document["executable"]["installed_sha256"], document["executable"]["running_sha256"]);
    engine("removed", "ExecStartPost=/bin/rm /run/bin/removed");
    assert_blocked(&deploy(&systemd, "removed", &["--expect", SHA]), "executable", &["cannot be read"]);

    // A script runs its interpreter: what is meant has to be said.
    systemd.write("/run/bin/wrapper", format!("#!/bin/sh\necho AI_ENGINE_BUILD: {SHA}\n{STAY}\n"));
    systemd.sh("chmod +x /run/bin/wrapper");
    systemd.unit("script.service", "ExecStart=/run/bin/wrapper");
    assert_blocked(&deploy(&systemd, "script", &["--expect", SHA]), "executable", &["/run/bin/wrapper"]);
    assert_passed(&deploy(&systemd, "script", &["--expect", SHA, "--executable", "/bin/sh"]));
}

#[test]
fn what_cannot_be_deployed_is_left_alone() {
    let Some(systemd) = boot() else { return };
    systemd.sh("systemctl mask --runtime --quiet masked.service");
    for (unit, reason) in
        [("missing", "there is no unit missing.service"), ("masked", "masked.service is masked")]
    {
        let run = deploy(&systemd, unit, &["--expect", SHA]);
        assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""), "{run:?}");
        let refusal = run.stderr.lines().last().unwrap();
        assert!(refusal.starts_with("QSC FAIL-CLOSED: ") && refusal.contains(reason), "{run:?}");
    }

    systemd.unit("kept.service", &saying(&format!("AI_ENGINE_BUILD: {SHA}")));
    systemd.sh("systemctl start kept");
    let pid = systemd.property("kept", "MainPID");
    let untouched = || assert_eq!(systemd.property("kept", "MainPID"), pid);
    for never in [&format!("{SHA}-dirty"), "<unknown>"] {
        assert_blocked(
            &deploy(&systemd, "kept", &["--expect", never]),
            "unit",
            &[never, "nothing was touched"],
        );
        untouched();
    }
    systemd.write("/run/systemd/system/kept.service", format!("[Service]\n{}\n#", saying("new")));
    assert_blocked(&deploy(&systemd, "kept", &["--expect", SHA]), "unit", &["nothing was touched"]);
    untouched();
    deploy(&systemd, "other", &["--resume"]).assert_refused(&["no deployment to go on with"]);
    let other = deploy(&systemd, "kept", &["--resume", "--expect", &SHA[..8]]);
    other.assert_refused(&["expects", &SHA[..8]]);
    untouched();

    // One at a time: the second loses, and the first is not disturbed.
    systemd.unit("busy.service", &saying(&format!("AI_ENGINE_BUILD: {SHA}")));
    let mut first = systemd.command("/qsc/qsc");
    first.args(["deploy", "--unit", "busy", "--expect", SHA, "--settle", "3s"]);
    std::thread::scope(|scope| {
        let first = scope.spawn(|| qsc_tests::qsc::finish(first, &[]));
        systemd.wait("the first settles", |systemd| {
            let record = systemd.path("/run/state/deploy-busy.service.json");
            std::fs::read_to_string(record).is_ok_and(|record| record.contains("\"settle\""))
        });
        deploy(&systemd, "busy", &["--expect", SHA]).assert_refused(&["another qsc deploy of busy.service"]);
        assert_eq!(first.join().unwrap().code, Some(0));
    });
}

/// Going on with a deployment is no way around what it has found.
#[test]
fn a_resumed_deployment_forgets_neither_a_wrong_build_nor_when_it_started() {
    let Some(systemd) = boot() else { return };
    let other = SHA.replace('0', "f");
    systemd.unit("wrong.service", &saying(&format!("AI_ENGINE_BUILD: {other}")));
    let record = "/run/state/deploy-wrong.service.json";
    let arguments = format!("deploy --unit wrong --expect {SHA} --settle 600s --warn-only");
    let mut command = systemd.command("sh");
    command.args(["-c", &format!("echo $$ >/run/deploy.pid; exec /qsc/qsc {arguments}")]);
    std::thread::scope(|scope| {
        let deployment = scope.spawn(|| qsc_tests::qsc::finish(command, &[]));
        systemd.wait("it settles", |systemd| {
            let record = std::fs::read_to_string(systemd.path(record));
            record.is_ok_and(|record| record.contains("\"step\": \"settle\",\n  \"old_process\""))
        });
        systemd.sh("kill -KILL $(cat /run/deploy.pid)");
        deployment.join().unwrap()
    });
    let saved = systemd.read(record);
    let resume = |more: &[&str]| deploy(&systemd, "wrong", &[&["--resume"], more].concat());

    let warned = resume(&["--warn-only"]);
    let document = warned.json();
    assert_eq!((warned.code, &document["verdict"]), (Some(0), &"fail".into()), "{document:#}");
    assert_eq!(document["failure"]["step"], "build");
    for more in [&[][..], &["--gate", "--source", "file:/run/none"]] {
        systemd.write(record, &saved);
        assert_blocked(&resume(more), "build", &[&other]);
    }

    // A start that was entered before and is entered again has a cutover of its own, or none at all.
    let mut at_start: Value = serde_json::from_str(&saved).unwrap();
    at_start["step"] = "start".into();
    systemd.write(record, at_start.to_string());
    resume(&["--warn-only"]).assert_refused(&["is not stopped", "deploy without --resume"]);
    systemd.sh("systemctl stop wrong");
    let again = resume(&["--warn-only"]);
    assert_eq!(again.code, Some(0), "{again:?}");
    assert!(again.json()["cutover_ms"].as_u64() > at_start["cutover"].as_u64(), "{again:?}");
}

/// What a gate has read counts only if afterwards it still is the same start that wrote it.
#[test]
fn a_restart_while_a_gate_reads_voids_what_it_read() {
    let Some(systemd) = boot() else { return };
    let start = format!("test -p /run/late || mkfifo /run/late; echo AI_ENGINE_BUILD: {SHA}; {STAY}");
    systemd.unit("late.service", &format!("ExecStart=/bin/sh -c '{start}'"));
    let mut command = systemd.command("/qsc/qsc");
    command.args(["deploy", "--unit", "late", "--expect", SHA, "--settle", "0s", "--format", "json"]);
    command.args(["--gate", "--source", "file:/run/late"]);
    let run = std::thread::scope(|scope| {
        let deployment = scope.spawn(|| qsc_tests::qsc::finish(command, &[]));
        systemd.wait("the first gate", |systemd| {
            let record = std::fs::read_to_string(systemd.path("/run/state/deploy-late.service.json"));
            record.is_ok_and(|record| record.contains("\"step\": \"feature_sanity\",\n  \"old_process\""))
        });
        // Opened by both sides: it has looked at the service, and reads.
        let mut intents = OpenOptions::new().write(true).open(systemd.path("/run/late")).unwrap();
        systemd.sh("systemctl restart late");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        for index in 0..60 {
            let payload = payload(index, &breakdown(index));
            let fields = json!({"event_type": "trade.intent", "payload": payload});
            writeln!(intents, "{}", json!({"id": format!("{now}-{index}"), "fields": fields})).unwrap();
        }
        drop(intents);
        while !deployment.is_finished() {
            // Whoever opens it again finds its end.
            let open =
                OpenOptions::new().write(true).custom_flags(O_NONBLOCK).open(systemd.path("/run/late"));
            drop(open);
            std::thread::sleep(Duration::from_millis(100));
        }
        deployment.join().unwrap()
    });
    assert_blocked(&run, "feature_sanity", &["runs no longer"]);
}

#[test]
fn the_unit_files_are_sound() {
    let Some(systemd) = boot() else { return };
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("../host-cli/units");
    for file in ["qsc.service", "qsc-monitor.service", "qsc-sysusers.conf"] {
        systemd.write(&format!("/run/units/{file}"), std::fs::read(units.join(file)).unwrap());
    }
    systemd.sh("systemd-sysusers /run/units/qsc-sysusers.conf");
    for unit in ["/run/units/qsc.service", "/run/units/qsc-monitor.service"] {
        let complaints = systemd.sh(&format!("systemd-analyze verify --man=no {unit} 2>&1"));
        assert_eq!(complaints, "", "{unit}");
        // The threshold is in tenths: exposure 2.0 at most.
        let security = format!("systemd-analyze security --offline=true --threshold=20 --no-pager {unit}");
        assert!(systemd.sh(&security).contains("Overall exposure level"), "{unit}");
    }
}
