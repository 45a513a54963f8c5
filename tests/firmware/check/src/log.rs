//! The firmware's log: defmt frames, decoded by the strings in its ELF file.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail, ensure};
use defmt_decoder::{DecodeError, Table};

/// Instructions that `measure::calibrate` runs.
const CALIBRATION: f64 = 1_000_000.0;

/// What a firmware said.
#[derive(Default)]
pub(crate) struct Log {
    /// What the host says too.
    pub(crate) lines: Vec<String>,
    /// Stack and instructions, by model and entry point.
    pub(crate) calls: BTreeMap<String, Call>,
    /// Instructions of a tree, by model.
    pub(crate) trees: BTreeMap<String, f64>,
    /// The deepest stack of the whole run, harness and all.
    pub(crate) deepest: u64,
}

/// What calls of one entry point took.
#[derive(Default)]
pub(crate) struct Call {
    /// The most stack one of them used.
    pub(crate) stack: u64,
    /// Instructions of all of them; `None` if one was longer than the clock.
    instructions: Option<f64>,
    count: u32,
}

impl Call {
    /// Instructions of a call, on average.
    pub(crate) fn instructions(&self) -> Option<f64> {
        Some(self.instructions? / f64::from(self.count))
    }
}

/// Decodes and sorts a log.
pub(crate) fn read(elf: &[u8], bytes: &[u8]) -> anyhow::Result<Log> {
    let table = Table::parse(elf)?.context("the firmware has no .defmt section")?;
    let mut decoder = table.new_stream_decoder();
    decoder.received(bytes);
    let mut log = Log::default();
    let mut per_tick = None;
    loop {
        match decoder.decode() {
            Ok(frame) => log.take(frame.display_message().to_string(), &mut per_tick)?,
            Err(DecodeError::UnexpectedEof) => return Ok(log),
            Err(DecodeError::Malformed) => bail!("the log holds bytes that are no defmt frame"),
        }
    }
}

impl Log {
    fn take(&mut self, line: String, per_tick: &mut Option<f64>) -> anyhow::Result<()> {
        let strange = || format!("a line of the log is strange: {line}");
        let Some((kind, (what, figures))) =
            line.split_once(' ').and_then(|(kind, rest)| Some((kind, rest.rsplit_once(": ")?)))
        else {
            return self.other(line, per_tick);
        };
        if !matches!(kind, "call" | "walk") {
            return self.other(line, per_tick);
        }
        let figures: Vec<u64> =
            figures.split(' ').map(str::parse).collect::<Result<_, _>>().with_context(strange)?;
        let per_tick = per_tick.with_context(|| "the clock was not calibrated before it was used")?;
        match (kind, figures.as_slice()) {
            ("call", &[stack, ticks]) => {
                let first = Call { instructions: Some(0.0), ..Call::default() };
                let call = self.calls.entry(what.to_owned()).or_insert(first);
                call.stack = call.stack.max(stack);
                call.count += 1;
                let ticks = (ticks != u64::from(u32::MAX)).then_some(ticks as f64 * per_tick);
                call.instructions = call.instructions.zip(ticks).map(|(sum, more)| sum + more);
            }
            ("walk", &[trees, ticks]) => {
                // Every row is walked by the same instructions, but for what a compare skips.
                let now = ticks as f64 * per_tick / trees as f64;
                let most = self.trees.entry(what.to_owned()).or_insert(now);
                *most = most.max(now);
            }
            _ => bail!(strange()),
        }
        Ok(())
    }

    /// A line about the board as a whole, or one that the host says too.
    fn other(&mut self, line: String, per_tick: &mut Option<f64>) -> anyhow::Result<()> {
        if let Some(ticks) = line.strip_prefix("calibrated: ") {
            let ticks: f64 = ticks.trim_end_matches(" ticks").parse()?;
            ensure!((1_000.0..CALIBRATION).contains(&ticks), "a million instructions took {ticks} ticks");
            *per_tick = Some(CALIBRATION / ticks);
        } else if let Some(bytes) = line.strip_prefix("stack: ") {
            self.deepest = bytes.parse()?;
        } else {
            self.lines.push(line);
        }
        Ok(())
    }
}
