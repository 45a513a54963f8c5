//! The steps on telemetry: the gates an operator would run by hand, on events since the cutover.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::{Map, Value};

use super::build_id::Build;
use super::restart::{Seen, ensure_unchanged};
use super::state::Record;
use super::{GatePlan, Halt, Notice, Plan, Step};
use crate::gate::{Evidence, Mode, Outcome, QualityVerdict, Terms};
use crate::judge::{self, QUALITY_EVENTS, SANITY_EVENTS};
use crate::report;
use crate::stream::format_rfc3339;

/// Between two looks at the stream.
const POLL: Duration = Duration::from_secs(1);

/// The telemetry of the service that was started.
pub(super) struct Telemetry<'deployment> {
    pub(super) plan: &'deployment Plan,
    pub(super) gates: &'deployment GatePlan,
    pub(super) record: &'deployment Record,
    /// The document of each gate, whatever its verdict.
    pub(super) documents: &'deployment mut Map<String, Value>,
    pub(super) tell: &'deployment mut dyn FnMut(Notice),
}

impl Telemetry<'_> {
    /// Features since the cutover are alive.
    pub(super) fn feature_sanity(&mut self) -> Seen {
        let rules = &self.gates.rules;
        self.wait_for(rules.sanity_min_events, Mode::Collection)?;
        let cutover = self.cutover()?;
        let source = &self.gates.source;
        let verdict = judge::sanity_with_drift(
            source,
            cutover,
            SANITY_EVENTS,
            rules,
            self.gates.drift.clone(),
            |_| {},
        )?;
        ensure_unchanged(self.plan, self.record)?;
        self.keep(Step::FeatureSanity, report::sanity_document(&verdict, &source.header(None)?));
        self.ensure_own(&verdict.evidence)?;
        if verdict.outcome == Outcome::Pass {
            return Ok(format!("{} events, {} features alive", verdict.events, verdict.features.len()));
        }
        Err(Halt::Blocked {
            outcome: verdict.outcome,
            seen: verdict.reasons().join("; "),
            next: format!(
                "repair what computes the features; qsc feature-sanity --after {} shows them all",
                format_rfc3339(cutover)
            ),
        })
    }

    /// Enough intents are collected; says nothing about promotion.
    pub(super) fn collection(&mut self) -> Seen {
        let need = self.gates.rules.min_events(Mode::Collection);
        self.quality(Step::Collection, Mode::Collection, need, Outcome::Collection)
    }

    /// A model is fit to be promoted.
    pub(super) fn canary(&mut self) -> Seen {
        let need = self.gates.rules.min_events(Mode::Canary).max(self.gates.events);
        self.quality(Step::Canary, Mode::Canary, need, Outcome::Pass)
    }

    fn quality(&mut self, step: Step, mode: Mode, need: u64, wanted: Outcome) -> Seen {
        let verdict = self.wait_for(need, mode)?;
        let header = self.gates.source.header(None)?;
        let report = report::write_quality(&verdict, &header, &self.gates.report_dir)?;
        self.keep(step, report.document);
        let shown = report.files.markdown.display();
        self.ensure_own(&verdict.evidence)?;
        self.ensure_all_own(mode)?;
        if verdict.outcome == wanted {
            let eligible = verdict.eligible.join(", ");
            let eligible = if eligible.is_empty() { "no model" } else { &eligible };
            return Ok(format!("{} events, eligible: {eligible}; {shown}", verdict.events.count));
        }
        Err(Halt::Blocked {
            outcome: verdict.outcome,
            seen: format!("{}; {shown}", verdict.reasons.join("; ")),
            next: "read the report: it names every check with its value and its bound".to_owned(),
        })
    }

    /// What another engine on the same stream has written, or nobody has measured, says nothing of the build deployed here.
    fn ensure_own(&self, evidence: &Evidence) -> Result<(), Halt> {
        let blocked = |seen: String, next: &str| {
            Err(Halt::Blocked { outcome: Outcome::Fail, seen, next: next.to_owned() })
        };
        if evidence.simulated > 0 {
            return blocked(
                format!("{} of {} intents say that they are simulated", evidence.simulated, evidence.count),
                "feed the service from the market, into a stream of its own",
            );
        }
        let expected = &self.record.expected;
        let other = evidence.written_by.iter().find(|(build, _)| !Build::read(build).matches(expected));
        match other {
            Some((build, count)) => blocked(
                format!(
                    "{count} of {} intents were written by build {build}, not {expected}",
                    evidence.count
                ),
                "stop what else writes intents to this source, or deploy it first; then deploy again",
            ),
            None => Ok(()),
        }
    }

    /// The same for every intent since the cutover: a gate judges the newest only.
    fn ensure_all_own(&self, mode: Mode) -> Result<(), Halt> {
        let GatePlan { source, rules, require, .. } = self.gates;
        let terms = Terms { mode, require: *require, requested: 0, cutover: Some(self.cutover()?) };
        self.ensure_own(&judge::quality(source, terms, rules, |_| {})?.evidence)
    }

    /// Judges again and again until `need` intents count, and returns the verdict on them.
    fn wait_for(&mut self, need: u64, mode: Mode) -> Result<QualityVerdict, Halt> {
        let GatePlan { source, rules, drift, require, wait, .. } = self.gates;
        let cutover = self.cutover()?;
        let terms =
            Terms { mode, require: *require, requested: QUALITY_EVENTS.max(need), cutover: Some(cutover) };
        let end = Instant::now() + *wait;
        loop {
            ensure_unchanged(self.plan, self.record)?;
            let verdict = judge::quality_with_drift(source, terms, rules, drift.clone(), |_| {})?;
            let have = verdict.events.count;
            (self.tell)(Notice::Events { have: have.min(need), need });
            if have >= need {
                // The events just read count only if it still is the same start that wrote them.
                ensure_unchanged(self.plan, self.record)?;
                return Ok(verdict);
            }
            if Instant::now() >= end {
                return Err(Halt::Blocked {
                    outcome: Outcome::Inconclusive,
                    seen: format!(
                        "{have} of {need} intents since the cutover {} after {} s ({} more are corrupt)",
                        format_rfc3339(cutover),
                        wait.as_secs_f64(),
                        verdict.events.malformed
                    ),
                    next: "see that features reach the service and its intents this source; then go on with \
                           --resume"
                        .to_owned(),
                });
            }
            thread::sleep(POLL);
        }
    }

    fn cutover(&self) -> anyhow::Result<u64> {
        self.record.cutover.context("the record has no cutover; deploy without --resume")
    }

    fn keep(&mut self, step: Step, document: Value) {
        self.documents.insert(step.name().to_owned(), document);
    }
}
