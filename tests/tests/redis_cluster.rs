//! Redis as a Cluster of six: a link is with the node that owns its key, whichever that is by now.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use qsc_cli::stream::{Backoff, Link, LinkOptions, RedisAddress, Trouble, key_slot};
use qsc_tests::capture::healthy_capture;
use qsc_tests::qsc::{self, Run};
use qsc_tests::redis::{Cluster, Options, RedisServer, wait_until};
use redis::cmd;
use tempfile::TempDir;

const INTENTS: &str = "quantum:stream:trade.intent";

fn gate(source: &str, more: &[&str]) -> Run {
    let reports = TempDir::new().unwrap();
    let reports = reports.path().to_str().unwrap();
    let fixed = ["quality-gate", "--mode", "canary", "--report-dir", reports, "--source", source];
    qsc::run(fixed.into_iter().chain(more.iter().copied()))
}

fn link(url: &str, key: &str) -> Link {
    Link::connect(&RedisAddress::parse(url).unwrap(), key, &LinkOptions::default()).unwrap()
}

fn port(link: &mut Link) -> u16 {
    let config: (String, u16) = link.query(cmd("CONFIG").arg("GET").arg("port")).unwrap();
    config.1
}

fn add(link: &mut Link, key: &str, number: u32) -> Result<String, Trouble> {
    link.query(cmd("XADD").arg(key).arg(format!("{number}-0")).arg("n").arg(number))
}

#[test]
fn a_link_is_with_the_owner_of_its_key() {
    let Some(mut cluster) = Cluster::start(3, 1, &Options::default()) else { return };
    every_key_is_found_by_way_of_any_node(&cluster);
    a_moving_slot_is_followed(&cluster);
    a_replica_takes_over(&mut cluster);
    a_cluster_without_a_node_for_a_slot_is_down(&mut cluster);
}

fn every_key_is_found_by_way_of_any_node(cluster: &Cluster) {
    let owner = cluster.owner(key_slot(INTENTS), 0);
    healthy_capture(300).load(&mut cluster.nodes[owner].connection(), INTENTS);
    for entry in 0..6 {
        let url = cluster.url("", &[entry]);
        let run = gate(&url, &[]);
        assert_eq!(run.code, Some(0), "{run:?}");
        for key in ["a", "b", "{shard-3}:x", INTENTS] {
            let mut link = link(&url, key);
            assert_eq!(port(&mut link), cluster.nodes[cluster.owner(key_slot(key), 0)].port(), "{key}");
        }
    }
    let rules = "~quantum:* -@all +xrange +xrevrange +xinfo";
    for node in &cluster.nodes {
        node.ask::<()>(&format!("ACL SETUSER reader on >secret {rules} +cluster|slots"));
        node.ask::<()>(&format!("ACL SETUSER blind on >secret {rules}"));
    }
    assert_eq!(gate(&cluster.url("reader:secret@", &[1, 2]), &[]).code, Some(0));
    gate(&cluster.url("blind:secret@", &[1, 2]), &[]).assert_refused(&["does not permit", "cluster|slots"]);
    gate(&cluster.url("reader:hunter2@", &[1, 2]), &[]).assert_refused(&["refused the login"]);

    // Another slot's key is served too, by going over to its node.
    let mut link = link(&cluster.url("", &[0]), "a");
    assert_ne!(cluster.owner(key_slot("a"), 0), cluster.owner(key_slot("b"), 0));
    link.query::<()>(cmd("SET").arg("b").arg(1)).unwrap();
    let mut pipe = redis::pipe();
    pipe.cmd("SET").arg("a").arg(1).cmd("GET").arg("a");
    assert_eq!(link.pipeline::<(String, u32)>(&pipe).unwrap(), ("OK".to_owned(), 1));
    pipe.clear();
    pipe.cmd("SET").arg("a").arg(2).cmd("GET").arg("b");
    assert_eq!(
        link.pipeline::<(String, u32)>(&pipe).unwrap_err().code(),
        Some("MOVED"),
        "half of it was carried out"
    );
    let trouble = link.query::<()>(cmd("MSET").arg("a").arg(1).arg("b").arg(1)).unwrap_err();
    assert_eq!(trouble.code(), Some("CROSSSLOT"));

    gate(&cluster.nodes[(owner + 1) % 3].tcp_url(""), &[])
        .assert_refused(&["is a node of a Cluster", "redis-cluster://"]);
    let alone = RedisServer::start(&Options::default()).unwrap();
    gate(&format!("redis-cluster://127.0.0.1:{}", alone.port()), &[])
        .assert_refused(&["is no node of a Cluster", "redis://"]);
}

fn a_moving_slot_is_followed(cluster: &Cluster) {
    let (key, other) = ("{moving}:a", "{moving}:b");
    let slot = key_slot(key);
    let from = cluster.owner(slot, 0);
    let to = (from + 1) % 3;
    let id = |node: usize| cluster.nodes[node].ask::<String>("CLUSTER MYID");
    let (from_id, to_id) = (id(from), id(to));
    let mut link = link(&cluster.url("", &[0, 1, 2]), key);
    add(&mut link, key, 1).unwrap();
    add(&mut link, other, 1).unwrap();
    assert_eq!(port(&mut link), cluster.nodes[from].port());

    cluster.nodes[to].ask::<()>(&format!("CLUSTER SETSLOT {slot} IMPORTING {from_id}"));
    cluster.nodes[from].ask::<()>(&format!("CLUSTER SETSLOT {slot} MIGRATING {to_id}"));
    cluster.nodes[from].ask::<()>(&format!("MIGRATE 127.0.0.1 {} {key} 0 5000", cluster.nodes[to].port()));
    // One key is there, the other still here.
    add(&mut link, key, 2).unwrap();
    add(&mut link, other, 2).unwrap();
    assert_eq!(port(&mut link), cluster.nodes[from].port(), "until the slot has moved, its owner stays");
    let mut both = cmd("EVAL");
    both.arg("return redis.call('XLEN', KEYS[1]) + redis.call('XLEN', KEYS[2])").arg(2).arg(key).arg(other);
    let trouble = link.query::<u32>(&both).unwrap_err();
    assert!(trouble.code() == Some("TRYAGAIN") && trouble.calls_for_reconnect(), "{trouble:?}");

    cluster.nodes[from].ask::<()>(&format!("MIGRATE 127.0.0.1 {} {other} 0 5000", cluster.nodes[to].port()));
    assert_eq!(link.query::<u32>(&both).unwrap(), 4);
    for node in [to, from] {
        cluster.nodes[node].ask::<()>(&format!("CLUSTER SETSLOT {slot} NODE {to_id}"));
    }
    let mut pipe = redis::pipe();
    pipe.atomic().cmd("XLEN").arg(key).cmd("XLEN").arg(other);
    assert_eq!(link.pipeline::<(u32, u32)>(&pipe).unwrap(), (2, 2));
    assert_eq!(port(&mut link), cluster.nodes[to].port());
}

fn a_replica_takes_over(cluster: &mut Cluster) {
    let key = "{failing}:a";
    let owner = cluster.owner(key_slot(key), 0);
    let mut link = link(&cluster.url("", &[owner]), key);
    for number in 1..=100 {
        add(&mut link, key, number).unwrap();
    }
    assert_eq!(link.query::<u32>(cmd("WAIT").arg(1).arg(5000)).unwrap(), 1);
    cluster.nodes[owner].kill();
    assert!(matches!(add(&mut link, key, 101), Err(Trouble::Unknown(_))));
    // The only node the URL names is gone; the link has heard of the others.
    let mut backoff = Backoff::new(link.options().backoff_first, link.options().backoff_cap, 1);
    let mut attempts = 0;
    loop {
        let there = link.reconnect().and_then(|()| link.query::<u32>(cmd("XLEN").arg(key)));
        match there {
            Ok(length) => break assert_eq!(length, 100),
            Err(trouble) => assert!(trouble.calls_for_reconnect(), "{trouble:?}"),
        }
        attempts += 1;
        assert!(attempts < 200, "no replica takes over");
        std::thread::sleep(backoff.next());
    }
    let witness = (owner + 1) % 3;
    add(&mut link, key, 101).unwrap();
    wait_until("word of the new owner", || cluster.owner(key_slot(key), witness) >= 3);

    // The node that was away comes back as a replica, and sends on what it is asked.
    cluster.nodes[owner].restart();
    wait_until("the old owner as a replica", || {
        cluster.nodes[owner].ask::<String>("INFO replication").contains("master_link_status:up")
    });
    let url = cluster.url("", &[owner]);
    let mut link = self::link(&url, key);
    assert_eq!(link.query::<u32>(cmd("XLEN").arg(key)).unwrap(), 101);
}

fn a_cluster_without_a_node_for_a_slot_is_down(cluster: &mut Cluster) {
    let slot = key_slot(INTENTS);
    let owner = cluster.owner(slot, 0);
    for node in 0..6 {
        // Taken from all, so that gossip cannot give it back.
        if cluster.nodes[node].ask::<String>("INFO replication").contains("role:master") {
            cluster.nodes[node].ask::<()>(&format!("CLUSTER DELSLOTS {slot}"));
        }
    }
    let witness = (owner + 1) % 3;
    let url = cluster.url("", &[witness]);
    gate(&url, &[]).assert_refused(&["the Redis Cluster at 127.0.0.1", "is down"]);
}
