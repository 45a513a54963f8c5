//! What one invocation of a service has logged, read through `journalctl`.
//!
//! journald itself notes which invocation a message came from; a line of an earlier start has another.

use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::Deserialize;
use serde_json::Value;

use super::build_id::{self, Build};
use super::child;

const ANSWER: Duration = Duration::from_secs(30);

/// The log of one invocation as far as it has been read.
#[derive(Debug)]
pub(super) struct Journal {
    invocation: String,
    cursor: Option<String>,
    /// Messages read.
    pub(super) messages: u64,
    /// The newest message.
    pub(super) last: Option<String>,
    /// Builds that messages name, oldest first.
    pub(super) builds: Vec<Build>,
    /// What journalctl says besides, e.g. that it may not show everything.
    pub(super) hint: String,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "__CURSOR")]
    cursor: String,
    /// A text, or its bytes where they are no UTF-8.
    #[serde(rename = "MESSAGE", default)]
    message: Value,
}

impl Journal {
    /// The log of `invocation`, nothing of it read.
    pub(super) fn of(invocation: &str) -> Self {
        Self {
            invocation: invocation.to_owned(),
            cursor: None,
            messages: 0,
            last: None,
            builds: Vec::new(),
            hint: String::new(),
        }
    }

    /// Reads what is new.
    ///
    /// # Errors
    /// journalctl cannot be run, fails, or answers in a form not known here.
    pub(super) fn read(&mut self) -> anyhow::Result<()> {
        let filter = format!("_SYSTEMD_INVOCATION_ID={}", self.invocation);
        let after = self.cursor.as_ref().map(|cursor| format!("--after-cursor={cursor}"));
        let mut arguments = vec!["--no-pager", "--output=json", "--all", "--output-fields=MESSAGE"];
        arguments.extend(after.as_deref());
        arguments.push(&filter);
        let output = match child::run("journalctl", &arguments, ANSWER)? {
            Some(output) if output.success => output,
            Some(output) => bail!("journalctl cannot read the journal: {}", output.complaint()),
            None => bail!("journalctl gave no answer in {} s", ANSWER.as_secs()),
        };
        self.hint = output.complaint();
        for line in output.stdout.lines().filter(|line| line.starts_with('{')) {
            let entry: Entry =
                serde_json::from_str(line).context("journalctl answered in a form not known here")?;
            let message = text(entry.message);
            self.builds.extend(message.lines().filter_map(build_id::named_in));
            self.last = Some(message);
            self.messages += 1;
            self.cursor = Some(entry.cursor);
        }
        Ok(())
    }
}

fn text(message: Value) -> String {
    match message {
        Value::String(text) => text,
        Value::Array(bytes) => {
            let bytes = bytes.iter().filter_map(|byte| u8::try_from(byte.as_u64()?).ok()).collect::<Vec<_>>();
            String::from_utf8_lossy(&bytes).into_owned()
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_texts_or_bytes() {
        assert_eq!(text("a".into()), "a");
        assert_eq!(text(serde_json::json!([65, 255, 66])), "A\u{fffd}B");
        assert_eq!(text(Value::Null), "");
    }
}
