//! Verdicts for people at a terminal.

use std::fmt::Write as _;

use super::Header;
use super::files::ReportFiles;
use super::marks::{SIMULATED, SYNTHETIC, mode_words};
use super::spelling::{
    confidences, figure, inactive, one_line, outcome, pass_fail, percent, requested, result, share,
    threshold, value,
};
use crate::gate::{Check, DriftFigures, Duplicates, ModelVerdict, Outcome, QualityVerdict, SanityVerdict};
use crate::stream::format_rfc3339;

pub(super) fn quality(verdict: &QualityVerdict, header: &Header, files: &ReportFiles) -> String {
    let mut out = String::new();
    write_quality(&mut out, verdict, header, files).expect("writing to a string does not fail");
    out
}

pub(super) fn sanity(verdict: &SanityVerdict, header: &Header) -> String {
    let mut out = String::new();
    write_sanity(&mut out, verdict, header).expect("writing to a string does not fail");
    out
}

fn write_quality(
    out: &mut String,
    verdict: &QualityVerdict,
    header: &Header,
    files: &ReportFiles,
) -> std::fmt::Result {
    write_head(out, "Quality gate", header)?;
    writeln!(out, "  time      {}", format_rfc3339(header.now))?;
    writeln!(out, "  mode      {}", mode_words(verdict.mode))?;
    if let Some(cutover) = &verdict.cutover {
        writeln!(out, "  cutover   {cutover}")?;
    }
    let events = &verdict.events;
    let requested = requested(events);
    writeln!(out, "  events    {} ({requested} asked for, at least {} needed)", events.count, events.min)?;
    write_corrupt(out, events.malformed, verdict.first_malformed.as_deref())?;
    for rule in &verdict.loosened {
        writeln!(out, "  LOOSENED  {rule}")?;
    }
    let ensemble = &verdict.ensemble;
    writeln!(
        out,
        "  agreement {}, hard disagreement {}, over {} events",
        percent(ensemble.agreement_pct),
        percent(ensemble.hard_disagreement_pct),
        ensemble.events
    )?;
    write_duplicates(out, &verdict.duplicates)?;
    write_drift(out, verdict.drift.as_ref())?;
    for (name, model) in &verdict.models {
        write_model(out, name, model)?;
    }
    let eligible: Vec<String> = verdict.eligible.iter().map(|name| one_line(name)).collect();
    let eligible = if eligible.is_empty() { "none".to_owned() } else { eligible.join(", ") };
    writeln!(out, "\nEligible: {eligible}")?;
    writeln!(out, "Report:   {}", files.markdown.display())?;
    writeln!(out, "          {}", files.json.display())?;
    files.html.iter().try_for_each(|html| writeln!(out, "          {}", html.display()))?;
    writeln!(out, "Verdict:  {}", outcome(verdict.outcome))?;
    for reason in &verdict.reasons {
        writeln!(out, "  - {}", one_line(reason))?;
    }
    write_exit(out, verdict.outcome, "at least ONE model healthy")
}

fn write_model(out: &mut String, name: &str, model: &ModelVerdict) -> std::fmt::Result {
    let ModelVerdict { predictions, actions, confidence, .. } = model;
    writeln!(out, "\n{}  {}", one_line(name), pass_fail(model.passed))?;
    let shares = [("BUY", actions.buy), ("SELL", actions.sell), ("HOLD", actions.hold)]
        .map(|(action, count)| format!("{action} {count} ({})", share(count, *predictions)));
    writeln!(out, "  {predictions} active predictions: {}", shares.join(", "))?;
    writeln!(out, "  confidence: {}; {} normalized", confidences(confidence), model.normalized)?;
    if let Some(inactive) = inactive(model, one_line) {
        writeln!(out, "  inactive {inactive}")?;
    }
    write_checks(out, &model.checks)
}

fn write_sanity(out: &mut String, verdict: &SanityVerdict, header: &Header) -> std::fmt::Result {
    write_head(out, "Feature sanity", header)?;
    writeln!(out, "  events    {} (at least {} needed)", verdict.events, verdict.rules.sanity_min_events)?;
    write_corrupt(out, verdict.malformed, verdict.first_malformed.as_deref())?;
    for rule in &verdict.loosened {
        writeln!(out, "  LOOSENED  {}", one_line(rule))?;
    }
    write_duplicates(out, &verdict.duplicates)?;
    write_drift(out, verdict.drift.as_ref())?;
    if !verdict.features.is_empty() {
        let names: Vec<String> = verdict.features.keys().map(|name| one_line(name)).collect();
        let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).max(7);
        writeln!(
            out,
            "\n  {:<width$}  {:>14}  {:>14}  {:>14}  {:>14}  {:>5}  {:>5}",
            "feature", "mean", "std", "min", "max", "nan", "inf"
        )?;
        for (name, figures) in names.iter().zip(verdict.features.values()) {
            let number =
                |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.6e}"));
            let flat = if figures.flat { "  FLAT" } else { "" };
            writeln!(
                out,
                "  {name:<width$}  {:>14}  {:>14}  {:>14}  {:>14}  {:>5}  {:>5}{flat}",
                number(figures.mean),
                number(figures.std),
                number(figures.min),
                number(figures.max),
                figures.nan,
                figures.inf,
            )?;
        }
    }
    writeln!(out)?;
    write_checks(out, &verdict.checks)?;
    if !verdict.allowed_flat.is_empty() {
        let names: Vec<String> = verdict.allowed_flat.iter().map(|name| one_line(name)).collect();
        writeln!(out, "  flat, as --allow-flat permits: {}", names.join(", "))?;
    }
    writeln!(out, "\nVerdict:  {}", outcome(verdict.outcome))?;
    for reason in verdict.reasons() {
        writeln!(out, "  - {}", one_line(reason))?;
    }
    write_exit(out, verdict.outcome, "features are alive")
}

fn write_head(out: &mut String, title: &str, header: &Header) -> std::fmt::Result {
    writeln!(out, "{title}")?;
    if header.synthetic {
        writeln!(out, "  {SYNTHETIC} {SIMULATED}")?;
    }
    writeln!(out, "  source    {}", one_line(&header.source))
}

fn write_corrupt(out: &mut String, malformed: u64, first: Option<&str>) -> std::fmt::Result {
    writeln!(out, "  corrupt   {malformed}")?;
    first.map_or(Ok(()), |first| writeln!(out, "            the first: {}", one_line(first)))
}

fn write_duplicates(out: &mut String, duplicates: &Duplicates) -> std::fmt::Result {
    let Duplicates { window, unique, warning, .. } = *duplicates;
    if window == 0 {
        return Ok(());
    }
    let warning = if warning { "  WARNING: most feature vectors repeat" } else { "" };
    // A line that scripts read: its percentage is spelled without a space.
    writeln!(
        out,
        "Unique hashes: {unique}/{window} ({:.1}% unique){warning}",
        unique as f64 * 100.0 / window as f64
    )
}

/// What has drifted, and which models cannot tell.
fn write_drift(out: &mut String, drift: Option<&DriftFigures>) -> std::fmt::Result {
    let Some(drift) = drift else { return Ok(()) };
    for (model, features) in &drift.models {
        for (name, figures) in features.iter().filter(|(_, figures)| figures.warning) {
            let (model, name, psi) = (one_line(model), one_line(name), figure(figures.psi));
            writeln!(
                out,
                "  DRIFTED   {name} from the training rows of {model}: PSI {psi} over {} values",
                figures.seen
            )?;
        }
    }
    drift.uncalibrated.iter().try_for_each(|model| {
        writeln!(
            out,
            "  drift     {}: its image holds no deciles (qsc model compile --calibrate)",
            one_line(model)
        )
    })
}

fn write_checks(out: &mut String, checks: &[Check]) -> std::fmt::Result {
    writeln!(out, "  {:<24}  {:>14}  {:>12}  result", "check", "value", "threshold")?;
    checks.iter().try_for_each(|check| {
        let (name, value, threshold) = (check.check.name(), value(check), threshold(check));
        writeln!(out, "  {name:<24}  {value:>14}  {threshold:>12}  {}", result(check))?;
        if check.passed != Some(true) { writeln!(out, "      {}", one_line(&check.detail)) } else { Ok(()) }
    })
}

/// The last line, which scripts read.
fn write_exit(out: &mut String, outcome: Outcome, pass: &str) -> std::fmt::Result {
    write!(out, "[EXIT] CODE {} - ", outcome.exit().code())?;
    match outcome {
        Outcome::Pass => writeln!(out, "PASS ({pass})"),
        Outcome::Fail | Outcome::Inconclusive => writeln!(out, "FAIL (blockers detected)"),
        Outcome::Collection => writeln!(out, "COLLECTION COMPLETE (CANNOT PROMOTE)"),
    }
}
