//! `qsc canary audit`.

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::json;

use super::StateArgs;
use crate::canary::audit::{Broken, Chain};
use crate::exit::Exit;
use crate::report::{self, Format};

/// `qsc canary audit …`.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Verify every line of the log and that none is missing
    Verify(VerifyArgs),
}

/// Arguments of `qsc canary audit verify`.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 every line holds, 2 a line was changed, removed or reordered (the first bad one is named), or the log is \
gone and other files of the state are not, 1 the log cannot be read.

Example:
  qsc canary audit verify --state-dir state")]
pub struct VerifyArgs {
    #[command(flatten)]
    state: StateArgs,
}

pub(super) fn run(command: &AuditCommand, format: Format) -> anyhow::Result<Exit> {
    let AuditCommand::Verify(VerifyArgs { state }) = command;
    let state = state.state();
    std::fs::metadata(state.directory())
        .with_context(|| format!("there is no state in {}", state.directory().display()))?;
    let verified = state.verify_log()?;
    let exit = if verified.is_ok() { Exit::Pass } else { Exit::Fail };
    let directory = state.directory().display();
    let next = match &verified {
        Ok(_) => None,
        Err(_) if state.log().is_unfinished() => Some(
            "a process died while it wrote it; the next activate, rollback, promote or monitor takes it away"
                .to_owned(),
        ),
        Err(_) if state.log().is_missing() => {
            Some("`qsc canary rollback` restores the baseline and begins a new log".to_owned())
        }
        Err(_) => Some(format!(
            "nothing can be activated on it; move audit.jsonl and audit.head to {directory}/broken to keep them, and \
             `qsc canary rollback` begins a new log"
        )),
    };
    report::print(&match format {
        Format::Json => document(&verified, next.as_deref(), exit),
        Format::Text => match &verified {
            Ok(chain) => {
                let beyond = if chain.beyond_head {
                    ", the last one beyond the head: a process died between two writes, the next command completes it"
                } else {
                    ""
                };
                format!("{} lines, all hold{beyond}\n", chain.entries.len())
            }
            Err(broken) => {
                let at = if broken.line.is_some() { " at " } else { ": " };
                format!("BROKEN in {directory}{at}{broken}: {}\n", next.unwrap_or_default())
            }
        },
    })?;
    Ok(exit)
}

fn document(verified: &Result<Chain, Broken>, next: Option<&str>, exit: Exit) -> String {
    let chain = verified.as_ref().ok();
    let broken = verified.as_ref().err();
    let document = json!({
        "contract": report::CONTRACT,
        "command": "canary audit verify",
        "verdict": if exit == Exit::Pass { "pass" } else { "fail" },
        "exit_code": exit.code(),
        "lines": chain.map(|chain| chain.entries.len()),
        "beyond_head": chain.map(|chain| chain.beyond_head),
        "first_bad_line": broken.and_then(|broken| broken.line),
        "reason": broken.map(|broken| &broken.reason),
        "next": next,
    });
    report::json(&document)
}
