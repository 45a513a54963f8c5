//! One measurement: rows in, answers kept for the comparison, times out. Every engine is called by this loop.
//!
//! A driver takes one argument, a [`Job`] as JSON, and prints one [`Timing`] as JSON.

mod npy;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

pub use npy::Rows;

/// What to measure.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// Which of the driver's engines.
    pub engine: String,
    /// The file the engine loads.
    pub model: PathBuf,
    /// The shared library the engine lives in, if it is loaded at run time.
    pub library: Option<PathBuf>,
    /// The engine's own setting: a backend, a precision.
    pub setting: Option<String>,
    /// `[n_rows, …] f32` as `.npy`: one row is everything after the first axis.
    pub rows: PathBuf,
    /// Answers per row.
    pub outputs: usize,
    /// Where the answers go: `[n, outputs] f32`, raw little-endian, for as many rows as [`Job::seconds`] allows.
    pub answers: PathBuf,
    /// Calls between two reads of the clock when the median is taken; 1: each call on its own.
    pub block: usize,
    /// All rows in one call instead of one row.
    pub batch: bool,
    /// Medians to take.
    pub repeats: usize,
    /// Time for one pass of one repeat.
    pub seconds: f64,
}

/// An engine that is ready to answer.
pub trait Engine {
    /// Answers `answers.len() / outputs` rows, `[n, row_len] f32` → `[n, outputs] f32`.
    ///
    /// # Errors
    /// What the engine reports.
    fn predict(&mut self, rows: &[f32], answers: &mut [f32]) -> Result<()>;
}

/// What was measured.
#[derive(Debug, Serialize)]
pub struct Timing {
    /// Median of each repeat, in nanoseconds per row.
    pub median: Vec<f64>,
    /// 99th percentile of single calls of each repeat, in nanoseconds; empty for batches.
    pub p99: Vec<f64>,
    /// Calls measured, over all repeats.
    pub calls: usize,
}

/// A driver's `main`: reads the job, opens the engine, measures, prints.
///
/// # Errors
/// An unreadable job, what the engine reports, answers that cannot be written.
pub fn run<E: Engine>(open: impl FnOnce(&Job, &Rows) -> Result<E>) -> Result<()> {
    let argument = std::env::args().nth(1).context("usage: DRIVER '{…a job as JSON…}'")?;
    let job: Job = serde_json::from_str(&argument).context("the job is not valid")?;
    ensure!(job.block > 0 && job.repeats > 0 && job.seconds > 0.0, "block, repeats and seconds are above 0");
    let rows = Rows::read(&job.rows)?;
    let mut engine = open(&job, &rows)?;
    answer(&job, &rows, &mut engine)?;
    let timing = if job.batch { batch(&job, &rows, &mut engine)? } else { single(&job, &rows, &mut engine)? };
    println!("{}", serde_json::to_string(&timing)?);
    Ok(())
}

/// Answers every row, or, of an engine too slow for that, the first ones; this also warms up.
fn answer(job: &Job, rows: &Rows, engine: &mut impl Engine) -> Result<()> {
    const LIMIT: Duration = Duration::from_secs(3);
    const AT_LEAST: usize = 256;
    let mut answers = vec![f32::NAN; job.outputs * rows.count()];
    if job.batch {
        engine.predict(rows.all(), &mut answers)?;
    } else {
        let start = Instant::now();
        let mut done = 0;
        for (row, answer) in rows.iter().zip(answers.chunks_exact_mut(job.outputs)) {
            engine.predict(row, answer)?;
            done += 1;
            if done >= AT_LEAST && start.elapsed() > LIMIT {
                break;
            }
        }
        answers.truncate(done * job.outputs);
    }
    let bytes: Vec<u8> = answers.iter().flat_map(|value| value.to_le_bytes()).collect();
    std::fs::write(&job.answers, bytes).with_context(|| format!("cannot write {}", job.answers.display()))
}

/// Rows one by one, round and round: medians over blocks of calls, p99 over single ones.
fn single(job: &Job, rows: &Rows, engine: &mut impl Engine) -> Result<Timing> {
    let pass = Duration::from_secs_f64(job.seconds);
    let mut answer = vec![0.0; job.outputs];
    let mut endless = rows.iter().cycle();
    let mut block = |calls: usize| -> Result<f64> {
        let start = Instant::now();
        for row in endless.by_ref().take(calls) {
            engine.predict(row, &mut answer)?;
            std::hint::black_box(&answer);
        }
        Ok(start.elapsed().as_nanos() as f64 / calls as f64)
    };
    let mut until = |length: Duration, calls: usize| -> Result<Vec<f64>> {
        let start = Instant::now();
        let mut times = Vec::new();
        while times.is_empty() || start.elapsed() < length {
            times.push(block(calls)?);
        }
        times.sort_by(f64::total_cmp);
        Ok(times)
    };
    until(pass, job.block)?;
    let mut timing = Timing { median: vec![], p99: vec![], calls: 0 };
    for _ in 0..job.repeats {
        let alone = until(pass, 1)?;
        timing.calls += alone.len();
        timing.p99.push(quantile(&alone, 0.99));
        timing.median.push(if job.block == 1 {
            quantile(&alone, 0.5)
        } else {
            let blocks = until(pass, job.block)?;
            timing.calls += blocks.len() * job.block;
            quantile(&blocks, 0.5)
        });
    }
    Ok(timing)
}

/// All rows in one call.
fn batch(job: &Job, rows: &Rows, engine: &mut impl Engine) -> Result<Timing> {
    const CALLS_AT_LEAST: usize = 3;
    let pass = Duration::from_secs_f64(job.seconds);
    let mut answers = vec![0.0; job.outputs * rows.count()];
    let mut timing = Timing { median: vec![], p99: vec![], calls: 0 };
    for _ in 0..job.repeats {
        let mut times = Vec::new();
        let start = Instant::now();
        while times.len() < CALLS_AT_LEAST || start.elapsed() < pass {
            let call = Instant::now();
            engine.predict(rows.all(), &mut answers)?;
            times.push(call.elapsed().as_nanos() as f64 / rows.count() as f64);
            std::hint::black_box(&answers);
        }
        times.sort_by(f64::total_cmp);
        timing.calls += times.len();
        timing.median.push(quantile(&times, 0.5));
    }
    Ok(timing)
}

/// Of sorted times, the one below which the share `q` lies.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * q) as usize]
}
