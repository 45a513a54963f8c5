//! The record of a deployment on disk, and the lock that keeps a second one out.

use std::fs::{self, File, TryLockError};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

use super::build_id::Build;
use super::process::Process;
use super::{Finding, Step, UnitName};
use crate::bounded;
use crate::report::CONTRACT;
use crate::stream::AtomicFile;

/// How far a deployment has come: everything that going on with it needs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    contract: u32,
    pub(super) unit: UnitName,
    pub(super) expected: Build,
    /// The gates are part of it: only with them it may end.
    #[serde(default)]
    pub(super) gated: bool,
    /// How strict they were asked to be.
    #[serde(default)]
    pub(super) strictness: Option<String>,
    /// The step that was begun last.
    pub(super) step: Step,
    /// The main process before the restart.
    pub(super) old_process: Option<Process>,
    pub(super) old_invocation: Option<String>,
    /// Unix ms, taken between stop and start.
    pub(super) cutover: Option<u64>,
    /// The invocation that is judged.
    pub(super) invocation: Option<String>,
    pub(super) main_pid: Option<u32>,
    /// The build it has logged.
    pub(super) build: Option<Build>,
    pub(super) executable: Option<Executable>,
    /// What the steps before found.
    pub(super) findings: Vec<Finding>,
}

/// The program as it is installed, and as it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Executable {
    pub(super) path: PathBuf,
    pub(super) installed_sha256: String,
    pub(super) running_sha256: String,
}

impl Record {
    pub(super) fn new(unit: UnitName, expected: Build, gated: bool) -> Self {
        Self {
            contract: CONTRACT,
            unit,
            expected,
            gated,
            strictness: None,
            step: Step::Unit,
            old_process: None,
            old_invocation: None,
            cutover: None,
            invocation: None,
            main_pid: None,
            build: None,
            executable: None,
            findings: Vec::new(),
        }
    }
}

/// The place of one unit's record; while it exists, nobody else deploys that unit from this state directory.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    _lock: File,
}

impl Place {
    /// Takes the place of `unit` in `directory`, which is created if missing.
    ///
    /// # Errors
    /// Another deployment of the unit is going on, or the directory cannot be written.
    pub(super) fn take(directory: &Path, unit: &UnitName) -> anyhow::Result<Self> {
        let cannot = || format!("cannot use the state directory {}", directory.display());
        fs::create_dir_all(directory).with_context(cannot)?;
        let lock = File::create(directory.join(format!("deploy-{unit}.lock"))).with_context(cannot)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                bail!("another qsc deploy of {unit} is going on in {}; wait for its end", directory.display())
            }
            Err(TryLockError::Error(error)) => return Err(error).with_context(cannot),
        }
        Ok(Self { path: directory.join(format!("deploy-{unit}.json")), _lock: lock })
    }

    /// The record of an unfinished deployment.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub(super) fn load(&self) -> anyhow::Result<Record> {
        let path = self.path.display();
        let text = bounded::read_text(&self.path, bounded::SMALL)
            .with_context(|| format!("no deployment to go on with ({path}); deploy without --resume"))?;
        let record: Record = serde_json::from_str(&text)
            .with_context(|| format!("{path} is no record of a deployment; deploy without --resume"))?;
        if record.contract != CONTRACT {
            bail!("{path} was written by another version; deploy without --resume");
        }
        Ok(record)
    }

    /// Replaces the record.
    ///
    /// # Errors
    /// It cannot be written; the old one is then as it was.
    pub(super) fn save(&self, record: &Record) -> anyhow::Result<()> {
        let mut file = AtomicFile::create(&self.path)?;
        writeln!(file, "{}", serde_json::to_string_pretty(record)?)
            .with_context(|| format!("cannot write {}", self.path.display()))?;
        file.replace()
    }

    /// Removes the record: there is nothing to go on with.
    ///
    /// # Errors
    /// It cannot be removed.
    pub(super) fn clear(&self) -> anyhow::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", self.path.display()))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_and_a_second_deployment_loses() {
        let directory = tempfile::tempdir().unwrap();
        let unit = UnitName::parse("qsc").unwrap();
        let place = Place::take(directory.path(), &unit).unwrap();
        assert!(Place::take(directory.path(), &unit).unwrap_err().to_string().contains("another qsc deploy"));
        assert!(Place::take(directory.path(), &UnitName::parse("other").unwrap()).is_ok());

        assert!(format!("{:#}", place.load().unwrap_err()).contains("no deployment to go on with"));
        let mut record = Record::new(unit.clone(), Build::Dirty("0123456-dirty".to_owned()), true);
        record.step = Step::Canary;
        record.cutover = Some(1_768_023_795_000);
        place.save(&record).unwrap();
        let read = place.load().unwrap();
        assert_eq!((read.step, read.cutover, read.expected), (record.step, record.cutover, record.expected));
        assert!(read.gated);
        for damaged in ["", "{}", "{\"contract\":1}"] {
            fs::write(&place.path, damaged).unwrap();
            assert!(place.load().is_err(), "{damaged}");
        }
        place.clear().unwrap();
        place.clear().unwrap();
        drop(place);
        assert!(Place::take(directory.path(), &unit).is_ok());
    }
}
