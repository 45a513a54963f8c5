//! One owner's shift: the lease, and what each fault means.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{anyhow, ensure};
use qsc_kernel::ensemble::Predict;
use redis::{Cmd, Script, Value};

use super::fair::Seat;
use super::rehearsal::Rehearsal;
use super::script;
use super::{Keys, Surroundings};
use crate::engine::Engine;
use crate::replay::Replay;
use crate::stream::{Backoff, EventId, Link, Patience, Refusal, Trouble, command_name};
use crate::tally::{Doing, Tally};

/// How long a read waits for entries.
pub(super) const WAIT: Duration = Duration::from_millis(100);
/// How often a waiting consumer looks around.
const LOOK: Duration = Duration::from_millis(50);
/// Logged when a refusal is over.
pub(super) const WRITES_AGAIN: &str = "the server takes writes again";

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
    /// Keep the core while waiting for events and answers.
    pub spin: bool,
}

/// Why a shift ends.
#[derive(Debug)]
pub(super) enum Halt {
    /// It was asked to.
    Stop,
    /// The server or the way to it.
    Trouble(Trouble),
    /// The lease went to another consumer, or ran out.
    Fenced(Option<String>),
    /// The shard is to go to a worker that has fewer; everything read is settled.
    HandOver,
    /// The group is gone, or an entry was delivered to somebody else: what is remembered does not fit any more.
    Astray(String),
    /// The server's answer is not one of Redis 7.
    Odd(String),
}

impl From<Trouble> for Halt {
    fn from(trouble: Trouble) -> Self {
        match &trouble {
            Trouble::Refused { code, message } if code == "FENCED" => {
                Self::Fenced(Some(message.clone()).filter(|owner| !owner.is_empty()))
            }
            Trouble::Refused { code, message } if code == "STRAY" => Self::Astray(format!(
                "the entry {message} was delivered to another consumer of the group and is not settled"
            )),
            Trouble::Refused { code, message } if code == "SKIPPED" => {
                Self::Astray(format!("the entry {message} was passed over and is not settled"))
            }
            Trouble::Refused { code, message } if code == "GONE" => Self::Astray(format!(
                "the entry {message} is pending no more, and not settled by this consumer"
            )),
            Trouble::Refused { code, .. } if code == "BUSYGROUP" => {
                Self::Astray("somebody else created the consumer group in the same moment".to_owned())
            }
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
    pub(super) process: String,
    /// Shifts begun.
    pub(super) shifts: u64,
    /// What tells this shift from every other one.
    pub(super) token: String,
    /// A service is its own successor: right after a crash it need not wait for its own lease to end.
    pub(super) successor: bool,
    /// SHA-1 of the settling script.
    pub(super) sha: String,
    pub(super) replay: Replay<P>,
    /// The engine before its first event.
    pub(super) unfed: Engine<P>,
    /// Of a consumer that keeps its core.
    rehearsal: Option<Rehearsal<P>>,
    pub(super) tally: Tally,
    /// The last entry of the stream that is settled; every older one is too, unless it is pending.
    pub(super) settled: EventId,
    /// Entries of the stream accounted for, counted from the first one ever; unknown where the group is not ours.
    pub(super) seen: Option<u64>,
    /// Entries that are never fed to the models.
    pub(super) poison: BTreeSet<EventId>,
    /// When the lease was last known to be ours.
    pub(super) renewed: Instant,
    pub(super) looked: Instant,
    /// The last entry that this process has read or claimed: what is pending for it up to there did not kill it.
    pub(super) met: EventId,
    /// The last entry of this shift that was delivered: the next one comes after it.
    pub(super) met_to: EventId,
    /// Entries that have their intent or dead letter although they are pending, or come after the last one settled.
    pub(super) answered: BTreeSet<EventId>,
    /// Entries up to the last one settled that are pending and have neither: those alone are decided so late.
    pub(super) undecided: BTreeSet<EventId>,
    /// Pending entries of which nobody can tell whether they have one.
    pub(super) doubtful: BTreeSet<EventId>,
    /// This shard among those of the process; `None` where the stream is no shard.
    pub(super) seat: Option<Seat<'a>>,
    /// When other workers were last told that this one lives.
    pub(super) told: Instant,
    /// The shard goes to another worker as soon as everything read is settled.
    pub(super) handing_over: bool,
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
        process: String,
        engine: Engine<P>,
        seat: Option<Seat<'a>>,
    ) -> Self {
        let now = Instant::now();
        // A read that waits for entries is no server that does not answer.
        link.set_reply_timeout(link.options().reply_timeout.max(2 * WAIT));
        Self {
            settings,
            keys,
            link,
            process,
            shifts: 0,
            token: String::new(),
            successor: true,
            sha: Script::new(script::SETTLE).get_hash().to_owned(),
            rehearsal: settings.spin.then(|| Rehearsal::new(&engine)),
            unfed: engine.clone(),
            replay: Replay::new(engine),
            tally: Tally::default(),
            settled: EventId::default(),
            seen: None,
            poison: BTreeSet::new(),
            renewed: now,
            looked: now,
            met: EventId::default(),
            met_to: EventId::default(),
            answered: BTreeSet::new(),
            undecided: BTreeSet::new(),
            doubtful: BTreeSet::new(),
            seat,
            told: now,
            handing_over: false,
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
                    self.retire();
                    return Ok(());
                }
                Halt::Fenced(owner) => {
                    self.tally.leases_lost += 1;
                    self.successor = false;
                    self.leave();
                    let features = &self.keys.features;
                    around.log(&match owner {
                        Some(owner) => format!(
                            "the lease of {features} went to {owner}: nothing more is written until it is free again"
                        ),
                        None => format!(
                            "the lease of {features} ran out before it was renewed: nothing more is written until it is \
                             taken again"
                        ),
                    });
                }
                Halt::HandOver => {
                    self.tally.handed_over += 1;
                    self.release();
                    around
                        .log(&format!("handed {} over: another worker has fewer shards", self.keys.features));
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
                    let reason = self.explain(&trouble);
                    ensure!(self.served || self.is_passing(&trouble), "{reason}");
                    let refusal = Refusal::of(&trouble);
                    if self.tally.troubled(&reason, refusal) {
                        around.log(&format!("{reason}; trying again"));
                    }
                    // A server that refuses is there.
                    let goes_on = match refusal {
                        Some(_) => self.pause(backoff.next(), around),
                        None => self.reconnect(&mut backoff, around),
                    };
                    if !goes_on {
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
        if self.tally.is_refused() {
            around.log(WRITES_AGAIN);
        }
        self.tally.doing = Doing::Rebuilding;
        let delivered = self.attach(around)?;
        self.work_off(delivered, around)?;
        backoff.reset();
        self.tally.doing = Doing::Deciding;
        self.decide_all(around)
    }

    /// Sends a command once and reads its answer.
    pub(super) fn ask<T>(&mut self, cmd: &Cmd, read: impl FnOnce(Value) -> Option<T>) -> Result<T, Halt> {
        let answer = self.link.query(cmd)?;
        read(answer).ok_or_else(|| Halt::Odd(command_name(&[cmd])))
    }

    /// The answer to the oldest call sent ahead.
    pub(super) fn receive(&mut self) -> Result<Value, Trouble> {
        match &mut self.rehearsal {
            Some(rehearsal) => self.link.receive(Patience::Awake(&mut || rehearsal.rehearse())),
            None => self.link.receive(Patience::Asleep),
        }
    }

    /// The event decided last is the one to rehearse.
    pub(super) fn rehearse_last(&mut self) {
        if let Some(rehearsal) = &mut self.rehearsal {
            rehearsal.follow(&self.replay.engine);
        }
    }

    pub(super) fn backoff(&self) -> Backoff {
        let options = self.link.options();
        let seed = self.process.bytes().fold(0, |seed: u64, byte| seed.wrapping_mul(257) ^ u64::from(byte));
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
                "a key of Redis at {address} is of another type ({trouble}); {}, {} and {} must be streams and {} a hash, \
                 name others with --stream and --sink-stream",
                self.keys.features, self.keys.intents, self.keys.dead, self.keys.owner
            ),
            Some("SHARDS") => {
                let Trouble::Refused { message, .. } = trouble else { return trouble.explain(address) };
                let here = self.seat.as_ref().map_or_else(
                    || "as no shard".to_owned(),
                    |seat| format!("with --shard-count {}", seat.count),
                );
                format!(
                    "{} of Redis at {address} is one of {message} shards, and cannot be consumed {here}; start every \
                     worker with --shard-count {message}, or drain the shards and give them another name \
                     (docs/scale-out.md)",
                    self.keys.features
                )
            }
            Some("NOPERM") => {
                format!("{}; docs/ingest.md lists the commands and keys", trouble.explain(address))
            }
            _ => trouble.explain(address),
        }
    }

    /// Waiting may mend it.
    fn is_passing(&self, trouble: &Trouble) -> bool {
        // A node of a Cluster that is named as a single server sends away whatever is not its own, for ever.
        let elsewhere = matches!(trouble.code(), Some("MOVED" | "ASK")) && !self.link.address().is_cluster();
        Refusal::of(trouble).is_some() || trouble.calls_for_reconnect() && !elsewhere
    }
}
