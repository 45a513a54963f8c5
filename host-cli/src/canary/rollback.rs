//! Rollback: the one thing that nothing may block. It restores the baseline first and records afterwards, and says what is
//! broken besides.

use anyhow::{Context as _, bail};
use serde_json::json;

use super::audit::{Chain, Transition, generation_told};
use super::baseline;
use super::state::{Lock, Recovered, Standing, State, details, last_generation};
use super::weights::{Baseline, Weights, WeightsFile};
use crate::bounded;
use crate::digest::sha256;
use crate::engine::config::ModelsConfig;

/// How a rollback came out.
#[derive(Clone, Debug, PartialEq)]
pub struct Rollback {
    /// The baseline was put in force, by this rollback or by completing one; `None` if there was nothing to roll back.
    pub restored: Option<WeightsFile>,
    /// The model that was active, if that is known.
    pub model: Option<String>,
    /// An activation was being judged, and changes nothing any more.
    pub withdrawn: bool,
    /// `baseline.json` was not the recorded one although nothing was active, and was written again from the log.
    pub baseline_rewritten: bool,
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
    let mut outcome = Rollback {
        restored: None,
        model: None,
        withdrawn: false,
        baseline_rewritten: false,
        broken: Vec::new(),
    };
    if !state.is_there()? {
        return Ok(outcome);
    }
    let _writing = state.lock(Lock::Write)?;
    let (mut chain, completed) = match state.recover() {
        Ok(Recovered { chain, completed }) => (Some(chain), completed),
        Err(error) => {
            let more = if state.log().read().is_err() {
                "it cannot be recorded. `qsc canary audit verify` tells more"
            } else {
                "what a process that died left undone is not completed, and the rollback not recorded"
            };
            outcome.broken.push(format!("{error:#}; {more}"));
            (None, false)
        }
    };
    let current = state.weights();
    match (&mut chain, &current) {
        (Some(chain), _) => match state.standing(chain) {
            Standing::Idle(file) => {
                outcome.withdrawn = withdraw(state, chain, reason)?;
                match state.rewrite_baseline(chain) {
                    Ok(is_written) => outcome.baseline_rewritten = is_written,
                    Err(error) => outcome.broken.push(format!("{error:#}")),
                }
                // What the last process died of doing was this very rollback.
                if completed {
                    (outcome.restored, outcome.model) = (file, last_activated(chain));
                }
                return Ok(outcome);
            }
            Standing::Active(file, _) => outcome.model = file.canary,
            Standing::Foreign(why) => {
                let told = current.as_ref().ok().and_then(|file| file.as_ref()?.canary.clone());
                outcome.model = last_activated(chain).or(told);
                outcome.broken.push(why);
            }
            // `recover` leaves neither.
            Standing::Interrupted(_) | Standing::Unrecorded(_) => {}
        },
        // Without a log nothing proves what is in force, and a running engine may have other weights than the file.
        (None, Ok(file)) => outcome.model = file.as_ref().and_then(|file| file.canary.clone()),
        (None, Err(error)) => outcome.broken.push(format!("{error:#}")),
    }
    let baseline = usable_baseline(state, chain.as_ref(), models)?;
    let known = [
        chain.as_ref().map_or(0, last_generation),
        state.log().generation_told(),
        bounded::read_state(&state.weights_path(), bounded::SMALL).map_or(0, |bytes| generation_told(&bytes)),
        // The activation after it made the next generation.
        baseline.generation.saturating_add(1),
    ];
    let generation = known.into_iter().max().unwrap_or(0).saturating_add(1);
    let file = WeightsFile { generation, canary: None, weights: baseline.weights.clone() };
    state.write_weights(&file)?;
    if chain.is_none() {
        outcome.broken.push(format!(
            "no log proves which generation engines have; where one does not log EFFECTIVE_WEIGHTS generation={generation}, \
             restart it"
        ));
    }
    if let Some(chain) = &mut chain
        && let Err(error) = record(state, chain, &outcome, &file, &baseline, reason)
    {
        // The line may be there although its head is not.
        let is_recorded = chain.entries.last().is_some_and(|last| last.generation == generation);
        let recorded = if is_recorded {
            "and recorded; the next command completes the head"
        } else {
            "but not recorded"
        };
        outcome.broken.push(format!("{error:#}; the rollback is in force {recorded}"));
    }
    outcome.restored = Some(file);
    Ok(outcome)
}

fn record(
    state: &State,
    chain: &mut Chain,
    outcome: &Rollback,
    file: &WeightsFile,
    baseline: &Baseline,
    reason: &str,
) -> anyhow::Result<()> {
    let mut details = details([
        ("reason", reason.into()),
        ("weights_ppm", json!(file.weights.ppm())),
        ("weights_sha256", sha256(file.text()).into()),
        ("found_broken", json!(outcome.broken)),
    ]);
    details.extend(baseline::record(baseline));
    state.log().append(chain, Transition::RolledBack, outcome.model.as_deref(), file.generation, details)
}

/// Ends an activation that is being judged: it finds this line where it would have put its own.
fn withdraw(state: &State, chain: &mut Chain, reason: &str) -> anyhow::Result<bool> {
    const CANNOT: &str =
        "no canary is active, but an activation that is being judged cannot be withdrawn; end its process";
    if !state.is_held(Lock::Activate).context(CANNOT)? {
        return Ok(false);
    }
    let (generation, details) = (last_generation(chain), details([("reason", reason.into())]));
    state.log().append(chain, Transition::Withdrawn, None, generation, details).context(CANNOT)?;
    Ok(true)
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
    let saved = match chain {
        Some(chain) => state.saved_baseline(chain),
        None => state.baseline().and_then(|saved| {
            saved.with_context(|| format!("{} is missing", state.baseline_path().display()))
        }),
    };
    let fault = match saved {
        Ok(baseline) => return Ok(baseline),
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
