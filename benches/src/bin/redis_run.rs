//! `redis_run --qsc PATH [--events N]`: how fast `qsc run` turns a stream of features into one of intents on a real
//! `redis-server`, and how long an event takes, beside a bare loop that reads, adds and acknowledges the same payloads with
//! the same batches and decides nothing. Prints a Markdown table; `benches/redis/run.sh` calls it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use std::{fs, hint};

use anyhow::{Context as _, bail, ensure};
use hdrhistogram::Histogram;
use qsc_benches::server::Server;
use qsc_cli::engine::Engine;
use qsc_cli::engine::config::ModelsConfig;
use qsc_cli::engine::intent::intent;
use qsc_cli::engine::load::Images;
use qsc_cli::stream::{Event, EventId, MARKET_FEATURES, Source, SourceSpec, Window};
use redis::streams::StreamReadReply;
use tempfile::TempDir;

/// Entries read, decided and written at once: the default of `qsc run`.
const BATCH: usize = 64;
/// Runs of each kind; the quickest counts.
const RUNS: usize = 3;
/// Between two events where latency is measured.
const PACE: Duration = Duration::from_millis(2);
/// Events whose latency is measured.
const PACED: usize = 2000;
const FEATURES: &str = "f";
const INTENTS: &str = "i";

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (mut qsc, mut events) = (None, 100_000);
    while let Some(argument) = arguments.next() {
        let value = arguments.next().with_context(|| format!("{argument} needs a value"))?;
        match argument.as_str() {
            "--qsc" => qsc = Some(PathBuf::from(value)),
            "--events" => events = value.parse()?,
            _ => bail!("unknown argument {argument}"),
        }
    }
    let qsc = qsc.context("--qsc names the binary to measure")?;
    let directory = TempDir::new()?;
    let models = Models::write(directory.path())?;

    println!(
        "| {events} events, batches of {BATCH}: thousand/s | bare loop | kernel alone | qsc run | of the smaller |"
    );
    println!("| --- | ---: | ---: | ---: | ---: |");
    for (name, path) in [("two tree models", &models.trees), ("four models", &models.all)] {
        let payloads = Payloads::of(path)?;
        let bare = best(|| bare_throughput(&payloads, events))?;
        let kernel = best(|| kernel_throughput(path, &payloads, events))?;
        let own = best(|| qsc_throughput(&qsc, path, &payloads, events))?;
        let (thousand, share) = (1e-3, own / bare.min(kernel));
        println!(
            "| {name} | {:.1} | {:.1} | {:.1} | {share:.2} |",
            bare * thousand,
            kernel * thousand,
            own * thousand
        );
    }
    println!();
    let payloads = Payloads::of(&models.all)?;
    println!("| one event every {PACE:?} | p50 µs | p99 µs | p50 added µs |");
    println!("| --- | ---: | ---: | ---: |");
    let bare = quickest(|| {
        latency(&payloads, |server, stop| bare_loop(server, &payloads, usize::MAX, stop).map(|_| ()))
    })?;
    let us = |times: &Histogram<u64>, quantile| times.value_at_quantile(quantile) as f64 / 1e3;
    println!("| bare loop | {:.0} | {:.0} | |", us(&bare, 0.5), us(&bare, 0.99));
    for (name, flags) in [("qsc run, four models", &[][..]), ("qsc run --spin, four models", &["--spin"])] {
        let own = quickest(|| {
            latency(&payloads, |server, stop| {
                let mut worker = Worker::start(&qsc, &models.all, server, flags)?;
                while !stop.load(Ordering::Relaxed) {
                    thread::sleep(Duration::from_millis(20));
                }
                worker.end()
            })
        })?;
        let added = us(&own, 0.5) - us(&bare, 0.5);
        println!("| {name} | {:.0} | {:.0} | {added:.0} |", us(&own, 0.5), us(&own, 0.99));
    }
    Ok(())
}

fn best(mut run: impl FnMut() -> anyhow::Result<f64>) -> anyhow::Result<f64> {
    (0..RUNS).map(|_| run()).try_fold(0.0, |best: f64, rate| Ok(best.max(rate?)))
}

/// The run with the least median.
fn quickest(run: impl Fn() -> anyhow::Result<Histogram<u64>>) -> anyhow::Result<Histogram<u64>> {
    let mut runs = (0..RUNS).map(|_| run()).collect::<anyhow::Result<Vec<_>>>()?;
    runs.sort_by_key(|times| times.value_at_quantile(0.5));
    Ok(runs.swap_remove(0))
}

/// Ensembles as files.
struct Models {
    trees: PathBuf,
    all: PathBuf,
}

impl Models {
    fn write(directory: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(directory.join("images"))?;
        let mut trees = String::new();
        for (name, image) in qsc_models::IMAGES {
            fs::write(directory.join(format!("images/{name}.qsm")), image)?;
            if matches!(name, "xgb" | "lgbm") {
                trees += &format!("[[model]]\nname = \"{name}\"\nimage = \"images/{name}.qsm\"\n");
            }
        }
        let models = Self { trees: directory.join("trees.toml"), all: directory.join("all.toml") };
        fs::write(&models.trees, trees)?;
        fs::write(&models.all, qsc_models::MODELS_TOML)?;
        Ok(models)
    }
}

/// Bundled events and the intents that an ensemble makes of them.
struct Payloads {
    features: Vec<String>,
    intents: Vec<String>,
}

impl Payloads {
    fn of(models: &Path) -> anyhow::Result<Self> {
        let directory = TempDir::new()?;
        let path = directory.path().join("features.jsonl");
        fs::write(&path, qsc_models::FEATURES_CAPTURE)?;
        let config = ModelsConfig::read(models)?;
        let images = Images::read(&config);
        let mut engine = Engine::new(&config, images.load(&config, &mut |_| ())?)?;
        let mut payloads = Self { features: Vec::new(), intents: Vec::new() };
        let window = Window { after: None, newest: None, event_types: &[MARKET_FEATURES] };
        Source::open(&SourceSpec::File(path), "", &qsc_cli::stream::LinkOptions::default())?.for_each(
            &window,
            |item| {
                let event: Event = item.map_err(|malformed| anyhow::anyhow!("{malformed}"))?;
                let decided = engine.decide(&event, 0).map_err(|reject| anyhow::anyhow!("{reject}"))?;
                payloads.intents.push(intent(&event, &decided, &config.models).payload);
                payloads.features.push(event.payload);
                Ok(())
            },
        )?;
        Ok(payloads)
    }

    fn add(&self, pipe: &mut redis::Pipeline, index: usize) {
        let payload = &self.features[index % self.features.len()];
        let add = pipe.cmd("XADD").arg(FEATURES).arg("*");
        add.arg("event_type").arg("market.features").arg("payload").arg(payload).ignore();
    }

    fn load(&self, server: &Server, events: usize) -> anyhow::Result<()> {
        let mut connection = server.connection()?;
        for start in (0..events).step_by(1000) {
            let mut pipe = redis::pipe();
            (start..events.min(start + 1000)).for_each(|index| self.add(&mut pipe, index));
            pipe.exec(&mut connection)?;
        }
        Ok(())
    }
}

/// Reads, adds, acknowledges until `events` are done or it shall stop; the time it took.
fn bare_loop(
    server: &Server,
    payloads: &Payloads,
    events: usize,
    stop: &AtomicBool,
) -> anyhow::Result<Duration> {
    let mut connection = server.connection()?;
    redis::cmd("XGROUP").arg(&["CREATE", FEATURES, "g", "0", "MKSTREAM"]).exec(&mut connection)?;
    let started = Instant::now();
    let mut done = 0;
    while done < events && !stop.load(Ordering::Relaxed) {
        let mut read = redis::cmd("XREADGROUP");
        read.arg("GROUP").arg("g").arg("c").arg("COUNT").arg(BATCH).arg("BLOCK").arg(100);
        let reply: Option<StreamReadReply> =
            read.arg("STREAMS").arg(FEATURES).arg(">").query(&mut connection)?;
        let Some(stream) = reply.and_then(|reply| reply.keys.into_iter().next()) else { continue };
        let mut pipe = redis::pipe();
        for _ in &stream.ids {
            let payload = &payloads.intents[done % payloads.intents.len()];
            let add = pipe.cmd("XADD").arg(INTENTS).arg("*");
            add.arg("event_type")
                .arg("trade.intent")
                .arg("payload")
                .arg(payload)
                .arg("source")
                .arg("qsc")
                .ignore();
            done += 1;
        }
        let ids: Vec<&str> = stream.ids.iter().map(|entry| entry.id.as_str()).collect();
        pipe.cmd("XACK").arg(FEATURES).arg("g").arg(ids).ignore();
        pipe.exec(&mut connection)?;
    }
    Ok(started.elapsed())
}

fn bare_throughput(payloads: &Payloads, events: usize) -> anyhow::Result<f64> {
    let server = Server::start()?;
    payloads.load(&server, events)?;
    let took = bare_loop(&server, payloads, events, &AtomicBool::new(false))?;
    Ok(events as f64 / took.as_secs_f64())
}

/// Decisions a second on features that are bound already, with every window full.
fn kernel_throughput(models: &Path, payloads: &Payloads, events: usize) -> anyhow::Result<f64> {
    let config = ModelsConfig::read(models)?;
    let images = Images::read(&config);
    let mut engine = Engine::new(&config, images.load(&config, &mut |_| ())?)?;
    let mut bound = Vec::new();
    for payload in &payloads.features {
        let event = Event {
            id: EventId::default(),
            event_type: MARKET_FEATURES.to_owned(),
            payload: payload.clone(),
            trace_id: None,
            timestamp: None,
            source: None,
        };
        let symbol = engine.decide(&event, 0).map_err(|reject| anyhow::anyhow!("{reject}"))?.symbol;
        bound.push((symbol, engine.schema().features().to_vec()));
    }
    let started = Instant::now();
    for (symbol, features) in bound.iter().cycle().take(events) {
        hint::black_box(engine.decide_features(symbol, features, None, &mut ()));
    }
    Ok(events as f64 / started.elapsed().as_secs_f64())
}

fn qsc_throughput(qsc: &Path, models: &Path, payloads: &Payloads, events: usize) -> anyhow::Result<f64> {
    let server = Server::start()?;
    payloads.load(&server, events)?;
    let mut connection = server.connection()?;
    let mut worker = Worker::start(qsc, models, &server, &[])?;
    let mut first = None;
    let rate = loop {
        let done: usize = redis::cmd("XLEN").arg(INTENTS).query(&mut connection)?;
        let now = Instant::now();
        match first {
            // From the first look that finds it at work.
            None if done > 0 => first = Some((now, done)),
            Some((since, before)) if done >= events => {
                break (done - before) as f64 / now.duration_since(since).as_secs_f64();
            }
            _ => {}
        }
        ensure!(worker.0.try_wait()?.is_none(), "qsc run ended");
        thread::sleep(Duration::from_millis(1));
    };
    worker.end()?;
    Ok(rate)
}

/// Times from sending an event to receiving its intent.
fn latency(
    payloads: &Payloads,
    work: impl Fn(&Server, &AtomicBool) -> anyhow::Result<()> + Sync,
) -> anyhow::Result<Histogram<u64>> {
    let server = Server::start()?;
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let worker = scope.spawn(|| work(&server, &stop));
        let times = paced(payloads, &server);
        stop.store(true, Ordering::Relaxed);
        worker.join().map_err(|_| anyhow::anyhow!("the worker panicked"))??;
        times
    })
}

fn paced(payloads: &Payloads, server: &Server) -> anyhow::Result<Histogram<u64>> {
    let mut producer = server.connection()?;
    let mut reader = server.connection()?;
    let mut times = Histogram::new(3)?;
    let mut last = "0".to_owned();
    for index in 0..PACED + 200 {
        thread::sleep(PACE);
        let mut pipe = redis::pipe();
        payloads.add(&mut pipe, index);
        let sent = Instant::now();
        pipe.exec(&mut producer)?;
        let mut read = redis::cmd("XREAD");
        read.arg("COUNT").arg(1).arg("BLOCK").arg(20_000).arg("STREAMS").arg(INTENTS).arg(&last);
        let reply: Option<StreamReadReply> = read.query(&mut reader)?;
        let took = sent.elapsed();
        let stream = reply.and_then(|reply| reply.keys.into_iter().next()).context("no intent came")?;
        last = stream.ids.last().context("no intent came")?.id.clone();
        // The first ones find everything cold, and windows that are not full.
        if index >= 200 {
            times.record(u64::try_from(took.as_nanos())?)?;
        }
    }
    Ok(times)
}

/// `qsc run` in the background.
struct Worker(Child);

impl Worker {
    fn start(qsc: &Path, models: &Path, server: &Server, flags: &[&str]) -> anyhow::Result<Self> {
        let url = server.url();
        let mut command = Command::new(qsc);
        command.args([
            "run",
            "--source",
            &url,
            "--sink",
            &url,
            "--stream",
            FEATURES,
            "--sink-stream",
            INTENTS,
        ]);
        command.args(flags).arg("--models").arg(models).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self(command.spawn().with_context(|| format!("{} does not start", qsc.display()))?))
    }

    fn end(&mut self) -> anyhow::Result<()> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }
}
