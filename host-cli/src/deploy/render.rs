//! A deployment for people and for machines.

use std::fmt::{self, Write as _};

use serde::Serialize;

use super::Finding;
use super::chain::Deployment;
use crate::gate::Outcome;
use crate::report::{CONTRACT, one_line};
use crate::stream::format_rfc3339;

#[derive(Serialize)]
struct Document<'deployment> {
    contract: u32,
    command: &'static str,
    /// RFC 3339.
    cutover: Option<String>,
    #[serde(flatten)]
    deployment: &'deployment Deployment,
    /// The step that decided, if one did not hold.
    failure: Option<&'deployment Finding>,
}

/// For machines; ends with a line end.
#[must_use]
pub fn json(deployment: &Deployment) -> String {
    let document = Document {
        contract: CONTRACT,
        command: "deploy",
        cutover: deployment.cutover.map(format_rfc3339),
        deployment,
        failure: failure(deployment),
    };
    let text = serde_json::to_string_pretty(&document).expect("texts, numbers and lists are always JSON");
    text + "\n"
}

/// For people at a terminal.
#[must_use]
pub fn text(deployment: &Deployment) -> String {
    let mut out = String::new();
    write(&mut out, deployment).expect("writing to a string does not fail");
    out
}

fn failure(deployment: &Deployment) -> Option<&Finding> {
    deployment.steps.iter().rev().find(|finding| !finding.passed)
}

fn write(out: &mut String, deployment: &Deployment) -> fmt::Result {
    writeln!(out, "Deployment of {}", deployment.unit)?;
    writeln!(out, "  expected  {}", one_line(&deployment.expected.to_string()))?;
    if let Some(build) = &deployment.build {
        writeln!(out, "  build     {}", one_line(&build.to_string()))?;
    }
    if let Some(cutover) = deployment.cutover {
        writeln!(out, "  cutover   {}", format_rfc3339(cutover))?;
    }
    writeln!(out)?;
    for finding in &deployment.steps {
        let result = if finding.passed { "ok" } else { "FAIL" };
        writeln!(out, "  {:<14}  {result:<4}  {}", finding.step.name(), one_line(&finding.seen))?;
        if let Some(next) = &finding.next {
            writeln!(out, "  {:<14}        next: {}", "", one_line(next))?;
        }
    }
    let verdict = match deployment.verdict {
        Outcome::Pass => "pass",
        Outcome::Inconclusive => "inconclusive",
        Outcome::Fail | Outcome::Collection => "fail",
    };
    writeln!(out, "\nVerdict:  {verdict}")?;
    match (deployment.exit.code(), deployment.verdict) {
        (0, Outcome::Pass) => writeln!(out, "[EXIT] CODE 0 - PASS (every step held)"),
        (0, _) => writeln!(out, "[EXIT] CODE 0 - WARN ONLY (the verdict stays FAIL)"),
        (code, _) => writeln!(out, "[EXIT] CODE {code} - FAIL (blockers detected)"),
    }
}
