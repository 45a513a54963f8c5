//! `qsc quality-gate`.

use clap::Args;

use crate::args::Format;
use crate::exit::Exit;

/// Arguments of `qsc quality-gate`.
#[derive(Debug, Args)]
pub struct QualityGateArgs {}

/// Runs the command.
///
/// # Errors
/// What the command could not do.
pub fn run(_args: &QualityGateArgs, _format: Format) -> anyhow::Result<Exit> {
    anyhow::bail!("not built yet")
}
