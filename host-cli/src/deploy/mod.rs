//! Deployments: a service is restarted, and what runs afterwards is proven to be the build that was meant.
//!
//! | file | does |
//! | --- | --- |
//! | [`chain`] | the steps in their order, recorded so that an interrupted chain goes on |
//! | [`build_id`] | which build is expected, which one a log names, when they are the same |
//! | `restart` | the steps on the service: stop, start, build, executable, settle |
//! | `gates` | the steps on its telemetry: feature-sanity, collection gate, canary gate |
//! | `systemd`, `journal`, `process`, `child` | `systemctl`, `journalctl` and `/proc`, asked without a shell |
//! | `state` | the record of a deployment, and the lock that keeps a second one out |
//! | [`render`] | the outcome as text and JSON |

pub mod build_id;
pub mod chain;
mod child;
mod gates;
mod journal;
mod process;
pub mod render;
mod restart;
mod state;
mod systemd;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::digest::sha256;
use crate::gate::{Drift, Outcome, Require, Rules};
use crate::judge::EventSource;
use build_id::Build;

pub use systemd::UnitName;

/// The steps of a deployment, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The unit can be deployed, and a build is expected that can match.
    Unit,
    /// The service is stopped and its main process gone.
    Stop,
    /// It runs again, as a new invocation; the cutover is just before.
    Start,
    /// This invocation has logged the expected build.
    Build,
    /// What runs is the installed file.
    Executable,
    /// It still runs, and was not restarted, after a while.
    Settle,
    /// Features since the cutover are alive.
    FeatureSanity,
    /// Enough intents are collected.
    Collection,
    /// A model is fit to be promoted.
    Canary,
}

impl Step {
    const ALL: [Self; 9] = [
        Self::Unit,
        Self::Stop,
        Self::Start,
        Self::Build,
        Self::Executable,
        Self::Settle,
        Self::FeatureSanity,
        Self::Collection,
        Self::Canary,
    ];

    /// The wire name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unit => "unit",
            Self::Stop => "stop",
            Self::Start => "start",
            Self::Build => "build",
            Self::Executable => "executable",
            Self::Settle => "settle",
            Self::FeatureSanity => "feature_sanity",
            Self::Collection => "collection",
            Self::Canary => "canary",
        }
    }

    /// Whether it proves that the right build runs: the steps that `--warn-only` lets fail.
    const fn is_identity(self) -> bool {
        matches!(self, Self::Build | Self::Executable)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// What is to be deployed, and how it is judged.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The service.
    pub unit: UnitName,
    /// The build that must run afterwards; `None` is the build of this very binary.
    pub expected: Option<Build>,
    /// The file the main process must run; `None` is the one `ExecStart` names.
    pub executable: Option<PathBuf>,
    /// How long it must have run before it is trusted.
    pub settle: Duration,
    /// Longest wait for each of: the stop, the start, the build's line.
    pub patience: Duration,
    /// A wrong build is reported, but does not block.
    pub warn_only: bool,
    /// The gates afterwards, if they are asked for.
    pub gates: Option<GatePlan>,
}

/// How telemetry is judged after the restart.
#[derive(Clone, Debug)]
pub struct GatePlan {
    /// Where the service's intents are.
    pub source: EventSource,
    /// Thresholds.
    pub rules: Rules,
    /// The training rows to compare features with.
    pub drift: Option<Drift>,
    /// How many models must be healthy.
    pub require: Require,
    /// Intents since the cutover to wait for before the canary gate.
    pub events: u64,
    /// Longest wait for the intents of a gate.
    pub wait: Duration,
    /// Where reports are written.
    pub report_dir: PathBuf,
}

impl GatePlan {
    /// How strict the gates are, in words and a digest of the rules: going on with a deployment may not change it.
    #[must_use]
    pub fn strictness(&self) -> String {
        let require = match self.require {
            Require::Any => "any",
            Require::All => "all",
        };
        let rules = sha256(format!("{:?}", self.rules));
        format!("--require {require} --events {} and rules {}", self.events, &rules[..8])
    }
}

/// What a step found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The step.
    pub step: Step,
    /// Whether it held.
    pub passed: bool,
    /// What was seen.
    pub seen: String,
    /// What to do next, where it did not hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Why a step ends the deployment.
#[derive(Debug)]
enum Halt {
    /// A verdict: fail or inconclusive.
    Blocked { outcome: Outcome, seen: String, next: String },
    /// The step could not be done: no verdict.
    Error(anyhow::Error),
}

impl Halt {
    fn fail(seen: impl Into<String>, next: impl Into<String>) -> Self {
        Self::Blocked { outcome: Outcome::Fail, seen: seen.into(), next: next.into() }
    }
}

impl From<anyhow::Error> for Halt {
    fn from(error: anyhow::Error) -> Self {
        Self::Error(error)
    }
}

/// What a deployment tells while it goes on.
#[derive(Clone, Copy, Debug)]
pub enum Notice {
    /// A step begins.
    Begins(Step),
    /// So many intents since the cutover are there, of so many that are needed.
    Events {
        /// Intents that count.
        have: u64,
        /// Intents needed.
        need: u64,
    },
}
