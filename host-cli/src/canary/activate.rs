//! Activation: everything is judged here and now, by this process, and any doubt blocks.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use ed25519_dalek::{SigningKey, VerifyingKey};
use qsc_kernel::ensemble::{Mode as MemberMode, Ppm};
use serde_json::{Value, json};

use super::audit::{Chain, Transition};
use super::baseline::{self, next_baseline};
use super::conditions;
use super::evidence::{Examined, Expected, Finding, examine};
use super::state::{Lock, Standing, State, details, last_generation};
use super::telemetry::{self, Seen};
use super::weights::{Baseline, Weights, WeightsFile};
use crate::attest;
use crate::digest::{sha256, sha256_of};
use crate::engine::config::ModelsConfig;
use crate::gate::{
    Mode, QualityVerdict, Require, Rules, SanityVerdict, Scoreboard, Standing as ModelStanding, Terms,
};
use crate::identity;
use crate::judge::{self, EventSource, QUALITY_EVENTS, SANITY_EVENTS, drift};
use crate::report::{self, QualityReport};
use crate::stream::{format_rfc3339, now_ms};

/// What is asked for.
#[derive(Debug)]
pub struct Request<'a> {
    /// The model to activate.
    pub model: &'a str,
    /// Start of the telemetry that counts, Unix ms.
    pub cutover: u64,
    /// `MODELS.toml`.
    pub models: &'a Path,
    /// Where intents are.
    pub source: &'a EventSource,
    /// The canary's weight.
    pub weight: Ppm,
    /// Judge, but change nothing.
    pub dry_run: bool,
    /// The state directory.
    pub state: &'a State,
    /// Where the report goes.
    pub report_dir: &'a Path,
    /// The rules of the gates.
    pub rules: &'a Rules,
    /// How long a model stays out after a rollback.
    pub cool_down: Duration,
    /// Why the cool-down is overridden.
    pub force: Option<&'a str>,
    /// Signs the report.
    pub sign_key: Option<&'a SigningKey>,
    /// The report must be signed by this key.
    pub require_signed: Option<&'a VerifyingKey>,
    /// A report that was signed elsewhere.
    pub signed_report: Option<&'a Path>,
}

/// How it came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The canary is active.
    Activated,
    /// It was active before, with this weight and cutover.
    AlreadyActive,
    /// It would be activated; nothing was changed.
    WouldActivate,
    /// Something was not shown.
    Blocked,
    /// A collection report cannot promote.
    BlockedByCollection,
}

/// An activation, or why there is none.
#[derive(Debug)]
pub struct Activation {
    /// How it came out.
    pub status: Status,
    /// Every check that was made.
    pub findings: Vec<Finding>,
    /// The weights in force after it, or that would be.
    pub weights: Option<WeightsFile>,
    /// The report.
    pub report: Option<QualityReport>,
    /// What telemetry says; no condition.
    pub seen: Option<Seen>,
    /// What the scoreboard says of the model; no condition.
    pub scoreboard: Option<ModelStanding>,
    /// Models the gate found eligible.
    pub eligible: Vec<String>,
}

impl Activation {
    fn blocked(findings: Vec<Finding>) -> Self {
        let status = Status::Blocked;
        Self {
            status,
            findings,
            weights: None,
            report: None,
            seen: None,
            scoreboard: None,
            eligible: Vec::new(),
        }
    }
}

/// Judges, and activates if everything was shown.
///
/// # Errors
/// Something could not be read or written: that is no verdict, and nothing is active that was not before.
pub fn activate(request: &Request<'_>) -> anyhow::Result<Activation> {
    let Request { state, model, .. } = *request;
    let config = ModelsConfig::read(request.models)?;
    // A dry run leaves no trace in a state that is not there yet.
    let (_alone, chain) = if request.dry_run {
        let alone = state.is_there()?.then(|| state.lock(Lock::Activate)).transpose()?;
        let chain = state.log().read().with_context(|| {
            let directory = state.directory().display();
            format!("the audit log does not hold in {directory}; `qsc canary audit verify` tells more")
        })?;
        (alone, chain)
    } else {
        state.create()?;
        // Both locks at once: a rollback that sees the second one held comes after this reading, and is seen by `commit`.
        let _writing = state.lock(Lock::Write)?;
        (Some(state.lock(Lock::Activate)?), state.recover()?.chain)
    };
    let standing = state.standing(&chain);
    if let Standing::Active(file, entry) = &standing
        && file.canary.as_deref() == Some(model)
        && file.weights.get(model) == Some(request.weight)
        && entry.detail("cutover") == Some(&format_rfc3339(request.cutover))
    {
        let mut already = Activation::blocked(vec![Finding::new("standing", true, "it is active already")]);
        already.status = Status::AlreadyActive;
        already.weights = Some(file.clone());
        return Ok(already);
    }

    let started = now_ms()?;
    let mut findings = vec![
        conditions::standing(&standing),
        conditions::cool_down(&chain, request, started),
        conditions::cutover_time(request.cutover, started),
    ];
    let Some(candidate) = config.models.iter().find(|entry| entry.name == model) else {
        let names: Vec<&str> = config.models.iter().map(|entry| entry.name.as_str()).collect();
        findings.push(Finding::new("ensemble", false, format!("{model:?} is not among {names:?}")));
        return Ok(Activation::blocked(findings));
    };
    let baseline = next_baseline(state, &chain, &standing, &config);
    let weights = baseline.as_ref().map_err(|error| anyhow::anyhow!("{error:#}")).and_then(|baseline| {
        ensure!(candidate.mode() == MemberMode::Vote, "{model:?} is in shadow mode and would not vote");
        baseline.weights.with_canary(model, request.weight)
    });
    findings.push(match &weights {
        Ok(weights) => Finding::new("ensemble", true, weights.log_line()),
        Err(error) => Finding::new("ensemble", false, format!("{error:#}")),
    });
    let (infra, image_sha256) = conditions::infra(candidate);
    findings.push(infra);

    let judged = judge_now(request, &config)?;
    findings.extend([
        conditions::gate(&judged.quality),
        conditions::clock([&judged.quality.evidence, &judged.sanity.evidence], started),
        conditions::sanity(&judged.sanity),
    ]);
    let report = report::write_quality(&judged.quality, &request.source.header(None)?, request.report_dir)?;
    if let Some(key) = request.sign_key {
        attest::sign_written(&report.files.json, report.files.sha256.json.as_deref(), key)?;
    }
    let expected = Expected {
        model: Some(model),
        cutover: Some(request.cutover),
        // Reports bear milliseconds, as `started` does.
        not_before: Some(started),
        not_after: Some(now_ms()?),
        json_sha256: report.files.sha256.json.as_deref(),
        events_sha256: Some(&judged.quality.evidence.sha256),
    };
    let examined = examine(&report.files.json, &expected)?;
    findings.extend(examined.findings.iter().cloned());
    let mut is_collection = examined.is_collection;
    if let Some(key) = request.require_signed {
        let (finding, signed_is_collection) = conditions::signature(request, key, &examined, started);
        findings.push(finding);
        is_collection |= signed_is_collection;
    }
    findings.extend(conditions::not_made(&findings));

    let passed = findings.iter().all(|finding| finding.passed);
    let mut activation = Activation {
        status: match (passed, is_collection, request.dry_run) {
            (_, true, _) => Status::BlockedByCollection,
            (false, ..) => Status::Blocked,
            (true, _, true) => Status::WouldActivate,
            (true, _, false) => Status::Activated,
        },
        findings,
        weights: None,
        eligible: judged.quality.eligible.clone(),
        report: Some(report),
        seen: None,
        scoreboard: Scoreboard::of(&judged.quality).signals.remove(model),
    };
    if let (Ok(baseline), Ok(weights)) = (baseline, weights) {
        activation.seen = Some(judged.seen.clone());
        let file = WeightsFile {
            generation: last_generation(&chain).max(baseline.generation) + 1,
            canary: Some(model.to_owned()),
            weights,
        };
        if activation.status == Status::Activated {
            let evidence = evidence(request, &examined, &judged, &image_sha256, &activation.findings)?;
            if let Some(blocked) = commit(request, &chain, &baseline, &file, evidence)? {
                activation.status = Status::Blocked;
                activation.findings.push(blocked);
            }
        }
        if matches!(activation.status, Status::Activated | Status::WouldActivate) {
            activation.weights = Some(file);
        }
    }
    Ok(activation)
}

struct Judged {
    quality: QualityVerdict,
    sanity: SanityVerdict,
    seen: Seen,
}

fn judge_now(request: &Request<'_>, config: &ModelsConfig) -> anyhow::Result<Judged> {
    let cutover = request.cutover;
    let terms = Terms {
        mode: Mode::Canary,
        require: Require::Any,
        requested: QUALITY_EVENTS,
        cutover: Some(cutover),
    };
    let (source, rules) = (request.source, request.rules);
    // Only a limit needs the training rows; without them its check could not be made.
    let drift = rules.max_psi.map(|_| drift::of_ensemble(request.models)).transpose()?;
    let mut quality = judge::quality_with_drift(source, terms, rules, drift.clone(), |_| {})?;
    let sanity = judge::sanity_with_drift(source, cutover, SANITY_EVENTS, rules, drift, |_| {})?;
    // One report stands for both gates.
    let loosened = sanity.loosened.iter().filter(|rule| !quality.loosened.contains(rule));
    let loosened: Vec<String> = loosened.cloned().collect();
    quality.loosened.extend(loosened);
    quality.evidence.simulated = quality.evidence.simulated.max(sanity.evidence.simulated);
    let in_force = request.state.weights().ok().flatten().map(|file| file.weights);
    let weights = match in_force {
        Some(weights) => weights,
        None => Weights::of_ensemble(config)?,
    };
    let (seen, _) = telemetry::read(request.source, Some(cutover), request.model, &weights)?;
    Ok(Judged { quality, sanity, seen })
}

fn evidence(
    request: &Request<'_>,
    examined: &Examined,
    judged: &Judged,
    image_sha256: &str,
    findings: &[Finding],
) -> anyhow::Result<Value> {
    let events = &judged.quality.evidence;
    let file_name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let signed_by = request.require_signed.map(attest::key_id);
    Ok(json!({
        "report": {
            "json": file_name(&examined.json_path),
            "sha256": examined.json_sha256,
            "markdown_sha256": examined.markdown_sha256,
            "signed_by": signed_by,
        },
        "events": {
            "count": events.count,
            "first_id": events.first_id,
            "last_id": events.last_id,
            "sha256": events.sha256,
        },
        "sanity_events_sha256": judged.sanity.evidence.sha256,
        "models_toml_sha256": sha256_of(request.models)
            .with_context(|| format!("cannot read {}", request.models.display()))?,
        "image_sha256": image_sha256,
        "build": identity::build(),
        "binary_sha256": sha256_of(Path::new("/proc/self/exe")).context("cannot read /proc/self/exe")?,
        "checks": findings.iter().map(|finding| finding.check).collect::<Vec<_>>(),
    }))
}

/// Records, saves the baseline, and only then puts the weights in place: whatever dies in between is taken back by its
/// record. What blocks it after all, if a rollback came meanwhile.
fn commit(
    request: &Request<'_>,
    judged_under: &Chain,
    baseline: &Baseline,
    file: &WeightsFile,
    evidence: Value,
) -> anyhow::Result<Option<Finding>> {
    let state = request.state;
    let _writing = state.lock(Lock::Write)?;
    let mut chain = state.recover()?.chain;
    if let Some(blocked) = conditions::rolled_back_since(&chain, judged_under) {
        return Ok(Some(blocked));
    }
    let last = |chain: &Chain| chain.entries.last().map(|entry| entry.hash.clone());
    ensure!(
        last(&chain) == last(judged_under) && matches!(state.standing(&chain), Standing::Idle(_)),
        "the state changed while the evidence was judged; try again"
    );
    let mut details = details([
        ("cutover", format_rfc3339(request.cutover).into()),
        ("weights_ppm", json!(file.weights.ppm())),
        ("weights_sha256", sha256(file.text()).into()),
        ("evidence", evidence),
        ("force", request.force.map_or(Value::Null, Into::into)),
    ]);
    details.extend(baseline::record(baseline));
    state.log().append(&mut chain, Transition::Activated, Some(request.model), file.generation, details)?;
    state.write_baseline(baseline)?;
    state.write_weights(file)?;
    Ok(None)
}
