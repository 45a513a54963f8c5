//! `qsc feature-sanity`.

use clap::Args;

use crate::args::Format;
use crate::exit::Exit;

/// Arguments of `qsc feature-sanity`.
#[derive(Debug, Args)]
pub struct FeatureSanityArgs {}

/// Runs the command.
///
/// # Errors
/// What the command could not do.
pub fn run(_args: &FeatureSanityArgs, _format: Format) -> anyhow::Result<Exit> {
    anyhow::bail!("not built yet")
}
