//! How a server is spoken to: time-outs, pauses, certificates, logins.

use std::path::PathBuf;
use std::time::Duration;

use super::Pulse;

/// How links are made. Holds paths to secrets, never a secret: files are read at each connection, so that a renewed
/// certificate or password is taken up without a restart.
#[derive(Clone, Debug)]
pub struct LinkOptions {
    /// Longest wait for a connection, its TLS handshake and its login together, per server asked.
    pub connect_timeout: Duration,
    /// Longest wait for an answer, and for the socket to take a command.
    pub reply_timeout: Duration,
    /// Upper bound of the first pause before connecting again.
    pub backoff_first: Duration,
    /// Upper bound of every pause.
    pub backoff_cap: Duration,
    /// Holds the password of the user in the URL, or of the default user.
    pub password_file: Option<PathBuf>,
    /// Certificates.
    pub tls: TlsFiles,
    /// How to log in to Sentinels.
    pub sentinel: SentinelLogin,
    /// Felt by who watches over whoever waits.
    pub pulse: Pulse,
}

/// PEM files for `rediss://`.
#[derive(Clone, Debug, Default)]
pub struct TlsFiles {
    /// Certificates of the authorities to trust instead of the system's.
    pub ca: Option<PathBuf>,
    /// The client's certificate, its chain after it.
    pub cert: Option<PathBuf>,
    /// The key of `cert`.
    pub key: Option<PathBuf>,
}

/// How to log in to Sentinels, which have users of their own.
#[derive(Clone, Debug, Default)]
pub struct SentinelLogin {
    /// The default user if absent.
    pub user: Option<String>,
    /// Holds the password; without it there is no login.
    pub password_file: Option<PathBuf>,
}

impl Default for LinkOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            reply_timeout: Duration::from_secs(15),
            backoff_first: Duration::from_millis(50),
            backoff_cap: Duration::from_secs(5),
            password_file: None,
            tls: TlsFiles::default(),
            sentinel: SentinelLogin::default(),
            pulse: Pulse::default(),
        }
    }
}
