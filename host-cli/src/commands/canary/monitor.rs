//! `qsc canary monitor`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::{HookArgs, StateArgs};
use crate::canary::monitor::{End, Monitored, Request, Told, monitor};
use crate::canary::watch::Watch;
use crate::commands::source::{SourceArgs, refuse_used_up};
use crate::engine::config::ModelsConfig;
use crate::exit::Exit;
use crate::gate::Rules;
use crate::judge::drift;
use crate::log;
use crate::report::{self, Format, percent};
use crate::signals::Stop;
use crate::stream::parse_positive_duration;

/// Arguments of `qsc canary monitor`.
#[derive(Debug, Args)]
#[command(after_help = "\
Every check re-judges the newest 2000 intents since the cutover. It rolls back at once when the gate finds a fault in \
the canary (too few predictions alone is none), the models agree by less than 55 or more than 80 %, more than 20 % of the \
events hold both BUY and SELL, an event is simulated, the canary is silent, the stream was reset, a clock jumped, or the \
weights are not the recorded ones, or not those the intents tell by the end; and when three checks in a row could not be \
made. After a restart with the same --duration, --interval and --strict it continues the same watch.

Exit codes: 0 watched to the end and clean, 2 rolled back, by this watch or by somebody meanwhile, 1 could not watch, or was stopped by a signal: never clean.

Example:
  qsc canary monitor --source redis://127.0.0.1:6379 --on-event /etc/qsc/notify")]
pub struct MonitorArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// How long to watch
    #[arg(long, value_name = "TIME", value_parser = parse_positive_duration, default_value = "6h")]
    duration: Duration,
    /// Time between two checks
    #[arg(long, value_name = "TIME", value_parser = parse_positive_duration, default_value = "30s")]
    interval: Duration,
    /// Roll back, too, when confidences or actions of canary and baseline differ
    #[arg(long)]
    strict: bool,
    /// Where there is no usable baseline: a rollback puts the weights of this ensemble in force. `max_psi` in `[rules]`
    /// needs it, to compare the features with the rows its models were trained on
    #[arg(long, value_name = "MODELS.toml")]
    models: Option<PathBuf>,
    #[command(flatten)]
    state: StateArgs,
    #[command(flatten)]
    hook: HookArgs,
}

pub(super) fn run(args: &MonitorArgs, rules: &Rules, format: Format) -> anyhow::Result<Exit> {
    let stop = Stop::watch()?;
    let source = args.source.source();
    if let Some(exit) = refuse_used_up(&source) {
        return Ok(exit);
    }
    if rules.max_psi.is_some() && args.models.is_none() {
        log::say(
            "error: max_psi in [rules] cannot be held without the rows the models were trained on; name the ensemble with \
             --models MODELS.toml",
        );
        return Ok(Exit::Usage);
    }
    let models = args.models.as_deref().map(ModelsConfig::read).transpose()?;
    // Only a limit needs the training rows.
    let limited = args.models.as_deref().filter(|_| rules.max_psi.is_some());
    let drift = limited.map(drift::of_ensemble).transpose()?;
    let state = args.state.state();
    let request = Request {
        state: &state,
        source: &source,
        duration: args.duration,
        interval: args.interval,
        strict: args.strict,
        rules,
        drift: drift.as_ref(),
        models: models.as_ref(),
    };
    let done = monitor(&request, &stop, |told| tell(args, told))?;
    let exit = match &done.end {
        End::Clean => Exit::Pass,
        End::RolledBack(..) | End::EndedElsewhere(_) => Exit::Fail,
        End::Interrupted | End::RollbackFailed(..) => Exit::Error,
    };
    let printed = report::print(&match format {
        Format::Text => text(&done),
        Format::Json => report::json(&document(&done, exit)),
    });
    let watch = &done.watch;
    match &done.end {
        End::Clean => args.hook.tell("watch_passed", Some(&watch.model), watch.generation, &json!(watch)),
        End::RolledBack(reasons, rollback) => {
            let generation = rollback.restored.as_ref().map_or(watch.generation, |file| file.generation);
            let detail = json!({"reasons": reasons, "weights": rollback.restored, "broken": rollback.broken});
            args.hook.tell("rolled_back", Some(&watch.model), generation, &detail);
        }
        End::RollbackFailed(reasons, error) => {
            // Whoever reads hears of it at once; the hook may take its time.
            log::failed(error);
            args.hook.tell_failed_rollback(Some(&watch.model), watch.generation, &json!(reasons), error);
        }
        End::EndedElsewhere(_) | End::Interrupted => {}
    }
    printed?;
    Ok(exit)
}

/// A line on stderr for every check.
fn tell(args: &MonitorArgs, told: Told<'_>) {
    let left = |watch: &Watch| format!("{:.0} s left", watch.left().as_secs_f64());
    match told {
        Told::Anew(why) => log::say(format_args!("warning: {why}; the watch begins anew")),
        Told::Begins(watch) => {
            log::say(format_args!(
                "watching {} (generation {}), {}",
                watch.model,
                watch.generation,
                left(watch)
            ));
            if watch.checks == 0 {
                args.hook.tell_aside("watch_started", Some(&watch.model), watch.generation, &json!(watch));
            }
        }
        Told::Checked(watch, measured) => {
            log::say(format_args!(
                "check {}: ok, {} intents, agreement {}, hard disagreement {}, {}; {}",
                watch.checks,
                measured.events,
                percent(measured.ensemble.agreement_pct),
                percent(measured.ensemble.hard_disagreement_pct),
                measured.weight.text(),
                left(watch)
            ));
            for finding in &measured.comparison.findings {
                log::say(format_args!("check {}: warning: {finding} (--strict rolls back)", watch.checks));
            }
        }
        Told::Failed(watch, reason) => {
            log::say(format_args!(
                "check {}: FAILED ({} in a row): {reason}",
                watch.checks, watch.failed_in_row
            ));
        }
    }
}

fn text(done: &Monitored) -> String {
    let Watch { model, checks, .. } = &done.watch;
    match &done.end {
        End::Clean => format!("{model}: watched to the end, {checks} checks, nothing found\n"),
        End::Interrupted => format!(
            "{model}: stopped by a signal after {checks} checks; NOT clean. Start again to continue\n"
        ),
        End::EndedElsewhere(how) => format!("{model}: {how}; the watch is over\n"),
        End::RollbackFailed(reasons, _) => {
            let violations: String = reasons.iter().map(|reason| format!("VIOLATION: {reason}\n")).collect();
            violations + &format!("{model}: NOT rolled back; `qsc canary rollback` at once\n")
        }
        End::RolledBack(reasons, rollback) => {
            let mut text = String::new();
            for reason in reasons {
                text += &format!("VIOLATION: {reason}\n");
            }
            for broken in &rollback.broken {
                text += &format!("BROKEN: {broken}\n");
            }
            let weights = rollback.restored.as_ref().map_or_else(
                || "the baseline was in force already".to_owned(),
                |file| format!("generation {}: {}", file.generation, file.weights.log_line()),
            );
            text + &format!("{model}: ROLLED BACK; {weights}\n")
        }
    }
}

fn document(done: &Monitored, exit: Exit) -> Value {
    let (status, reasons, rollback) = match &done.end {
        End::Clean => ("clean", Vec::new(), None),
        End::Interrupted => ("interrupted", Vec::new(), None),
        End::EndedElsewhere(how) => ("ended_elsewhere", vec![how.clone()], None),
        End::RolledBack(reasons, rollback) => ("rolled_back", reasons.clone(), Some(rollback)),
        End::RollbackFailed(reasons, _) => ("rollback_failed", reasons.clone(), None),
    };
    json!({
        "contract": report::CONTRACT,
        "command": "canary monitor",
        "verdict": match exit { Exit::Pass => "pass", Exit::Fail => "fail", _ => "error" },
        "exit_code": exit.code(),
        "status": status,
        "reasons": reasons,
        "error": match &done.end { End::RollbackFailed(_, error) => Some(format!("{error:#}")), _ => None },
        "watch": done.watch,
        "anew": done.anew,
        "measured": done.measured,
        "weights": rollback.and_then(|rollback| rollback.restored.as_ref()),
        "broken": rollback.map(|rollback| &rollback.broken),
    })
}
