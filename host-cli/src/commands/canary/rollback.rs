//! `qsc canary rollback`.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::{HookArgs, StateArgs, shown};
use crate::canary::rollback::rollback;
use crate::engine::config::ModelsConfig;
use crate::exit::Exit;
use crate::log;
use crate::report::{self, Format};

/// Arguments of `qsc canary rollback`.
#[derive(Debug, Args)]
#[command(after_help = "\
Puts the baseline in force first and records it afterwards. Works with a torn weights.json and without a usable audit \
log; what is broken is said, and makes the exit code 1 although the baseline is in force. An activation that is just being \
judged will change nothing.

Exit codes: 0 the baseline is in force (also when nothing was active), 1 something is broken: read what.

Example:
  qsc canary rollback --reason 'spread widened'")]
pub struct RollbackArgs {
    /// Why; the audit log keeps it
    #[arg(long, value_name = "TEXT", default_value = "by hand")]
    reason: String,
    /// Where there is no usable baseline: put the weights of this ensemble in force
    #[arg(long, value_name = "MODELS.toml")]
    models: Option<PathBuf>,
    #[command(flatten)]
    state: StateArgs,
    #[command(flatten)]
    hook: HookArgs,
}

pub(super) fn run(args: &RollbackArgs, format: Format) -> anyhow::Result<Exit> {
    let state = args.state.state();
    // An ensemble that cannot be read must not stop a rollback that does not need it.
    let models = args.models.as_deref().map(ModelsConfig::read);
    let usable = models.as_ref().and_then(|models| models.as_ref().ok());
    let done = match (rollback(&state, usable, &args.reason), models) {
        (Err(error), Some(Err(unreadable))) => Err(error.context(format!("{unreadable:#}"))),
        (done, _) => done,
    };
    let done = match done {
        Ok(done) => done,
        Err(error) => {
            // Whoever reads hears of it at once; the hook may take its time.
            log::failed(&error);
            let file = state.weights().ok().flatten();
            let canary = file.as_ref().and_then(|file| file.canary.as_deref());
            let generation = file.as_ref().map_or(0, |file| file.generation);
            args.hook.tell_failed_rollback(canary, generation, &json!([args.reason]), &error);
            return Ok(Exit::Error);
        }
    };
    let exit = if done.broken.is_empty() { Exit::Pass } else { Exit::Error };
    let printed = report::print(&match format {
        Format::Json => {
            let document = json!({
                "contract": report::CONTRACT,
                "command": "canary rollback",
                "verdict": if exit == Exit::Pass { "pass" } else { "error" },
                "exit_code": exit.code(),
                "state_dir": state.full_path().display().to_string(),
                "state_exists": state.is_there().ok(),
                "rolled_back": done.restored.is_some(),
                "withdrawn": done.withdrawn,
                "baseline_rewritten": done.baseline_rewritten,
                "model": done.model,
                "weights": done.restored,
                "broken": done.broken,
            });
            report::json(&document)
        }
        Format::Text => {
            let mut text = match &done.restored {
                Some(file) => format!(
                    "rolled back{}: the baseline is in force as generation {}: {}\n",
                    done.model.as_ref().map_or_else(String::new, |model| format!(" {model}")),
                    file.generation,
                    file.weights.log_line()
                ),
                None => format!("no canary is active in {}: nothing to roll back\n", shown(&state)),
            };
            if done.withdrawn {
                text += "an activation was being judged: it will change nothing\n";
            }
            if done.baseline_rewritten {
                text += "the saved baseline was missing or edited: it was written again from the audit log\n";
            }
            for broken in &done.broken {
                text += &format!("BROKEN: {broken}\n");
            }
            text
        }
    });
    if let Some(file) = &done.restored {
        let detail = json!({"reason": args.reason, "weights": file, "broken": done.broken});
        args.hook.tell("rolled_back", done.model.as_deref(), file.generation, &detail);
    }
    printed?;
    Ok(exit)
}
