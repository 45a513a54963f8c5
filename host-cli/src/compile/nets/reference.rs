//! The meaning of a network: its steps in f64, and, for any choice of layers, what 8 bits alone make of them.

use super::ir::{Linear, NetLink, NetModel, Op, Precision, StatisticsKind, Step};

/// Logits and outputs of one row.
#[derive(Clone, Debug, PartialEq)]
pub struct Reference {
    /// Logits or forecast, `[n_raw]`.
    pub raw: Vec<f64>,
    /// Outputs, `[n_raw]`.
    pub outputs: Vec<f64>,
}

impl NetModel {
    /// Predicts one row `[seq_len, n_features]` in f64, nothing quantized.
    #[must_use]
    pub fn reference(&self, row: &[f32]) -> Reference {
        self.reference_with(row, |_| false)
    }

    /// Predicts one row in f64 with the layers `quantized` picks, by step number, in 8 bits: shows where error comes from.
    #[must_use]
    pub fn reference_with(&self, row: &[f32], quantized: impl Fn(usize) -> bool) -> Reference {
        let mut arena = vec![0.0; self.arena];
        for (to, from) in arena.iter_mut().zip(row) {
            *to = f64::from(*from);
        }
        for (at, step) in self.steps.iter().enumerate() {
            step.run(&mut arena, quantized(at));
        }
        let raw = arena[self.output.range()].to_vec();
        let outputs = match self.link {
            NetLink::Identity => raw.clone(),
            NetLink::Sigmoid => raw.iter().map(|x| 1.0 / (1.0 + (-x).exp())).collect(),
            NetLink::Softmax => softmax(&raw),
        };
        Reference { raw, outputs }
    }
}

fn softmax(x: &[f64]) -> Vec<f64> {
    let max = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = x.iter().map(|x| (x - max).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.iter().map(|p| p / sum).collect()
}

impl Step {
    fn run(&self, arena: &mut [f64], quantized: bool) {
        let source = arena[self.source.range()].to_vec();
        let width = self.width;
        let target = &mut arena[self.target.range()];
        match &self.op {
            Op::Constants(values) => {
                for (to, from) in target.iter_mut().zip(values) {
                    *to = f64::from(*from);
                }
            }
            Op::Gather(indices) => {
                for (to, from) in target.iter_mut().zip(indices) {
                    *to = from.map_or(0.0, |from| source[from]);
                }
            }
            Op::Statistics { kind, epsilon } => {
                statistics(*kind, f64::from(*epsilon), &source, width, target)
            }
            Op::Normalize => {
                for (at, x) in target.iter_mut().enumerate() {
                    *x = (*x - source[at % width]) / source[width + at % width];
                }
            }
            Op::Denormalize => {
                for (at, x) in target.iter_mut().enumerate() {
                    *x = *x * source[width + at % width] + source[at % width];
                }
            }
            Op::Linear(layer) => linear(layer, &source, target, quantized),
            Op::LayerNorm { gain, bias, epsilon } => {
                for (x, y) in source.chunks_exact(width).zip(target.chunks_exact_mut(width)) {
                    let mean = x.iter().sum::<f64>() / width as f64;
                    let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / width as f64;
                    let divisor = (variance + f64::from(*epsilon)).sqrt();
                    for (at, y) in y.iter_mut().enumerate() {
                        *y = (x[at] - mean) / divisor * f64::from(gain[at]) + f64::from(bias[at]);
                    }
                }
            }
            Op::Relu => target.iter_mut().for_each(|x| *x = x.max(0.0)),
            Op::Gelu => target.iter_mut().for_each(|x| {
                *x *= 0.5 * libm::erfc(-*x * std::f64::consts::FRAC_1_SQRT_2);
            }),
            Op::Attention { heads, tokens } => attention(*heads, *tokens, width, &source, target),
            Op::MaxPool { kernel } => {
                let windows = source.chunks_exact(width).flat_map(|row| row.chunks(*kernel));
                for (to, window) in target.iter_mut().zip(windows) {
                    *to = window.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                }
            }
            Op::TokenPool { max, tokens } => {
                let sequences = source.chunks_exact(tokens * width);
                for (to, sequence) in target.chunks_exact_mut(width).zip(sequences) {
                    for (at, to) in to.iter_mut().enumerate() {
                        let column = sequence.iter().skip(at).step_by(width);
                        *to = if *max {
                            column.copied().fold(f64::NEG_INFINITY, f64::max)
                        } else {
                            column.sum::<f64>() / *tokens as f64
                        };
                    }
                }
            }
        }
    }
}

fn statistics(kind: StatisticsKind, epsilon: f64, source: &[f64], width: usize, target: &mut [f64]) {
    let rows = (source.len() / width) as f64;
    for at in 0..width {
        let column = || source.iter().skip(at).step_by(width).copied();
        let mean = column().sum::<f64>() / rows;
        let variance = column().map(|x| (x - mean).powi(2)).sum::<f64>() / rows;
        let min = column().fold(f64::INFINITY, f64::min);
        let max = column().fold(f64::NEG_INFINITY, f64::max);
        (target[at], target[width + at]) = match kind {
            StatisticsKind::MinMax => (min, max - min + epsilon),
            StatisticsKind::StdUnderRoot => (mean, (variance + epsilon).sqrt()),
            StatisticsKind::Std => (mean, if variance > 0.0 { variance.sqrt() } else { 1.0 } + epsilon),
            StatisticsKind::MeanAbs => (0.0, (column().map(f64::abs).sum::<f64>() / rows).max(epsilon)),
        };
    }
}

fn linear(layer: &Linear, source: &[f64], target: &mut [f64], quantized: bool) {
    let affine = &layer.affine;
    let largest = match layer.precision {
        Precision::I8 if quantized => Some(127.0),
        Precision::I8Fine if quantized => Some(127.0 * 255.0),
        _ => None,
    };
    let weights: Vec<f64> = match largest {
        Some(_) => affine.rows().flat_map(|row| QuantizedRow::new(row).values()).collect(),
        None => affine.weights.clone(),
    };
    let out = affine.out();
    let bias_rows = layer.bias().chunks_exact(out).cycle();
    for ((x, y), bias) in source.chunks_exact(affine.width).zip(target.chunks_exact_mut(out)).zip(bias_rows) {
        let x = largest.map_or_else(|| x.to_vec(), |largest| rounded(x, largest));
        for ((to, bias), weights) in y.iter_mut().zip(bias).zip(weights.chunks_exact(affine.width)) {
            let value = weights.iter().zip(&x).map(|(w, x)| w * x).sum::<f64>() + bias;
            *to = if layer.add { *to + value } else { value };
        }
    }
}

/// What steps of `largest` to either side of the middle keep of a token.
fn rounded(x: &[f64], largest: f64) -> Vec<f64> {
    let min = x.iter().copied().fold(f64::INFINITY, f64::min);
    let max = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let (middle, half) = (0.5 * (min + max), 0.5 * (max - min));
    if half == 0.0 {
        return x.to_vec();
    }
    let scale = half / largest;
    x.iter().map(|x| middle + ((x - middle) / scale).round_ties_even() * scale).collect()
}

fn attention(heads: usize, tokens: usize, width: usize, source: &[f64], target: &mut [f64]) {
    let head_width = width / heads;
    let sequences = source.chunks_exact(tokens * 3 * width).zip(target.chunks_exact_mut(tokens * width));
    for (source, target) in sequences {
        let part = |token: usize, part: usize, head: usize| {
            &source[token * 3 * width + part * width + head * head_width..][..head_width]
        };
        for token in 0..tokens {
            for head in 0..heads {
                let query = part(token, 0, head);
                let scores: Vec<f64> = (0..tokens)
                    .map(|other| query.iter().zip(part(other, 1, head)).map(|(q, k)| q * k).sum())
                    .collect();
                let weights = softmax(&scores);
                for at in 0..head_width {
                    target[token * width + head * head_width + at] =
                        weights.iter().enumerate().map(|(other, p)| p * part(other, 2, head)[at]).sum();
                }
            }
        }
    }
}

/// One output's weights in 8 bits: w ≈ scale · q.
pub(super) struct QuantizedRow {
    pub(super) scale: f32,
    pub(super) units: Vec<i8>,
}

impl QuantizedRow {
    /// Symmetric, the largest weight on ±127; all zeros have scale 0.
    pub(super) fn new(row: &[f64]) -> Self {
        let largest = row.iter().map(|w| w.abs()).fold(0.0, f64::max);
        let scale = (largest / 127.0) as f32;
        if scale == 0.0 {
            return Self { scale: 0.0, units: vec![0; row.len()] };
        }
        // By the scale as it is stored, so that the rounding of the scale costs nothing.
        let unit = |w: &f64| (w / f64::from(scale)).round_ties_even().clamp(-127.0, 127.0) as i8;
        Self { scale, units: row.iter().map(unit).collect() }
    }

    fn values(self) -> impl Iterator<Item = f64> {
        let scale = f64::from(self.scale);
        self.units.into_iter().map(move |unit| f64::from(unit) * scale)
    }
}
