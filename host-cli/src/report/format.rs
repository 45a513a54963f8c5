//! How reports spell values, and names that came from elsewhere.

use crate::gate::{Check, CheckKind, Outcome, beside};

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

/// A share in percent with one decimal.
pub(super) fn share(part: u64, whole: u64) -> String {
    format!("{:.1}%", part as f64 * 100.0 / whole.max(1) as f64)
}

/// A figure with six decimals, `-` if there is none.
pub(super) fn figure(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.6}"))
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
