//! The Markdown report of the quality gate.

use std::fmt::Write as _;

use super::Header;
use super::format::{figure, one_line, outcome, pass_fail, result, share, threshold, value};
use crate::gate::{Mode, ModelVerdict, QualityVerdict};
use crate::stream::format_rfc3339;

pub(super) fn quality(verdict: &QualityVerdict, header: &Header) -> String {
    let mut out = String::new();
    write_report(&mut out, verdict, header).expect("writing to a string does not fail");
    out
}

fn write_report(out: &mut String, verdict: &QualityVerdict, header: &Header) -> std::fmt::Result {
    writeln!(out, "# Quality Gate Report\n")?;
    writeln!(out, "**Timestamp:** {}\n", format_rfc3339(header.now))?;
    let mode = match verdict.mode {
        Mode::Collection => "🔒 COLLECTION (DATA GATHERING ONLY)",
        Mode::Canary => "🚀 CANARY (DEPLOYMENT ELIGIBLE)",
    };
    writeln!(out, "**MODE:** {mode}\n")?;
    if header.synthetic {
        writeln!(out, "**SYNTHETIC:** the events are simulated and say nothing about a real market\n")?;
    }
    if !verdict.loosened.is_empty() {
        writeln!(out, "**LOOSENED RULES:** {}\n", verdict.loosened.join(", "))?;
    }
    writeln!(out, "**VERDICT:** {} (exit code {})\n", outcome(verdict.outcome), verdict.exit_code)?;
    if !verdict.reasons.is_empty() {
        verdict.reasons.iter().try_for_each(|reason| writeln!(out, "- {}", cell(reason)))?;
        writeln!(out)?;
    }
    writeln!(out, "## Events\n")?;
    let events = &verdict.events;
    writeln!(out, "| | |\n| --- | --- |")?;
    writeln!(out, "| source | {} |", cell(&header.source))?;
    writeln!(out, "| judged | {} (at least {} are needed) |", events.count, events.min)?;
    let requested =
        if events.requested == 0 { "all".to_owned() } else { format!("newest {}", events.requested) };
    writeln!(out, "| requested | {requested} |")?;
    writeln!(out, "| cutover | {} |", verdict.cutover.as_deref().unwrap_or("none"))?;
    let first = verdict.first_malformed.as_deref().map(|first| format!("; the first: {}", cell(first)));
    writeln!(out, "| corrupt | {}{} |", events.malformed, first.unwrap_or_default())?;
    let evidence = &verdict.evidence;
    let id = |id: &Option<String>| id.clone().unwrap_or_else(|| "-".to_owned());
    writeln!(out, "| first and last id | {} … {} |", id(&evidence.first_id), id(&evidence.last_id))?;
    writeln!(out, "| SHA-256 | `{}` |", evidence.sha256)?;
    writeln!(out, "| build | {} |", cell(&header.build))?;

    writeln!(out, "\n## Models\n")?;
    let eligible: Vec<String> = verdict.eligible.iter().map(|name| cell(name)).collect();
    let eligible = if eligible.is_empty() { "none".to_owned() } else { eligible.join(", ") };
    writeln!(out, "Eligible: {eligible}")?;
    verdict.models.iter().try_for_each(|(name, model)| write_model(out, name, model))
}

fn write_model(out: &mut String, name: &str, model: &ModelVerdict) -> std::fmt::Result {
    writeln!(out, "\n### {}: {}\n", cell(name), pass_fail(model.passed))?;
    let ModelVerdict { predictions, actions, .. } = model;
    writeln!(
        out,
        "{predictions} active predictions: BUY {} ({}), SELL {} ({}), HOLD {} ({}). {} confidences were above 1 and \
         taken through a sigmoid.",
        actions.buy,
        share(actions.buy, *predictions),
        actions.sell,
        share(actions.sell, *predictions),
        actions.hold,
        share(actions.hold, *predictions),
        model.normalized,
    )?;
    if model.inactive > 0 {
        let reasons: Vec<String> = model
            .inactive_reasons
            .iter()
            .map(|(reason, count)| format!("{} {count}", cell(reason)))
            .collect();
        writeln!(out, "Inactive {} times: {}.", model.inactive, reasons.join(", "))?;
    }
    let confidence = &model.confidence;
    writeln!(
        out,
        "Confidence: mean {}, std {}, P10 {}, P90 {}.\n",
        figure(confidence.mean),
        figure(confidence.std),
        figure(confidence.p10),
        figure(confidence.p90),
    )?;
    writeln!(out, "| check | value | threshold | result | finding |\n| --- | --- | --- | --- | --- |")?;
    for check in &model.checks {
        writeln!(
            out,
            "| {} | {} | {} | {} | {} |",
            check.check.name(),
            value(check),
            threshold(check),
            result(check),
            cell(&check.detail),
        )?;
    }
    Ok(())
}

/// Foreign text that stays within its line and its table cell.
fn cell(text: &str) -> String {
    one_line(text).replace('\\', "\\\\").replace('|', "\\|").replace('`', "\\`").replace('<', "\\<")
}
