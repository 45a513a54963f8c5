//! `qsc run` takes new weights up between two events, without a restart.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use qsc_kernel::ensemble::Predict;

use super::state::State;
use super::weights::{Weights, WeightsFile};
use crate::engine::Engine;
use crate::engine::config::ModelsConfig;

/// How often the file is looked at while events come in.
const POLL: Duration = Duration::from_millis(200);

/// What tells one file from its successor: every change makes a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    modified: (i64, i64),
    bytes: u64,
}

/// The weights file of a state directory, watched.
#[derive(Clone, Debug)]
pub struct LiveWeights {
    state: State,
    names: Vec<String>,
    current: WeightsFile,
    stamp: Option<Stamp>,
    next_look: Instant,
}

impl LiveWeights {
    /// Reads the weights in force: those of the state, else those of `MODELS.toml` as generation 0.
    ///
    /// # Errors
    /// `weights.json` is torn, or for other models than the engine's: never a guess.
    pub fn open(directory: &Path, config: &ModelsConfig) -> anyhow::Result<Self> {
        let state = State::new(directory);
        // Before the content: a change in between is then seen as one.
        let stamp = stamp(&state.weights_path());
        let current = match state.weights()? {
            Some(file) => {
                file.weights.ensure_for(config).with_context(|| {
                    format!("the weights in {} do not fit", state.weights_path().display())
                })?;
                file
            }
            None => WeightsFile { generation: 0, canary: None, weights: Weights::of_ensemble(config)? },
        };
        let names = config.models.iter().map(|model| model.name.clone()).collect();
        Ok(Self { state, names, current, stamp, next_look: Instant::now() + POLL })
    }

    /// Gives the engine the weights in force; the line to log.
    pub fn apply<P: Predict>(&self, engine: &mut Engine<P>) -> String {
        for (at, name) in self.names.iter().enumerate() {
            // Every name has a weight: `open` and `poll` made sure.
            if let Some(weight) = self.current.weights.get(name) {
                engine.set_weight(at, weight);
            }
        }
        let WeightsFile { generation, canary, weights } = &self.current;
        format!(
            "EFFECTIVE_WEIGHTS generation={generation} canary={} {}",
            canary.as_deref().unwrap_or("none"),
            weights.log_line()
        )
    }

    /// Generation of the weights in force.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.current.generation
    }

    /// Looks whether there are new weights, if it is time to. A line to log: the new weights are in force, or the file
    /// cannot be used and the last ones stay.
    pub fn poll<P: Predict>(&mut self, engine: &mut Engine<P>) -> Option<String> {
        let now = Instant::now();
        if now < self.next_look {
            return None;
        }
        self.next_look = now + POLL;
        let stamp = stamp(&self.state.weights_path());
        if stamp == self.stamp {
            return None;
        }
        self.stamp = stamp;
        let keeps = |why: anyhow::Error| {
            let generation = self.current.generation;
            Some(format!("EFFECTIVE_WEIGHTS generation={generation} stays in force: {why:#}"))
        };
        match self.next() {
            Ok(None) => None,
            Ok(Some(file)) => {
                self.current = file;
                Some(self.apply(engine))
            }
            Err(error) => keeps(error),
        }
    }

    /// The file that follows the current one.
    fn next(&self) -> anyhow::Result<Option<WeightsFile>> {
        let file = self
            .state
            .weights()?
            .ok_or_else(|| anyhow!("{} is gone", self.state.weights_path().display()))?;
        if file == self.current {
            return Ok(None);
        }
        let fits = self.names.iter().all(|name| file.weights.get(name).is_some())
            && file.weights.iter().count() == self.names.len();
        anyhow::ensure!(fits, "generation {} is for other models", file.generation);
        anyhow::ensure!(
            file.generation > self.current.generation,
            "{} has generation {} with other weights: it was edited by hand, or comes from elsewhere",
            self.state.weights_path().display(),
            file.generation
        );
        Ok(Some(file))
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok()?;
    Some(Stamp {
        inode: metadata.ino(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        bytes: metadata.len(),
    })
}
