//! `qsc`: the one binary. Parses arguments, runs one command, returns one exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    qsc_cli::args::main().into()
}
