//! The steps on telemetry: the gates an operator would run by hand, on events since the cutover.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::Value;

use super::restart::ensure_unchanged;
use super::state::Record;
use super::{GatePlan, Halt, Notice, Plan};
use crate::gate::{Mode, Outcome, QualityVerdict, Terms};
use crate::judge;
use crate::report;
use crate::stream::format_rfc3339;

/// Between two looks at the stream.
const POLL: Duration = Duration::from_secs(1);
/// The newest events a gate looks at, as the commands do.
const QUALITY_COUNT: u64 = 2000;
const SANITY_COUNT: u64 = 200;

/// What a gate saw, and its document.
pub(super) type Judged = Result<(String, Value), (Halt, Option<Value>)>;

/// Features since the cutover are alive.
pub(super) fn feature_sanity(
    plan: &Plan,
    gates: &GatePlan,
    record: &Record,
    tell: &mut dyn FnMut(Notice),
) -> Judged {
    wait_for(plan, gates, record, gates.rules.sanity_min_events, Mode::Collection, tell).map_err(bare)?;
    let cutover = cutover(record).map_err(bare)?;
    let verdict = judge::sanity(&gates.source, cutover, SANITY_COUNT, &gates.rules, || {})
        .map_err(|error| bare(error.into()))?;
    let document = document(&report::sanity_json(&verdict, &gates.source.header(None))).map_err(bare)?;
    if verdict.outcome == Outcome::Pass {
        return Ok((
            format!("{} events, {} features alive", verdict.events, verdict.features.len()),
            document,
        ));
    }
    let reasons = verdict.failures.iter().map(|check| check.detail.as_str()).collect::<Vec<_>>().join("; ");
    let next = format!(
        "repair what computes the features; qsc feature-sanity --after {} shows them all",
        format_rfc3339(cutover)
    );
    Err((Halt::Blocked { outcome: verdict.outcome, seen: reasons, next }, Some(document)))
}

/// Enough intents are collected; says nothing about promotion.
pub(super) fn collection(
    plan: &Plan,
    gates: &GatePlan,
    record: &Record,
    tell: &mut dyn FnMut(Notice),
) -> Judged {
    quality(plan, gates, record, Mode::Collection, Outcome::Collection, tell)
}

/// A model is fit to be promoted.
pub(super) fn canary(plan: &Plan, gates: &GatePlan, record: &Record, tell: &mut dyn FnMut(Notice)) -> Judged {
    quality(plan, gates, record, Mode::Canary, Outcome::Pass, tell)
}

fn quality(
    plan: &Plan,
    gates: &GatePlan,
    record: &Record,
    mode: Mode,
    wanted: Outcome,
    tell: &mut dyn FnMut(Notice),
) -> Judged {
    let need = match mode {
        Mode::Collection => gates.rules.min_events(mode),
        Mode::Canary => gates.rules.min_events(mode).max(gates.events),
    };
    let verdict = wait_for(plan, gates, record, need, mode, tell).map_err(bare)?;
    let header = gates.source.header(None);
    let report =
        report::write_quality(&verdict, &header, &gates.report_dir).map_err(|error| bare(error.into()))?;
    let document = document(&report.json).map_err(bare)?;
    let shown = report.files.markdown.display();
    if verdict.outcome == wanted {
        let eligible =
            if verdict.eligible.is_empty() { "no model".to_owned() } else { verdict.eligible.join(", ") };
        return Ok((format!("{} events, eligible: {eligible}; {shown}", verdict.events.count), document));
    }
    let seen = format!("{}; {shown}", verdict.reasons.join("; "));
    let next = "read the report: it names every check with its value and its bound".to_owned();
    Err((Halt::Blocked { outcome: verdict.outcome, seen, next }, Some(document)))
}

/// Judges again and again until `need` intents count, and returns the verdict on them.
fn wait_for(
    plan: &Plan,
    gates: &GatePlan,
    record: &Record,
    need: u64,
    mode: Mode,
    tell: &mut dyn FnMut(Notice),
) -> Result<QualityVerdict, Halt> {
    let cutover = cutover(record)?;
    let end = Instant::now() + gates.wait;
    let terms =
        Terms { mode, require: gates.require, requested: QUALITY_COUNT.max(need), cutover: Some(cutover) };
    loop {
        ensure_unchanged(plan, record)?;
        let verdict = judge::quality(&gates.source, terms, &gates.rules, || {})?;
        let have = verdict.events.count;
        tell(Notice::Events { have: have.min(need), need });
        if have >= need {
            return Ok(verdict);
        }
        if Instant::now() >= end {
            return Err(Halt::Blocked {
                outcome: Outcome::Inconclusive,
                seen: format!(
                    "{have} of {need} intents since the cutover {} after {} s ({} more are corrupt)",
                    format_rfc3339(cutover),
                    gates.wait.as_secs_f64(),
                    verdict.events.malformed
                ),
                next: "see that features reach the service and its intents this source; then go on with --resume"
                    .to_owned(),
            });
        }
        thread::sleep(POLL);
    }
}

fn cutover(record: &Record) -> Result<u64, Halt> {
    Ok(record.cutover.context("the record has no cutover; deploy without --resume")?)
}

fn document(json: &str) -> Result<Value, Halt> {
    Ok(serde_json::from_str(json).context("a verdict is no JSON")?)
}

fn bare(halt: Halt) -> (Halt, Option<Value>) {
    (halt, None)
}
