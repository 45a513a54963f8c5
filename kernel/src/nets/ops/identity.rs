//! Every backend gives the bits of the scalar one: each operation, at sizes around every boundary, with values that are no numbers.

extern crate std;
use std::string::String;
use std::vec;
use std::vec::Vec;
use std::{eprintln, format};

use super::attention::Attention;
use super::gelu::gelu;
use super::layer_norm::layer_norm;
use super::linear_f32::LinearF32;
use super::linear_i8::{LinearI8, Quantized};
use super::quantize::Token;
use super::relu::relu;
use super::softmax::softmax;
use super::token_pool::TokenPool;
use super::window::{Statistics, denormalize, normalize};
use crate::simd::{Backend, Scalar, Simd, Work, dispatch};
use crate::under_miri;

/// Around one, two and four registers.
const WIDTHS: &[usize] = &[1, 2, 3, 4, 5, 15, 16, 17, 31, 32, 33, 63, 64, 65];

/// What a row may hold that is hard.
const HARD: [f32; 8] =
    [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, 0.0, 1e-40, f32::MAX, f32::MIN_POSITIVE];

/// Values no platform computes differently; every `hard`-th is one of [`HARD`].
fn values(count: usize, seed: usize, hard: usize) -> Vec<f32> {
    let hash = |i: usize| {
        let x = (i as u32 ^ (seed as u32).wrapping_mul(0x27D4_EB2F)).wrapping_mul(0x9E37_79B1);
        x.rotate_left(13).wrapping_mul(0x85EB_CA6B) >> 8
    };
    let value = |i| match hash(i) as usize {
        hash if hard > 0 && hash % hard == 0 => HARD[hash / hard % HARD.len()],
        hash => (hash as f64 / 2_097_152.0 - 4.0) as f32,
    };
    (0..count).map(value).collect()
}

/// Bits, with every NaN the same: which one an operation gives is the processor's choice.
fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| if x.is_nan() { f32::NAN.to_bits() } else { x.to_bits() }).collect()
}

/// Runs one case on every backend of this machine. Miri takes a millisecond for a product, so that it sees few and small ones.
fn agree<C: Work<Output = Vec<f32>> + Copy>(case: C, what: impl Fn() -> String) {
    let expected = bits(&dispatch(Backend::SCALAR, case));
    for backend in Backend::available() {
        assert_eq!(bits(&dispatch(backend, case)), expected, "{} on {}", what(), backend.name());
    }
}

#[test]
fn tiers_of_this_machine_are_named() {
    let names: Vec<_> = Backend::available().map(Backend::name).collect();
    eprintln!("tiers run: {names:?}");
    let wanted: &[&str] = if cfg!(target_arch = "x86_64") {
        &["scalar", "wide", "avx2", "avx512"]
    } else if cfg!(target_arch = "aarch64") {
        &["scalar", "wide", "neon"]
    } else {
        &["scalar", "wide"]
    };
    for tier in wanted.iter().filter(|tier| !names.contains(tier)) {
        eprintln!("SKIPPED: this machine has no {tier}; the identity of that tier was not tested");
        assert!(std::env::var_os("QSC_REQUIRE_ALL").is_none_or(|all| all != "1"), "{tier} is required");
    }
}

#[derive(Clone, Copy)]
struct Linear {
    rows: usize,
    width: usize,
    out: usize,
    period: usize,
    add: bool,
    fine: bool,
    rectified: bool,
    hard: usize,
}

impl Work for Linear {
    type Output = Vec<f32>;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Vec<f32> {
        let Self { rows, width, out, period, add, fine, rectified, hard } = self;
        let (padded, groups) = (out.next_multiple_of(16), width.div_ceil(4));
        let mut weights = vec![[0_i8; 64]; padded / 16 * groups];
        let mut units = vec![0.0; padded];
        for (o, units) in units.iter_mut().enumerate().take(out) {
            for k in 0..width {
                let weight = (o * 37 + k * 53 + o * k) % 255;
                let weight = weight as i8 as i16 as f32;
                let weight = if weight == -128.0 { 127.0 } else { weight };
                weights[o / 16 * groups + k / 4][o % 16 * 4 + k % 4] = weight as i8;
                *units += weight;
            }
        }
        let (scale, bias) = (values(padded, 1, 0), values(period * padded, 2, 0));
        let layer = LinearI8 { weights: &weights, scale: &scale, units: &units, bias: &bias, add, fine };
        assert!(layer.units_hold(width));
        let source = values(rows * width, rows ^ width, hard);
        let (mut quantized, mut tokens) = (vec![[77; 4]; 2 * rows * groups], vec![Token::default(); rows]);
        let mut target = values(rows * out, 3, 0);
        let memory = Quantized { values: &mut quantized, tokens: &mut tokens };
        layer.run(simd, (&source, width), (&mut target, out), rectified, memory).unwrap();
        let flat = values(padded * width, 4, 0);
        let layer = LinearF32 { weights: flat.as_chunks().0, bias: &bias, add };
        let mut wide = values(rows * out, 5, 0);
        layer.run(simd, &source, width, &mut wide, out).unwrap();
        target.extend(wide);
        target
    }
}

#[test]
fn linear_layers() {
    // Miri: a tile of four rows and one more; two groups of inputs and one more; a whole block of outputs and a part.
    for &width in under_miri(&[9][..], WIDTHS) {
        for &out in under_miri(&[20][..], &[1, 15, 16, 17, 31, 32, 33, 49, 64, 81]) {
            for rows in (1..=under_miri(5, 9)).step_by(under_miri(4, 1)) {
                let period = [1, rows, rows.min(2)][(width + out) % 3];
                for fine in [false, true] {
                    let (add, hard) = (out % 2 == 0, if rows % 3 == 2 { 97 } else { 0 });
                    let rectified = (rows + out) % 3 == 0;
                    let case = Linear { rows, width, out, period, add, fine, rectified, hard };
                    agree(case, || format!("[{rows}, {width}] → {out}, fine {fine}, ReLU {rectified}"));
                }
            }
        }
    }
    // The longest sums, every digit at its limit.
    for fine in [false, true].into_iter().take(under_miri(0, 2)) {
        let case =
            Linear { rows: 2, width: 5000, out: 33, period: 1, add: false, fine, rectified: false, hard: 0 };
        agree(case, || format!("a wide layer, fine {fine}"));
    }
}

#[test]
fn a_rectified_layer_is_a_layer_and_its_relu() {
    let (rows, width, out) = under_miri((1, 9, 20), (5, 33, 49));
    let case = Linear { rows, width, out, period: 1, add: true, fine: false, rectified: false, hard: 97 };
    // Behind the layer's outputs stand those of an f32 layer.
    let layer = |case: Linear| dispatch(Backend::detect(), case)[..rows * out].to_vec();
    let mut by_relu = layer(case);
    relu(Scalar, &mut by_relu);
    assert_eq!(bits(&layer(Linear { rectified: true, ..case })), bits(&by_relu));
}

#[derive(Clone, Copy)]
struct Rows {
    rows: usize,
    width: usize,
    hard: usize,
}

impl Work for Rows {
    type Output = Vec<f32>;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Vec<f32> {
        let Self { rows, width, hard } = self;
        let source = values(rows * width, rows ^ width, hard);
        let mut all = Vec::new();
        let mut keep = |x: &[f32]| all.extend_from_slice(x);
        let mut x = source.clone();
        relu(simd, &mut x);
        keep(&x);
        x.clone_from(&source);
        gelu(simd, &mut x);
        keep(&x);
        x.clone_from(&source);
        x.chunks_exact_mut(width).for_each(|row| softmax(simd, row));
        keep(&x);
        x.clone_from(&source);
        let (gain, bias) = (values(width, 6, 0), values(width, 7, 0));
        layer_norm(simd, &mut x, &gain, &bias, 1e-5, width as f32);
        keep(&x);
        for kind in [TokenPool::Mean, TokenPool::Max] {
            let mut pooled = vec![9.0; width];
            kind.run(simd, &source, width, rows, rows as f32, &mut pooled).unwrap();
            keep(&pooled);
        }
        for kind in [Statistics::MinMax, Statistics::StdUnderRoot, Statistics::Std, Statistics::MeanAbs] {
            let mut statistics = vec![9.0; 2 * width];
            kind.run(simd, &source, (rows, width), 1e-5, rows as f32, &mut statistics).unwrap();
            keep(&statistics);
            x.clone_from(&source);
            normalize(simd, &mut x, &statistics, width).unwrap();
            keep(&x);
            denormalize(simd, &mut x, &statistics, width).unwrap();
            keep(&x);
        }
        all
    }
}

#[test]
fn operations_on_rows() {
    // Miri: less than a register, and one with the least of the next.
    for &width in under_miri(&[12, 17][..], WIDTHS).iter().chain(under_miri(&[][..], &[7, 8, 14])) {
        for &rows in under_miri(&[3][..], &[1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 33]) {
            for &hard in under_miri(&[7][..], &[0, 61, 7]) {
                agree(Rows { rows, width, hard }, || format!("[{rows}, {width}], hard {hard}"));
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Heads {
    attention: Attention,
    sequences: usize,
    hard: usize,
}

impl Work for Heads {
    type Output = Vec<f32>;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Vec<f32> {
        let Attention { width, tokens, .. } = self.attention;
        let source = values(self.sequences * tokens * 3 * width, width, self.hard);
        let mut target = vec![9.0; self.sequences * tokens * width];
        let mut scores = vec![7.0; self.attention.scores().unwrap()];
        self.attention.run(simd, &source, &mut target, &mut scores).unwrap();
        target
    }
}

#[test]
fn attention() {
    for &head_width in under_miri(&[16][..], &[1, 3, 8, 15, 16, 17, 31, 32, 33, 65]) {
        for heads in 1..=under_miri(1, 3) {
            // Miri: a head of eight tokens, which never leaves its registers, and another.
            for &tokens in under_miri(&[3, 8][..], &[1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 33]) {
                for &hard in under_miri(&[331][..], &[0, 331]) {
                    let attention = Attention { width: heads * head_width, heads, tokens };
                    let case = Heads { attention, sequences: under_miri(1, 2), hard };
                    agree(case, || format!("{heads} heads of {head_width}, {tokens} tokens, hard {hard}"));
                }
            }
        }
    }
}
