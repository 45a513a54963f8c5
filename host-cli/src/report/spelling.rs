//! How reports spell values, and names that came from elsewhere.

use crate::gate::{
    Check, CheckKind, ConfidenceFigures, EventFigures, Evidence, ModelVerdict, Outcome, Rules, Timeline,
    beside,
};
use crate::stream::format_rfc3339;

/// Foreign text on one line: control characters and line separators escaped, so it cannot pose as a line of ours.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut line, character| {
        if character.is_control() || matches!(character, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
            line.extend(character.escape_unicode());
        } else {
            line.push(character);
        }
        line
    })
}

/// Foreign text that stays within its line and its table cell, and is no link, image, emphasis or markup of Markdown.
pub(super) fn cell(text: &str) -> String {
    let line = one_line(text);
    let mut cell = String::with_capacity(line.len());
    let mut before = None;
    let mut rest = line.chars().peekable();
    while let Some(character) = rest.next() {
        // Within a word it is a letter like any other, and names stay as they are searched for.
        let within = before.is_some_and(char::is_alphanumeric)
            && rest.peek().is_some_and(|next| next.is_alphanumeric());
        if "\\|`<>*[]!&".contains(character) || (character == '_' && !within) {
            cell.push('\\');
        }
        cell.push(character);
        before = Some(character);
    }
    cell
}

/// A share in percent with one decimal.
pub(super) fn share(part: u64, whole: u64) -> String {
    percent(Some(part as f64 * 100.0 / whole.max(1) as f64))
}

/// A figure with six decimals, `-` if there is none.
pub(super) fn figure(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.6}"))
}

/// The figures of a model's confidences in one line.
pub(super) fn confidences(figures: &ConfidenceFigures) -> String {
    let ConfidenceFigures { mean, std, p10, p90, .. } = *figures;
    let [mean, std, p10, p90] = [mean, std, p10, p90].map(figure);
    format!("mean {mean}, std {std}, P10 {p10}, P90 {p90}")
}

/// How often a model was inactive and why; `spell` makes its reasons fit where they stand.
pub(super) fn inactive(model: &ModelVerdict, spell: fn(&str) -> String) -> Option<String> {
    let reasons = model.inactive_reasons.iter().map(|(reason, count)| format!("{} {count}", spell(reason)));
    let reasons = reasons.collect::<Vec<_>>().join(", ");
    (model.inactive > 0).then(|| format!("{} times: {reasons}", model.inactive))
}

/// The value of a check in its unit.
pub(super) fn value(check: &Check) -> String {
    match check.value {
        None => "-".to_owned(),
        Some(value) if check.check.is_percentage() => format!("{} %", beside(value, check.threshold, 2)),
        Some(value) if value.fract() == 0.0 && is_count(check.check) => format!("{value}"),
        Some(value) => beside(value, check.threshold, 6),
    }
}

/// The bound of a check in its unit, with its direction.
pub(super) fn threshold(check: &Check) -> String {
    let direction = if check.check.is_lower_bound() { '≥' } else { '≤' };
    let unit = if check.check.is_percentage() { " %" } else { "" };
    format!("{direction} {}{unit}", check.threshold)
}

/// How far inside its bound a check's value is, with its sign; negative beyond it.
pub(super) fn distance(check: &Check) -> String {
    let Some(distance) = check.distance() else { return "-".to_owned() };
    let counted = is_count(check.check) && !check.check.is_percentage() && distance.fract() == 0.0;
    let unit = if check.check.is_percentage() { " %" } else { "" };
    let decimals = if counted {
        0
    } else if check.check.is_percentage() {
        2
    } else {
        6
    };
    let short = format!("{distance:+.decimals$}");
    // What rounds to nothing, but is something, keeps its sign and size.
    let hides = distance != 0.0 && short.parse() == Ok(0.0);
    if hides { format!("{distance:+e}{unit}") } else { format!("{short}{unit}") }
}

/// A percentage with one decimal, `-` if there is none.
pub(crate) fn percent(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1} %"))
}

/// Which builds wrote the events, and how many each.
pub(super) fn writers(evidence: &Evidence) -> String {
    let each = |(build, count): (&String, &u64)| format!("{} ({count})", one_line(build));
    let each: Vec<String> = evidence.written_by.iter().map(each).collect();
    if each.is_empty() { "-".to_owned() } else { each.join(", ") }
}

/// How many events were asked for.
pub(super) fn requested(events: &EventFigures) -> String {
    if events.requested == 0 { "all".to_owned() } else { format!("newest {}", events.requested) }
}

/// Start and end of a timeline, to the second.
pub(super) fn span(timeline: &Timeline) -> (String, String) {
    let Some(start) = timeline.start_ms else { return ("-".to_owned(), "-".to_owned()) };
    let length = timeline.bucket_ms.saturating_mul(timeline.buckets as u64);
    let second = |ms: u64| format_rfc3339(ms / 1000 * 1000);
    (second(start), second(start.saturating_add(length)))
}

/// Every rule and its value, in order, as the settings name them.
pub(super) fn rule_rows(rules: &Rules) -> Vec<(String, String)> {
    let rules = serde_json::to_value(rules).expect("rules are numbers and names");
    let rows = rules.as_object().into_iter().flatten();
    rows.map(|(name, value)| {
        let value = match value {
            serde_json::Value::Null => "none".to_owned(),
            serde_json::Value::Array(names) if names.is_empty() => "none".to_owned(),
            other => other.to_string(),
        };
        (name.clone(), value)
    })
    .collect()
}

/// `ok`, `FAIL`, or `not made`.
pub(super) const fn result(check: &Check) -> &'static str {
    match check.passed {
        Some(true) => "ok",
        Some(false) => "FAIL",
        None => "not made",
    }
}

/// `PASS` or `FAIL`.
pub(super) const fn pass_fail(passed: bool) -> &'static str {
    if passed { "PASS" } else { "FAIL" }
}

/// The outcome in capitals.
pub(super) const fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Pass => "PASS",
        Outcome::Fail => "FAIL",
        Outcome::Inconclusive => "INCONCLUSIVE",
        Outcome::Collection => "COLLECTION",
    }
}

const fn is_count(check: CheckKind) -> bool {
    !matches!(check, CheckKind::ConfidenceStd | CheckKind::P10P90Range | CheckKind::ConstantOutput)
}
