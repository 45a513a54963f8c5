//! `qsc run` through Sentinels and on a Cluster: a master is killed, a replica takes over, and what was replicated has
//! exactly one intent, that of an undisturbed run.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use qsc_cli::stream::key_slot;
use qsc_tests::bundle::{self, text};
use qsc_tests::ingest::{Entries, Events, FEATURES, INTENTS, Patient, Worker, assert_same};
use qsc_tests::qsc;
use qsc_tests::redis::{Cluster, Options, Sentinels};
use redis::cmd;

fn survives(url: &str, kill_master: impl FnOnce()) {
    let events = Events::new(600, 2, 21);
    let models = bundle::file("MODELS.toml");
    let expected = events.undisturbed(&models);
    let mut link = Patient::to(url, FEATURES);
    let worker = Worker::start(url, &models, "a", &["--lease", "2s"]);
    link.add(&events, 0..300);
    link.wait_for_length(INTENTS, 300);
    // From here on nothing that is not on the replica is asked for.
    let _: u32 = link.ask(cmd("WAIT").arg(1).arg(5000));
    kill_master();
    link.add(&events, 300..600);
    link.wait_for_length(INTENTS, 600);
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
