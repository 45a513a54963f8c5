//! The steps on the service. Each returns what it saw; every wait has its end.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};

use super::build_id::Build;
use super::journal::Journal;
use super::process::{self, Process};
use super::state::{Executable, Record};
use super::systemd::{self, UnitState};
use super::{Halt, Plan};
use crate::digest;
use crate::identity::MARKER;
use crate::stream::format_rfc3339;

/// What a step saw, or why it ends the deployment.
pub(super) type Seen = Result<String, Halt>;

/// Between two looks at what is waited for.
const POLL: Duration = Duration::from_millis(100);
/// Between two readings of the journal.
const JOURNAL_POLL: Duration = Duration::from_millis(300);
/// Looks for the last message of a service that failed.
const LAST_MESSAGE_LOOKS: u32 = 4;

/// The unit can be started as it is on disk, and there are builds that match what is expected; remembers what runs.
pub(super) fn unit(plan: &Plan, record: &mut Record) -> Seen {
    let unit = &plan.unit;
    let state = systemd::show(unit)?;
    match state.load.as_str() {
        "loaded" => {}
        "not-found" => {
            return Err(anyhow!(
                "there is no unit {unit}; see systemctl list-unit-files, then name it with --unit"
            )
            .into());
        }
        other => return Err(anyhow!("the unit {unit} is {other}; see systemctl status {unit}").into()),
    }
    if state.needs_reload {
        return Err(Halt::fail(
            "the unit's file has changed since systemd has read it; nothing was touched",
            "run systemctl daemon-reload, then deploy again",
        ));
    }
    if !plan.warn_only && !matches!(record.expected, Build::Commit(_)) {
        return Err(Halt::fail(
            format!("the expected build is {}, which nothing matches; nothing was touched", record.expected),
            "build from a clean checkout, or give --expect the SHA that was built",
        ));
    }
    let seen = format!("loaded; {state}");
    record.old_process = state.main_pid.and_then(Process::find);
    record.old_invocation = state.invocation;
    Ok(seen)
}

/// Stops the service and waits until its main process is gone.
pub(super) fn stop(plan: &Plan, record: &mut Record) -> Seen {
    let unit = &plan.unit;
    let deadline = Instant::now() + plan.patience;
    let stopped = systemd::stop(unit, plan.patience)?;
    let state = systemd::show(unit)?;
    let kill = || {
        format!("see systemctl status {unit}; systemctl kill --signal=KILL {unit} ends it, then deploy again")
    };
    match stopped {
        None => {
            return Err(Halt::fail(
                format!("not stopped in {} s: {state}", plan.patience.as_secs_f64()),
                format!("{}, or give it longer with --timeout", kill()),
            ));
        }
        Some(output) if !output.success || !state.is_stopped() => {
            return Err(Halt::fail(format!("systemctl stop: {}; {state}", output.complaint()), kill()));
        }
        Some(_) => {}
    }
    let Some(old) = record.old_process else {
        return Ok(format!("it was not running; {state}"));
    };
    while !old.is_gone() {
        if Instant::now() >= deadline {
            return Err(Halt::fail(
                format!("{state}, but its main process {} still runs", old.pid),
                format!("end process {} (look at KillMode= of the unit), then deploy again", old.pid),
            ));
        }
        thread::sleep(POLL);
    }
    Ok(format!("main process {} is gone; {state}", old.pid))
}

/// Starts the service and waits until it is active, as an invocation there was not before.
pub(super) fn start(plan: &Plan, record: &mut Record) -> Seen {
    let unit = &plan.unit;
    let started = systemd::start(unit, plan.patience)?;
    let state = systemd::show(unit)?;
    let next = || format!("see systemctl status {unit} and journalctl --unit={unit}; then deploy again");
    match started {
        None => {
            let seen =
                format!("not active in {} s: {}", plan.patience.as_secs_f64(), with_last_message(&state));
            return Err(Halt::fail(seen, format!("{}, or give it longer with --timeout", next())));
        }
        Some(output) if !output.success || state.active != "active" => {
            return Err(Halt::fail(format!("it does not start: {}", with_last_message(&state)), next()));
        }
        Some(_) => {}
    }
    let (Some(invocation), Some(pid)) = (&state.invocation, state.main_pid) else {
        return Err(Halt::fail(
            format!("{state}, but has no main process, so nothing shows what runs"),
            "deploy a service whose main process stays, e.g. of Type=notify",
        ));
    };
    if state.invocation == record.old_invocation {
        return Err(Halt::fail("it is the invocation that ran before: it was not restarted", next()));
    }
    let seen = format!("active as invocation {invocation}, main process {pid}");
    record.main_pid = state.main_pid;
    record.invocation = state.invocation;
    Ok(seen)
}

/// The state of a service that failed, with the last thing it said.
fn with_last_message(state: &UnitState) -> String {
    let last = state.invocation.as_deref().and_then(|invocation| {
        let mut journal = Journal::of(invocation);
        // What a process said may be filed a moment after it is gone. Without a journal the state has to do.
        for _ in 0..LAST_MESSAGE_LOOKS {
            journal.read().ok()?;
            if journal.last.is_some() {
                break;
            }
            thread::sleep(JOURNAL_POLL);
        }
        journal.last
    });
    last.map_or_else(|| state.to_string(), |last| format!("{state}; last message: {last}"))
}

/// The invocation that is judged and its main process.
fn judged(record: &Record) -> anyhow::Result<(&str, u32)> {
    record
        .invocation
        .as_deref()
        .zip(record.main_pid)
        .context("the record has no invocation; deploy without --resume")
}

/// Blocks if what runs is no longer what was started.
pub(super) fn ensure_unchanged(plan: &Plan, record: &Record) -> Result<(), Halt> {
    let (invocation, pid) = judged(record)?;
    let state = systemd::show(&plan.unit)?;
    let same = state.invocation.as_deref() == Some(invocation) && state.main_pid == Some(pid);
    if same && state.active == "active" {
        return Ok(());
    }
    let seen = if same {
        with_last_message(&state)
    } else {
        format!("invocation {invocation}, main process {pid}, runs no longer: {}", with_last_message(&state))
    };
    Err(Halt::fail(
        seen,
        format!("see journalctl --unit={}; then deploy again from the beginning", plan.unit),
    ))
}

/// Waits for the line that names the build, in the log of this invocation alone.
pub(super) fn build(plan: &Plan, record: &mut Record) -> Seen {
    let (invocation, _) = judged(record)?;
    let mut journal = Journal::of(invocation);
    let deadline = Instant::now() + plan.patience;
    loop {
        journal.read()?;
        if !journal.builds.is_empty() {
            break;
        }
        ensure_unchanged(plan, record)?;
        if Instant::now() >= deadline {
            let mut seen = format!(
                "no AI_ENGINE_BUILD line in {} s among the {} messages of invocation {invocation}",
                plan.patience.as_secs_f64(),
                journal.messages
            );
            if !journal.hint.is_empty() {
                seen = format!("{seen}; journalctl says: {}", journal.hint);
            }
            return Err(Halt::fail(
                seen,
                format!("see journalctl _SYSTEMD_INVOCATION_ID={invocation}: an engine logs its build first"),
            ));
        }
        thread::sleep(JOURNAL_POLL);
    }
    // Every such line must name it: of two builds one would be a guess.
    let other = journal.builds.iter().find(|build| !build.matches(&record.expected));
    record.build = other.or(journal.builds.first()).cloned();
    match other {
        None => Ok(format!("{MARKER} {}", journal.builds[0])),
        Some(other) => Err(Halt::fail(
            match other {
                Build::Commit(_) => format!("{MARKER} {other}, but {} is expected", record.expected),
                _ => format!("{MARKER} {other} matches nothing, but {} is expected", record.expected),
            },
            "install the build that is expected (or correct --expect), then deploy again",
        )),
    }
}

/// Compares the program that runs with the installed one.
pub(super) fn executable(plan: &Plan, record: &mut Record) -> Seen {
    let (_, pid) = judged(record)?;
    let path = match &plan.executable {
        Some(path) => path.clone(),
        None => systemd::program(&plan.unit)?,
    };
    let running_sha256 = process::running_sha256(pid)?;
    let installed = digest::sha256_of(&path);
    ensure_unchanged(plan, record)?;
    let installed_sha256 = installed.map_err(|error| {
        Halt::fail(
            format!("{} cannot be read ({error}), so nothing shows what process {pid} runs", path.display()),
            "install the program again, then deploy again",
        )
    })?;
    let (same, short) = (running_sha256 == installed_sha256, |sha: &str| sha[..12].to_owned());
    let (running, installed) = (short(&running_sha256), short(&installed_sha256));
    let shown = path.display().to_string();
    record.executable = Some(Executable { path, installed_sha256, running_sha256 });
    if same {
        return Ok(format!("process {pid} runs {shown}, sha256 {installed}…"));
    }
    Err(Halt::fail(
        format!("process {pid} runs sha256 {running}…, but {shown} is {installed}…"),
        "deploy again if the file was replaced meanwhile; where ExecStart is a script or a wrapper, name the \
         program it ends in with --executable",
    ))
}

/// Watches the service for a while.
pub(super) fn settle(plan: &Plan, record: &Record) -> Seen {
    let end = Instant::now() + plan.settle;
    loop {
        ensure_unchanged(plan, record)?;
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        thread::sleep(left.min(POLL));
    }
    let cutover = record.cutover.map_or_else(|| "-".to_owned(), format_rfc3339);
    Ok(format!("still the same process after {} s; cutover {cutover}", plan.settle.as_secs_f64()))
}
