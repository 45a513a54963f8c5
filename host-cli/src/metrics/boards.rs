//! The boards of a process, one for each loop that decides: one, or one a shard. They are read as one.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::board::{Board, Lease};
use super::meter::Meter;
use super::recent::{KEPT, Record};
use crate::engine::config::ModelsConfig;
use crate::stream::Shard;

/// Boards of engines of the same models.
#[derive(Debug)]
pub struct Boards(Vec<(Option<Shard>, Arc<Board>)>);

impl Boards {
    /// A board for each of these loops, and who writes it; `None` is a loop that decides for no shard.
    #[must_use]
    pub fn new(config: &ModelsConfig, loops: &[Option<Shard>]) -> (Self, Vec<Meter>) {
        let first = Board::new(config);
        let boards: Vec<_> = loops.iter().map(|shard| (*shard, Arc::new(first.blank()))).collect();
        let meters = boards.iter().map(|(_, board)| Meter::new(Arc::clone(board))).collect();
        (Self(boards), meters)
    }

    /// Hands out the figures of all loops as those of one.
    pub fn read<T>(&self, read: impl FnOnce(&Board) -> T) -> T {
        let [(None, board)] = &self.0[..] else {
            return read(&self.sum());
        };
        read(board)
    }

    fn sum(&self) -> Board {
        let mut boards = self.0.iter().map(|(_, board)| &**board);
        let first = boards.next().expect("there is a loop");
        let mut sum = first.blank();
        sum.copy_state(first);
        sum.count(first);
        for board in boards {
            sum.join_state(board);
            sum.count(board);
        }
        let held = self.0.iter().filter(|(_, board)| board.lease() == Lease::Held).count();
        sum.shards = Some((held, self.0.len()));
        sum
    }

    /// What the models said in the newest decisions of all loops, oldest first.
    #[must_use]
    pub fn recent(&self) -> Vec<Record> {
        let mut records: Vec<Record> = self.0.iter().flat_map(|(_, board)| board.recent.read()).collect();
        if self.0.len() > 1 {
            records.sort_by_key(|record| record.ms);
            records.drain(..records.len().saturating_sub(KEPT as usize));
        }
        records
    }

    /// Each shard, with its lag if this process owns it.
    pub(super) fn shards(&self) -> impl Iterator<Item = (Shard, Option<u64>)> + Clone {
        self.0.iter().filter_map(|(shard, board)| {
            let lag = board.stream.lag.load(Ordering::Relaxed);
            Some(((*shard)?, (board.lease() == Lease::Held).then_some(lag)))
        })
    }
}
