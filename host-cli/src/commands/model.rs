//! `qsc model compile|inspect|verify`.

use clap::Subcommand;

use crate::args::Format;
use crate::exit::Exit;

/// What to do with a model image.
#[derive(Debug, Subcommand)]
pub enum ModelCommand {
    /// Compile a trained model file into an image
    Compile {},
}

/// Runs the command.
///
/// # Errors
/// What the command could not do.
pub fn run(_command: &ModelCommand, _format: Format) -> anyhow::Result<Exit> {
    anyhow::bail!("not built yet")
}
