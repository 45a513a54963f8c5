//! What a consumer does on a core that it keeps: it decides its last event again and again, for nobody, so that code and
//! weights are still in the core's caches when the next one comes.

use std::time::{Duration, Instant};

use qsc_kernel::ensemble::{Feature, Predict};

use crate::engine::Engine;

/// The least time between two rehearsals, in microseconds; [`SPREAD`] is by how much it varies. An event that comes in the
/// middle of one waits for its end, so they take a twentieth of the time: four models take 25 to 50 µs. Events often come
/// at a steady pace; rehearsals that did so too would meet every one of them or none.
const PAUSE: u64 = 750;
/// What is added to [`PAUSE`] at most.
const SPREAD: u64 = 500;

/// An engine of its own on the same weights: nothing that counts is remembered or reported.
pub(super) struct Rehearsal<P> {
    engine: Engine<P>,
    features: Vec<Feature>,
    last: Instant,
    /// Steps of the golden ratio round the circle, 2^32 to a turn: spread evenly, and never in step with anything.
    phase: u32,
}

impl<P: Predict + Clone> Rehearsal<P> {
    pub(super) fn new(unfed: &Engine<P>) -> Self {
        Self { engine: unfed.clone(), features: Vec::new(), last: Instant::now(), phase: 0 }
    }

    /// From now on rehearses the event that `engine` decided last.
    pub(super) fn follow(&mut self, engine: &Engine<P>) {
        self.features.clear();
        self.features.extend_from_slice(engine.schema().features());
        self.last = Instant::now();
    }

    /// Rehearses, if it is time to and there was an event.
    pub(super) fn rehearse(&mut self) {
        if self.features.is_empty() || self.last.elapsed() < self.pause() {
            return;
        }
        // All events are of one symbol: a window holds the same rows then, which costs the models the same.
        std::hint::black_box(self.engine.decide_features("", &self.features, None, &mut ()));
        self.last = Instant::now();
        self.phase = self.phase.wrapping_add(0x9E37_79B9);
    }

    fn pause(&self) -> Duration {
        Duration::from_micros(PAUSE + ((SPREAD * u64::from(self.phase)) >> 32))
    }
}
