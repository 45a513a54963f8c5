//! The command line's outer edge: usage errors, help, closed pipes, colours.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::{Command, Stdio};

use qsc_cli::{args, settings};
use qsc_tests::bundle::{self, text};
use qsc_tests::qsc::{self, Run};
use tempfile::TempDir;

/// Every command that does something, by its words.
fn commands() -> Vec<Vec<String>> {
    let mut commands = Vec::new();
    settings::each_command(&args::command_tree(), &mut |path, _| {
        commands.push(path.split(' ').map(str::to_owned).collect());
    });
    assert!(commands.len() >= 14, "{commands:?}");
    commands
}

fn help(command: &[String]) -> String {
    let run = qsc::run(command.iter().map(String::as_str).chain(["--help"]));
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{run:?}");
    run.stdout
}

#[test]
fn wrong_arguments_are_64_and_never_a_verdict() {
    for arguments in [
        &[][..],
        &["nonsense"],
        &["--nonsense"],
        &["model"],
        &["model", "nonsense"],
        &["predict"],
        &["predict", "x.qsm"],
        &["predict", "x.qsm", "--input", "x.npy", "--nonsense"],
        &["build-info", "superfluous"],
        &["build-info", "--format", "yaml"],
        &["model", "compile", "x.json"],
        &["model", "compile", "x.json", "--output", "x.qsm", "--from", "keras"],
        &["model", "compile", "x.json", "--output", "x.qsm", "--classes", "UP,DOWN"],
        &["model", "compile", "x.json", "--output", "x.qsm", "--iterations", "0"],
        &["model", "compile", "x.json", "--output", "x.qsm", "--iterations", "most"],
        &["model", "verify", "x.qsm", "--input", "x.npy"],
        &["model", "verify", "x.qsm", "--expected", "x.npy"],
        &["model", "verify", "x.qsm", "--tolerance", "-1"],
        &["model", "verify", "x.qsm", "--tolerance", "NaN"],
        &["run", "--source", "file:x", "--sink", "file:y"],
        &["run", "--source", "x.jsonl", "--sink", "file:y", "--models", "M.toml"],
        &["run", "--source", "file:x", "--sink", "y.jsonl", "--models", "M.toml"],
        &["run", "--source", "file:", "--sink", "-", "--models", "M.toml"],
        &["run", "--source", "http://h:1", "--sink", "-", "--models", "M.toml"],
        &["run", "--source", "file:x", "--sink", "redis://h/db", "--models", "M.toml"],
        &["run", "--source", "file:x", "--sink", "-", "--models", "M.toml", "--lease", "10ms"],
        &["run", "--source", "file:x", "--sink", "-", "--models", "M.toml", "--batch", "0"],
        &["run", "--source", "redis://h", "--sink", "redis://h", "--models", "M.toml", "--group", ""],
        &["run", "--source", "redis://h", "--sink", "redis://h", "--models", "M.toml", "--consumer", ""],
        &["run", "--source", "redis://h", "--sink", "redis://h", "--models", "M.toml", "--stream", ""],
        &["run", "--source", "redis://h", "--sink", "redis://h", "--models", "M.toml", "--sink-stream", ""],
        &["quality-gate", "--source", "redis://h", "--mode", "canary", "--stream", ""],
        &["quality-gate", "--source", "file:x", "--mode", "canary", "--after", "20260110"],
        &["run", "--source", "redis+unix:///s?database=2", "--sink", "-", "--models", "M.toml"],
        &[
            "run",
            "--source",
            "file:x",
            "--sink",
            "-",
            "--models",
            "M.toml",
            "--intents-maxlen",
            "9223372036854775808",
        ],
        &["stream", "verify", "--source", "redis://h", "--group", ""],
        &["stream", "verify", "--stream", "x"],
        &["run", "--source", "file:x", "--sink", "-", "--models", "M.toml", "--format", "json"],
    ] {
        let run = qsc::run(arguments);
        assert_eq!((run.code, run.stdout.as_str()), (Some(64), ""), "{arguments:?}: {run:?}");
        assert!(!run.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_password_in_a_wrong_source_is_not_shown() {
    for source in ["redis://u:hunter2@h:port", "postgres://u:hunter2@h"] {
        let run = qsc::run(["run", "--source", source, "--sink", "-", "--models", "M.toml"]);
        assert_eq!(run.code, Some(64));
        assert!(run.stderr.contains("--source") && !run.stderr.contains("hunter2"), "{run:?}");
    }
}

#[test]
fn help_and_version_are_results() {
    let run = qsc::run(["--version"]);
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""));
    assert_eq!(run.stdout, format!("qsc {}\n", env!("CARGO_PKG_VERSION")));
    let top = help(&[]);
    for command in commands() {
        assert!(top.contains(&command[0]), "{top}");
    }
}

/// Words as a shell splits them; what stands in single quotes is one.
fn shell_words(line: &str) -> Vec<&str> {
    fn words((at, piece): (usize, &str)) -> Vec<&str> {
        if at % 2 == 0 { piece.split_whitespace().collect() } else { vec![piece] }
    }
    line.split('\'').enumerate().flat_map(words).collect()
}

/// What fails is the file or server the example names, not its arguments.
#[test]
fn every_help_ends_with_an_example_that_parses() {
    let directory = TempDir::new().unwrap();
    for command in commands() {
        let help = help(&command);
        let (_, example) = help.rsplit_once("Example:\n").unwrap_or_else(|| panic!("{command:?}: {help}"));
        let example = example.replace("\\\n", " ");
        let words: Vec<&str> = shell_words(&example);
        assert_eq!(words[0], "qsc", "{example}");
        assert_eq!(&words[1..=command.len()], &command, "{example}");
        let mut run = qsc::command(&words[1..]);
        // No program is found: an example must not restart a service of this machine.
        run.current_dir(directory.path()).env("PATH", directory.path());
        let run = qsc::finish(run, &[]);
        assert!(run.code.is_some_and(|code| code != 64), "{command:?}: {run:?}");
    }
}

/// Runs with the reading end of a pipe closed beforehand.
fn into_closed_pipe(arguments: &[&str], closed: fn(&mut Command, Stdio)) -> Run {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = qsc::command(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    closed(&mut command, writer.into());
    let output = command.output().unwrap();
    Run {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

#[test]
fn a_closed_stdout_is_no_panic() {
    let directory = TempDir::new().unwrap();
    let models = bundle::write_models(directory.path(), "", "");
    let (xgb, rows) = (bundle::file("images/xgb.qsm"), bundle::file("trained/rows_xgb.npy"));
    let source = format!("file:{}", text(&bundle::file("capture/features.jsonl")));
    let close = |command: &mut Command, pipe: Stdio| {
        command.stdout(pipe);
    };
    for arguments in [
        &["--help"][..],
        &["build-info"],
        &["model", "inspect", text(&xgb)],
        &["model", "verify", text(&xgb), "--format", "json"],
        &["predict", text(&xgb), "--input", text(&rows)],
        &["predict", text(&xgb), "--input", text(&rows), "--format", "json"],
        &["run", "--source", &source, "--sink", "-", "--models", text(&models)],
    ] {
        let run = into_closed_pipe(arguments, close);
        if arguments == ["--help"] {
            assert_eq!(run.code, Some(0), "{run:?}");
            continue;
        }
        assert_eq!(run.code, Some(1), "{arguments:?}: {run:?}");
        let last = run.stderr.lines().last().unwrap();
        assert!(last.starts_with("QSC FAIL-CLOSED: cannot write ") && last.contains("stdout"), "{last}");
    }
}

#[test]
fn a_closed_stderr_changes_no_exit_code() {
    let directory = TempDir::new().unwrap();
    let models = bundle::write_models(directory.path(), "", "");
    let sink = directory.path().join("intents.jsonl");
    let (source, sink_argument) =
        (format!("file:{}", text(&bundle::file("capture/features.jsonl"))), format!("file:{}", text(&sink)));
    let close = |command: &mut Command, pipe: Stdio| {
        command.stderr(pipe);
    };
    let run = into_closed_pipe(
        &["run", "--source", &source, "--sink", &sink_argument, "--models", text(&models)],
        close,
    );
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(sink.exists());
    assert_eq!(into_closed_pipe(&["model", "inspect", "absent.qsm"], close).code, Some(1));
    assert_eq!(into_closed_pipe(&["nonsense"], close).code, Some(64));
}

#[test]
fn pipes_get_no_colours_and_no_bars() {
    let directory = TempDir::new().unwrap();
    let output = directory.path().join("xgb.qsm");
    let (trained, xgb) = (bundle::file("trained/xgb.ubj"), bundle::file("images/xgb.qsm"));
    for arguments in [
        &["--help"][..],
        &["nonsense"],
        &["predict", "--help"],
        &["model", "compile", text(&trained), "--output", text(&output)],
        &["model", "verify", text(&xgb)],
        &["model", "inspect", "absent.qsm"],
    ] {
        let run = qsc::run(arguments);
        assert!(!run.stdout.contains('\x1b') && !run.stderr.contains('\x1b'), "{run:?}");
        assert!(!run.stderr.contains('\r'), "{run:?}");
    }
}

#[test]
fn json_is_exactly_one_document() {
    let xgb = bundle::file("images/xgb.qsm");
    for (name, more) in [("build-info", None), ("model inspect", Some(&xgb)), ("model verify", Some(&xgb))] {
        let words: Vec<&str> = name.split(' ').chain(more.map(|path| text(path))).collect();
        for arguments in
            [[&["--format", "json"], &words[..]].concat(), [&words[..], &["--format=json"]].concat()]
        {
            let run = qsc::run(&arguments);
            assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{run:?}");
            assert_eq!(
                (run.json()["contract"].as_u64(), run.json()["command"].as_str()),
                (Some(1), Some(name))
            );
        }
    }
    for (arguments, name, text) in
        [(&["completions", "bash"][..], "completions", "script"), (&["man"], "man", "page")]
    {
        let run = qsc::run([arguments, &["--format", "json"]].concat());
        assert_eq!((run.code, &run.json()["command"]), (Some(0), &name.into()), "{run:?}");
        assert_eq!(run.json()[text], *qsc::run(arguments).stdout, "{name}");
    }
    let mut command = qsc::command(["build-info"]);
    command.env("QSC_FORMAT", "json");
    assert_eq!(
        qsc::finish(command, &[]).json()["command"],
        "build-info",
        "flags also come from the environment"
    );
}
