//! `qsc run`: a file through the engine, or a stream for as long as there are events (`live`).

mod live;

use std::io::Write as _;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, TryRecvError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::builder::NonEmptyStringValueParser;
use clap::{Args, value_parser};
use indicatif::ProgressBar;
use serde_json::{Value, json};
use tracing::{error, info, warn};

use super::overwrite::{self, Named};
use super::redis::RedisArgs;
use super::source::{self, SinkParser, SourceParser};
use crate::canary::live::LiveWeights;
use crate::engine::Engine;
use crate::engine::config::ModelsConfig;
use crate::engine::load::Images;
use crate::exit::Exit;
use crate::gate::Rules;
use crate::log::Log;
use crate::metrics::{Live, Meter, Server, SourceState};
use crate::notify::Notifier;
use crate::replay::{Outlet, Replay, Summary};
use crate::report::{self, Format};
use crate::signals::Stop;
use crate::stream::{
    AtomicFile, Event, EventId, FEATURE_STREAM, INTENT_STREAM, Item, LinkOptions, MARKET_FEATURES, Reading,
    Shard, Shards, Sink, SinkSpec, Source, SourceSpec, Window, parse_duration, parse_positive_duration,
};

/// Events read ahead of the engine.
const QUEUE: usize = 1024;
/// How long a silent source keeps a signal waiting.
const SIGNAL_CHECK: Duration = Duration::from_millis(50);
/// A lease is renewed several times in its term, whatever else is to be done.
const SHORTEST_LEASE: Duration = Duration::from_millis(500);
/// Each costs a worker a thread and a connection.
const MOST_SHARDS: u16 = 1024;
const STREAMS: &str = "Streams";
/// Rejects logged one by one; further ones are only counted and kept in `--rejects`.
const LOGGED_REJECTS: u64 = 20;

/// Arguments of `qsc run`.
#[derive(Debug, Args)]
#[command(after_help = "\
Streams are read by a consumer group: every feature event gets exactly one intent, or one dead letter in KEY:dead that \
says why it has none, whatever crashes. One consumer owns a stream at a time; others stand by. With --shards, workers \
share several streams between them: docs/scale-out.md. Files are read once, from file:features.jsonl.

Example:
  qsc run --source redis://127.0.0.1:6379 --sink redis://127.0.0.1:6379 --models MODELS.toml")]
pub struct RunArgs {
    /// Feature events: file:PATH, - (stdin), or a URL: redis://[user:pass@]host:port[/db], redis+unix:///path/to/socket,
    /// redis-sentinel://host,host…/MASTER, redis-cluster://host,host…, and rediss… for TLS (docs/redis.md). A password is better given in QSC_SOURCE, for others can see arguments
    #[arg(long, hide_env_values = true, value_parser = SourceParser)]
    source: SourceSpec,
    /// Where intents go: file:PATH, - (stdout), or the Redis server of the source
    #[arg(long, hide_env_values = true, value_parser = SinkParser)]
    sink: SinkSpec,
    /// The ensemble
    #[arg(long, value_name = "MODELS.toml")]
    models: PathBuf,
    /// Keep events that could not be decided in this file, one JSON line each
    #[arg(long, value_name = "FILE")]
    rejects: Option<PathBuf>,
    /// Key of the stream of feature events
    #[arg(long, value_parser = NonEmptyStringValueParser::new(), default_value = FEATURE_STREAM, value_name = "KEY", help_heading = STREAMS)]
    stream: String,
    /// Key of the stream of intents
    #[arg(long, value_parser = NonEmptyStringValueParser::new(), default_value = INTENT_STREAM, value_name = "KEY", help_heading = STREAMS)]
    sink_stream: String,
    /// Shards this worker may own: all, or a range such as 0-3. Shard 3 of a stream is KEY:{shard-3}. Workers share them
    /// evenly, and take over those of one that dies
    #[arg(long, value_name = "all|A-B", requires = "shard_count", help_heading = STREAMS)]
    shards: Option<Shards>,
    /// How many shards there are: the same for all workers and producers
    #[arg(long, value_name = "N", requires = "shards", value_parser = shard_count, help_heading = STREAMS)]
    shard_count: Option<NonZeroU16>,
    /// Consumer group; created at the beginning of the stream if there is none
    #[arg(long, value_parser = NonEmptyStringValueParser::new(), default_value = "qsc", value_name = "NAME", help_heading = STREAMS)]
    group: String,
    /// Name of this consumer. A start under the same name takes over from a crashed one at once
    #[arg(long, value_parser = NonEmptyStringValueParser::new(), default_value_t = host_name(), value_name = "NAME", help_heading = STREAMS)]
    consumer: String,
    /// Most events read, decided and written at once
    #[arg(long, default_value_t = 64, value_name = "N", value_parser = value_parser!(u16).range(1..), help_heading = STREAMS)]
    batch: u16,
    /// Another consumer takes over when the owner has been silent for this long
    #[arg(long, default_value = "5s", value_name = "TIME", value_parser = lease, help_heading = STREAMS)]
    lease: Duration,
    /// Most events read back at start to rebuild windows and degeneracy
    #[arg(long, default_value_t = 50_000, value_name = "N", help_heading = STREAMS)]
    rebuild: u64,
    /// An event whose consumers died of it so often is given up
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = value_parser!(u64).range(3..), help_heading = STREAMS)]
    deliveries: u64,
    /// Trim the stream of intents to about so many; 0: never
    // Redis counts in signed numbers, and refuses each intent with a greater one.
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = value_parser!(u64).range(..=i64::MAX.cast_unsigned()), help_heading = STREAMS)]
    intents_maxlen: u64,
    /// Keep a core for each stream: wait for events without sleeping, with code and weights in its caches. For the lowest
    /// latency, where there are cores to spare
    #[arg(long, help_heading = STREAMS)]
    spin: bool,
    #[command(flatten)]
    redis: RedisArgs,
    /// Longest pause before the first attempt to connect again; further ones double it
    #[arg(long, value_name = "TIME", default_value = "50ms", value_parser = parse_positive_duration, help_heading = STREAMS)]
    redis_backoff: Duration,
    /// Longest pause before any attempt
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_positive_duration, help_heading = STREAMS)]
    redis_backoff_cap: Duration,
    /// Take weights from weights.json in this directory, and new ones without a restart
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Serve metrics, health and a live scoreboard over HTTP at this address, e.g. 127.0.0.1:9464
    #[arg(long, value_name = "IP:PORT")]
    metrics: Option<String>,
    /// Where log lines go
    #[arg(long, value_enum, default_value_t)]
    log: Log,
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "qsc".to_owned() } else { name.trim().to_owned() }
}

fn shard_count(text: &str) -> Result<NonZeroU16, String> {
    let count = text.parse().ok().filter(|count: &NonZeroU16| count.get() <= MOST_SHARDS);
    count.ok_or_else(|| format!("a number of shards is 1 to {MOST_SHARDS}"))
}

fn lease(text: &str) -> Result<Duration, String> {
    let lease = parse_duration(text)?;
    if lease < SHORTEST_LEASE { Err("a lease is at least 500ms".to_owned()) } else { Ok(lease) }
}

/// Runs the command.
///
/// # Errors
/// A configuration, source or sink that cannot be used. Sick models are no errors: they are inactive.
pub fn run(args: &RunArgs, rules: &Rules, format: Format) -> anyhow::Result<Exit> {
    args.log.begin()?;
    let stop = Stop::watch()?;
    let json = format == Format::Json;
    if json && matches!(args.sink, SinkSpec::Stdout) {
        error!("error: --format json and --sink - would share stdout; write intents to file:PATH");
        return Ok(Exit::Usage);
    }
    let shards: Vec<Option<Shard>> = match (args.shards, args.shard_count) {
        (Some(shards), Some(count)) => {
            ensure!(
                matches!(args.source, SourceSpec::Redis(_)),
                "--shards are those of a stream in Redis; {} has none",
                args.source
            );
            shards.of(count).map_err(anyhow::Error::msg)?.into_iter().map(Some).collect()
        }
        (None, None) => vec![None],
        (Some(_), None) | (None, Some(_)) => return Ok(super::misfit("shards and shard-count go together")),
    };
    let config = ModelsConfig::read(&args.models)?;
    ensure_files_apart(args, &config)?;
    let metrics = args.metrics.as_deref().map(Server::bind).transpose()?;
    let images = Images::read(&config);
    let candidates = images.load(&config, &mut |line| info!("{line}"))?;
    let mut engine = Engine::new(&config, candidates)?;
    let mut meters: Vec<Option<Meter>> = match metrics {
        Some(server) => {
            info!("METRICS http://{}/", server.address());
            let live = Live::new(rules.clone(), args.source.to_string());
            server.serve(&config, live, &shards)?.into_iter().map(Some).collect()
        }
        None => shards.iter().map(|_| None).collect(),
    };
    let mut live = args.state_dir.as_deref().map(|state| LiveWeights::open(state, &config)).transpose()?;
    if let Some(live) = &live {
        info!("{}", live.apply(&mut engine));
    }
    if let SourceSpec::Redis(source) = &args.source {
        let (document, text) = live::run(args, source, &shards, engine, live, meters, stop)?;
        if json {
            report::print(&report::json(&document))?;
        } else {
            info!("{text}");
        }
        return Ok(Exit::Pass);
    }
    let mut replay = Replay::new(engine);
    replay.report_to(meters.pop().flatten());
    replay.tell_weights(live.as_ref().map_or(0, LiveWeights::generation));

    let mut outputs = Outputs::open(args)?;
    let mut manager = Notifier::from_env();
    let feed = feed(args.source.clone())?;
    let reading = loop {
        // Only this loop says that it goes on: one that hangs is restarted by the manager's watchdog.
        manager.beat(|| status(replay.summary()));
        replay.tell(Meter::beat);
        if stop.requested() {
            outputs.log(|| info!("stopped by a signal; the intents decided so far are kept"));
            break None;
        }
        if let Some(line) = live.as_mut().and_then(|live| live.poll(&mut replay.engine)) {
            outputs.log(|| info!("{line}"));
            replay.tell_weights(live.as_ref().map_or(0, LiveWeights::generation));
        }
        let fed = match feed.try_recv() {
            Err(TryRecvError::Empty) => {
                outputs.sink.flush()?;
                feed.recv_timeout(SIGNAL_CHECK)
            }
            fed => fed.map_err(|_| RecvTimeoutError::Disconnected),
        };
        match fed {
            Ok(Fed::Opened) => {
                replay.tell(|meter| meter.source(SourceState::Answers));
                manager.ready(&status(replay.summary()));
            }
            Ok(Fed::Item(item)) => replay.feed(&item, |outlet| outputs.take(outlet))?,
            Ok(Fed::End(reading)) => break Some(reading?),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => bail!("reading {} ended without a result", args.source),
        }
    };
    manager.stopping();
    outputs.finish()?;
    let other_types = reading.map(|reading| reading.other_types);
    if json {
        report::print(&report::json(&summary(replay.summary(), other_types)))?;
    } else {
        info!("{}", text(replay.summary(), other_types));
    }
    Ok(Exit::Pass)
}

fn ensure_files_apart(args: &RunArgs, config: &ModelsConfig) -> anyhow::Result<()> {
    let mut inputs: Vec<Named<'_>> = vec![("--models", &args.models)];
    inputs.extend(config.models.iter().map(|model| ("the image of a model", model.image.as_path())));
    if let SourceSpec::File(path) = &args.source {
        inputs.push(("--source", path));
    }
    let mut outputs: Vec<Named<'_>> = Vec::new();
    if let SinkSpec::File(path) = &args.sink {
        outputs.push(("--sink", path));
    }
    if let Some(path) = &args.rejects {
        outputs.push(("--rejects", path));
    }
    overwrite::ensure_apart(&inputs, &outputs)
}

/// What the reading thread hands over.
enum Fed {
    /// The source could be opened: it exists, or a server answers there.
    Opened,
    Item(Item),
    End(anyhow::Result<Reading>),
}

/// Reads on a thread of its own: a pipe may be silent for hours, and neither a signal nor a reader of stdout waits.
fn feed(source: SourceSpec) -> anyhow::Result<Receiver<Fed>> {
    let (sender, receiver) = mpsc::sync_channel(QUEUE);
    let read = move || {
        let window = Window { after: None, newest: None, event_types: &[MARKET_FEATURES] };
        let reading = Source::open(&source, "", &LinkOptions::default()).and_then(|source| {
            sender.send(Fed::Opened)?;
            source.for_each(&window, |item| Ok(sender.send(Fed::Item(item))?))
        });
        // Nobody waits for the end after a signal.
        let _ = sender.send(Fed::End(reading));
    };
    thread::Builder::new()
        .name("source".to_owned())
        .spawn(read)
        .context("cannot start the reading thread")?;
    Ok(receiver)
}

/// Where intents, rejects and log lines go.
struct Outputs {
    sink: Sink,
    rejects: Option<AtomicFile>,
    logged: u64,
    progress: ProgressBar,
}

impl Outputs {
    fn open(args: &RunArgs) -> anyhow::Result<Self> {
        Ok(Self {
            sink: Sink::open(&args.sink)?,
            rejects: args.rejects.as_deref().map(AtomicFile::create).transpose()?,
            logged: 0,
            progress: source::progress(),
        })
    }

    fn log(&self, line: impl FnOnce()) {
        self.progress.suspend(line);
    }

    fn take(&mut self, outlet: Outlet<'_>) -> anyhow::Result<()> {
        self.progress.inc(1);
        match outlet {
            Outlet::Intent(intent) => self.sink.write(intent),
            Outlet::Reject { id, line, reason, event } => {
                let place =
                    id.map_or_else(|| format!("line {}", line.unwrap_or(0)), |id| format!("event {id}"));
                if self.logged < LOGGED_REJECTS {
                    self.log(|| warn!(place, reason, "rejected {place}: {reason}"));
                }
                self.logged += 1;
                match &mut self.rejects {
                    Some(file) => writeln!(file, "{}", reject_line(id, line, &reason, event))
                        .context("cannot write --rejects"),
                    None => Ok(()),
                }
            }
        }
    }

    /// Completes the files.
    fn finish(self) -> anyhow::Result<()> {
        self.progress.finish_and_clear();
        self.sink.finish()?;
        self.rejects.map_or(Ok(()), AtomicFile::replace)
    }
}

fn reject_line(id: Option<EventId>, line: Option<u64>, reason: &str, event: Option<&Event>) -> Value {
    let fields = event.map(|event| {
        json!({"event_type": event.event_type, "payload": event.payload, "trace_id": event.trace_id,
               "timestamp": event.timestamp, "source": event.source})
    });
    json!({"id": id.map(|id| id.to_string()), "line": line, "reason": reason, "fields": fields})
}

/// One line for `systemctl status`.
fn status(summary: &Summary) -> String {
    format!("{} intents, {} rejected", summary.intents, summary.rejects)
}

/// `other_types` is unknown after a signal.
fn summary(summary: &Summary, other_types: Option<u64>) -> Value {
    let latency = &summary.latency;
    json!({
        "contract": report::CONTRACT,
        "command": "run",
        "intents": summary.intents,
        "rejects": summary.rejects,
        "other_types": other_types,
        "sides": summary.sides,
        "inactive": summary.inactive,
        "decision_ns": {
            "p50": latency.value_at_quantile(0.5),
            "p99": latency.value_at_quantile(0.99),
            "max": latency.max(),
        },
    })
}

fn text(summary: &Summary, other_types: Option<u64>) -> String {
    let latency = &summary.latency;
    let us = |quantile| latency.value_at_quantile(quantile) as f64 / 1000.0;
    let others = other_types.map_or_else(String::new, |count| format!(", {count} events of other types"));
    let mut text = format!(
        "{} intents, {} rejected{others}; per decision p50 {:.1} µs, p99 {:.1} µs",
        summary.intents,
        summary.rejects,
        us(0.5),
        us(0.99)
    );
    for (side, count) in &summary.sides {
        text.push_str(&format!("\n{side} {count}"));
    }
    for (model, reasons) in &summary.inactive {
        for (reason, count) in reasons {
            text.push_str(&format!("\n{model} inactive {count} times: {reason}"));
        }
    }
    text
}
