//! A batch on its way to the server, until it is settled.

use std::time::{Duration, Instant};

use qsc_kernel::ensemble::Predict;
use redis::Value;

use super::consumer::{Consumer, Halt, is_full, millis};
use super::script::{self, Batch, Call, Settled, Terms};
use super::{Doing, Surroundings};
use crate::stream::Trouble;

impl<P: Predict + Clone> Consumer<'_, P> {
    /// An empty batch.
    pub(super) fn batch(&self) -> Batch {
        self.batch_by("EVALSHA", &self.sha, self.settings.lease)
    }

    pub(super) fn batch_by(&self, command: &str, script: &str, term: Duration) -> Batch {
        Batch::new(&Terms {
            command,
            script,
            keys: self.keys.all(),
            token: &self.token,
            term_ms: millis(term),
            group: &self.settings.group,
            consumer: &self.settings.consumer,
            intents_maxlen: self.settings.intents_maxlen,
        })
    }

    /// Sends a batch and waits until it is settled.
    pub(super) fn settle(
        &mut self,
        batch: Batch,
        around: &mut impl Surroundings<P>,
    ) -> Result<Settled, Halt> {
        let call = batch.call(self.settled);
        let sent = Instant::now();
        self.link.send_ahead(&call.bytes)?;
        let answer = self.link.receive();
        self.settlement(&call, answer, sent, around)
    }

    /// Takes the answer to a batch that was `sent` then. Where the server could not take it for now, it is sent again until
    /// it can: a refused script has done nothing.
    pub(super) fn settlement(
        &mut self,
        call: &Call,
        mut answer: Result<Value, Trouble>,
        mut sent: Instant,
        around: &mut impl Surroundings<P>,
    ) -> Result<Settled, Halt> {
        let mut backoff = self.backoff();
        let mut refused = false;
        loop {
            match answer {
                Ok(answer) => {
                    let settled = Settled::read(answer).ok_or(Halt::Odd("EVALSHA"))?;
                    if refused {
                        around.log("the server takes writes again");
                        self.tally.doing = Doing::Deciding;
                    }
                    if call.entries > 0 {
                        self.replay.tell(|meter| meter.settled(sent.elapsed()));
                    }
                    self.renewed = sent;
                    self.tally.foreign += call.entries.saturating_sub(settled.entries);
                    self.seen = self.seen.map(|seen| seen + settled.entries);
                    self.settled = call.last.unwrap_or(self.settled);
                    return Ok(settled);
                }
                // The whole script once, with its keys: a node of a Cluster that has just got the slot learns it too.
                Err(trouble) if trouble.code() == Some("NOSCRIPT") => {
                    let renewal =
                        self.batch_by("EVAL", script::SETTLE, self.settings.lease).call(self.settled);
                    self.link.send_ahead(&renewal.bytes)?;
                    self.link.receive()?;
                }
                Err(trouble) if is_full(&trouble) => {
                    if !refused {
                        let reason = trouble.explain(self.link.address());
                        around.log(&format!("{reason}; no event is dropped, trying again"));
                        self.tally.doing = Doing::Troubled { reason };
                        refused = true;
                    }
                    if !self.pause(backoff.next(), around) {
                        return Err(Halt::Stop);
                    }
                }
                Err(trouble) => return Err(trouble.into()),
            }
            sent = Instant::now();
            self.link.send_ahead(&call.bytes)?;
            answer = self.link.receive();
        }
    }
}
