//! One owner's shift: connection, lease, group, gaps, and what each fault means.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{anyhow, ensure};
use qsc_kernel::ensemble::Predict;
use redis::{Cmd, Script, Value};

use super::script::{self, Batch, Call, Lease, Settled, Terms};
use super::{Doing, Keys, Surroundings, Tally, reply};
use crate::engine::Engine;
use crate::engine::replay::Replay;
use crate::stream::{Backoff, EventId, Link, Trouble};

/// How often a waiting consumer looks around.
pub(super) const LOOK: Duration = Duration::from_millis(50);

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

/// What XINFO STREAM tells.
pub(super) struct StreamInfo {
    pub(super) length: u64,
    /// Entries ever added.
    pub(super) added: u64,
    pub(super) newest: EventId,
    pub(super) first: Option<EventId>,
}

/// A consumer of one feature stream.
pub struct Consumer<'a, P> {
    pub(super) settings: &'a Settings,
    pub(super) keys: &'a Keys,
    pub(super) link: Link,
    /// What tells this process from every other one.
    token: String,
    /// A service is its own successor: right after a crash it need not wait for its own lease to end.
    successor: bool,
    /// SHA-1 of the settling script.
    sha: String,
    pub(super) replay: Replay<P>,
    /// The engine before its first event.
    pub(super) unfed: Engine<P>,
    pub(super) tally: Tally,
    /// The last entry of the stream that is settled; every older one is too, unless it is pending.
    pub(super) settled: EventId,
    /// Entries of the stream accounted for, counted from the first one ever; unknown where the group is not ours.
    seen: Option<u64>,
    /// Entries that are never fed to the models.
    pub(super) poison: BTreeSet<EventId>,
    /// When the lease was last known to be ours.
    renewed: Instant,
    looked_for_gaps: Instant,
    /// Whether this process has begun a shift before: what is pending for it then did not kill it.
    pub(super) began: bool,
    /// Whether events were decided already.
    served: bool,
}

impl<'a, P: Predict + Clone> Consumer<'a, P> {
    /// A consumer on an open link.
    #[must_use]
    pub fn new(settings: &'a Settings, keys: &'a Keys, link: Link, token: String, engine: Engine<P>) -> Self {
        let now = Instant::now();
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
            began: false,
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
                    around.log(&format!("Redis at {}: {trouble}; trying again", self.link.address()));
                    self.tally.doing = Doing::Troubled { reason: format!("Redis: {trouble}") };
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
        self.began = true;
        backoff.reset();
        self.tally.doing = Doing::Deciding;
        self.served = true;
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

    /// Makes sure that there is a group, and that it stands where it was left; the last entry it has delivered.
    fn attach(&mut self, around: &mut impl Surroundings<P>) -> Result<EventId, Halt> {
        let delivered = match self.group()? {
            Some(delivered) => delivered,
            None => self.create_group(around)?,
        };
        self.poison = self.known_poison()?;
        if delivered < self.settled {
            around.log(&format!(
                "the group {} was set back to {delivered}, but everything up to {} is settled: it goes on from there",
                self.settings.group, self.settled
            ));
            let mut set = redis::cmd("XGROUP");
            set.arg("SETID").arg(&self.keys.features).arg(&self.settings.group).arg(self.settled.to_string());
            self.ask(&set, Some)?;
            return Ok(self.settled);
        }
        Ok(delivered)
    }

    /// The last entry the group has delivered; `None` if there is no group, or no stream.
    fn group(&mut self) -> Result<Option<EventId>, Halt> {
        let mut groups = redis::cmd("XINFO");
        groups.arg("GROUPS").arg(&self.keys.features);
        let groups = match self.ask(&groups, reply::array) {
            Ok(groups) => groups,
            Err(Halt::Trouble(Trouble::Refused { message, .. })) if message.contains("no such key") => {
                return Ok(None);
            }
            Err(halt) => return Err(halt),
        };
        for group in groups {
            let fields = reply::fields(group).ok_or(Halt::Odd("XINFO GROUPS"))?;
            let name = reply::field(&fields, "name").and_then(reply::text);
            if name.as_deref() == Some(&self.settings.group) {
                let delivered = reply::field(&fields, "last-delivered-id").and_then(reply::id);
                return delivered.map(Some).ok_or(Halt::Odd("XINFO GROUPS"));
            }
        }
        Ok(None)
    }

    fn create_group(&mut self, around: &mut impl Surroundings<P>) -> Result<EventId, Halt> {
        let Settings { group, .. } = self.settings;
        let features = &self.keys.features;
        let mut create = redis::cmd("XGROUP");
        create.arg("CREATE").arg(features).arg(group).arg("0").arg("MKSTREAM");
        self.ask(&create, Some)?;
        let newest = self.stream_info()?.newest;
        if self.settled == EventId::default() {
            around.log(&format!("created the group {group} at the beginning of {features}"));
            self.seen = Some(0);
            return Ok(EventId::default());
        }
        if newest < self.settled {
            around.log(&format!(
                "{features} ends at {newest}, before {} which is settled: it is another stream under the same name, read \
                 from its beginning",
                self.settled
            ));
            let mut forget = redis::cmd("HDEL");
            forget.arg(&self.keys.owner).arg("last").arg("seen");
            self.ask(&forget, Some)?;
            (self.settled, self.seen) = (EventId::default(), Some(0));
            return Ok(self.settled);
        }
        around.log(&format!(
            "the group {group} was gone: created again at {}, the last entry settled",
            self.settled
        ));
        let mut set = redis::cmd("XGROUP");
        set.arg("SETID").arg(features).arg(group).arg(self.settled.to_string());
        self.ask(&set, Some)?;
        Ok(self.settled)
    }

    /// Entries that killed their consumers too often.
    fn known_poison(&mut self) -> Result<BTreeSet<EventId>, Halt> {
        let mut names = redis::cmd("HKEYS");
        names.arg(&self.keys.owner);
        let names = self.ask(&names, reply::array)?.into_iter().filter_map(reply::text);
        Ok(names.filter_map(|name| name.strip_prefix("poison:")?.parse().ok()).collect())
    }

    /// Compares what was ever added with what was accounted for, where both are known exactly: when everything that is
    /// left was settled, or nothing that was settled is left.
    pub(super) fn look_for_gaps(&mut self, around: &mut impl Surroundings<P>) -> Result<(), Halt> {
        self.looked_for_gaps = Instant::now();
        let info = self.stream_info()?;
        let unread = if info.newest <= self.settled {
            0
        } else if info.first.is_none_or(|first| first > self.settled) {
            info.length
        } else {
            self.tally.lag = self.seen.map_or(0, |seen| info.added.saturating_sub(seen));
            return Ok(());
        };
        self.tally.lag = unread;
        let gone = info.added.saturating_sub(unread);
        let Some(seen) = self.seen else {
            // The group is older than this account of it.
            return self.account(gone);
        };
        if gone <= seen {
            return Ok(());
        }
        let lost = gone - seen;
        self.tally.lost += lost;
        let left = info
            .first
            .map_or_else(|| "none is left".to_owned(), |first| format!("the first one left is {first}"));
        around.log(&format!(
            "GAP: {lost} entries of {} were removed before they were decided (settled up to {}, {left}); they have no \
             intents. Trim the stream later, or give it more room",
            self.keys.features, self.settled
        ));
        self.account(gone)
    }

    fn account(&mut self, seen: u64) -> Result<(), Halt> {
        let mut account = redis::cmd("HSET");
        account.arg(&self.keys.owner).arg("seen").arg(seen);
        self.ask(&account, Some)?;
        self.seen = Some(seen);
        Ok(())
    }

    /// Whether it is time to look for gaps.
    pub(super) fn gaps_are_due(&self) -> bool {
        self.looked_for_gaps.elapsed() >= Duration::from_secs(1)
    }

    pub(super) fn stream_info(&mut self) -> Result<StreamInfo, Halt> {
        let mut info = redis::cmd("XINFO");
        info.arg("STREAM").arg(&self.keys.features);
        self.ask(&info, |answer| {
            let fields = reply::fields(answer)?;
            let number = |name| reply::number(&reply::field(&fields, name)?);
            Some(StreamInfo {
                length: number("length")?,
                added: number("entries-added")?,
                newest: reply::id(reply::field(&fields, "last-generated-id")?)?,
                first: match reply::field(&fields, "first-entry")? {
                    Value::Array(entry) => Some(reply::id(entry.into_iter().next()?)?),
                    _ => None,
                },
            })
        })
    }

    /// Sends a command once and reads its answer.
    pub(super) fn ask<T>(&mut self, cmd: &Cmd, read: impl FnOnce(Value) -> Option<T>) -> Result<T, Halt> {
        let answer = self.link.query(cmd)?;
        read(answer).ok_or(Halt::Odd("a command"))
    }

    /// An empty batch.
    pub(super) fn batch(&self) -> Batch {
        self.batch_by("EVALSHA", &self.sha, self.settings.lease)
    }

    fn batch_by(&self, command: &str, script: &str, term: Duration) -> Batch {
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
        self.link.send(&call.bytes)?;
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
                        around.log("the server takes intents again");
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
                    self.link.send(&renewal.bytes)?;
                    self.link.receive()?;
                }
                Err(trouble) if is_full(&trouble) => {
                    if !refused {
                        around.log(&format!(
                            "the server takes no intents ({trouble}); nothing is dropped, trying again"
                        ));
                        self.tally.doing =
                            Doing::Troubled { reason: format!("the server takes no intents: {trouble}") };
                        refused = true;
                    }
                    if !self.pause(backoff.next(), around) {
                        return Err(Halt::Stop);
                    }
                }
                Err(trouble) => return Err(trouble.into()),
            }
            sent = Instant::now();
            self.link.send(&call.bytes)?;
            answer = self.link.receive();
        }
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

    /// Gives the lease back. If that fails it ends by itself.
    fn release(&mut self) {
        let call = self.batch_by("EVALSHA", &self.sha, Duration::ZERO).call(self.settled);
        let _ = self.link.send(&call.bytes).and_then(|()| self.link.receive());
    }

    fn backoff(&self) -> Backoff {
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
                    let trouble = trouble.to_string();
                    if trouble != said {
                        around.log(&format!("Redis at {}: {trouble}; trying again", self.link.address()));
                        said = trouble;
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
            Some("NOPERM") => format!(
                "Redis at {address} does not permit this user what qsc run needs ({trouble}); docs/ingest.md lists the \
                 commands and keys"
            ),
            _ => format!("Redis at {address}: {trouble}"),
        }
    }
}

/// The server cannot take writes for now.
fn is_full(trouble: &Trouble) -> bool {
    matches!(trouble.code(), Some("OOM" | "MISCONF" | "NOREPLICAS" | "BUSY"))
}

/// Waiting may mend it.
fn is_passing(trouble: &Trouble) -> bool {
    is_full(trouble) || trouble.calls_for_reconnect()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
