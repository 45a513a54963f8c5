//! A sign of life from whoever waits for a server.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Between two signs of life while a server is waited for.
const BEAT: Duration = Duration::from_secs(1);

/// Called about once a second while an answer is waited for, and before each server is asked: who waits for a network does
/// not hang, and the wait has an end.
#[derive(Clone, Default)]
pub struct Pulse(Option<Arc<dyn Fn() + Send + Sync>>);

impl Pulse {
    /// A pulse that is felt by calling `beat`.
    pub fn new(beat: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(beat)))
    }

    pub(super) fn beat(&self) {
        if let Some(beat) = &self.0 {
            beat();
        }
    }

    /// `timeout` in equal parts, so that a beat falls between any two.
    pub(super) fn part_of(timeout: Duration) -> Duration {
        timeout / Self::parts(timeout)
    }

    /// How many these are.
    pub(super) fn parts(timeout: Duration) -> u32 {
        u32::try_from(timeout.as_secs() / BEAT.as_secs()).unwrap_or(u32::MAX - 1) + 1
    }
}

impl fmt::Debug for Pulse {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Pulse")
    }
}
