//! The steps in their order. Each is recorded before it begins, so that an interrupted chain goes on from there.

use std::path::Path;

use anyhow::{Context as _, ensure};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use super::build_id::Build;
use super::gates::Telemetry;
use super::restart::Seen;
use super::state::{Executable, Place, Record};
use super::{Finding, GatePlan, Halt, Notice, Plan, Step, restart, systemd};
use crate::exit::Exit;
use crate::gate::Outcome;
use crate::stream::now_ms;

/// How a deployment ended; serializes as the contract has it.
#[derive(Debug, Serialize)]
pub struct Deployment {
    /// Pass only if every step held.
    pub verdict: Outcome,
    /// How the command ends: passed, also on a wrong build where that only warns.
    #[serde(rename = "exit_code", serialize_with = "code")]
    pub exit: Exit,
    /// The service.
    pub unit: String,
    /// A wrong build was to be reported only.
    pub warn_only: bool,
    /// The build that must run.
    pub expected: Build,
    /// The build this start has logged.
    pub build: Option<Build>,
    /// Taken between stop and start, Unix ms: events from here on are the new build's.
    #[serde(rename = "cutover_ms")]
    pub cutover: Option<u64>,
    /// This start of the service.
    pub invocation_id: Option<String>,
    /// Its main process.
    pub main_pid: Option<u32>,
    pub(super) executable: Option<Executable>,
    /// What each step found, in order.
    pub steps: Vec<Finding>,
    /// The documents of the gates that were asked, without those asked before a resume.
    pub gates: Map<String, Value>,
}

/// Deploys by `plan`; with `resume`, goes on with the deployment recorded in `state_dir`. `tell` hears how it goes.
///
/// # Errors
/// A step could not be done at all: no systemd, no such unit, an unreadable journal or source, no permission.
pub fn run(
    plan: &Plan,
    state_dir: &Path,
    resume: bool,
    tell: &mut dyn FnMut(Notice),
) -> anyhow::Result<Deployment> {
    systemd::ensure_booted()?;
    let place = Place::take(state_dir, &plan.unit)?;
    let mut record = if resume { resumed(&place, plan)? } else { begun(plan) };
    let mut documents = Map::new();
    let first = record.step;
    for step in Step::ALL.into_iter().filter(|&step| step >= first) {
        if step > Step::Settle && plan.gates.is_none() {
            break;
        }
        enter(plan, &mut record, step)?;
        place.save(&record)?;
        tell(Notice::Begins(step));
        let result = take(step, plan, &mut record, &mut documents, tell);
        let (finding, outcome) = match result {
            Ok(seen) => (Finding { step, passed: true, seen, next: None }, Outcome::Pass),
            Err(Halt::Blocked { outcome, seen, next }) => {
                (Finding { step, passed: false, seen, next: Some(next) }, outcome)
            }
            Err(Halt::Error(error)) => {
                return Err(error).with_context(|| format!("deploying {}, step {step}", plan.unit));
            }
        };
        record.findings.push(finding);
        if outcome != Outcome::Pass && !(plan.warn_only && step.is_identity()) {
            // The record stays: what was waited for may come, and --resume takes the step again.
            return Ok(ended(plan, record, documents, outcome, Exit::Fail));
        }
    }
    place.clear()?;
    // A finding that only warned, now or before a resume, leaves no pass.
    let held = record.findings.iter().all(|finding| finding.passed);
    let verdict = if held { Outcome::Pass } else { Outcome::Fail };
    let exit = if held || plan.warn_only { Exit::Pass } else { Exit::Fail };
    Ok(ended(plan, record, documents, verdict, exit))
}

fn begun(plan: &Plan) -> Record {
    let expected = plan.expected.clone().unwrap_or_else(Build::own);
    let mut record = Record::new(plan.unit.clone(), expected, plan.gates.is_some());
    record.strictness = plan.gates.as_ref().map(GatePlan::strictness);
    record
}

fn resumed(place: &Place, plan: &Plan) -> anyhow::Result<Record> {
    let mut record = place.load()?;
    ensure!(record.unit == plan.unit, "the record is of {}; deploy without --resume", record.unit);
    if let Some(expected) = &plan.expected {
        ensure!(
            *expected == record.expected,
            "the deployment to go on with expects {}, not {expected}; leave --expect out, or deploy without --resume",
            record.expected
        );
    }
    ensure!(
        plan.gates.is_some() || !(record.gated || record.step > Step::Settle),
        "the deployment to go on with is at step {} and its gates are still to be asked; give --gate --source … with \
         --resume, or deploy without --resume",
        record.step
    );
    record.gated |= plan.gates.is_some();
    let asked = plan.gates.as_ref().map(GatePlan::strictness);
    if let (Some(before), Some(now)) = (&record.strictness, &asked) {
        ensure!(
            before == now,
            "the deployment to go on with asks its gates for {before}, not for {now}; say the same with --resume, or deploy \
             without --resume"
        );
    }
    record.strictness = record.strictness.or(asked);
    // What only warned before is judged again where it would block now.
    let failed = record.findings.iter().find(|finding| !finding.passed).map(|finding| finding.step);
    if let Some(failed) = failed.filter(|_| !plan.warn_only) {
        record.step = record.step.min(failed);
    }
    record.findings.retain(|finding| finding.step < record.step);
    Ok(record)
}

/// What has to be known before a step may change anything.
fn enter(plan: &Plan, record: &mut Record, step: Step) -> anyhow::Result<()> {
    record.step = step;
    if step == Step::Start {
        // Entered again, as after a crash: whoever runs by now may have begun before any cutover there is.
        if record.cutover.is_some() {
            let state = systemd::show(&plan.unit)?;
            ensure!(
                state.is_stopped(),
                "{} is not stopped ({state}), so nothing shows since when it runs; deploy without --resume",
                plan.unit
            );
        }
        record.cutover = Some(now_ms()?);
    }
    Ok(())
}

fn take(
    step: Step,
    plan: &Plan,
    record: &mut Record,
    documents: &mut Map<String, Value>,
    tell: &mut dyn FnMut(Notice),
) -> Seen {
    match step {
        Step::Unit => return restart::unit(plan, record),
        Step::Stop => return restart::stop(plan, record),
        Step::Start => return restart::start(plan, record),
        Step::Build => return restart::build(plan, record),
        Step::Executable => return restart::executable(plan, record),
        Step::Settle => return restart::settle(plan, record),
        Step::FeatureSanity | Step::Collection | Step::Canary => {}
    }
    let gates = plan.gates.as_ref().context("no gates were asked for")?;
    let mut telemetry = Telemetry { plan, gates, record, documents, tell };
    match step {
        Step::FeatureSanity => telemetry.feature_sanity(),
        Step::Collection => telemetry.collection(),
        _ => telemetry.canary(),
    }
}

fn ended(plan: &Plan, record: Record, gates: Map<String, Value>, verdict: Outcome, exit: Exit) -> Deployment {
    Deployment {
        verdict,
        exit,
        unit: record.unit.to_string(),
        warn_only: plan.warn_only,
        expected: record.expected,
        build: record.build,
        cutover: record.cutover,
        invocation_id: record.invocation,
        main_pid: record.main_pid,
        executable: record.executable,
        steps: record.findings,
        gates,
    }
}

fn code<S: Serializer>(exit: &Exit, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u8(exit.code())
}
