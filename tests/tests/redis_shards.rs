//! Shards on a Redis Cluster of six nodes: workers share them evenly, take over those of one that is killed within the
//! stated time, and every event has exactly one intent, that of an undisturbed run.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::time::{Duration, Instant};

use qsc_cli::stream::{Shard, key_slot};
use qsc_tests::bundle::{self, text};
use qsc_tests::ingest::{Entries, Lane, PATIENCE, Worker, id, wait_for};
use qsc_tests::qsc;
use qsc_tests::redis::{Cluster, Options};
use redis::cmd;

const FEATURES: &str = "test:features";
const INTENTS: &str = "test:intents";
const SHARDS: NonZeroU16 = NonZeroU16::new(8).unwrap();
/// More than the longest window, of 128 steps.
const EVENTS: usize = 300;
const LEASE: Duration = Duration::from_secs(2);
/// What a busy machine may add to a stated time.
const GRACE: Duration = Duration::from_secs(1);

fn lanes(url: &str) -> Vec<Lane> {
    let lane = |index| Lane::new(Shard::new(index, SHARDS).unwrap(), [FEATURES, INTENTS], url, EVENTS);
    (0..SHARDS.get()).map(lane).collect()
}

/// A worker that serves its metrics too.
fn worker(url: &str, name: &str) -> Worker {
    let count = SHARDS.to_string();
    let lease = format!("{}s", LEASE.as_secs());
    let shards = ["--shards", "all", "--shard-count", &count, "--lease", &lease, "--metrics", "127.0.0.1:0"];
    Worker::start_on(FEATURES, INTENTS, url, &bundle::file("MODELS.toml"), name, &shards)
}

/// How many shards each worker owns.
fn shares(lanes: &mut [Lane]) -> BTreeMap<String, usize> {
    let mut shares = BTreeMap::new();
    for owner in lanes.iter_mut().filter_map(Lane::owner) {
        *shares.entry(owner).or_default() += 1;
    }
    shares
}

/// Waits until `workers` own all shards, as evenly as they can; how long that took.
fn wait_for_shares(lanes: &mut [Lane], workers: usize) -> Duration {
    let begun = Instant::now();
    loop {
        let shares = shares(lanes);
        let even = shares.values().all(|&share| share <= lanes.len().div_ceil(workers));
        if shares.len() == workers && even && shares.values().sum::<usize>() == lanes.len() {
            return begun.elapsed();
        }
        assert!(begun.elapsed() < PATIENCE, "{shares:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Moves all keys of a shard to another node, one after the other, while events come in.
fn move_shard(cluster: &Cluster, lane: &mut Lane, to: usize) {
    let slot = key_slot(&lane.intents);
    let from = cluster.owner(slot, 0);
    let id = |node: usize| cluster.nodes[node].ask::<String>("CLUSTER MYID");
    let (from_id, to_id) = (id(from), id(to));
    cluster.nodes[to].ask::<()>(&format!("CLUSTER SETSLOT {slot} IMPORTING {from_id}"));
    cluster.nodes[from].ask::<()>(&format!("CLUSTER SETSLOT {slot} MIGRATING {to_id}"));
    let keys: Vec<String> = cluster.nodes[from].ask(&format!("CLUSTER GETKEYSINSLOT {slot} 100"));
    assert!(keys.len() >= 4, "{keys:?}");
    for key in keys {
        let port = cluster.nodes[to].port();
        cluster.nodes[from].ask::<()>(&format!("MIGRATE 127.0.0.1 {port} {key} 0 5000"));
        lane.add(2);
    }
    lane.add(10 - lane.added % 10);
    for node in [to, from] {
        cluster.nodes[node].ask::<()>(&format!("CLUSTER SETSLOT {slot} NODE {to_id}"));
    }
    lane.wait_for_intents();
}

fn all_nodes(cluster: &Cluster) -> String {
    cluster.url("", &(0..cluster.nodes.len()).collect::<Vec<_>>())
}

#[test]
fn a_killed_worker_is_replaced_in_time_and_nothing_is_lost_or_doubled() {
    let Some(cluster) = Cluster::start(3, 1, &Options::default()) else { return };
    let url = all_nodes(&cluster);
    let mut lanes = lanes(&url);
    let sequences = ["patchtst", "nhits"];
    for lane in &lanes {
        let (_, last) = lane.expected.last_key_value().unwrap();
        let last: serde_json::Value = serde_json::from_str(last).unwrap();
        for model in sequences {
            assert_ne!(last["model_breakdown"][model]["inactive_reason"], "insufficient_history", "{last}");
        }
    }
    lanes.iter_mut().for_each(|lane| lane.add(100));
    let first = worker(&url, "a");
    wait_for_shares(&mut lanes, 1);
    let (second, third) = (worker(&url, "b"), worker(&url, "c"));
    wait_for_shares(&mut lanes, 3);
    wait_for("readiness", || {
        let ready = third.served("/readyz");
        (ready.status == 200 && ready.body.contains(" of 8 shards held")).then_some(())
    });

    // A symbol in a shard it does not belong to leaves a dead letter and no trace anywhere else.
    let foreign = lanes[1].events.payloads[0].clone();
    let mut add = cmd("XADD");
    add.arg(lanes[0].shard.key(FEATURES)).arg(id(lanes[0].added - 1).replace("-0", "-1"));
    add.arg("event_type").arg("market.features").arg("payload").arg(foreign);
    let _: String = lanes[0].link.ask(&add);

    // Killed in the middle: events go on being added before, while and after.
    lanes.iter_mut().for_each(|lane| lane.add(30));
    let killed: Vec<usize> =
        (0..lanes.len()).filter(|&at| lanes[at].owner().as_deref() == Some("a")).collect();
    assert!(killed.len() >= 2, "{killed:?}");
    first.kill();
    let begun = Instant::now();
    lanes.iter_mut().for_each(|lane| lane.add(30));
    wait_for("new owners", || {
        let taken = |at: &usize| lanes[*at].owner().is_some_and(|owner| owner != "a");
        killed.iter().all(taken).then_some(())
    });
    let took = begun.elapsed();
    assert!(took <= LEASE * 12 / 10 + GRACE, "taken over after {took:?}, a lease is {LEASE:?}");
    wait_for_shares(&mut lanes, 2);
    lanes.iter_mut().for_each(|lane| lane.add(40));
    lanes.iter_mut().for_each(Lane::wait_for_intents);

    // Asked to end, it hands its shards over without waiting for the end of their leases.
    let result = second.end();
    let left = wait_for_shares(&mut lanes, 1);
    assert!(left <= LEASE / 5 + GRACE, "handed over after {left:?}");
    assert!(result["stream"]["added"].as_u64().unwrap() > 0, "{result}");
    lanes.iter_mut().for_each(|lane| lane.add(100));
    lanes.iter_mut().for_each(Lane::wait_for_intents);
    let dead = format!("{}:dead", lanes[0].shard.key(FEATURES));
    lanes[0].link.wait_for_length(&dead, 1);
    let letters: Entries = lanes[0].link.ask(cmd("XRANGE").arg(&dead).arg("-").arg("+"));
    assert!(letters[0].1["reason"].contains("belongs to shard-1 of 8"), "{letters:?}");
    wait_for("all shards in the figures of the last worker", || {
        let page = third.served("/metrics").body;
        let of = |name: &str| {
            let of_shards = page.lines().filter_map(|line| line.strip_prefix(name)?.split_once("} "));
            of_shards.map(|(_, value)| value.parse::<f64>().unwrap()).collect::<Vec<_>>()
        };
        let held = of("qsc_shard_held{");
        assert_eq!(held.len(), 8, "{page}");
        (held == [1.0; 8] && of("qsc_shard_lag_entries{") == [0.0; 8]).then_some(())
    });
    let result = third.end();
    assert!(result["intents"].as_u64().unwrap() >= 800, "{result}");
    for (at, lane) in lanes.iter_mut().enumerate() {
        lane.assert_exact(&url, u64::from(at == 0));
    }
    refused(&url);
}

/// What would place symbols another way is refused before anything is read.
fn refused(url: &str) {
    let models = bundle::file("MODELS.toml");
    for (stream, count, part) in [
        (FEATURES, "16", "is one of 8 shards, and cannot be consumed with --shard-count 16"),
        ("{test}:features", "8", "has a hash tag of its own"),
    ] {
        let run = qsc::run([
            "run",
            "--source",
            url,
            "--sink",
            url,
            "--models",
            text(&models),
            "--stream",
            stream,
            "--sink-stream",
            INTENTS,
            "--shards",
            "all",
            "--shard-count",
            count,
        ]);
        assert_eq!(run.code, Some(1), "{run:?}");
        assert!(run.stderr.lines().last().unwrap().contains(part), "{run:?}");
    }
}

#[test]
fn a_moved_shard_and_a_failover_change_nothing() {
    let Some(mut cluster) = Cluster::start(3, 1, &Options::default()) else { return };
    let url = all_nodes(&cluster);
    let mut lanes = lanes(&url);
    let workers = ["a", "b", "c"].map(|name| worker(&url, name));
    lanes.iter_mut().for_each(|lane| lane.add(100));
    wait_for_shares(&mut lanes, 3);
    let node_of = |lane: &Lane| cluster.owner(key_slot(&lane.intents), 0);
    let failing = node_of(&lanes[0]);
    let at = lanes.iter().position(|lane| node_of(lane) != failing).unwrap();
    let to = (0..3).find(|&to| to != failing && to != node_of(&lanes[at])).unwrap();
    move_shard(&cluster, &mut lanes[at], to);
    lanes.iter_mut().for_each(|lane| lane.add(40));
    for lane in &mut lanes {
        lane.wait_for_intents();
        // From here on nothing that is not on the replica is asked for.
        let _: u32 = lane.link.ask(cmd("WAIT").arg(1).arg(5000));
    }
    cluster.nodes[failing].kill();
    lanes.iter_mut().for_each(|lane| lane.add(EVENTS - lane.added));
    lanes.iter_mut().for_each(Lane::wait_for_intents);
    let results = workers.map(Worker::end);
    let reconnects = |result: &serde_json::Value| result["stream"]["reconnects"].as_u64().unwrap();
    assert!(results.iter().map(reconnects).sum::<u64>() >= 1, "{results:?}");
    lanes.iter_mut().for_each(|lane| lane.assert_exact(&url, 0));
}
