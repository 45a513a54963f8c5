//! Settings: what flags do not say, the environment may; what neither says, a TOML file may.
//!
//! Every flag has a variable `QSC_<FLAG>` and, from its name, a key in the file: at the top for every command that has
//! the flag, or in a table named after one command, which wins. `[rules]` holds the thresholds of the gates. All of it
//! is derived from clap's command tree, so a new flag needs nothing here: [`environment`] names the variables, and
//! [`Settings::apply`] turns what the file says into defaults.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail, ensure};
use clap::builder::OsStr;
use clap::{Arg, ArgAction, Command};
use serde::Deserialize as _;
use toml::{Table, Value};

use crate::bounded;
use crate::gate::Rules;

/// The table of thresholds.
const RULES: &str = "rules";

/// A settings file, checked against the command tree.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    path: PathBuf,
    /// Keys for every command that has the flag.
    shared: BTreeMap<String, Vec<String>>,
    /// Keys for one command, by its path, e.g. `model compile`.
    commands: BTreeMap<String, BTreeMap<String, Vec<String>>>,
    /// Thresholds the file sets, by name.
    rule_names: Vec<String>,
    rules: Rules,
}

/// Gives every flag of the tree its variable, `QSC_<FLAG>` unless it names another.
#[must_use]
pub fn environment(command: Command) -> Command {
    command.mut_args(with_variable).mut_subcommands(environment)
}

fn with_variable(arg: Arg) -> Arg {
    let Some(long) = arg.get_long().filter(|long| !matches!(*long, "help" | "version")) else { return arg };
    if arg.get_env().is_some() {
        return arg;
    }
    let variable = format!("QSC_{}", long.replace('-', "_").to_uppercase());
    arg.env(OsStr::from(variable))
}

/// The key of a flag in the file: its variable, spelled as flags are. `None` for what only the command line can say.
#[must_use]
pub fn key(arg: &Arg) -> Option<String> {
    let variable = arg.get_env()?.to_str()?;
    let key = variable.strip_prefix("QSC_")?.to_lowercase().replace('_', "-");
    (key != "settings").then_some(key)
}

/// Calls `visit` with the path (`model compile`) of every command that does something, and the command.
pub fn each_command<'tree>(root: &'tree Command, visit: &mut dyn FnMut(&str, &'tree Command)) {
    fn walk<'tree>(path: &str, command: &'tree Command, visit: &mut dyn FnMut(&str, &'tree Command)) {
        for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
            let path = if path.is_empty() {
                inner.get_name().to_owned()
            } else {
                format!("{path} {}", inner.get_name())
            };
            if inner.has_subcommands() {
                walk(&path, inner, visit);
            } else {
                visit(&path, inner);
            }
        }
    }
    walk("", root, visit);
}

impl Settings {
    /// Reads a settings file.
    ///
    /// # Errors
    /// The file cannot be read, is no TOML, or holds a key, command or threshold there is not.
    pub fn read(path: &Path, root: &Command) -> anyhow::Result<Self> {
        let shown = path.display();
        let text = bounded::read_text(path, bounded::SMALL)
            .with_context(|| format!("cannot read the settings {shown}"))?;
        Self::parse(&text, path, root).with_context(|| format!("the settings {shown} are not valid"))
    }

    fn parse(text: &str, path: &Path, root: &Command) -> anyhow::Result<Self> {
        let table: Table = toml::from_str(text).map_err(|error| anyhow!("{}", one_line(&error)))?;
        let mut commands: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut lists: BTreeSet<String> = BTreeSet::new();
        each_command(root, &mut |path, command| {
            commands.insert(path.to_owned(), command.get_arguments().filter_map(key).collect());
            lists.extend(command.get_arguments().filter(|arg| takes_several(arg)).filter_map(key));
        });
        let global: Vec<String> = root.get_arguments().filter_map(key).collect();
        let mut settings = Self { path: path.to_owned(), ..Self::default() };
        for (name, value) in table {
            if name == RULES {
                settings.rule_names =
                    value.as_table().into_iter().flatten().map(|(name, _)| name.clone()).collect();
                settings.rules = Rules::deserialize(value)
                    .map_err(|error| anyhow!("[{RULES}]: {}", error.message().replace('\n', " ")))?;
            } else if let Value::Table(table) = value {
                settings.add_table(&name, table, &commands)?;
            } else if global.contains(&name) || commands.values().any(|keys| keys.contains(&name)) {
                settings.shared.insert(name.clone(), values(&name, value)?);
            } else {
                bail!("unknown key {name:?}: no command has such a flag");
            }
        }
        // A default of several values for a flag that takes one would be cut to its first.
        for (key, values) in settings.shared.iter().chain(settings.commands.values().flatten()) {
            ensure!(values.len() == 1 || lists.contains(key), "{key} takes one value, not {}", values.len());
        }
        Ok(settings)
    }

    /// Takes `[name]`, which is a command or holds the tables of its subcommands.
    fn add_table(
        &mut self,
        name: &str,
        table: Table,
        commands: &BTreeMap<String, Vec<String>>,
    ) -> anyhow::Result<()> {
        let inner = format!("{name} ");
        let is_group = commands.keys().any(|path| path.starts_with(&inner));
        let Some(keys) = commands.get(name) else {
            if !is_group {
                bail!("unknown table [{name}]: there is no such command");
            }
            for (key, value) in table {
                let Value::Table(table) = value else {
                    bail!("unknown key {key:?} in [{name}]: name its command, as in [{name}.…]");
                };
                self.add_table(&format!("{name} {key}"), table, commands)?;
            }
            return Ok(());
        };
        let mut own = BTreeMap::new();
        for (key, value) in table {
            if !keys.contains(&key) {
                bail!("unknown key {key:?} in [{name}]: the command has no such flag");
            }
            own.insert(key.clone(), values(&key, value)?);
        }
        self.commands.insert(name.to_owned(), own);
        Ok(())
    }

    /// What the file says for a flag of the command at `path` (empty: of every command).
    #[must_use]
    pub fn value(&self, path: &str, key: &str) -> Option<&[String]> {
        let own = self.commands.get(path).and_then(|own| own.get(key));
        own.or_else(|| self.shared.get(key)).map(Vec::as_slice)
    }

    /// The tree with what the file says as defaults: clap takes those only where neither flag nor variable says more.
    #[must_use]
    pub fn apply(&self, root: Command) -> Command {
        self.apply_at("", root)
    }

    fn apply_at(&self, path: &str, command: Command) -> Command {
        let command = command.mut_args(|arg| match key(&arg).and_then(|key| self.value(path, &key)) {
            // A required argument cannot have a default; with one it need not be required.
            Some(values) => arg.required(false).default_values(values.iter().map(OsStr::from)),
            None => arg,
        });
        command.mut_subcommands(|inner| {
            let name = inner.get_name();
            let path = if path.is_empty() { name.to_owned() } else { format!("{path} {name}") };
            self.apply_at(&path, inner)
        })
    }

    /// The thresholds of all gates.
    #[must_use]
    pub const fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Whether the file sets this threshold.
    #[must_use]
    pub fn sets_rule(&self, name: &str) -> bool {
        self.rule_names.iter().any(|set| set == name)
    }

    /// The file; empty if there is none.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Whether a flag takes no value.
#[must_use]
pub fn is_switch(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::SetTrue | ArgAction::SetFalse)
}

/// Whether a flag may be given more than one value.
fn takes_several(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Append)
        || arg.get_value_delimiter().is_some()
        || arg.get_num_args().is_some_and(|count| count.max_values() > 1)
}

/// A TOML value as arguments would spell it.
fn values(key: &str, value: Value) -> anyhow::Result<Vec<String>> {
    Ok(match value {
        Value::String(text) => vec![text],
        Value::Integer(number) => vec![number.to_string()],
        Value::Float(number) => vec![number.to_string()],
        Value::Boolean(on) => vec![on.to_string()],
        Value::Datetime(time) => vec![time.to_string()],
        Value::Array(items) => {
            let items = items.into_iter().map(|item| values(key, item));
            items.collect::<anyhow::Result<Vec<_>>>()?.concat()
        }
        Value::Table(_) => bail!("{key} cannot be a table"),
    })
}

/// The first line of a TOML error says where, the last one what.
fn one_line(error: &toml::de::Error) -> String {
    let text = error.to_string();
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    match lines[..] {
        [first, .., last] => format!("{first}: {last}"),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> Command {
        let gate = Command::new("gate")
            .arg(Arg::new("source").long("source").required(true))
            .arg(Arg::new("report-dir").long("report-dir").default_value("reports"))
            .arg(Arg::new("strict").long("strict").action(ArgAction::SetTrue));
        let compile = Command::new("compile").arg(Arg::new("name").long("name"));
        let model = Command::new("model").subcommand(compile);
        environment(Command::new("qsc").subcommand(gate).subcommand(model))
    }

    fn parse(text: &str) -> anyhow::Result<Settings> {
        Settings::parse(text, Path::new("qsc.toml"), &tree())
    }

    fn gate(settings: &Settings, arguments: &[&str]) -> (String, String, bool) {
        let matches =
            settings.apply(tree()).try_get_matches_from([&["qsc", "gate"], arguments].concat()).unwrap();
        let gate = matches.subcommand_matches("gate").unwrap();
        let text = |name: &str| gate.get_one::<String>(name).unwrap().clone();
        (text("source"), text("report-dir"), gate.get_flag("strict"))
    }

    #[test]
    fn a_table_beats_the_top_and_a_flag_beats_both() {
        let settings = parse("source = \"a\"\n[gate]\nsource = \"b\"\nstrict = true\n").unwrap();
        assert_eq!(gate(&settings, &[]), ("b".to_owned(), "reports".to_owned(), true));
        assert_eq!(gate(&settings, &["--source", "c"]).0, "c");
        let settings = parse("source = \"a\"\n[model.compile]\nname = \"x\"").unwrap();
        assert_eq!(gate(&settings, &[]).0, "a");
    }

    #[test]
    fn unknown_keys_are_refused_by_name() {
        for (text, named) in [
            ("sauce = 1", "\"sauce\""),
            ("[gate]\nname = \"x\"", "\"name\""),
            ("[gait]\n", "[gait]"),
            ("[model]\nname = \"x\"", "\"name\""),
            ("[model.pack]\n", "[model pack]"),
            ("[rules]\nmax_action = 1", "max_action"),
            ("[rules]\nmin_confidence_std = nan", "finite"),
            ("[rules]\nmax_action_pct = 170", "0 to 100"),
            ("[rules]\ncanary_min_events = 0", "from 1"),
            ("settings = \"other.toml\"", "settings"),
            ("source = {a = 1}", "[source]"),
            ("source = [\"a\", \"b\"]", "source takes one value, not 2"),
            ("[gate]\nsource = []", "source takes one value, not 0"),
            ("source = ", "line 1"),
        ] {
            let error = format!("{:#}", parse(text).unwrap_err());
            assert!(error.contains(named) && !error.contains('\n'), "{text}: {error}");
        }
    }

    #[test]
    fn every_flag_has_its_variable() {
        each_command(&tree(), &mut |path, command| {
            for arg in command.get_arguments() {
                assert!(arg.get_env().is_some(), "{path} {arg}");
            }
        });
    }
}
