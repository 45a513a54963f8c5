//! `qsc model compile|inspect|verify`.

mod compile;
mod inspect;
mod verify;

use clap::Subcommand;

use crate::exit::Exit;
use crate::report::Format;

/// What to do with a model image.
#[derive(Debug, Subcommand)]
pub enum ModelCommand {
    /// Compile a trained model file into an image
    Compile(compile::CompileArgs),
    /// Show what an image holds
    Inspect(inspect::InspectArgs),
    /// Check an image's golden vectors, and its predictions against expected ones
    Verify(verify::VerifyArgs),
}

/// Runs the command.
///
/// # Errors
/// What the command could not do.
pub fn run(command: &ModelCommand, format: Format) -> anyhow::Result<Exit> {
    match command {
        ModelCommand::Compile(args) => compile::run(args, format),
        ModelCommand::Inspect(args) => inspect::run(args, format),
        ModelCommand::Verify(args) => verify::run(args, format),
    }
}
