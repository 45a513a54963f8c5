//! Two workers whose ranges of shards overlap: each shard has one owner, nothing is lost or doubled, and a shard that only
//! one of them may own waits for it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::num::NonZeroU16;

use qsc_cli::stream::Shard;
use qsc_tests::bundle;
use qsc_tests::ingest::{Lane, Server, Worker, wait_for};

const STREAMS: [&str; 2] = ["test:features", "test:intents"];
const SHARDS: NonZeroU16 = NonZeroU16::new(6).unwrap();
/// More than the longest window, of 128 steps.
const EVENTS: usize = 300;

fn worker(url: &str, name: &str, range: &str) -> Worker {
    let count = SHARDS.to_string();
    let shards = ["--shards", range, "--shard-count", &count, "--lease", "1s", "--metrics", "127.0.0.1:0"];
    let [features, intents] = STREAMS;
    Worker::start_on(features, intents, url, &bundle::file("MODELS.toml"), name, &shards)
}

/// Shards that a worker says it owns.
fn held(worker: &Worker) -> Vec<u16> {
    let page = worker.served("/metrics").body;
    let held = page.lines().filter_map(|line| {
        let (shard, value) = line.strip_prefix("qsc_shard_held{shard=\"")?.split_once("\"} ")?;
        (value == "1").then(|| shard.parse().unwrap())
    });
    held.collect()
}

/// Waits until so many shards of each worker are its own, as the server has it.
fn wait_for_shares(lanes: &mut [Lane], expected: &[(&str, usize)]) {
    let expected: BTreeMap<String, usize> =
        expected.iter().map(|(name, share)| ((*name).to_owned(), *share)).collect();
    wait_for(&format!("{expected:?}"), || {
        let mut shares = BTreeMap::new();
        for owner in lanes.iter_mut().filter_map(Lane::owner) {
            *shares.entry(owner).or_default() += 1;
        }
        (shares == expected).then_some(())
    });
}

#[test]
fn shards_of_two_ranges_have_one_owner() {
    let Some(server) = Server::start() else { return };
    let url = server.url();
    let lane = |index| Lane::new(Shard::new(index, SHARDS).unwrap(), STREAMS, &url, EVENTS);
    let mut lanes: Vec<Lane> = (0..SHARDS.get()).map(lane).collect();
    lanes.iter_mut().for_each(|lane| lane.add(60));
    // The first one takes all it may; the second one is then given half of what they share.
    let first = worker(&url, "a", "0-3");
    wait_for_shares(&mut lanes, &[("a", 4)]);
    let second = worker(&url, "b", "2-5");
    lanes.iter_mut().for_each(|lane| lane.add(60));
    wait_for_shares(&mut lanes, &[("a", 3), ("b", 3)]);
    wait_for("one owner for each", || {
        let (of_first, of_second) = (held(&first), held(&second));
        let mut all = [of_first.clone(), of_second.clone()].concat();
        all.sort_unstable();
        let in_range = of_first.iter().all(|&shard| shard <= 3) && of_second.iter().all(|&shard| shard >= 2);
        (in_range && all == [0, 1, 2, 3, 4, 5]).then_some(())
    });
    lanes.iter_mut().for_each(Lane::wait_for_intents);

    // Of a dead worker the other takes what both may own, and nothing else.
    second.kill();
    lanes.iter_mut().for_each(|lane| lane.add(60));
    wait_for_shares(&mut lanes, &[("a", 4)]);
    lanes[..4].iter_mut().for_each(Lane::wait_for_intents);
    for lane in &mut lanes[4..] {
        let intents: usize = lane.link.ask(redis::cmd("XLEN").arg(&lane.intents));
        assert_eq!((lane.owner(), intents), (None, 120), "{}", lane.shard);
    }

    let second = worker(&url, "b", "2-5");
    wait_for_shares(&mut lanes, &[("a", 3), ("b", 3)]);
    lanes.iter_mut().for_each(|lane| lane.add(EVENTS - lane.added));
    lanes.iter_mut().for_each(Lane::wait_for_intents);
    let results = [first, second].map(Worker::end);
    assert!(results[0]["stream"]["handed_over"].as_u64().unwrap() >= 2, "{results:?}");
    lanes.iter_mut().for_each(|lane| lane.assert_exact(&url, 0));
}
