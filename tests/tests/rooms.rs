//! Rooms have one direction: a room imports only rooms on lines below its own in ARCHITECTURE.md, in the kernel also on its
//! own line.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The rooms that the code of a file names as `crate::room` or `crate::{room, …}`; comments do not count.
fn imports(code: &str) -> BTreeSet<String> {
    let code: String =
        code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join(" ");
    let name = |text: &str| -> String {
        text.trim_start().chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
    };
    let mut found = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        match rest.strip_prefix('{') {
            // A list of rooms holds no braces within braces in front of its commas that matter here.
            Some(list) => found.extend(list.split('}').next().unwrap().split(',').map(name)),
            None => {
                found.insert(name(rest));
            }
        }
    }
    found
}

fn read_all(path: &Path, into: &mut String) {
    if path.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| read_all(&entry.unwrap().path(), into));
    } else if path.extension().is_some_and(|extension| extension == "rs") {
        into.push_str(&fs::read_to_string(path).unwrap());
        into.push('\n');
    }
}

/// Lines of rooms from ARCHITECTURE.md, the topmost first: the indented block after the line with `words`.
fn levels(words: &str) -> BTreeMap<String, usize> {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../ARCHITECTURE.md")).unwrap();
    let block = page.lines().skip_while(|line| !line.contains(words)).skip(2);
    let lines = block.take_while(|line| line.starts_with("    "));
    lines
        .enumerate()
        .flat_map(|(level, line)| line.split_whitespace().map(move |room| (room.to_owned(), level)))
        .collect()
}

/// Imports of a crate for which `allowed(level of the room, level of what it imports)` does not hold.
fn upward(
    source: &str,
    levels: &BTreeMap<String, usize>,
    allowed: impl Fn(usize, usize) -> bool,
) -> Vec<String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(source);
    let mut code: BTreeMap<String, String> = BTreeMap::new();
    for entry in fs::read_dir(&source).unwrap() {
        let path = entry.unwrap().path();
        let room = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if room != "lib" && room != "main" {
            read_all(&path, code.entry(room).or_default());
        }
    }
    let there: BTreeSet<&String> = code.keys().collect();
    assert_eq!(there, levels.keys().collect(), "ARCHITECTURE.md lists the rooms that there are");
    let mut upward = Vec::new();
    for (room, code) in &code {
        let others = imports(code).into_iter().filter(|other| other != room && there.contains(other));
        upward.extend(
            others
                .filter(|other| !allowed(levels[room], levels[other]))
                .map(|other| format!("{room} imports {other}")),
        );
    }
    upward
}

#[test]
fn rooms_of_the_host_import_only_what_lies_below_them() {
    let levels = levels("tests/tests/rooms.rs");
    assert!(levels.len() > 15 && levels["commands"] < levels["gate"], "{levels:?}");
    let upward = upward("host-cli/src", &levels, |room, other| room < other);
    assert!(upward.is_empty(), "{upward:#?}");
}

#[test]
fn rooms_of_the_kernel_import_nothing_above_them() {
    let levels = levels("In the kernel rooms on one line");
    assert!(levels.len() > 10 && levels["ensemble"] < levels["guard"], "{levels:?}");
    let upward = upward("kernel/src", &levels, |room, other| room <= other);
    assert!(upward.is_empty(), "{upward:#?}");
}
