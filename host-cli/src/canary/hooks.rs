//! Hooks: a command that hears of a transition after it has taken effect. It can be slow, fail or hang; nothing waits for
//! it longer than [`TIMEOUT`], and nothing depends on it.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;

/// How long a hook may run.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// Runs `command` in a shell with `event` as its stdin; what went wrong, in words.
///
/// # Errors
/// It could not be started, failed, or did not end in time (then it and what it started were killed).
pub fn run(command: &str, event: &Value, timeout: Duration) -> Result<(), String> {
    let mut child = Command::new("/bin/sh")
        .args(["-c", command])
        .stdin(Stdio::piped())
        // Stdout holds the result of qsc and nothing else.
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(|error| format!("the hook cannot be started: {error}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        let text = format!("{event}\n");
        // A hook that never reads must not hold the writer; one that has ended is seen below.
        thread::spawn(move || drop(stdin.write_all(text.as_bytes())));
    }
    let deadline = Instant::now() + timeout;
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => return Err(format!("the hook failed: {status}")),
            Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(10)),
            Ok(None) => {
                if let Some(group) = Pid::from_raw(i32::try_from(child.id()).unwrap_or(0)) {
                    // Gone already is as good.
                    let _ = kill_process_group(group, Signal::KILL);
                }
                let _ = child.wait();
                return Err(format!("the hook did not end within {timeout:?} and was killed"));
            }
            Err(error) => return Err(format!("the hook cannot be waited for: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_hook_hears_the_event_and_its_fate_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("heard");
        let event = json!({"event": "rolled_back"});
        run(&format!("cat > {}", file.display()), &event, TIMEOUT).unwrap();
        assert_eq!(std::fs::read_to_string(file).unwrap(), format!("{event}\n"));
        assert!(run("exit 3", &event, TIMEOUT).unwrap_err().contains("exit status: 3"));
        let started = Instant::now();
        let hangs = run("sleep 60 & sleep 60", &event, Duration::from_millis(200));
        assert!(hangs.unwrap_err().contains("killed"));
        assert!(started.elapsed() < Duration::from_secs(10));
    }
}
