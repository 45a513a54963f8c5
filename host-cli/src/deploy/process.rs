//! Processes: whether one is gone, and which program one runs.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::digest;

/// A process that cannot be mistaken for a later one with its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Process {
    pub(super) pid: u32,
    /// In clock ticks since the machine was started.
    started: u64,
}

impl Process {
    /// The process that has the number now; `None` if there is none.
    pub(super) fn find(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // proc(5): the second field, a name in parentheses, may contain anything; the start time is field 22.
        let (_, fields) = stat.rsplit_once(')')?;
        Some(Self { pid, started: fields.split_whitespace().nth(19)?.parse().ok()? })
    }

    /// True once it has ended.
    pub(super) fn is_gone(&self) -> bool {
        Self::find(self.pid) != Some(*self)
    }
}

/// SHA-256 of the program the process runs, also when its file has been replaced or removed since.
///
/// # Errors
/// There is no such process, or the caller may not look into it.
pub(super) fn running_sha256(pid: u32) -> anyhow::Result<String> {
    let path = format!("/proc/{pid}/exe");
    digest::sha256_of(Path::new(&path)).with_context(|| {
        format!("cannot read the program that runs as PID {pid} ({path}); run qsc deploy as root")
    })
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_is_known_by_its_number_and_its_start() {
        let mut child = Command::new("sleep").arg("30").stdin(Stdio::null()).spawn().unwrap();
        let process = Process::find(child.id()).unwrap();
        assert!(!process.is_gone());
        assert!(
            Process { started: process.started + 1, ..process }.is_gone(),
            "another with the same number"
        );
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(process.is_gone());
        assert_eq!(Process::find(child.id()), None);
    }

    #[test]
    fn the_running_program_is_this_one() {
        let this = std::env::current_exe().unwrap();
        assert_eq!(running_sha256(std::process::id()).unwrap(), digest::sha256_of(&this).unwrap());
        assert!(running_sha256(u32::MAX).is_err());
    }
}
