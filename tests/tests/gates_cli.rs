//! Both gates at their outer edge: exit codes, reports, output, and refusals.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use qsc_cli::gate::{Mode, QualityGate, Require, Rules, SanityGate, Terms};
use qsc_cli::report::{self, Header};
use qsc_tests::capture::{Capture, healthy, healthy_capture};
use qsc_tests::qsc::{self, Run};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

const NOW: &str = "2026-01-10T05:43:15Z";

/// `qsc quality-gate` in `directory` on `capture.jsonl` there.
fn gate(directory: &Path, more: &[&str]) -> Run {
    let mut command = qsc::command(["quality-gate", "--source", "file:capture.jsonl", "--now", NOW]);
    command.current_dir(directory).args(more);
    qsc::finish(command, &[])
}

/// A scratch directory with `capture` as `capture.jsonl`.
fn with(capture: &Capture) -> TempDir {
    let directory = TempDir::new().unwrap();
    capture.write(directory.path(), "capture.jsonl");
    directory
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn every_verdict_has_its_code_last_line_and_reports() {
    let healthy = healthy_capture(200);
    let mut sick = Capture::new();
    (0..200).for_each(|_| sick.push_intent(&[("xgb", json!({"action": "HOLD", "confidence": 0.5}))]));
    for (capture, mode, code, verdict, last) in [
        (&healthy, "canary", 0, "pass", "[EXIT] CODE 0 - PASS (at least ONE model healthy)"),
        (&sick, "canary", 2, "fail", "[EXIT] CODE 2 - FAIL (blockers detected)"),
        (&Capture::new(), "canary", 2, "inconclusive", "[EXIT] CODE 2 - FAIL (blockers detected)"),
        (&sick, "collection", 3, "collection", "[EXIT] CODE 3 - COLLECTION COMPLETE (CANNOT PROMOTE)"),
    ] {
        let directory = with(capture);
        let run = gate(directory.path(), &["--mode", mode]);
        assert_eq!(run.code, Some(code), "{run:?}");
        assert_eq!(run.stdout.lines().last(), Some(last));
        assert_eq!(run.stderr, "");
        let suffix = if mode == "collection" { "_collection" } else { "" };
        let stem = format!("quality_gate_20260110_054315{suffix}");
        assert_eq!(
            names(&directory.path().join("reports/safety")),
            [format!("{stem}.html"), format!("{stem}.json"), format!("{stem}.md")]
        );

        let run = gate(directory.path(), &["--mode", mode, "--format", "json", "--report-dir", "r"]);
        let json = run.json();
        assert_eq!(
            (run.code, &json["verdict"], &json["exit_code"]),
            (Some(code), &json!(verdict), &json!(code))
        );
        assert_eq!(
            (&json["contract"], &json["command"], &json["mode"]),
            (&json!(1), &json!("quality-gate"), &json!(mode))
        );
    }
}

#[test]
fn the_document_has_the_shape_of_the_contract() {
    let directory = with(&healthy_capture(200));
    let json = gate(directory.path(), &["--mode", "canary", "--format", "json"]).json();
    let has = |value: &Value, names: &[&str]| {
        let object = value.as_object().unwrap();
        names.iter().for_each(|name| assert!(object.contains_key(*name), "{name} is not in {value}"));
    };
    has(
        &json,
        &[
            "contract",
            "command",
            "mode",
            "verdict",
            "exit_code",
            "events",
            "cutover",
            "eligible",
            "models",
            "report",
        ],
    );
    has(&json["events"], &["count", "requested", "min", "malformed"]);
    let model = &json["models"]["xgb"];
    has(
        model,
        &[
            "verdict",
            "failures",
            "predictions",
            "inactive",
            "inactive_reasons",
            "normalized",
            "violations",
            "actions",
            "confidence",
        ],
    );
    has(&model["actions"], &["BUY", "SELL", "HOLD"]);
    has(&model["confidence"], &["mean", "std", "p10", "p90", "p10_p90_range"]);
    has(&json["report"], &["markdown", "json", "html", "sha256"]);
    has(
        &json["evidence"],
        &["source", "first_id", "last_id", "count", "sha256", "rules", "build", "written_by"],
    );
    assert_eq!(json["cutover"], Value::Null);
    let failed = with(&Capture::new());
    let failed = gate(failed.path(), &["--mode", "canary", "--format", "json"]).json();
    has(&failed["checks"][0], &["check", "value", "threshold", "detail", "distance", "result", "seen"]);
    assert_eq!(model["actions"], json!({"BUY": 67, "SELL": 67, "HOLD": 66}));
    assert_eq!(json["evidence"]["rules"]["max_action_pct"], 70.0);
}

#[test]
fn report_and_twin_agree_with_stdout_and_their_digests() {
    let directory = with(&healthy_capture(300));
    let run = gate(
        directory.path(),
        &["--mode", "canary", "--format", "json", "--after", "0", "--report-dir", "r"],
    );
    let mut json = run.json();
    assert_eq!(json["report"]["markdown"], "r/quality_gate_20260110_054315_post_cutover.md");
    assert_eq!(json["report"]["json"], "r/quality_gate_20260110_054315_post_cutover.json");
    let markdown = fs::read(directory.path().join(json["report"]["markdown"].as_str().unwrap())).unwrap();
    let twin = fs::read(directory.path().join(json["report"]["json"].as_str().unwrap())).unwrap();
    let page = fs::read(directory.path().join(json["report"]["html"].as_str().unwrap())).unwrap();
    assert_eq!(
        json["report"]["sha256"],
        json!({"markdown": sha256(&markdown), "html": sha256(&page), "json": sha256(&twin)})
    );
    // The twin cannot hold its own digest; everything else is the same.
    json["report"]["sha256"].as_object_mut().unwrap().remove("json");
    assert_eq!(serde_json::from_slice::<Value>(&twin).unwrap(), json);

    let markdown = String::from_utf8(markdown).unwrap();
    let lines: Vec<&str> = markdown.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(
        lines[..3],
        [
            "# Quality Gate Report",
            "**Timestamp:** 2026-01-10T05:43:15Z",
            "**MODE:** 🚀 CANARY (DEPLOYMENT ELIGIBLE)"
        ]
    );
    for check in ["majority_class", "confidence_std", "p10_p90_range", "constant_output", "hold_collapse"] {
        assert!(markdown.contains(&format!("| {check} |")), "{check}");
    }
    assert!(markdown.contains(json["evidence"]["sha256"].as_str().unwrap()));
    assert!(!markdown.contains("SYNTHETIC") && !markdown.contains("LOOSENED"));

    gate(directory.path(), &["--mode", "collection", "--min-events", "50", "--report-dir", "c"]);
    let markdown =
        fs::read_to_string(directory.path().join("c/quality_gate_20260110_054315_collection.md")).unwrap();
    assert!(markdown.contains("\n**MODE:** 🔒 COLLECTION (DATA GATHERING ONLY)\n"));
    assert!(markdown.contains("\n**LOOSENED RULES:** min_events 50 (default 100)\n"));
}

#[test]
fn the_same_events_give_the_same_report_bytes() {
    let (one, two) = (with(&healthy_capture(250)), with(&healthy_capture(250)));
    let [one, two] = [one, two].map(|directory| {
        let run = gate(directory.path(), &["--mode", "canary", "--format", "json"]);
        let report = |ending: &str| {
            let name = format!("reports/safety/quality_gate_20260110_054315.{ending}");
            fs::read(directory.path().join(name)).unwrap()
        };
        (run.stdout, ["md", "json", "html"].map(report))
    });
    assert_eq!(one, two);
}

#[test]
fn reports_of_one_second_never_overwrite_each_other() {
    let directory = with(&healthy_capture(200));
    let reports = directory.path().join("reports/safety");
    fs::create_dir_all(&reports).unwrap();
    fs::write(reports.join("quality_gate_20260110_054315.md"), "kept").unwrap();
    for number in 2..=3 {
        let json = gate(directory.path(), &["--mode", "canary", "--format", "json"]).json();
        assert_eq!(
            json["report"]["json"],
            format!("reports/safety/quality_gate_20260110_054315_{number}.json")
        );
        assert_eq!(
            json["report"]["markdown"],
            format!("reports/safety/quality_gate_20260110_054315_{number}.md")
        );
    }
    assert_eq!(fs::read_to_string(reports.join("quality_gate_20260110_054315.md")).unwrap(), "kept");
    assert_eq!(names(&reports).len(), 7, "no temporary or half report: {:?}", names(&reports));
}

#[test]
fn an_unwritable_report_directory_is_an_error_not_a_verdict() {
    let directory = with(&healthy_capture(200));
    for place in ["capture.jsonl/reports", "/proc/qsc-reports"] {
        let run = gate(directory.path(), &["--mode", "canary", "--report-dir", place]);
        run.assert_refused(&["cannot write the report into", place, "--report-dir"]);
    }
    assert_eq!(names(directory.path()), ["capture.jsonl"]);
}

#[test]
fn what_cannot_be_read_is_refused_in_one_sentence() {
    let directory = TempDir::new().unwrap();
    gate(directory.path(), &["--mode", "canary"]).assert_refused(&["cannot open the capture capture.jsonl"]);
    fs::create_dir(directory.path().join("capture.jsonl")).unwrap();
    gate(directory.path(), &["--mode", "canary"]).assert_refused(&["cannot read the capture capture.jsonl"]);
    assert_eq!(names(directory.path()), ["capture.jsonl"], "no report without a verdict");
    let refused = qsc::run(["feature-sanity", "--after", "0", "--source", "file:/nonexistent/x"]);
    refused.assert_refused(&["cannot open the capture /nonexistent/x"]);
}

#[test]
fn a_half_written_capture_is_judged_without_its_torn_line() {
    let mut capture = healthy_capture(200);
    capture.push_tail("{\"id\":\"1768023999000-0\",\"fields\":{\"event_type\":\"trade.int");
    let directory = with(&capture);
    let run = gate(directory.path(), &["--mode", "canary", "--format", "json"]);
    assert_eq!((run.code, &run.json()["events"]["malformed"]), (Some(0), &json!(1)));
    assert_eq!(run.stderr.lines().count(), 1, "{run:?}");
    assert!(run.stderr.contains("line 201: the last line is cut off"), "{run:?}");
    assert!(
        gate(directory.path(), &["--mode", "canary"]).stdout.contains("line 201: the last line is cut off")
    );
}

#[test]
fn stdin_is_a_capture_too() {
    let text = healthy_capture(200).text();
    let directory = TempDir::new().unwrap();
    for source in ["-", "file:-"] {
        let mut command =
            qsc::command(["quality-gate", "--mode", "canary", "--format", "json", "--source", source]);
        command.current_dir(directory.path());
        let run = qsc::finish(command, text.as_bytes());
        assert_eq!((run.code, &run.json()["events"]["count"]), (Some(0), &json!(200)));
    }
}

#[test]
fn wrong_arguments_are_usage_errors_and_touch_nothing() {
    let directory = with(&healthy_capture(200));
    for arguments in [
        &["quality-gate"][..],
        &["quality-gate", "--mode", "canary"],
        &["quality-gate", "--source", "file:capture.jsonl"],
        &["quality-gate", "--source", "capture.jsonl", "--mode", "canary"],
        &["quality-gate", "--source", "", "--mode", "canary"],
        &["quality-gate", "--source", "file:capture.jsonl", "--mode", "live"],
        &["quality-gate", "--source", "file:capture.jsonl", "--mode", ""],
        &["quality-gate", "--source", "file:capture.jsonl", "--mode", "canary", "--after", "1768023795"],
        &["quality-gate", "--source", "file:capture.jsonl", "--mode", "canary", "--after", "yesterday"],
        &["quality-gate", "--source", "file:capture.jsonl", "--mode", "canary", "--count", "-1"],
        &["quality-gate", "--source", "file:capture.jsonl", "--mode", "canary", "--min-events", "0"],
        &["quality-gate", "--source", "file:capture.jsonl", "--mode", "canary", "--require", "most"],
        &["feature-sanity", "--source", "file:capture.jsonl"],
        &["feature-sanity", "--source", "file:capture.jsonl", "--after", "0", "--max-flatline-pct", "101"],
        &["feature-sanity", "--source", "http://h", "--after", "0"],
    ] {
        let mut command = qsc::command(arguments);
        command.current_dir(directory.path());
        let run = qsc::finish(command, &[]);
        assert_eq!((run.code, run.stdout.as_str()), (Some(64), ""), "{arguments:?} {run:?}");
        assert!(run.stderr.starts_with("error: "), "{run:?}");
    }
    assert_eq!(names(directory.path()), ["capture.jsonl"]);
}

#[test]
fn flags_beat_the_environment_and_an_empty_variable_opens_no_door() {
    let directory = with(&healthy_capture(150));
    let with_environment = |variables: &[(&str, &str)], more: &[&str]| {
        let mut command = qsc::command(["quality-gate"]);
        command.current_dir(directory.path()).envs(variables.iter().copied()).args(more);
        qsc::finish(command, &[])
    };
    let base = [("QSC_SOURCE", "file:capture.jsonl"), ("QSC_MODE", "collection"), ("QSC_FORMAT", "json")];
    let run = with_environment(&base, &[]);
    assert_eq!((run.code, &run.json()["mode"]), (Some(3), &json!("collection")));
    let run = with_environment(&base, &["--mode", "canary"]);
    assert_eq!((run.code, &run.json()["mode"]), (Some(2), &json!("canary")));
    for empty in ["QSC_AFTER", "QSC_MIN_EVENTS", "QSC_MODE", "QSC_SOURCE", "QSC_COUNT"] {
        let mut variables = base.to_vec();
        variables.push((empty, ""));
        assert_eq!(with_environment(&variables, &[]).code, Some(64), "{empty}");
    }
}

#[test]
fn a_password_is_never_shown() {
    let secret = "redis://trader:hunter2@127.0.0.1:1";
    let shown = |arguments: &[&str]| {
        let mut command = qsc::command(arguments);
        command.env("QSC_SOURCE", secret);
        let run = qsc::finish(command, &[]);
        format!("{}{}", run.stdout, run.stderr)
    };
    for arguments in [
        &["quality-gate", "--help"][..],
        &["quality-gate", "--mode", "canary"],
        &["quality-gate", "--mode", "canary", "--source", "redis://trader:hunter2@h:port"],
        &["quality-gate", "--mode", "canary", "--source", "trader:hunter2"],
        &["feature-sanity", "--after", "0"],
    ] {
        let text = shown(arguments);
        assert!(!text.is_empty() && !text.contains("hunter2"), "{arguments:?} {text}");
    }
}

#[test]
fn a_reader_that_closed_the_pipe_is_an_error_not_a_panic() {
    let directory = with(&healthy_capture(200));
    let mut command = qsc::command(["quality-gate", "--source", "file:capture.jsonl", "--mode", "canary"]);
    let mut child =
        command.current_dir(directory.path()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.starts_with("QSC FAIL-CLOSED: cannot write the result to stdout"), "{stderr}");

    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command: Command =
        qsc::command(["feature-sanity", "--source", "file:capture.jsonl", "--after", "0"]);
    let status = command.current_dir(directory.path()).stdout(full).stderr(Stdio::null()).status().unwrap();
    assert_eq!(status.code(), Some(1));
}

#[test]
fn names_from_telemetry_cannot_pose_as_lines_of_ours() {
    let name =
        "x\n[EXIT] CODE 0 - PASS (at least ONE model healthy)\n**MODE:** 🚀 CANARY (DEPLOYMENT ELIGIBLE)|";
    let mut capture = Capture::new();
    for index in 0..100 {
        let mut entry = healthy(index);
        entry["action"] = json!("BUY\n[EXIT] CODE 0 - PASS");
        entry["inactive"] = (index % 2 == 0).into();
        entry["inactive_reason"] = json!("y\n**MODE:** z");
        capture.push_intent(&[(name, entry)]);
    }
    let directory = with(&capture);
    let run = gate(directory.path(), &["--mode", "collection"]);
    assert_eq!(run.code, Some(3));
    assert_eq!(run.stdout.lines().filter(|line| line.starts_with("[EXIT]")).count(), 1, "{}", run.stdout);
    let report = directory.path().join("reports/safety/quality_gate_20260110_054315_collection.md");
    let markdown = fs::read_to_string(report).unwrap();
    assert_eq!(markdown.lines().filter(|line| line.starts_with("**MODE:**")).count(), 1, "{markdown}");
}

/// A symbol or a model's name is text in the Markdown report, whatever it spells.
#[test]
fn names_from_telemetry_are_no_markup() {
    let mut capture = Capture::new();
    for index in 0..100 {
        let symbol = ["![](http://evil/p.png)", "**MODE:** COLLECTION", "[x](y)_z_&amp;"][index % 3];
        capture.push_intent_of(symbol, &[("xgb", healthy(index))]);
    }
    let directory = with(&capture);
    assert_eq!(gate(directory.path(), &["--mode", "collection"]).code, Some(3));
    let report = directory.path().join("reports/safety/quality_gate_20260110_054315_collection.md");
    let markdown = fs::read_to_string(report).unwrap();
    assert!(markdown.contains("\\!\\[\\](http://evil/p.png)"), "{markdown}");
    assert!(markdown.contains("\\[x\\](y)\\_z\\_\\&amp;"), "{markdown}");
    assert_eq!(markdown.matches("**MODE:**").count(), 1, "{markdown}");
}

#[test]
fn reports_on_simulated_events_say_so_at_their_head() {
    let terms = Terms { mode: Mode::Canary, require: Require::Any, requested: 0, cutover: None };
    let verdict = QualityGate::new(terms).finish(&Rules::default(), None);
    let sane = SanityGate::new().finish(&Rules::default(), None);
    for synthetic in [true, false] {
        let header = Header { now: 0, source: "x".to_owned(), build: "y".to_owned(), synthetic };
        let directory = TempDir::new().unwrap();
        let report = report::write_quality(&verdict, &header, directory.path()).unwrap();
        let markdown = fs::read_to_string(&report.files.markdown).unwrap();
        assert_eq!(
            names(directory.path()),
            ["html", "json", "md"].map(|ending| format!("quality_gate_19700101_000000.{ending}"))
        );
        let page = fs::read_to_string(report.files.html.unwrap()).unwrap();
        let heads = [
            markdown.split("## Events").next().unwrap(),
            page.split("<main>").next().unwrap(),
            &report.text,
            &report::sanity_text(&sane, &header),
        ]
        .map(|text| text.contains("SYNTHETIC"));
        assert_eq!(heads, [synthetic; 4]);
        assert_eq!(report.document["synthetic"], synthetic);
    }
}

#[test]
fn help_has_an_example_that_parses() {
    for command in ["quality-gate", "feature-sanity"] {
        let run = qsc::run([command, "--help"]);
        assert_eq!(run.code, Some(0));
        assert!(
            run.stdout.contains("Example:") && run.stdout.contains("Exit codes: 0 passed"),
            "{}",
            run.stdout
        );
        let words = run.stdout.split("Example:").nth(1).unwrap().split_whitespace().skip(1);
        // Nothing listens there: a refusal, but no usage error.
        let words = words.map(|word| word.replace("127.0.0.1:6379", "127.0.0.1:1"));
        qsc::run(words).assert_refused(&["cannot reach Redis at 127.0.0.1:1"]);
    }
}
