//! The canary dry run: a real activation in every step, up to the one that refuses simulated events.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::canary::activate::{Activation, Request, Status, activate};
use crate::canary::state::State;
use crate::canary::weights::parse_fraction;
use crate::commands::canary::finding_lines;
use crate::gate::Rules;
use crate::judge::EventSource;
use crate::stream::format_rfc3339;

/// The candidate, and the canary's usual weight.
const MODEL: &str = "xgb";
const WEIGHT: f64 = 0.1;
/// What refuses: the one check that simulated events cannot pass.
const REFUSED_BY: &str = "origin";

/// What the dry run came to.
pub(super) struct DryRun {
    cutover: u64,
    pub(super) activation: Activation,
}

impl DryRun {
    /// Judges the demo's intents as `qsc canary activate --dry-run` would; files are in `directory`.
    pub(super) fn of(
        source: &EventSource,
        cutover: u64,
        rules: &Rules,
        directory: &Path,
    ) -> anyhow::Result<Self> {
        let state = State::new(&directory.join("state"));
        let activation = activate(&Request {
            model: MODEL,
            cutover,
            models: &directory.join("MODELS.toml"),
            source,
            weight: parse_fraction(WEIGHT).map_err(anyhow::Error::msg)?,
            dry_run: true,
            state: &state,
            report_dir: directory,
            rules,
            cool_down: Duration::ZERO,
            force: None,
            sign_key: None,
            require_signed: None,
            signed_report: None,
        })?;
        Ok(Self { cutover, activation })
    }

    fn failed(&self) -> impl Iterator<Item = &'static str> {
        self.activation.findings.iter().filter(|finding| !finding.passed).map(|finding| finding.check)
    }

    /// Blocked because the events are simulated, and for no other reason.
    pub(super) fn is_as_it_must_be(&self) -> bool {
        self.activation.status == Status::Blocked && self.failed().eq([REFUSED_BY])
    }

    pub(super) fn text(&self) -> String {
        format!(
            "Canary dry run: {MODEL} at {WEIGHT}, judged since the cutover {cutover}\n{lines}\
             \x20 Nothing was activated: {end}\n",
            cutover = format_rfc3339(self.cutover),
            lines = finding_lines(&self.activation.findings),
            end = if self.is_as_it_must_be() {
                "every step held but the origin of the events, which no SYNTHETIC report can show"
            } else {
                "but the origin of the events is NOT the one step that refused"
            },
        )
    }

    pub(super) fn document(&self) -> Value {
        json!({
            "activated": false,
            "model": MODEL,
            "weight": WEIGHT,
            "cutover": format_rfc3339(self.cutover),
            "blocked_by": self.failed().collect::<Vec<_>>(),
            "checks": self.activation.findings,
            "report": self.activation.report.as_ref().map(|report| &report.files.markdown),
        })
    }
}
