//! Signed reports: an in-toto `test-result` statement about the report files, in a DSSE envelope signed with Ed25519.
//!
//! The envelope of `X.json` is `X.dsse.json`. Its payload names the files by SHA-256, so that a report cannot be changed
//! without the signature telling. Keys are PEM files as `openssl genpkey -algorithm ed25519` and `openssl pkey -pubout` make
//! them; `credential:NAME` is a file that systemd put into `$CREDENTIALS_DIRECTORY`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use base64ct::{Base64, Encoding as _};
use ed25519_dalek::pkcs8::{DecodePrivateKey as _, DecodePublicKey as _};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::bounded;
use crate::digest::sha256;
use crate::stream::replace_durably;

const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
const STATEMENT: &str = "https://in-toto.io/Statement/v1";
/// The predicate: what was tested, with which result.
pub const PREDICATE: &str = "https://in-toto.io/attestation/test-result/v0.1";

#[derive(Serialize, Deserialize)]
struct Envelope {
    payload: String,
    #[serde(rename = "payloadType")]
    payload_type: String,
    signatures: Vec<EnvelopeSignature>,
}

#[derive(Serialize, Deserialize)]
struct EnvelopeSignature {
    #[serde(default)]
    keyid: String,
    sig: String,
}

/// Reads a private key, PKCS #8 in PEM.
///
/// # Errors
/// The file cannot be read or is no Ed25519 key. The message never quotes its content.
pub fn read_signing_key(name: &str) -> anyhow::Result<SigningKey> {
    let path = match name.strip_prefix("credential:") {
        Some(name) => {
            let directory = std::env::var_os("CREDENTIALS_DIRECTORY").context(
                "credential: needs $CREDENTIALS_DIRECTORY, which systemd sets for LoadCredential=",
            )?;
            ensure!(
                !name.is_empty() && !name.contains('/') && name != "..",
                "credential:{name} is no name of a credential"
            );
            PathBuf::from(directory).join(name)
        }
        None => PathBuf::from(name),
    };
    let pem = bounded::read_text(&path, bounded::SMALL)
        .with_context(|| format!("cannot read the key {}", path.display()))?;
    SigningKey::from_pkcs8_pem(&pem)
        .ok()
        .with_context(|| format!("{} is no Ed25519 private key in PEM (PKCS #8)", path.display()))
}

/// Reads a public key, SPKI in PEM.
///
/// # Errors
/// The file cannot be read or is no Ed25519 key.
pub fn read_verifying_key(path: &Path) -> anyhow::Result<VerifyingKey> {
    let pem = bounded::read_text(path, bounded::SMALL)
        .with_context(|| format!("cannot read the key {}", path.display()))?;
    VerifyingKey::from_public_key_pem(&pem)
        .ok()
        .with_context(|| format!("{} is no Ed25519 public key in PEM", path.display()))
}

/// What names a key in an envelope: SHA-256 of its 32 bytes.
#[must_use]
pub fn key_id(key: &VerifyingKey) -> String {
    sha256(key.as_bytes())
}

/// Where the envelope of a report is.
#[must_use]
pub fn envelope_path(json: &Path) -> PathBuf {
    json.with_extension("dsse.json")
}

/// Signs the report whose JSON twin is `json`, and writes the envelope beside it.
///
/// # Errors
/// The report cannot be read, is no report, has not the files that its twin names, or the envelope cannot be written.
pub fn sign(json: &Path, key: &SigningKey) -> anyhow::Result<PathBuf> {
    write_envelope(json, &statement(json, None)?, key)
}

/// Signs the report that this process has just written, and nothing that somebody has put in its place since.
///
/// # Errors
/// As [`sign`], and the twin is not the one of `sha256`.
pub fn sign_written(json: &Path, sha256: Option<&str>, key: &SigningKey) -> anyhow::Result<PathBuf> {
    let sha256 = sha256.with_context(|| format!("{} has no digest to sign it by", json.display()))?;
    write_envelope(json, &statement(json, Some(sha256))?, key)
}

fn write_envelope(json: &Path, statement: &Value, key: &SigningKey) -> anyhow::Result<PathBuf> {
    let payload = statement.to_string();
    let signature = key.sign(&pre_authentication_encoding(payload.as_bytes()));
    let envelope = Envelope {
        payload: Base64::encode_string(payload.as_bytes()),
        payload_type: PAYLOAD_TYPE.to_owned(),
        signatures: vec![EnvelopeSignature {
            keyid: key_id(&key.verifying_key()),
            sig: Base64::encode_string(&signature.to_bytes()),
        }],
    };
    let path = envelope_path(json);
    let text = serde_json::to_string_pretty(&envelope)? + "\n";
    replace_durably(&path, text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// Verifies that `key` signed exactly the report whose JSON twin is `json`; the statement it signed.
///
/// # Errors
/// A file cannot be read, or why the signature does not hold.
pub fn verify(json: &Path, key: &VerifyingKey) -> anyhow::Result<Value> {
    let path = envelope_path(json);
    let text = bounded::read_text(&path, bounded::SMALL)
        .with_context(|| format!("there is no signature: cannot read {}", path.display()))?;
    let envelope: Envelope =
        serde_json::from_str(&text).with_context(|| format!("{} is no DSSE envelope", path.display()))?;
    ensure!(envelope.payload_type == PAYLOAD_TYPE, "the envelope holds {:?}", envelope.payload_type);
    let payload = Base64::decode_vec(&envelope.payload).ok().context("the payload is no base64")?;
    let signed = pre_authentication_encoding(&payload);
    let holds = envelope.signatures.iter().any(|signature| {
        Base64::decode_vec(&signature.sig)
            .ok()
            .and_then(|bytes| Signature::from_slice(&bytes).ok())
            .is_some_and(|signature| key.verify_strict(&signed, &signature).is_ok())
    });
    ensure!(holds, "no signature in {} is of the key {}", path.display(), key_id(key));
    let signed: Value = serde_json::from_slice(&payload).context("the signed payload is no JSON")?;
    // What was signed must be what is there now: the statement of these files, to the byte.
    if signed != statement(json, None)? {
        bail!("{} signs another report than the files beside it", path.display());
    }
    Ok(signed)
}

/// What DSSE signs: the payload with its type and both lengths.
fn pre_authentication_encoding(payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {PAYLOAD_TYPE} {} ", PAYLOAD_TYPE.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

/// The in-toto statement about a report: a function of its files. The twin must be the one `written`, if that is given, and the
/// others must be those that the twin names.
fn statement(json: &Path, written: Option<&str>) -> anyhow::Result<Value> {
    let text = read(json)?;
    let report: Value =
        serde_json::from_slice(&text).with_context(|| format!("{} is no JSON", json.display()))?;
    ensure!(
        report["command"] == "quality-gate" && report["verdict"].is_string(),
        "{} is no report of the quality gate",
        json.display()
    );
    let mut subject = Vec::new();
    let digests = &report["report"]["sha256"];
    for (path, named) in [
        (json.to_owned(), written),
        (json.with_extension("md"), digests["markdown"].as_str()),
        (json.with_extension("html"), digests["html"].as_str()),
    ] {
        let digest = if path == json {
            Some(sha256(&text))
        } else if path.exists() {
            Some(sha256(read(&path)?))
        } else {
            None
        };
        let is_free = path == json && written.is_none();
        ensure!(
            is_free || digest.as_deref() == named,
            "{} is not the file that was written: judge again, and find out who writes there",
            path.display()
        );
        if let Some(digest) = digest {
            subject.push(json!({"name": file_name(&path), "digest": {"sha256": digest}}));
        }
    }
    let models = report["models"].as_object().context("the report has no models")?;
    let tests = |passed: bool| -> Vec<&String> {
        let of = |model: &Value| (model["verdict"] == "pass") == passed;
        models.iter().filter(|(_, model)| of(model)).map(|(name, _)| name).collect()
    };
    let evidence = &report["evidence"];
    let rules = evidence["rules"].to_string();
    Ok(json!({
        "_type": STATEMENT,
        "subject": subject,
        "predicateType": PREDICATE,
        "predicate": {
            "result": if report["verdict"] == "pass" { "PASSED" } else { "FAILED" },
            "configuration": [
                {"name": "rules", "digest": {"sha256": sha256(rules)}},
                {"name": "events", "digest": {"sha256": evidence["sha256"]}},
            ],
            "passedTests": tests(true),
            "warnedTests": [],
            "failedTests": tests(false),
        },
    }))
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    bounded::read(path, bounded::GROWING).with_context(|| format!("cannot read {}", path.display()))
}

fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}
