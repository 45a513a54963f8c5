//! `qsc demo`.

use clap::Args;

use crate::args::Format;
use crate::exit::Exit;

/// Arguments of `qsc demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {}

/// Runs the command.
///
/// # Errors
/// What the command could not do.
pub fn run(_args: &DemoArgs, _format: Format) -> anyhow::Result<Exit> {
    anyhow::bail!("not built yet")
}
