//! The JSON documents of the contract.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::files::ReportFiles;
use super::{CONTRACT, Header};
use crate::gate::{EventFigures, Evidence, ModelVerdict, QualityVerdict, Rules, SanityVerdict, Scoreboard};
use crate::stream::format_rfc3339;

#[derive(Serialize)]
struct Document<'verdict, Verdict> {
    contract: u32,
    command: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<String>,
    synthetic: bool,
    #[serde(flatten)]
    verdict: &'verdict Verdict,
    evidence: BoundEvidence<'verdict>,
    #[serde(skip_serializing_if = "Option::is_none")]
    report: Option<&'verdict ReportFiles>,
}

/// What the verdict is bound to: events, rules, source and build.
#[derive(Serialize)]
struct BoundEvidence<'verdict> {
    source: &'verdict str,
    #[serde(flatten)]
    events: &'verdict Evidence,
    rules: &'verdict Rules,
    build: &'verdict str,
}

pub(super) fn quality(verdict: &QualityVerdict, header: &Header, files: &ReportFiles) -> Value {
    render("quality-gate", verdict, header, &verdict.evidence, &verdict.rules, Some(files))
}

/// The scoreboard and, beside each signal, the figures it was made from.
pub(super) fn scoreboard(
    board: &Scoreboard,
    verdict: &QualityVerdict,
    header: &Header,
    files: &ReportFiles,
) -> Value {
    #[derive(Serialize)]
    struct Board<'a> {
        #[serde(flatten)]
        board: &'a Scoreboard,
        events: &'a EventFigures,
        loosened: &'a [String],
        models: &'a BTreeMap<String, ModelVerdict>,
    }
    let QualityVerdict { events, loosened, models, evidence, rules, .. } = verdict;
    render("scoreboard", &Board { board, events, loosened, models }, header, evidence, rules, Some(files))
}

pub(super) fn sanity(verdict: &SanityVerdict, header: &Header) -> Value {
    render("feature-sanity", verdict, header, &verdict.evidence, &verdict.rules, None)
}

fn render<Verdict: Serialize>(
    command: &'static str,
    verdict: &Verdict,
    header: &Header,
    events: &Evidence,
    rules: &Rules,
    report: Option<&ReportFiles>,
) -> Value {
    let document = Document {
        contract: CONTRACT,
        command,
        // Only a report bears a time; without one the same events give the same bytes.
        timestamp: report.map(|_| format_rfc3339(header.now)),
        synthetic: header.synthetic,
        verdict,
        evidence: BoundEvidence { source: &header.source, events, rules, build: &header.build },
        report,
    };
    // A float that is not finite becomes null.
    serde_json::to_value(&document).expect("report paths are UTF-8, and nothing else can fail")
}
