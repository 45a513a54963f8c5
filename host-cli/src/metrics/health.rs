//! Whether the loop goes on, and whether it can decide.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::board::{Board, Lease, SourceState};

/// A loop that is silent for longer than this hangs; it beats many times a second.
pub const SILENCE: Duration = Duration::from_secs(10);

/// An answer for a prober: a word of yes or no, and the findings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Whether all is well.
    pub well: bool,
    /// One finding a line.
    pub findings: Vec<(&'static str, bool, String)>,
}

impl Health {
    fn of(findings: Vec<(&'static str, bool, String)>) -> Self {
        Self { well: findings.iter().all(|(_, well, _)| *well), findings }
    }

    /// One line for each finding.
    #[must_use]
    pub fn text(&self) -> String {
        let line = |(name, well, words): &(&str, bool, String)| {
            format!("{name}: {} ({words})\n", if *well { "ok" } else { "FAIL" })
        };
        self.findings.iter().map(line).collect()
    }
}

/// How long the loop has given no sign of life.
#[must_use]
pub fn silence(board: &Board) -> Duration {
    let beat = Duration::from_nanos(board.beat.load(Ordering::Relaxed));
    board.started.elapsed().saturating_sub(beat)
}

/// The process lives, and its loop goes on.
#[must_use]
pub fn health(board: &Board) -> Health {
    let silence = silence(board);
    let words =
        format!("last sign of life {:.1} s ago, at most {} s", silence.as_secs_f64(), SILENCE.as_secs());
    Health::of(vec![("loop", silence <= SILENCE, words)])
}

/// It can decide: the loop goes on, a model is loaded, the source answers, and it owns its stream, or one
/// shard at least.
#[must_use]
pub fn readiness(board: &Board) -> Health {
    let mut findings = health(board).findings;
    let loaded = board.models.iter().filter(|model| model.loaded.load(Ordering::Relaxed)).count();
    let words = if board.loaded.load(Ordering::Relaxed) {
        format!("{loaded} of {} loaded", board.models.len())
    } else {
        "not loaded yet".to_owned()
    };
    findings.push(("models", loaded > 0, words));
    let source = board.source();
    let words = match source {
        SourceState::Answers => "answers".to_owned(),
        SourceState::NotReached => "not reached".to_owned(),
        SourceState::Refuses(refusal) => format!("takes no writes for now: {}", refusal.code()),
    };
    findings.push(("source", source == SourceState::Answers, words));
    let (held, words) = match (board.lease(), board.shards) {
        (Lease::NotNeeded, _) => (true, "not needed".to_owned()),
        (lease, Some((held, of))) => (lease == Lease::Held, format!("{held} of {of} shards held")),
        (Lease::Held, None) => (true, "held".to_owned()),
        (Lease::NotHeld, None) => (false, "not held".to_owned()),
    };
    findings.push(("lease", held, words));
    Health::of(findings)
}
