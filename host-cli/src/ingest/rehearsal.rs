//! What a consumer does on a core that it keeps: it decides its last event again and again, for nobody, so that code and
//! weights are still in the core's caches when the next one comes.

use std::time::{Duration, Instant};

use qsc_kernel::ensemble::{Feature, Predict};

use crate::engine::Engine;

/// Between two rehearsals. An event that comes in the middle of one waits for its end, so they take a fifth of the time
/// at most: four models take 25 to 50 µs.
const PAUSE: Duration = Duration::from_micros(200);

/// An engine of its own on the same weights: nothing that counts is remembered or reported.
pub(super) struct Rehearsal<P> {
    engine: Engine<P>,
    features: Vec<Feature>,
    last: Instant,
}

impl<P: Predict + Clone> Rehearsal<P> {
    pub(super) fn new(unfed: &Engine<P>) -> Self {
        Self { engine: unfed.clone(), features: Vec::new(), last: Instant::now() }
    }

    /// From now on rehearses the event that `engine` decided last.
    pub(super) fn follow(&mut self, engine: &Engine<P>) {
        self.features.clear();
        self.features.extend_from_slice(engine.schema().features());
        self.last = Instant::now();
    }

    /// Rehearses, if it is time to and there was an event.
    pub(super) fn rehearse(&mut self) {
        if self.features.is_empty() || self.last.elapsed() < PAUSE {
            return;
        }
        // All events are of one symbol: a window holds the same rows then, which costs the models the same.
        std::hint::black_box(self.engine.decide_features("", &self.features, None, &mut ()));
        self.last = Instant::now();
    }
}
