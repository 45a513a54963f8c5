//! Secrets and certificates, read from their files at each connection.

use std::path::Path;

use redis::{ClientTlsConfig, TlsCertificates};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::{LinkOptions, RedisAddress, TlsFiles, Trouble};
use crate::bounded;

/// Who logs in, and to which database. Has no `Debug`: it holds the password.
pub(super) struct Login {
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    pub(super) db: i64,
}

impl Login {
    /// To a server: the URL's password, else that of the file.
    pub(super) fn to_server(address: &RedisAddress, options: &LinkOptions) -> Result<Self, Trouble> {
        let password = match (address.password(), &options.password_file) {
            (Some(password), _) => Some(password.to_owned()),
            (None, Some(file)) => Some(secret(file)?),
            (None, None) if address.user().is_some() => {
                return Err(Trouble::Unreachable(
                    "the Redis URL names a user without a password; give it there or with --redis-password-file"
                        .to_owned(),
                ));
            }
            (None, None) => None,
        };
        Ok(Self { user: address.user().map(str::to_owned), password, db: address.db() })
    }

    /// To a Sentinel, which knows neither the server's users nor databases.
    pub(super) fn to_sentinel(options: &LinkOptions) -> Result<Self, Trouble> {
        let password = options.sentinel.password_file.as_deref().map(secret).transpose()?;
        Ok(Self { user: options.sentinel.user.clone(), password, db: 0 })
    }
}

/// The file's text without the end of its line.
fn secret(file: &Path) -> Result<String, Trouble> {
    let shown = file.display();
    let text = bounded::read_text(file, bounded::SMALL)
        .map_err(|error| Trouble::Unreachable(format!("cannot read the password file {shown} ({error})")))?;
    match text.trim_end_matches(['\n', '\r']) {
        "" => Err(Trouble::Unreachable(format!("the password file {shown} is empty"))),
        secret => Ok(secret.to_owned()),
    }
}

/// What the files hold, in the library's terms.
pub(super) fn certificates(files: &TlsFiles) -> Result<TlsCertificates, Trouble> {
    let read = |what: &str, file: &Path| {
        bounded::read(file, bounded::SMALL).map_err(|error| {
            Trouble::Unreachable(format!("cannot read the {what} {} ({error})", file.display()))
        })
    };
    let chain = |what: &str, file: &Path| {
        let bytes = read(what, file)?;
        let mut found = CertificateDer::pem_slice_iter(&bytes).peekable();
        let whole = found.peek().is_some() && found.all(|certificate| certificate.is_ok());
        let trouble = || {
            Trouble::Unreachable(format!("the {what} {} is no list of certificates in PEM", file.display()))
        };
        whole.then_some(bytes).ok_or_else(trouble)
    };
    let client_tls = match (&files.cert, &files.key) {
        (Some(cert), Some(key)) => Some(ClientTlsConfig {
            client_cert: chain("client certificate", cert)?,
            client_key: read("key of the client certificate", key)?,
        }),
        (None, None) => None,
        _ => {
            return Err(Trouble::Unreachable(
                "a client certificate needs its key: give both --redis-cert and --redis-key".to_owned(),
            ));
        }
    };
    let root_cert = files.ca.as_deref().map(|ca| chain("CA file", ca)).transpose()?;
    Ok(TlsCertificates { client_tls, root_cert })
}
