//! The flags of a connection to Redis.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::stream::{LinkOptions, SentinelLogin, TlsFiles, parse_positive_duration};

/// How Redis is spoken to. All files are read again at each connection.
#[derive(Debug, Args)]
#[command(next_help_heading = "Connection to Redis")]
pub(super) struct RedisArgs {
    /// File with the password of the URL's user; for a URL that holds none
    #[arg(long, value_name = "FILE")]
    redis_password_file: Option<PathBuf>,
    /// Authorities to trust instead of the system's, for rediss://
    #[arg(long, value_name = "FILE.pem")]
    redis_ca: Option<PathBuf>,
    /// Certificate to show to the server, for rediss://
    #[arg(long, value_name = "FILE.pem")]
    redis_cert: Option<PathBuf>,
    /// Key of that certificate
    #[arg(long, value_name = "FILE.pem")]
    redis_key: Option<PathBuf>,
    /// User of the Sentinels
    #[arg(long, value_name = "NAME")]
    redis_sentinel_user: Option<String>,
    /// File with the password of the Sentinels
    #[arg(long, value_name = "FILE")]
    redis_sentinel_password_file: Option<PathBuf>,
    /// Longest wait for a connection, with TLS and login
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_positive_duration)]
    redis_connect_timeout: Duration,
    /// Longest wait for an answer
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = parse_positive_duration)]
    redis_reply_timeout: Duration,
}

impl RedisArgs {
    /// What a link is made with.
    pub(super) fn options(&self) -> LinkOptions {
        LinkOptions {
            connect_timeout: self.redis_connect_timeout,
            reply_timeout: self.redis_reply_timeout,
            password_file: self.redis_password_file.clone(),
            tls: TlsFiles {
                ca: self.redis_ca.clone(),
                cert: self.redis_cert.clone(),
                key: self.redis_key.clone(),
            },
            sentinel: SentinelLogin {
                user: self.redis_sentinel_user.clone(),
                password_file: self.redis_sentinel_password_file.clone(),
            },
            ..LinkOptions::default()
        }
    }
}
