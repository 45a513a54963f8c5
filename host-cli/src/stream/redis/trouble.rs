//! What became of a command that brought no answer to use.

use std::fmt;

use redis::{ErrorKind, RedisError};

/// Why a command brought nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The command was certainly not carried out: there was no connection to send it on.
    Unreachable(String),
    /// Sent, or partly sent, without an answer: it may have been carried out. To be resolved by looking.
    Unknown(String),
    /// The server answered with an error. A single command was not carried out, nor a transaction; of a plain pipeline
    /// it is the first error, and its other commands may have been.
    Refused {
        /// The first word of the error, such as `NOGROUP`, `NOSCRIPT`, `WRONGTYPE`, `OOM`, `READONLY` or `LOADING`.
        code: String,
        /// The rest of it.
        message: String,
    },
}

impl Trouble {
    /// The code of a refusal.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { code, .. } => Some(code),
            Self::Unreachable(_) | Self::Unknown(_) => None,
        }
    }

    /// Whether a connection made anew, after a pause, may mend it: the server is gone, starting, no master any longer,
    /// or not the one that serves the key.
    #[must_use]
    pub fn calls_for_reconnect(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Unknown(_) => true,
            Self::Refused { code, .. } => matches!(
                code.as_str(),
                "READONLY"
                    | "LOADING"
                    | "MASTERDOWN"
                    | "UNBLOCKED"
                    | "CLUSTERDOWN"
                    | "MOVED"
                    | "ASK"
                    | "TRYAGAIN"
            ),
        }
    }

    /// From an error that is not of the connection; `None` if it is no answer of the server either.
    pub(super) fn refusal(error: &RedisError) -> Option<Self> {
        let refused =
            |code: &str, message: &str| Self::Refused { code: code.to_owned(), message: message.to_owned() };
        if error.kind() == ErrorKind::AuthenticationFailed {
            return Some(refused("WRONGPASS", "the user or the password is wrong"));
        }
        let errors = error.clone().into_server_errors()?;
        let (_, first) = errors.first()?;
        Some(refused(first.code(), first.details().unwrap_or_default()))
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(reason) | Self::Unknown(reason) => formatter.write_str(reason),
            Self::Refused { code, message } => write!(formatter, "{code} {message}"),
        }
    }
}

impl std::error::Error for Trouble {}
