//! `qsc report`: sign and verify report files.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;

use super::canary::finding_lines;
use crate::attest;
use crate::canary::evidence::{Expected, Finding, examine};
use crate::exit::Exit;
use crate::report::{self, Format};
use crate::stream::{now_ms, parse_duration, parse_timestamp};

/// `qsc report …`.
#[derive(Debug, Subcommand)]
pub enum ReportCommand {
    /// Sign a report as an in-toto test-result statement in a DSSE envelope
    Sign(SignArgs),
    /// Check a canary report as an activation would: result, header, name, digests, age, signature
    Verify(VerifyArgs),
}

/// Arguments of `qsc report sign`.
#[derive(Debug, Args)]
#[command(after_help = "\
Writes NAME.dsse.json beside NAME.json. Keys are those of OpenSSL:
  openssl genpkey -algorithm ed25519 -out key.pem && openssl pkey -in key.pem -pubout -out key.pub

Example:
  qsc report sign reports/safety/quality_gate_20260110_054315_post_cutover.json --key key.pem")]
pub struct SignArgs {
    /// The JSON twin of the report
    report: PathBuf,
    /// Ed25519 private key: a PEM file (PKCS #8), or credential:NAME in $CREDENTIALS_DIRECTORY
    #[arg(long, value_name = "KEY")]
    key: String,
}

/// Arguments of `qsc report verify`.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 everything holds, 2 something does not, 3 it is a collection report, 1 the files cannot be read.

Example:
  qsc report verify reports/safety/quality_gate_20260110_054315_post_cutover.json \\
      --model xgb --cutover 2026-01-10T05:43:15Z --max-age 1h --pubkey key.pub")]
pub struct VerifyArgs {
    /// The report: its Markdown file or its JSON twin
    report: PathBuf,
    /// This model must be eligible
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// The report must be of this cutover
    #[arg(long, value_name = "TS", value_parser = parse_timestamp)]
    cutover: Option<u64>,
    /// The report must not be older
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    max_age: Option<Duration>,
    /// SHA-256 that the JSON twin must have
    #[arg(long, value_name = "HEX")]
    sha256: Option<String>,
    /// The report must be signed by this Ed25519 key (PEM)
    #[arg(long, value_name = "PUBKEY")]
    pubkey: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// A file cannot be read or written.
pub fn run(command: &ReportCommand, format: Format) -> anyhow::Result<Exit> {
    match command {
        ReportCommand::Sign(args) => sign(args, format),
        ReportCommand::Verify(args) => verify(args, format),
    }
}

fn sign(args: &SignArgs, format: Format) -> anyhow::Result<Exit> {
    let key = attest::read_signing_key(&args.key)?;
    let envelope = attest::sign(&args.report, &key)?;
    let key_id = attest::key_id(&key.verifying_key());
    report::print(&match format {
        Format::Text => format!("{} is signed by {key_id}: {}\n", args.report.display(), envelope.display()),
        Format::Json => {
            let document = json!({
                "contract": report::CONTRACT,
                "command": "report sign",
                "exit_code": 0,
                "envelope": envelope.display().to_string(),
                "key_id": key_id,
            });
            report::json(&document)
        }
    })?;
    Ok(Exit::Pass)
}

fn verify(args: &VerifyArgs, format: Format) -> anyhow::Result<Exit> {
    let now = now_ms()?;
    let age = |age: Duration| u64::try_from(age.as_millis()).map(|age| now.saturating_sub(age)).unwrap_or(0);
    let expected = Expected {
        model: args.model.as_deref(),
        cutover: args.cutover,
        not_before: args.max_age.map(age),
        not_after: Some(now),
        json_sha256: args.sha256.as_deref(),
        events_sha256: None,
    };
    let examined = examine(&args.report, &expected)?;
    let mut findings = examined.findings.clone();
    if let Some(path) = &args.pubkey {
        let key = attest::read_verifying_key(path)?;
        findings.push(match examined.ensure_signed_by(&key) {
            Ok(()) => Finding::new("signature", true, format!("signed by {}", attest::key_id(&key))),
            Err(error) => Finding::new("signature", false, format!("{error:#}")),
        });
    }
    let exit = match (examined.is_collection, findings.iter().all(|finding| finding.passed)) {
        (true, _) => Exit::Collection,
        (false, true) => Exit::Pass,
        (false, false) => Exit::Fail,
    };
    report::print(&match format {
        Format::Text => {
            let verdict = match exit {
                Exit::Pass => "HOLDS",
                Exit::Collection => "COLLECTION REPORT: promotes nothing",
                _ => "DOES NOT HOLD",
            };
            format!("{}{}: {verdict}\n", finding_lines(&findings), args.report.display())
        }
        Format::Json => {
            let document = json!({
                "contract": report::CONTRACT,
                "command": "report verify",
                "verdict": match exit { Exit::Pass => "pass", Exit::Collection => "collection", _ => "fail" },
                "exit_code": exit.code(),
                "checks": findings,
                "sha256": {"json": examined.json_sha256, "markdown": examined.markdown_sha256},
            });
            report::json(&document)
        }
    })?;
    Ok(exit)
}
