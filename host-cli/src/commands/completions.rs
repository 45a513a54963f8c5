//! `qsc completions` and `qsc man`: what shells and manual readers know of the command tree.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Command};
use clap_complete::Shell;
use serde_json::json;

use crate::exit::Exit;
use crate::report::{self, Format};
use crate::stream::AtomicFile;

/// Arguments of `qsc completions`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  qsc completions bash")]
pub struct CompletionsArgs {
    /// Shell to write completions for
    #[arg(value_enum)]
    shell: Shell,
}

/// Arguments of `qsc man`.
#[derive(Debug, Args)]
#[command(after_help = "\
Writes one page per command: qsc.1, qsc-run.1, qsc-model-compile.1 and so on. Without --output the page of qsc itself \
goes to stdout.

Example:
  qsc man --output man1")]
pub struct ManArgs {
    /// Directory for the pages; created if missing
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
}

/// Writes completions to stdout.
///
/// # Errors
/// They could not be written.
pub fn completions(args: &CompletionsArgs, mut root: Command, format: Format) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut root, "qsc", &mut script);
    let script = String::from_utf8(script).context("completions are UTF-8")?;
    report::print(&match format {
        Format::Text => script,
        Format::Json => report::json(&json!({
            "contract": report::CONTRACT,
            "command": "completions",
            "shell": args.shell.to_string(),
            "script": script,
        })),
    })?;
    Ok(Exit::Pass)
}

/// Writes manual pages.
///
/// # Errors
/// They could not be written.
pub fn man(args: &ManArgs, mut root: Command, format: Format) -> anyhow::Result<Exit> {
    root.build();
    let Some(directory) = &args.output else {
        let page = page(&root)?;
        report::print(&match format {
            Format::Text => page,
            Format::Json => {
                report::json(&json!({"contract": report::CONTRACT, "command": "man", "page": page}))
            }
        })?;
        return Ok(Exit::Pass);
    };
    std::fs::create_dir_all(directory)
        .with_context(|| format!("cannot create {}; name another directory", directory.display()))?;
    let mut pages = Vec::new();
    write_pages(&root, directory, &mut pages)?;
    report::print(&match format {
        Format::Text => pages.iter().map(|page| format!("{}\n", page.display())).collect(),
        Format::Json => {
            report::json(&json!({"contract": report::CONTRACT, "command": "man", "pages": pages}))
        }
    })?;
    Ok(Exit::Pass)
}

fn write_pages(
    command: &Command,
    directory: &std::path::Path,
    pages: &mut Vec<PathBuf>,
) -> anyhow::Result<()> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    let path = directory.join(format!("{name}.1"));
    let mut file = AtomicFile::create(&path)?;
    file.write_all(page(command)?.as_bytes()).with_context(|| format!("cannot write {}", path.display()))?;
    file.replace()?;
    pages.push(path);
    let inner = command.get_subcommands().filter(|inner| inner.get_name() != "help");
    inner.into_iter().try_for_each(|inner| write_pages(inner, directory, pages))
}

fn page(command: &Command) -> anyhow::Result<String> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut page).context("cannot render a manual page")?;
    String::from_utf8(page).context("manual pages are UTF-8")
}
