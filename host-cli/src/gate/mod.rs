//! Gates: `observe(item)` … `finish(&Rules) -> Verdict`, no I/O.
//!
//! A gate reads what the engine (or any other producer) said and answers with one of four [`Outcome`]s. What it
//! cannot read counts against it; a check that cannot be made is never taken as made.
//!
//! | file | does |
//! | --- | --- |
//! | `payload` | what an event says, read: a model's entry, the features |
//! | `intake`, `evidence` | which items were shown, and how many of them are corrupt |
//! | `sanity` | the verdict on features |
//! | `quality`, `model` | the verdict on models, and on one of them |
//! | `scoreboard` | the same in one word per model |
//! | `ensemble`, `slices`, `timeline`, `drift`, `duplicates` | figures beside the verdict: agreement, per symbol, over time, against training rows, repetition |
//! | `check`, `rules`, `stats` | one check, every threshold, population statistics |

mod check;
mod drift;
mod duplicates;
mod ensemble;
mod evidence;
mod intake;
mod model;
mod payload;
mod quality;
mod rules;
mod sanity;
mod scoreboard;
mod slices;
mod stats;
mod timeline;

use serde::Serialize;

use crate::exit::Exit;

pub use check::{Check, CheckKind, beside};
pub use drift::{BINS, Drift, DriftFigures, FeatureDrift, Reference, psi};
pub use duplicates::Duplicates;
pub use ensemble::{Ensemble, OnBound};
pub use evidence::Evidence;
pub use model::{Actions, ConfidenceFigures, HISTOGRAM_BINS, ModelFigures, ModelVerdict, OverTime};
pub use payload::Entry;
pub use quality::{EventFigures, Mode, PreCutover, QualityGate, QualityVerdict, Require, Terms};
pub use rules::{Percent, Rules};
pub use sanity::{FeatureFigures, SanityGate, SanityVerdict};
pub use scoreboard::{Scoreboard, Signal, Standing};
pub use slices::{Slice, SliceFigures};
pub use timeline::Timeline;

/// What a gate says. Only [`Outcome::Pass`] opens a door.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Everything that had to be shown was shown.
    Pass,
    /// Something is wrong with what was judged.
    Fail,
    /// There is too little to judge, or something of it is missing.
    Inconclusive,
    /// Enough was collected; never promotes, whatever the figures.
    Collection,
}

impl Outcome {
    /// The exit code of this outcome.
    #[must_use]
    pub const fn exit(self) -> Exit {
        match self {
            Self::Pass => Exit::Pass,
            Self::Fail | Self::Inconclusive => Exit::Fail,
            Self::Collection => Exit::Collection,
        }
    }
}

/// Foreign text for a message: quoted, escaped, and cut to a readable length.
fn excerpt(text: &str) -> String {
    const LONGEST: usize = 40;
    let cut: String = text.chars().take(LONGEST).collect();
    if cut.len() < text.len() { format!("{cut:?}…") } else { format!("{cut:?}") }
}
