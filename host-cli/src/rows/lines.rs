//! Numbered lines of text.

use std::io::{BufRead, Read as _};

use anyhow::{Context, anyhow, ensure};

/// Longest line read: a row of a million features in sixteen digits each.
const MAX_LINE: usize = 16 << 20;
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Lines without their ends (`\n`, `\r\n`) and without the byte order mark some programs put first.
pub(super) struct Lines<R> {
    reader: R,
    number: usize,
    first_blank: Option<usize>,
    buffer: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader, number: 0, first_blank: None, buffer: Vec::new() }
    }

    /// The next line that is not blank, and its number from 1; or `None` at the end.
    pub(super) fn next_filled(&mut self) -> anyhow::Result<Option<(usize, &str)>> {
        loop {
            self.buffer.clear();
            let mut line = self.reader.by_ref().take(MAX_LINE as u64 + 1);
            let read = line.read_until(b'\n', &mut self.buffer).context("cannot be read")?;
            if read == 0 {
                return Ok(None);
            }
            self.number += 1;
            ensure!(
                read <= MAX_LINE,
                "line {} is longer than {} MiB: write one row per line",
                self.number,
                MAX_LINE >> 20
            );
            if self.number == 1 && self.buffer.starts_with(BYTE_ORDER_MARK) {
                self.buffer.drain(..BYTE_ORDER_MARK.len());
            }
            if !self.buffer.trim_ascii().is_empty() {
                break;
            }
            self.first_blank.get_or_insert(self.number);
        }
        let text = str::from_utf8(&self.buffer);
        let text =
            text.map_err(|_| anyhow!("line {} is no UTF-8 text: save the file as UTF-8", self.number))?;
        Ok(Some((self.number, text.trim_end_matches(['\n', '\r']))))
    }

    /// The number of the first blank line passed so far.
    pub(super) fn first_blank(&self) -> Option<usize> {
        self.first_blank
    }
}
