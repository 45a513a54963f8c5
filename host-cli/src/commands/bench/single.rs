//! One model: rows, calls, answers.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use qsc_kernel::model::Body;
use qsc_kernel::observe::Stage;
use qsc_kernel::{Backend, Model, Scratch};

use super::Measured;
use super::clock::{Shares, Stopwatch};
use super::latency::Latency;
use super::random::{Random, ranges};
use crate::commands::predict::read_rows;
use crate::image::ImageBytes;

/// Values of all random rows together: more than the first cache holds, so that rows come as they would.
const VALUES: usize = 1 << 16;
/// Random rows at most, and at least.
const ROWS: std::ops::RangeInclusive<usize> = 16..=1024;
/// Stages are measured apart, and for less long: the clock is read between them.
const STAGES: u32 = 4;

pub(super) fn measure(
    path: &Path,
    input: Option<&Path>,
    batch: u32,
    backend: Backend,
    time: Duration,
) -> anyhow::Result<Measured> {
    let bytes = ImageBytes::read(path)?;
    let model = Model::check(bytes.as_bytes()).with_context(|| format!("cannot use {}", path.display()))?;
    let rows = match input {
        Some(path) => read_rows(path, &model)?.data().to_vec(),
        None => random_rows(&model),
    };
    let different = rows.len() / model.row_len();
    let batch_rows = usize::try_from(batch)?;
    // Whole batches, so that one is always one piece.
    let whole = different.next_multiple_of(batch_rows) * model.row_len();
    let rows: Vec<f32> = rows.iter().copied().cycle().take(whole).collect();
    let mut call = Call::new(model, backend, &rows, batch_rows)?;
    let mut latency = Latency::new(batch);
    // A tenth to warm caches, predictors and clocks up.
    let warm = Instant::now();
    while warm.elapsed() < time / 10 {
        call.run()?;
    }
    let started = Instant::now();
    while started.elapsed() < time || latency.calls() == 0 {
        latency.record(call.run()?);
    }
    let stages = call.stages(time / STAGES, latency.timer())?;
    Ok(Measured {
        subject: format!("{} ({})", call.model.name(), path.display()),
        backend: backend.name(),
        batch,
        rows: different,
        latency,
        stages,
    })
}

/// Rows within what the image's golden rows span; NaN is left out.
fn random_rows(model: &Model<'_>) -> Vec<f32> {
    let ranges = ranges(model);
    let count = (VALUES / model.row_len()).clamp(*ROWS.start(), *ROWS.end());
    let mut random = Random::new();
    (0..count * model.row_len()).map(|at| random.within(ranges[at % ranges.len()])).collect()
}

/// Calls of one model over rotating rows, each answer compared.
struct Call<'a> {
    model: Model<'a>,
    rows: &'a [f32],
    batch: usize,
    /// Outputs of every row as the scalar backend gave them.
    expected: Vec<u32>,
    scratch: Vec<u8>,
    raw: Vec<f64>,
    outputs: Vec<f32>,
    next: usize,
}

impl<'a> Call<'a> {
    fn new(model: Model<'a>, backend: Backend, rows: &'a [f32], batch: usize) -> anyhow::Result<Self> {
        let bytes = model.scratch_bytes().max(if batch > 1 { model.batch_scratch_bytes() } else { 0 });
        let mut scratch = vec![0; bytes + qsc_kernel::scratch::ALIGNMENT];
        let mut expected = Vec::new();
        let model = model.with_backend(Backend::SCALAR);
        for (at, row) in rows.chunks_exact(model.row_len()).enumerate() {
            let output =
                model.predict(row, Scratch::new(&mut scratch)).with_context(|| format!("row {at}"))?;
            expected.extend(output.values.iter().map(|value| value.to_bits()));
        }
        let (raw, outputs) = (vec![0.0; batch * model.n_raw()], vec![0.0; batch * model.n_outputs()]);
        Ok(Self { model: model.with_backend(backend), rows, batch, expected, scratch, raw, outputs, next: 0 })
    }

    /// One call: what it took. Answers are compared after the clock has stopped.
    fn run(&mut self) -> anyhow::Result<Duration> {
        let (n, width) = (self.model.n_outputs(), self.model.row_len());
        let count = self.rows.len() / width;
        let rows = &self.rows[self.next * width..][..self.batch * width];
        let scratch = Scratch::new(&mut self.scratch);
        let started = Instant::now();
        if self.batch == 1 {
            self.outputs.copy_from_slice(self.model.predict(rows, scratch)?.values);
        } else {
            self.model.predict_batch(rows, &mut self.raw, &mut self.outputs, scratch)?;
        }
        let elapsed = started.elapsed();
        for (i, outputs) in self.outputs.chunks_exact(n).enumerate() {
            let row = self.next + i;
            same(row, outputs, &self.expected[row * n..][..n], &self.model)?;
        }
        self.next = (self.next + self.batch) % count;
        Ok(elapsed)
    }

    /// The share of each stage of single predictions.
    fn stages(&mut self, time: Duration, timer: Duration) -> anyhow::Result<Shares> {
        let layers: Vec<&str> = match self.model.body() {
            Body::Net(net) => net.layers().map(|layer| layer.op).collect(),
            _ => Vec::new(),
        };
        let name = |stage| match stage {
            Stage::Step(at) => layers.get(at).copied().unwrap_or("step").to_owned(),
            stage => format!("{stage:?}").to_lowercase(),
        };
        let (n, width) = (self.model.n_outputs(), self.model.row_len());
        let (mut shares, mut watch) = (Shares::default(), Stopwatch::new(timer));
        let started = Instant::now();
        for (at, row) in self.rows.chunks_exact(width).enumerate().cycle() {
            watch.start();
            let output = self.model.predict_observed(row, Scratch::new(&mut self.scratch), &mut watch)?;
            same(at, output.values, &self.expected[at * n..][..n], &self.model)?;
            watch.enter(&mut shares, name);
            if started.elapsed() > time {
                break;
            }
        }
        Ok(shares)
    }
}

fn same(row: usize, outputs: &[f32], expected: &[u32], model: &Model<'_>) -> anyhow::Result<()> {
    let same = outputs.iter().map(|value| value.to_bits()).eq(expected.iter().copied());
    ensure!(
        same,
        "row {row} gave other bits on {} than on scalar: this machine or this build cannot be trusted; run `qsc model verify`",
        model.backend().name()
    );
    Ok(())
}
