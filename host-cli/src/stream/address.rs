//! What `--source` and `--sink` name.

use std::fmt;
use std::path::PathBuf;

use super::redis::RedisAddress;

/// Where events come from. `Display` names it without secrets.
#[derive(Clone, Debug)]
pub enum SourceSpec {
    /// `file:PATH`: a capture file.
    File(PathBuf),
    /// `-` or `file:-`: a capture on stdin.
    Stdin,
    /// `redis://…` or `redis+unix://…`: a stream of a Redis server.
    Redis(RedisAddress),
}

impl SourceSpec {
    /// Reads the value of `--source`.
    ///
    /// # Errors
    /// Why the text names no source; never quotes it, for it may hold a password.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text == "-" || text == "file:-" {
            return Ok(Self::Stdin);
        }
        if let Some(path) = text.strip_prefix("file:") {
            return file_path(path).map(Self::File);
        }
        match text.split_once("://").map(|(scheme, _)| scheme) {
            Some("redis" | "redis+unix" | "unix") => RedisAddress::parse(text).map(Self::Redis),
            Some(scheme @ ("rediss" | "redis-cluster")) => {
                Err(format!("{scheme}:// is not supported by this build; use redis:// or redis+unix://"))
            }
            _ => Err("expected file:PATH, - (stdin), redis://[user:pass@]host:port[/db] or \
                      redis+unix:///path/to/socket"
                .to_owned()),
        }
    }
}

impl fmt::Display for SourceSpec {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(formatter, "file:{}", path.display()),
            Self::Stdin => formatter.write_str("stdin"),
            Self::Redis(address) => write!(formatter, "redis at {address}"),
        }
    }
}

/// Where events go.
#[derive(Clone, Debug)]
pub enum SinkSpec {
    /// `file:PATH`: a capture file, replaced when the last event is written.
    File(PathBuf),
    /// `-` or `file:-`: capture lines on stdout.
    Stdout,
    /// `redis://…`: a stream of the Redis server the events come from.
    Redis(RedisAddress),
}

impl SinkSpec {
    /// Reads the value of `--sink`.
    ///
    /// # Errors
    /// Why the text names no sink; never quotes it, for it may hold a password.
    pub fn parse(text: &str) -> Result<Self, String> {
        match SourceSpec::parse(text) {
            Ok(SourceSpec::File(path)) => Ok(Self::File(path)),
            Ok(SourceSpec::Stdin) => Ok(Self::Stdout),
            Ok(SourceSpec::Redis(address)) => Ok(Self::Redis(address)),
            Err(reason) => Err(reason.replace("(stdin)", "(stdout)")),
        }
    }
}

fn file_path(path: &str) -> Result<PathBuf, String> {
    if path.is_empty() { Err("the path after file: is empty".to_owned()) } else { Ok(PathBuf::from(path)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read() {
        assert!(matches!(SourceSpec::parse("-"), Ok(SourceSpec::Stdin)));
        assert!(matches!(SourceSpec::parse("file:-"), Ok(SourceSpec::Stdin)));
        assert!(
            matches!(SourceSpec::parse("file:a b.jsonl"), Ok(SourceSpec::File(path)) if path.as_os_str() == "a b.jsonl")
        );
        assert!(matches!(SourceSpec::parse("redis://h:6379/1"), Ok(SourceSpec::Redis(_))));
        assert!(matches!(SourceSpec::parse("redis+unix:///run/r.sock"), Ok(SourceSpec::Redis(_))));
        assert!(matches!(SinkSpec::parse("-"), Ok(SinkSpec::Stdout)));
        assert!(matches!(SinkSpec::parse("file:out"), Ok(SinkSpec::File(path)) if path.as_os_str() == "out"));
        assert!(matches!(SinkSpec::parse("redis://h:6379/1"), Ok(SinkSpec::Redis(_))));
        for text in ["", "out.jsonl", "file:", "http://x", "rediss://h", "redis://h:port", "redis://h/db"] {
            assert!(SourceSpec::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn secrets_are_never_shown() {
        let spec = SourceSpec::parse("redis://trader:hunter2@db.example:6380/3").unwrap();
        assert_eq!(spec.to_string(), "redis at db.example:6380/3");
        assert!(!format!("{spec:?}").contains("hunter2"));
        for text in ["redis://u:hunter2@h:port", "redis://u:hunter2@h/x", "postgres://u:hunter2@h"] {
            assert!(!SourceSpec::parse(text).unwrap_err().contains("hunter2"), "{text}");
        }
    }
}
