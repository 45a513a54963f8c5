//! One owner's shift: the lease, and what each fault means.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{anyhow, ensure};
use qsc_kernel::ensemble::Predict;
use redis::{Cmd, Script, Value};

use super::script::{self, Lease};
use super::{Doing, Keys, Surroundings, Tally};
use crate::engine::Engine;
use crate::engine::replay::Replay;
use crate::stream::{Backoff, EventId, Link, Trouble};

/// How long a read waits for entries.
pub(super) const WAIT: Duration = Duration::from_millis(100);
/// How often a waiting consumer looks around.
const LOOK: Duration = Duration::from_millis(50);

/// How a consumer works.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The consumer group.
    pub group: String,
    /// This consumer's name in it; a start with the same name takes over from itself at once.
    pub consumer: String,
    /// Most entries read and settled at once.
    pub batch: usize,
    /// How long a lease holds that is not renewed: a dead owner is replaced after this time.
    pub lease: Duration,
    /// Most entries read back to rebuild what the engine remembers.
    pub rebuild: u64,
    /// An entry that was delivered so often without being settled is poison.
    pub deliveries: u64,
    /// Roughly how many intents the stream of intents keeps; 0: all.
    pub intents_maxlen: u64,
}

/// Why a shift ends.
#[derive(Debug)]
pub(super) enum Halt {
    /// It was asked to.
    Stop,
    /// The server or the way to it.
    Trouble(Trouble),
    /// The lease went to another consumer.
    Fenced(String),
    /// The group is gone, or an entry was delivered to somebody else: what is remembered does not fit any more.
    Astray(String),
    /// The server's answer is not one of Redis 7.
    Odd(&'static str),
}

impl From<Trouble> for Halt {
    fn from(trouble: Trouble) -> Self {
        match &trouble {
            Trouble::Refused { code, message } if code == "FENCED" => Self::Fenced(message.clone()),
            Trouble::Refused { code, message } if code == "STRAY" => Self::Astray(format!(
                "the entry {message} was delivered to another consumer of the group and is not settled"
            )),
            Trouble::Refused { code, .. } if code == "NOGROUP" => {
                Self::Astray("the consumer group is gone".to_owned())
            }
            _ => Self::Trouble(trouble),
        }
    }
}

/// A consumer of one feature stream.
pub struct Consumer<'a, P> {
    pub(super) settings: &'a Settings,
    pub(super) keys: &'a Keys,
    pub(super) link: Link,
    /// What tells this process from every other one.
    pub(super) token: String,
    /// A service is its own successor: right after a crash it need not wait for its own lease to end.
    successor: bool,
    /// SHA-1 of the settling script.
    pub(super) sha: String,
    pub(super) replay: Replay<P>,
    /// The engine before its first event.
    pub(super) unfed: Engine<P>,
    pub(super) tally: Tally,
    /// The last entry of the stream that is settled; every older one is too, unless it is pending.
    pub(super) settled: EventId,
    /// Entries of the stream accounted for, counted from the first one ever; unknown where the group is not ours.
    pub(super) seen: Option<u64>,
    /// Entries that are never fed to the models.
    pub(super) poison: BTreeSet<EventId>,
    /// When the lease was last known to be ours.
    pub(super) renewed: Instant,
    pub(super) looked_for_gaps: Instant,
    /// The last entry that this process has read or claimed: what is pending for it up to there did not kill it.
    pub(super) met: EventId,
    /// Whether the server has done all that is asked of it once: what it refuses from then on may be permitted again.
    pub(super) served: bool,
}

impl<'a, P: Predict + Clone> Consumer<'a, P> {
    /// A consumer on an open link.
    #[must_use]
    pub fn new(
        settings: &'a Settings,
        keys: &'a Keys,
        mut link: Link,
        token: String,
        engine: Engine<P>,
    ) -> Self {
        let now = Instant::now();
        // A read that waits for entries is no server that does not answer.
        link.set_reply_timeout(link.options().reply_timeout.max(2 * WAIT));
        Self {
            settings,
            keys,
            link,
            token,
            successor: true,
            sha: Script::new(script::SETTLE).get_hash().to_owned(),
            unfed: engine.clone(),
            replay: Replay::new(engine),
            tally: Tally::default(),
            settled: EventId::default(),
            seen: None,
            poison: BTreeSet::new(),
            renewed: now,
            looked_for_gaps: now,
            met: EventId::default(),
            served: false,
        }
    }

    /// The replay, for its counts and weights.
    pub const fn replay(&mut self) -> &mut Replay<P> {
        &mut self.replay
    }

    /// What was done.
    #[must_use]
    pub const fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Works until it is asked to end. What may pass is waited for.
    ///
    /// # Errors
    /// What no waiting mends, as long as nothing was decided yet: wrong keys, missing permissions, another kind of server.
    pub fn run(&mut self, around: &mut impl Surroundings<P>) -> anyhow::Result<()> {
        let mut backoff = self.backoff();
        loop {
            let halt = match self.shift(&mut backoff, around) {
                Ok(never) => match never {},
                Err(halt) => halt,
            };
            match halt {
                Halt::Stop => {
                    self.release();
                    return Ok(());
                }
                Halt::Fenced(owner) => {
                    self.tally.leases_lost += 1;
                    self.successor = false;
                    around.log(&format!(
                        "the lease of {} went to {owner}: nothing more is written until it is free again",
                        self.keys.features
                    ));
                }
                Halt::Astray(why) => {
                    around.log(&format!("{why}: going on from what is settled, {}", self.settled))
                }
                Halt::Odd(command) => {
                    return Err(anyhow!(
                        "Redis at {} answered {command} in a form not known here; Redis 7.0 or later is needed",
                        self.link.address()
                    ));
                }
                Halt::Trouble(trouble) => {
                    ensure!(self.served || is_passing(&trouble), "{}", self.explain(&trouble));
                    let reason = trouble.explain(self.link.address());
                    around.log(&format!("{reason}; trying again"));
                    self.tally.doing = Doing::Troubled { reason };
                    if !self.reconnect(&mut backoff, around) {
                        return Ok(());
                    }
                }
            }
        }
    }

    fn shift(
        &mut self,
        backoff: &mut Backoff,
        around: &mut impl Surroundings<P>,
    ) -> Result<std::convert::Infallible, Halt> {
        self.take_lease(around)?;
        self.tally.doing = Doing::Rebuilding;
        let delivered = self.attach(around)?;
        self.work_off(delivered, around)?;
        backoff.reset();
        self.tally.doing = Doing::Deciding;
        self.decide_all(around)
    }

    /// Waits until the lease is ours.
    fn take_lease(&mut self, around: &mut impl Surroundings<P>) -> Result<(), Halt> {
        let mut take = redis::cmd("EVAL");
        take.arg(script::LEASE).arg(1).arg(&self.keys.owner).arg(&self.token).arg(&self.settings.consumer);
        take.arg(millis(self.settings.lease)).arg(u8::from(self.successor));
        let mut said = false;
        loop {
            let asked = Instant::now();
            match self.ask(&take, Lease::read)? {
                Lease::Taken { before, last, seen } => {
                    self.renewed = asked;
                    self.successor = false;
                    self.settled = last.unwrap_or_default();
                    self.seen = seen;
                    if said || !(before.is_empty() || before == self.token) {
                        around.log(&format!("took over the lease of {}", self.keys.features));
                    }
                    return Ok(());
                }
                Lease::Held { by, left_ms } => {
                    if !said {
                        around.log(&format!(
                            "standing by: {by} holds the lease of {} for {left_ms} ms unless renewed",
                            self.keys.features
                        ));
                        said = true;
                    }
                    self.tally.doing = Doing::Waiting { owner: by };
                    let pause = Duration::from_millis(left_ms)
                        .clamp(Duration::from_millis(5), self.settings.lease / 10);
                    if !self.pause(pause, around) {
                        return Err(Halt::Stop);
                    }
                }
            }
        }
    }

    /// Sends a command once and reads its answer.
    pub(super) fn ask<T>(&mut self, cmd: &Cmd, read: impl FnOnce(Value) -> Option<T>) -> Result<T, Halt> {
        let answer = self.link.query(cmd)?;
        read(answer).ok_or(Halt::Odd("a command"))
    }

    /// Called in everything that takes long: renews the lease when it is time to.
    pub(super) fn keep_lease(&mut self, around: &mut impl Surroundings<P>) -> Result<(), Halt> {
        if !around.goes_on(&mut self.replay, &self.tally) {
            return Err(Halt::Stop);
        }
        if self.renewal_is_due() {
            self.settle(self.batch(), around)?;
        }
        Ok(())
    }

    /// A third of the lease is over.
    pub(super) fn renewal_is_due(&self) -> bool {
        self.renewed.elapsed() >= self.settings.lease / 3
    }

    pub(super) fn backoff(&self) -> Backoff {
        let options = self.link.options();
        let seed = self.token.bytes().fold(0, |seed: u64, byte| seed.wrapping_mul(257) ^ u64::from(byte));
        Backoff::new(options.backoff_first, options.backoff_cap, seed)
    }

    /// Connects again, as often as it takes; false if it shall end.
    fn reconnect(&mut self, backoff: &mut Backoff, around: &mut impl Surroundings<P>) -> bool {
        let mut said = String::new();
        loop {
            if !self.pause(backoff.next(), around) {
                return false;
            }
            match self.link.reconnect() {
                Ok(()) => {
                    self.tally.reconnects += 1;
                    return true;
                }
                Err(trouble) => {
                    let reason = trouble.explain(self.link.address());
                    if reason != said {
                        around.log(&format!("{reason}; trying again"));
                        said = reason;
                    }
                }
            }
        }
    }

    /// Waits, and goes on looking around; false if it shall end.
    pub(super) fn pause(&mut self, pause: Duration, around: &mut impl Surroundings<P>) -> bool {
        let end = Instant::now() + pause;
        loop {
            if !around.goes_on(&mut self.replay, &self.tally) {
                return false;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            thread::sleep(left.min(LOOK));
        }
    }

    /// One sentence on a refusal that no waiting mends.
    fn explain(&self, trouble: &Trouble) -> String {
        let address = self.link.address();
        match trouble.code() {
            Some("WRONGTYPE") => format!(
                "a key of Redis at {address} is of another type ({trouble}); {} and {} must be streams, name others with \
                 --stream and --sink-stream",
                self.keys.features, self.keys.intents
            ),
            Some("NOPERM") => {
                format!("{}; docs/ingest.md lists the commands and keys", trouble.explain(address))
            }
            _ => trouble.explain(address),
        }
    }
}

/// The server cannot take writes for now.
pub(super) fn is_full(trouble: &Trouble) -> bool {
    matches!(trouble.code(), Some("OOM" | "MISCONF" | "NOREPLICAS" | "BUSY"))
}

/// Waiting may mend it.
fn is_passing(trouble: &Trouble) -> bool {
    is_full(trouble) || trouble.calls_for_reconnect()
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
