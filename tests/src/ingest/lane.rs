//! A shard under test.

use std::collections::BTreeMap;

use qsc_cli::stream::{EventId, Shard};
use redis::cmd;

use super::{Entries, Events, Patient, assert_same};
use crate::{bundle, qsc};

/// One shard: its streams, what goes in and what is to come out.
pub struct Lane {
    /// The shard.
    pub shard: Shard,
    /// Its stream of features.
    pub features: String,
    /// Its stream of intents.
    pub intents: String,
    /// To where it is.
    pub link: Patient,
    /// Everything that goes in.
    pub events: Events,
    /// What an undisturbed run makes of it.
    pub expected: BTreeMap<EventId, String>,
    /// How many went in so far.
    pub added: usize,
}

impl Lane {
    /// A shard of these streams behind `url`, with `count` events for one of its symbols.
    ///
    /// # Panics
    /// If nobody answers, or the undisturbed run fails.
    #[must_use]
    pub fn new(shard: Shard, [features, intents]: [&str; 2], url: &str, count: usize) -> Self {
        let symbols = (0..).map(|number| format!("SYM{number}"));
        let symbol = symbols
            .into_iter()
            .find(|symbol| Shard::of(symbol, shard.count()) == shard)
            .expect("one of them");
        let events = Events::of_symbols(count, &[symbol], u64::from(shard.index()));
        let expected = events.undisturbed(&bundle::file("MODELS.toml"));
        Self {
            shard,
            features: shard.key(features),
            intents: shard.key(intents),
            link: Patient::to(url, &shard.key(features)),
            events,
            expected,
            added: 0,
        }
    }

    /// Adds the next events.
    pub fn add(&mut self, count: usize) {
        self.link.add(&self.events, self.added..self.added + count);
        self.added += count;
    }

    /// Who owns it, if anybody does.
    pub fn owner(&mut self) -> Option<String> {
        let mut owner = cmd("HMGET");
        owner.arg(format!("{}:owner:qsc", self.features)).arg("consumer").arg("until");
        let (consumer, until): (Option<String>, Option<u64>) = self.link.ask(&owner);
        let (seconds, micros): (u64, u64) = self.link.ask(&cmd("TIME"));
        consumer.filter(|_| until.is_some_and(|until| until > seconds * 1000 + micros / 1000))
    }

    /// Waits until everything added has its intent.
    pub fn wait_for_intents(&mut self) {
        self.link.wait_for_length(&self.intents.clone(), self.added);
    }

    /// Every event has one intent, in order, bit for bit that of an undisturbed run; and the command finds so too.
    ///
    /// # Panics
    /// With the first that is not.
    pub fn assert_exact(&mut self, url: &str, dead: u64) {
        let intents: Entries = self.link.ask(cmd("XRANGE").arg(&self.intents).arg("-").arg("+"));
        assert_same(&intents, &self.expected);
        let streams = ["--stream", &self.features, "--sink-stream", &self.intents, "--format", "json"];
        let run = qsc::run(["stream", "verify", "--source", url].into_iter().chain(streams));
        assert_eq!(run.code, Some(0), "{run:?}");
        let proof = &run.json()["proof"];
        assert_eq!(
            (proof["intents"].as_u64(), proof["dead"].as_u64()),
            (Some(self.expected.len() as u64), Some(dead))
        );
    }
}
