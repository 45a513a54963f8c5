//! The audit log: one JSON object per line, each bound to the one before it by SHA-256.
//!
//! The hash of a line is that of its canonical JSON without `hash`: members sorted by name at every depth, no white
//! space, text as UTF-8 with only what JSON demands escaped, whole numbers only. In Python:
//! `d = json.loads(line); h = d.pop("hash"); sha256(json.dumps(d, sort_keys=True, separators=(",", ":"),
//! ensure_ascii=False).encode()).hexdigest() == h`. The line itself is the canonical JSON with `hash`, so that no byte of
//! it can change unseen. `prev` is the hash of the line before, of the first one 64 zeros.
//!
//! `audit.head` repeats the last `seq` and `hash`: lines cut off at the end are missed there. The line is synced before
//! the head is replaced, so that after a crash one whole line may lie beyond it; [`AuditLog::recover`] takes it in.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::actor::Actor;
use crate::bounded;
use crate::digest;
use crate::stream::replace_durably;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transition {
    /// A canary became active.
    Activated,
    /// The change recorded before is not in place, as after a crash between record and weights: it was taken back.
    Voided,
    /// The baseline is in force again.
    RolledBack,
    /// A rollback came while an activation was judged, which then changes nothing.
    Withdrawn,
    /// A canary's weights became the baseline.
    Promoted,
    /// A monitor began to watch.
    WatchStarted,
    /// A monitor watched to the end and found nothing.
    WatchPassed,
}

/// One line.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// From 1, without gaps.
    pub seq: u64,
    /// RFC 3339, UTC.
    pub ts: String,
    /// What happened.
    pub event: Transition,
    /// The model it is about.
    pub model: Option<String>,
    /// Generation of the weights it made or speaks of.
    pub generation: u64,
    /// Who did it.
    pub actor: Actor,
    /// Evidence, reason, digests; what there is depends on `event`.
    pub details: Map<String, Value>,
    /// Hash of the line before.
    pub prev: String,
    /// Hash of this line.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hash: String,
}

impl Entry {
    /// A text among the details.
    #[must_use]
    pub fn detail(&self, name: &str) -> Option<&str> {
        self.details.get(name).and_then(Value::as_str)
    }
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    seq: u64,
    hash: String,
}

/// What is wrong with the log, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The first bad line, from 1; `None` if the head is what is wrong.
    pub line: Option<u64>,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(formatter, "line {line}: {}", self.reason),
            None => formatter.write_str(&self.reason),
        }
    }
}

impl std::error::Error for Broken {}

/// A log whose every line holds.
#[derive(Debug, Default)]
pub struct Chain {
    /// The lines.
    pub entries: Vec<Entry>,
    /// The last line is not in `audit.head` yet.
    pub beyond_head: bool,
}

const FIRST_PREV: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// The two files of a log.
#[derive(Clone, Debug)]
pub struct AuditLog {
    lines: PathBuf,
    head: PathBuf,
}

impl AuditLog {
    /// The log in `directory`.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self { lines: directory.join("audit.jsonl"), head: directory.join("audit.head") }
    }

    /// Reads and verifies every line.
    ///
    /// # Errors
    /// A file cannot be read; [`Broken`] where it can and does not hold.
    pub fn read(&self) -> anyhow::Result<Chain> {
        let (chain, torn) = self.read_whole_lines()?;
        match torn {
            None => Ok(chain),
            Some(_) => Err(Broken {
                line: Some(chain.entries.len() as u64 + 1),
                reason: "the line is cut off".to_owned(),
            }
            .into()),
        }
    }

    /// Whether all that is wrong is what a crash leaves at the end: [`recover`](Self::recover) mends it.
    #[must_use]
    pub fn is_unfinished(&self) -> bool {
        self.read_whole_lines().is_ok_and(|(chain, torn)| torn.is_some() && !chain.beyond_head)
    }

    /// Whether none of its files is there.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        !self.lines.exists() && !self.head.exists()
    }

    /// The largest generation that the lines tell, whether they hold or not.
    #[must_use]
    pub fn generation_told(&self) -> u64 {
        read_optional(&self.lines).ok().flatten().map_or(0, |lines| generation_told(&lines))
    }

    /// Takes in what a crash left: a whole line beyond the head, or the beginning of a line that was never finished.
    ///
    /// # Errors
    /// As [`read`](Self::read), or the files cannot be written.
    pub fn recover(&self) -> anyhow::Result<Chain> {
        let (mut chain, torn) = self.read_whole_lines()?;
        if let Some(whole) = torn {
            // An append that was never acknowledged: the head proves that the lines before it are all there were.
            if chain.beyond_head {
                return Err(Broken {
                    line: Some(chain.entries.len() as u64),
                    reason: "this line and a part of another lie beyond the head".to_owned(),
                }
                .into());
            }
            let file =
                OpenOptions::new().write(true).open(&self.lines).with_context(|| self.cannot_write())?;
            file.set_len(whole).and_then(|()| file.sync_all()).with_context(|| self.cannot_write())?;
        }
        if chain.beyond_head {
            self.write_head(chain.entries.last())?;
            chain.beyond_head = false;
        }
        Ok(chain)
    }

    /// The whole lines, verified, and where they end if something follows.
    fn read_whole_lines(&self) -> anyhow::Result<(Chain, Option<u64>)> {
        // Readers hold no lock. The head first: a line appended in between then lies beyond it, as after a crash.
        let mut head = read_optional(&self.head)?;
        loop {
            let read = self.whole_lines_of(head.as_deref());
            let now = read_optional(&self.head)?;
            if read.is_ok() || now == head {
                return read;
            }
            // More than one line came in between.
            head = now;
        }
    }

    fn whole_lines_of(&self, head: Option<&[u8]>) -> anyhow::Result<(Chain, Option<u64>)> {
        let head = head.map(parse_head).transpose()?;
        let text = read_optional(&self.lines)?.unwrap_or_default();
        let whole = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        let mut entries: Vec<Entry> = Vec::new();
        for line in text[..whole].split_inclusive(|&byte| byte == b'\n') {
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            let prev = entries.last().map_or(FIRST_PREV, |entry| entry.hash.as_str());
            let seq = entries.len() as u64 + 1;
            let entry = check_line(line, seq, prev).map_err(|reason| Broken { line: Some(seq), reason })?;
            entries.push(entry);
        }
        let beyond_head = beyond(&entries, head.as_ref())?;
        Ok((Chain { entries, beyond_head }, (whole < text.len()).then_some(whole as u64)))
    }

    /// Appends a line to a log that was read as `chain`. The caller holds the lock of the state.
    ///
    /// # Errors
    /// The line could not be written and synced: the log is then as it was. Or the head could not be replaced: the line is
    /// then in the log, beyond its head, and the next command takes it in.
    pub fn append(
        &self,
        chain: &mut Chain,
        event: Transition,
        model: Option<&str>,
        generation: u64,
        details: Map<String, Value>,
    ) -> anyhow::Result<()> {
        let mut entry = Entry {
            seq: chain.entries.len() as u64 + 1,
            ts: jiff::Timestamp::now().to_string(),
            event,
            model: model.map(str::to_owned),
            generation,
            actor: Actor::current(),
            details,
            prev: chain.entries.last().map_or(FIRST_PREV, |entry| entry.hash.as_str()).to_owned(),
            hash: String::new(),
        };
        entry.hash = hash(&entry);
        let line = format!("{}\n", canonical(&value(&entry)));
        self.append_line(line.as_bytes()).with_context(|| self.cannot_write())?;
        chain.entries.push(entry);
        self.write_head(chain.entries.last())
    }

    fn append_line(&self, line: &[u8]) -> io::Result<()> {
        let is_new = !self.lines.exists();
        let mut file = OpenOptions::new().create(true).append(true).open(&self.lines)?;
        let before = file.metadata()?.len();
        let written = file.write_all(line).and_then(|()| file.sync_all());
        if written.is_err() {
            // A full disk must not leave half a line.
            file.set_len(before)?;
            file.sync_all()?;
        } else if is_new && let Some(directory) = self.lines.parent() {
            File::open(directory)?.sync_all()?;
        }
        written
    }

    fn write_head(&self, last: Option<&Entry>) -> anyhow::Result<()> {
        let Some(Entry { seq, hash, .. }) = last else { return Ok(()) };
        let head = Head { seq: *seq, hash: hash.clone() };
        let text = serde_json::to_string(&head).context("the head serializes")? + "\n";
        replace_durably(&self.head, text.as_bytes())
            .with_context(|| format!("cannot write {}", self.head.display()))
    }

    fn cannot_write(&self) -> String {
        format!("cannot write {}", self.lines.display())
    }
}

fn read_optional(path: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    match bounded::read_state(path, bounded::GROWING) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(anyhow!(error).context(format!("cannot read {}", path.display()))),
    }
}

/// The largest generation that bytes tell which may be torn or edited: what no count has reached is not believed.
#[must_use]
pub fn generation_told(bytes: &[u8]) -> u64 {
    const NAME: &str = "\"generation\":";
    let text = String::from_utf8_lossy(bytes);
    let number = |rest: &str| {
        let rest = rest.trim_start();
        let end = rest.find(|digit: char| !digit.is_ascii_digit()).unwrap_or(rest.len());
        rest[..end].parse().ok().filter(|&generation: &u64| generation <= u64::from(u32::MAX))
    };
    text.split(NAME).skip(1).filter_map(number).max().unwrap_or(0)
}

fn parse_head(text: &[u8]) -> Result<Head, Broken> {
    serde_json::from_slice(text)
        .map_err(|error| Broken { line: None, reason: format!("audit.head is no head: {error}") })
}

fn check_line(line: &[u8], seq: u64, prev: &str) -> Result<Entry, String> {
    let value: Value = serde_json::from_slice(line).map_err(|error| format!("it is no JSON: {error}"))?;
    let entry: Entry =
        serde_json::from_value(value.clone()).map_err(|error| format!("it is no entry: {error}"))?;
    if canonical(&value).as_bytes() != line {
        return Err("it is not written as the log writes lines".to_owned());
    }
    if entry.hash != hash(&entry) {
        return Err("its hash is not that of its content: it was changed".to_owned());
    }
    if entry.prev != prev {
        return Err(
            "it does not follow the line before it: lines were changed, removed or reordered".to_owned()
        );
    }
    if entry.seq != seq {
        return Err(format!("its seq is {}, expected {seq}", entry.seq));
    }
    Ok(entry)
}

/// Whether the last line is beyond the head; everything else that differs from it is broken.
fn beyond(entries: &[Entry], head: Option<&Head>) -> Result<bool, Broken> {
    let at = |entry: Option<&Entry>| entry.map(|entry| Head { seq: entry.seq, hash: entry.hash.clone() });
    let (last, before) = match entries {
        [] => (None, None),
        [only] => (at(Some(only)), None),
        [.., before, last] => (at(Some(last)), at(Some(before))),
    };
    if head == last.as_ref() {
        Ok(false)
    } else if !entries.is_empty() && head == before.as_ref() {
        Ok(true)
    } else {
        let lines = entries.len() as u64;
        let (line, reason) = match head {
            None => (None, format!("audit.head is missing, but there are {lines} lines")),
            Some(head) if head.seq > lines => (
                Some(lines + 1),
                format!("it is missing: the log ends after {lines} lines, audit.head knows of {}", head.seq),
            ),
            Some(head) if head.seq + 1 < lines => (
                Some(head.seq + 1),
                format!("{} lines lie beyond audit.head; a crash leaves at most one", lines - head.seq),
            ),
            Some(head) => (Some(head.seq), "its hash is not the one in audit.head".to_owned()),
        };
        Err(Broken { line, reason })
    }
}

fn value(entry: &Entry) -> Value {
    serde_json::to_value(entry).expect("texts and whole numbers serialize")
}

fn hash(entry: &Entry) -> String {
    let bare = Entry { hash: String::new(), ..entry.clone() };
    digest::sha256(canonical(&value(&bare)))
}

/// Canonical JSON: members sorted by name, no white space.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let mut members: Vec<(&String, &Value)> = members.iter().collect();
            members.sort_unstable_by_key(|(name, _)| *name);
            let member = |(name, value): (&String, &Value)| {
                format!("{}:{}", Value::String(name.clone()), canonical(value))
            };
            format!("{{{}}}", members.into_iter().map(member).collect::<Vec<_>>().join(","))
        }
        Value::Array(items) => {
            format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(","))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn log_of(lines: usize) -> (tempfile::TempDir, AuditLog) {
        let directory = tempfile::tempdir().unwrap();
        let log = AuditLog::new(directory.path());
        let mut chain = Chain::default();
        for generation in 1..=lines as u64 {
            let mut details = Map::new();
            details.insert("reason".to_owned(), Value::String("Zürich \"q\" \u{1}".to_owned()));
            log.append(&mut chain, Transition::Activated, Some("xgb"), generation, details).unwrap();
        }
        (directory, log)
    }

    #[test]
    fn a_whole_log_verifies_and_grows() {
        let (_directory, log) = log_of(3);
        let mut chain = log.read().unwrap();
        assert_eq!(chain.entries.len(), 3);
        log.append(&mut chain, Transition::RolledBack, None, 4, Map::new()).unwrap();
        assert_eq!(log.read().unwrap().entries.len(), 4);
    }

    #[test]
    fn every_flipped_byte_is_found() {
        let (_directory, log) = log_of(2);
        let text = fs::read(&log.lines).unwrap();
        for at in 0..text.len() {
            let mut flipped = text.clone();
            flipped[at] ^= 1;
            fs::write(&log.lines, &flipped).unwrap();
            assert!(log.read().is_err(), "byte {at} changed unseen");
        }
    }

    #[test]
    fn the_first_bad_line_is_named() {
        let broken = |edit: &dyn Fn(&mut Vec<String>)| {
            let (_directory, log) = log_of(4);
            let text = fs::read_to_string(&log.lines).unwrap();
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            edit(&mut lines);
            fs::write(&log.lines, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
            log.read().unwrap_err().downcast::<Broken>().unwrap().line
        };
        assert_eq!(broken(&|lines| drop(lines.remove(1))), Some(2), "missing");
        assert_eq!(broken(&|lines| lines.swap(1, 2)), Some(2), "reordered");
        assert_eq!(broken(&|lines| lines[2] = lines[2].replace("xgb", "lgbm")), Some(3), "changed");
        assert_eq!(broken(&|lines| drop(lines.pop())), Some(4), "cut off at the end");
        assert_eq!(broken(&|lines| lines.clear()), Some(1), "emptied");
        assert_eq!(broken(&|lines| lines[0] = lines[0].replace("\":", "\": ")), Some(1), "reformatted");
    }

    #[test]
    fn one_whole_line_may_lie_beyond_the_head_and_no_more() {
        let (_directory, log) = log_of(1);
        let heads: Vec<Vec<u8>> = (0..2)
            .map(|_| {
                let head = fs::read(&log.head).unwrap();
                let mut chain = log.read().unwrap();
                log.append(&mut chain, Transition::RolledBack, None, 9, Map::new()).unwrap();
                head
            })
            .collect();
        fs::write(&log.head, &heads[1]).unwrap();
        assert!(log.read().unwrap().beyond_head);
        fs::write(&log.head, &heads[0]).unwrap();
        assert_eq!(log.read().unwrap_err().downcast::<Broken>().unwrap().line, Some(2));

        fs::write(&log.head, &heads[1]).unwrap();
        assert!(!log.recover().unwrap().beyond_head);
        assert!(!log.read().unwrap().beyond_head);
        fs::remove_file(&log.head).unwrap();
        assert!(log.read().is_err());
    }

    #[test]
    fn an_unfinished_line_is_broken_until_recovered() {
        let (_directory, log) = log_of(2);
        let text = fs::read(&log.lines).unwrap();
        let torn = [&text[..], b"{\"actor\":"].concat();
        fs::write(&log.lines, &torn).unwrap();
        assert_eq!(log.read().unwrap_err().downcast::<Broken>().unwrap().line, Some(3));
        assert_eq!(log.recover().unwrap().entries.len(), 2);
        assert_eq!(fs::read(&log.lines).unwrap(), text);
        // What the head knows of is no unfinished line.
        fs::write(&log.lines, &text[..text.len() - 9]).unwrap();
        assert!(log.recover().is_err());
    }
}
