//! Points in time as arguments give them and reports show them.

use std::time::Duration;

use anyhow::Context as _;
use jiff::{SignedDuration, Timestamp};

/// A hundred years: sums and multiples of spans stay far from where clocks end.
const LONGEST: Duration = Duration::from_secs(876_000 * 3600);

/// The wall clock in Unix milliseconds.
///
/// # Errors
/// It stands before 1970.
pub fn now_ms() -> anyhow::Result<u64> {
    u64::try_from(Timestamp::now().as_millisecond()).context("the clock stands before 1970; correct it")
}

/// Reads RFC 3339 (`2026-01-10T05:43:15Z`) or Unix milliseconds into Unix milliseconds.
///
/// A fraction of a millisecond rounds up: no event from before the point asked for may count.
///
/// # Errors
/// Why the text is neither; also a number of up to ten digits but 0, which is a time in seconds or a date.
pub fn parse_timestamp(text: &str) -> Result<u64, String> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let ms = text.parse::<u64>().map_err(|_| "the number of milliseconds is too large".to_owned())?;
        // In milliseconds all of these would be early 1970: nearly every stored event would count.
        return match ms {
            1_000_000_000..=9_999_999_999 => {
                Err(format!("this looks like seconds; Unix milliseconds are expected, so {ms}000"))
            }
            1..1_000_000_000 => Err(format!(
                "as Unix milliseconds this is {}; a date is written as 2026-01-10T05:43:15Z",
                format_rfc3339(ms)
            )),
            _ => Ok(ms),
        };
    }
    let timestamp: Timestamp = text.parse().map_err(|_| {
        "neither RFC 3339 with an offset (2026-01-10T05:43:15Z) nor Unix milliseconds".to_owned()
    })?;
    let ns = timestamp.as_nanosecond();
    let ms = ns.div_euclid(1_000_000) + i128::from(ns.rem_euclid(1_000_000) != 0);
    u64::try_from(ms).map_err(|_| "the time is before 1970".to_owned())
}

/// Reads a span of time with its unit: `30s`, `5m`, `6h`, `1h30m`, `250ms`.
///
/// # Errors
/// What form is expected; also for a bare number, a negative span, and one above a hundred years.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let span = text.parse::<SignedDuration>().ok();
    span.and_then(|span| Duration::try_from(span).ok()).filter(|span| *span <= LONGEST).ok_or_else(|| {
        "expected a span of time with its unit, at most 876000h: 250ms, 30s, 5m, 6h".to_owned()
    })
}

/// As [`parse_duration`], where nothing would be no span.
///
/// # Errors
/// Also for zero.
pub fn parse_positive_duration(text: &str) -> Result<Duration, String> {
    let span = parse_duration(text)?;
    if span.is_zero() { Err("expected a time above zero".to_owned()) } else { Ok(span) }
}

/// A span in whole milliseconds, or as many as there can be.
#[must_use]
pub fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// Unix milliseconds as RFC 3339 in UTC (the number itself if it is beyond the year 9999).
#[must_use]
pub fn format_rfc3339(ms: u64) -> String {
    i64::try_from(ms)
        .ok()
        .and_then(|ms| Timestamp::from_millisecond(ms).ok())
        .map_or_else(|| ms.to_string(), |timestamp| timestamp.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_agree() {
        assert_eq!(parse_timestamp("2026-01-10T05:43:15Z"), Ok(1_768_023_795_000));
        assert_eq!(parse_timestamp("2026-01-10T06:43:15+01:00"), Ok(1_768_023_795_000));
        assert_eq!(parse_timestamp("1768023795000"), Ok(1_768_023_795_000));
        assert_eq!(parse_timestamp("0"), Ok(0));
        assert_eq!(format_rfc3339(1_768_023_795_000), "2026-01-10T05:43:15Z");
        assert_eq!(format_rfc3339(1_768_023_795_120), "2026-01-10T05:43:15.12Z");
        assert_eq!(format_rfc3339(u64::MAX), u64::MAX.to_string());
    }

    #[test]
    fn a_fraction_of_a_millisecond_rounds_up() {
        assert_eq!(parse_timestamp("2026-01-10T05:43:15.0001Z"), Ok(1_768_023_795_001));
        assert_eq!(parse_timestamp("2026-01-10T05:43:15.001Z"), Ok(1_768_023_795_001));
    }

    #[test]
    fn spans_have_a_unit() {
        for (text, ms) in [
            ("250ms", 250),
            ("5s", 5000),
            ("0s", 0),
            ("1h30m", 5_400_000),
            ("6h", 21_600_000),
            ("876000h", 3_153_600_000_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "5", "-5s", "soon", "5 parsecs", "876001h"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn unclear_times_are_refused() {
        for text in [
            "",
            "yesterday",
            "-5",
            "1",
            "20260110",
            "1768023795",
            "2026-01-10",
            "2026-01-10T05:43:15",
            "1960-01-01T00:00:00Z",
        ] {
            assert!(parse_timestamp(text).is_err(), "{text}");
        }
    }
}
