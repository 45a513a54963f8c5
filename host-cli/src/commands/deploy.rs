//! `qsc deploy`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use indicatif::{ProgressBar, ProgressStyle};

use super::drift::DriftArgs;
use super::progress;
use super::redis::RedisArgs;
use super::source::{SourceParser, refuse_used_up};
use crate::deploy::build_id::Build;
use crate::deploy::{GatePlan, Notice, Plan, UnitName, chain, render};
use crate::exit::Exit;
use crate::gate::{Require, Rules};
use crate::judge::EventSource;
use crate::log;
use crate::report::{self, Format};
use crate::stream::{INTENT_STREAM, SourceSpec, parse_duration};

/// Arguments of `qsc deploy`.
#[derive(Debug, Args)]
#[command(after_help = "\
Stops the service, waits until its main process is gone, starts it, and proves what runs then: a new invocation that is \
active, whose own log names the expected build (AI_ENGINE_BUILD: SHA), and whose program is the installed file. Then it \
must stay up for --settle.

With --gate the chain goes on: feature-sanity, the collection gate and the canary gate, each on events since the \
cutover and as soon as there are enough. An interrupted chain goes on from its step with --resume.

Exit codes: 0 passed, 1 could not be done, 2 failed or inconclusive, 64 wrong arguments. With --warn-only a wrong or \
missing build ends with 0, but the verdict stays fail; a service that does not run still ends with 2.

Example:
  qsc deploy --unit qsc.service --expect 4f2a91c --gate --source redis://127.0.0.1:6379")]
pub struct DeployArgs {
    /// The systemd service
    #[arg(long, value_parser = UnitName::parse)]
    unit: UnitName,
    /// The build that must run: a git SHA, at least 7 digits of it [default: the build of this qsc]
    #[arg(long, value_name = "SHA", value_parser = Build::parse)]
    expect: Option<Build>,
    /// The file the main process must run, where that is not the one ExecStart names
    #[arg(long, value_name = "PATH")]
    executable: Option<PathBuf>,
    /// How long the service must stay up
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_duration)]
    settle: Duration,
    /// Longest wait for each of: the stop, the start, the line with the build
    #[arg(long, value_name = "TIME", default_value = "100s", value_parser = parse_duration)]
    timeout: Duration,
    /// Report a wrong or missing build without failing
    #[arg(long, conflicts_with = "gate")]
    warn_only: bool,
    /// Go on with feature-sanity, collection gate and canary gate
    #[arg(long, requires = "source")]
    gate: bool,
    /// Go on with the deployment that was interrupted or blocked, from its step, with its cutover
    #[arg(long)]
    resume: bool,
    /// Where the service's intents are: file:PATH or redis://[user:pass@]host:port[/db]; further forms are in
    /// docs/redis.md. A password is better given in QSC_SOURCE or a file, for others can see arguments
    #[arg(long, hide_env_values = true, value_parser = SourceParser)]
    source: Option<SourceSpec>,
    /// Key of the stream on a Redis server
    #[arg(long, value_parser = NonEmptyStringValueParser::new(), default_value = INTENT_STREAM, value_name = "KEY")]
    stream: String,
    #[command(flatten)]
    redis: RedisArgs,
    /// Intents since the cutover to wait for before the canary gate; it needs 200
    #[arg(long, value_name = "N", default_value_t = 200)]
    events: u64,
    /// Longest wait for the intents of each gate
    #[arg(long, value_name = "TIME", default_value = "30m", value_parser = parse_duration)]
    wait: Duration,
    /// How many models must be healthy
    #[arg(long, value_enum, default_value_t = Require::Any)]
    require: Require,
    /// A feature that may be flat; may be given several times
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    allow_flat: Vec<String>,
    #[command(flatten)]
    drift: DriftArgs,
    /// Where reports of the gates are written; created if missing
    #[arg(long, value_name = "DIR", default_value = "reports/safety")]
    report_dir: PathBuf,
    /// Where the record of the deployment is kept; created if missing
    #[arg(long, value_name = "DIR", default_value = "state")]
    state_dir: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// A step could not be done at all, or the result could not be written.
pub fn run(args: &DeployArgs, rules: &Rules, format: Format) -> anyhow::Result<Exit> {
    if args.gate && args.source.is_none() {
        return Ok(super::misfit("gate needs a source"));
    }
    if args.gate && args.warn_only {
        return Ok(super::misfit("gate and warn-only exclude one another"));
    }
    if let Some(exit) = source(args).as_ref().and_then(refuse_used_up) {
        return Ok(exit);
    }
    let plan = plan(args, rules)?;
    let mut display = Display::default();
    let deployment =
        chain::run(&plan, &args.state_dir, args.resume, &mut |notice| display.show(&plan.unit, notice));
    display.end();
    let deployment = deployment?;
    report::print(&match format {
        Format::Text => render::text(&deployment),
        Format::Json => render::json(&deployment),
    })?;
    Ok(deployment.exit)
}

/// Where the gates read, if they are asked for.
fn source(args: &DeployArgs) -> Option<EventSource> {
    let spec = args.source.clone().filter(|_| args.gate)?;
    Some(EventSource::live(spec, args.stream.clone(), args.redis.options()))
}

fn plan(args: &DeployArgs, rules: &Rules) -> anyhow::Result<Plan> {
    let mut rules = rules.clone();
    rules.allow_flat.extend(args.allow_flat.iter().cloned());
    let drift = if args.gate { args.drift.load(&mut rules)? } else { None };
    let gates = source(args).map(|source| GatePlan {
        source,
        rules,
        drift,
        require: args.require,
        events: args.events,
        wait: args.wait,
        report_dir: args.report_dir.clone(),
    });
    Ok(Plan {
        unit: args.unit.clone(),
        expected: args.expect.clone(),
        executable: args.executable.clone(),
        settle: args.settle,
        patience: args.timeout,
        warn_only: args.warn_only,
        gates,
    })
}

/// One line per step, and a bar while intents are waited for.
#[derive(Default)]
struct Display {
    bar: Option<ProgressBar>,
}

impl Display {
    fn show(&mut self, unit: &UnitName, notice: Notice) {
        match notice {
            Notice::Begins(step) => {
                self.end();
                log::say(format_args!("deploy {unit}: {step}"));
            }
            Notice::Events { have, need } => {
                self.bar.get_or_insert_with(|| events_bar(need)).set_position(have)
            }
        }
    }

    fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

fn events_bar(need: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} intents since the cutover, {elapsed}");
    progress::bar(Some(need)).with_style(style.expect("the template is valid"))
}
