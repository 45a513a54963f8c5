//! The engine: binds features by name, owns kernel state, turns feature events into intents.
//!
//! | file | does |
//! | --- | --- |
//! | [`config`] | `MODELS.toml`, parsed and checked |
//! | [`load`] | images: read, checked, golden vectors held on this machine |
//! | [`bind`] | an event's features by name ─▶ the kernel's vector, and each symbol's windows |
//! | [`panic_guard`] | a model that panics becomes an error of that model |
//! | [`intent`] | a round of the ensemble ─▶ a `trade.intent` event |
//! | [`bundled`] | the bundled ensemble and its events |

pub mod bind;
pub mod bundled;
pub mod config;
pub mod intent;
pub mod load;
pub mod panic_guard;

use std::fmt;

use anyhow::{Context as _, ensure};
use qsc_kernel::ensemble::{self, Degeneracy, Feature, Member, Pipeline, Ppm, Predict, Round};
use qsc_kernel::guard::{Fingerprint, FingerprintLayout, FingerprintRing};
use qsc_kernel::observe::Observer;
use qsc_kernel::{Inactive, Scratch};

use crate::stream::{Event, Json, Shard, parse_timestamp};
use bind::{Histories, Schema};
use config::{ModelConfig, ModelsConfig};

/// Models one ensemble may have.
pub const MAX_MODELS: usize = 16;

/// Why an event yields no intent at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reject {
    /// The payload is no JSON.
    NoJson(String),
    /// The payload has no `features` object.
    NoFeatures,
    /// The payload has no `symbol` text.
    NoSymbol,
    /// The symbol belongs to another shard, whose owner keeps its windows.
    OtherShard {
        /// What is traded.
        symbol: String,
        /// Where it belongs.
        belongs: Shard,
    },
}

impl fmt::Display for Reject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoJson(error) => write!(formatter, "the payload is no JSON: {error}"),
            Self::NoFeatures => formatter.write_str("the payload has no features object"),
            Self::NoSymbol => formatter.write_str("the payload has no symbol"),
            Self::OtherShard { symbol, belongs } => write!(
                formatter,
                "the symbol {symbol:?} belongs to {belongs} of {}, not here: the producer places symbols another way",
                belongs.count()
            ),
        }
    }
}

/// What hears where the time of an event goes, besides the kernel's stages. `()` hears nothing.
pub trait Listener: Observer {
    /// An event begins.
    fn began(&mut self) {}
    /// Its payload is parsed.
    fn parsed(&mut self) {}
    /// Its features are bound.
    fn bound(&mut self) {}
    /// The ensemble has decided.
    fn decided(&mut self) {}
}

impl Listener for () {}

/// A model as the engine takes it: how it is configured, which features it needs, and what predicts.
pub struct Candidate<P> {
    /// Its entry in `MODELS.toml`.
    pub config: ModelConfig,
    /// Names of its features in row order; empty for a model that was not loaded.
    pub feature_names: Vec<String>,
    /// Scratch memory it needs, in bytes.
    pub scratch_bytes: usize,
    /// What predicts; `None` is a model that could not be loaded.
    pub predictor: Option<P>,
}

/// One decision with everything its intent tells.
#[derive(Clone, Debug)]
pub struct Decided<'engine> {
    /// What is traded.
    pub symbol: String,
    /// The event's time as it was written.
    pub timestamp: Option<Json<'static>>,
    /// The features as they reached the models.
    pub schema: &'engine Schema,
    /// Fingerprint of these features.
    pub fingerprint: Fingerprint,
    /// The outcomes and the vote.
    pub round: Round<MAX_MODELS>,
}

/// Kernel state for a stream of feature events. A clone goes its own way from there.
#[derive(Clone)]
pub struct Engine<P> {
    core: Core<P>,
    configs: Vec<ModelConfig>,
    schema: Schema,
    max_age_ms: Option<u64>,
    watches: bool,
    shard: Option<Shard>,
}

/// What of earlier events a decision depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Windows of symbols, for sequence models.
    pub windows: bool,
    /// The last predictions of every model, for its degeneracy window.
    pub predictions: bool,
}

/// What decides once features are bound.
#[derive(Clone)]
struct Core<P> {
    pipeline: Pipeline<P, Vec<u16>, Vec<u8>, MAX_MODELS>,
    histories: Histories,
    scratch: Vec<u8>,
}

impl<P: Predict> Engine<P> {
    /// An engine of these models, in this order.
    ///
    /// # Errors
    /// No model, or more than [`MAX_MODELS`]; more than 65 536 features.
    pub fn new(config: &ModelsConfig, candidates: Vec<Candidate<P>>) -> anyhow::Result<Self> {
        ensure!(!candidates.is_empty(), "the ensemble has no model; add a [[model]] to MODELS.toml");
        ensure!(
            candidates.len() <= MAX_MODELS,
            "the ensemble has {} models; at most {MAX_MODELS} are supported",
            candidates.len()
        );
        let mut schema = Schema::default();
        let mut bindings = Vec::new();
        for candidate in &candidates {
            let indices = schema.bind(&candidate.feature_names);
            bindings.push(
                indices.context("the models need more than 65536 features; at most so many are supported")?,
            );
        }
        let bytes = FingerprintLayout::<Vec<u8>>::bytes(schema.names())
            .context("the names of the features are too long")?;
        let layout = FingerprintLayout::new(schema.names(), vec![0; bytes])?;
        let mut pipeline = Pipeline::new(config.vote_rules(), config.degeneracy(), layout);
        let mut configs = Vec::new();
        let mut model_bytes = 0;
        for (candidate, indices) in candidates.into_iter().zip(bindings) {
            model_bytes = model_bytes.max(candidate.scratch_bytes);
            let entry = candidate.config;
            let member = Member::new(candidate.predictor, entry.weight)
                .with_mode(entry.mode())
                .with_missing(entry.missing())
                .with_confidence(entry.confidence());
            pipeline.push(member, indices)?;
            configs.push(entry);
        }
        let core = Core {
            scratch: vec![0; pipeline.scratch_bytes(model_bytes) + qsc_kernel::scratch::ALIGNMENT],
            histories: Histories::new(pipeline.windows().collect()),
            pipeline,
        };
        let watches = config.degeneracy() != Degeneracy::Off;
        Ok(Self { core, configs, schema, max_age_ms: config.max_age_ms(), watches, shard: None })
    }

    /// The same engine, which rejects events of symbols that belong to other shards.
    #[must_use]
    pub fn for_shard(mut self, shard: Option<Shard>) -> Self {
        self.shard = shard;
        self
    }

    /// The models' configurations, in member order.
    #[must_use]
    pub fn models(&self) -> &[ModelConfig] {
        &self.configs
    }

    /// The members, in the same order.
    #[must_use]
    pub fn members(&self) -> &[Member<P>] {
        self.core.pipeline.ensemble().members()
    }

    /// Fingerprints of the last vectors.
    #[must_use]
    pub const fn fingerprints(&self) -> &FingerprintRing {
        self.core.pipeline.fingerprints()
    }

    /// Gives a model another weight; false if there is no such model.
    pub fn set_weight(&mut self, model: usize, weight: Ppm) -> bool {
        self.core.pipeline.set_weight(model, weight)
    }

    /// Whether a decision depends on earlier events: on windows of symbols, or on earlier predictions.
    #[must_use]
    pub const fn memory(&self) -> Memory {
        Memory { windows: self.core.histories.any(), predictions: self.watches }
    }

    /// Decides one feature event. `now_ms` is the wall clock, which only `max_age` looks at.
    ///
    /// # Errors
    /// Why no decision is possible at all; sick models are outcomes, not errors.
    pub fn decide(&mut self, event: &Event, now_ms: u64) -> Result<Decided<'_>, Reject> {
        self.decide_heard(event, now_ms, &mut ())
    }

    /// The same, telling `listener` where the time goes.
    ///
    /// # Errors
    /// As [`decide`](Self::decide).
    pub fn decide_heard(
        &mut self,
        event: &Event,
        now_ms: u64,
        listener: &mut dyn Listener,
    ) -> Result<Decided<'_>, Reject> {
        self.decide_unless(event, listener, |engine, timestamp| {
            let stale = |max_age| is_stale(timestamp, now_ms, max_age);
            engine.max_age_ms.is_some_and(stale).then_some(Inactive::StaleInput)
        })
    }

    /// Takes an event into the windows of its symbol without asking any model.
    ///
    /// # Errors
    /// As [`decide`](Self::decide).
    pub fn remember(&mut self, event: &Event) -> Result<(), Reject> {
        self.decide_unless(event, &mut (), |_, _| Some(Inactive::InsufficientHistory)).map(|_| ())
    }

    /// Decides, or refuses the event to all models for this reason.
    fn decide_unless(
        &mut self,
        event: &Event,
        listener: &mut dyn Listener,
        refused: impl FnOnce(&Self, Option<&Json<'_>>) -> Option<Inactive>,
    ) -> Result<Decided<'_>, Reject> {
        listener.began();
        let payload = Json::parse(&event.payload).map_err(Reject::NoJson)?;
        listener.parsed();
        let symbol = payload.get("symbol").and_then(Json::as_str).filter(|symbol| !symbol.is_empty());
        let symbol = symbol.ok_or(Reject::NoSymbol)?.to_owned();
        if let Some(shard) = self.shard {
            let belongs = Shard::of(&symbol, shard.count());
            if belongs != shard {
                return Err(Reject::OtherShard { symbol, belongs });
            }
        }
        let features = payload.get("features").and_then(Json::as_object).ok_or(Reject::NoFeatures)?;
        let timestamp = payload.get("timestamp").cloned().map(Json::into_owned);
        let refused = refused(self, timestamp.as_ref());

        self.schema.read(features);
        listener.bound();
        let Self { core, schema, .. } = self;
        let decided = core.decide(&symbol, schema.features(), refused, listener);
        listener.decided();
        let (round, fingerprint) = (decided.round, decided.fingerprint);
        Ok(Decided { symbol, timestamp, schema, fingerprint, round })
    }

    /// Every feature any model needs, with its value in the last event.
    #[must_use]
    pub const fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Decides on features that are bound already, in the order of [`Self::schema`]; `refused` is why no model may see them.
    /// Nothing is allocated for a symbol that was seen before.
    pub fn decide_features(
        &mut self,
        symbol: &str,
        features: &[Feature],
        refused: Option<Inactive>,
        observer: &mut dyn Observer,
    ) -> ensemble::Decided<MAX_MODELS> {
        self.core.decide(symbol, features, refused, observer)
    }
}

impl<P: Predict> Core<P> {
    fn decide(
        &mut self,
        symbol: &str,
        features: &[Feature],
        refused: Option<Inactive>,
        observer: &mut dyn Observer,
    ) -> ensemble::Decided<MAX_MODELS> {
        let windows = self.histories.of(symbol);
        self.pipeline.decide_observed(features, windows, refused, Scratch::new(&mut self.scratch), observer)
    }
}

/// Older than allowed, as far in the future, or without a readable time: all of them are stale.
fn is_stale(timestamp: Option<&Json<'_>>, now_ms: u64, max_age_ms: u64) -> bool {
    let at = match timestamp {
        Some(Json::Text(text)) => parse_timestamp(text).ok(),
        // Unix ms below 2^53 are exact; anything else is no time.
        Some(Json::Number(ms)) if *ms >= 0.0 && *ms < 9.0e15 => Some(*ms as u64),
        _ => None,
    };
    at.is_none_or(|at| now_ms.abs_diff(at) > max_age_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn age_is_judged_in_both_directions() {
        let at = Json::Number(1_000_000.0);
        assert!(!is_stale(Some(&at), 1_000_500, 500));
        assert!(is_stale(Some(&at), 1_000_501, 500));
        assert!(is_stale(Some(&at), 999_499, 500));
        assert!(is_stale(None, 1_000_000, 500));
        assert!(is_stale(Some(&Json::Text("yesterday".into())), 1_000_000, 500));
        assert!(!is_stale(Some(&Json::Text("1970-01-01T00:16:40Z".into())), 1_000_000, 0));
    }
}
