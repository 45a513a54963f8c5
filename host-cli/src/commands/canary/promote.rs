//! `qsc canary promote`.

use clap::Args;
use qsc_kernel::ensemble::Ppm;
use serde_json::json;

use super::{HookArgs, StateArgs, finding_lines, parse_weight};
use crate::canary::promote::promote;
use crate::exit::Exit;
use crate::report::{self, Format};

/// Arguments of `qsc canary promote`.
#[derive(Debug, Args)]
#[command(after_help = "\
Needs a watch of this very activation that ended clean. The weights that were watched become the baseline: what later \
canaries start from and rollbacks restore. Nothing automatic promotes; this is a person's act.

Exit codes: 0 promoted, 2 refused, 1 could not be done.

Example:
  qsc canary promote")]
pub struct PromoteArgs {
    /// Give the model this weight instead of the one that was watched
    #[arg(long, value_parser = parse_weight)]
    weight: Option<Ppm>,
    #[command(flatten)]
    state: StateArgs,
    #[command(flatten)]
    hook: HookArgs,
}

pub(super) fn run(args: &PromoteArgs, format: Format) -> anyhow::Result<Exit> {
    let outcome = promote(&args.state.state(), args.weight)?;
    let exit = if outcome.promoted.is_some() { Exit::Pass } else { Exit::Fail };
    let printed = report::print(&match format {
        Format::Json => {
            let document = json!({
                "contract": report::CONTRACT,
                "command": "canary promote",
                "verdict": if exit == Exit::Pass { "pass" } else { "fail" },
                "exit_code": exit.code(),
                "model": outcome.model,
                "checks": outcome.findings,
                "weights": outcome.promoted,
            });
            report::json(&document)
        }
        Format::Text => {
            let verdict = match &outcome.promoted {
                Some(file) => format!("PROMOTED: baseline {}\n", file.weights.log_line()),
                None => "REFUSED: nothing was changed\n".to_owned(),
            };
            finding_lines(&outcome.findings) + &verdict
        }
    });
    if let Some(file) = &outcome.promoted {
        args.hook.tell("promoted", outcome.model.as_deref(), file.generation, &json!({"weights": file}));
    }
    printed?;
    Ok(exit)
}
