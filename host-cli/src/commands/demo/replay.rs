//! The demo's replays: bundled capture through bundled models, healthy and with one model frozen.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use qsc_kernel::Inactive;
use qsc_kernel::ensemble::Outcome;

use super::drill::Freezable;
use crate::commands::progress;
use crate::engine::config::ModelsConfig;
use crate::engine::intent::simulated;
use crate::engine::load::Images;
use crate::engine::{Candidate, Engine, bundled};
use crate::replay::{Outlet, Replay};
use crate::stream::{
    AtomicFile, Event, LinkOptions, MARKET_FEATURES, Sink, SinkSpec, Source, SourceSpec, Window,
};

/// The model the drill freezes.
const FROZEN_MODEL: &str = "patchtst";
/// It freezes at the first of its votes from this event on …
const FREEZE_FROM: usize = 1000;
/// … and thaws after so many events.
const FROZEN_FOR: usize = 300;

/// What the healthy replay came to.
pub(super) struct Healthy {
    pub(super) intents: u64,
    pub(super) rejects: u64,
    pub(super) sides: BTreeMap<&'static str, u64>,
    pub(super) elapsed: Duration,
    pub(super) p50_ns: u64,
    pub(super) p99_ns: u64,
    pub(super) models: Vec<String>,
}

/// What the drill came to; numbers count events from 0.
pub(super) struct Drill {
    pub(super) model: String,
    pub(super) frozen_at: usize,
    pub(super) thrown_out_at: Option<usize>,
    pub(super) thawed_at: usize,
    pub(super) votes_again_at: Option<usize>,
    /// Weight of each other model while the frozen one is out.
    pub(super) others: Vec<(String, f64)>,
}

/// The bundled ensemble: images and capture lie in `directory`, as an operator would keep them.
pub(super) struct Bundle {
    config: ModelsConfig,
    images: Images,
    events: Vec<Event>,
}

impl Bundle {
    /// Writes the bundled files into `directory` and reads them back.
    pub(super) fn unpack(directory: &Path) -> anyhow::Result<Self> {
        let images = directory.join("images");
        fs::create_dir_all(&images)
            .with_context(|| format!("cannot create the demo's directory {}", directory.display()))?;
        write(&directory.join("MODELS.toml"), qsc_models::MODELS_TOML.as_bytes())?;
        for (name, image) in qsc_models::IMAGES {
            write(&images.join(format!("{name}.qsm")), image)?;
        }
        let capture = directory.join("features.jsonl");
        write(&capture, qsc_models::FEATURES_CAPTURE.as_bytes())?;

        let mut events = Vec::new();
        let window = Window { after: None, newest: None, event_types: &[MARKET_FEATURES] };
        Source::open(&SourceSpec::File(capture), "", &LinkOptions::default())?.for_each(&window, |item| {
            events.push(
                item.map_err(|malformed| anyhow::anyhow!("the bundled capture is damaged: {malformed}"))?,
            );
            Ok(())
        })?;
        let config = ModelsConfig::parse(qsc_models::MODELS_TOML, directory)?;
        Ok(Self { config, images: bundled::images(), events })
    }

    /// Of the event after the first third, Unix ms: what an operator would have from `qsc deploy`.
    pub(super) fn cutover(&self) -> u64 {
        self.events.get(self.events.len() / 3).map_or(0, |event| event.id.ms)
    }

    /// Names of the models, in order.
    fn names(&self) -> Vec<String> {
        self.config.models.iter().map(|model| model.name.clone()).collect()
    }

    /// Every event through the healthy ensemble; intents go to `intents`.
    pub(super) fn replay(&self, intents: &Path) -> anyhow::Result<Healthy> {
        let candidates = self.images.load(&self.config, &mut |_| ())?;
        let mut replay = Replay::new(Engine::new(&self.config, candidates)?);
        let mut sink = Sink::open(&SinkSpec::File(intents.to_owned()))?;
        let progress = progress::bar(Some(self.events.len() as u64));
        let started = Instant::now();
        for event in &self.events {
            let item = Ok(event.clone());
            replay.feed(&item, |outlet| match outlet {
                Outlet::Intent(intent) => sink.write(&simulated(intent)),
                Outlet::Reject { .. } => Ok(()),
            })?;
            progress.inc(1);
        }
        let elapsed = started.elapsed();
        progress.finish_and_clear();
        sink.finish()?;
        let summary = replay.summary();
        Ok(Healthy {
            intents: summary.intents,
            rejects: summary.rejects,
            sides: summary.sides.clone(),
            elapsed,
            p50_ns: summary.latency.value_at_quantile(0.5),
            p99_ns: summary.latency.value_at_quantile(0.99),
            models: self.names(),
        })
    }

    /// The same events, while one model is frozen for a time.
    pub(super) fn drill(&self) -> anyhow::Result<Drill> {
        let mut switches = Vec::new();
        let candidates = self.images.load(&self.config, &mut |_| ())?.into_iter();
        let candidates = candidates.map(|candidate| {
            let Candidate { config, feature_names, scratch_bytes, predictor } = candidate;
            let predictor = predictor.map(|predictor| {
                let (freezable, switch) = Freezable::new(predictor);
                switches.push(switch);
                freezable
            });
            Candidate { config, feature_names, scratch_bytes, predictor }
        });
        let mut engine = Engine::new(&self.config, candidates.collect())?;
        let names = self.names();
        let member = names.iter().position(|name| name == FROZEN_MODEL);
        let member = member.context("the bundled ensemble lacks the model to freeze")?;
        let switch = switches.get(member).context("a bundled model was not loaded")?;
        let mut drill = Drill {
            model: FROZEN_MODEL.to_owned(),
            frozen_at: self.events.len(),
            thrown_out_at: None,
            thawed_at: self.events.len(),
            votes_again_at: None,
            others: Vec::new(),
        };
        let mut voted = false;
        for (at, event) in self.events.iter().enumerate() {
            // What it voted last is what it will vote: a frozen dead-zone answer would only look indecisive.
            if voted && at >= FREEZE_FROM && at < drill.frozen_at {
                (drill.frozen_at, drill.thawed_at) = (at, at + FROZEN_FOR);
            }
            switch.set((drill.frozen_at..drill.thawed_at).contains(&at));
            let decided = engine.decide(event, 0);
            let round = decided.map_err(|reject| anyhow::anyhow!("event {}: {reject}", event.id))?.round;
            let outcome = round.outcomes.get(member);
            voted = outcome.is_some_and(Outcome::is_active);
            let out = matches!(outcome, Some(Outcome::Inactive { reason: Inactive::DegenerateOutput, .. }));
            if out && at >= drill.frozen_at && drill.thrown_out_at.is_none() {
                drill.thrown_out_at = Some(at);
                let others = names.iter().cloned().zip(round.effective_weights.iter().copied());
                drill.others = others.filter(|(name, _)| *name != drill.model).collect();
            }
            if voted && at >= drill.thawed_at {
                drill.votes_again_at.get_or_insert(at);
            }
        }
        Ok(drill)
    }
}

/// Writes one bundled file, whole or not at all.
fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let mut file = AtomicFile::create(path)?;
    file.write_all(bytes).with_context(|| format!("cannot write {}", path.display()))?;
    file.replace()
}
