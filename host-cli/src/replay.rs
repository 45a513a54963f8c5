//! Events through an engine: every event ends as an intent or as a reject, none is lost, and all are counted.

use std::collections::BTreeMap;
use std::time::Instant;

use hdrhistogram::Histogram;
use qsc_kernel::ensemble::{Decision, Member, NoActiveModel, Outcome, Ppm, Predict};

use crate::engine::Engine;
use crate::engine::config::ModelConfig;
use crate::engine::intent::intent;
use crate::metrics::Meter;
use crate::stream::{Event, EventId, Item, now_ms};

/// What became of one event.
pub enum Outlet<'a> {
    /// Its intent.
    Intent(&'a Event),
    /// No decision was possible: id or line, reason, and the event if there is one.
    Reject {
        /// The event's id, if that much could be read.
        id: Option<EventId>,
        /// Line of a capture file, from 1.
        line: Option<u64>,
        /// Why there is no intent.
        reason: String,
        /// The event, if it was one.
        event: Option<&'a Event>,
    },
}

/// Counts over a replay.
#[derive(Clone)]
pub struct Summary {
    /// Intents written.
    pub intents: u64,
    /// Events that could not be decided.
    pub rejects: u64,
    /// Intents by side, those without one under their consensus (`tie`, `no_active_model`).
    pub sides: BTreeMap<&'static str, u64>,
    /// Inactive outcomes by model and reason.
    pub inactive: BTreeMap<String, BTreeMap<&'static str, u64>>,
    /// Time per decision in nanoseconds, from payload text to the finished vote.
    pub latency: Histogram<u64>,
}

impl Default for Summary {
    fn default() -> Self {
        // Up to a minute; longer decisions are counted as one.
        let latency =
            Histogram::new_with_max(60_000_000_000, 3).expect("the bounds of the histogram are in range");
        Self { intents: 0, rejects: 0, sides: BTreeMap::new(), inactive: BTreeMap::new(), latency }
    }
}

impl Summary {
    /// Adds what another replay has counted.
    pub fn add(&mut self, other: &Self) {
        self.intents += other.intents;
        self.rejects += other.rejects;
        for (side, count) in &other.sides {
            *self.sides.entry(side).or_default() += count;
        }
        for (model, reasons) in &other.inactive {
            let of_model = self.inactive.entry(model.clone()).or_default();
            for (reason, count) in reasons {
                *of_model.entry(reason).or_default() += count;
            }
        }
        self.latency.add(&other.latency).expect("all histograms have the same bounds");
    }
}

/// An engine fed event by event.
pub struct Replay<P> {
    /// The engine.
    pub engine: Engine<P>,
    models: Vec<ModelConfig>,
    summary: Summary,
    meter: Option<Meter>,
}

impl<P: Predict> Replay<P> {
    /// A replay that has seen nothing.
    #[must_use]
    pub fn new(engine: Engine<P>) -> Self {
        let models = engine.models().to_vec();
        Self { engine, models, summary: Summary::default(), meter: None }
    }

    /// From now on `meter` is told what it does.
    pub fn report_to(&mut self, meter: Option<Meter>) {
        self.meter = meter;
        self.tell(|meter| {
            meter.loaded(self.engine.members().iter().map(|member| member.predictor().is_some()));
        });
    }

    /// Tells the meter which weights are in force.
    pub fn tell_weights(&self, generation: u64) {
        self.tell(|meter| meter.weights(generation, self.engine.members().iter().map(Member::weight)));
    }

    /// Tells the meter something, if there is one.
    pub fn tell(&self, say: impl FnOnce(&Meter)) {
        if let Some(meter) = &self.meter {
            say(meter);
        }
    }

    /// Decides one event and hands what came of it to `outlet`.
    ///
    /// # Errors
    /// The error of `outlet`.
    pub fn feed(
        &mut self,
        item: &Item,
        mut outlet: impl FnMut(Outlet<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let event = match item {
            Ok(event) => event,
            Err(malformed) => {
                self.summary.rejects += 1;
                self.tell(Meter::rejected);
                let (id, line, reason) = (malformed.id, malformed.line, malformed.reason.clone());
                return outlet(Outlet::Reject { id, line, reason, event: None });
            }
        };
        let started = Instant::now();
        // By a clock before 1970 every event is stale.
        let now = now_ms().unwrap_or(0);
        let decided = match &mut self.meter {
            Some(meter) => self.engine.decide_heard(event, now, meter),
            None => self.engine.decide(event, now),
        };
        let elapsed = started.elapsed();
        match decided {
            Ok(decided) => {
                self.summary.latency.saturating_record(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX));
                *self.summary.sides.entry(side_name(&decided.round.vote)).or_default() += 1;
                for (model, outcome) in self.models.iter().zip(&decided.round.outcomes) {
                    if let Outcome::Inactive { reason, .. } = outcome {
                        let of_model = self.summary.inactive.entry(model.name.clone()).or_default();
                        *of_model.entry(reason.wire_name()).or_default() += 1;
                    }
                }
                if let Some(meter) = &self.meter {
                    meter.decided(event.id, &decided.round);
                }
                let intent = intent(event, &decided, &self.models);
                self.summary.intents += 1;
                let writing = Instant::now();
                let taken = outlet(Outlet::Intent(&intent));
                self.tell(|meter| meter.written(writing.elapsed()));
                taken
            }
            Err(reject) => {
                self.summary.rejects += 1;
                self.tell(Meter::rejected);
                let reason = reject.to_string();
                outlet(Outlet::Reject { id: Some(event.id), line: None, reason, event: Some(event) })
            }
        }
    }

    /// Goes on with this engine, which remembers other events; weights and counts stay.
    pub fn resume_with(&mut self, engine: Engine<P>) {
        let weights: Vec<Ppm> = self.engine.members().iter().map(Member::weight).collect();
        self.engine = engine;
        for (at, weight) in weights.into_iter().enumerate() {
            self.engine.set_weight(at, weight);
        }
    }

    /// The counts so far.
    #[must_use]
    pub const fn summary(&self) -> &Summary {
        &self.summary
    }
}

fn side_name(vote: &Result<Decision, NoActiveModel>) -> &'static str {
    match vote {
        Ok(Decision::Side(side)) => side.prediction.action().wire_name(),
        Ok(tie @ Decision::Tie { .. }) => tie.consensus_name(),
        Err(NoActiveModel) => NoActiveModel::WIRE_NAME,
    }
}
