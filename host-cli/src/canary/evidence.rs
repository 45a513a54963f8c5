//! Is a report on disk what it claims to be, and does it allow an activation?
//!
//! Looks at name, Markdown header and JSON result separately: a collection report does not become a canary report by
//! being renamed, nor by editing one of them. Digests bind the files to each other and, where the caller knows them, to what
//! was judged.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use ed25519_dalek::VerifyingKey;
use serde::Serialize;
use serde_json::Value;

use crate::attest;
use crate::bounded;
use crate::digest::sha256;
use crate::gate::{Mode, Outcome};
use crate::report::{self, marks};
use crate::stream::{EventId, format_rfc3339, parse_timestamp};

/// One thing that had to be shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Its name.
    pub check: &'static str,
    /// Whether it was shown.
    pub passed: bool,
    /// What was found.
    pub detail: String,
}

impl Finding {
    /// Something that was checked.
    #[must_use]
    pub fn new(check: &'static str, passed: bool, detail: impl Into<String>) -> Self {
        Self { check, passed, detail: detail.into() }
    }
}

/// What a report must say. `None` is not asked for.
#[derive(Clone, Debug, Default)]
pub struct Expected<'a> {
    /// The model that must be eligible.
    pub model: Option<&'a str>,
    /// Start of the judged window, Unix ms.
    pub cutover: Option<u64>,
    /// The report must not be older, Unix ms.
    pub not_before: Option<u64>,
    /// Nor newer.
    pub not_after: Option<u64>,
    /// SHA-256 of the JSON twin.
    pub json_sha256: Option<&'a str>,
    /// SHA-256 of the events the verdict was made from.
    pub events_sha256: Option<&'a str>,
}

/// What a report was found to be.
#[derive(Clone, Debug)]
pub struct Examined {
    /// Every check, in order.
    pub findings: Vec<Finding>,
    /// One of name, header and result says collection.
    pub is_collection: bool,
    /// The JSON twin.
    pub document: Value,
    /// SHA-256 of the JSON twin.
    pub json_sha256: String,
    /// Where the JSON twin is.
    pub json_path: PathBuf,
    /// SHA-256 of the Markdown report.
    pub markdown_sha256: String,
}

impl Examined {
    /// Whether everything was shown.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.findings.iter().all(|finding| finding.passed)
    }

    /// Whether `key` signed these files, as they were when they were examined.
    ///
    /// # Errors
    /// Why the signature does not hold; also if the files were replaced since.
    pub fn ensure_signed_by(&self, key: &VerifyingKey) -> anyhow::Result<()> {
        let statement = attest::verify(&self.json_path, key)?;
        let signs = |digest: &str| {
            let mut subjects = statement["subject"].as_array().into_iter().flatten();
            subjects.any(|subject| subject["digest"]["sha256"] == digest)
        };
        ensure!(
            signs(&self.json_sha256) && signs(&self.markdown_sha256),
            "what is signed beside {} is not what was examined: the files were replaced meanwhile",
            self.json_path.display()
        );
        Ok(())
    }
}

/// Fewest events an activation is decided on, whatever the rules.
pub const LEAST_EVENTS: u64 = 200;

/// Examines the report that `path` names: its Markdown file, its JSON twin or their common stem.
///
/// # Errors
/// One of the two files is missing or cannot be read, or the twin is no JSON.
pub fn examine(path: &Path, expected: &Expected<'_>) -> anyhow::Result<Examined> {
    let stem = match path.extension().and_then(|extension| extension.to_str()) {
        Some("json" | "md" | "html") => path.with_extension(""),
        _ => path.to_owned(),
    };
    let with = |extension: &str| PathBuf::from(format!("{}.{extension}", stem.display()));
    let read = |path: &Path| {
        bounded::read_text(path, bounded::GROWING).with_context(|| {
            format!("cannot read {}: a report is a Markdown file and its JSON twin", path.display())
        })
    };
    let (json_path, markdown_path) = (with("json"), with("md"));
    let (json, markdown) = (read(&json_path)?, read(&markdown_path)?);
    let document: Value =
        serde_json::from_str(&json).with_context(|| format!("{} is no JSON", json_path.display()))?;
    let html_path = with("html");
    let html_sha256 = if html_path.exists() { Some(sha256(read(&html_path)?)) } else { None };
    let name = stem.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let (json_sha256, markdown_sha256) = (sha256(&json), sha256(&markdown));

    let mut findings = vec![
        origin(&document, &markdown),
        result(&document),
        header(&markdown, &document),
        file_name(name, &document),
        digests(&document, &markdown_sha256, html_sha256.as_deref(), &json_sha256, expected),
        own_names(&document, &json_path, &markdown_path),
        events(&document, expected),
        age(&document, expected),
        cutover(&document, expected),
    ];
    if let Some(model) = expected.model {
        findings.push(eligible(&document, model));
    }
    let is_collection = document["mode"] == "collection"
        || name.contains("collection")
        || mode_lines(&markdown).iter().any(|line| line.contains("COLLECTION"));
    Ok(Examined { findings, is_collection, document, json_sha256, json_path, markdown_sha256 })
}

/// Simulated events, as the demo makes them, say nothing about a market.
fn origin(document: &Value, markdown: &str) -> Finding {
    let live = document["synthetic"] == false && !markdown.contains(&format!("**{}:**", marks::SYNTHETIC));
    let detail = if live {
        "the events are live"
    } else {
        "SYNTHETIC: simulated events say nothing about a market, so their report can never activate a model"
    };
    Finding::new("origin", live, detail)
}

fn result(document: &Value) -> Finding {
    let wanted = [
        ("contract", Value::from(report::CONTRACT)),
        ("command", "quality-gate".into()),
        ("mode", "canary".into()),
        ("verdict", "pass".into()),
        ("exit_code", 0.into()),
    ];
    match wanted.iter().find(|(name, value)| document[*name] != *value) {
        None => Finding::new("result", true, "canary mode, pass, exit code 0"),
        Some((name, value)) => {
            Finding::new("result", false, format!("{name} is {}, not {value}", document[*name]))
        }
    }
}

fn mode_lines(markdown: &str) -> Vec<&str> {
    markdown.lines().filter(|line| line.contains(marks::MODE)).collect()
}

fn header(markdown: &str, document: &Value) -> Finding {
    let title = format!("# {}", marks::TITLE);
    let time = marks::time_line(document["timestamp"].as_str().unwrap_or_default());
    let canary = marks::mode_line(Mode::Canary);
    let head: Vec<&str> = markdown.lines().filter(|line| !line.is_empty()).take(3).collect();
    let modes = mode_lines(markdown);
    let fault = if head.first() != Some(&title.as_str()) {
        Some(format!("it does not open with `{title}`"))
    } else if modes.len() != 1 || head.get(2) != modes.first() {
        Some(format!("there are {} MODE lines, one is expected, in the header", modes.len()))
    } else if modes[0] != canary {
        Some(format!("it says {:?}", modes[0]))
    } else if head.get(1) != Some(&time.as_str()) {
        Some("its time is not that of the JSON twin".to_owned())
    } else if !markdown.contains(&marks::verdict_line(Outcome::Pass, Outcome::Pass.exit().code())) {
        Some("its verdict is not PASS".to_owned())
    } else {
        None
    };
    Finding::new("header", fault.is_none(), fault.unwrap_or(canary))
}

fn file_name(name: &str, document: &Value) -> Finding {
    let time = document["timestamp"].as_str().and_then(|text| parse_timestamp(text).ok()).map(marks::second);
    let fault = match (name.strip_prefix(marks::STEM), time) {
        _ if name.contains("collection") => Some("it says collection".to_owned()),
        (Some(rest), Some(time)) => match rest.strip_prefix(time.as_str()) {
            Some(suffix) if is_post_cutover(suffix) => None,
            Some(_) => Some("it does not say post_cutover".to_owned()),
            None => Some(format!("its time is not that of the report, {time}")),
        },
        _ => Some("it is not the name of a report".to_owned()),
    };
    Finding::new(
        "name",
        fault.is_none(),
        format!("{name}{}", fault.map_or_else(String::new, |fault| format!(": {fault}"))),
    )
}

/// `_post_cutover`, and a number that keeps reports of one second apart.
fn is_post_cutover(suffix: &str) -> bool {
    suffix.strip_prefix(marks::POST_CUTOVER).is_some_and(|rest| {
        rest.is_empty()
            || rest.strip_prefix('_').is_some_and(|number| {
                !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit())
            })
    })
}

fn digests(
    document: &Value,
    markdown: &str,
    html: Option<&str>,
    json: &str,
    expected: &Expected<'_>,
) -> Finding {
    let told = &document["report"]["sha256"];
    let fault = if told["markdown"] != markdown {
        Some("the Markdown report is not the one the JSON twin was written with")
    } else if told["html"].as_str() != html {
        Some("the HTML page is not the one the JSON twin was written with")
    } else if expected.json_sha256.is_some_and(|expected| expected != json) {
        Some("the JSON twin is not the one that was written")
    } else if expected.events_sha256.is_some_and(|expected| document["evidence"]["sha256"] != expected) {
        Some("the verdict was made from other events")
    } else {
        None
    };
    Finding::new("digests", fault.is_none(), fault.map_or_else(|| format!("JSON twin {json}"), str::to_owned))
}

fn own_names(document: &Value, json: &Path, markdown: &Path) -> Finding {
    let same = |name: &str, path: &Path| {
        let told = document["report"][name].as_str().map(Path::new);
        told.and_then(Path::file_name) == path.file_name()
    };
    let passed = same("json", json) && same("markdown", markdown);
    let detail =
        if passed { "the files bear the names they were written under" } else { "the files were renamed" };
    Finding::new("own_names", passed, detail)
}

fn events(document: &Value, expected: &Expected<'_>) -> Finding {
    let count = document["events"]["count"].as_u64().unwrap_or(0);
    let first = document["evidence"]["first_id"].as_str().and_then(|id| Some(id.parse::<EventId>().ok()?.ms));
    let before = expected.cutover.is_some_and(|cutover| first.is_none_or(|first| first < cutover));
    let detail = if before {
        "it judged events from before the cutover".to_owned()
    } else {
        format!("{count} events, at least {LEAST_EVENTS} are needed")
    };
    Finding::new("events", count >= LEAST_EVENTS && !before, detail)
}

fn age(document: &Value, expected: &Expected<'_>) -> Finding {
    let Some(made) = document["timestamp"].as_str().and_then(|text| parse_timestamp(text).ok()) else {
        return Finding::new("age", false, "it bears no time");
    };
    let made_at = format_rfc3339(made);
    let (passed, detail) = match (expected.not_before, expected.not_after) {
        (Some(from), _) if made < from => (false, format!("made {made_at}, before {}", format_rfc3339(from))),
        (_, Some(to)) if made > to => (false, format!("made {made_at}, after {}", format_rfc3339(to))),
        _ => (true, format!("made {made_at}")),
    };
    Finding::new("age", passed, detail)
}

fn cutover(document: &Value, expected: &Expected<'_>) -> Finding {
    let told = document["cutover"].as_str();
    let passed = match expected.cutover {
        Some(cutover) => told == Some(format_rfc3339(cutover).as_str()),
        None => told.is_some(),
    };
    let detail = match (passed, told, expected.cutover) {
        (true, Some(told), _) => told.to_owned(),
        (_, told, Some(cutover)) => {
            format!("it is {}, not {}", told.unwrap_or("none"), format_rfc3339(cutover))
        }
        _ => "it has none".to_owned(),
    };
    Finding::new("cutover", passed, detail)
}

fn eligible(document: &Value, model: &str) -> Finding {
    let listed = document["eligible"].as_array().is_some_and(|names| names.iter().any(|name| name == model));
    let verdict = &document["models"][model];
    let clean = verdict["verdict"] == "pass" && verdict["failures"].as_array().is_some_and(Vec::is_empty);
    let detail = match (listed, clean) {
        (true, true) => format!("{model} passed"),
        (false, false) => format!("{model} is not eligible: {}", failures(verdict)),
        _ => format!("the report contradicts itself about {model}"),
    };
    Finding::new("eligible", listed && clean, detail)
}

fn failures(verdict: &Value) -> String {
    if verdict.is_null() {
        return "it is not in the telemetry".to_owned();
    }
    let details: Vec<&str> = verdict["failures"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|failure| failure["detail"].as_str())
        .collect();
    details.join("; ")
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_signature_of_files_that_were_replaced_since_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let json = directory.path().join("report.json");
        let key = SigningKey::from_bytes(&[7; 32]);
        let put = |verdict: &str| {
            let twin = json!({
                "command": "quality-gate",
                "verdict": verdict,
                "models": {},
                "report": {"sha256": {"markdown": sha256(verdict)}},
            });
            std::fs::write(&json, twin.to_string()).unwrap();
            std::fs::write(directory.path().join("report.md"), verdict).unwrap();
            attest::sign(&json, &key).unwrap();
        };
        put("pass");
        let examined = examine(&json, &Expected::default()).unwrap();
        examined.ensure_signed_by(&key.verifying_key()).unwrap();
        put("fail");
        attest::verify(&json, &key.verifying_key()).unwrap();
        let replaced = examined.ensure_signed_by(&key.verifying_key()).unwrap_err();
        assert!(replaced.to_string().contains("replaced meanwhile"), "{replaced}");
    }
}
