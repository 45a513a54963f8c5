// Which commit is being built, and what to watch so that the answer cannot go stale.
//
// Included by build.rs, and by tests/tests/build_identity.rs, which tries it on real repositories.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a build is called, and when to ask again.
#[derive(Debug, PartialEq)]
pub(crate) struct Probed {
    /// `<sha>`, `<sha>-dirty` or `<unknown>`, the SHA in full.
    pub(crate) build: String,
    /// Unless one of these changes, `build` stays true. A path that is missing makes Cargo ask at every build.
    pub(crate) watch: Vec<PathBuf>,
    /// Why `build` is `<unknown>`.
    pub(crate) reason: Option<String>,
}

/// The identity of the package in `package`: as `given` where that is not empty, else as git knows it.
///
/// # Errors
/// `given` is no full SHA with or without `-dirty`.
pub(crate) fn probe(given: Option<&str>, package: &Path) -> Result<Probed, String> {
    if let Some(given) = given.filter(|given| !given.is_empty()) {
        let sha = given.strip_suffix("-dirty").unwrap_or(given);
        let is_full = matches!(sha.len(), 40 | 64);
        let is_hex = sha.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        if !(is_full && is_hex) {
            return Err(format!(
                "`{given}` is no full git SHA (40 or 64 digits 0-9a-f, then -dirty or nothing)"
            ));
        }
        return Ok(Probed { build: given.to_owned(), watch: Vec::new(), reason: None });
    }
    Ok(from_git(package).unwrap_or_else(|reason| Probed {
        build: "<unknown>".to_owned(),
        // Where there is a repository, git may answer next time (installed, ownership mended): ask again.
        watch: package
            .ancestors()
            .map(|parent| parent.join(".git"))
            .filter(|git| git.exists())
            .take(1)
            .map(|git| git.join("no-such-file"))
            .collect(),
        reason: Some(reason),
    }))
}

fn from_git(package: &Path) -> Result<Probed, String> {
    // A copy that lies untracked inside someone else's repository is not that repository's commit.
    git(package, &["ls-files", "--error-unmatch", "Cargo.toml"])?;
    let sha = line(git(package, &["rev-parse", "--verify", "HEAD^{commit}"])?);
    let root = PathBuf::from(line(git(package, &["rev-parse", "--show-toplevel"])?));
    let status = git(package, &["status", "--porcelain", "-z", "--untracked-files=no", "--no-renames"])?;
    // Each entry is two letters, a blank and a path from the root.
    let changed: Vec<PathBuf> = status
        .split_terminator('\0')
        .filter_map(|entry| entry.get(3..))
        .map(|path| root.join(path))
        .collect();

    let mut watch = git_state(package)?;
    let dirty = if changed.is_empty() { "" } else { "-dirty" };
    // While one changed file stays as it is, the tree stays dirty: the one longest untouched is watched for all.
    match changed.into_iter().min_by_key(|path| modified(path).map_or((1, None), |time| (0, Some(time)))) {
        Some(witness) => watch.push(witness),
        None => {
            let tracked = git(&root, &["ls-files", "-z"])?;
            watch.extend(tracked.split_terminator('\0').map(|path| root.join(path)));
        }
    }
    Ok(Probed { build: format!("{sha}{dirty}"), watch, reason: None })
}

/// The files by which git says what HEAD and the index are; in a linked work tree not all lie in one directory.
fn git_state(package: &Path) -> Result<Vec<PathBuf>, String> {
    let mut state = Vec::new();
    for name in ["HEAD", "index", "packed-refs", "refs/heads", "reftable"] {
        let path = package.join(line(git(package, &["rev-parse", "--git-path", name])?));
        if path.exists() {
            state.push(path);
        }
    }
    Ok(state)
}

fn modified(path: &Path) -> Option<std::time::SystemTime> {
    fs::symlink_metadata(path).and_then(|metadata| metadata.modified()).ok()
}

fn line(text: String) -> String {
    text.trim_end_matches(['\r', '\n']).to_owned()
}

fn git(directory: &Path, arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new("git");
    // status may not write the index here: that would make the next build ask again. Quoted paths would not exist.
    command.args(["--no-optional-locks", "-C"]).arg(directory).args(arguments);
    // Set while a hook or a rebase runs; they may mean another repository or a temporary index.
    for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR"] {
        command.env_remove(variable);
    }
    let output = command.output().map_err(|error| format!("git cannot be run: {error}"))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        return Err(format!("git {}: {}", arguments.join(" "), stderr.lines().next().unwrap_or("failed")));
    }
    String::from_utf8(output.stdout)
        .map_err(|_| format!("git {}: its answer is no UTF-8", arguments.join(" ")))
}
