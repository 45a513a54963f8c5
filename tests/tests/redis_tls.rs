//! Redis over TLS: what opens, and the one sentence for everything that must not.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;

use qsc_cli::stream::{Link, LinkOptions, RedisAddress, TlsFiles};
use qsc_tests::capture::healthy_capture;
use qsc_tests::qsc::{self, Run};
use qsc_tests::redis::{Authority, Cluster, Identity, Options, RedisServer, Sentinels, wait_until};
use redis::cmd;
use tempfile::TempDir;

const INTENTS: &str = "quantum:stream:trade.intent";

fn gate(source: &str, flags: &[String]) -> Run {
    let reports = TempDir::new().unwrap();
    let reports = reports.path().to_str().unwrap();
    let fixed = ["quality-gate", "--mode", "canary", "--report-dir", reports, "--source", source];
    qsc::run(fixed.into_iter().chain(flags.iter().map(String::as_str)))
}

fn options(client: &Identity) -> LinkOptions {
    let tls = TlsFiles {
        ca: Some(client.ca.clone()),
        cert: Some(client.cert.clone()),
        key: Some(client.key.clone()),
    };
    LinkOptions { tls, ..LinkOptions::default() }
}

#[test]
fn a_gate_and_a_link_work_over_tls() {
    let Some(authority) = Authority::make() else { return };
    let identity = authority.sign("IP:127.0.0.1");
    let users = ["trader on >secret ~* +@all"];
    let Some(server) =
        RedisServer::start(&Options { tls: Some(&identity), users: &users, ..Options::default() })
    else {
        return;
    };
    healthy_capture(600).load(&mut server.connection(), INTENTS);
    let client = authority.sign("DNS:client");
    assert_eq!(gate(&server.tcp_url("trader:secret@"), &client.flags()).code, Some(0));

    let address = RedisAddress::parse(&server.tcp_url("")).unwrap();
    let mut link = Link::connect(&address, INTENTS, &options(&client)).unwrap();
    // More than a record of TLS, and than what the library takes in at once.
    let large = "x".repeat(1 << 20);
    assert_eq!(link.query::<String>(cmd("ECHO").arg(&large)).unwrap(), large);
    server.ask::<()>("CLIENT KILL TYPE normal");
    link.query::<String>(&cmd("PING")).unwrap_err();
    link.reconnect().unwrap();
    assert_eq!(link.query::<u64>(cmd("XLEN").arg(INTENTS)).unwrap(), 600);
}

#[test]
fn every_way_in_that_must_stay_shut_is_one_sentence() {
    let Some(authority) = Authority::make() else { return };
    let Some(stranger) = Authority::make() else { return };
    let client = authority.sign("DNS:client");
    let serve =
        |identity: &Identity| RedisServer::start(&Options { tls: Some(identity), ..Options::default() });
    let Some(good) = serve(&authority.sign("IP:127.0.0.1")) else { return };
    let expired = serve(&authority.sign_expired("IP:127.0.0.1")).unwrap();
    let misnamed = serve(&authority.sign("DNS:db.example")).unwrap();
    let plain = RedisServer::start(&Options { requirepass: Some("top"), ..Options::default() }).unwrap();

    let flags = client.flags();
    let refused = |source: &str, flags: &[String], parts: &[&str]| {
        let run = gate(&source.replace("://", "://u:hunter2@"), flags);
        run.assert_refused(parts);
        assert!(!run.stderr.contains("hunter2"), "{run:?}");
    };
    refused(&expired.tcp_url(""), &flags, &["certificate of Redis at 127.0.0.1", "has expired"]);
    refused(&misnamed.tcp_url(""), &flags, &["certificate of Redis at 127.0.0.1", "is for another name"]);
    refused(&good.tcp_url(""), &[], &["signed by no authority trusted here", "--redis-ca"]);
    refused(
        &good.tcp_url(""),
        &stranger.sign("DNS:client").flags(),
        &["signed by no authority trusted here"],
    );
    refused(&good.tcp_url(""), &flags[..2], &["refused TLS", "--redis-cert"]);
    refused(
        &good.tcp_url(""),
        &authority.sign_expired("DNS:client").flags(),
        &["refused TLS", "--redis-cert"],
    );
    refused(&good.tcp_url(""), &flags, &["refused the login", "check user and password"]);
    refused(&good.tcp_url("").replace("rediss", "redis"), &[], &["if its port speaks TLS, use rediss://"]);
    // A plain server answers a TLS greeting only where there happens to be an end of line in it.
    let hasty = [&flags[..], &["--redis-connect-timeout".to_owned(), "1s".to_owned()]].concat();
    refused(&plain.tcp_url("").replace("redis", "rediss"), &hasty, &["port is plain", "without TLS"]);

    let directory = TempDir::new().unwrap();
    let garbage = directory.path().join("garbage.pem");
    fs::write(&garbage, "-----BEGIN CERTIFICATE-----\nnot base64\n-----END CERTIFICATE-----\n").unwrap();
    let garbage = garbage.to_str().unwrap().to_owned();
    let with = |at: usize, file: &str| {
        let mut flags = flags.clone();
        flags[at] = file.to_owned();
        flags
    };
    refused(&good.tcp_url(""), &with(1, "/nowhere/ca.pem"), &["cannot read the CA file /nowhere/ca.pem"]);
    refused(&good.tcp_url(""), &with(1, &garbage), &["is no list of certificates in PEM"]);
    refused(
        &good.tcp_url(""),
        &with(3, &garbage),
        &["client certificate", "is no list of certificates in PEM"],
    );
    refused(&good.tcp_url(""), &with(5, &garbage), &["key of the client certificate", "is no key in PEM"]);
    let other = stranger.sign("DNS:client").key;
    refused(
        &good.tcp_url(""),
        &with(5, other.to_str().unwrap()),
        &["the client certificate", "cannot be used together"],
    );
    refused(&good.tcp_url(""), &flags[..4], &["give both --redis-cert and --redis-key"]);
}

#[test]
fn sentinels_and_nodes_are_spoken_to_over_tls_too() {
    let Some(authority) = Authority::make() else { return };
    let identity = authority.sign("IP:127.0.0.1");
    let tls = Options { tls: Some(&identity), ..Options::default() };
    let client = authority.sign("DNS:client");
    let Some(group) = Sentinels::start(0, 1, &tls, &tls) else { return };
    let Some(cluster) = Cluster::start(1, 0, &tls) else { return };
    healthy_capture(300).load(&mut group.servers[0].connection(), INTENTS);
    healthy_capture(300).load(&mut cluster.nodes[0].connection(), INTENTS);
    for url in [group.url(""), cluster.url("", &[0])] {
        assert!(url.starts_with("rediss-"), "{url}");
        let run = gate(&url, &client.flags());
        assert_eq!(run.code, Some(0), "{run:?}");
        gate(&url, &[]).assert_refused(&["signed by no authority trusted here"]);
        let address = RedisAddress::parse(&url).unwrap();
        let mut link = Link::connect(&address, INTENTS, &options(&client)).unwrap();
        assert_eq!(link.query::<u64>(cmd("XLEN").arg(INTENTS)).unwrap(), 300);
        wait_until("a new connection", || link.reconnect().is_ok());
    }
}
