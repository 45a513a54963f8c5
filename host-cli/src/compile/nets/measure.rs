//! What 8 bits cost: the image against the exact network, on synthetic rows.

use anyhow::ensure;
use qsc_kernel::image::records::NetRecord;
use qsc_kernel::{Model, Scratch};

use super::ir::{Inputs, NetDecision, NetModel};
use crate::compile::golden;
use crate::random::SplitMix;

/// Synthetic rows the error is measured on.
const MEASURED: usize = 64;
/// A relative error of the raw output above this means that 8 bits do not carry the network.
const RELATIVE_LIMIT: f64 = 0.1;

/// The error of an image over some rows.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Measured {
    rows: usize,
    max_raw: f64,
    error_squares: f64,
    value_squares: f64,
    max_output: f64,
    agreeing: usize,
}

/// Predicts `rows` with the image and in f64.
pub(super) fn measure(model: &NetModel, image: &Model<'_>, rows: &[Vec<f32>]) -> anyhow::Result<Measured> {
    let mut measured = Measured::default();
    let mut scratch = golden::scratch(image);
    for row in rows {
        let exact = model.reference(row);
        let got = image.predict(row, Scratch::new(&mut scratch))?;
        for (got, exact) in got.raw.iter().zip(&exact.raw) {
            measured.max_raw = largest(measured.max_raw, got - exact);
            measured.error_squares += (got - exact).powi(2);
            measured.value_squares += exact.powi(2);
        }
        for (got, exact) in got.values.iter().zip(&exact.outputs) {
            measured.max_output = largest(measured.max_output, f64::from(*got) - exact);
        }
        let outputs: Vec<f64> = got.values.iter().map(|value| f64::from(*value)).collect();
        measured.rows += 1;
        measured.agreeing += usize::from(answer(model, row, &outputs) == answer(model, row, &exact.outputs));
    }
    Ok(measured)
}

/// The larger error; NaN stays.
fn largest(so_far: f64, error: f64) -> f64 {
    if error.abs() > so_far || error.is_nan() { error.abs() } else { so_far }
}

/// What a row comes to: the number of a class, of a side of two bounds, or of the largest output.
fn answer(model: &NetModel, row: &[f32], outputs: &[f64]) -> usize {
    let side = |value: f64, low: f32, high: f32| {
        usize::from(value >= f64::from(low)) + usize::from(value > f64::from(high))
    };
    match model.decision {
        NetDecision::DeadZone { low, high } => side(outputs[0], low, high),
        NetDecision::HorizonReturn { low, high } => {
            let last = f64::from(row[row.len() - 1]);
            side((outputs[outputs.len() - 1] - last) / last.abs(), low, high)
        }
        NetDecision::None | NetDecision::Classes(_) => {
            let mut best = 0;
            for (at, value) in outputs.iter().enumerate() {
                if *value > outputs[best] {
                    best = at;
                }
            }
            best
        }
    }
}

impl Measured {
    fn relative_rms(&self) -> f64 {
        if self.error_squares == 0.0 { 0.0 } else { (self.error_squares / self.value_squares).sqrt() }
    }

    /// Refuses an image that is not the network it was made of.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let relative = self.relative_rms();
        ensure!(
            relative <= RELATIVE_LIMIT && self.max_output.is_finite(),
            "in 8 bits the raw output is off by {:.1} % (rms over {} rows); this network cannot be quantized, nothing was written",
            relative * 100.0,
            self.rows
        );
        Ok(())
    }

    pub(super) fn record(&self, net: &mut NetRecord) {
        net.measured_rows = u32::try_from(self.rows).unwrap_or(u32::MAX);
        net.max_raw_error = self.max_raw;
        net.relative_rms_error = self.relative_rms();
        net.max_output_error = self.max_output;
        net.agreement = self.agreeing as f64 / self.rows as f64;
    }
}

/// Synthetic rows: each feature drifts and jitters around its level; the same for the same model.
pub(super) fn rows(model: &NetModel) -> Vec<Vec<f32>> {
    let mut random = SplitMix(0x5153_4D32);
    (0..MEASURED).map(|_| row(model, &mut random)).collect()
}

fn row(model: &NetModel, random: &mut SplitMix) -> Vec<f32> {
    let features = model.feature_names.len();
    // Regimes: calm or wild, trending either way, smooth or rough.
    let regime: Vec<[f64; 3]> =
        (0..features).map(|_| [normal(random), normal(random) * 0.04, 0.2 + random.unit() * 0.7]).collect();
    let mut level: Vec<f64> = regime.iter().map(|[start, ..]| *start).collect();
    let mut values = Vec::with_capacity(model.seq_len * features);
    for _ in 0..model.seq_len {
        for (at, [_, drift, smooth]) in regime.iter().enumerate() {
            level[at] = level[at] * 0.98 + drift + normal(random) * 0.15;
            let value = level[at] * smooth + normal(random) * (1.0 - smooth);
            values.push(match &model.inputs {
                Inputs::Standard => value as f32,
                Inputs::Scaled { mean, std } => (f64::from(mean[at]) + value * f64::from(std[at])) as f32,
                Inputs::Prices => (1000.0 * (1.0 + 0.004 * level[at])) as f32,
            });
        }
    }
    values
}

/// Close to normal with unit variance: a sum of twelve.
fn normal(random: &mut SplitMix) -> f64 {
    (0..12).map(|_| random.unit()).sum::<f64>() - 6.0
}
