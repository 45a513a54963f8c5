//! `qsc demo`.

mod drill;
mod dry_run;
mod replay;

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use crate::exit::Exit;
use crate::gate::{Mode, QualityVerdict, Require, Rules, SanityVerdict, Terms};
use crate::judge::drift;
use crate::judge::{self, EventSource, Origin, QUALITY_EVENTS, SANITY_EVENTS};
use crate::report::{self, Format, QualityReport};
use crate::stream::{LinkOptions, SourceSpec};
use dry_run::DryRun;
use replay::{Bundle, Drill, Healthy};

/// Arguments of `qsc demo`.
#[derive(Debug, Args)]
#[command(after_help = "\
Needs nothing but this binary. Replays a bundled, synthetic capture through the bundled models, freezes one model to \
show that it is thrown out, judges the intents with feature-sanity and both gates, and goes through a canary \
activation, which must refuse simulated events. Exit 0 when everything came out as it must, else 2.

Example:
  qsc demo")]
pub struct DemoArgs {
    /// Where files and reports are written; no activation looks there
    #[arg(long, env = "QSC_DEMO_DIR", value_name = "DIR", default_value = "reports/demo")]
    report_dir: PathBuf,
}

/// What the gates and the activation said.
struct Judged {
    sanity: SanityVerdict,
    collection: (QualityVerdict, QualityReport),
    canary: (QualityVerdict, QualityReport),
    dry_run: DryRun,
}

/// Runs the command.
///
/// # Errors
/// The demo's directory cannot be written.
pub fn run(args: &DemoArgs, format: Format) -> anyhow::Result<Exit> {
    let directory = &args.report_dir;
    let bundle = Bundle::unpack(directory)?;
    let intents = directory.join("intents.jsonl");
    let healthy = bundle.replay(&intents)?;
    let drill = bundle.drill()?;
    let judged = judge_all(&intents, bundle.cutover(), directory)?;
    let exit = if as_it_must(&healthy, &drill, &judged) { Exit::Pass } else { Exit::Fail };
    report::print(&match format {
        Format::Text => text(&healthy, &drill, &judged, &intents, exit),
        Format::Json => report::json(&document(&healthy, &drill, &judged, &intents, exit)),
    })?;
    Ok(exit)
}

fn judge_all(intents: &Path, cutover: u64, directory: &Path) -> anyhow::Result<Judged> {
    let source = EventSource {
        spec: SourceSpec::File(intents.to_owned()),
        stream: String::new(),
        link: LinkOptions::default(),
        origin: Origin::Simulated,
    };
    let rules = Rules::default();
    let drift = || drift::of_ensemble(&directory.join("MODELS.toml")).map(Some);
    let gate = |mode| {
        let terms = Terms { mode, require: Require::Any, requested: QUALITY_EVENTS, cutover: Some(cutover) };
        let verdict = judge::quality_with_drift(&source, terms, &rules, drift()?, |_| ())?;
        let report = report::write_quality(&verdict, &source.header(None)?, directory)?;
        anyhow::Ok((verdict, report))
    };
    Ok(Judged {
        sanity: judge::sanity_with_drift(&source, cutover, SANITY_EVENTS, &rules, drift()?, |_| ())?,
        collection: gate(Mode::Collection)?,
        canary: gate(Mode::Canary)?,
        dry_run: DryRun::of(&source, cutover, &rules, directory)?,
    })
}

/// What the demo shows is also checked: a demo that tells another story fails.
fn as_it_must(healthy: &Healthy, drill: &Drill, judged: &Judged) -> bool {
    healthy.intents > 0
        && healthy.rejects == 0
        && drill.thrown_out_at.is_some()
        && drill.votes_again_at.is_some()
        && judged.sanity.outcome.exit() == Exit::Pass
        && judged.collection.0.outcome.exit() == Exit::Collection
        && judged.canary.0.outcome.exit() == Exit::Pass
        && judged.dry_run.is_as_it_must_be()
}

fn decisions_per_second(healthy: &Healthy) -> f64 {
    healthy.intents as f64 / healthy.elapsed.as_secs_f64()
}

fn text(healthy: &Healthy, drill: &Drill, judged: &Judged, intents: &Path, exit: Exit) -> String {
    let us = |ns: u64| ns as f64 / 1000.0;
    let after = |at: Option<usize>, since: usize| match at {
        Some(at) => format!("after {} events", at - since + 1),
        None => "NEVER".to_owned(),
    };
    let others: Vec<String> =
        drill.others.iter().map(|(name, weight)| format!("{name} {weight:.2}")).collect();
    let sides: Vec<String> = healthy.sides.iter().map(|(side, count)| format!("{side} {count}")).collect();
    let gate = |name: &str, verdict_exit: Exit| format!("  {name:<16} exit {}\n", verdict_exit.code());
    format!(
        "QSC demo, SYNTHETIC data\n\n\
         Replay: {events} feature events through {models}\n\
         \x20 {intents} intents, {rejects} rejected: {sides}\n\
         \x20 {rate:.0} decisions/s from event text to intent line; one decision p50 {p50:.1} µs, p99 {p99:.1} µs\n\n\
         Drill: {frozen} is frozen at event {at}\n\
         \x20 thrown out as degenerate_output {out}; the vote goes on with {others}\n\
         \x20 thawed at event {thaw}; votes again {again}\n\n\
         Gates on the intents\n{sanity}{collection}{canary}\n\
         {dry_run}\n\
         Files\n  {file}\n{reports}\n\
         {verdict}\n",
        events = healthy.intents + healthy.rejects,
        models = healthy.models.join(", "),
        intents = healthy.intents,
        rejects = healthy.rejects,
        sides = sides.join(", "),
        rate = decisions_per_second(healthy),
        p50 = us(healthy.p50_ns),
        p99 = us(healthy.p99_ns),
        frozen = drill.model,
        at = drill.frozen_at,
        out = after(drill.thrown_out_at, drill.frozen_at),
        others = others.join(", "),
        thaw = drill.thawed_at,
        again = after(drill.votes_again_at, drill.thawed_at),
        sanity = gate("feature-sanity", judged.sanity.outcome.exit()),
        collection = gate("collection gate", judged.collection.0.outcome.exit()),
        canary = gate("canary gate", judged.canary.0.outcome.exit()),
        file = intents.display(),
        dry_run = judged.dry_run.text(),
        reports = reports(judged),
        verdict = if exit == Exit::Pass {
            "Everything came out as it must: exit 0"
        } else {
            "Something did NOT come out as it must: exit 2"
        },
    )
}

/// A line for each report; beside the Markdown lie its HTML page and its JSON twin.
fn reports(judged: &Judged) -> String {
    let of_gates = [&judged.collection.1, &judged.canary.1].into_iter();
    let all = of_gates.chain(&judged.dry_run.activation.report);
    all.map(|report| format!("  {} (.html, .json)\n", report.files.markdown.display())).collect()
}

fn document(healthy: &Healthy, drill: &Drill, judged: &Judged, intents: &Path, exit: Exit) -> Value {
    let gate = |(verdict, report): &(QualityVerdict, QualityReport)| json!({"exit_code": verdict.outcome.exit().code(), "report": report.files.markdown});
    json!({
        "contract": report::CONTRACT,
        "command": "demo",
        "synthetic": true,
        "exit_code": exit.code(),
        "replay": {
            "models": healthy.models,
            "intents": healthy.intents,
            "rejects": healthy.rejects,
            "sides": healthy.sides,
            "decisions_per_second": decisions_per_second(healthy),
            "decision_ns": {"p50": healthy.p50_ns, "p99": healthy.p99_ns},
            "intents_file": intents,
        },
        "drill": {
            "model": drill.model,
            "frozen_at": drill.frozen_at,
            "thrown_out_at": drill.thrown_out_at,
            "thawed_at": drill.thawed_at,
            "votes_again_at": drill.votes_again_at,
        },
        "feature_sanity": {"exit_code": judged.sanity.outcome.exit().code()},
        "collection_gate": gate(&judged.collection),
        "canary_gate": gate(&judged.canary),
        "canary_dry_run": judged.dry_run.document(),
    })
}
