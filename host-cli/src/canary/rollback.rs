//! Rollback: the one thing that nothing may block. It restores the baseline first and records afterwards, and says what is
//! broken besides.

use anyhow::{Context as _, bail};
use serde_json::json;

use super::audit::{Chain, Transition};
use super::state::{Lock, Standing, State, details, last_generation};
use super::weights::{Baseline, Weights, WeightsFile};
use crate::digest::sha256;
use crate::engine::config::ModelsConfig;

/// How a rollback came out.
#[derive(Clone, Debug, PartialEq)]
pub struct Rollback {
    /// The baseline was put in force; `None` if there was nothing to roll back.
    pub restored: Option<WeightsFile>,
    /// The model that was active, if that is known.
    pub model: Option<String>,
    /// What is broken besides, in words: then not everything was done.
    pub broken: Vec<String>,
}

/// Restores the baseline, if anything but the baseline is in force or may be.
///
/// `models` gives the weights where there is no usable baseline.
///
/// # Errors
/// The baseline could not be put in force: there is none, or the disk refuses. Everything is then as it was.
pub fn rollback(state: &State, models: Option<&ModelsConfig>, reason: &str) -> anyhow::Result<Rollback> {
    let mut outcome = Rollback { restored: None, model: None, broken: Vec::new() };
    if !state.directory().exists() {
        return Ok(outcome);
    }
    let _writing = state.lock(Lock::Write)?;
    let mut chain = match state.recover() {
        Ok(chain) => Some(chain),
        Err(error) => {
            outcome
                .broken
                .push(format!("{error:#}; it cannot be recorded. `qsc canary audit verify` tells more"));
            None
        }
    };
    let current = state.weights();
    match (&chain, &current) {
        (Some(chain), _) => match state.standing(chain) {
            Standing::Idle(_) => return Ok(outcome),
            Standing::Active(file, _) => outcome.model = file.canary,
            Standing::Foreign(why) => {
                let told = current.as_ref().ok().and_then(|file| file.as_ref()?.canary.clone());
                outcome.model = last_activated(chain).or(told);
                outcome.broken.push(why);
            }
            // `recover` leaves neither.
            Standing::Interrupted(_) | Standing::Unrecorded(_) => {}
        },
        // Without a log the weights file alone says whether a canary is active.
        (None, Ok(None)) => return Ok(outcome),
        (None, Ok(Some(file))) if file.canary.is_none() => return Ok(outcome),
        (None, Ok(Some(file))) => outcome.model = file.canary.clone(),
        (None, Err(error)) => outcome.broken.push(format!("{error:#}")),
    }
    let baseline = usable_baseline(state, chain.as_ref(), models)?;
    let known = [
        chain.as_ref().map_or(0, last_generation),
        current.ok().flatten().map_or(0, |file| file.generation),
        // The activation after it made the next generation.
        baseline.generation + 1,
    ];
    let generation = known.into_iter().max().unwrap_or(0) + 1;
    let file = WeightsFile { generation, canary: None, weights: baseline.weights };
    state.write_weights(&file)?;
    if let Some(chain) = &mut chain
        && let Err(error) = record(state, chain, &outcome, &file, reason)
    {
        outcome.broken.push(format!("{error:#}; the rollback is in force but not recorded"));
    }
    outcome.restored = Some(file);
    Ok(outcome)
}

fn record(
    state: &State,
    chain: &mut Chain,
    outcome: &Rollback,
    file: &WeightsFile,
    reason: &str,
) -> anyhow::Result<()> {
    let details = details([
        ("reason", reason.into()),
        ("weights_ppm", json!(file.weights.ppm())),
        ("weights_sha256", sha256(file.text()).into()),
        ("found_broken", json!(outcome.broken)),
    ]);
    state.log().append(chain, Transition::RolledBack, outcome.model.as_deref(), file.generation, details)
}

/// The model of the last activation, whatever became of it.
fn last_activated(chain: &Chain) -> Option<String> {
    chain.entries.iter().rev().find(|entry| entry.event == Transition::Activated)?.model.clone()
}

/// The saved baseline, if it is the one the log saw saved; else that of `models`. Never a guess.
fn usable_baseline(
    state: &State,
    chain: Option<&Chain>,
    models: Option<&ModelsConfig>,
) -> anyhow::Result<Baseline> {
    let fault = match state.baseline() {
        Ok(Some(baseline)) => {
            let recorded = chain.and_then(|chain| {
                let sets = |event| matches!(event, Transition::Activated | Transition::Promoted);
                chain.entries.iter().rev().find(|entry| sets(entry.event))?.detail("baseline_sha256")
            });
            if recorded.is_none_or(|recorded| recorded == sha256(baseline.text())) {
                return Ok(baseline);
            }
            format!("{} is not the baseline that was saved: it was edited", state.baseline_path().display())
        }
        Ok(None) => format!("{} is missing", state.baseline_path().display()),
        Err(error) => format!("{error:#}"),
    };
    let Some(config) = models else {
        bail!(
            "{fault}; give the ensemble's own weights with --models MODELS.toml, and they will be put in force"
        );
    };
    let weights = Weights::of_ensemble(config).context("MODELS.toml has no usable weights")?;
    Ok(Baseline { generation: 0, origin: super::weights::Origin::Models, weights })
}
