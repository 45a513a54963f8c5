//! Builds: what is expected, what a log line names, and when the two are the same.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::identity::{self, DIRTY, MARKER, UNKNOWN};

/// Fewer digits may name more than one commit.
const SHORTEST: usize = 7;
const LONGEST: usize = 64;

/// A build, as somebody named it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", from = "String")]
pub enum Build {
    /// A commit: 7 to 64 lower-case hexadecimal digits.
    Commit(String),
    /// A commit with changes nobody has recorded.
    Dirty(String),
    /// A build that does not know its commit.
    Unknown,
    /// Nothing that names a build.
    Unreadable(String),
}

impl Build {
    /// Reads what follows the marker; never fails, since what it cannot read matches nothing.
    #[must_use]
    pub fn read(text: &str) -> Self {
        if text == UNKNOWN {
            return Self::Unknown;
        }
        match text.strip_suffix(DIRTY) {
            Some(sha) if is_sha(sha) => Self::Dirty(text.to_ascii_lowercase()),
            None if is_sha(text) => Self::Commit(text.to_ascii_lowercase()),
            _ => Self::Unreadable(text.to_owned()),
        }
    }

    /// Reads `--expect`.
    ///
    /// # Errors
    /// It names no build at all.
    pub fn parse(text: &str) -> Result<Self, String> {
        match Self::read(text) {
            Self::Unreadable(_) => {
                Err(format!("expected a git SHA of {SHORTEST} to {LONGEST} hexadecimal digits"))
            }
            build => Ok(build),
        }
    }

    /// The build of this very binary.
    #[must_use]
    pub fn own() -> Self {
        Self::read(identity::build())
    }

    /// True if both are commits and one is an abbreviation of the other. Nothing dirty or unknown matches anything.
    #[must_use]
    pub fn matches(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Commit(one), Self::Commit(other)) => one.starts_with(other) || other.starts_with(one),
            _ => false,
        }
    }
}

impl fmt::Display for Build {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Commit(text) | Self::Dirty(text) | Self::Unreadable(text) => formatter.write_str(text),
            Self::Unknown => formatter.write_str(UNKNOWN),
        }
    }
}

impl From<Build> for String {
    fn from(build: Build) -> Self {
        build.to_string()
    }
}

impl From<String> for Build {
    fn from(text: String) -> Self {
        Self::read(&text)
    }
}

/// The build a log message names, wherever in the message a logger has put it.
#[must_use]
pub fn named_in(message: &str) -> Option<Build> {
    let (before, after) = message.split_once(MARKER)?;
    let begins = before.chars().next_back().is_none_or(|last| !last.is_alphanumeric() && last != '_');
    begins.then(|| Build::read(after.split_whitespace().next().unwrap_or("")))
}

fn is_sha(text: &str) -> bool {
    (SHORTEST..=LONGEST).contains(&text.len()) && text.bytes().all(|digit| digit.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHA: &str = "0123456789abcdef0123456789abcdef01234567";

    #[test]
    fn either_side_may_be_short_but_not_shorter_than_seven() {
        let full = Build::read(SHA);
        for length in [7, 12, 40] {
            let short = Build::parse(&SHA[..length]).unwrap();
            assert!(short.matches(&full) && full.matches(&short), "{length}");
        }
        assert!(Build::parse(&SHA[..7].to_uppercase()).unwrap().matches(&full));
        assert!(!Build::read("0123456789abce").matches(&full));
        assert!(!Build::read(&SHA[..6]).matches(&full), "six digits in a log name nothing");
        for text in ["", &SHA[..6], "HEAD", "0123456g", &"0".repeat(65), " 0123456", "012-dirty"] {
            assert!(Build::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn dirty_and_unknown_never_match() {
        let dirty = Build::parse(&format!("{SHA}-dirty")).unwrap();
        let unknown = Build::parse("<unknown>").unwrap();
        let commit = Build::read(SHA);
        for one in [&dirty, &unknown, &Build::Unreadable(SHA.to_owned())] {
            for other in [&dirty, &unknown, &commit] {
                assert!(!one.matches(other) && !other.matches(one), "{one} {other}");
            }
        }
    }

    #[test]
    fn the_marker_is_found_behind_a_loggers_prefix() {
        let commit = Some(Build::read(SHA));
        assert_eq!(named_in(&format!("AI_ENGINE_BUILD: {SHA}")), commit);
        assert_eq!(named_in(&format!("2026-01-10 05:43:15 INFO [main] AI_ENGINE_BUILD: {SHA} (x)")), commit);
        assert_eq!(named_in(&identity::log_line()), Some(Build::own()));
        assert_eq!(named_in(&format!("NO_AI_ENGINE_BUILD: {SHA}")), None);
        assert_eq!(named_in("AI_ENGINE_BUILD"), None);
        assert_eq!(named_in("AI_ENGINE_BUILD: "), Some(Build::Unreadable(String::new())));
        assert_eq!(named_in(&format!("AI_ENGINE_BUILD: {SHA},")), Some(Build::Unreadable(format!("{SHA},"))));
    }
}
