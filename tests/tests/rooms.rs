//! Rooms have one direction: what a room of `host-cli` imports never imports it back, by whatever way.

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

#[test]
fn no_room_is_imported_by_what_it_imports() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../host-cli/src");
    let mut code: BTreeMap<String, String> = BTreeMap::new();
    for entry in fs::read_dir(&source).unwrap() {
        let path = entry.unwrap().path();
        let room = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if room != "lib" && room != "main" {
            read_all(&path, code.entry(room).or_default());
        }
    }
    let mut left: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (room, code) in &code {
        let rooms = imports(code).into_iter().filter(|other| other != room);
        left.insert(room, rooms.filter(|other| code_has(&source, other)).collect());
    }
    assert!(left.len() > 15 && left["commands"].contains("gate"), "{left:?}");
    // Rooms that import nothing that is left are put aside until none is: otherwise those that stay go round in a circle.
    while let Some(room) = left.iter().find(|(_, rooms)| rooms.iter().all(|room| !left.contains_key(&**room)))
    {
        let room = *room.0;
        left.remove(room);
    }
    assert!(left.is_empty(), "these rooms import each other: {left:#?}");
}

fn code_has(source: &Path, room: &str) -> bool {
    source.join(room).is_dir() || source.join(format!("{room}.rs")).is_file()
}
