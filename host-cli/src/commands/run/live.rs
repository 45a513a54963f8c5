//! `qsc run` from stream to stream: one consumer, or one a shard.

use std::hash::{BuildHasher as _, RandomState};
use std::process;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use anyhow::ensure;
use qsc_kernel::ensemble::Predict;
use serde_json::{Value, json};
use tracing::{info, warn};

use super::{RunArgs, summary, text};
use crate::canary::live::LiveWeights;
use crate::engine::Engine;
use crate::ingest::inspect::{ensure_one_server, inspect};
use crate::ingest::{Consumer, Fair, Keys, Settings, Surroundings};
use crate::metrics::{Lease, Meter, SourceState, health};
use crate::notify::Notifier;
use crate::replay::{Replay, Summary};
use crate::signals::Stop;
use crate::stream::{Link, LinkOptions, Pulse, RedisAddress, Shard, SinkSpec, SourceSpec, millis};
use crate::tally::{Doing, Tally};

/// How often the process looks after its consumers.
const LOOK: Duration = Duration::from_millis(20);

/// Consumes until a signal; what was done, as JSON and as text. `shards` and `meters` have one for each consumer.
pub(super) fn run<P: Predict + Clone + Send>(
    args: &RunArgs,
    source: &RedisAddress,
    shards: &[Option<Shard>],
    engine: Engine<P>,
    live: Option<LiveWeights>,
    meters: Vec<Option<Meter>>,
    stop: Stop,
) -> anyhow::Result<(Value, String)> {
    let SinkSpec::Redis(sink) = &args.sink else {
        anyhow::bail!(
            "events of {} become intents on the same server only, each added with the acknowledgement of its event; use \
             --sink redis://… with that server, or capture the stream and use --source file:PATH",
            SourceSpec::Redis(source.clone())
        );
    };
    ensure!(
        args.rejects.is_none(),
        "with streams, events that cannot be decided are kept in {}:dead; leave --rejects out",
        args.stream
    );
    let keys = |shard: &Option<Shard>| match shard {
        Some(shard) => Keys::of_shard(*shard, &args.stream, &args.sink_stream, &args.group),
        None => Keys::new(&args.stream, &args.sink_stream, &args.group),
    };
    let keys: Vec<Keys> = shards.iter().map(keys).collect::<Result<_, _>>().map_err(anyhow::Error::msg)?;
    let options = LinkOptions {
        backoff_first: args.redis_backoff,
        backoff_cap: args.redis_backoff_cap,
        ..args.redis.options()
    };
    let lanes: Vec<Lane> = shards.iter().map(|shard| Lane::new(*shard)).collect();
    let mut links = Vec::new();
    let mut warned = Vec::new();
    for ((keys, lane), meter) in keys.iter().zip(&lanes).zip(&meters) {
        let options = LinkOptions { pulse: lane.pulse(meter.as_ref()), ..options.clone() };
        let mut link = Link::connect(source, &keys.features, &options)?;
        for warning in inspect(&mut link, keys)? {
            if !warned.contains(&warning) {
                warn!("{warning}");
                warned.push(warning);
            }
        }
        links.push(link);
    }
    if let (Some(link), Some(keys)) = (links.first_mut(), keys.first()) {
        ensure_one_server(link, &mut Link::connect(sink, &keys.intents, &options)?)?;
    }
    let settings = Settings {
        group: args.group.clone(),
        consumer: args.consumer.clone(),
        batch: usize::from(args.batch),
        lease: args.lease,
        rebuild: args.rebuild,
        deliveries: args.deliveries,
        intents_maxlen: args.intents_maxlen,
        spin: args.spin,
    };
    let name = process_name(&args.consumer);
    let fair = Fair::new(shards.len());
    let process = Process { stop, failed: AtomicBool::default() };
    let mut manager = Notifier::from_env();
    // Linux hands signals to the first thread as long as there is one: a read of a consumer is never cut short by one,
    // which would cost it its connection.
    let done = thread::scope(|scope| {
        let mut running = Vec::new();
        for (at, (((lane, keys), link), meter)) in lanes.iter().zip(&keys).zip(links).zip(meters).enumerate()
        {
            let seat = lane.shard.map(|shard| fair.seat(at, shard.count().get()));
            let engine = engine.clone().for_shard(lane.shard);
            let mut consumer = Consumer::new(&settings, keys, link, name.clone(), engine, seat);
            consumer.replay().report_to(meter);
            consumer.replay().tell_weights(live.as_ref().map_or(0, LiveWeights::generation));
            let service = Service { process: &process, lane, live: live.clone(), speaks: at == 0 };
            running.push(scope.spawn(move || service.run(consumer)));
        }
        look_after(&running, &lanes, &process, &mut manager);
        let join = |consumer: ScopedJoinHandle<'_, _>| {
            consumer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        running.into_iter().map(join).collect::<anyhow::Result<Vec<(Tally, Summary)>>>()
    })?;
    manager.stopping();
    let (mut tally, mut counts) = (Tally::default(), Summary::default());
    for (consumer_tally, consumer_counts) in &done {
        tally.add(consumer_tally);
        counts.add(consumer_counts);
    }
    let mut document = summary(&counts, Some(tally.other_types));
    if let Some(document) = document.as_object_mut() {
        document.insert(
            "stream".to_owned(),
            json!({"added": tally.intents, "dead": tally.dead, "poison": tally.poison, "lost": tally.lost,
                   "reconnects": tally.reconnects, "leases_lost": tally.leases_lost,
                   "handed_over": tally.handed_over}),
        );
    }
    let text = format!("{}\n{}", text(&counts, Some(tally.other_types)), told(&tally));
    Ok((document, text))
}

/// What tells this process from every other one, and from itself after a restart.
fn process_name(consumer: &str) -> String {
    format!("{consumer}/{}/{:016x}", process::id(), RandomState::new().hash_one(consumer))
}

fn told(tally: &Tally) -> String {
    format!(
        "{} intents added, {} dead letters, {} entries lost before they were read, {} reconnects",
        tally.intents,
        tally.dead + tally.poison,
        tally.lost,
        tally.reconnects
    )
}

/// Tells the service manager how the consumers are until all have ended.
fn look_after<T>(
    running: &[ScopedJoinHandle<'_, T>],
    lanes: &[Lane],
    process: &Process,
    manager: &mut Notifier,
) {
    let mut ready = false;
    while !running.iter().all(ScopedJoinHandle::is_finished) {
        if running.iter().any(ScopedJoinHandle::is_finished) {
            // One that has ended by an error or a panic takes the others along.
            process.failed.store(true, Ordering::Relaxed);
        }
        if !ready && lanes.iter().any(|lane| lane.tally().is_ready()) {
            ready = true;
            manager.ready(&status(lanes));
        }
        // The manager's watchdog ends a process of which one consumer hangs.
        if lanes.iter().all(|lane| lane.silence() < health::SILENCE) {
            manager.beat(|| status(lanes));
        }
        thread::sleep(LOOK);
    }
}

/// One line for `systemctl status`.
fn status(lanes: &[Lane]) -> String {
    let mut sum = Tally::default();
    let mut deciding = 0;
    for lane in lanes {
        let tally = lane.tally();
        sum.add(&tally);
        deciding += usize::from(tally.doing == Doing::Deciding);
    }
    let doing = match lanes {
        [lane] => lane.tally().doing.to_string(),
        _ => format!("deciding on {deciding} of {} shards", lanes.len()),
    };
    format!("{doing}; {} intents, {} dead letters", sum.intents, sum.dead + sum.poison)
}

/// What ends all consumers.
struct Process {
    stop: Stop,
    /// One of them has ended by itself.
    failed: AtomicBool,
}

/// A consumer as the process sees it.
struct Lane {
    shard: Option<Shard>,
    tally: Mutex<Tally>,
    /// Its last sign of life, in ms since `since`.
    seen: Arc<AtomicU64>,
    since: Instant,
}

impl Lane {
    fn new(shard: Option<Shard>) -> Self {
        Self { shard, tally: Mutex::default(), seen: Arc::default(), since: Instant::now() }
    }

    fn see(&self) {
        self.seen.store(self.age_ms(), Ordering::Relaxed);
    }

    fn age_ms(&self) -> u64 {
        millis(self.since.elapsed())
    }

    fn silence(&self) -> Duration {
        Duration::from_millis(self.age_ms().saturating_sub(self.seen.load(Ordering::Relaxed)))
    }

    /// What its link gives signs of life by.
    fn pulse(&self, meter: Option<&Meter>) -> Pulse {
        let (seen, since, heart) = (Arc::clone(&self.seen), self.since, meter.map(Meter::heart));
        Pulse::new(move || {
            seen.store(millis(since.elapsed()), Ordering::Relaxed);
            heart.iter().for_each(|heart| heart());
        })
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        // What is written is whole.
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The process around one consumer.
struct Service<'a> {
    process: &'a Process,
    lane: &'a Lane,
    live: Option<LiveWeights>,
    /// It says what all consumers find out in the same moment.
    speaks: bool,
}

impl Service<'_> {
    fn run<P: Predict + Clone>(mut self, mut consumer: Consumer<'_, P>) -> anyhow::Result<(Tally, Summary)> {
        consumer.run(&mut self)?;
        let tally = consumer.tally().clone();
        Ok((tally, consumer.replay().summary().clone()))
    }
}

impl<P: Predict> Surroundings<P> for Service<'_> {
    fn log(&mut self, line: &str) {
        match self.lane.shard {
            Some(shard) => info!(shard = shard.index(), "{shard}: {line}"),
            None => info!("{line}"),
        }
    }

    fn goes_on(&mut self, replay: &mut Replay<P>, tally: &Tally) -> bool {
        self.lane.see();
        let mut shown = self.lane.tally();
        if *shown != *tally {
            shown.clone_from(tally);
        }
        drop(shown);
        replay.tell(|meter| {
            meter.beat();
            meter.source(match tally.doing {
                Doing::Troubled { refusal: Some(refusal), .. } => SourceState::Refuses(refusal),
                Doing::Starting | Doing::Troubled { refusal: None, .. } => SourceState::NotReached,
                _ => SourceState::Answers,
            });
            match tally.doing {
                Doing::Rebuilding | Doing::Deciding => meter.lease(Lease::Held),
                // Who may write nothing for now owns what it owned.
                Doing::Troubled { refusal: Some(_), .. } => {}
                Doing::Starting | Doing::Waiting { .. } | Doing::InReserve | Doing::Troubled { .. } => {
                    meter.lease(Lease::NotHeld);
                }
            }
            meter.stream(tally);
        });
        if let Some(line) = self.live.as_mut().and_then(|live| live.poll(&mut replay.engine)) {
            if self.speaks {
                info!("{line}");
            }
            replay.tell_weights(self.live.as_ref().map_or(0, LiveWeights::generation));
        }
        !(self.process.stop.requested() || self.process.failed.load(Ordering::Relaxed))
    }
}
