//! `qsc run` from stream to stream.

use std::hash::{BuildHasher as _, RandomState};
use std::{process, thread};

use anyhow::ensure;
use qsc_kernel::ensemble::Predict;
use serde_json::{Value, json};
use tracing::{info, warn};

use super::{RunArgs, summary, text};
use crate::canary::live::LiveWeights;
use crate::engine::Engine;
use crate::engine::replay::Replay;
use crate::ingest::inspect::{ensure_one_server, inspect};
use crate::ingest::{Consumer, Doing, Keys, Settings, Surroundings, Tally};
use crate::metrics::{Lease, Meter};
use crate::notify::Notifier;
use crate::signals::Stop;
use crate::stream::{Link, LinkOptions, RedisAddress, SinkSpec, SourceSpec};

/// Consumes until a signal; what was done, as JSON and as text.
pub(super) fn run<P: Predict + Clone + Send>(
    args: &RunArgs,
    source: &RedisAddress,
    engine: Engine<P>,
    live: Option<LiveWeights>,
    meter: Option<Meter>,
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
    let keys = Keys::new(&args.stream, &args.sink_stream, &args.group).map_err(anyhow::Error::msg)?;
    let options = LinkOptions {
        backoff_first: args.redis_backoff,
        backoff_cap: args.redis_backoff_cap,
        ..args.redis.options()
    };
    let mut link = Link::connect(source, &keys.features, &options)?;
    for warning in inspect(&mut link, &keys)? {
        warn!("{warning}");
    }
    ensure_one_server(&mut link, &mut Link::connect(sink, &keys.intents, &options)?)?;
    let settings = Settings {
        group: args.group.clone(),
        consumer: args.consumer.clone(),
        batch: usize::from(args.batch),
        lease: args.lease,
        rebuild: args.rebuild,
        deliveries: args.deliveries,
        intents_maxlen: args.intents_maxlen,
    };
    let mut consumer = Consumer::new(&settings, &keys, link, token(&args.consumer), engine);
    consumer.replay().report_to(meter);
    consumer.replay().tell_weights(live.as_ref().map_or(0, LiveWeights::generation));
    let mut service = Service { stop, live, manager: Notifier::from_env(), ready: false };
    // Linux hands signals to the first thread as long as there is one: a read of the consumer is never cut short by one,
    // which would cost it its connection.
    let ended = thread::scope(|scope| scope.spawn(|| consumer.run(&mut service)).join());
    ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    service.manager.stopping();
    let tally = consumer.tally().clone();
    let counts = consumer.replay().summary();
    let mut document = summary(counts, Some(tally.other_types));
    if let Some(document) = document.as_object_mut() {
        document.insert(
            "stream".to_owned(),
            json!({"added": tally.intents, "dead": tally.dead, "poison": tally.poison, "lost": tally.lost,
                   "foreign": tally.foreign, "reconnects": tally.reconnects, "leases_lost": tally.leases_lost}),
        );
    }
    let text = format!("{}\n{}", text(counts, Some(tally.other_types)), told(&tally));
    Ok((document, text))
}

/// What tells this process from every other one, and from itself after a restart.
fn token(consumer: &str) -> String {
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

/// The process around a consumer.
struct Service {
    stop: Stop,
    live: Option<LiveWeights>,
    manager: Notifier,
    ready: bool,
}

impl<P: Predict> Surroundings<P> for Service {
    fn log(&mut self, line: &str) {
        info!("{line}");
    }

    fn goes_on(&mut self, replay: &mut Replay<P>, tally: &Tally) -> bool {
        let status = || {
            format!("{}; {} intents, {} dead letters", tally.doing, tally.intents, tally.dead + tally.poison)
        };
        if !self.ready && matches!(tally.doing, Doing::Deciding | Doing::Waiting { .. }) {
            self.ready = true;
            self.manager.ready(&status());
        }
        self.manager.beat(status);
        replay.tell(|meter| {
            meter.beat();
            meter.source(!matches!(tally.doing, Doing::Starting | Doing::Troubled { .. }));
            meter.lease(match tally.doing {
                Doing::Rebuilding | Doing::Deciding => Lease::Held,
                Doing::Starting | Doing::Waiting { .. } | Doing::Troubled { .. } => Lease::NotHeld,
            });
            meter.stream(tally);
        });
        if let Some(line) = self.live.as_mut().and_then(|live| live.poll(&mut replay.engine)) {
            info!("{line}");
            replay.tell_weights(self.live.as_ref().map_or(0, LiveWeights::generation));
        }
        !self.stop.requested()
    }
}
