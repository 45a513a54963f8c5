//! `qsc run` takes new weights up between two events, without a restart.

use std::fs;
use std::io;
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
    /// Of the inode: a file whose other times were set back still has a new one.
    changed: (i64, i64),
    bytes: u64,
}

/// The weights file of a state directory, watched.
#[derive(Clone, Debug)]
pub struct LiveWeights {
    state: State,
    names: Vec<String>,
    /// The weights of `MODELS.toml`.
    own: Weights,
    current: WeightsFile,
    stamp: Option<Stamp>,
    /// Why the last look took nothing up; told once.
    complaint: Option<String>,
    next_look: Instant,
}

impl LiveWeights {
    /// Reads the weights in force: those of the state, else those of `MODELS.toml` as generation 0.
    ///
    /// # Errors
    /// `weights.json` is torn, not what the audit log recorded, or for other models than the engine's: never a guess.
    pub fn open(directory: &Path, config: &ModelsConfig) -> anyhow::Result<Self> {
        let state = State::new(directory);
        // Before the content: a change in between is then seen as one.
        let stamp = stamp(&state.weights_path());
        let own = Weights::of_ensemble(config)?;
        let there = state.weights()?;
        state.ensure_recorded(there.as_ref(), &own)?;
        let current = match there {
            Some(file) => {
                file.weights.ensure_for(config).with_context(|| {
                    format!("the weights in {} do not fit", state.weights_path().display())
                })?;
                file
            }
            None => WeightsFile { generation: 0, canary: None, weights: own.clone() },
        };
        let names = config.models.iter().map(|model| model.name.clone()).collect();
        let next_look = Instant::now() + POLL;
        Ok(Self { state, names, own, current, stamp, complaint: None, next_look })
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
        match self.next() {
            Ok(next) => {
                (self.stamp, self.complaint) = (stamp, None);
                self.current = next?;
                Some(self.apply(engine))
            }
            Err(refused) => {
                // A file that was read stays what it is; one that could not be read, or whose record is not there yet, is
                // looked at again.
                if refused.is_final {
                    self.stamp = stamp;
                }
                let why = format!("{:#}", refused.why);
                let is_new = self.complaint.as_ref() != Some(&why);
                let line =
                    format!("EFFECTIVE_WEIGHTS generation={} stays in force: {why}", self.current.generation);
                self.complaint = Some(why);
                is_new.then_some(line)
            }
        }
    }

    /// The file that follows the current one.
    fn next(&self) -> Result<Option<WeightsFile>, Refused> {
        let file = self
            .state
            .weights()?
            .ok_or_else(|| anyhow!("{} is gone", self.state.weights_path().display()))?;
        if file == self.current {
            return Ok(None);
        }
        let fits = self.names.iter().all(|name| file.weights.get(name).is_some())
            && file.weights.iter().count() == self.names.len();
        if !fits {
            return Err(anyhow!("generation {} is for other models", file.generation).into());
        }
        if file.generation <= self.current.generation {
            return Err(anyhow!(
                "{} has generation {} with other weights: it was edited by hand, or comes from elsewhere",
                self.state.weights_path().display(),
                file.generation
            )
            .into());
        }
        self.state.ensure_recorded(Some(&file), &self.own).map_err(|why| Refused { why, is_final: false })?;
        Ok(Some(file))
    }
}

/// Why the weights in force stay.
struct Refused {
    why: anyhow::Error,
    /// The same file will be refused again.
    is_final: bool,
}

impl From<anyhow::Error> for Refused {
    fn from(why: anyhow::Error) -> Self {
        let is_final = !why.chain().any(|cause| cause.is::<io::Error>());
        Self { why, is_final }
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok()?;
    Some(Stamp {
        inode: metadata.ino(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
        bytes: metadata.len(),
    })
}
