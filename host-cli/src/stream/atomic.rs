//! Files that appear whole or not at all.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tempfile::NamedTempFile;

/// How the names of unfinished files begin; a process that is killed may leave one behind.
pub const TEMPORARY: &str = ".qsc-";

/// A file that is written next to its target and takes the target's name only when it is complete.
///
/// Dropped before [`replace`](Self::replace), it leaves nothing behind and the target as it was. A target that is
/// no regular file (a FIFO, `/dev/null`) is written directly.
#[derive(Debug)]
pub struct AtomicFile {
    target: PathBuf,
    inner: Inner,
}

#[derive(Debug)]
enum Inner {
    Temporary(BufWriter<NamedTempFile>),
    Direct(BufWriter<File>),
}

impl AtomicFile {
    /// Opens a file that will become `target`; a symbolic link is followed.
    ///
    /// # Errors
    /// The directory of `target` is missing or not writable, or `target` is a directory.
    pub fn create(target: &Path) -> anyhow::Result<Self> {
        let cannot = || format!("cannot write {}", target.display());
        match fs::metadata(target) {
            Ok(metadata) if metadata.is_dir() => anyhow::bail!("{}: it is a directory", cannot()),
            Ok(metadata) if !metadata.is_file() => {
                let file = OpenOptions::new().write(true).open(target).with_context(cannot)?;
                Ok(Self { target: target.to_owned(), inner: Inner::Direct(BufWriter::new(file)) })
            }
            Ok(_) => Self::beside(fs::canonicalize(target).with_context(cannot)?).with_context(cannot),
            Err(_) => Self::beside(target.to_owned()).with_context(cannot),
        }
    }

    fn beside(target: PathBuf) -> io::Result<Self> {
        let file = temporary_for(&target)?;
        Ok(Self { target, inner: Inner::Temporary(BufWriter::new(file)) })
    }

    /// Puts the complete file in the target's place, in one step.
    ///
    /// # Errors
    /// The last bytes could not be written, or the rename failed; the target is then as it was.
    pub fn replace(self) -> anyhow::Result<()> {
        let cannot = || format!("cannot write {}", self.target.display());
        match self.inner {
            Inner::Temporary(writer) => {
                let file =
                    writer.into_inner().map_err(io::IntoInnerError::into_error).with_context(cannot)?;
                file.as_file().sync_all().with_context(cannot)?;
                file.persist(&self.target).map_err(|error| error.error).with_context(cannot)?;
            }
            Inner::Direct(mut writer) => writer.flush().with_context(cannot)?,
        }
        Ok(())
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.inner {
            Inner::Temporary(writer) => writer.write(bytes),
            Inner::Direct(writer) => writer.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.inner {
            Inner::Temporary(writer) => writer.flush(),
            Inner::Direct(writer) => writer.flush(),
        }
    }
}

/// Writes `bytes` to `target` if nothing has that name yet; `false`, and nothing written, if something has.
///
/// # Errors
/// The directory is missing or not writable, or the disk is full; nothing is left behind then.
pub fn create_new(target: &Path, bytes: &[u8]) -> io::Result<bool> {
    let mut file = temporary_for(target)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(target) {
        Ok(_) => Ok(true),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error.error),
    }
}

/// Puts `bytes` in the place of `target` in one step that survives a power cut: file and directory are synced.
///
/// # Errors
/// The directory is missing or not writable, or the disk is full; the target is then as it was.
pub fn replace_durably(target: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = temporary_for(target)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(target).map_err(|error| error.error)?;
    File::open(directory_of(target))?.sync_all()
}

fn directory_of(target: &Path) -> &Path {
    target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A temporary file beside `target`, with its permissions, or those of an ordinary file (`0666` less the umask) if there is
/// none.
fn temporary_for(target: &Path) -> io::Result<NamedTempFile> {
    let file = tempfile::Builder::new()
        .prefix(TEMPORARY)
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(directory_of(target))?;
    if let Ok(there) = fs::metadata(target) {
        let mode = there.permissions().mode() & 0o777;
        file.as_file().set_permissions(Permissions::from_mode(mode))?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_target_changes_only_when_complete() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("out");
        fs::write(&target, "old").unwrap();
        let mut file = AtomicFile::create(&target).unwrap();
        file.write_all(b"new").unwrap();
        drop(file);
        assert_eq!(fs::read(&target).unwrap(), b"old");
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1, "no temporary file is left");

        let mut file = AtomicFile::create(&target).unwrap();
        file.write_all(b"new").unwrap();
        file.replace().unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"new");
    }

    #[test]
    fn who_could_not_read_a_file_cannot_read_the_next_one() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("out");
        fs::write(&target, "old").unwrap();
        fs::set_permissions(&target, Permissions::from_mode(0o600)).unwrap();
        AtomicFile::create(&target).unwrap().replace().unwrap();
        replace_durably(&target, b"new").unwrap();
        assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn links_are_followed_and_devices_stay_devices() {
        let directory = tempfile::tempdir().unwrap();
        let (real, link) = (directory.path().join("real"), directory.path().join("link"));
        fs::write(&real, "old").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let mut file = AtomicFile::create(&link).unwrap();
        file.write_all(b"new").unwrap();
        file.replace().unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&real).unwrap(), b"new");

        AtomicFile::create(Path::new("/dev/null")).unwrap().replace().unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
        assert!(AtomicFile::create(directory.path()).is_err());
    }

    #[test]
    fn an_existing_file_is_never_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("report.md");
        assert!(create_new(&target, b"first").unwrap());
        assert!(!create_new(&target, b"second").unwrap());
        assert_eq!(fs::read(&target).unwrap(), b"first");
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
        assert!(create_new(&directory.path().join("missing/report.md"), b"").is_err());
    }
}
