//! `qsc build-info`.

use clap::Args;
use serde_json::json;

use crate::exit::Exit;
use crate::identity;
use crate::report::{self, Format};

/// Arguments of `qsc build-info`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  qsc build-info --format json")]
pub struct BuildInfoArgs {}

/// Prints what this binary was built from and what it can use here.
///
/// # Errors
/// stdout takes no more.
pub fn run(_args: &BuildInfoArgs, format: Format) -> anyhow::Result<Exit> {
    let backends: Vec<_> = identity::backends().collect();
    report::print(&match format {
        Format::Text => {
            let state = match identity::is_dirty() {
                Some(false) => "",
                Some(true) => " (dirty: tracked files differ from it)",
                None => " (built without git; QSC_GIT_SHA names a build)",
            };
            format!(
                "qsc       {}\ngit SHA   {}{state}\ncompiler  {}\ntarget    {}\nbackends  {}\n",
                identity::VERSION,
                identity::git_sha(),
                identity::RUSTC,
                identity::TARGET,
                backends.join(", ")
            )
        }
        Format::Json => {
            let info = json!({
                "contract": report::CONTRACT,
                "command": "build-info",
                "version": identity::VERSION,
                "git_sha": identity::git_sha(),
                "dirty": identity::is_dirty(),
                "build": identity::build(),
                "rustc": identity::RUSTC,
                "target": identity::TARGET,
                "backends": backends,
            });
            report::json(&info)
        }
    })?;
    Ok(Exit::Pass)
}
