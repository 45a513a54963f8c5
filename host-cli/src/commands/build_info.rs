//! `qsc build-info`.

use std::io::{Write, stdout};

use clap::Args;
use serde_json::json;

use crate::args::Format;
use crate::exit::Exit;
use crate::identity;

/// Arguments of `qsc build-info`.
#[derive(Debug, Args)]
pub struct BuildInfoArgs {}

/// Prints what this binary was built from and what it can use here.
///
/// # Errors
/// stdout takes no more.
pub fn run(_args: &BuildInfoArgs, format: Format) -> anyhow::Result<Exit> {
    let backends: Vec<_> = identity::backends().collect();
    let mut out = stdout().lock();
    match format {
        Format::Text => {
            let state = match identity::is_dirty() {
                Some(false) => "",
                Some(true) => " (dirty: tracked files differ from it)",
                None => " (built without git; QSC_GIT_SHA names a build)",
            };
            writeln!(out, "qsc       {}", identity::VERSION)?;
            writeln!(out, "git SHA   {}{state}", identity::git_sha())?;
            writeln!(out, "compiler  {}", identity::RUSTC)?;
            writeln!(out, "target    {}", identity::TARGET)?;
            writeln!(out, "backends  {}", backends.join(", "))?;
        }
        Format::Json => {
            let info = json!({
                "contract": 1,
                "command": "build-info",
                "version": identity::VERSION,
                "git_sha": identity::git_sha(),
                "dirty": identity::is_dirty(),
                "build": identity::build(),
                "rustc": identity::RUSTC,
                "target": identity::TARGET,
                "backends": backends,
            });
            writeln!(out, "{info}")?;
        }
    }
    Ok(Exit::Pass)
}
