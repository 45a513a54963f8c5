//! What the models said in the newest decisions: a ring that its writer fills without waiting, and that a reader
//! copies out whole, leaving out what was overwritten meanwhile.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use qsc_kernel::ensemble::Outcome;
use qsc_kernel::{Action, Inactive, Prediction};

/// Decisions kept: what the scoreboard judges by default.
pub const KEPT: u64 = 2000;

/// Bit of a word that says that a prediction is there.
const PREDICTED: u64 = 1 << 34;
/// Where the reason for inactivity begins; 0 is active.
const REASON_SHIFT: u32 = 40;

/// The ring.
#[derive(Debug)]
pub struct Recent {
    /// Records begun, and records complete.
    begun: AtomicU64,
    complete: AtomicU64,
    /// Per record its time in Unix ms, then one word for each model.
    words: Vec<AtomicU64>,
    models: usize,
}

/// One decision.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Unix ms.
    pub ms: u64,
    /// What each model said.
    pub said: Vec<Said>,
}

/// What a model said in one decision.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Said {
    /// Its action and confidence, if it gave any.
    pub prediction: Option<(Action, f32)>,
    /// Why it took no part.
    pub inactive: Option<Inactive>,
}

impl Recent {
    pub(super) fn new(models: usize) -> Self {
        let words = KEPT as usize * (models + 1);
        Self {
            begun: AtomicU64::default(),
            complete: AtomicU64::default(),
            words: std::iter::repeat_with(AtomicU64::default).take(words).collect(),
            models,
        }
    }

    fn record(&self, number: u64) -> &[AtomicU64] {
        let width = self.models + 1;
        let at = (number % KEPT) as usize * width;
        &self.words[at..at + width]
    }

    /// Adds a decision. Only the one writer calls this.
    pub(super) fn push(&self, ms: u64, outcomes: &[Outcome]) {
        let number = self.complete.load(Ordering::Relaxed);
        self.begun.store(number + 1, Ordering::Relaxed);
        // A reader that sees any word below must also see that the record before it is being overwritten.
        fence(Ordering::Release);
        let (time, said) = self.record(number).split_first().expect("a record has a time");
        time.store(ms, Ordering::Relaxed);
        for (word, outcome) in said.iter().zip(outcomes) {
            word.store(pack(outcome), Ordering::Relaxed);
        }
        self.complete.store(number + 1, Ordering::Release);
    }

    /// The newest decisions, oldest first.
    #[must_use]
    pub fn read(&self) -> Vec<Record> {
        let end = self.complete.load(Ordering::Acquire);
        let start = end.saturating_sub(KEPT);
        let copy = |number| {
            let mut words = self.record(number).iter().map(|word| word.load(Ordering::Relaxed));
            Record { ms: words.next().unwrap_or(0), said: words.map(unpack).collect() }
        };
        let mut records: Vec<Record> = (start..end).map(copy).collect();
        fence(Ordering::Acquire);
        let overwritten = self.begun.load(Ordering::Relaxed).saturating_sub(KEPT).saturating_sub(start);
        records.drain(..records.len().min(usize::try_from(overwritten).unwrap_or(usize::MAX)));
        records
    }
}

fn pack(outcome: &Outcome) -> u64 {
    let (prediction, reason) = match *outcome {
        Outcome::Active { prediction, .. } => (Some(prediction), None),
        Outcome::Inactive { reason, prediction, .. } => (prediction, Some(reason)),
    };
    let said = prediction.map_or(0, |prediction: Prediction| {
        PREDICTED | u64::from(prediction.action().code()) << 32 | u64::from(prediction.confidence().to_bits())
    });
    let number =
        |reason| Inactive::ALL.iter().position(|known| *known == reason).map_or(0, |at| at as u64 + 1);
    said | reason.map_or(0, number) << REASON_SHIFT
}

fn unpack(word: u64) -> Said {
    let action = Action::from_code((word >> 32) as u8 & 3).filter(|_| word & PREDICTED != 0);
    let reason = usize::try_from(word >> REASON_SHIFT).ok().and_then(|number| number.checked_sub(1));
    Said {
        prediction: action.map(|action| (action, f32::from_bits(word as u32))),
        inactive: reason.and_then(|at| Inactive::ALL.get(at).copied()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;
    use std::thread;

    use super::*;

    fn active(action: Action, confidence: f32) -> Outcome {
        Outcome::Active { prediction: Prediction::new(action, confidence).unwrap(), degenerate: false }
    }

    #[test]
    fn what_is_pushed_is_read() {
        let recent = Recent::new(2);
        let shadow = Outcome::Inactive {
            reason: Inactive::ShadowMode,
            prediction: Some(Prediction::new(Action::Hold, 0.25).unwrap()),
            degenerate: false,
        };
        recent.push(7, &[active(Action::Sell, 1.0), shadow]);
        recent.push(
            8,
            &[
                active(Action::Buy, 0.0),
                Outcome::Inactive {
                    reason: Inactive::ExceptionInPredict,
                    prediction: None,
                    degenerate: false,
                },
            ],
        );
        let read = recent.read();
        assert_eq!((read.len(), read[0].ms, read[1].ms), (2, 7, 8));
        assert_eq!(read[0].said[0], Said { prediction: Some((Action::Sell, 1.0)), inactive: None });
        assert_eq!(
            read[0].said[1],
            Said { prediction: Some((Action::Hold, 0.25)), inactive: Some(Inactive::ShadowMode) }
        );
        assert_eq!(read[1].said[0], Said { prediction: Some((Action::Buy, 0.0)), inactive: None });
        assert_eq!(read[1].said[1], Said { prediction: None, inactive: Some(Inactive::ExceptionInPredict) });
        assert!((0..KEPT).all(|ms| {
            recent.push(ms, &[active(Action::Buy, 0.5), active(Action::Buy, 0.5)]);
            recent.read().len() as u64 == (ms + 3).min(KEPT)
        }));
    }

    #[test]
    fn no_reader_sees_half_a_record() {
        let (recent, end) = (Arc::new(Recent::new(2)), Arc::new(AtomicBool::default()));
        let writer = thread::spawn({
            let (recent, end) = (Arc::clone(&recent), Arc::clone(&end));
            move || {
                for ms in 0.. {
                    let confidence = (ms % 1000) as f32 / 1000.0;
                    recent.push(ms, &[active(Action::Buy, confidence), active(Action::Sell, confidence)]);
                    if end.load(Ordering::Relaxed) {
                        return;
                    }
                }
            }
        });
        for _ in 0..200 {
            let records = recent.read();
            for (record, next) in records.iter().zip(records.iter().skip(1)) {
                assert_eq!(next.ms, record.ms + 1);
            }
            for record in records {
                let confidence = (record.ms % 1000) as f32 / 1000.0;
                assert!(
                    record.said.iter().all(|said| said.prediction.unwrap().1 == confidence),
                    "{record:?}"
                );
            }
        }
        end.store(true, Ordering::Relaxed);
        writer.join().unwrap();
    }
}
