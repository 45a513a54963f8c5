//! `qsc config show`.

use std::fmt::Write as _;

use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{Arg, Args, Command, Subcommand};
use serde_json::{Map, Value, json};

use crate::exit::Exit;
use crate::gate::Rules;
use crate::report::{self, Format};
use crate::settings::{self, Settings};

/// Subcommands of `qsc config`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print the effective value of every setting, and where it comes from
    Show(ShowArgs),
}

/// Arguments of `qsc config show`.
#[derive(Debug, Args)]
#[command(after_help = "\
A flag beats the environment (QSC_…), which beats the settings file, which beats the default. Values that may hold a \
password are not shown.

Example:
  qsc config show quality-gate --settings qsc.toml")]
pub struct ShowArgs {
    /// Only this command, e.g. quality-gate or model compile [default: all]
    command: Vec<String>,
}

/// One setting: its key, what it is, and who said so.
struct Line {
    key: String,
    value: Value,
    origin: String,
}

/// Runs the command. `root` is the command tree with the settings applied.
///
/// # Errors
/// There is no such command, a value in the environment or the file is not valid, or the result could not be written.
pub fn run(
    command: &ConfigCommand,
    root: &Command,
    settings: &Settings,
    format: Format,
) -> anyhow::Result<Exit> {
    let ConfigCommand::Show(args) = command;
    let wanted = args.command.join(" ");
    let mut sections: Vec<(String, Vec<Line>)> = Vec::new();
    let mut failure = None;
    if wanted.is_empty() {
        sections.push((String::new(), lines("", root, settings)?));
    }
    settings::each_command(root, &mut |path, command| {
        let chosen = wanted.is_empty() || path == wanted || path.starts_with(&format!("{wanted} "));
        if chosen && failure.is_none() {
            match lines(path, command, settings) {
                Ok(lines) if lines.is_empty() => {}
                Ok(lines) => sections.push((path.to_owned(), lines)),
                Err(error) => failure = Some(error),
            }
        }
    });
    if let Some(error) = failure {
        return Err(error);
    }
    anyhow::ensure!(!sections.is_empty(), "there is no command {wanted:?}, or it has no settings");
    sections.push(("rules".to_owned(), rules(settings)));
    report::print(&match format {
        Format::Text => text(&sections),
        Format::Json => report::json(&document(&sections, settings)),
    })?;
    Ok(Exit::Pass)
}

/// The settings of one command, as clap itself resolves them.
fn lines(path: &str, command: &Command, settings: &Settings) -> anyhow::Result<Vec<Line>> {
    // None of them required: nothing is asked of a line that was never typed.
    let alone = Command::new("config")
        .no_binary_name(true)
        .disable_help_flag(true)
        .args(command.get_arguments().map(|arg| Arg::clone(arg).required(false).global(false)));
    let matches = alone.try_get_matches_from(std::iter::empty::<&str>()).map_err(|error| {
        let text = error.to_string();
        let fault = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
        anyhow::anyhow!("{}: {fault}", place_of(&error, path, command, settings))
    })?;
    let mut lines = Vec::new();
    for arg in command.get_arguments() {
        let Some(key) = settings::key(arg) else { continue };
        let id = arg.get_id().as_str();
        let raw = || matches.get_raw(id).into_iter().flatten().map(|value| value.to_string_lossy());
        let secret = arg.is_hide_env_values_set();
        let value = match raw().collect::<Vec<_>>() {
            _ if settings::is_switch(arg) => json!(matches.get_flag(id)),
            values if values.is_empty() => Value::Null,
            _ if secret => json!("(not shown: it may hold a password)"),
            values => json!(values.join(",")),
        };
        let origin = match matches.value_source(id) {
            Some(ValueSource::EnvVariable) => {
                format!("environment {}", arg.get_env().unwrap_or_default().to_string_lossy())
            }
            Some(ValueSource::DefaultValue) if settings.value(path, &key).is_some() => {
                format!("file {}", settings.path().display())
            }
            _ if value.is_null() => "not set".to_owned(),
            _ => "default".to_owned(),
        };
        lines.push(Line { key, value, origin });
    }
    Ok(lines)
}

/// Where the value stands that clap refuses: `the environment's QSC_COUNT, for quality-gate`, or the settings file.
fn place_of(error: &clap::Error, path: &str, command: &Command, settings: &Settings) -> String {
    let refused = match error.get(ContextKind::InvalidArg) {
        // `--count <N>`
        Some(ContextValue::String(arg)) => arg.trim_start_matches('-').split(' ').next(),
        _ => None,
    };
    let arg = command.get_arguments().find(|arg| arg.get_long().is_some() && arg.get_long() == refused);
    let variable = arg.and_then(Arg::get_env).filter(|variable| std::env::var_os(variable).is_some());
    let place = variable.map_or_else(
        || settings.path().display().to_string(),
        |variable| format!("the environment's {}", variable.to_string_lossy()),
    );
    if path.is_empty() { place } else { format!("{place}, for {path}") }
}

fn rules(settings: &Settings) -> Vec<Line> {
    let rules: &Rules = settings.rules();
    let rules = serde_json::to_value(rules).expect("rules are numbers and names");
    let line = |(name, value): (&String, &Value)| Line {
        key: name.clone(),
        value: value.clone(),
        origin: if settings.sets_rule(name) {
            format!("file {}", settings.path().display())
        } else {
            "default".to_owned()
        },
    };
    rules.as_object().into_iter().flatten().map(line).collect()
}

fn text(sections: &[(String, Vec<Line>)]) -> String {
    let shown = |value: &Value| match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let each = || sections.iter().flat_map(|(_, lines)| lines);
    let key_width = each().map(|line| line.key.len()).max().unwrap_or(0);
    let value_width = each().map(|line| shown(&line.value).chars().count()).max().unwrap_or(0).min(40);
    let mut out = String::new();
    for (at, (name, lines)) in sections.iter().enumerate() {
        if at > 0 {
            out.push('\n');
        }
        if !name.is_empty() {
            let _ = writeln!(out, "[{}]", name.replace(' ', "."));
        }
        for Line { key, value, origin } in lines {
            let _ = writeln!(out, "{key:<key_width$}  {:<value_width$}  {origin}", shown(value));
        }
    }
    out
}

fn document(sections: &[(String, Vec<Line>)], settings: &Settings) -> Value {
    let section = |lines: &[Line]| -> Map<String, Value> {
        lines
            .iter()
            .map(|line| (line.key.clone(), json!({"value": line.value, "origin": line.origin})))
            .collect()
    };
    let path = settings.path();
    let named: Map<String, Value> = sections
        .iter()
        .map(|(name, lines)| {
            let name = if name.is_empty() { "global" } else { name.as_str() };
            (name.to_owned(), Value::Object(section(lines)))
        })
        .collect();
    json!({
        "contract": report::CONTRACT,
        "command": "config show",
        "file": (!path.as_os_str().is_empty()).then(|| path.display().to_string()),
        "settings": named,
    })
}
