//! What became of a command that brought no answer to use, and what to say about it.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;

use redis::{ErrorKind, RedisError, ServerError};
use rustls::CertificateError;

use super::RedisAddress;

/// Why a command brought nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The command was certainly not carried out: there was no connection to send it on. One sentence on why.
    Unreachable(String),
    /// Sent, or partly sent, without an answer: it may have been carried out. To be resolved by looking. One sentence
    /// on what happened.
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

    /// Whether the key asked about does not exist.
    #[must_use]
    pub fn is_missing_key(&self) -> bool {
        matches!(self, Self::Refused { message, .. } if message.contains("no such key"))
    }

    /// Whether a connection made anew, after a pause, may mend it: the server is gone, starting, busy with a
    /// script, no master any longer, or not the one that serves the key.
    #[must_use]
    pub fn calls_for_reconnect(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Unknown(_) => true,
            Self::Refused { code, .. } => matches!(
                code.as_str(),
                "READONLY"
                    | "LOADING"
                    | "BUSY"
                    | "MASTERDOWN"
                    | "UNBLOCKED"
                    | "CLUSTERDOWN"
                    | "MOVED"
                    | "ASK"
                    | "TRYAGAIN"
            ),
        }
    }

    /// One sentence for a person, on what happened at `address` and what to do about it.
    #[must_use]
    pub fn explain(&self, address: &RedisAddress) -> String {
        let Self::Refused { code, message } = self else { return self.to_string() };
        match code.as_str() {
            "NOAUTH" | "WRONGPASS" => format!(
                "Redis at {address} refused the login ({message}); check user and password in the URL or in \
                 --redis-password-file"
            ),
            "NOPERM" => format!("Redis at {address} does not permit this user what is needed ({message})"),
            "LOADING" => format!("Redis at {address} is still loading its data; try again when it has"),
            "CLUSTERDOWN" => format!(
                "the Redis Cluster at {address} is down ({message}); see redis-cli --cluster check for slots without \
                 a node"
            ),
            "MOVED" | "ASK" if !address.is_cluster() => {
                format!("Redis at {address} is a node of a Cluster; name it as redis-cluster://")
            }
            "READONLY" => format!(
                "Redis at {address} is a replica, which takes no writes; name its master, or its Sentinels as \
                 redis-sentinel://"
            ),
            "OOM" => format!(
                "Redis at {address} has reached its maxmemory and takes no writes; raise it, or trim what may go"
            ),
            "MISCONF" => format!(
                "Redis at {address} cannot write to its disk and takes no writes ({self}); make room there, or see its log"
            ),
            "NOREPLICAS" => format!(
                "Redis at {address} takes no writes while too few replicas follow it ({self}); bring them back"
            ),
            _ => format!("Redis at {address} refused: {self}"),
        }
    }

    /// From an answer that is an error.
    pub(super) fn refused(error: &ServerError) -> Self {
        Self::Refused {
            code: error.code().to_owned(),
            message: error.details().unwrap_or_default().to_owned(),
        }
    }

    /// What kept a connection to `at` from being made.
    pub(super) fn unreachable(error: &RedisError, at: &str, tls: bool) -> Self {
        Self::Unreachable(if let Some(error) = tls_error(error) {
            explain_tls(error, at)
        } else if error.is_timeout() && tls {
            format!(
                "Redis at {at} did not answer in time; check the server and the network, and if its port is plain, use \
                 the URL's form without TLS"
            )
        } else if error.is_timeout() {
            format!("Redis at {at} did not answer in time; check the server and the network")
        } else if tls && is_cut(error) {
            format!(
                "Redis at {at} closed the connection during the TLS handshake; check that its port speaks TLS and \
                 whether it asks for a client certificate (--redis-cert, --redis-key)"
            )
        } else if is_cut(error) {
            format!(
                "Redis at {at} closed the connection before it answered; check that the server runs, and if its port speaks \
                 TLS, use rediss://"
            )
        } else if error.kind() == ErrorKind::Parse {
            format!(
                "what answers at {at} does not speak Redis in plain text; if its port speaks TLS, use rediss://"
            )
        } else {
            format!("cannot reach Redis at {at} ({error}); check that the server runs there")
        })
    }

    /// What became of `command`, sent to `at` without an answer.
    pub(super) fn unknown(error: &RedisError, at: &str, command: &str) -> Self {
        Self::Unknown(if error.is_timeout() {
            format!("Redis at {at} did not answer {command} in time; whether it was carried out is not known")
        } else if error.is_io_error() {
            format!(
                "the connection to Redis at {at} was lost before it answered {command} ({error}); whether it was \
                 carried out is not known"
            )
        } else {
            format!("Redis at {at} answered {command} in a form not known here ({error})")
        })
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

impl Error for Trouble {}

/// The errors within that the server answered with; none if it is an error of the connection.
pub(super) fn refusals(error: &RedisError) -> Vec<ServerError> {
    let errors = error.clone().into_server_errors();
    errors.iter().flat_map(|errors| errors.iter()).map(|(_, error)| error.clone()).collect()
}

/// The error of the socket within.
fn io_error(error: &RedisError) -> Option<&io::Error> {
    let source = error.source()?;
    // The library keeps its causes in an `Arc`, so that its errors can be cloned.
    match source.downcast_ref::<Arc<dyn Error + Send + Sync>>() {
        Some(cause) => cause.downcast_ref(),
        None => source.downcast_ref(),
    }
}

/// Whether the peer ended the connection.
fn is_cut(error: &RedisError) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    let kind = io_error(error).map(io::Error::kind);
    matches!(kind, Some(BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof))
}

/// The error of TLS within.
fn tls_error(error: &RedisError) -> Option<&rustls::Error> {
    io_error(error)?.get_ref()?.downcast_ref()
}

fn explain_tls(error: &rustls::Error, at: &str) -> String {
    use CertificateError as Bad;
    let certificate = |what: &str| format!("the certificate of Redis at {at} {what}");
    match error {
        rustls::Error::InvalidCertificate(bad) => match bad {
            Bad::Expired | Bad::ExpiredContext { .. } => certificate("has expired; renew it"),
            Bad::NotValidYet | Bad::NotValidYetContext { .. } => {
                certificate("is not valid yet; check the clocks of both machines")
            }
            // A bad signature is that of another authority of the same name.
            Bad::UnknownIssuer | Bad::BadSignature => {
                certificate("is signed by no authority trusted here; name the file of its CA with --redis-ca")
            }
            Bad::NotValidForName | Bad::NotValidForNameContext { .. } => {
                certificate("is for another name; use a name it holds, or give the server one for this name")
            }
            other => certificate(&format!("cannot be trusted ({other})")),
        },
        rustls::Error::AlertReceived(alert) => format!(
            "Redis at {at} refused TLS with the alert {alert:?}; check the client's certificate (--redis-cert, \
             --redis-key)"
        ),
        rustls::Error::InvalidMessage(_) => {
            format!(
                "what answers at {at} does not speak TLS; if its port is plain, use the URL's form without TLS"
            )
        }
        other => format!("TLS with Redis at {at} failed ({other})"),
    }
}
