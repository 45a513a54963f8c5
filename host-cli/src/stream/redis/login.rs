//! Secrets and certificates, read from their files at each connection.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

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
pub(super) fn tls_config(files: &TlsFiles) -> Result<Arc<ClientConfig>, Trouble> {
    let unusable =
        |error: &dyn fmt::Display| Trouble::Unreachable(format!("TLS with Redis cannot be set up ({error})"));
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(&error))?
        .with_root_certificates(authorities(files.ca.as_deref())?);
    match (&files.cert, &files.key) {
        (Some(cert), Some(key)) => {
            let chain = chain("client certificate", cert)?;
            let secret = read("key of the client certificate", key)?;
            let secret = PrivateKeyDer::from_pem_slice(&secret).map_err(|error| {
                let shown = key.display();
                Trouble::Unreachable(format!(
                    "the key of the client certificate {shown} is no key in PEM ({error})"
                ))
            })?;
            let config = config.with_client_auth_cert(chain, secret).map_err(|error| {
                let (cert, key) = (cert.display(), key.display());
                Trouble::Unreachable(format!(
                    "the client certificate {cert} and the key {key} cannot be used together ({error})"
                ))
            })?;
            Ok(Arc::new(config))
        }
        (None, None) => Ok(Arc::new(config.with_no_client_auth())),
        _ => Err(Trouble::Unreachable(
            "a client certificate needs its key: give both --redis-cert and --redis-key".to_owned(),
        )),
    }
}

/// Those of the file, or of the system.
fn authorities(ca: Option<&Path>) -> Result<RootCertStore, Trouble> {
    let mut store = RootCertStore::empty();
    if let Some(ca) = ca {
        for certificate in chain("CA file", ca)? {
            store.add(certificate).map_err(|error| {
                Trouble::Unreachable(format!(
                    "the CA file {} holds what is no authority ({error})",
                    ca.display()
                ))
            })?;
        }
        return Ok(store);
    }
    let system = rustls_native_certs::load_native_certs();
    let (added, _) = store.add_parsable_certificates(system.certs);
    if added > 0 {
        return Ok(store);
    }
    let why = system.errors.first().map_or_else(String::new, |error| format!(" ({error})"));
    Err(Trouble::Unreachable(format!(
        "this system names no authority to trust for TLS{why}; name the file of one with --redis-ca"
    )))
}

fn read(what: &str, file: &Path) -> Result<Vec<u8>, Trouble> {
    bounded::read(file, bounded::SMALL)
        .map_err(|error| Trouble::Unreachable(format!("cannot read the {what} {} ({error})", file.display())))
}

/// All certificates of a file: at least one, and nothing else.
fn chain(what: &str, file: &Path) -> Result<Vec<CertificateDer<'static>>, Trouble> {
    let bytes = read(what, file)?;
    let found = CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>();
    found.ok().filter(|found| !found.is_empty()).ok_or_else(|| {
        Trouble::Unreachable(format!("the {what} {} is no list of certificates in PEM", file.display()))
    })
}
