//! What the audit log says the baseline is. `baseline.json` is held against it, and can be written again from it: the line
//! that sets a baseline holds its weights, its generation, where it comes from, and the digest of the file.

use std::collections::BTreeMap;

use anyhow::Context as _;
use serde_json::{Map, Value, json};

use super::audit::{Chain, Entry, Transition};
use super::state::{Standing, State, details, in_force};
use super::weights::{Baseline, Origin, Weights};
use crate::digest::sha256;
use crate::engine::config::ModelsConfig;

/// What a line keeps of the baseline it sets.
#[must_use]
pub fn record(baseline: &Baseline) -> Map<String, Value> {
    details([
        ("baseline_generation", baseline.generation.into()),
        ("baseline_origin", json!(baseline.origin)),
        ("baseline_ppm", json!(baseline.weights.ppm())),
        ("baseline_sha256", sha256(baseline.text()).into()),
    ])
}

/// The last line that sets a baseline and was not voided.
#[must_use]
pub fn last_set(chain: &Chain) -> Option<&Entry> {
    let sets = |entry: &&Entry| entry.detail("baseline_sha256").is_some();
    in_force(&chain.entries).into_iter().rev().find(sets)
}

/// Whether `baseline` is the one that this line sets.
#[must_use]
pub fn is_set_by(entry: &Entry, baseline: &Baseline) -> bool {
    entry.detail("baseline_sha256") == Some(&sha256(baseline.text()))
}

/// The baseline that this line sets; `None` if it sets none, or does not hold all of it.
#[must_use]
pub fn set_by(entry: &Entry) -> Option<Baseline> {
    let detail = |name: &str| entry.details.get(name);
    let (generation, origin, ppm) = if entry.event == Transition::Promoted {
        (entry.generation, Origin::Promotion, detail("weights_ppm")?)
    } else {
        let origin = serde_json::from_value(detail("baseline_origin")?.clone()).ok()?;
        (detail("baseline_generation")?.as_u64()?, origin, detail("baseline_ppm")?)
    };
    let ppm: BTreeMap<String, u32> = serde_json::from_value(ppm.clone()).ok()?;
    let baseline = Baseline { generation, origin, weights: Weights::of_ppm(ppm)? };
    is_set_by(entry, &baseline).then_some(baseline)
}

/// The weights the next canary starts from: those of a promotion, if the log knows of one, else those of `MODELS.toml`.
///
/// # Errors
/// The promoted weights are for other models, or their file is not the one that the log saw saved: they are never replaced
/// in silence.
pub fn next_baseline(
    state: &State,
    chain: &Chain,
    standing: &Standing,
    config: &ModelsConfig,
) -> anyhow::Result<Baseline> {
    let generation = match standing {
        Standing::Idle(Some(file)) => file.generation,
        _ => 0,
    };
    let own = json!(Origin::Models);
    let is_promoted = last_set(chain).is_some_and(|entry| entry.details.get("baseline_origin") != Some(&own));
    if generation > 0 && is_promoted {
        let baseline = state.saved_baseline(chain).context(
            "the weights of the last promotion cannot be taken; put the file back from a copy, or let `qsc canary rollback` \
             write it again from the audit log",
        )?;
        baseline.weights.ensure_for(config).with_context(|| {
            format!("the promoted weights in {} do not fit", state.baseline_path().display())
        })?;
        return Ok(Baseline { generation, ..baseline });
    }
    Ok(Baseline { generation, origin: Origin::Models, weights: Weights::of_ensemble(config)? })
}
