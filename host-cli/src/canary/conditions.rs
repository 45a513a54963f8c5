//! What an activation has to show, besides what the examined report says. Each finding says what was found, passed or not.

use std::time::Duration;

use anyhow::ensure;
use ed25519_dalek::VerifyingKey;

use super::activate::Request;
use super::audit::{Chain, Entry, Transition};
use super::evidence::{Examined, Expected, Finding, LEAST_EVENTS, examine};
use super::state::Standing;
use crate::attest;
use crate::engine::config::ModelConfig;
use crate::engine::load;
use crate::gate::{Evidence, Outcome, QualityVerdict, SanityVerdict};
use crate::identity;
use crate::image::ImageBytes;
use crate::stream::{EventId, format_rfc3339, now_ms, parse_timestamp};

/// Oldest externally signed report that is still taken.
const SIGNED_REPORT_AGE: Duration = Duration::from_secs(3600);
/// Fewest events whose features an activation is decided on, whatever the rules.
const LEAST_SANITY_EVENTS: u64 = 50;
/// How far the newest event may be ahead of this clock: producers' clocks differ a little.
const CLOCK_TOLERANCE_MS: u64 = 5000;

/// 1971-01-01 in Unix milliseconds.
const YEAR_1971: u64 = 365 * 24 * 3_600_000;

/// What has to be shown, in this order; a check that was not made blocks.
const CHECKS: [&str; 18] = [
    "standing",
    "cool_down",
    "cutover_time",
    "ensemble",
    "infra",
    "gate",
    "clock",
    "feature_sanity",
    "origin",
    "result",
    "header",
    "name",
    "digests",
    "own_names",
    "events",
    "age",
    "cutover",
    "eligible",
];

/// The first check that is not among the findings.
pub(super) fn not_made(findings: &[Finding]) -> Option<Finding> {
    let missing = CHECKS.into_iter().find(|name| findings.iter().all(|finding| finding.check != *name))?;
    Some(Finding::new("manifest", false, format!("the check {missing} was not made")))
}

pub(super) fn standing(standing: &Standing) -> Finding {
    match standing {
        Standing::Idle(_) => Finding::new("standing", true, "no canary is active"),
        Standing::Active(file, _) => Finding::new(
            "standing",
            false,
            format!(
                "a canary is active already: {}; `qsc canary rollback` or `promote` ends it",
                file.canary.as_deref().unwrap_or("unknown")
            ),
        ),
        Standing::Interrupted(entry) => {
            Finding::new("standing", false, format!("line {} of the audit log never took effect", entry.seq))
        }
        Standing::Unrecorded(file) => {
            Finding::new("standing", false, format!("generation {} is not recorded", file.generation))
        }
        Standing::Foreign(why) => {
            Finding::new("standing", false, format!("{why}; `qsc canary rollback` restores the baseline"))
        }
    }
}

/// A rollback that came while the evidence was judged: whoever wanted it does not want this canary.
pub(super) fn rolled_back_since(chain: &Chain, judged_under: &Chain) -> Option<Finding> {
    let meanwhile = chain.entries.get(judged_under.entries.len()..)?;
    let ends = |entry: &&Entry| matches!(entry.event, Transition::RolledBack | Transition::Withdrawn);
    let entry = meanwhile.iter().find(ends)?;
    let reason = entry.detail("reason").unwrap_or("no reason given");
    Some(Finding::new(
        "rollback",
        false,
        format!(
            "rolled back {} while the evidence was judged ({reason}); activate again if the model is wanted all the same",
            entry.ts
        ),
    ))
}

pub(super) fn cool_down(chain: &Chain, request: &Request<'_>, now: u64) -> Finding {
    let last = chain.entries.iter().rev().find(|entry| {
        entry.event == Transition::RolledBack
            && entry.model.as_deref().is_none_or(|name| name == request.model)
    });
    let Some(last) = last else { return Finding::new("cool_down", true, "no rollback of this model") };
    let elapsed =
        parse_timestamp(&last.ts).ok().and_then(|at| now.checked_sub(at)).map(Duration::from_millis);
    let is_over = elapsed.is_some_and(|elapsed| elapsed >= request.cool_down);
    match (is_over, request.force) {
        (true, _) => {
            Finding::new("cool_down", true, format!("rolled back {}; the cool-down is over", last.ts))
        }
        (false, Some(reason)) => Finding::new("cool_down", true, format!("overridden: {reason}")),
        (false, None) => Finding::new(
            "cool_down",
            false,
            format!(
                "rolled back {} ({}); the cool-down is {:?}. --force REASON overrides it and is recorded",
                last.ts,
                last.detail("reason").unwrap_or("no reason given"),
                request.cool_down
            ),
        ),
    }
}

pub(super) fn cutover_time(cutover: u64, now: u64) -> Finding {
    let is_1970 = cutover < YEAR_1971;
    let passed = !is_1970 && cutover <= now;
    let place = if is_1970 { "is 1970, which is no cutover" } else { "is in the future" };
    Finding::new(
        "cutover_time",
        passed,
        format!("{}{}", format_rfc3339(cutover), if passed { String::new() } else { format!(" {place}") }),
    )
}

/// The image loads in this very binary and reproduces its golden vectors.
pub(super) fn infra(candidate: &ModelConfig) -> (Finding, String) {
    let checked = ImageBytes::read(&candidate.image).and_then(|bytes| {
        load::check(&bytes)?;
        Ok(bytes.sha256())
    });
    match checked {
        Ok(sha256) => {
            let detail = format!(
                "{} reproduces its golden vectors, build {}",
                candidate.image.display(),
                identity::build()
            );
            (Finding::new("infra", true, detail), sha256)
        }
        Err(error) => (Finding::new("infra", false, format!("{error:#}")), String::new()),
    }
}

pub(super) fn gate(verdict: &QualityVerdict) -> Finding {
    let count = verdict.events.count;
    let (passed, detail) = match verdict.outcome {
        Outcome::Pass if count < LEAST_EVENTS => {
            (false, format!("{count} events, at least {LEAST_EVENTS} are needed"))
        }
        Outcome::Pass => (true, format!("passed over {count} events")),
        _ => (false, verdict.reasons.join("; ")),
    };
    Finding::new("gate", passed, detail)
}

/// A clock that stands before the newest event cannot say how old a report is.
pub(super) fn clock(judged: [&Evidence; 2], now: u64) -> Finding {
    let ids = judged.into_iter().filter_map(|evidence| evidence.last_id.as_ref());
    match ids.filter_map(|id| Some(id.parse::<EventId>().ok()?.ms)).max() {
        Some(newest) if newest > now.saturating_add(CLOCK_TOLERANCE_MS) => Finding::new(
            "clock",
            false,
            format!(
                "the newest event is of {}, this clock says {}",
                format_rfc3339(newest),
                format_rfc3339(now)
            ),
        ),
        Some(newest) => {
            Finding::new("clock", true, format!("the newest event is of {}", format_rfc3339(newest)))
        }
        None => Finding::new("clock", false, "there is no event to hold this clock against"),
    }
}

pub(super) fn sanity(verdict: &SanityVerdict) -> Finding {
    let passed = verdict.outcome == Outcome::Pass;
    let (passed, detail) = if !passed {
        (false, verdict.reasons().join("; "))
    } else if verdict.events < LEAST_SANITY_EVENTS {
        (false, format!("{} events, at least {LEAST_SANITY_EVENTS} are needed", verdict.events))
    } else {
        (true, format!("passed over {} events", verdict.events))
    };
    Finding::new("feature_sanity", passed, detail)
}

/// The signature of the report just written, or of one that was made and signed elsewhere: that one must hold by itself, be
/// of the same cutover and rules, not older than an hour, and, where it judged the same events, have judged them alike.
pub(super) fn signature(
    request: &Request<'_>,
    key: &VerifyingKey,
    own: &Examined,
    now: u64,
) -> (Finding, bool) {
    let checked = || -> anyhow::Result<(String, bool)> {
        let Some(path) = request.signed_report else {
            own.ensure_signed_by(key)?;
            return Ok((format!("signed by {}", attest::key_id(key)), false));
        };
        let age = u64::try_from(SIGNED_REPORT_AGE.as_millis())?;
        let expected = Expected {
            model: Some(request.model),
            cutover: Some(request.cutover),
            not_before: Some(now.saturating_sub(age)),
            not_after: Some(now_ms()?),
            ..Expected::default()
        };
        let signed = examine(path, &expected)?;
        if signed.is_collection {
            return Ok(("the signed report is a collection report".to_owned(), true));
        }
        if let Some(fault) = signed.findings.iter().find(|finding| !finding.passed) {
            anyhow::bail!("{}: {}", fault.check, fault.detail);
        }
        signed.ensure_signed_by(key)?;
        let (theirs, ours) = (&signed.document["evidence"], &own.document["evidence"]);
        ensure!(theirs["rules"] == ours["rules"], "the signed report was judged by other rules");
        let same_events = ["first_id", "last_id", "count"].iter().all(|name| theirs[*name] == ours[*name]);
        ensure!(
            !same_events || theirs["sha256"] == ours["sha256"],
            "the signed report judged other events under the same ids"
        );
        Ok((format!("{} is signed by {}", signed.json_path.display(), attest::key_id(key)), false))
    };
    match checked() {
        Ok((detail, is_collection)) => (Finding::new("signature", !is_collection, detail), is_collection),
        Err(error) => (Finding::new("signature", false, format!("{error:#}")), false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_that_was_not_made_blocks() {
        let all = CHECKS.map(|check| Finding::new(check, true, "held"));
        assert_eq!(not_made(&all), None);
        for check in CHECKS {
            let others: Vec<Finding> = all.iter().filter(|finding| finding.check != check).cloned().collect();
            let missing = Finding::new("manifest", false, format!("the check {check} was not made"));
            assert_eq!(not_made(&others), Some(missing));
        }
    }
}
