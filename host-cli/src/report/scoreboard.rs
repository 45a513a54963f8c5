//! The scoreboard for people.

use std::fmt::Write as _;

use super::Header;
use super::files::ReportFiles;
use super::marks::{SIMULATED, SYNTHETIC, synthetic_line, time_line, verdict_line};
use super::spelling::{cell, figure, one_line, outcome, percent, share};
use crate::gate::{ModelVerdict, QualityVerdict, Scoreboard, Standing};
use crate::stream::format_rfc3339;

pub(super) fn text(
    board: &Scoreboard,
    verdict: &QualityVerdict,
    header: &Header,
    files: &ReportFiles,
) -> String {
    let mut out = String::new();
    write_text(&mut out, board, verdict, header, files).expect("writing to a string does not fail");
    out
}

pub(super) fn markdown(board: &Scoreboard, verdict: &QualityVerdict, header: &Header) -> String {
    let mut out = String::new();
    write_markdown(&mut out, board, verdict, header).expect("writing to a string does not fail");
    out
}

/// Every model with its standing.
fn lines<'a>(
    board: &'a Scoreboard,
    verdict: &'a QualityVerdict,
) -> impl Iterator<Item = (&'a String, &'a Standing, &'a ModelVerdict)> {
    board.signals.iter().filter_map(|(name, standing)| Some((name, standing, verdict.models.get(name)?)))
}

fn write_text(
    out: &mut String,
    board: &Scoreboard,
    verdict: &QualityVerdict,
    header: &Header,
    files: &ReportFiles,
) -> std::fmt::Result {
    writeln!(out, "Scoreboard  {}", format_rfc3339(header.now))?;
    if header.synthetic {
        writeln!(out, "  {SYNTHETIC} {SIMULATED}")?;
    }
    writeln!(out, "  source    {}", one_line(&header.source))?;
    writeln!(out, "  events    {} (at least {} needed)", verdict.events.count, verdict.events.min)?;
    writeln!(
        out,
        "  agreement {}, hard disagreement {}, over {} events",
        percent(board.ensemble.agreement_pct),
        percent(board.ensemble.hard_disagreement_pct),
        board.ensemble.events
    )?;
    for rule in &verdict.loosened {
        writeln!(out, "  LOOSENED  {rule}")?;
    }
    let width = board.signals.keys().map(|name| one_line(name).chars().count()).max().unwrap_or(0).max(5);
    writeln!(
        out,
        "\n  {:<width$}  {:<6}  {:>11}  {:>7}  {:>7}  {:>7}  {:>9}  {:>9}",
        "model", "signal", "predictions", "BUY", "SELL", "HOLD", "mean", "std"
    )?;
    for (name, standing, model) in lines(board, verdict) {
        let of = |count| share(count, model.predictions);
        writeln!(
            out,
            "  {:<width$}  {:<6}  {:>11}  {:>7}  {:>7}  {:>7}  {:>9}  {:>9}",
            one_line(name),
            standing.signal.name(),
            model.predictions,
            of(model.actions.buy),
            of(model.actions.sell),
            of(model.actions.hold),
            figure(model.confidence.mean),
            figure(model.confidence.std),
        )?;
        for reason in &standing.reasons {
            writeln!(out, "  {:<width$}    - {}", "", one_line(reason))?;
        }
    }
    if board.signals.is_empty() {
        writeln!(out, "  no model in the telemetry")?;
    }
    writeln!(out)?;
    writeln!(out, "Report:   {}\n          {}", files.markdown.display(), files.json.display())?;
    writeln!(out, "Verdict:  {} (exit code {})", outcome(board.outcome), board.exit_code)
}

fn write_markdown(
    out: &mut String,
    board: &Scoreboard,
    verdict: &QualityVerdict,
    header: &Header,
) -> std::fmt::Result {
    writeln!(out, "# Scoreboard\n\n{}\n", time_line(&format_rfc3339(header.now)))?;
    if header.synthetic {
        writeln!(out, "{}\n", synthetic_line())?;
    }
    if !verdict.loosened.is_empty() {
        writeln!(out, "**LOOSENED RULES:** {}\n", verdict.loosened.join(", "))?;
    }
    writeln!(out, "{}\n", verdict_line(board.outcome, board.exit_code))?;
    writeln!(
        out,
        "Source {}, {} events, SHA-256 `{}`. Agreement {}, hard disagreement {}.\n",
        cell(&header.source),
        verdict.events.count,
        verdict.evidence.sha256,
        percent(board.ensemble.agreement_pct),
        percent(board.ensemble.hard_disagreement_pct),
    )?;
    writeln!(
        out,
        "| model | signal | predictions | BUY | SELL | HOLD | why |\n| --- | --- | --- | --- | --- | --- | --- |"
    )?;
    lines(board, verdict).try_for_each(|(name, standing, model)| {
        let of = |count| share(count, model.predictions);
        writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} |",
            cell(name),
            standing.signal.name(),
            model.predictions,
            of(model.actions.buy),
            of(model.actions.sell),
            of(model.actions.hold),
            cell(&standing.reasons.join("; ")),
        )
    })
}
