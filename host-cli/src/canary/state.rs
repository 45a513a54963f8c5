//! The state directory: its files, its locks, and what they say together.
//!
//! | file | holds |
//! | --- | --- |
//! | `weights.json` | the weights in force, with their generation |
//! | `baseline.json` | what a rollback restores |
//! | `audit.jsonl`, `audit.head` | what happened ([`super::audit`]) |
//! | `watch.json` | how far the monitor is |
//! | `lock` | held while files change; `activate.lock` and `monitor.lock` keep a second actor out |
//!
//! What raises risk is recorded before anything else changes; what lowers it takes effect before it is recorded. A process
//! that dies between the two leaves a state that [`State::recover`] completes: a recorded change without its weights is
//! voided, a rollback without its record is recorded.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::{Map, Value};

use super::audit::{AuditLog, Broken, Chain, Entry, Transition};
use super::baseline;
use super::weights::{Baseline, Origin, Weights, WeightsFile};
use crate::bounded;
use crate::digest::sha256;
use crate::stream::{TEMPORARY, replace_durably};

/// How long a command waits for another one to finish writing.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// A temporary file that was left alone for so long belongs to a process that died.
const TEMPORARY_AGE: Duration = Duration::from_secs(60);

/// A state directory.
#[derive(Clone, Debug)]
pub struct State {
    directory: PathBuf,
}

/// Locks of a state directory.
#[derive(Clone, Copy, Debug)]
pub enum Lock {
    /// Files change: held for milliseconds.
    Write,
    /// One activation or promotion at a time.
    Activate,
    /// One monitor at a time.
    Monitor,
}

impl Lock {
    const fn name(self) -> &'static str {
        match self {
            Self::Write => "lock",
            Self::Activate => "activate.lock",
            Self::Monitor => "monitor.lock",
        }
    }
}

/// A lock that is held until this is dropped, or the process dies.
#[derive(Debug)]
pub struct Held {
    _file: File,
}

/// What weights file and log say together.
#[derive(Clone, Debug)]
pub enum Standing {
    /// No canary; the weights are the recorded ones, or there never were any.
    Idle(Option<WeightsFile>),
    /// The recorded canary is in force.
    Active(WeightsFile, Box<Entry>),
    /// A change was recorded and never took effect; what was in force before still is.
    Interrupted(Box<Entry>),
    /// A rollback took effect and was never recorded.
    Unrecorded(WeightsFile),
    /// The weights are not what the log says: torn, edited by hand, removed, or of somebody else.
    Foreign(String),
}

/// A log that holds, and what was completed to make the state whole.
#[derive(Debug)]
pub struct Recovered {
    /// The log.
    pub chain: Chain,
    /// The baseline came in force: an activation was taken back, or a rollback recorded.
    pub completed: bool,
}

impl State {
    /// The state in `directory`, which need not exist yet.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    /// The directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The directory from the root, for whoever looks for it from elsewhere.
    #[must_use]
    pub fn full_path(&self) -> PathBuf {
        std::path::absolute(&self.directory).unwrap_or_else(|_| self.directory.clone())
    }

    /// Whether there is such a directory.
    ///
    /// # Errors
    /// Nobody can tell, for one above it may not be entered: that is not none.
    pub fn is_there(&self) -> anyhow::Result<bool> {
        let directory = self.directory.display();
        self.directory
            .try_exists()
            .with_context(|| format!("cannot see {directory}: run this as a user who may enter it"))
    }

    /// The audit log.
    #[must_use]
    pub fn log(&self) -> AuditLog {
        AuditLog::new(&self.directory)
    }

    /// The log, or where it does not hold. None at all does not hold beside files that no command writes before it.
    ///
    /// # Errors
    /// A file cannot be read: that is no verdict.
    pub fn verify_log(&self) -> anyhow::Result<Result<Chain, Broken>> {
        Ok(match self.log().read() {
            Ok(chain) => match self.lost_log(&chain) {
                Some(reason) => Err(Broken { line: Some(1), reason }),
                None => Ok(chain),
            },
            Err(error) => Err(error.downcast::<Broken>()?),
        })
    }

    /// What is there although the log has no line: then there was one.
    fn lost_log(&self, chain: &Chain) -> Option<String> {
        let left = [self.weights_path(), self.baseline_path()].into_iter().find(|path| path.exists())?;
        chain.entries.is_empty().then(|| format!("there is no log, but {} is there", left.display()))
    }

    /// `weights.json`.
    #[must_use]
    pub fn weights_path(&self) -> PathBuf {
        self.directory.join("weights.json")
    }

    /// `baseline.json`.
    #[must_use]
    pub fn baseline_path(&self) -> PathBuf {
        self.directory.join("baseline.json")
    }

    /// `watch.json`.
    #[must_use]
    pub fn watch_path(&self) -> PathBuf {
        self.directory.join("watch.json")
    }

    /// Creates the directory if it is missing.
    ///
    /// # Errors
    /// It cannot be created.
    pub fn create(&self) -> anyhow::Result<()> {
        fs::create_dir_all(&self.directory).with_context(|| {
            format!("cannot create {}; name another directory with --state-dir", self.directory.display())
        })
    }

    /// Takes a lock; the write lock is waited for, the others are not.
    ///
    /// # Errors
    /// Another process holds it, or the lock file cannot be made.
    pub fn lock(&self, lock: Lock) -> anyhow::Result<Held> {
        let patience = if matches!(lock, Lock::Write) { LOCK_PATIENCE } else { Duration::ZERO };
        let path = self.directory.join(lock.name());
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        let deadline = Instant::now() + patience;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(fs::TryLockError::Error(error)) => {
                    return Err(error).with_context(|| format!("cannot lock {}", path.display()));
                }
                Err(fs::TryLockError::WouldBlock) if Instant::now() >= deadline => {
                    let mut holder = String::new();
                    // Who holds it is a courtesy; the refusal stands without it.
                    let _ = (&mut file).take(32).read_to_string(&mut holder);
                    bail!(
                        "another qsc (process {}) holds {}; wait until it is done, or end it",
                        if holder.trim().is_empty() { "unknown" } else { holder.trim() },
                        path.display()
                    );
                }
                Err(fs::TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(20)),
            }
        }
        // The same courtesy: on a full disk the lock holds all the same.
        let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Held { _file: file })
    }

    /// The weights file; `None` if there is none.
    ///
    /// # Errors
    /// It cannot be read, is torn, or was never written by `qsc canary`.
    pub fn weights(&self) -> anyhow::Result<Option<WeightsFile>> {
        let path = self.weights_path();
        let Some(text) = read_text(&path)? else { return Ok(None) };
        let file = WeightsFile::parse(&text).with_context(|| {
            format!("{} is torn or no weights file; `qsc canary rollback` replaces it", path.display())
        })?;
        Ok(Some(file))
    }

    /// The baseline; `None` if there is none.
    ///
    /// # Errors
    /// It cannot be read, is torn, or was never written by `qsc canary`.
    pub fn baseline(&self) -> anyhow::Result<Option<Baseline>> {
        let path = self.baseline_path();
        let Some(text) = read_text(&path)? else { return Ok(None) };
        let baseline =
            Baseline::parse(&text).with_context(|| format!("{} is torn or no baseline", path.display()))?;
        Ok(Some(baseline))
    }

    /// Replaces the weights file.
    ///
    /// # Errors
    /// It cannot be written: it is then as it was, or, if only the sync of the directory failed, already the new one.
    pub fn write_weights(&self, file: &WeightsFile) -> anyhow::Result<()> {
        write(&self.weights_path(), &file.text())
    }

    /// Replaces the baseline.
    ///
    /// # Errors
    /// As [`write_weights`](Self::write_weights).
    pub fn write_baseline(&self, baseline: &Baseline) -> anyhow::Result<()> {
        write(&self.baseline_path(), &baseline.text())
    }

    /// Whether another process holds a lock. The caller holds the write lock, and not this one.
    ///
    /// # Errors
    /// The lock file cannot be opened or asked.
    pub fn is_held(&self, lock: Lock) -> anyhow::Result<bool> {
        let path = self.directory.join(lock.name());
        let cannot = || format!("cannot ask who holds {}", path.display());
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error).with_context(cannot),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(fs::TryLockError::WouldBlock) => Ok(true),
            Err(fs::TryLockError::Error(error)) => Err(error).with_context(cannot),
        }
    }

    /// What weights file and log say together.
    #[must_use]
    pub fn standing(&self, chain: &Chain) -> Standing {
        let file = match self.weights() {
            Ok(file) => file,
            Err(error) => return Standing::Foreign(format!("{error:#}")),
        };
        if file.is_none()
            && let Some(lost) = self.lost_log(chain)
        {
            return Standing::Foreign(lost);
        }
        let in_force = in_force(&chain.entries);
        let recorded = in_force.last().copied();
        if matches(file.as_ref(), recorded) {
            return match (file, recorded) {
                (Some(file), Some(entry)) if entry.event == Transition::Activated => {
                    Standing::Active(file, Box::new(entry.clone()))
                }
                (file, _) => Standing::Idle(file),
            };
        }
        if let Some((last, before)) = ahead_of_weights(chain, &in_force)
            && matches(file.as_ref(), before)
            && baseline::set_by(last).is_some()
        {
            return Standing::Interrupted(Box::new(last.clone()));
        }
        let Some(file) = file else {
            return Standing::Foreign(format!(
                "{} is gone, but the log says that generation {} is in force",
                self.weights_path().display(),
                recorded.map_or(0, |entry| entry.generation)
            ));
        };
        // What lowers risk takes effect first.
        let is_baseline = self.saved_baseline(chain).is_ok_and(|baseline| baseline.weights == file.weights);
        if file.canary.is_none()
            && file.generation > last_generation(chain)
            && is_baseline
            && !chain.entries.is_empty()
        {
            return Standing::Unrecorded(file);
        }
        Standing::Foreign(format!(
            "{} (generation {}, canary {}) is not what the log recorded (generation {}): it was edited by hand, or comes \
             from elsewhere",
            self.weights_path().display(),
            file.generation,
            file.canary.as_deref().unwrap_or("none"),
            recorded.map_or(0, |entry| entry.generation),
        ))
    }

    /// The baseline, if it is the one that the log saw saved.
    ///
    /// # Errors
    /// It is missing, torn, or another one.
    pub fn saved_baseline(&self, chain: &Chain) -> anyhow::Result<Baseline> {
        let path = self.baseline_path();
        let saved = self.baseline()?.with_context(|| format!("{} is missing", path.display()))?;
        ensure!(
            baseline::last_set(chain).is_none_or(|entry| baseline::is_set_by(entry, &saved)),
            "{} is not the baseline that was saved: it was edited",
            path.display()
        );
        Ok(saved)
    }

    /// Writes the baseline as the log recorded it, if the file is not that one. Whether it was written.
    ///
    /// # Errors
    /// The log does not hold all of it, or it cannot be written.
    pub fn rewrite_baseline(&self, chain: &Chain) -> anyhow::Result<bool> {
        match baseline::last_set(chain) {
            Some(entry) if self.saved_baseline(chain).is_err() => self.write_baseline_of(entry).map(|_| true),
            _ => Ok(false),
        }
    }

    fn write_baseline_of(&self, entry: &Entry) -> anyhow::Result<Baseline> {
        let recorded = baseline::set_by(entry).with_context(|| {
            format!(
                "line {} of the audit log does not say what {} was",
                entry.seq,
                self.baseline_path().display()
            )
        })?;
        self.write_baseline(&recorded)?;
        Ok(recorded)
    }

    /// Whether `file`, read from `weights.json`, may come in force in an engine: the log recorded it, or it is what a
    /// rollback puts in force before it is recorded, and also where the log does not hold: the saved baseline, or `own`,
    /// the weights of `MODELS.toml`.
    ///
    /// # Errors
    /// It is none of these, or the log cannot say.
    pub fn ensure_recorded(&self, file: Option<&WeightsFile>, own: &Weights) -> anyhow::Result<()> {
        // After the file was read: what raises risk is in the log before it is in the file.
        let log = self.log().read();
        if let Ok(chain) = &log {
            let changes = in_force(&chain.entries);
            // An engine keeps what was in force until the file follows.
            let before = ahead_of_weights(chain, &changes).is_some_and(|(_, before)| matches(file, before));
            if before || matches(file, changes.last().copied()) {
                // No weights at all are those of `MODELS.toml` where there never were others.
                let lost = file.is_none().then(|| self.lost_log(chain)).flatten();
                ensure!(lost.is_none(), "{}; `qsc canary rollback` restores it", lost.unwrap_or_default());
                return Ok(());
            }
        }
        let baseline = match &log {
            Ok(chain) => self.saved_baseline(chain).ok(),
            Err(_) => self.baseline().ok().flatten(),
        };
        let lowers = file.is_some_and(|file| {
            let is_baseline = baseline.is_some_and(|baseline| baseline.weights == file.weights);
            file.canary.is_none() && (is_baseline || file.weights == *own)
        });
        if lowers {
            return Ok(());
        }
        log.context("the audit log does not hold, so nothing proves the weights")?;
        bail!(
            "{} is not what the audit log recorded: it was edited by hand, comes from elsewhere, or is gone; `qsc canary \
             rollback` replaces it",
            self.weights_path().display()
        )
    }

    /// Completes what a process that died left undone. The caller holds the write lock.
    ///
    /// # Errors
    /// The log does not hold, or a file cannot be written.
    pub fn recover(&self) -> anyhow::Result<Recovered> {
        self.remove_leftovers()?;
        let mut completed = false;
        let mut chain = self
            .log()
            .recover()
            .with_context(|| format!("the audit log does not hold in {}", self.directory.display()))?;
        match self.standing(&chain) {
            Standing::Interrupted(entry) => {
                completed = entry.event == Transition::Activated;
                self.void(&mut chain, &entry)?;
            }
            Standing::Unrecorded(file) => {
                completed = true;
                let model = in_force(&chain.entries).last().and_then(|entry| entry.model.clone());
                let details = details([
                    ("reason", "recorded afterwards: the process died after the rollback".into()),
                    ("weights_sha256", sha256(file.text()).into()),
                ]);
                self.log().append(
                    &mut chain,
                    Transition::RolledBack,
                    model.as_deref(),
                    file.generation,
                    details,
                )?;
            }
            Standing::Idle(Some(file)) => self.complete_promotion(&chain, &file)?,
            Standing::Idle(None) | Standing::Active(..) | Standing::Foreign(_) => {}
        }
        Ok(Recovered { chain, completed })
    }

    /// Takes back a change that was recorded and is not in place. An engine may have seen an activation's weights before
    /// they vanished, so the baseline comes under a generation of its own. A promotion leaves the canary as it was.
    fn void(&self, chain: &mut Chain, entry: &Entry) -> anyhow::Result<()> {
        let mut details = details([
            ("reason", "it was recorded, and its weights are not in place".into()),
            ("voids", entry.seq.into()),
        ]);
        let mut generation = entry.generation;
        if entry.event == Transition::Activated {
            // It may have died before it saved the baseline, too.
            let baseline = self.write_baseline_of(entry)?;
            generation = last_generation(chain) + 1;
            let file = WeightsFile { generation, canary: None, weights: baseline.weights };
            self.write_weights(&file)?;
            details.insert("weights_sha256".to_owned(), sha256(file.text()).into());
        }
        self.log().append(chain, Transition::Voided, entry.model.as_deref(), generation, details)
    }

    /// A promotion replaces the baseline last: one that died before has left the baseline before it, or none. Whatever else
    /// is there was put there by somebody.
    fn complete_promotion(&self, chain: &Chain, file: &WeightsFile) -> anyhow::Result<()> {
        let changes = in_force(&chain.entries);
        let Some((last, before)) = changes.split_last() else { return Ok(()) };
        let unfinished = match self.baseline() {
            Ok(None) => true,
            Ok(Some(there)) => {
                let sets = before.iter().rfind(|entry| entry.detail("baseline_sha256").is_some());
                sets.is_some_and(|entry| baseline::is_set_by(entry, &there))
            }
            Err(_) => false,
        };
        if last.event == Transition::Promoted && unfinished && self.saved_baseline(chain).is_err() {
            self.write_baseline(&promoted_baseline(file))?;
        }
        Ok(())
    }

    fn remove_leftovers(&self) -> anyhow::Result<()> {
        let cannot = || format!("cannot clean {}", self.directory.display());
        for entry in fs::read_dir(&self.directory).with_context(cannot)? {
            let entry = entry.with_context(cannot)?;
            if entry.file_name().to_string_lossy().starts_with(TEMPORARY) && is_old(&entry) {
                match fs::remove_file(entry.path()) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(error).with_context(cannot);
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

/// Whether nobody writes this temporary file any more: a monitor and a deployment write here without the lock.
fn is_old(entry: &fs::DirEntry) -> bool {
    let modified = entry.metadata().and_then(|metadata| metadata.modified());
    modified.is_ok_and(|modified| modified.elapsed().is_ok_and(|age| age > TEMPORARY_AGE))
}

/// What a promotion of `file` leaves as the baseline.
#[must_use]
pub fn promoted_baseline(file: &WeightsFile) -> Baseline {
    Baseline { generation: file.generation, origin: Origin::Promotion, weights: file.weights.clone() }
}

/// The largest generation the log knows of.
#[must_use]
pub fn last_generation(chain: &Chain) -> u64 {
    chain.entries.iter().map(|entry| entry.generation).max().unwrap_or(0)
}

/// The changes that were not voided, in order: the last one is in force.
#[must_use]
pub fn in_force(entries: &[Entry]) -> Vec<&Entry> {
    entries.iter().fold(Vec::new(), |mut changes, entry| {
        match entry.event {
            Transition::Activated | Transition::RolledBack | Transition::Promoted => changes.push(entry),
            // A voided activation has weights of its own, a voided promotion leaves those before it.
            Transition::Voided if entry.detail("weights_sha256").is_some() => changes.push(entry),
            Transition::Voided => drop(changes.pop()),
            Transition::Withdrawn | Transition::WatchStarted | Transition::WatchPassed => {}
        }
        changes
    })
}

fn matches(file: Option<&WeightsFile>, entry: Option<&Entry>) -> bool {
    match (file, entry) {
        (None, None) => true,
        (Some(file), Some(entry)) => entry.detail("weights_sha256") == Some(&sha256(file.text())),
        _ => false,
    }
}

/// What raises risk is recorded first: its record may be ahead of the weights. That record, and the one of `changes` that was
/// in force before, if there was one.
fn ahead_of_weights<'a>(chain: &Chain, changes: &[&'a Entry]) -> Option<(&'a Entry, Option<&'a Entry>)> {
    let (&last, before) = changes.split_last()?;
    let raises = matches!(last.event, Transition::Activated | Transition::Promoted);
    let newest = chain.entries.last().is_some_and(|entry| entry.seq == last.seq);
    (raises && newest).then(|| (last, before.last().copied()))
}

fn read_text(path: &Path) -> anyhow::Result<Option<String>> {
    match bounded::read_state(path, bounded::SMALL).and_then(bounded::text) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    ensure!(text.ends_with('\n'), "a file ends with a line end");
    replace_durably(path, text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))
}

/// Evidence for the log: `details` from pairs.
#[must_use]
pub fn details<const N: usize>(pairs: [(&str, Value); N]) -> Map<String, Value> {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
