//! Promotion: a person decides that what was watched stays. Nothing automatic may do this.

use anyhow::Context as _;
use qsc_kernel::ensemble::Ppm;
use serde_json::json;

use super::audit::Transition;
use super::evidence::Finding;
use super::state::{Lock, Standing, State, details, last_generation, promoted_baseline};
use super::watch::last_word;
use super::weights::WeightsFile;
use crate::digest::sha256;

/// How a promotion came out.
#[derive(Clone, Debug)]
pub struct Promotion {
    /// The weights in force after it; `None` if it was refused.
    pub promoted: Option<WeightsFile>,
    /// The model it is about.
    pub model: Option<String>,
    /// Every check.
    pub findings: Vec<Finding>,
}

/// Makes the canary's weights the baseline: those that were watched, or the canary at `weight`.
///
/// # Errors
/// A file cannot be read or written.
pub fn promote(state: &State, weight: Option<Ppm>) -> anyhow::Result<Promotion> {
    let mut outcome = Promotion { promoted: None, model: None, findings: Vec::new() };
    if !state.is_there()? {
        let fault = format!("no canary is active: {} does not exist", state.directory().display());
        outcome.findings.push(Finding::new("standing", false, fault));
        return Ok(outcome);
    }
    let _alone = state.lock(Lock::Activate)?;
    let _writing = state.lock(Lock::Write)?;
    let mut chain = state.recover()?.chain;
    let (file, activated) = match state.standing(&chain) {
        Standing::Active(file, entry) => (file, entry),
        Standing::Foreign(why) => {
            outcome.findings.push(Finding::new("standing", false, why));
            return Ok(outcome);
        }
        _ => {
            outcome.findings.push(Finding::new("standing", false, "no canary is active"));
            return Ok(outcome);
        }
    };
    let model = file.canary.clone().context("an active canary has a name")?;
    outcome.findings.push(Finding::new(
        "standing",
        true,
        format!("{model} is active, generation {}", file.generation),
    ));
    outcome.model = Some(model.clone());
    let last = last_word(&chain, &activated);
    let Some(watch) = last.filter(|entry| entry.event == Transition::WatchPassed) else {
        let fault = match last {
            Some(begun) => format!("the watch begun {} has not ended clean", begun.ts),
            None => format!("no watch of generation {} has ended clean", file.generation),
        };
        let detail = format!("{fault}; run `qsc canary monitor` to its end");
        outcome.findings.push(Finding::new("watch", false, detail));
        return Ok(outcome);
    };
    outcome.findings.push(Finding::new("watch", true, format!("ended clean {}", watch.ts)));
    let weights = match weight {
        Some(weight) => file.weights.with_canary(&model, weight)?,
        None => file.weights.clone(),
    };
    let promoted = WeightsFile { generation: last_generation(&chain) + 1, canary: None, weights };
    let details = details([
        ("weights_ppm", json!(promoted.weights.ppm())),
        ("weights_sha256", sha256(promoted.text()).into()),
        ("baseline_sha256", sha256(promoted_baseline(&promoted).text()).into()),
        ("watch_seq", watch.seq.into()),
    ]);
    state.log().append(&mut chain, Transition::Promoted, Some(&model), promoted.generation, details)?;
    state.write_weights(&promoted)?;
    state.write_baseline(&promoted_baseline(&promoted))?;
    outcome.promoted = Some(promoted);
    Ok(outcome)
}
