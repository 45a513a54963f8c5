//! The identity of a build is asked of real repositories, and real Cargo builds show that it cannot go stale.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

#[path = "../../host-cli/build/identity_probe.rs"]
mod identity_probe;

use identity_probe::probe;

const SHA: &str = "0123456789abcdef0123456789abcdef01234567";

/// A package with the real build script in a repository of its own, with one commit.
struct Package {
    directory: TempDir,
}

impl Package {
    /// `None` where git is absent, said aloud.
    fn new() -> Option<Self> {
        if Command::new("git").arg("--version").output().is_err() {
            assert!(std::env::var("QSC_REQUIRE_ALL").as_deref() != Ok("1"), "git is absent");
            eprintln!("SKIPPED: git is absent");
            return None;
        }
        let package = Self { directory: tempfile::tempdir().unwrap() };
        let host_cli = Path::new(env!("CARGO_MANIFEST_DIR")).join("../host-cli");
        for file in ["build.rs", "build/identity_probe.rs"] {
            package.write(file, &fs::read_to_string(host_cli.join(file)).unwrap());
        }
        package.write("Cargo.toml", "[package]\nname = \"sample\"\nedition = \"2024\"\n[workspace]\n");
        package.write("src/main.rs", "fn main() { println!(\"{}\", env!(\"QSC_BUILD\")) }\n");
        package.write("README.md", "one\n");
        package.write("notes/größe.txt", "one\n");
        package.write(".gitignore", "/target\n/Cargo.lock\n");
        package.git(&["init", "--quiet"]);
        package.git(&["add", "--all"]);
        package.git(&["commit", "--quiet", "--message", "one"]);
        Some(package)
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn write(&self, file: &str, text: &str) {
        let path = self.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn git(&self, arguments: &[&str]) -> String {
        git(self.path(), arguments)
    }

    fn head(&self) -> String {
        self.git(&["rev-parse", "HEAD"])
    }

    fn commit(&self) -> String {
        self.git(&["commit", "--quiet", "--all", "--allow-empty", "--message", "more"]);
        self.head()
    }

    fn probe(&self) -> String {
        probe(None, self.path()).unwrap().build
    }
}

fn git(directory: &Path, arguments: &[&str]) -> String {
    let settings = ["user.name=tester", "user.email=tester@example.org", "commit.gpgsign=false"];
    let output = Command::new("git")
        .args(settings.iter().flat_map(|setting| ["-c", setting]))
        .args(arguments)
        .current_dir(directory)
        .envs([("GIT_CONFIG_GLOBAL", "/dev/null"), ("GIT_CONFIG_NOSYSTEM", "1")])
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Builds and runs the package: what it calls itself, and whether anything was compiled.
fn build_and_run(directory: &Path, given: Option<&str>) -> (String, bool) {
    let output = cargo(directory, given);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    (String::from_utf8(output.stdout).unwrap().trim().to_owned(), stderr.contains("Compiling"))
}

fn cargo(directory: &Path, given: Option<&str>) -> Output {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["run", "--offline"]).current_dir(directory);
    command.env("CARGO_TARGET_DIR", directory.join("target")).env_remove("QSC_GIT_SHA");
    command.envs(given.map(|given| ("QSC_GIT_SHA", given)));
    command.output().unwrap()
}

#[test]
fn a_given_sha_is_taken_as_it_is_or_refused() {
    let nowhere = Path::new("/");
    for given in [SHA.to_owned(), format!("{SHA}-dirty"), "ab".repeat(32)] {
        assert_eq!(probe(Some(&given), nowhere).unwrap().build, given);
    }
    for given in ["HEAD", &SHA[..12], &SHA.to_uppercase(), &format!("{SHA}-Dirty"), "<unknown>", "-dirty"] {
        let error = probe(Some(given), nowhere).unwrap_err();
        assert!(error.contains(given) && error.contains("no full git SHA"), "{error}");
    }
}

#[test]
fn without_a_repository_it_is_unknown() {
    let directory = tempfile::tempdir().unwrap();
    for given in [None, Some("")] {
        let probed = probe(given, directory.path()).unwrap();
        assert_eq!((probed.build.as_str(), probed.watch.len()), ("<unknown>", 0));
        assert!(probed.reason.is_some());
    }
}

#[test]
fn tracked_changes_of_every_kind_are_dirty() {
    let Some(package) = Package::new() else { return };
    let head = package.head();
    let dirty = format!("{head}-dirty");
    assert_eq!(package.probe(), head);

    package.write("untracked.txt", "new");
    assert_eq!(package.probe(), head, "an untracked file is no change");
    package.git(&["add", "untracked.txt"]);
    assert_eq!(package.probe(), dirty, "a staged new file");
    package.git(&["rm", "--quiet", "--cached", "untracked.txt"]);
    assert_eq!(package.probe(), head);

    package.write("notes/größe.txt", "two\n");
    assert_eq!(package.probe(), dirty, "a change in the work tree");
    package.git(&["add", "--all"]);
    assert_eq!(package.probe(), dirty, "a staged change");
    package.git(&["reset", "--quiet", "--hard"]);
    assert_eq!(package.probe(), head);

    fs::remove_file(package.path().join("README.md")).unwrap();
    assert_eq!(package.probe(), dirty, "a deleted file");
    package.git(&["checkout", "--quiet", "README.md"]);
    package.git(&["mv", "README.md", "READ.md"]);
    assert_eq!(package.probe(), dirty, "a renamed file");
    let committed = package.commit();
    assert_eq!(package.probe(), committed);
}

#[test]
fn every_watched_path_exists() {
    let Some(package) = Package::new() else { return };
    let watched = || probe(None, package.path()).unwrap().watch;
    let clean = watched();
    assert!(clean.iter().all(|path| path.exists()), "{clean:?}");
    let root = fs::canonicalize(package.path()).unwrap();
    assert!(clean.contains(&root.join("notes/größe.txt")), "{clean:?}");

    package.write("notes/größe.txt", "two\n");
    let witness = watched();
    assert_eq!(witness.last(), Some(&root.join("notes/größe.txt")));
    package.write("README.md", "two\n");
    assert_eq!(watched(), witness, "one witness is enough");
    assert!(witness.len() < clean.len());
}

#[test]
fn a_copy_inside_another_repository_is_not_its_commit() {
    let Some(package) = Package::new() else { return };
    package.write("vendored/Cargo.toml", "[package]\n");
    let probed = probe(None, &package.path().join("vendored")).unwrap();
    assert_eq!(probed.build, "<unknown>");
    assert!(probed.watch.iter().all(|path| !path.exists()) && probed.watch.len() == 1, "git is asked again");
}

#[test]
fn builds_follow_head_index_and_work_tree() {
    let Some(package) = Package::new() else { return };
    let build = || build_and_run(package.path(), None);
    let first = package.head();
    let dirty = format!("{first}-dirty");
    assert_eq!(build(), (first.clone(), true));
    assert_eq!(build(), (first.clone(), false), "nothing changed, nothing is compiled");

    package.write("README.md", "two\n");
    assert_eq!(build().0, dirty);
    package.write("notes/größe.txt", "two\n");
    assert_eq!(build(), (dirty.clone(), false), "dirty stays dirty without compiling");
    package.git(&["checkout", "--quiet", "README.md"]);
    assert_eq!(build().0, dirty, "the other file is still changed");
    package.write("notes/größe.txt", "one\n");
    assert_eq!(build().0, first, "undone by hand");

    fs::remove_file(package.path().join("README.md")).unwrap();
    assert_eq!(build().0, dirty);
    package.write("README.md", "one\n");
    assert_eq!(build().0, first);

    package.write("new.txt", "new\n");
    assert_eq!(build(), (first.clone(), false));
    package.git(&["add", "new.txt"]);
    assert_eq!(build().0, dirty);
    let second = package.commit();
    assert_eq!(build().0, second);
    let third = package.commit();
    assert_eq!(build().0, third, "an empty commit changes no file");
    package.git(&["pack-refs", "--all"]);
    assert_eq!(build().0, third);
    let fourth = package.commit();
    assert_eq!(build().0, fourth, "a commit after refs were packed");
    package.git(&["checkout", "--quiet", "--detach", &first]);
    assert_eq!(build().0, first);
    assert_eq!(build(), (first, false));
}

#[test]
fn the_environment_overrides_and_is_forgotten_again() {
    let Some(package) = Package::new() else { return };
    let head = package.head();
    assert_eq!(build_and_run(package.path(), Some(SHA)).0, SHA);
    assert_eq!(build_and_run(package.path(), None).0, head);
    let refused = cargo(package.path(), Some("v1.0"));
    let stderr = String::from_utf8_lossy(&refused.stderr);
    assert!(
        !refused.status.success() && stderr.contains("QSC_GIT_SHA: `v1.0` is no full git SHA"),
        "{stderr}"
    );
}

#[test]
fn a_linked_work_tree_has_its_own_head() {
    let Some(package) = Package::new() else { return };
    let beside = tempfile::tempdir().unwrap();
    let linked = beside.path().join("linked");
    package.git(&["worktree", "add", "--quiet", "-b", "side", linked.to_str().unwrap()]);
    let first = package.head();
    assert_eq!(build_and_run(&linked, None).0, first);
    git(&linked, &["commit", "--quiet", "--allow-empty", "--message", "side"]);
    let side = git(&linked, &["rev-parse", "HEAD"]);
    assert_ne!(side, first);
    assert_eq!(build_and_run(&linked, None).0, side);
    package.commit();
    assert_eq!(build_and_run(&linked, None).0, side, "the other work tree's commit is not ours");
    fs::write(linked.join("README.md"), "two\n").unwrap();
    assert_eq!(build_and_run(&linked, None).0, format!("{side}-dirty"));
}

#[test]
fn without_git_the_build_says_unknown_and_works() {
    let Some(package) = Package::new() else { return };
    build_and_run(package.path(), None);
    let script = build_script(&package.path().join("target/debug/build"));
    let output = Command::new(script)
        .env_clear()
        .env("PATH", package.path())
        .env("CARGO_MANIFEST_DIR", package.path())
        .output()
        .unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && stdout.contains("QSC_BUILD=<unknown>\n"), "{stdout}");
    assert!(stdout.contains("cargo::warning=") && stdout.contains("git cannot be run"), "{stdout}");
}

/// The compiled build script below `directory`.
fn build_script(directory: &Path) -> PathBuf {
    let packages = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    packages.map(|path| path.join("build-script-build")).find(|path| path.exists()).unwrap()
}
