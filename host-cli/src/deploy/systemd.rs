//! The service manager, asked and told through `systemctl`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde::{Deserialize, Serialize};

use super::child::{self, Output};

/// There exactly while systemd is PID 1, as `sd_booted` has it.
const BOOTED: &str = "/run/systemd/system";
/// Longest time the manager may take for an answer.
const ANSWER: Duration = Duration::from_secs(20);
/// `systemctl` ends so where the caller has no right.
const NO_PERMISSION: i32 = 4;

/// The name of a service unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitName(String);

impl UnitName {
    /// Reads `name.service`, or `name`, as `systemctl` does.
    ///
    /// # Errors
    /// It names no service: another kind of unit, a path, a pattern.
    pub fn parse(text: &str) -> Result<Self, String> {
        let name = match text.rsplit_once('.') {
            Some((_, "service")) => text.to_owned(),
            Some((_, kind @ ("socket" | "target" | "timer" | "path" | "mount" | "slice" | "scope"))) => {
                return Err(format!("a {kind} has no build; name a service"));
            }
            _ => format!("{text}.service"),
        };
        // Of a name that begins with a hyphen, systemctl would make an option; of a star, a pattern.
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b":_.\\@-".contains(&byte);
        let stem = name.trim_end_matches(".service");
        let valid = !stem.is_empty() && !name.starts_with(['-', '.']) && name.len() <= 255;
        if valid && name.bytes().all(allowed) {
            Ok(Self(name))
        } else {
            Err("expected the name of one service, e.g. qsc.service".to_owned())
        }
    }

    /// The name with its suffix.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UnitName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// What the manager says of a unit.
#[derive(Clone, Debug)]
pub(super) struct UnitState {
    /// `loaded`, `not-found`, `masked`, …
    pub(super) load: String,
    /// `active`, `inactive`, `failed`, `activating`, …
    pub(super) active: String,
    sub: String,
    result: String,
    status: String,
    /// Identifies this start of the service.
    pub(super) invocation: Option<String>,
    /// The main process, if there is one.
    pub(super) main_pid: Option<u32>,
    /// The unit's file has changed since the manager has read it.
    pub(super) needs_reload: bool,
}

impl UnitState {
    /// No process of the service is meant to run.
    pub(super) fn is_stopped(&self) -> bool {
        matches!(self.active.as_str(), "inactive" | "failed")
    }
}

impl fmt::Display for UnitState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "it is {} ({})", self.active, self.sub)?;
        if self.result != "success" {
            write!(formatter, ", result {}, exit status {}", self.result, self.status)?;
        }
        Ok(())
    }
}

/// Refuses where systemd does not manage this machine.
///
/// # Errors
/// It does not.
pub(super) fn ensure_booted() -> anyhow::Result<()> {
    ensure!(
        Path::new(BOOTED).is_dir(),
        "systemd does not manage this machine ({BOOTED} is missing); run qsc deploy where the service runs"
    );
    Ok(())
}

/// What the manager says of `unit`.
///
/// # Errors
/// It does not answer, or in a form not known here.
pub(super) fn show(unit: &UnitName) -> anyhow::Result<UnitState> {
    let properties = "--property=LoadState,ActiveState,SubState,Result,ExecMainStatus,InvocationID,MainPID,\
                      NeedDaemonReload";
    let text = query(&["show", properties, "--", unit.as_str()])?;
    let property = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
            .map(str::to_owned)
            .with_context(|| format!("systemctl show does not tell {name} of {unit}"))
    };
    let pid: u32 =
        property("MainPID")?.parse().context("systemctl show tells a MainPID that is no number")?;
    Ok(UnitState {
        load: property("LoadState")?,
        active: property("ActiveState")?,
        sub: property("SubState")?,
        result: property("Result")?,
        status: property("ExecMainStatus")?,
        invocation: Some(property("InvocationID")?).filter(|id| id.bytes().any(|digit| digit != b'0')),
        main_pid: Some(pid).filter(|&pid| pid != 0),
        needs_reload: property("NeedDaemonReload")? != "no",
    })
}

/// The program `ExecStart` names.
///
/// # Errors
/// The unit has none.
pub(super) fn program(unit: &UnitName) -> anyhow::Result<PathBuf> {
    let text = query(&["show", "--property=ExecStart", "--value", "--", unit.as_str()])?;
    let path = text.strip_prefix("{ path=").and_then(|rest| rest.split_once(" ; argv[]="));
    let (path, _) = path.with_context(|| {
        format!("systemctl show tells no ExecStart of {unit}; name its program with --executable")
    })?;
    Ok(path.into())
}

/// Stops the unit; `None` if that takes longer than `patience`.
///
/// # Errors
/// The manager cannot be asked, or the caller may not.
pub(super) fn stop(unit: &UnitName, patience: Duration) -> anyhow::Result<Option<Output>> {
    tell("stop", unit, patience)
}

/// Starts the unit and waits until it is active; `None` if that takes longer than `patience`.
///
/// # Errors
/// The manager cannot be asked, or the caller may not.
pub(super) fn start(unit: &UnitName, patience: Duration) -> anyhow::Result<Option<Output>> {
    tell("start", unit, patience)
}

fn tell(verb: &str, unit: &UnitName, patience: Duration) -> anyhow::Result<Option<Output>> {
    let output = child::run("systemctl", &["--no-ask-password", verb, "--", unit.as_str()], patience)?;
    if let Some(output) = &output
        && output.code == Some(NO_PERMISSION)
    {
        bail!("systemd does not let this user {verb} {unit}: {}; run qsc deploy as root", output.complaint());
    }
    Ok(output)
}

fn query(arguments: &[&str]) -> anyhow::Result<String> {
    let mut all = vec!["--no-pager"];
    all.extend(arguments);
    match child::run("systemctl", &all, ANSWER)? {
        Some(output) if output.success => Ok(output.stdout),
        Some(output) => bail!("systemctl cannot be asked: {}; check that systemd runs", output.complaint()),
        None => bail!("systemctl gave no answer in {} s; check that systemd runs", ANSWER.as_secs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_service_can_be_named() {
        for (text, name) in [
            ("qsc", "qsc.service"),
            ("qsc.service", "qsc.service"),
            ("quantum-ai-engine.service", "quantum-ai-engine.service"),
            ("engine@a\\x2db.service", "engine@a\\x2db.service"),
            ("engine-1.2", "engine-1.2.service"),
        ] {
            assert_eq!(UnitName::parse(text).unwrap().as_str(), name);
        }
        for text in
            ["", ".service", "-H.service", "--root=x", "a b", "*", "a/b.service", "x.socket", "é", "a\nb"]
        {
            assert!(UnitName::parse(text).is_err(), "{text}");
        }
    }
}
