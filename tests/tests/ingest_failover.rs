//! `qsc run` through Sentinels and on a Cluster: a master is killed, a replica takes over, and what was replicated has
//! exactly one intent, that of an undisturbed run.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::thread;
use std::time::Duration;

use qsc_cli::stream::{Backoff, Link, LinkOptions, RedisAddress, key_slot};
use qsc_tests::bundle::{self, text};
use qsc_tests::ingest::{Entries, Events, FEATURES, INTENTS, Worker, assert_same, id, wait_for};
use qsc_tests::qsc;
use qsc_tests::redis::{Cluster, Options, Sentinels};
use redis::{Cmd, cmd};

/// A link that is made anew until it is answered.
struct Patient(Link);

impl Patient {
    fn to(url: &str) -> Self {
        Self(Link::connect(&RedisAddress::parse(url).unwrap(), FEATURES, &LinkOptions::default()).unwrap())
    }

    fn ask<T: redis::FromRedisValue>(&mut self, cmd: &Cmd) -> T {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1), 1);
        wait_for("an answer", || match self.0.query(cmd) {
            Ok(answer) => Some(answer),
            Err(trouble) => {
                assert!(trouble.calls_for_reconnect(), "{trouble}");
                thread::sleep(backoff.next());
                let _ = self.0.reconnect();
                None
            }
        })
    }

    fn add(&mut self, events: &Events, range: std::ops::Range<usize>) {
        for index in range {
            let mut add = cmd("XADD");
            add.arg(FEATURES).arg(id(index)).arg("event_type").arg("market.features");
            add.arg("payload").arg(&events.payloads[index]);
            let _: String = self.ask(&add);
        }
    }

    fn wait_for_intents(&mut self, count: usize) {
        wait_for(&format!("{count} intents"), || {
            (self.ask::<usize>(cmd("XLEN").arg(INTENTS)) >= count).then_some(())
        });
    }
}

fn survives(url: &str, kill_master: impl FnOnce()) {
    let events = Events::new(600, 2, 21);
    let models = bundle::file("MODELS.toml");
    let expected = events.undisturbed(&models);
    let mut link = Patient::to(url);
    let worker = Worker::start(url, &models, "a", &["--lease", "2s"]);
    link.add(&events, 0..300);
    link.wait_for_intents(300);
    // From here on nothing that is not on the replica is asked for.
    let _: u32 = link.ask(cmd("WAIT").arg(1).arg(5000));
    kill_master();
    link.add(&events, 300..600);
    link.wait_for_intents(600);
    let result = worker.end();
    assert!(result["stream"]["reconnects"].as_u64().unwrap() >= 1, "{result}");
    let intents: Entries = link.ask(cmd("XRANGE").arg(INTENTS).arg("-").arg("+"));
    assert_same(&intents, &expected);
    let run = qsc::run(["stream", "verify", "--source", url, "--stream", FEATURES, "--sink-stream", INTENTS]);
    assert_eq!(run.code, Some(0), "{run:?}");
}

#[test]
fn a_failover_by_sentinels_changes_nothing() {
    let Some(mut group) = Sentinels::start(1, 3, &Options::default(), &Options::default()) else { return };
    let url = group.url("");
    survives(&url, || group.servers[0].kill());
}

#[test]
fn a_failover_of_a_cluster_changes_nothing() {
    let Some(mut cluster) = Cluster::start(3, 1, &Options::default()) else { return };
    let entries: Vec<usize> = (0..6).collect();
    let url = cluster.url("", &entries);
    let models = bundle::file("MODELS.toml");
    let apart = qsc::run(["run", "--source", &url, "--sink", &url, "--models", text(&models)]);
    assert_eq!(apart.code, Some(1), "{apart:?}");
    assert!(apart.stderr.lines().last().unwrap().contains("give both one hash tag"), "{apart:?}");
    let owner = cluster.owner(key_slot(FEATURES), 0);
    survives(&url, || cluster.nodes[owner].kill());
}
