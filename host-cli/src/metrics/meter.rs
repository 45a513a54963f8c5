//! The writer's side of the board: what the loop and the engine's stages tell it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use qsc_kernel::Inactive;
use qsc_kernel::ensemble::{Decision, NoActiveModel, Outcome, Ppm, Round};
use qsc_kernel::observe::{Observer, Stage};

use super::board::{Board, HostStage, KernelStage, Lease, SIDES, SourceState, add};
use crate::engine::{Listener, MAX_MODELS};
use crate::stream::EventId;
use crate::tally::Tally;

/// Writes a [`Board`]. There is one, and it is not cloned: each figure has a single writer.
#[derive(Debug)]
pub struct Meter {
    board: Arc<Board>,
    /// When the stage that is running began.
    since: Instant,
    /// When the decision that is running began.
    bound: Instant,
}

impl Meter {
    /// The writer of `board`.
    #[must_use]
    pub fn new(board: Arc<Board>) -> Self {
        let now = Instant::now();
        Self { board, since: now, bound: now }
    }

    /// The loop goes on: called wherever it provably does.
    pub fn beat(&self) {
        let alive = u64::try_from(self.board.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.board.beat.store(alive, Ordering::Relaxed);
    }

    /// The same for the moments in which the loop waits inside something.
    pub fn heart(&self) -> impl Fn() + Send + Sync + 'static {
        let inner = Self::new(Arc::clone(&self.board));
        move || inner.beat()
    }

    /// Which models could be loaded, in member order.
    pub fn loaded(&self, models: impl IntoIterator<Item = bool>) {
        for (model, loaded) in self.board.models.iter().zip(models) {
            model.loaded.store(loaded, Ordering::Relaxed);
        }
        self.board.loaded.store(true, Ordering::Relaxed);
    }

    /// Whether the source can be worked with.
    pub fn source(&self, source: SourceState) {
        self.board.set_source(source);
    }

    /// Whether this process may decide on its shards.
    pub fn lease(&self, lease: Lease) {
        self.board.set_lease(lease);
    }

    /// What a consumer of a stream has done.
    pub fn stream(&self, tally: &Tally) {
        let stream = &self.board.stream;
        stream.is_one.store(true, Ordering::Relaxed);
        for (cell, count) in [
            (&stream.lag, tally.lag),
            (&stream.pending, tally.pending),
            (&stream.settled, tally.intents),
            (&stream.dead, tally.dead + tally.poison),
            (&stream.lost, tally.lost),
            (&stream.reconnects, tally.reconnects),
            (&stream.leases_lost, tally.leases_lost),
        ] {
            cell.store(count, Ordering::Relaxed);
        }
        for (cell, count) in stream.refusals.iter().zip(tally.refusals) {
            cell.store(count, Ordering::Relaxed);
        }
    }

    /// The weights in force, in member order.
    pub fn weights(&self, generation: u64, weights: impl IntoIterator<Item = Ppm>) {
        for (model, weight) in self.board.models.iter().zip(weights) {
            model.weight.store(u64::from(weight.get()), Ordering::Relaxed);
        }
        self.board.generation.store(generation, Ordering::Relaxed);
    }

    /// An event that could not be decided.
    pub fn rejected(&self) {
        add(&self.board.events, 1);
        add(&self.board.rejects, 1);
    }

    /// An event that was decided.
    pub fn decided(&self, id: EventId, round: &Round<MAX_MODELS>) {
        let board = &*self.board;
        add(&board.events, 1);
        add(&board.sides[side_of(&round.vote)], 1);
        board.newest_event.store(id.ms, Ordering::Relaxed);
        for (model, outcome) in board.models.iter().zip(&round.outcomes) {
            match *outcome {
                Outcome::Active { prediction, .. } => {
                    add(&model.actions[usize::from(prediction.action().code())], 1);
                }
                Outcome::Inactive { reason, .. } => {
                    let at = Inactive::ALL.iter().position(|known| *known == reason);
                    at.into_iter().for_each(|at| add(&model.inactive[at], 1));
                }
            }
        }
        board.recent.push(id.ms, &round.outcomes);
    }

    /// An intent was spelled and handed to its sink or batch.
    pub fn written(&self, took: Duration) {
        self.board.stages[HostStage::Write as usize].record(took);
    }

    /// The server has settled a batch.
    pub fn settled(&self, took: Duration) {
        self.board.stages[HostStage::Settle as usize].record(took);
    }

    /// Ends the host's stage that was running, and begins the next one.
    fn ended_host(&mut self, stage: HostStage) {
        let now = Instant::now();
        self.board.stages[stage as usize].record(now - self.since);
        self.since = now;
    }
}

/// Where [`SIDES`] counts a vote.
fn side_of(vote: &Result<Decision, NoActiveModel>) -> usize {
    match vote {
        Ok(Decision::Side(side)) => usize::from(side.prediction.action().code()),
        Ok(Decision::Tie { .. }) => SIDES.len() - 2,
        Err(NoActiveModel) => SIDES.len() - 1,
    }
}

impl Listener for Meter {
    fn began(&mut self) {
        self.since = Instant::now();
    }

    fn parsed(&mut self) {
        self.ended_host(HostStage::Parse);
    }

    fn bound(&mut self) {
        self.ended_host(HostStage::Bind);
        self.bound = self.since;
    }

    fn decided(&mut self) {
        self.since = self.bound;
        self.ended_host(HostStage::Decide);
    }
}

impl Observer for Meter {
    fn ended(&mut self, stage: Stage) {
        let board = &*self.board;
        let histogram = match stage {
            Stage::Member(at) => board.models.get(at).map(|model| &model.time),
            Stage::Bind => Some(&board.kernel_stages[KernelStage::Bind as usize]),
            Stage::Guards => Some(&board.kernel_stages[KernelStage::Guards as usize]),
            Stage::Vote => Some(&board.kernel_stages[KernelStage::Vote as usize]),
            Stage::Fingerprint => Some(&board.kernel_stages[KernelStage::Fingerprint as usize]),
            // Parts of a model are part of its time.
            _ => return,
        };
        let now = Instant::now();
        histogram.into_iter().for_each(|histogram| histogram.record(now - self.since));
        self.since = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use qsc_kernel::Action;

    #[test]
    fn sides_are_named_as_the_wire_names_them() {
        for action in Action::ALL {
            assert_eq!(SIDES[usize::from(action.code())], action.wire_name());
        }
        assert_eq!(SIDES[side_of(&Err(NoActiveModel))], NoActiveModel::WIRE_NAME);
    }
}
