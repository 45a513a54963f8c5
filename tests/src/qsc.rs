//! Running the real binary.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

/// How a run of `qsc` ended.
#[derive(Debug)]
pub struct Run {
    /// Exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

impl Run {
    /// Stdout as the one JSON document it must be.
    ///
    /// # Panics
    /// If it is not.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Checks that the run ended with exit 1, no result, and one sentence on stderr that contains every `part`.
    ///
    /// # Panics
    /// If it did not.
    pub fn assert_refused(&self, parts: &[&str]) {
        assert_eq!(self.code, Some(1), "{self:?}");
        assert_eq!(self.stdout, "", "a refusal has no result");
        assert!(self.stderr.starts_with("QSC FAIL-CLOSED: "), "{self:?}");
        assert_eq!(self.stderr.trim_end().lines().count(), 1, "one sentence: {self:?}");
        for part in parts {
            assert!(self.stderr.contains(part), "{part:?} is not in {self:?}");
        }
    }
}

/// The binary: `QSC_BIN` if set, else built from this workspace, once per process.
///
/// # Panics
/// If it cannot be built.
#[must_use]
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| std::env::var_os("QSC_BIN").map_or_else(build, PathBuf::from))
}

fn build() -> PathBuf {
    // In the profile of this test, whose executable is in target/<profile>/deps.
    let this = std::env::current_exe().expect("a test has an executable");
    let profile = match this.ancestors().nth(2).and_then(Path::file_name).and_then(OsStr::to_str) {
        None | Some("debug") => "dev",
        Some(profile) => profile,
    };
    let output = Command::new(env!("CARGO"))
        .args([
            "build",
            "--quiet",
            "-p",
            "qsc-cli",
            "--bin",
            "qsc",
            "--message-format",
            "json",
            "--profile",
            profile,
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "qsc does not build");
    let messages = String::from_utf8(output.stdout).expect("cargo writes UTF-8");
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == "qsc")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .expect("cargo names the executable it built")
}

/// A `qsc` command in a clean environment: no `QSC_…` variable of the caller reaches it.
#[must_use]
pub fn command<Arguments>(arguments: Arguments) -> Command
where
    Arguments: IntoIterator,
    Arguments::Item: AsRef<OsStr>,
{
    let mut command = Command::new(binary());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("QSC_") {
            command.env_remove(name);
        }
    }
    command.args(arguments);
    command
}

/// Runs `qsc` with `arguments` and an empty stdin.
///
/// # Panics
/// If it cannot be started.
pub fn run<Arguments>(arguments: Arguments) -> Run
where
    Arguments: IntoIterator,
    Arguments::Item: AsRef<OsStr>,
{
    finish(command(arguments), &[])
}

/// Runs a prepared command to its end with `stdin` as its input.
///
/// # Panics
/// If it cannot be started, or writes something that is not UTF-8.
pub fn finish(mut command: Command, stdin: &[u8]) -> Run {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    // A command that refuses before it reads closes its end; that is no fault of the test.
    let mut pipe = child.stdin.take().expect("stdin is piped");
    let output = std::thread::scope(|scope| {
        scope.spawn(move || {
            let _ = pipe.write_all(stdin);
        });
        child.wait_with_output().expect("the binary ends")
    });
    Run {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("stdout is UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("stderr is UTF-8"),
    }
}
