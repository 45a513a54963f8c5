//! A batch on its way to the server, until it is settled.

use std::time::{Duration, Instant};

use qsc_kernel::ensemble::Predict;
use redis::Value;

use super::Surroundings;
use super::consumer::{Consumer, Halt, WRITES_AGAIN};
use super::script::{self, Batch, Settled, Terms};
use crate::stream::{Patience, Refusal, Trouble, millis};
use crate::tally::Doing;

/// A call of the settling script that is on its way.
#[derive(Clone, Copy)]
pub(super) struct Sent {
    at: Instant,
    /// It renews the lease.
    renews: bool,
}

/// What came of it, and when: a read that goes with it may still be waited for.
pub(super) struct Answer {
    sent: Sent,
    took: Duration,
    value: Result<Value, Trouble>,
}

impl<P: Predict + Clone> Consumer<'_, P> {
    /// The call that settles `batch`, to be sent now; it renews the lease when it is time to.
    pub(super) fn call(&self, batch: &Batch) -> (Vec<u8>, Sent) {
        let sent = Sent { at: Instant::now(), renews: self.renewal_is_due() };
        let term = sent.renews.then_some(self.settings.lease);
        (self.call_by("EVALSHA", &self.sha, batch, term), sent)
    }

    pub(super) fn call_by(
        &self,
        command: &str,
        script: &str,
        batch: &Batch,
        term: Option<Duration>,
    ) -> Vec<u8> {
        batch.call(&Terms {
            command,
            script,
            keys: self.keys.all(),
            token: &self.token,
            group: &self.settings.group,
            intents_maxlen: self.settings.intents_maxlen,
            term_ms: term.map(millis),
            seen: self.seen,
            settled: self.settled,
        })
    }

    /// Sends a batch and waits until it is settled.
    pub(super) fn settle(
        &mut self,
        batch: &Batch,
        around: &mut impl Surroundings<P>,
    ) -> Result<Settled, Halt> {
        let (call, sent) = self.call(batch);
        self.link.send_ahead(&call)?;
        let answer = self.answer(sent);
        self.settlement(batch, answer, around)
    }

    /// Waits for the answer to a call that was sent, and no longer.
    pub(super) fn answer(&mut self, sent: Sent) -> Answer {
        let value = self.receive();
        Answer { sent, took: sent.at.elapsed(), value }
    }

    /// Takes the answer to the call of a batch. Where the server could not take it for now, it is sent again until it can: a
    /// refused script has done nothing.
    pub(super) fn settlement(
        &mut self,
        batch: &Batch,
        mut answer: Answer,
        around: &mut impl Surroundings<P>,
    ) -> Result<Settled, Halt> {
        let mut backoff = None;
        loop {
            let Answer { sent, took, value } = answer;
            match value {
                Ok(value) => {
                    let settled = Settled::read(value).ok_or(Halt::Odd("EVALSHA".to_owned()))?;
                    if self.tally.is_refused() {
                        around.log(WRITES_AGAIN);
                        self.tally.doing = Doing::Deciding;
                    }
                    if sent.renews {
                        self.renewed = sent.at;
                    }
                    if let Settled::Entries(entries) = settled {
                        self.replay.tell(|meter| meter.settled(took));
                        if let Some(settled) = batch.advances_to(self.settled) {
                            self.seen = self.seen.map(|seen| seen + entries);
                            self.settled = settled;
                        }
                    }
                    return Ok(settled);
                }
                // The whole script once, with its keys: a node of a Cluster that has just got the slot learns it too.
                Err(trouble) if trouble.code() == Some("NOSCRIPT") => {
                    let nothing = Batch::default();
                    let learn = self.call_by("EVAL", script::SETTLE, &nothing, Some(self.settings.lease));
                    self.link.send_ahead(&learn)?;
                    self.link.receive(Patience::Asleep)?;
                }
                Err(trouble) => {
                    let Some(refusal) = Refusal::of(&trouble) else { return Err(trouble.into()) };
                    let reason = trouble.explain(self.link.address());
                    if self.tally.troubled(&reason, Some(refusal)) {
                        around.log(&format!("{reason}; no event is dropped, trying again"));
                    }
                    let pause = backoff.get_or_insert_with(|| self.backoff()).next();
                    if !self.pause(pause, around) {
                        return Err(Halt::Stop);
                    }
                    if self.look_is_due() {
                        self.look()?;
                    }
                }
            }
            let (call, sent) = self.call(batch);
            self.link.send_ahead(&call)?;
            answer = self.answer(sent);
        }
    }
}
