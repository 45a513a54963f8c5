//! The Markdown report of the quality gate.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::Header;
use super::marks::{TITLE, mode_line, synthetic_line, time_line, verdict_line};
use super::spelling::{
    cell, confidences, distance, figure, inactive, pass_fail, percent, requested, result, rule_rows, share,
    threshold, value, writers,
};
use crate::gate::{Check, DriftFigures, Ensemble, ModelVerdict, PreCutover, QualityVerdict, SliceFigures};
use crate::stream::format_rfc3339;

pub(super) fn quality(verdict: &QualityVerdict, header: &Header) -> String {
    let mut out = String::new();
    write_report(&mut out, verdict, header).expect("writing to a string does not fail");
    out
}

fn write_report(out: &mut String, verdict: &QualityVerdict, header: &Header) -> std::fmt::Result {
    writeln!(out, "# {TITLE}\n")?;
    writeln!(out, "{}\n", time_line(&format_rfc3339(header.now)))?;
    writeln!(out, "{}\n", mode_line(verdict.mode))?;
    if header.synthetic {
        writeln!(out, "{}\n", synthetic_line())?;
    }
    if !verdict.loosened.is_empty() {
        writeln!(out, "**LOOSENED RULES:** {}\n", verdict.loosened.join(", "))?;
    }
    writeln!(out, "{}\n", verdict_line(verdict.outcome, verdict.exit_code))?;
    if !verdict.reasons.is_empty() {
        verdict.reasons.iter().try_for_each(|reason| writeln!(out, "- {}", cell(reason)))?;
        writeln!(out)?;
    }
    writeln!(out, "## Events\n")?;
    let events = &verdict.events;
    writeln!(out, "| | |\n| --- | --- |")?;
    writeln!(out, "| source | {} |", cell(&header.source))?;
    writeln!(out, "| judged | {} (at least {} are needed) |", events.count, events.min)?;
    writeln!(out, "| requested | {} |", requested(events))?;
    writeln!(out, "| cutover | {} |", verdict.cutover.as_deref().unwrap_or("none"))?;
    let first = verdict.first_malformed.as_deref().map(|first| format!("; the first: {}", cell(first)));
    writeln!(out, "| corrupt | {}{} |", events.malformed, first.unwrap_or_default())?;
    let evidence = &verdict.evidence;
    let id = |id: &Option<String>| id.clone().unwrap_or_else(|| "-".to_owned());
    writeln!(out, "| first and last id | {} … {} |", id(&evidence.first_id), id(&evidence.last_id))?;
    writeln!(out, "| SHA-256 | `{}` |", evidence.sha256)?;
    writeln!(out, "| written by build | {} |", cell(&writers(evidence)))?;
    writeln!(out, "| judged by build | {} |", cell(&header.build))?;

    writeln!(out, "\n## Checks of the gate\n")?;
    write_checks(out, &verdict.checks)?;
    let Ensemble { events, agreement_pct, hard_disagreement_pct, .. } = verdict.ensemble;
    writeln!(
        out,
        "\nAgreement: {}, hard disagreement: {}, over {events} events with two or more active models.",
        percent(agreement_pct),
        percent(hard_disagreement_pct),
    )?;

    writeln!(out, "\n## Models\n")?;
    let eligible: Vec<String> = verdict.eligible.iter().map(|name| cell(name)).collect();
    let eligible = if eligible.is_empty() { "none".to_owned() } else { eligible.join(", ") };
    writeln!(out, "Eligible: {eligible}")?;
    verdict.models.iter().try_for_each(|(name, model)| write_model(out, name, model))?;
    if let Some(before) = &verdict.pre_cutover {
        write_comparison(out, verdict, before)?;
    }
    write_slices(out, verdict)?;
    if let Some(drift) = &verdict.drift {
        write_drift(out, drift)?;
    }
    writeln!(out, "\n## Rules\n\n| rule | value |\n| --- | --- |")?;
    rule_rows(&verdict.rules)
        .iter()
        .try_for_each(|(name, value)| writeln!(out, "| {name} | {} |", cell(value)))
}

fn write_comparison(out: &mut String, verdict: &QualityVerdict, before: &PreCutover) -> std::fmt::Result {
    writeln!(
        out,
        "\n## Before and after the cutover\n\nThe newest {} events before it, unjudged.\n",
        before.events
    )?;
    writeln!(out, "| model | when | predictions | inactive | BUY | SELL | HOLD | mean | std | P10 | P90 |")?;
    writeln!(out, "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")?;
    let names: BTreeSet<&String> = before.models.keys().chain(verdict.models.keys()).collect();
    for name in names {
        let then = before.models.get(name);
        let then =
            then.map(|model| ("before", model.predictions, model.inactive, model.actions, model.confidence));
        let now = verdict.models.get(name);
        let now =
            now.map(|model| ("after", model.predictions, model.inactive, model.actions, model.confidence));
        for (when, predictions, inactive, actions, confidence) in then.into_iter().chain(now) {
            writeln!(
                out,
                "| {} | {when} | {predictions} | {inactive} | {} | {} | {} | {} | {} | {} | {} |",
                cell(name),
                share(actions.buy, predictions),
                share(actions.sell, predictions),
                share(actions.hold, predictions),
                figure(confidence.mean),
                figure(confidence.std),
                figure(confidence.p10),
                figure(confidence.p90),
            )?;
        }
    }
    Ok(())
}

fn write_slices(out: &mut String, verdict: &QualityVerdict) -> std::fmt::Result {
    if verdict.slices.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "\n## Per symbol\n\n| symbol | events | model | predictions | inactive | BUY | SELL | HOLD | mean | std |"
    )?;
    writeln!(out, "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")?;
    for (symbol, slice) in &verdict.slices {
        for (model, figures) in &slice.models {
            let SliceFigures { predictions, inactive, actions, confidence_mean, confidence_std } = figures;
            writeln!(
                out,
                "| {} | {} | {} | {predictions} | {inactive} | {} | {} | {} | {} | {} |",
                cell(symbol),
                slice.events,
                cell(model),
                share(actions.buy, *predictions),
                share(actions.sell, *predictions),
                share(actions.hold, *predictions),
                figure(*confidence_mean),
                figure(*confidence_std),
            )?;
        }
    }
    Ok(())
}

fn write_drift(out: &mut String, drift: &DriftFigures) -> std::fmt::Result {
    writeln!(out, "\n## Drift against the training rows\n")?;
    for model in &drift.uncalibrated {
        writeln!(out, "{}: its image holds no deciles; compile it with `--calibrate`.\n", cell(model))?;
    }
    writeln!(out, "| model | feature | PSI | seen | |\n| --- | --- | --- | --- | --- |")?;
    for (model, features) in &drift.models {
        for (name, figures) in features {
            let warning = if figures.warning { "DRIFTED" } else { "" };
            let psi = figure(figures.psi);
            writeln!(out, "| {} | {} | {psi} | {} | {warning} |", cell(model), cell(name), figures.seen)?;
        }
    }
    Ok(())
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
    if let Some(inactive) = inactive(model, cell) {
        writeln!(out, "Inactive {inactive}.")?;
    }
    writeln!(out, "Confidence: {}.\n", confidences(&model.confidence))?;
    write_checks(out, &model.checks)
}

fn write_checks(out: &mut String, checks: &[Check]) -> std::fmt::Result {
    writeln!(out, "| check | value | threshold | distance | seen | result | finding |")?;
    writeln!(out, "| --- | --- | --- | --- | --- | --- | --- |")?;
    checks.iter().try_for_each(|check| {
        writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} |",
            check.check.name(),
            value(check),
            threshold(check),
            distance(check),
            check.seen,
            result(check),
            cell(&check.detail),
        )
    })
}
