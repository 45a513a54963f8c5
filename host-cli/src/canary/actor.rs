//! Who acts.

use std::fs;

use serde::{Deserialize, Serialize};

/// The user of this process, as the system knows it; the environment could say anything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Actor {
    /// Real user id.
    pub uid: u32,
    /// Its name in `/etc/passwd`, if it has one there.
    pub user: Option<String>,
    /// Process id.
    pub pid: u32,
}

impl Actor {
    /// The actor of this process.
    #[must_use]
    pub fn current() -> Self {
        let uid = rustix::process::getuid().as_raw();
        let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
        Self { uid, user: name_in(&users, uid), pid: std::process::id() }
    }
}

fn name_in(users: &str, uid: u32) -> Option<String> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid.to_string()).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_belongs_to_its_id() {
        let users = "root:x:0:0:root:/root:/bin/bash\nqsc:x:991:991::/:/sbin/nologin\n";
        assert_eq!(name_in(users, 991).as_deref(), Some("qsc"));
        assert_eq!(name_in(users, 99), None);
    }
}
