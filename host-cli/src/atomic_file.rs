//! Files that exist whole or not at all: written beside their target, then renamed over it.

use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// Writes `path` through `fill` so that a reader, a crash or an error never meets half a file.
///
/// A symbolic link is followed: the file it names is replaced, the link stays.
///
/// # Errors
/// What `fill` says, or why the file could not be written; `path` is then as it was.
pub fn write(path: &Path, fill: impl FnOnce(&mut dyn Write) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let shown = path.display();
    let target = resolve(path)?;
    let directory = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(".qsc-").suffix(".part");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // A plain new file: the umask decides, as it does for every other program.
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    let file = builder.tempfile_in(directory).with_context(|| {
        format!("cannot write {shown}: its directory {} takes no new file", directory.display())
    })?;
    let mut writer = BufWriter::new(file);
    fill(&mut writer)?;
    let file = writer.into_inner().map_err(|error| error.into_error());
    let file = file.with_context(|| format!("cannot write {shown}"))?;
    file.as_file().sync_all().with_context(|| format!("cannot write {shown}"))?;
    file.persist(&target).map_err(|error| error.error).with_context(|| format!("cannot write {shown}"))?;
    Ok(())
}

/// The file to replace: `path` with links followed, which must be a regular file where it exists.
fn resolve(path: &Path) -> anyhow::Result<PathBuf> {
    match fs::metadata(path) {
        Ok(found) if found.is_file() => {
            fs::canonicalize(path).with_context(|| format!("cannot write {}", path.display()))
        }
        Ok(_) => bail!("cannot write {}: it exists and is no regular file, name another", path.display()),
        // What is wrong with the directory, creating the temporary file will tell.
        Err(_) => Ok(path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_whole_and_leaves_nothing_beside() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out.txt");
        write(&path, |out| Ok(out.write_all(b"first")?)).unwrap();
        write(&path, |out| Ok(out.write_all(b"second")?)).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_error_midway_leaves_the_old_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out.txt");
        write(&path, |out| Ok(out.write_all(b"old")?)).unwrap();
        let error = write(&path, |out| {
            out.write_all(b"half")?;
            bail!("midway")
        });
        assert_eq!(error.unwrap_err().to_string(), "midway");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn names_the_missing_directory() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("absent/out.txt");
        let message = format!("{:#}", write(&path, |_| Ok(())).unwrap_err());
        assert!(message.contains("absent/out.txt") && message.contains("takes no new file"), "{message}");
    }

    #[test]
    fn refuses_what_is_no_regular_file() {
        let directory = tempfile::tempdir().unwrap();
        let message = write(directory.path(), |_| Ok(())).unwrap_err().to_string();
        assert!(message.contains("no regular file"), "{message}");
    }

    #[cfg(unix)]
    #[test]
    fn follows_a_link_and_obeys_the_umask() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let directory = tempfile::tempdir().unwrap();
        let (real, link) = (directory.path().join("real"), directory.path().join("link"));
        fs::write(&real, "old").unwrap();
        let umask_mode = fs::metadata(&real).unwrap().permissions().mode();
        symlink(&real, &link).unwrap();
        write(&link, |out| Ok(out.write_all(b"new")?)).unwrap();
        assert_eq!(fs::read(&real).unwrap(), b"new");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::metadata(&real).unwrap().permissions().mode(), umask_mode);
    }
}
