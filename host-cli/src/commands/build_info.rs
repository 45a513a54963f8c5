//! `qsc build-info`.

use clap::Args;

use crate::args::Format;
use crate::exit::Exit;

/// Arguments of `qsc build-info`.
#[derive(Debug, Args)]
pub struct BuildInfoArgs {}

/// Runs the command.
///
/// # Errors
/// What the command could not do.
pub fn run(_args: &BuildInfoArgs, _format: Format) -> anyhow::Result<Exit> {
    anyhow::bail!("not built yet")
}
