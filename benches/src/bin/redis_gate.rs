//! `redis_gate --qsc PATH [--events N]`: how long `qsc quality-gate` takes over N intents of a real `redis-server`, and
//! how much memory, beside a bare sweep of the same pages. Prints a Markdown table; `benches/redis/run.sh` calls it.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use qsc_benches::server::Server;
use qsc_cli::engine::intent::intent;
use qsc_cli::engine::{Engine, bundled};
use qsc_cli::stream::{INTENT_STREAM, LinkOptions, Source, SourceSpec, Window};
use serde_json::Value;
use tempfile::TempDir;

/// Entries of one page, as `qsc` asks for them.
const PAGE: usize = 500;
/// Entries sent before their answers are read.
const BATCH: usize = 1000;
/// Runs of each kind; the quickest counts.
const RUNS: usize = 3;

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse()?;
    let server = Server::start()?;
    let payloads = payloads()?;
    let mut connection = server.connection()?;
    let started = Instant::now();
    load(&mut connection, &payloads, arguments.events)?;
    let bytes: usize = payloads.iter().map(String::len).sum();
    eprintln!(
        "{} intents of {} bytes on average, loaded in {:.1} s",
        arguments.events,
        bytes / payloads.len(),
        started.elapsed().as_secs_f64()
    );

    let mut sweeps = Vec::new();
    let mut gates = Vec::new();
    for _ in 0..RUNS {
        // By turns, so that both see the same machine.
        sweeps.push(sweep(&mut connection, arguments.events)?);
        gates.push(gate(&arguments, &server)?);
    }
    let sweep = sweeps.iter().min().copied().context("no run")?;
    let time = gates.iter().map(|(time, _)| *time).min().context("no run")?;
    let peak = gates.iter().map(|(_, peak)| *peak).max().context("no run")?;
    let rate = |time: Duration| arguments.events as f64 / time.as_secs_f64() / 1e3;
    println!(
        "| {} intents with four models | seconds | thousand events/s | of the sweep | peak memory |",
        arguments.events
    );
    println!("| --- | ---: | ---: | ---: | ---: |");
    println!(
        "| bare XRANGE sweep, pages of {PAGE} | {:.2} | {:.0} | 1.00 | |",
        sweep.as_secs_f64(),
        rate(sweep)
    );
    println!(
        "| qsc quality-gate | {:.2} | {:.0} | {:.2} | {:.1} MiB |",
        time.as_secs_f64(),
        rate(time),
        time.as_secs_f64() / sweep.as_secs_f64(),
        peak as f64 / 1024.0
    );
    Ok(())
}

struct Arguments {
    qsc: PathBuf,
    events: usize,
}

impl Arguments {
    fn parse() -> anyhow::Result<Self> {
        let mut qsc = None;
        let mut events = 1_000_000;
        let mut arguments = std::env::args_os().skip(1);
        while let Some(name) = arguments.next() {
            let value = arguments.next().with_context(|| format!("{} needs a value", name.display()))?;
            match name.to_str() {
                Some("--qsc") => qsc = Some(PathBuf::from(value)),
                Some("--events") => {
                    events =
                        value.to_str().and_then(|text| text.parse().ok()).context("--events is a number")?;
                }
                _ => bail!("redis_gate --qsc PATH [--events N]"),
            }
        }
        Ok(Self { qsc: qsc.context("--qsc names the binary to measure")?, events })
    }
}

/// Payloads of the intents that the bundled ensemble gives for the bundled events.
fn payloads() -> anyhow::Result<Vec<String>> {
    let config = bundled::config()?;
    let images = bundled::images();
    let mut engine = Engine::new(&config, images.load(&config, &mut |_| ())?)?;
    let capture = tempfile::NamedTempFile::new()?;
    fs::write(capture.path(), qsc_models::FEATURES_CAPTURE)?;
    let source = Source::open(&SourceSpec::File(capture.path().to_owned()), "", &LinkOptions::default())?;
    let mut payloads = Vec::new();
    let window = Window { after: None, newest: None, event_types: &["market.features"] };
    source.for_each(&window, |item| {
        let event = item.map_err(|malformed| anyhow::anyhow!("{malformed}"))?;
        let decided = engine.decide(&event, 0).map_err(|reject| anyhow::anyhow!("{reject}"))?;
        payloads.push(intent(&event, &decided, &config.models).payload);
        Ok(())
    })?;
    ensure!(!payloads.is_empty(), "the bundled capture has no events");
    Ok(payloads)
}

fn load(connection: &mut redis::Connection, payloads: &[String], events: usize) -> anyhow::Result<()> {
    let mut all = payloads.iter().cycle().zip(0..events).peekable();
    while all.peek().is_some() {
        let mut pipe = redis::pipe();
        for (payload, at) in all.by_ref().take(BATCH) {
            let id = format!("{}-0", 1_768_000_000_000 + at);
            let cmd = pipe.cmd("XADD").arg(INTENT_STREAM).arg(id);
            cmd.arg("event_type").arg("trade.intent").arg("payload").arg(payload).ignore();
        }
        pipe.exec(connection)?;
    }
    Ok(())
}

/// Reads every page and looks at nothing but the id to go on from.
fn sweep(connection: &mut redis::Connection, events: usize) -> anyhow::Result<Duration> {
    let started = Instant::now();
    let (mut from, mut seen) = ("-".to_owned(), 0);
    loop {
        let mut cmd = redis::cmd("XRANGE");
        cmd.arg(INTENT_STREAM).arg(&from).arg("+").arg("COUNT").arg(PAGE);
        let page: Vec<redis::Value> = cmd.query(connection)?;
        let Some(redis::Value::Array(last)) = page.last() else { break };
        let Some(redis::Value::BulkString(id)) = last.first() else { bail!("an entry without id") };
        from = format!("({}", std::str::from_utf8(id)?);
        seen += page.len();
    }
    ensure!(seen == events, "the sweep saw {seen} of {events} entries");
    Ok(started.elapsed())
}

/// Wall time and peak memory in KiB of one run of the gate, which must have judged every event.
fn gate(arguments: &Arguments, server: &Server) -> anyhow::Result<(Duration, u64)> {
    let reports = TempDir::new()?;
    let started = Instant::now();
    let child = Command::new(&arguments.qsc)
        .args(["quality-gate", "--format", "json", "--mode", "canary", "--count", "0", "--source"])
        .arg(server.url())
        .arg("--report-dir")
        .arg(reports.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("{} does not start", arguments.qsc.display()))?;
    let status = PathBuf::from(format!("/proc/{}/status", child.id()));
    let waiting = std::thread::spawn(move || child.wait_with_output());
    let mut peak = 0;
    while !waiting.is_finished() {
        // Of a process that has ended the figure is gone; the last one seen stands.
        let of_now = fs::read_to_string(&status).ok().and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("VmHWM:"))?;
            line.split_ascii_whitespace().nth(1)?.parse().ok()
        });
        peak = peak.max(of_now.unwrap_or(0));
        std::thread::sleep(Duration::from_millis(5));
    }
    let time = started.elapsed();
    let output = waiting.join().ok().context("waiting for the gate failed")??;
    let json: Value = serde_json::from_slice(&output.stdout).context("the gate gave no verdict")?;
    ensure!(
        json["events"]["count"].as_u64() == Some(arguments.events as u64),
        "the gate judged {} of {} events",
        json["events"]["count"],
        arguments.events
    );
    ensure!(json["models"].as_object().is_some_and(|models| models.len() == 4), "four models are judged");
    Ok((time, peak))
}
