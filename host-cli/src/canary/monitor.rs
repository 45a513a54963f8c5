//! The monitor: re-judges the canary at every interval, and rolls back on the first violation. Only a watch that ends clean
//! lets a canary be promoted.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::bail;
use serde::Serialize;
use serde_json::json;

use super::audit::{Chain, Entry, Transition};
use super::clock::Moment;
use super::compare::Comparison;
use super::rollback::{Rollback, rollback};
use super::state::{Lock, Standing, State, details, in_force};
use super::telemetry::{self, WeightProof};
use super::watch::{LIMIT, Watch, last_word};
use super::weights::WeightsFile;
use crate::engine::config::ModelsConfig;
use crate::gate::{
    Check as GateCheck, CheckKind, Drift, Ensemble, Mode, OnBound, QualityVerdict, Require, Rules, Terms,
};
use crate::judge::{self, EventSource, QUALITY_EVENTS};
use crate::signals::Stop;
use crate::stream::parse_timestamp;

/// How often a waiting monitor looks for a signal.
const SIGNAL_CHECK: Duration = Duration::from_millis(20);
/// A check may take this long, e.g. on a slow server, and the time still counts as watched.
const SLOW_CHECK: Duration = Duration::from_secs(60);

/// What is asked for.
#[derive(Debug)]
pub struct Request<'a> {
    /// The state directory.
    pub state: &'a State,
    /// Where intents are.
    pub source: &'a EventSource,
    /// Time to watch.
    pub duration: Duration,
    /// Time between two checks.
    pub interval: Duration,
    /// Findings of the comparison roll back too.
    pub strict: bool,
    /// The rules of the gate.
    pub rules: &'a Rules,
    /// Training rows to compare the features with; a limit on drift cannot be held without.
    pub drift: Option<&'a Drift>,
    /// Weights for a rollback without a usable baseline.
    pub models: Option<&'a ModelsConfig>,
}

/// What one check measured.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// Intents judged.
    pub events: u64,
    /// Agreement of the ensemble.
    pub ensemble: Ensemble,
    /// The canary's weight as telemetry tells it.
    pub weight: WeightProof,
    /// Canary and baseline over the same events.
    pub comparison: Comparison,
}

/// How a watch ended.
#[derive(Debug)]
pub enum End {
    /// Watched to the end, nothing found.
    Clean,
    /// Rolled back for these reasons.
    RolledBack(Vec<String>, Rollback),
    /// A rollback was due for these reasons and could not be made: the canary may still be active.
    RollbackFailed(Vec<String>, anyhow::Error),
    /// Somebody else rolled back or promoted meanwhile.
    EndedElsewhere(String),
    /// A signal came; the watch can be continued.
    Interrupted,
}

/// What a monitor tells while it runs.
#[derive(Debug)]
pub enum Told<'a> {
    /// What was watched so far cannot be read, or was asked for in another way, and does not count.
    Anew(&'a str),
    /// It begins, or continues after a restart.
    Begins(&'a Watch),
    /// A check found nothing.
    Checked(&'a Watch, &'a Measured),
    /// A check could not be made.
    Failed(&'a Watch, &'a str),
}

/// A finished monitor.
#[derive(Debug)]
pub struct Monitored {
    /// How it ended.
    pub end: End,
    /// The watch.
    pub watch: Watch,
    /// Why it did not go on with what was watched before.
    pub anew: Option<String>,
    /// What the last successful check measured.
    pub measured: Option<Measured>,
}

enum Check {
    Clean(Box<Measured>),
    Violated(Vec<String>, Option<Box<Measured>>),
    Failed(String),
    Ended(String),
}

/// Watches the active canary to the end.
///
/// # Errors
/// There is nothing to watch, another monitor watches, or the end of the watch could not be recorded.
pub fn monitor(
    request: &Request<'_>,
    stop: &Stop,
    mut tell: impl FnMut(Told<'_>),
) -> anyhow::Result<Monitored> {
    let state = request.state;
    if !state.is_there()? {
        bail!("no canary is active: {} does not exist", state.directory().display());
    }
    let _alone = state.lock(Lock::Monitor)?;
    let (mut watch, anew) = begin(request)?;
    if let Some(why) = &anew {
        tell(Told::Anew(why));
    }
    tell(Told::Begins(&watch));
    let (end, measured) = watch_on(request, &mut watch, stop, &mut tell)?;
    Ok(Monitored { end, watch, anew, measured })
}

/// Checks until the watch ends.
fn watch_on(
    request: &Request<'_>,
    watch: &mut Watch,
    stop: &Stop,
    tell: &mut dyn FnMut(Told<'_>),
) -> anyhow::Result<(End, Option<Measured>)> {
    let mut measured = None;
    // After a restart, time without a monitor is told from time between two checks.
    let mut longest = request.interval * LIMIT;
    let mut unwritten = 0;
    loop {
        let started = Instant::now();
        match check(request, watch, longest) {
            Check::Clean(figures) => {
                watch.failed_in_row = 0;
                watch.checks += 1;
                tell(Told::Checked(watch, &figures));
                measured = Some(*figures);
            }
            Check::Failed(reason) => {
                watch.failed_in_row += 1;
                watch.checks += 1;
                tell(Told::Failed(watch, &reason));
                if watch.failed_in_row >= LIMIT {
                    let reason = format!(
                        "{LIMIT} checks in a row failed, at most {} may; the last: {reason}",
                        LIMIT - 1
                    );
                    return Ok((roll_back(request, watch, vec![reason]), measured));
                }
            }
            Check::Violated(reasons, figures) => {
                watch.checks += 1;
                let measured = figures.map(|figures| *figures).or(measured);
                return Ok((roll_back(request, watch, reasons), measured));
            }
            Check::Ended(how) => {
                return Ok((End::EndedElsewhere(how), measured));
            }
        }
        longest = longest.max(SLOW_CHECK);
        match watch.write(request.state) {
            Ok(()) => unwritten = 0,
            Err(error) => {
                unwritten += 1;
                let reason = format!("{error:#}");
                tell(Told::Failed(watch, &reason));
                if unwritten >= LIMIT {
                    let reason = format!("the watch could not be kept {LIMIT} times in a row: {reason}");
                    return Ok((roll_back(request, watch, vec![reason]), measured));
                }
            }
        }
        let whole = watch.failed_in_row == 0 && unwritten == 0;
        // A watch whose last check failed has not seen its end.
        if watch.left().is_zero() && whole {
            passed(request, watch)?;
            return Ok((End::Clean, measured));
        }
        // The last check is at the end, but after a failure the source gets its whole interval.
        let pause =
            if whole { request.interval.min(watch.left().max(SIGNAL_CHECK)) } else { request.interval };
        while let Some(left) = pause.checked_sub(started.elapsed()).filter(|left| !left.is_zero()) {
            if stop.requested() {
                return Ok((End::Interrupted, measured));
            }
            thread::sleep(SIGNAL_CHECK.min(left));
        }
        if stop.requested() {
            return Ok((End::Interrupted, measured));
        }
    }
}

/// The watch to continue, or a new one for the active canary, and why what was watched before does not count.
fn begin(request: &Request<'_>) -> anyhow::Result<(Watch, Option<String>)> {
    let state = request.state;
    let _writing = state.lock(Lock::Write)?;
    let mut chain = match state.recover() {
        Ok(recovered) => recovered.chain,
        // A canary must not stay because its log went: its checks fail, and the last one that may rolls back.
        Err(error) => match watch_without_log(state) {
            Some(watch) => return Ok((watch, None)),
            None => return Err(error),
        },
    };
    let activation = match state.standing(&chain) {
        Standing::Active(_, entry) => *entry,
        // The first check finds it and rolls back.
        Standing::Foreign(_) => match active_entry(&chain) {
            Some(entry) => entry,
            None => bail!(
                "no canary was activated, and the weights are not what the log says; `qsc canary rollback` restores the baseline"
            ),
        },
        _ => bail!("no canary is active: there is nothing to watch"),
    };
    let Request { duration, interval, strict, .. } = *request;
    let new = Watch::begin(&activation, duration, interval, strict, &Moment::now()?);
    // More is watched for what does not go on, never less.
    let anew = match Watch::read(state) {
        Ok(Some(watch)) if watch.activation == activation.hash && is_open(&chain, &activation) => {
            if watch.asked() == new.asked() || !watch.owed.is_empty() {
                return Ok((watch, None));
            }
            Some(format!("the watch so far is one of {}, not of {}", watch.asked(), new.asked()))
        }
        Ok(_) => None,
        Err(error) => Some(format!("{error:#}")),
    };
    new.write(state)?;
    let details = details([
        ("duration_ms", new.duration_ms.into()),
        ("interval_ms", new.interval_ms.into()),
        ("strict", new.strict.into()),
    ]);
    state.log().append(&mut chain, Transition::WatchStarted, Some(&new.model), new.generation, details)?;
    Ok((new, anew))
}

/// The watch on disk where no log says what is in force: of the canary that the weights name, or, where they cannot be read
/// either, of any.
fn watch_without_log(state: &State) -> Option<Watch> {
    let watch = state.log().read().is_err().then(|| Watch::read(state).ok().flatten())??;
    let may_be_active = match state.weights() {
        Ok(file) => file.is_some_and(|file| {
            file.canary.as_deref() == Some(&watch.model) && file.generation == watch.generation
        }),
        Err(_) => true,
    };
    may_be_active.then_some(watch)
}

fn active_entry(chain: &Chain) -> Option<Entry> {
    let last = in_force(&chain.entries).last().copied()?;
    (last.event == Transition::Activated).then(|| last.clone())
}

/// Whether a watch of this activation has begun and not ended.
fn is_open(chain: &Chain, activation: &Entry) -> bool {
    last_word(chain, activation).is_some_and(|entry| entry.event == Transition::WatchStarted)
}

fn passed(request: &Request<'_>, watch: &Watch) -> anyhow::Result<()> {
    let state = request.state;
    let _writing = state.lock(Lock::Write)?;
    let mut chain = state.recover()?.chain;
    let still =
        matches!(state.standing(&chain), Standing::Active(_, entry) if entry.hash == watch.activation);
    anyhow::ensure!(still, "the canary was changed while the watch ended; it does not count as clean");
    let details = details([
        ("watched_ms", watch.watched_ms.into()),
        ("checks", watch.checks.into()),
        ("strict", watch.strict.into()),
        ("last_id", json!(watch.last_id)),
    ]);
    state.log().append(&mut chain, Transition::WatchPassed, Some(&watch.model), watch.generation, details)
}

fn roll_back(request: &Request<'_>, watch: &mut Watch, reasons: Vec<String>) -> End {
    let why = reasons.join("; ");
    match rollback(request.state, request.models, &format!("monitor: {why}")) {
        Ok(done) => End::RolledBack(reasons, done),
        Err(error) => {
            watch.owed.clone_from(&reasons);
            // Where it cannot be kept either, the next monitor has what it sees itself.
            let _ = watch.write(request.state);
            let failed = format!("ROLLBACK FAILED, the canary may still be active ({why})");
            End::RollbackFailed(reasons, error.context(failed))
        }
    }
}

fn check(request: &Request<'_>, watch: &mut Watch, longest: Duration) -> Check {
    if !watch.owed.is_empty() {
        return Check::Violated(watch.owed.clone(), None);
    }
    let now = match Moment::now() {
        Ok(now) => now,
        Err(error) => return Check::Violated(vec![format!("{error:#}")], None),
    };
    if let Err(jump) = watch.advance(&now, longest) {
        return Check::Violated(vec![jump], None);
    }
    let chain = match request.state.log().read() {
        Ok(chain) => chain,
        Err(error) => return Check::Failed(format!("the audit log does not hold: {error:#}")),
    };
    let (file, cutover) = match request.state.standing(&chain) {
        Standing::Active(file, entry) if entry.hash == watch.activation => {
            match entry.detail("cutover").and_then(|text| parse_timestamp(text).ok()) {
                Some(cutover) => (file, cutover),
                None => {
                    return Check::Failed(format!("line {} of the audit log names no cutover", entry.seq));
                }
            }
        }
        Standing::Foreign(why) => return Check::Violated(vec![why], None),
        Standing::Interrupted(_) => return Check::Failed("another qsc is changing the weights".to_owned()),
        Standing::Active(..) | Standing::Idle(_) | Standing::Unrecorded(_) => {
            return Check::Ended(format!(
                "generation {} as it was activated is no longer in force",
                watch.generation
            ));
        }
    };
    match judge_now(request, watch, &file, cutover) {
        Ok(check) => check,
        Err(error) => Check::Failed(format!("{error:#}")),
    }
}

fn judge_now(
    request: &Request<'_>,
    watch: &mut Watch,
    file: &WeightsFile,
    cutover: u64,
) -> anyhow::Result<Check> {
    let terms = Terms {
        mode: Mode::Canary,
        require: Require::Any,
        requested: QUALITY_EVENTS,
        cutover: Some(cutover),
    };
    let verdict =
        judge::quality_with_drift(request.source, terms, request.rules, request.drift.cloned(), |_| {})?;
    let (seen, gap) = telemetry::read(request.source, Some(cutover), &watch.model, &file.weights)?;
    // A trimmed stream is no fault as long as the newest events are all there.
    if let Some(gap) = gap
        && verdict.events.count + verdict.events.malformed < QUALITY_EVENTS
    {
        bail!("events may be missing: {gap}");
    }
    let mut reasons = violations(&verdict, &watch.model, request.rules);
    if let Err(reason) = watch.take(&seen) {
        reasons.push(reason);
    }
    if watch.strict {
        reasons.extend(seen.comparison.findings.iter().cloned());
    }
    let measured = Box::new(Measured {
        events: verdict.events.count,
        ensemble: verdict.ensemble,
        weight: seen.proof,
        comparison: seen.comparison,
    });
    Ok(if reasons.is_empty() { Check::Clean(measured) } else { Check::Violated(reasons, Some(measured)) })
}

/// What the gate holds against the canary, and the ensemble's agreement; each says which value crossed which bound.
fn violations(verdict: &QualityVerdict, model: &str, rules: &Rules) -> Vec<String> {
    let mut reasons = Vec::new();
    let simulated = verdict.evidence.simulated;
    if simulated > 0 {
        reasons.push(format!(
            "{simulated} of {} events are simulated and say nothing about a market, none may be",
            verdict.evidence.count
        ));
    }
    reasons.extend(verdict.checks.iter().filter(|check| is_fault(check)).map(|check| check.detail.clone()));
    let failures = verdict.models.get(model).map_or(&[][..], |verdict| &verdict.failures);
    let violated = failures.iter().filter(|failure| failure.check != CheckKind::InsufficientPredictions);
    reasons.extend(violated.map(|failure| format!("{model}: {}: {}", failure.check.name(), failure.detail)));
    reasons.extend(verdict.ensemble.disagreements(rules, OnBound::Holds));
    reasons
}

/// Whether a check of the gate as a whole counts, failed or not made.
fn is_fault(check: &GateCheck) -> bool {
    match check.check {
        // Too little yet; a gap that matters is a failed check of the watch.
        CheckKind::InsufficientEvents | CheckKind::Gap => false,
        // Without a healthy model the canary is none, and its own failures say why.
        CheckKind::HealthyModels => check.passed.is_none(),
        _ => check.passed != Some(true),
    }
}
