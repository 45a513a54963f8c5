//! `qsc predict`.

use clap::Args;

use crate::args::Format;
use crate::exit::Exit;

/// Arguments of `qsc predict`.
#[derive(Debug, Args)]
pub struct PredictArgs {}

/// Runs the command.
///
/// # Errors
/// What the command could not do.
pub fn run(_args: &PredictArgs, _format: Format) -> anyhow::Result<Exit> {
    anyhow::bail!("not built yet")
}
