//! Programs of the system, run to their end or to a deadline: no shell, an argument list, messages in English.

use std::io::Read;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;

/// What one call may say at most; more than this is no answer.
const LONGEST: u64 = 64 << 20;
const POLL: Duration = Duration::from_millis(10);

/// How a program ended.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) success: bool,
    /// `None` if a signal ended it.
    pub(super) code: Option<i32>,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl Output {
    /// What it complained of, on one line.
    pub(super) fn complaint(&self) -> String {
        self.stderr.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

/// Runs `program`; `None` if it had not ended after `patience` and was killed.
///
/// # Errors
/// It cannot be started.
pub(super) fn run(program: &str, arguments: &[&str], patience: Duration) -> anyhow::Result<Option<Output>> {
    let deadline = Instant::now() + patience;
    let mut child = Command::new(program)
        .args(arguments)
        .envs([("LC_ALL", "C"), ("SYSTEMD_COLORS", "0"), ("SYSTEMD_URLIFY", "0"), ("SYSTEMD_PAGER", "")])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {program}; install systemd's tools or correct PATH"))?;
    // Read while it runs: a full pipe would stop it.
    let stdout = child.stdout.take().map(|pipe| thread::spawn(|| text(pipe)));
    let stderr = child.stderr.take().map(|pipe| thread::spawn(|| text(pipe)));
    let status = loop {
        if let Some(status) = child.try_wait().with_context(|| format!("cannot wait for {program}"))? {
            break status;
        }
        if Instant::now() >= deadline {
            child.kill().and_then(|()| child.wait()).with_context(|| format!("cannot end {program}"))?;
            return Ok(None);
        }
        thread::sleep(POLL);
    };
    let text = |reader: Option<thread::JoinHandle<String>>| {
        reader.and_then(|reader| reader.join().ok()).unwrap_or_default()
    };
    Ok(Some(Output {
        success: status.success(),
        code: status.code(),
        stdout: text(stdout),
        stderr: text(stderr),
    }))
}

fn text(pipe: impl Read) -> String {
    let mut bytes = Vec::new();
    // What was read before an error is what there is.
    let _ = pipe.take(LONGEST).read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_and_exit_code_come_back_and_nothing_runs_on() {
        let long = Duration::from_secs(30);
        let output = run("sh", &["-c", "echo out; echo ' err\n more' >&2; exit 3"], long).unwrap().unwrap();
        assert_eq!((output.success, output.code, output.stdout.as_str()), (false, Some(3), "out\n"));
        assert_eq!(output.complaint(), "err more");
        let started = Instant::now();
        assert!(run("sleep", &["30"], Duration::from_millis(50)).unwrap().is_none());
        assert!(started.elapsed() < Duration::from_secs(20));
        assert!(run("qsc-no-such-program", &[], long).is_err());
    }
}
