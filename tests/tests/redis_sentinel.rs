//! Redis under three Sentinels: the master is found, and found again after a failover.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::time::Duration;

use qsc_cli::stream::{Backoff, Link, LinkOptions, RedisAddress, SentinelLogin, Trouble};
use qsc_tests::capture::healthy_capture;
use qsc_tests::qsc::{self, Run};
use qsc_tests::redis::{MASTER, Options, RedisServer, Sentinels, wait_until};
use redis::cmd;
use tempfile::TempDir;

const INTENTS: &str = "quantum:stream:trade.intent";

fn gate(source: &str, more: &[&str]) -> Run {
    let reports = TempDir::new().unwrap();
    let reports = reports.path().to_str().unwrap();
    let fixed = ["quality-gate", "--mode", "canary", "--report-dir", reports, "--source", source];
    qsc::run(fixed.into_iter().chain(more.iter().copied()))
}

#[test]
fn a_link_follows_the_master_through_a_failover() {
    let Some(mut group) = Sentinels::start(2, 3, &Options::default(), &Options::default()) else { return };
    healthy_capture(300).load(&mut group.servers[0].connection(), INTENTS);
    let url = group.url("");
    assert_eq!(gate(&url, &[]).code, Some(0));
    let address = RedisAddress::parse(&url).unwrap();
    let mut link = Link::connect(&address, "numbers", &LinkOptions::default()).unwrap();
    let write = |link: &mut Link, number: u32| -> Result<String, Trouble> {
        link.query(cmd("XADD").arg("numbers").arg(format!("{number}-0")).arg("n").arg(number))
    };
    for number in 1..=100 {
        write(&mut link, number).unwrap();
    }
    // What a failover may lose is what no replica has.
    assert!(link.query::<u32>(cmd("WAIT").arg(2).arg(5000)).unwrap() == 2);
    group.servers[0].kill();
    let trouble = write(&mut link, 101).unwrap_err();
    assert!(matches!(&trouble, Trouble::Unknown(_)), "{trouble:?}");

    let options = link.options();
    let mut backoff = Backoff::new(options.backoff_first, options.backoff_cap, 1);
    let mut troubles = Vec::new();
    while let Err(trouble) = link.reconnect() {
        assert!(trouble.calls_for_reconnect(), "{trouble:?}");
        troubles.push(trouble.to_string());
        assert!(troubles.len() < 200, "{troubles:?}");
        std::thread::sleep(backoff.next());
    }
    assert!(troubles.iter().any(|said| said.contains("cannot reach Redis at")), "{troubles:?}");
    let master = group.master();
    assert_ne!(master, 0);
    // The one whose fate was unknown is looked for; then the writing goes on where it stopped.
    let last: Vec<(String, Vec<String>)> =
        link.query(cmd("XREVRANGE").arg("numbers").arg("+").arg("-").arg("COUNT").arg(1)).unwrap();
    assert_eq!(last[0].0, "100-0");
    write(&mut link, 101).unwrap();
    assert_eq!(group.servers[master].ask::<u32>("XLEN numbers"), 101);
    assert_eq!(gate(&url, &[]).code, Some(0), "gates find the new master");

    // A master that has become a replica says so, and the next connection is to the one that took over.
    let replica = 3 - master;
    wait_until("the other replica with its new master", || {
        let info: String = group.servers[replica].ask("INFO replication");
        info.contains(&format!("master_port:{}", group.servers[master].port()))
            && info.contains("master_link_status:up")
    });
    wait_until("the end of the failover", || {
        !group.sentinels[0].ask::<String>("INFO sentinel").contains("slaves=0")
    });
    group.sentinels[0].ask::<()>(&format!("SENTINEL FAILOVER {MASTER}"));
    let trouble = (102..).find_map(|number| {
        std::thread::sleep(Duration::from_millis(10));
        write(&mut link, number).err()
    });
    assert!(trouble.as_ref().is_some_and(Trouble::calls_for_reconnect), "{trouble:?}");
    wait_until("the next master", || link.reconnect().is_ok() && group.master() != master);
    link.query::<()>(cmd("SET").arg("after").arg("failover")).unwrap();

    // One Sentinel of three is enough to ask.
    group.sentinels[0].kill();
    group.sentinels[1].kill();
    link.reconnect().unwrap();
    group.sentinels[2].kill();
    gate(&url, &[]).assert_refused(&["cannot reach Redis at 127.0.0.1"]);
}

#[test]
fn a_master_nobody_knows_and_a_login_nobody_accepts_are_named() {
    let sentinel = Options { requirepass: Some("watch"), ..Options::default() };
    let master = Options { requirepass: Some("top"), ..Options::default() };
    let auth = Options { config: &["sentinel auth-pass qsc-test top"], ..sentinel };
    let Some(group) = Sentinels::start(0, 1, &master, &auth) else { return };
    healthy_capture(300).load(&mut group.servers[0].connection(), INTENTS);
    let directory = TempDir::new().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (top, watch, wrong) = (file("top", "top\n"), file("watch", "watch"), file("wrong", "hunter2"));
    let url = group.url("");
    let flags = ["--redis-sentinel-password-file", &watch, "--redis-password-file", &top];
    assert_eq!(gate(&url, &flags).code, Some(0));
    assert_eq!(gate(&group.url(":top@"), &flags[..2]).code, Some(0));
    gate(&url, &flags[2..]).assert_refused(&[
        "the Sentinel at 127.0.0.1",
        "NOAUTH",
        "--redis-sentinel-password-file",
    ]);
    let run = gate(&url, &["--redis-sentinel-password-file", &wrong, "--redis-password-file", &top]);
    run.assert_refused(&["the Sentinel at 127.0.0.1", "WRONGPASS"]);
    assert!(!run.stderr.contains("hunter2"), "{run:?}");
    gate(&url, &["--redis-sentinel-password-file", &watch, "--redis-password-file", &wrong])
        .assert_refused(&["refused the login", "check user and password"]);
    gate(&url.replace(MASTER, "othermaster"), &flags)
        .assert_refused(&["no Sentinel at 127.0.0.1", "knows a master othermaster"]);
    let options = LinkOptions {
        sentinel: SentinelLogin {
            user: Some("nobody".to_owned()),
            password_file: Some(watch.clone().into()),
        },
        ..LinkOptions::default()
    };
    let error =
        Link::connect(&RedisAddress::parse(&url).unwrap(), INTENTS, &options).err().unwrap().to_string();
    assert!(error.contains("the Sentinel at") && error.contains("WRONGPASS"), "{error}");
}

#[test]
fn a_server_that_is_no_sentinel_is_named() {
    let Some(server) = RedisServer::start(&Options::default()) else { return };
    gate(&format!("redis-sentinel://127.0.0.1:{}/{MASTER}", server.port()), &[])
        .assert_refused(&["the Sentinel at 127.0.0.1", "unknown command"]);
}
