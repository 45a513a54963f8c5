//! The HTML report of the quality gate: one file without scripts, readable on a phone, in the dark and on paper.

use std::fmt::{self, Write as _};

use super::Header;
use super::marks::{SIMULATED, SYNTHETIC, TITLE, mode_banner};
use super::spelling::{
    distance, figure, one_line, outcome, pass_fail, percent, requested, result, rule_rows, share, span,
    threshold, value, writers,
};
use super::svg::{self, REASON_CLASSES};
use crate::gate::{
    Actions, Check, DriftFigures, Mode, ModelVerdict, Outcome, PreCutover, QualityVerdict, Slice, Timeline,
};
use crate::stream::format_rfc3339;

const STYLE: &str = include_str!("style.css");

pub(super) fn quality(verdict: &QualityVerdict, header: &Header) -> String {
    let mut out = String::with_capacity(1 << 16);
    write_page(&mut out, verdict, header).expect("writing to a string does not fail");
    out
}

/// Foreign text that stays text.
fn text(foreign: &str) -> String {
    one_line(foreign).chars().fold(String::with_capacity(foreign.len()), |mut out, character| {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
        out
    })
}

const fn class(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Pass => "ok",
        Outcome::Fail => "fail",
        Outcome::Inconclusive | Outcome::Collection => "wait",
    }
}

fn write_page(out: &mut String, verdict: &QualityVerdict, header: &Header) -> fmt::Result {
    let said = outcome(verdict.outcome);
    let time = format_rfc3339(header.now);
    let mode_class = if verdict.mode == Mode::Collection { "mode collection" } else { "mode" };
    write!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{said} · {TITLE} {time}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <div class=\"{mode_class}\">MODE: {}</div>\n",
        mode_banner(verdict.mode)
    )?;
    if header.synthetic {
        writeln!(out, "<div class=\"note\">{SYNTHETIC}: {SIMULATED}</div>")?;
    }
    if !verdict.loosened.is_empty() {
        writeln!(out, "<div class=\"note\">LOOSENED RULES: {}</div>", text(&verdict.loosened.join(", ")))?;
    }
    write!(
        out,
        "<main>\n<div class=\"top\"><div><h1>{TITLE}</h1><div class=\"soft\">{time} · {}</div></div>\
         <span class=\"pill big {}\">{said}</span></div>\n",
        text(&header.source),
        class(verdict.outcome),
    )?;
    if !verdict.reasons.is_empty() {
        let items: String =
            verdict.reasons.iter().map(|reason| format!("<li>{}</li>", text(reason))).collect();
        writeln!(out, "<ul class=\"reasons\">{items}</ul>")?;
    }
    write_tiles(out, verdict)?;
    writeln!(out, "<h2>Checks of the gate</h2>\n<div class=\"card\">")?;
    write_checks(out, &verdict.checks)?;
    writeln!(out, "</div>\n<h2>Models</h2>")?;
    for (name, model) in &verdict.models {
        write_model(out, name, model, &verdict.timeline)?;
    }
    if let Some(before) = &verdict.pre_cutover {
        write_comparison(out, verdict, before)?;
    }
    write_slices(out, verdict)?;
    if let Some(drift) = &verdict.drift {
        write_drift(out, drift)?;
    }
    write_footer(out, verdict, header)?;
    out.push_str("</main>\n</body>\n</html>\n");
    Ok(())
}

fn write_tiles(out: &mut String, verdict: &QualityVerdict) -> fmt::Result {
    let (events, ensemble) = (&verdict.events, &verdict.ensemble);
    let eligible = format!("{} of {}", verdict.eligible.len(), verdict.models.len());
    let names = if verdict.eligible.is_empty() { "none".to_owned() } else { verdict.eligible.join(", ") };
    let tiles = [
        (verdict.exit_code.to_string(), "exit code".to_owned()),
        (events.count.to_string(), format!("events judged, at least {} needed", events.min)),
        (events.malformed.to_string(), "corrupt events".to_owned()),
        (eligible, format!("models eligible: {names}")),
        (percent(ensemble.agreement_pct), format!("agreement over {} events", ensemble.events)),
        (percent(ensemble.hard_disagreement_pct), "hard disagreement: BUY and SELL".to_owned()),
    ];
    let tiles: String = tiles
        .iter()
        .map(|(figure, label)| {
            format!("<div class=\"tile\"><b>{}</b><span>{}</span></div>", text(figure), text(label))
        })
        .collect();
    writeln!(out, "<div class=\"tiles\">{tiles}</div>")
}

fn write_checks(out: &mut String, checks: &[Check]) -> fmt::Result {
    out.push_str(
        "<table class=\"stack checks\"><thead><tr><th>check</th><th>result</th><th class=\"n\">value</th>\
         <th class=\"n\">threshold</th><th class=\"n\">distance</th><th class=\"n\">seen</th><th>finding</th></tr></thead><tbody>\n",
    );
    for check in checks {
        let sign = if check.passed == Some(true) { "" } else { " neg" };
        writeln!(
            out,
            "<tr><td><code>{}</code></td><td><span class=\"pill {}\">{}</span></td>\
             <td class=\"n\" data-l=\"value\">{}</td><td class=\"n\" data-l=\"threshold\">{}</td>\
             <td class=\"n{sign}\" data-l=\"distance\">{}</td><td class=\"n\" data-l=\"seen\">{}</td>\
             <td class=\"soft\">{}</td></tr>",
            check.check.name(),
            check.result(),
            result(check),
            value(check),
            threshold(check),
            distance(check),
            check.seen,
            text(&check.detail),
        )?;
    }
    out.push_str("</tbody></table>\n");
    Ok(())
}

fn write_model(out: &mut String, name: &str, model: &ModelVerdict, timeline: &Timeline) -> fmt::Result {
    let ModelVerdict { predictions, actions, confidence, .. } = model;
    write!(
        out,
        "<section class=\"card\">\n<header><h3>{}</h3><span class=\"pill {}\">{}</span>\
         <span class=\"soft\">{predictions} active predictions, {} inactive</span></header>\n<div class=\"charts\">\n",
        text(name),
        if model.passed { "ok" } else { "fail" },
        pass_fail(model.passed),
        model.inactive,
    )?;
    let shades = format!(
        "<span>mean {}</span><span>std {}</span><span>P10 {}</span><span>P90 {}</span>",
        figure(confidence.mean),
        figure(confidence.std),
        figure(confidence.p10),
        figure(confidence.p90),
    );
    write_chart(
        out,
        "Confidence, with the P10–P90 band",
        &svg::histogram(&model.histogram, confidence),
        ("0", "1"),
        &shades,
    )?;
    let ends = span(timeline);
    let ends = (ends.0.as_str(), ends.1.as_str());
    write_chart(
        out,
        "Share of actions over time",
        &svg::actions(&model.over_time),
        ends,
        &action_legend(actions, *predictions),
    )?;
    if model.inactive > 0 {
        let (chart, most) = svg::inactive(&model.over_time);
        let legend: String = model
            .inactive_reasons
            .iter()
            .enumerate()
            .map(|(at, (reason, count))| {
                let class = REASON_CLASSES[at.min(REASON_CLASSES.len() - 1)];
                format!("<span><i class=\"{class}\"></i>{} {count}</span>", text(reason))
            })
            .collect();
        let title = format!("Inactive over time, at most {most} in one step");
        write_chart(out, &title, &chart, ends, &legend)?;
    }
    out.push_str("</div>\n");
    write_checks(out, &model.checks)?;
    if model.normalized > 0 {
        let count = model.normalized;
        writeln!(out, "<p class=\"soft\">{count} confidences were above 1 and taken through a sigmoid.</p>")?;
    }
    out.push_str("</section>\n");
    Ok(())
}

fn action_legend(actions: &Actions, predictions: u64) -> String {
    [("buy", "BUY", actions.buy), ("hold", "HOLD", actions.hold), ("sell", "SELL", actions.sell)]
        .map(|(class, name, count)| {
            format!("<span><i class=\"{class}\"></i>{name} {count} ({})</span>", share(count, predictions))
        })
        .concat()
}

/// A chart in its frame. `title` and the ends are ours, `chart` and `legend` are markup.
fn write_chart(
    out: &mut String,
    title: &str,
    chart: &str,
    (from, to): (&str, &str),
    legend: &str,
) -> fmt::Result {
    writeln!(
        out,
        "<figure><h4>{title}</h4>{chart}<div class=\"axis\"><span>{from}</span><span>{to}</span></div>\
         <div class=\"legend\">{legend}</div></figure>"
    )
}

fn write_comparison(out: &mut String, verdict: &QualityVerdict, before: &PreCutover) -> fmt::Result {
    write!(
        out,
        "<h2>Before and after the cutover</h2>\n<div class=\"card wide\"><p class=\"soft\">The newest {} events before {}, \
         unjudged, beside the {} judged ones. Agreement {} before, {} after.</p>\n\
         <table class=\"stack\"><thead><tr><th></th><th class=\"n\">predictions</th><th class=\"n\">inactive</th>\
         <th>BUY / HOLD / SELL</th><th class=\"n\">mean</th><th class=\"n\">std</th><th class=\"n\">P10</th><th class=\"n\">P90</th></tr></thead><tbody>\n",
        before.events,
        verdict.cutover.as_deref().unwrap_or("-"),
        verdict.events.count,
        percent(before.ensemble.agreement_pct),
        percent(verdict.ensemble.agreement_pct),
    )?;
    let names: std::collections::BTreeSet<&String> =
        before.models.keys().chain(verdict.models.keys()).collect();
    for name in names {
        let then = before
            .models
            .get(name)
            .map(|model| ("before", model.predictions, model.inactive, &model.actions, &model.confidence));
        let now = verdict
            .models
            .get(name)
            .map(|model| ("after", model.predictions, model.inactive, &model.actions, &model.confidence));
        write_group(out, &text(name), 8)?;
        for (when, predictions, inactive, actions, confidence) in then.into_iter().chain(now) {
            writeln!(
                out,
                "<tr><td class=\"full soft\">{when}</td><td class=\"n\" data-l=\"predictions\">{predictions}</td>\
                 <td class=\"n\" data-l=\"inactive\">{inactive}</td><td class=\"full\">{}</td>\
                 <td class=\"n\" data-l=\"mean\">{}</td><td class=\"n\" data-l=\"std\">{}</td>\
                 <td class=\"n\" data-l=\"P10\">{}</td><td class=\"n\" data-l=\"P90\">{}</td></tr>",
                action_bar(actions),
                figure(confidence.mean),
                figure(confidence.std),
                figure(confidence.p10),
                figure(confidence.p90),
            )?;
        }
    }
    out.push_str("</tbody></table></div>\n");
    Ok(())
}

/// A line across a table of `columns` that says what the rows below belong to. `title` is markup.
fn write_group(out: &mut String, title: &str, columns: u32) -> fmt::Result {
    writeln!(out, "<tr class=\"group\"><th colspan=\"{columns}\">{title}</th></tr>")
}

fn action_bar(actions: &Actions) -> String {
    svg::share_bar(&[("buy", actions.buy), ("hold", actions.hold), ("sell", actions.sell)])
}

fn write_slices(out: &mut String, verdict: &QualityVerdict) -> fmt::Result {
    if verdict.slices.is_empty() {
        return Ok(());
    }
    out.push_str(
        "<h2>Per symbol</h2>\n<div class=\"card wide\"><table class=\"stack\"><thead><tr><th></th><th class=\"n\">predictions</th>\
         <th class=\"n\">inactive</th><th>BUY / HOLD / SELL</th><th class=\"n\">mean</th><th class=\"n\">std</th></tr></thead><tbody>\n",
    );
    for (symbol, Slice { events, models }) in &verdict.slices {
        write_group(out, &format!("{} <span class=\"soft\">{events} events</span>", text(symbol)), 6)?;
        for (model, figures) in models {
            writeln!(
                out,
                "<tr><td class=\"full soft\">{}</td><td class=\"n\" data-l=\"predictions\">{}</td>\
                 <td class=\"n\" data-l=\"inactive\">{}</td><td class=\"full\">{}</td>\
                 <td class=\"n\" data-l=\"mean\">{}</td><td class=\"n\" data-l=\"std\">{}</td></tr>",
                text(model),
                figures.predictions,
                figures.inactive,
                action_bar(&figures.actions),
                figure(figures.confidence_mean),
                figure(figures.confidence_std),
            )?;
        }
    }
    out.push_str("</tbody></table></div>\n");
    Ok(())
}

fn write_drift(out: &mut String, drift: &DriftFigures) -> fmt::Result {
    out.push_str("<h2>Drift against the training rows</h2>\n<div class=\"card wide\">");
    for model in &drift.uncalibrated {
        writeln!(
            out,
            "<p>{}: its image holds no deciles; compile it with <code>--calibrate</code>.</p>",
            text(model)
        )?;
    }
    out.push_str(
        "<table><thead><tr><th>feature</th><th class=\"n\">PSI</th><th class=\"n\">seen</th><th></th></tr></thead><tbody>\n",
    );
    for (model, features) in &drift.models {
        let mut features: Vec<_> = features.iter().collect();
        features.sort_by(|left, right| {
            right.1.psi.unwrap_or(f64::MAX).total_cmp(&left.1.psi.unwrap_or(f64::MAX))
        });
        write_group(out, &text(model), 4)?;
        for (name, figures) in features {
            let drifted = if figures.warning { "<span class=\"pill wait\">drifted</span>" } else { "" };
            writeln!(
                out,
                "<tr><td><code>{}</code></td><td class=\"n\">{}</td><td class=\"n\">{}</td><td>{drifted}</td></tr>",
                text(name),
                figure(figures.psi),
                figures.seen,
            )?;
        }
    }
    out.push_str("</tbody></table></div>\n");
    Ok(())
}

fn write_footer(out: &mut String, verdict: &QualityVerdict, header: &Header) -> fmt::Result {
    let evidence = &verdict.evidence;
    let id = |id: &Option<String>| id.clone().unwrap_or_else(|| "-".to_owned());
    let first = verdict.first_malformed.as_deref().map(|first| ("the first corrupt event", first.to_owned()));
    let rows = [
        ("source", header.source.clone()),
        ("requested", requested(&verdict.events)),
        ("cutover", verdict.cutover.clone().unwrap_or_else(|| "none".to_owned())),
        ("first and last id", format!("{} … {}", id(&evidence.first_id), id(&evidence.last_id))),
        ("SHA-256 of the events", evidence.sha256.clone()),
        ("written by build", writers(evidence)),
        ("judged by build", header.build.clone()),
    ];
    let row = |(name, value): &(&str, String)| {
        format!("<tr><td class=\"soft\">{name}</td><td class=\"long\"><code>{}</code></td></tr>", text(value))
    };
    let evidence: String = rows.iter().chain(first.as_ref()).map(row).collect();
    let rules: String = rule_rows(&verdict.rules)
        .iter()
        .map(|(name, value)| {
            format!("<tr><td><code>{name}</code></td><td class=\"n\">{}</td></tr>", text(value))
        })
        .collect();
    writeln!(
        out,
        "<h2>Evidence and rules</h2>\n<div class=\"two\"><div class=\"card\"><table><tbody>{evidence}</tbody></table></div>\
         <div class=\"card\"><table><tbody>{rules}</tbody></table></div></div>"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_is_never_markup() {
        assert_eq!(
            text("<script>alert('x')</script>&\"\n\u{202e}"),
            "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&amp;&quot;\\u{a}\\u{202e}"
        );
    }
}
