//! `qsc canary`: one file per act.

pub mod activate;
pub mod audit;
pub mod monitor;
pub mod promote;
pub mod rollback;
pub mod status;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use qsc_kernel::ensemble::Ppm;
use serde_json::{Value, json};

use crate::canary::evidence::Finding;
use crate::canary::state::State;
use crate::canary::weights::parse_fraction;
use crate::canary::{actor::Actor, hooks};
use crate::exit::Exit;
use crate::gate::Rules;
use crate::log;
use crate::report::{self, Format};

/// `qsc canary …`.
#[derive(Debug, Subcommand)]
pub enum CanaryCommand {
    /// Judge a model here and now, and give it the canary's weight if everything holds
    Activate(activate::ActivateArgs),
    /// Show what is in force, and whether telemetry proves it
    Status(status::StatusArgs),
    /// Re-judge the canary at every interval, and roll back on the first violation
    Monitor(monitor::MonitorArgs),
    /// Put the baseline in force
    Rollback(rollback::RollbackArgs),
    /// Make the weights of a canary that was watched to the end the baseline
    Promote(promote::PromoteArgs),
    /// The audit log
    #[command(subcommand)]
    Audit(audit::AuditCommand),
}

/// Runs the command.
///
/// # Errors
/// The tool could not do its work; never a verdict.
pub fn run(command: &CanaryCommand, rules: &Rules, format: Format) -> anyhow::Result<Exit> {
    match command {
        CanaryCommand::Activate(args) => activate::run(args, rules, format),
        CanaryCommand::Status(args) => status::run(args, format),
        CanaryCommand::Monitor(args) => monitor::run(args, rules, format),
        CanaryCommand::Rollback(args) => rollback::run(args, format),
        CanaryCommand::Promote(args) => promote::run(args, format),
        CanaryCommand::Audit(command) => audit::run(command, format),
    }
}

/// Where state and reports are: the same flags for every command, so that one settings file serves them all.
#[derive(Debug, Args)]
struct StateArgs {
    /// Weights, baseline and audit log
    #[arg(long, value_name = "DIR", default_value = "state")]
    state_dir: PathBuf,
    /// Where an activation writes its report; created if missing
    #[arg(long, value_name = "DIR", default_value = "reports/safety")]
    report_dir: PathBuf,
}

impl StateArgs {
    fn state(&self) -> State {
        State::new(&self.state_dir)
    }
}

/// A state directory for whoever looks for it: from the root, and whether it is missing.
fn shown(state: &State) -> String {
    let missing = if matches!(state.is_there(), Ok(false)) { ", which does not exist" } else { "" };
    format!("{}{missing}", state.full_path().display())
}

/// Who is told.
#[derive(Debug, Args)]
struct HookArgs {
    /// Shell command that gets the JSON of each transition on its stdin, after it took effect, and of a rollback that
    /// failed; killed after 10 s
    #[arg(long, value_name = "CMD")]
    on_event: Option<String>,
}

impl HookArgs {
    /// Tells the hook of a transition. What becomes of the hook changes nothing.
    fn tell(&self, event: &str, model: Option<&str>, generation: u64, detail: &Value) {
        let Some(command) = &self.on_event else { return };
        Self::run(command, &Self::event(event, model, generation, detail));
    }

    /// Tells of a rollback that was due and could not be carried out: somebody has to look.
    fn tell_failed_rollback(
        &self,
        model: Option<&str>,
        generation: u64,
        reasons: &Value,
        error: &anyhow::Error,
    ) {
        let detail = json!({"reasons": reasons, "error": format!("{error:#}")});
        self.tell("rollback_failed", model, generation, &detail);
    }

    /// The same without waiting: something more urgent comes next.
    fn tell_aside(&self, event: &str, model: Option<&str>, generation: u64, detail: &Value) {
        let Some(command) = self.on_event.clone() else { return };
        let event = Self::event(event, model, generation, detail);
        std::thread::spawn(move || Self::run(&command, &event));
    }

    fn event(event: &str, model: Option<&str>, generation: u64, detail: &Value) -> Value {
        json!({
            "contract": report::CONTRACT,
            "event": event,
            "ts": jiff::Timestamp::now().to_string(),
            "model": model,
            "generation": generation,
            "actor": Actor::current(),
            "detail": detail,
        })
    }

    fn run(command: &str, event: &Value) {
        if let Err(why) = hooks::run(command, event, hooks::TIMEOUT) {
            log::say(format_args!("warning: {why}"));
        }
    }
}

fn parse_weight(text: &str) -> Result<Ppm, String> {
    let weight: f64 = text.parse().map_err(|_| "expected a number above 0 and below 1".to_owned())?;
    parse_fraction(weight).and_then(|weight| {
        if weight < Ppm::ONE { Ok(weight) } else { Err("expected a number above 0 and below 1".to_owned()) }
    })
}

/// One line per finding.
pub(super) fn finding_lines(findings: &[Finding]) -> String {
    let line = |finding: &Finding| {
        let result = if finding.passed { "ok" } else { "FAIL" };
        format!("  {result:<4} {:<15} {}\n", finding.check, report::one_line(&finding.detail))
    };
    findings.iter().map(line).collect()
}
