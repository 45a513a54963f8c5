//! What the state directory says, and what in it is broken.

use super::audit::Chain;
use super::state::{Standing, State};
use super::telemetry::{self, Seen};
use super::watch::Watch;
use super::weights::WeightsFile;
use crate::judge::EventSource;
use crate::stream::parse_timestamp;

/// A state directory at a glance. Nothing is changed by looking.
pub struct Status {
    /// How files and audit log stand to one another, in one word.
    pub standing: &'static str,
    /// The weights in force, as far as they can be read.
    pub file: Option<WeightsFile>,
    /// What is broken, one sentence each; nothing if the state is whole.
    pub broken: Vec<String>,
    /// What the next command that changes the state does first, as a process died before it had.
    pub pending: Option<String>,
    /// When what stands began, as the audit log has it.
    pub since: Option<String>,
    /// The canary's cutover.
    pub cutover: Option<String>,
    /// Lines of the audit log, if all hold.
    pub lines: Option<usize>,
    /// How far the watch of these weights is.
    pub watch: Option<Watch>,
    /// What telemetry shows of the canary, if it was asked for.
    pub seen: Option<Seen>,
}

impl Status {
    /// Looks at files and audit log, and with `source` at the newest intents: whether the canary really has its weight.
    ///
    /// # Errors
    /// The intents cannot be read. Whatever is wrong with the state itself is in [`broken`](Self::broken).
    pub fn read(state: &State, source: Option<&EventSource>) -> anyhow::Result<Self> {
        let mut broken = Vec::new();
        let chain = state
            .log()
            .read()
            .map_err(|error| {
                let directory = state.directory().display();
                broken.push(format!("the audit log does not hold in {directory}: {error:#}"));
            })
            .ok();
        let watch = Watch::read(state).map_err(|error| broken.push(format!("{error:#}"))).ok().flatten();
        let mut status = Self {
            standing: "unknown",
            file: None,
            broken,
            pending: None,
            since: None,
            cutover: None,
            lines: chain.as_ref().map(|chain| chain.entries.len()),
            watch: None,
            seen: None,
        };
        match &chain {
            Some(chain) => status.take(state, chain),
            // Without a log the file can still be shown, but nothing proves it.
            None => match state.weights() {
                Ok(file) => status.file = file,
                Err(error) => status.broken.push(format!("{error:#}")),
            },
        }
        if let Err(error) = state.baseline() {
            status.broken.push(format!("{error:#}"));
        }
        let generation = status.file.as_ref().map(|file| file.generation);
        status.watch = watch.filter(|watch| {
            // A watch of a state that was there before this one is none of these weights.
            let is_recorded = chain
                .as_ref()
                .is_none_or(|chain| chain.entries.iter().any(|entry| entry.hash == watch.activation));
            Some(watch.generation) == generation && is_recorded
        });
        if let (Some(source), Some(WeightsFile { canary: Some(canary), weights, .. })) =
            (source, &status.file)
        {
            let after = status.cutover.as_deref().and_then(|text| parse_timestamp(text).ok());
            status.seen = Some(telemetry::read(source, after, canary, weights)?.0);
        }
        Ok(status)
    }

    fn take(&mut self, state: &State, chain: &Chain) {
        match state.standing(chain) {
            Standing::Idle(file) => {
                (self.standing, self.file) = ("idle", file);
                // One that is missing is none where there never was a canary, or is completed.
                if let Ok(Some(_)) = state.baseline()
                    && let Err(error) = state.saved_baseline(chain)
                {
                    self.broken.push(format!("{error:#}: `qsc canary rollback` writes it again"));
                }
            }
            Standing::Active(file, entry) => {
                (self.standing, self.file) = ("active", Some(file));
                self.since = Some(entry.ts.clone());
                self.cutover = entry.detail("cutover").map(str::to_owned);
                // One that is torn is told anyway.
                if state.baseline().is_ok()
                    && let Err(error) = state.saved_baseline(chain)
                {
                    self.broken.push(format!("{error:#}: a rollback would need --models"));
                }
            }
            Standing::Interrupted(entry) => {
                self.standing = "interrupted";
                self.file = state.weights().ok().flatten();
                self.since = Some(entry.ts.clone());
                self.pending = Some(format!(
                    "line {} of the audit log was recorded and never took effect; the next activate, rollback, promote or \
                     monitor voids it",
                    entry.seq
                ));
            }
            Standing::Unrecorded(file) => {
                self.pending = Some(format!(
                    "the rollback to generation {} is in force and not in the audit log; the next activate, rollback, promote \
                     or monitor records it",
                    file.generation
                ));
                (self.standing, self.file) = ("unrecorded_rollback", Some(file));
            }
            Standing::Foreign(why) => {
                self.standing = "foreign";
                self.broken.push(why);
            }
        }
    }
}
