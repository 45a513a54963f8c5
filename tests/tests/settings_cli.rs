//! Settings through the binary: flag beats environment beats file beats default, and what is unknown is refused.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::Command;

use qsc_cli::{args, settings};
use qsc_tests::bundle::names_in;
use qsc_tests::capture::healthy_capture;
use qsc_tests::qsc::{self, Run};
use serde_json::{Value, json};
use tempfile::TempDir;

fn scratch(toml: &str) -> TempDir {
    let directory = TempDir::new().unwrap();
    healthy_capture(150).write(directory.path(), "capture.jsonl");
    fs::write(directory.path().join("qsc.toml"), toml).unwrap();
    directory
}

fn run(directory: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Run {
    let mut command: Command = qsc::command(arguments);
    command.current_dir(directory).envs(variables.iter().copied());
    qsc::finish(command, &[])
}

const BASE: &str =
    "source = \"file:capture.jsonl\"\nformat = \"json\"\n[quality-gate]\nmode = \"collection\"\n";

#[test]
fn a_flag_beats_the_environment_beats_the_file_beats_the_default() {
    let directory = scratch(BASE);
    let directory = directory.path();
    let gate = ["--settings", "qsc.toml", "quality-gate"];
    let judged = run(directory, &gate, &[]);
    assert_eq!((judged.code, &judged.json()["mode"]), (Some(3), &json!("collection")));
    let judged = run(directory, &gate, &[("QSC_MODE", "canary")]);
    assert_eq!((judged.code, &judged.json()["mode"]), (Some(2), &json!("canary")));
    let judged = run(directory, &[&gate[..], &["--mode=collection"]].concat(), &[("QSC_MODE", "canary")]);
    assert_eq!(judged.code, Some(3));
    // The flag may stand behind the command, and the variable may name the file.
    assert_eq!(run(directory, &["quality-gate", "--settings=qsc.toml"], &[]).code, Some(3));
    assert_eq!(run(directory, &["quality-gate"], &[("QSC_SETTINGS", "qsc.toml")]).code, Some(3));
    assert_eq!(run(directory, &["quality-gate"], &[]).code, Some(64), "without the file it is incomplete");
}

#[test]
fn unknown_keys_and_broken_files_are_refused_in_one_sentence() {
    for (toml, named) in [
        ("sauce = \"x\"\n", "\"sauce\""),
        ("[quality-gate]\nallow-flat = \"x\"\n", "\"allow-flat\""),
        ("[quality]\nmode = \"canary\"\n", "[quality]"),
        ("[rules]\nmax_actoin_pct = 70\n", "max_actoin_pct"),
        ("[rules]\nmin_confidence_std = -0.1\n", "[rules]"),
        ("[rules]\nmin_confidence_std = nan\n", "[rules]"),
        ("[rules]\nmax_action_pct = \"70\"\n", "[rules]"),
        ("mode = [unclosed\n", "line 1"),
        ("[quality-gate]\nmode = \"a\"\nmode = \"b\"\n", "line 3"),
    ] {
        let directory = scratch(toml);
        let refused = run(
            directory.path(),
            &["quality-gate", "--settings", "qsc.toml", "--source", "file:capture.jsonl", "--mode", "canary"],
            &[],
        );
        refused.assert_refused(&["qsc.toml", named]);
        assert_eq!(names_in(directory.path()), ["capture.jsonl", "qsc.toml"], "nothing was judged");
    }
    let directory = scratch("");
    for missing in ["absent.toml", "."] {
        run(directory.path(), &["build-info", "--settings", missing], &[]).assert_refused(&["settings"]);
    }
    assert_eq!(run(directory.path(), &["build-info"], &[("QSC_SETTINGS", "")]).code, Some(64));
    // A value of the wrong kind is a usage error, wherever it comes from.
    let directory = scratch("source = \"file:capture.jsonl\"\n[quality-gate]\nmode = \"live\"\n");
    assert_eq!(run(directory.path(), &["quality-gate", "--settings", "qsc.toml"], &[]).code, Some(64));
}

#[test]
fn loosened_rules_are_used_and_named_at_the_head_of_every_report() {
    let rules = "[rules]\nmax_action_pct = 30\ncanary_min_events = 50\nmin_p10_p90_range = 0.2\n";
    let directory = scratch(&format!("{BASE}{rules}"));
    let gate =
        ["quality-gate", "--settings", "qsc.toml", "--mode", "canary", "--now", "2026-01-10T05:43:15Z"];
    let judged = run(directory.path(), &gate, &[]);
    let json = judged.json();
    assert_eq!((judged.code, &json["events"]["min"]), (Some(2), &json!(50)), "30 % is stricter: no model");
    assert_eq!(json["loosened"], json!(["min_events 50 (default 200)"]));
    assert_eq!(json["evidence"]["rules"]["max_action_pct"], 30.0);
    let failed = json["models"]["xgb"]["failures"].as_array().unwrap();
    assert_eq!(
        (failed[0]["check"].as_str(), failed[0]["threshold"].as_f64()),
        (Some("majority_class"), Some(30.0))
    );
    for ending in ["md", "html"] {
        let name = format!("reports/safety/quality_gate_20260110_054315.{ending}");
        let report = fs::read_to_string(directory.path().join(name)).unwrap();
        let head = report.split(if ending == "md" { "## Events" } else { "<main>" }).next().unwrap();
        assert!(head.contains("min_events 50 (default 200)"), "{ending}");
        assert!(report.contains("max_action_pct"), "every report shows the rules");
    }
    let flat = "[rules]\nallow_flat = [\"macd\"]\n";
    let directory = scratch(&format!("{BASE}{flat}"));
    let sane = run(directory.path(), &["feature-sanity", "--settings", "qsc.toml", "--after", "0"], &[]);
    assert_eq!(sane.json()["loosened"], json!(["allow_flat macd (default none)"]));
}

#[test]
fn config_show_names_each_value_and_its_origin() {
    let directory = scratch(&format!("{BASE}[rules]\nmax_hold_pct = 90\n"));
    let variables = [("QSC_COUNT", "77"), ("QSC_SOURCE", "redis://u:hunter2@h")];
    let show = ["config", "show", "--settings", "qsc.toml"];
    let shown = run(directory.path(), &show, &variables);
    assert_eq!(shown.code, Some(0), "{shown:?}");
    assert!(!shown.stdout.contains("hunter2"), "{shown:?}");
    let json = shown.json();
    let setting = |command: &str, key: &str| {
        let line = &json["settings"][command][key];
        (line["value"].clone(), line["origin"].as_str().unwrap_or("?").to_owned())
    };
    assert_eq!(setting("quality-gate", "mode"), (json!("collection"), "file qsc.toml".to_owned()));
    assert_eq!(setting("quality-gate", "count"), (json!("77"), "environment QSC_COUNT".to_owned()));
    assert_eq!(setting("quality-gate", "report-dir"), (json!("reports/safety"), "default".to_owned()));
    assert_eq!(setting("quality-gate", "after"), (Value::Null, "not set".to_owned()));
    assert_eq!(setting("scoreboard", "watch"), (json!(false), "default".to_owned()));
    assert_eq!(setting("rules", "max_hold_pct"), (json!(90.0), "file qsc.toml".to_owned()));
    assert_eq!(setting("rules", "max_action_pct"), (json!(70.0), "default".to_owned()));
    // The demo's directory is its own: a directory for real reports must not become it.
    assert_eq!(setting("demo", "demo-dir"), (json!("reports/demo"), "default".to_owned()));

    let text = run(
        directory.path(),
        &["config", "show", "quality-gate", "--settings", "qsc.toml", "--format", "text"],
        &[("QSC_SOURCE", "redis://u:hunter2@h")],
    );
    assert_eq!(text.code, Some(0), "{text:?}");
    assert!(
        text.stdout.contains("[quality-gate]") && text.stdout.contains("environment QSC_SOURCE"),
        "{text:?}"
    );
    assert!(!text.stdout.contains("hunter2") && !text.stdout.contains("[run]"), "{text:?}");
    run(directory.path(), &["config", "show", "nonsense"], &[]).assert_refused(&["\"nonsense\""]);

    // What is not valid is named with its place.
    run(directory.path(), &show, &[("QSC_COUNT", "abc")])
        .assert_refused(&["environment's QSC_COUNT", "'abc'"]);
    let directory = scratch("[quality-gate]\ncount = \"abc\"\n");
    run(directory.path(), &show, &[]).assert_refused(&["qsc.toml", "quality-gate", "'abc'"]);
}

/// By the tree itself: a flag added tomorrow is held to it too.
#[test]
fn every_flag_of_every_command_has_a_variable_and_a_key() {
    let tree = args::command_tree();
    let mut flags = 0;
    settings::each_command(&tree, &mut |path, command| {
        for arg in command.get_arguments().filter(|arg| arg.get_long().is_some_and(|long| long != "help")) {
            assert!(settings::key(arg).is_some(), "{path} {arg}");
            flags += 1;
        }
    });
    assert!(flags > 30, "{flags}");
}

#[test]
fn completions_and_manual_pages_know_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = qsc::run(["completions", shell]);
        assert_eq!(script.code, Some(0));
        assert!(script.stdout.contains("quality-gate") && script.stdout.contains("report-dir"), "{shell}");
    }
    assert_eq!(qsc::run(["completions", "cmd"]).code, Some(64));
    let directory = TempDir::new().unwrap();
    let man = run(directory.path(), &["man", "--output", "man1", "--format", "json"], &[]);
    assert_eq!(man.code, Some(0), "{man:?}");
    let pages = names_in(&directory.path().join("man1"));
    settings::each_command(&args::command_tree(), &mut |path, _| {
        let page = format!("qsc-{}.1", path.replace(' ', "-"));
        assert!(pages.contains(&page), "{page} is not in {pages:?}");
        let text = fs::read_to_string(directory.path().join("man1").join(page)).unwrap();
        assert!(text.contains(".TH") && text.contains("Example"), "{path}");
    });
    run(directory.path(), &["man", "--output", "/proc/man"], &[]).assert_refused(&["/proc/man"]);
    assert!(qsc::run(["man"]).stdout.contains(".TH qsc 1"));
}

/// What goes together on the command line goes together in the file.
#[test]
fn one_half_of_the_shards_is_refused() {
    for half in ["shards = \"0-3\"\n", "shard-count = 4\n"] {
        let directory = scratch(half);
        let url = "redis://127.0.0.1:1";
        let arguments =
            ["run", "--settings", "qsc.toml", "--source", url, "--sink", url, "--models", "MODELS.toml"];
        let run = run(directory.path(), &arguments, &[]);
        assert_eq!(run.code, Some(64), "{run:?}");
        assert!(run.stderr.contains("shards and shard-count go together"), "{run:?}");
    }
}

/// A gate without a source would be no gate, a report nobody's key is asked for no evidence.
#[test]
fn flags_that_do_not_go_together_are_refused_from_a_file_too() {
    let activate = ["canary", "activate", "--model", "xgb", "--cutover", "2026-01-10T05:43:15Z"];
    let activate = [&activate[..], &["--models", "MODELS.toml", "--source", "file:capture.jsonl"]].concat();
    for (settings, arguments, words) in [
        ("gate = true", &["deploy", "--unit", "a.service"][..], "gate needs a source"),
        (
            "warn-only = true",
            &["deploy", "--unit", "a.service", "--gate", "--source", "redis://127.0.0.1:1"],
            "gate and warn-only exclude one another",
        ),
        ("signed-report = 'report.json'", &activate, "signed-report needs require-signed"),
        ("input = 'rows.npy'", &["model", "verify", "xgb.qsm"], "input and expected go together"),
    ] {
        let directory = scratch(settings);
        let run = run(directory.path(), &[arguments, &["--settings", "qsc.toml"]].concat(), &[]);
        assert_eq!(run.code, Some(64), "{settings}: {run:?}");
        assert!(run.stderr.contains(words), "{settings}: {run:?}");
    }
}

#[test]
fn a_pause_of_nothing_is_refused() {
    let directory = scratch("");
    let url = "redis://127.0.0.1:1";
    let arguments = ["run", "--source", url, "--sink", url, "--models", "m", "--redis-backoff", "0s"];
    let run = run(directory.path(), &arguments, &[]);
    assert_eq!(run.code, Some(64), "{run:?}");
    assert!(run.stderr.contains("a time above zero"), "{run:?}");
}
