//! `qsc model verify`: does this image predict what it should, on this machine?

use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use clap::Args;
use qsc_kernel::{Backend, GoldenError, Model, Scratch};
use serde_json::json;

use crate::commands;
use crate::commands::predict::{backend, predict_rows, read_rows};
use crate::exit::Exit;
use crate::image::ImageBytes;
use crate::report::{self, Format};
use crate::rows;

/// Arguments of `qsc model verify`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  qsc model verify xgb.qsm --input rows.npy --expected margins.npy --raw")]
pub struct VerifyArgs {
    /// The image
    image: PathBuf,
    /// Rows to predict (.npy, .csv or .jsonl)
    #[arg(long, requires = "expected")]
    input: Option<PathBuf>,
    /// What they should give, [n_rows, n_outputs] (.npy)
    #[arg(long, requires = "input")]
    expected: Option<PathBuf>,
    /// Compare margins instead of outputs
    #[arg(long)]
    raw: bool,
    /// Largest allowed |got − expected| / (1 + |expected|)
    #[arg(long, default_value_t = 1e-5, value_parser = parse_tolerance)]
    tolerance: f64,
    /// Backend to run on; all of them give the same bits
    #[arg(long, default_value = "auto", value_parser = backend)]
    backend: Backend,
}

fn parse_tolerance(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(tolerance) if (0.0..f64::INFINITY).contains(&tolerance) => Ok(tolerance),
        _ => Err("expected a finite number, 0 or more".to_owned()),
    }
}

/// Predictions against expected values.
struct Comparison {
    values: usize,
    outside: usize,
    /// Of the differences that are numbers.
    largest: f64,
    first: Option<(usize, usize, f64, f64)>,
}

pub(super) fn run(args: &VerifyArgs, format: Format) -> anyhow::Result<Exit> {
    if args.input.is_some() != args.expected.is_some() {
        return Ok(commands::misfit("input and expected go together"));
    }
    let bytes = ImageBytes::read(&args.image)?;
    let model =
        Model::check(bytes.as_bytes()).with_context(|| format!("cannot use {}", args.image.display()))?;
    let model = model.with_backend(args.backend);
    let mut scratch = vec![0; model.scratch_bytes() + qsc_kernel::scratch::ALIGNMENT];
    let golden = model.check_golden(Scratch::new(&mut scratch));
    let comparison = match (&args.input, &args.expected) {
        (Some(input), Some(expected)) => Some(compare(&model, args, input, expected)?),
        _ => None,
    };
    let passed = golden.is_ok() && comparison.as_ref().is_none_or(|comparison| comparison.outside == 0);
    let exit = if passed { Exit::Pass } else { Exit::Fail };
    report::print(&match format {
        Format::Json => document(&model, golden, comparison.as_ref(), args.tolerance, exit),
        Format::Text => text(&model, golden, comparison.as_ref(), args.tolerance, exit),
    })?;
    Ok(exit)
}

fn document(
    model: &Model<'_>,
    golden: Result<(), GoldenError>,
    comparison: Option<&Comparison>,
    tolerance: f64,
    exit: Exit,
) -> String {
    let document = json!({
        "contract": report::CONTRACT,
        "command": "model verify",
        "verdict": if exit == Exit::Pass { "pass" } else { "fail" },
        "exit_code": exit.code(),
        "name": model.name(),
        "backend": model.backend().name(),
        "golden": {"rows": model.golden_rows(), "error": golden.err().map(|error| error.to_string())},
        "compared": comparison.map(|c| json!({
            "values": c.values,
            "outside": c.outside,
            "tolerance": tolerance,
            "largest_difference": c.largest,
            "first": c.first.map(|(row, output, got, expected)| json!({
                "row": row, "output": output, "got": got, "expected": expected,
            })),
        })),
    });
    report::json(&document)
}

fn text(
    model: &Model<'_>,
    golden: Result<(), GoldenError>,
    comparison: Option<&Comparison>,
    tolerance: f64,
    exit: Exit,
) -> String {
    let mut text = match golden {
        Ok(()) => {
            format!(
                "golden vectors: {} rows, all bits equal on {}\n",
                model.golden_rows(),
                model.backend().name()
            )
        }
        Err(error) => format!("golden vectors: {error}\n"),
    };
    if let Some(c) = comparison {
        text += &format!(
            "expected values: {} compared, {} outside {tolerance:e}, largest difference {:.3e}\n",
            c.values, c.outside, c.largest
        );
        if let Some((row, output, got, expected)) = c.first {
            text +=
                &format!("first difference: row {row}, output {output}: got {got}, expected {expected}\n");
        }
    }
    text + if exit == Exit::Pass { "PASS\n" } else { "FAIL\n" }
}

fn compare(
    model: &Model<'_>,
    args: &VerifyArgs,
    input: &std::path::Path,
    expected: &std::path::Path,
) -> anyhow::Result<Comparison> {
    let rows = read_rows(input, model)?;
    let got = predict_rows(model, &rows, args.raw)?;
    let expected_values = rows::read_f64(expected)?;
    let width = if args.raw { model.n_raw() } else { model.n_outputs() };
    let shape = expected_values.shape();
    ensure!(
        shape == [rows.n_rows(), width] || (width == 1 && shape == [rows.n_rows()]),
        "{} has shape {shape:?}; the rows give [{}, {width}]",
        expected.display(),
        rows.n_rows()
    );
    let mut comparison = Comparison { values: 0, outside: 0, largest: 0.0, first: None };
    for (at, (&got, &expected)) in got.iter().zip(expected_values.data()).enumerate() {
        let difference = (got - expected).abs() / (1.0 + expected.abs());
        comparison.values += 1;
        if difference.is_nan() || difference > args.tolerance {
            comparison.outside += 1;
            comparison.first.get_or_insert((at / width, at % width, got, expected));
        }
        comparison.largest = comparison.largest.max(difference);
    }
    Ok(comparison)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tolerance_that_allows_everything_is_none() {
        assert_eq!(parse_tolerance("1e-5"), Ok(1e-5));
        for text in ["inf", "infinity", "NaN", "-1", ""] {
            assert!(parse_tolerance(text).is_err(), "{text}");
        }
    }
}
