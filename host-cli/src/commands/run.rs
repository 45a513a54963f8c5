//! `qsc run`.

use clap::Args;

use crate::args::Format;
use crate::exit::Exit;

/// Arguments of `qsc run`.
#[derive(Debug, Args)]
pub struct RunArgs {}

/// Runs the command.
///
/// # Errors
/// What the command could not do.
pub fn run(_args: &RunArgs, _format: Format) -> anyhow::Result<Exit> {
    anyhow::bail!("not built yet")
}
