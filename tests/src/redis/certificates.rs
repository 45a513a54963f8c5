//! Certificates, made by `openssl` for one test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// An authority that signs certificates.
#[derive(Debug)]
pub struct Authority {
    directory: TempDir,
}

/// A certificate with its key, and the authority that signed it.
#[derive(Clone, Debug)]
pub struct Identity {
    /// PEM file of the authority.
    pub ca: PathBuf,
    /// PEM file of the certificate.
    pub cert: PathBuf,
    /// PEM file of the key.
    pub key: PathBuf,
}

const CONFIG: &str = "
[ca]
default_ca = authority
[authority]
new_certs_dir = .
database = index.txt
rand_serial = yes
unique_subject = no
default_md = sha256
policy = anything
[anything]
commonName = supplied
[req]
distinguished_name = name
[name]
[root]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
";

impl Authority {
    /// Makes one, or says loudly that `openssl` is not installed.
    ///
    /// # Panics
    /// If `openssl` is installed and does not work.
    #[must_use]
    pub fn make() -> Option<Self> {
        if Command::new("openssl").arg("version").stdout(Stdio::null()).status().is_err() {
            crate::skip("openssl is not installed");
            return None;
        }
        let authority = Self { directory: TempDir::new().expect("a scratch directory") };
        fs::write(authority.file("index.txt"), "").expect("a file is written");
        fs::write(authority.file("ca.cnf"), CONFIG).expect("a file is written");
        authority.openssl(
            "req -x509 -config ca.cnf -extensions root -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
             -keyout ca.key -out ca.pem -subj",
            "/CN=Authority of a test",
        );
        Some(authority)
    }

    /// A certificate for `name` (`IP:127.0.0.1`, `DNS:db.example`), valid from yesterday until tomorrow.
    #[must_use]
    pub fn sign(&self, name: &str) -> Identity {
        self.sign_between(name, "200101000000Z", "491231235959Z")
    }

    /// A certificate that ended in 2021.
    #[must_use]
    pub fn sign_expired(&self, name: &str) -> Identity {
        self.sign_between(name, "200101000000Z", "210101000000Z")
    }

    /// The file of this authority's own certificate.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.file("ca.pem")
    }

    fn sign_between(&self, name: &str, from: &str, to: &str) -> Identity {
        let stem = format!("{}-{to}", name.replace([':', '.', ','], "-"));
        fs::write(
            self.file(&format!("{stem}.cnf")),
            format!("{CONFIG}[leaf]\nbasicConstraints = CA:FALSE\nsubjectAltName = {name}\n"),
        )
        .expect("a file is written");
        self.openssl(
            &format!(
                "req -new -config ca.cnf -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout {stem}.key \
                 -out {stem}.csr -subj"
            ),
            "/CN=a test",
        );
        self.openssl(
            &format!(
                "ca -batch -config {stem}.cnf -extensions leaf -cert ca.pem -keyfile ca.key -startdate {from} \
                 -enddate {to} -notext -in {stem}.csr -out"
            ),
            &format!("{stem}.pem"),
        );
        Identity {
            ca: self.ca(),
            cert: self.file(&format!("{stem}.pem")),
            key: self.file(&format!("{stem}.key")),
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs `openssl` with the words of `line`, and `last`, in the directory.
    fn openssl(&self, line: &str, last: &str) {
        let output = Command::new("openssl")
            .args(line.split_ascii_whitespace())
            .arg(last)
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .output()
            .expect("openssl runs");
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Identity {
    /// The lines of a server's configuration.
    pub(super) fn config(&self, port: u16) -> String {
        let path = |path: &Path| path.display().to_string();
        format!(
            "port 0\ntls-port {port}\ntls-ca-cert-file {}\ntls-cert-file {}\ntls-key-file {}\ntls-replication yes\n\
             tls-cluster yes\n",
            path(&self.ca),
            path(&self.cert),
            path(&self.key),
        )
    }

    /// The flags of `qsc` for a client with this certificate.
    #[must_use]
    pub fn flags(&self) -> [String; 6] {
        let path = |path: &Path| path.display().to_string();
        let word = str::to_owned;
        [
            word("--redis-ca"),
            path(&self.ca),
            word("--redis-cert"),
            path(&self.cert),
            word("--redis-key"),
            path(&self.key),
        ]
    }
}
