//! Outputs that would destroy an input, or one another, are refused before anything is read.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::bail;

/// A file of a command and the argument that names it.
pub(super) type Named<'a> = (&'a str, &'a Path);

/// Refuses outputs that are an input or the same file twice. What is no regular file, such as `/dev/null`, may be
/// both.
pub(super) fn ensure_apart(inputs: &[Named<'_>], outputs: &[Named<'_>]) -> anyhow::Result<()> {
    for (at, (argument, path)) in outputs.iter().enumerate() {
        let Some(place) = place(path) else { continue };
        for (other_argument, other) in inputs.iter().chain(&outputs[..at]) {
            if self::place(other).is_some_and(|other| other == place) {
                bail!(
                    "{argument} would overwrite {}, which is {other_argument}; name another file",
                    path.display()
                );
            }
        }
    }
    Ok(())
}

/// Where a file lies or would lie, links followed; `None` for what is no regular file.
fn place(path: &Path) -> Option<PathBuf> {
    match fs::canonicalize(path) {
        Ok(real) => fs::metadata(&real).is_ok_and(|metadata| metadata.is_file()).then_some(real),
        Err(_) => {
            let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            let directory = fs::canonicalize(directory.unwrap_or(Path::new("."))).ok()?;
            Some(directory.join(path.file_name()?))
        }
    }
}
