//! What a quality report is known by: written by every rendering, looked for by whoever examines a report.

use jiff::Timestamp;

use super::spelling::outcome;
use crate::gate::{Mode, Outcome};

/// The title of the Markdown report and of the page.
pub(crate) const TITLE: &str = "Quality Gate Report";
/// What every rendering of simulated events begins with.
pub(crate) const SYNTHETIC: &str = "SYNTHETIC";
/// What follows it.
pub(super) const SIMULATED: &str = "the events are simulated and say nothing about a real market";
/// What the names of report files begin with.
pub(crate) const STEM: &str = "quality_gate_";
/// What the names of reports on events since a cutover say.
pub(crate) const POST_CUTOVER: &str = "_post_cutover";

/// The line of the Markdown report that bears its time, RFC 3339.
pub(crate) fn time_line(time: &str) -> String {
    format!("**Timestamp:** {time}")
}

/// The line that says which mode it is of.
pub(crate) fn mode_line(mode: Mode) -> String {
    format!("{MODE} {}", mode_banner(mode))
}

/// What that line begins with.
pub(crate) const MODE: &str = "**MODE:**";

pub(super) fn mode_banner(mode: Mode) -> String {
    let sign = match mode {
        Mode::Collection => '🔒',
        Mode::Canary => '🚀',
    };
    format!("{sign} {}", mode_words(mode))
}

pub(super) const fn mode_words(mode: Mode) -> &'static str {
    match mode {
        Mode::Collection => "COLLECTION (DATA GATHERING ONLY)",
        Mode::Canary => "CANARY (DEPLOYMENT ELIGIBLE)",
    }
}

/// The line that bears the verdict.
pub(crate) fn verdict_line(verdict: Outcome, exit_code: u8) -> String {
    format!("**VERDICT:** {} (exit code {exit_code})", outcome(verdict))
}

/// The line that says that the events are simulated.
pub(super) fn synthetic_line() -> String {
    format!("**{SYNTHETIC}:** {SIMULATED}")
}

/// The second of a file name, in UTC; Unix ms where there is no such date.
pub(crate) fn second(ms: u64) -> String {
    i64::try_from(ms)
        .ok()
        .and_then(|ms| Timestamp::from_millisecond(ms).ok())
        .map_or_else(|| ms.to_string(), |time| time.strftime("%Y%m%d_%H%M%S").to_string())
}
