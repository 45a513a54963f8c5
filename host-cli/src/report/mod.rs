//! One verdict rendered as text, JSON, Markdown and HTML: all from the same value, so they cannot disagree.
//!
//! | file | does |
//! | --- | --- |
//! | `text`, `markdown`, `html`, `document` | a verdict in one form each; `document` is the JSON of the contract |
//! | `scoreboard` | the scoreboard as text and Markdown |
//! | `spelling` | how all of them spell values and foreign names |
//! | `marks` | what a quality report is known by: activation looks for it |
//! | `svg` | charts of the page |
//! | `files` | the files of a report, under one stem, never overwritten |

mod document;
mod files;
mod html;
mod markdown;
pub(crate) mod marks;
mod scoreboard;
mod spelling;
mod svg;
mod text;

use std::io::{self, Write as _};
use std::path::Path;

use anyhow::Context as _;
use serde_json::Value;

use crate::gate::{Evidence, QualityVerdict, SanityVerdict, Scoreboard};

pub use files::ReportFiles;
pub(crate) use spelling::{one_line, percent};

/// How results are written to stdout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For machines: one JSON document and nothing else.
    Json,
}

/// Version of the outward contract, in every JSON document.
pub const CONTRACT: u32 = 1;

/// What a report says about its making, besides the verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// When it was made, Unix ms.
    pub now: u64,
    /// Where the events came from, without secrets.
    pub source: String,
    /// The build that judged.
    pub build: String,
    /// The events are simulated: every rendering says so at its head.
    pub synthetic: bool,
}

impl Header {
    /// The same header over these events: that they are simulated they may say themselves.
    fn over(&self, evidence: &Evidence) -> Self {
        Self { synthetic: self.synthetic || evidence.simulated > 0, ..self.clone() }
    }
}

/// A quality report that exists on disk.
#[derive(Clone, Debug)]
pub struct QualityReport {
    /// For people.
    pub text: String,
    /// For machines.
    pub document: Value,
    /// The files.
    pub files: ReportFiles,
}

/// Renders `verdict` and writes the Markdown report, its HTML page and their JSON twin into `directory`, which is
/// created if missing.
///
/// No file is overwritten: if the second's name is taken, the next free one is used.
///
/// # Errors
/// The directory cannot be created or written; no half report is left behind.
pub fn write_quality(
    verdict: &QualityVerdict,
    header: &Header,
    directory: &Path,
) -> anyhow::Result<QualityReport> {
    let header = &header.over(&verdict.evidence);
    let markdown = markdown::quality(verdict, header);
    let html = html::quality(verdict, header);
    let twin = |files: &ReportFiles| json(&document::quality(verdict, header, files));
    let stem = files::quality_stem(verdict, header.now);
    let files = files::publish(directory, &stem, &markdown, Some(&html), twin)?;
    Ok(QualityReport {
        text: text::quality(verdict, header, &files),
        document: document::quality(verdict, header, &files),
        files,
    })
}

/// Writes a scoreboard's Markdown and its JSON twin into `directory`, and returns it for people and for machines.
///
/// # Errors
/// The directory cannot be created or written.
pub fn write_scoreboard(
    verdict: &QualityVerdict,
    header: &Header,
    directory: &Path,
) -> anyhow::Result<(String, Value)> {
    let header = &header.over(&verdict.evidence);
    let board = Scoreboard::of(verdict);
    let markdown = scoreboard::markdown(&board, verdict, header);
    let document = |files: &ReportFiles| document::scoreboard(&board, verdict, header, files);
    let stem = format!("scoreboard_{}", marks::second(header.now));
    let files = files::publish(directory, &stem, &markdown, None, |files| json(&document(files)))?;
    Ok((scoreboard::text(&board, verdict, header, &files), document(&files)))
}

/// The verdict of feature-sanity for people.
#[must_use]
pub fn sanity_text(verdict: &SanityVerdict, header: &Header) -> String {
    text::sanity(verdict, &header.over(&verdict.evidence))
}

/// The verdict of feature-sanity for machines.
#[must_use]
pub fn sanity_document(verdict: &SanityVerdict, header: &Header) -> Value {
    document::sanity(verdict, &header.over(&verdict.evidence))
}

/// A document as it is printed and written.
#[must_use]
pub fn json(document: &Value) -> String {
    format!("{document:#}\n")
}

/// Writes a result to stdout.
///
/// # Errors
/// It could not be written, e.g. because the reader closed the pipe: then nobody has the result.
pub fn print(result: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(result.as_bytes())
        .and_then(|()| stdout.flush())
        .context("cannot write the result to stdout")
}
