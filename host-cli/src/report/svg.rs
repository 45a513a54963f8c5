//! Charts as inline SVG: shapes only, stretched to their frame; what must be read is HTML around them.

use std::fmt::Write as _;

use crate::gate::{ConfidenceFigures, HISTOGRAM_BINS, OverTime};

/// Width and height of every chart in its own units.
const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 240.0;

/// Colours of inactive reasons; further ones share the last.
pub(super) const REASON_CLASSES: [&str; 6] = ["r0", "r1", "r2", "r3", "r4", "r5"];

/// The confidences as a histogram over [0, 1], with the band from P10 to P90 and the mean.
pub(super) fn histogram(bins: &[u64], figures: &ConfidenceFigures) -> String {
    let mut out = open("Histogram of the confidences from 0 to 1");
    let x = |confidence: f64| confidence.clamp(0.0, 1.0) * WIDTH;
    if let (Some(p10), Some(p90)) = (figures.p10, figures.p90) {
        let (left, right) = (x(p10), x(p90));
        rect(&mut out, "band", left, 0.0, (right - left).max(2.0), HEIGHT);
    }
    let most = bins.iter().copied().max().unwrap_or(0).max(1) as f64;
    let step = WIDTH / HISTOGRAM_BINS as f64;
    for (at, &count) in bins.iter().enumerate().filter(|(_, count)| **count > 0) {
        // The least bar is still seen.
        let tall = (count as f64 / most * (HEIGHT - 8.0)).max(3.0);
        rect(&mut out, "bar", at as f64 * step + 1.5, HEIGHT - tall, step - 3.0, tall);
    }
    for (class, value) in [("edge", figures.p10), ("edge", figures.p90), ("mean", figures.mean)] {
        value.into_iter().for_each(|value| {
            let x = x(value);
            let _ =
                write!(out, "<line class=\"{class}\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"0\" y2=\"{HEIGHT}\"/>");
        });
    }
    out + "</svg>"
}

/// The share of each action in each bucket; a bucket without a prediction stays empty.
pub(super) fn actions(counts: &OverTime) -> String {
    let series: Vec<(&str, &[u64])> =
        vec![("buy", &counts.buy), ("hold", &counts.hold), ("sell", &counts.sell)];
    stacked("Share of each action over time", &series, None)
}

/// Inactive entries by reason in each bucket, and the largest number in one.
pub(super) fn inactive(counts: &OverTime) -> (String, u64) {
    let series: Vec<(&str, &[u64])> = counts
        .inactive
        .values()
        .enumerate()
        .map(|(at, counts)| (REASON_CLASSES[at.min(REASON_CLASSES.len() - 1)], counts.as_slice()))
        .collect();
    let buckets = series.iter().map(|(_, counts)| counts.len()).max().unwrap_or(0);
    let most = (0..buckets).map(|at| column(&series, at)).max().unwrap_or(0);
    (stacked("Inactive entries by reason over time", &series, Some(most)), most)
}

/// Parts of a whole as one bar.
pub(super) fn share_bar(parts: &[(&str, u64)]) -> String {
    let whole = parts.iter().map(|(_, count)| count).sum::<u64>().max(1) as f64;
    let mut out = String::from(
        "<svg class=\"share\" viewBox=\"0 0 960 20\" preserveAspectRatio=\"none\" aria-hidden=\"true\">",
    );
    let mut left = 0.0;
    for (class, count) in parts {
        let wide = *count as f64 / whole * WIDTH;
        rect(&mut out, class, left, 0.0, wide, 20.0);
        left += wide;
    }
    out + "</svg>"
}

/// Columns of stacked counts: to one height each, or to `scale`.
fn stacked(label: &str, series: &[(&str, &[u64])], scale: Option<u64>) -> String {
    let mut out = open(label);
    let buckets = series.iter().map(|(_, counts)| counts.len()).max().unwrap_or(0);
    let step = WIDTH / buckets.max(1) as f64;
    for at in 0..buckets {
        let whole = scale.unwrap_or_else(|| column(series, at)).max(1) as f64;
        let mut bottom = HEIGHT;
        for (class, counts) in series {
            let tall = counts.get(at).copied().unwrap_or(0) as f64 / whole * HEIGHT;
            bottom -= tall;
            if tall > 0.0 {
                rect(&mut out, class, at as f64 * step, bottom, step * 0.94, tall);
            }
        }
    }
    out + "</svg>"
}

fn column(series: &[(&str, &[u64])], at: usize) -> u64 {
    series.iter().map(|(_, counts)| counts.get(at).copied().unwrap_or(0)).sum()
}

fn open(label: &str) -> String {
    format!(
        "<svg class=\"chart\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" preserveAspectRatio=\"none\" role=\"img\" \
         aria-label=\"{label}\">"
    )
}

fn rect(out: &mut String, class: &str, x: f64, y: f64, width: f64, height: f64) {
    let _ = write!(
        out,
        "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"/>"
    );
}
