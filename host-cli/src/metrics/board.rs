//! The figures of one engine: atomics with a single writer, so that the deciding loop never waits for a reader.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::{Instant, SystemTime};

use qsc_kernel::ensemble::Mode;
use qsc_kernel::{Action, Inactive};

use super::histogram::Histogram;
use super::recent::Recent;
use crate::engine::config::{ModelConfig, ModelsConfig};
use crate::stream::Refusal;

/// A figure that is not known, e.g. the time of the newest event before there is one.
pub(super) const UNKNOWN: u64 = u64::MAX;

/// Adds to a cell that only this thread writes.
pub(super) fn add(cell: &AtomicU64, by: u64) {
    cell.store(cell.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
}

/// How a vote ended, as `side` names it.
pub const SIDES: [&str; 5] = ["BUY", "SELL", "HOLD", "tie", "no_active_model"];

/// The parts of an event's way that the host measures, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostStage {
    /// The payload's text became values.
    Parse,
    /// Values became the models' features.
    Bind,
    /// The ensemble decided.
    Decide,
    /// The intent was spelled, and handed to its sink or batch.
    Write,
    /// Streams: a batch was on its way until the server had settled it.
    Settle,
}

impl HostStage {
    /// Every stage, in order.
    pub const ALL: [Self; 5] = [Self::Parse, Self::Bind, Self::Decide, Self::Write, Self::Settle];

    /// Its label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Parse => "parse",
            Self::Bind => "bind",
            Self::Decide => "decide",
            Self::Write => "write",
            Self::Settle => "settle",
        }
    }
}

/// The parts of a decision that the kernel tells of; the models' own time is with each model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelStage {
    /// Features became a member's validated row.
    Bind,
    /// A member's degeneracy window was kept up.
    Guards,
    /// The votes were counted.
    Vote,
    /// The feature vector was hashed.
    Fingerprint,
}

impl KernelStage {
    /// Every stage.
    pub const ALL: [Self; 4] = [Self::Bind, Self::Guards, Self::Vote, Self::Fingerprint];

    /// Its label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bind => "bind",
            Self::Guards => "guards",
            Self::Vote => "vote",
            Self::Fingerprint => "fingerprint",
        }
    }
}

/// Whether this process may decide on its stream or shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lease {
    /// Nobody else could: a file.
    NotNeeded,
    /// It holds what it was given.
    Held,
    /// Another process owns them, or the lease ran out.
    NotHeld,
}

impl Lease {
    const ALL: [Self; 3] = [Self::NotNeeded, Self::Held, Self::NotHeld];
}

/// Whether the source can be worked with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceState {
    /// There is no connection, or the file is not open yet.
    NotReached,
    /// It answers.
    Answers,
    /// It answers, but takes no writes for now.
    Refuses(Refusal),
}

impl SourceState {
    const fn code(self) -> u8 {
        match self {
            Self::NotReached => 0,
            Self::Answers => 1,
            Self::Refuses(refusal) => 2 + refusal as u8,
        }
    }
}

/// The figures of one engine. Everything here is written by one thread through [`Meter`](super::Meter).
#[derive(Debug)]
pub struct Board {
    pub(super) started: Instant,
    /// When the engine started, Unix seconds.
    pub started_at: f64,
    pub(super) events: AtomicU64,
    pub(super) rejects: AtomicU64,
    pub(super) sides: [AtomicU64; SIDES.len()],
    pub(super) stages: [Histogram; HostStage::ALL.len()],
    pub(super) kernel_stages: [Histogram; KernelStage::ALL.len()],
    /// The models, in member order.
    pub models: Vec<ModelBoard>,
    pub(super) recent: Recent,
    pub(super) generation: AtomicU64,
    /// Unix ms of the newest event.
    pub(super) newest_event: AtomicU64,
    pub(super) stream: StreamBoard,
    /// Nanoseconds from `started` to the loop's last sign of life.
    pub(super) beat: AtomicU64,
    pub(super) loaded: AtomicBool,
    source: AtomicU8,
    lease: AtomicU8,
    /// Of how many shards it holds the lease, where these figures are those of several.
    pub(super) shards: Option<(usize, usize)>,
}

/// The figures of a consumer of a stream.
#[derive(Debug, Default)]
pub(super) struct StreamBoard {
    /// False where the source is a file.
    pub(super) is_one: AtomicBool,
    pub(super) lag: AtomicU64,
    pub(super) pending: AtomicU64,
    pub(super) settled: AtomicU64,
    pub(super) dead: AtomicU64,
    pub(super) lost: AtomicU64,
    pub(super) reconnects: AtomicU64,
    pub(super) leases_lost: AtomicU64,
    /// In the order of [`Refusal::ALL`].
    pub(super) refusals: [AtomicU64; Refusal::ALL.len()],
}

/// The figures of one model.
#[derive(Debug)]
pub struct ModelBoard {
    /// Its name.
    pub name: String,
    /// It reports and never votes.
    pub shadow: bool,
    pub(super) loaded: AtomicBool,
    /// In millionths.
    pub(super) weight: AtomicU64,
    pub(super) actions: [AtomicU64; Action::ALL.len()],
    pub(super) inactive: [AtomicU64; Inactive::ALL.len()],
    pub(super) time: Histogram,
}

impl Board {
    /// Figures of an engine that has seen nothing.
    #[must_use]
    pub fn new(config: &ModelsConfig) -> Self {
        let model = |model: &ModelConfig| {
            ModelBoard::new(&model.name, model.mode() == Mode::Shadow, u64::from(model.weight.get()))
        };
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self::of(Instant::now(), since.as_secs_f64(), config.models.iter().map(model).collect())
    }

    /// Figures of another engine of the same models, started at the same time.
    pub(super) fn blank(&self) -> Self {
        let model = |model: &ModelBoard| {
            ModelBoard::new(&model.name, model.shadow, model.weight.load(Ordering::Relaxed))
        };
        Self::of(self.started, self.started_at, self.models.iter().map(model).collect())
    }

    fn of(started: Instant, started_at: f64, models: Vec<ModelBoard>) -> Self {
        Self {
            started,
            started_at,
            events: AtomicU64::default(),
            rejects: AtomicU64::default(),
            sides: Default::default(),
            stages: Default::default(),
            kernel_stages: Default::default(),
            recent: Recent::new(models.len()),
            models,
            generation: AtomicU64::default(),
            newest_event: AtomicU64::new(UNKNOWN),
            stream: StreamBoard::default(),
            beat: AtomicU64::default(),
            loaded: AtomicBool::default(),
            source: AtomicU8::default(),
            lease: AtomicU8::default(),
            shards: None,
        }
    }

    /// Adds what another engine has counted.
    pub(super) fn count(&mut self, other: &Self) {
        let (ours, theirs) = (&self.stream, &other.stream);
        let cells = [
            (&self.events, &other.events),
            (&self.rejects, &other.rejects),
            (&ours.lag, &theirs.lag),
            (&ours.pending, &theirs.pending),
            (&ours.settled, &theirs.settled),
            (&ours.dead, &theirs.dead),
            (&ours.lost, &theirs.lost),
            (&ours.reconnects, &theirs.reconnects),
            (&ours.leases_lost, &theirs.leases_lost),
        ];
        let models = self.models.iter().zip(&other.models);
        let by_model = models.clone().flat_map(|(ours, theirs)| {
            let actions = ours.actions.iter().zip(&theirs.actions);
            actions.chain(ours.inactive.iter().zip(&theirs.inactive))
        });
        let by_code = ours.refusals.iter().zip(&theirs.refusals);
        let by_side = self.sides.iter().zip(&other.sides);
        for (cell, by) in cells.into_iter().chain(by_code).chain(by_side).chain(by_model) {
            add(cell, by.load(Ordering::Relaxed));
        }
        let histograms = self.stages.iter().zip(&other.stages);
        let histograms = histograms.chain(self.kernel_stages.iter().zip(&other.kernel_stages));
        for (histogram, by) in histograms.chain(models.map(|(ours, theirs)| (&ours.time, &theirs.time))) {
            histogram.add(by);
        }
    }

    /// Is as well, or ill, as another engine.
    pub(super) fn copy_state(&mut self, other: &Self) {
        for (cell, value) in [
            (&self.generation, &other.generation),
            (&self.newest_event, &other.newest_event),
            (&self.beat, &other.beat),
        ] {
            cell.store(value.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        for (cell, value) in [(&self.loaded, &other.loaded), (&self.stream.is_one, &other.stream.is_one)] {
            cell.store(value.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        for (model, other) in self.models.iter().zip(&other.models) {
            model.loaded.store(other.loaded.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        self.set_lease(other.lease());
        self.set_source(other.source());
    }

    /// Is as ill as the worse of the two. A lease held by either is held.
    pub(super) fn join_state(&mut self, other: &Self) {
        self.generation.fetch_min(other.generation.load(Ordering::Relaxed), Ordering::Relaxed);
        self.beat.fetch_min(other.beat.load(Ordering::Relaxed), Ordering::Relaxed);
        if let Some(newest) = known(&other.newest_event) {
            let newest = known(&self.newest_event).map_or(newest, |ours| ours.max(newest));
            self.newest_event.store(newest, Ordering::Relaxed);
        }
        self.loaded.fetch_and(other.loaded.load(Ordering::Relaxed), Ordering::Relaxed);
        if self.source() == SourceState::Answers {
            self.set_source(other.source());
        }
        if other.lease() == Lease::Held {
            self.set_lease(Lease::Held);
        }
    }

    pub(super) fn set_source(&self, source: SourceState) {
        self.source.store(source.code(), Ordering::Relaxed);
    }

    /// Whether the source can be worked with.
    #[must_use]
    pub fn source(&self) -> SourceState {
        let code = self.source.load(Ordering::Relaxed);
        let refuses = Refusal::ALL.into_iter().map(SourceState::Refuses);
        let known = refuses.chain([SourceState::Answers]).find(|source| source.code() == code);
        known.unwrap_or(SourceState::NotReached)
    }

    pub(super) fn set_lease(&self, lease: Lease) {
        self.lease.store(lease as u8, Ordering::Relaxed);
    }

    /// Whether this process may decide on its shards.
    #[must_use]
    pub fn lease(&self) -> Lease {
        let code = self.lease.load(Ordering::Relaxed);
        Lease::ALL.into_iter().find(|lease| *lease as u8 == code).unwrap_or(Lease::NotHeld)
    }

    /// The weight of a model, of 1.
    #[must_use]
    pub fn weight(model: &ModelBoard) -> f64 {
        model.weight.load(Ordering::Relaxed) as f64 / 1e6
    }
}

impl ModelBoard {
    fn new(name: &str, shadow: bool, weight: u64) -> Self {
        Self {
            name: name.to_owned(),
            shadow,
            loaded: AtomicBool::default(),
            weight: AtomicU64::new(weight),
            actions: Default::default(),
            inactive: Default::default(),
            time: Histogram::default(),
        }
    }
}

/// The value of a figure, if it is known.
pub(super) fn known(cell: &AtomicU64) -> Option<u64> {
    Some(cell.load(Ordering::Relaxed)).filter(|&value| value != UNKNOWN)
}
