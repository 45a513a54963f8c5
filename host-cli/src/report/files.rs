//! Report files: a Markdown report, its page and its JSON twin under one stem, never overwritten.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::Serialize;

use super::marks::{POST_CUTOVER, STEM, second};
use crate::digest::sha256;
use crate::gate::{Mode, QualityVerdict};
use crate::stream::create_new;

/// The files of one report; serializes as the contract's `report`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReportFiles {
    /// The Markdown report.
    pub markdown: PathBuf,
    /// Its JSON twin.
    pub json: PathBuf,
    /// The same for a browser; `None` where none is rendered.
    pub html: Option<PathBuf>,
    /// SHA-256 of the files, in hex.
    pub sha256: Digests,
}

/// SHA-256 of report files, in hex.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Digests {
    /// Of the Markdown report.
    pub markdown: String,
    /// Of the HTML page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub html: Option<String>,
    /// Of the JSON twin; the twin itself cannot hold it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub json: Option<String>,
}

/// More reports of one second than anyone makes: beyond, something is wrong with the directory.
const MAX_SAME_SECOND: u32 = 10_000;

/// The stem of a quality report made at `now` (Unix ms), without the suffix that keeps it apart from others of that
/// second.
pub(super) fn quality_stem(verdict: &QualityVerdict, now: u64) -> String {
    let collection = if verdict.mode == Mode::Collection { "_collection" } else { "" };
    let post_cutover = if verdict.cutover.is_some() { POST_CUTOVER } else { "" };
    format!("{STEM}{}{collection}{post_cutover}", second(now))
}

/// Writes `markdown`, `html` and then the twin that `twin` makes, under the first stem that is free for all.
///
/// The twin comes last: where it exists, everything it names exists.
pub(super) fn publish(
    directory: &Path,
    base: &str,
    markdown: &str,
    html: Option<&str>,
    twin: impl Fn(&ReportFiles) -> String,
) -> anyhow::Result<ReportFiles> {
    let cannot = || {
        format!(
            "cannot write the report into {}; name another directory with --report-dir",
            directory.display()
        )
    };
    if directory.to_str().is_none() {
        bail!("{}: its name is no UTF-8 text, which JSON cannot hold", cannot());
    }
    fs::create_dir_all(directory).with_context(cannot)?;
    for number in 1..=MAX_SAME_SECOND {
        let stem = if number == 1 { base.to_owned() } else { format!("{base}_{number}") };
        let path = |extension: &str| directory.join(format!("{stem}.{extension}"));
        let mut files = ReportFiles {
            markdown: path("md"),
            json: path("json"),
            html: html.map(|_| path("html")),
            sha256: Digests { markdown: sha256(markdown), html: html.map(sha256), json: None },
        };
        let json = twin(&files);
        let contents = [
            (Some(&files.markdown), markdown),
            (files.html.as_ref(), html.unwrap_or("")),
            (Some(&files.json), json.as_str()),
        ];
        if write_all(contents.into_iter().filter_map(|(path, text)| Some((path?, text))))
            .with_context(cannot)?
        {
            files.sha256.json = Some(sha256(&json));
            return Ok(files);
        }
    }
    bail!("{}: {MAX_SAME_SECOND} reports are there that are named {base}", cannot())
}

/// All files or none; `false` if one of the names is taken.
fn write_all<'file>(files: impl Iterator<Item = (&'file PathBuf, &'file str)>) -> io::Result<bool> {
    let mut written = Vec::new();
    for (path, text) in files {
        let result = create_new(path, text.as_bytes());
        if !matches!(result, Ok(true)) {
            written.into_iter().try_for_each(fs::remove_file)?;
            return result;
        }
        written.push(path);
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publish_in(directory: &Path) -> ReportFiles {
        let twin = |files: &ReportFiles| format!("{}\n", files.markdown.display());
        publish(directory, "quality_gate_x", "# R\n", Some("<p>"), twin).unwrap()
    }

    #[test]
    fn same_second_reports_keep_one_stem_for_both_twins() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        let first = publish_in(directory);
        assert_eq!(first.markdown, directory.join("quality_gate_x.md"));
        // Some file of the second and third name is taken.
        fs::write(directory.join("quality_gate_x_2.json"), "other").unwrap();
        fs::write(directory.join("quality_gate_x_3.md"), "other").unwrap();
        let next = publish_in(directory);
        assert_eq!(next.markdown, directory.join("quality_gate_x_4.md"));
        assert_eq!(next.json, directory.join("quality_gate_x_4.json"));
        assert_eq!(fs::read_to_string(&next.json).unwrap(), format!("{}\n", next.markdown.display()));
        assert!(!directory.join("quality_gate_x_2.md").exists(), "no half report is left");
        assert_eq!(fs::read_to_string(directory.join("quality_gate_x_2.json")).unwrap(), "other");
        assert_eq!(fs::read_to_string(next.html.unwrap()).unwrap(), "<p>");
        assert_eq!(fs::read_dir(directory).unwrap().count(), 8);
    }

    #[test]
    fn racing_reports_all_find_a_name() {
        let directory = tempfile::tempdir().unwrap();
        let reports: Vec<ReportFiles> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| publish_in(directory.path()))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for report in &reports {
            let twin = fs::read_to_string(&report.json).unwrap();
            assert_eq!(twin.trim_end(), report.markdown.display().to_string());
        }
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 24);
    }
}
