//! A link to one real Redis: what it says became of each command, and how it comes back.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::time::{Duration, Instant};

use qsc_cli::stream::{Link, LinkOptions, RedisAddress, Trouble};
use qsc_tests::capture::healthy_capture;
use qsc_tests::qsc;
use qsc_tests::redis::{Options, RedisServer, wait_until};
use redis::cmd;
use tempfile::TempDir;

const KEY: &str = "intents";

fn connect(url: &str, options: &LinkOptions) -> anyhow::Result<Link> {
    Link::connect(&RedisAddress::parse(url).unwrap(), KEY, options)
}

fn link(server: &RedisServer) -> Link {
    connect(&server.tcp_url(""), &LinkOptions::default()).unwrap()
}

fn add(link: &mut Link, value: &str) -> Result<String, Trouble> {
    link.query(cmd("XADD").arg(KEY).arg("*").arg("n").arg(value))
}

fn code(result: Result<impl std::fmt::Debug, Trouble>) -> String {
    result.unwrap_err().code().unwrap().to_owned()
}

#[test]
fn a_write_whose_connection_is_cut_may_or_may_not_have_been_carried_out() {
    let Some(server) = RedisServer::start(&Options::default()) else { return };
    for url in [server.tcp_url(""), server.url()] {
        let mut link = connect(&url, &LinkOptions::default()).unwrap();
        let id: u64 = link.query(cmd("CLIENT").arg("ID")).unwrap();
        server.ask::<()>("CLIENT PAUSE 60000 WRITE");
        std::thread::scope(|scope| {
            let write = scope.spawn(|| add(&mut link, "1"));
            wait_until("the write", || server.ask::<String>("INFO clients").contains("blocked_clients:1"));
            server.ask::<()>(&format!("CLIENT KILL ID {id}"));
            let trouble = write.join().unwrap().unwrap_err();
            assert!(matches!(&trouble, Trouble::Unknown(_)), "{trouble:?}");
            let said = trouble.to_string();
            assert!(said.contains("before it answered XADD") && said.contains("is not known"), "{said}");
        });
        server.ask::<()>("CLIENT UNPAUSE");
        assert!(!link.is_connected());
        let trouble = add(&mut link, "2").unwrap_err();
        assert!(matches!(&trouble, Trouble::Unreachable(_)), "nothing was sent: {trouble:?}");
        link.reconnect().unwrap();
        add(&mut link, "3").unwrap();
        link.query::<()>(cmd("DEL").arg(KEY)).unwrap();
    }
}

#[test]
fn a_server_killed_with_its_log_on_disk_comes_back_with_what_it_acknowledged() {
    let config = ["appendonly yes", "appendfsync always"];
    let Some(mut server) = RedisServer::start(&Options { config: &config, ..Options::default() }) else {
        return;
    };
    let mut link = link(&server);
    let first = add(&mut link, "1").unwrap();
    server.kill();
    assert!(matches!(add(&mut link, "2"), Err(Trouble::Unknown(_))));
    let trouble = link.reconnect().unwrap_err();
    assert!(
        matches!(&trouble, Trouble::Unreachable(said) if said.contains("cannot reach Redis")),
        "{trouble:?}"
    );
    server.restart();
    link.reconnect().unwrap();
    let entries: Vec<(String, Vec<String>)> = link.query(cmd("XRANGE").arg(KEY).arg("-").arg("+")).unwrap();
    assert_eq!(entries[0], (first, vec!["n".to_owned(), "1".to_owned()]));
}

#[test]
fn a_late_answer_is_nobody_elses() {
    let Some(server) = RedisServer::start(&Options::default()) else { return };
    let mut link = link(&server);
    link.set_reply_timeout(Duration::from_millis(200));
    server.signal("STOP");
    let begin = Instant::now();
    let trouble = link.query::<String>(cmd("ECHO").arg("late")).unwrap_err();
    assert!(
        matches!(&trouble, Trouble::Unknown(said) if said.contains("did not answer ECHO in time")),
        "{trouble:?}"
    );
    let mut pipe = redis::pipe();
    (0..100).for_each(|_| {
        pipe.cmd("PING");
    });
    assert!(matches!(link.pipeline::<Vec<String>>(&pipe), Err(Trouble::Unreachable(_))));
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    server.signal("CONT");
    link.reconnect().unwrap();
    assert_eq!(link.query::<String>(cmd("ECHO").arg("timely")).unwrap(), "timely");

    // A pipeline waits once, not once for each of its answers.
    server.signal("STOP");
    let begin = Instant::now();
    let trouble = link.pipeline::<Vec<String>>(&pipe).unwrap_err();
    server.signal("CONT");
    assert!(trouble.to_string().contains("PING and 99 more"), "{trouble:?}");
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
}

#[test]
fn a_command_that_blocks_is_given_its_time() {
    let Some(server) = RedisServer::start(&Options::default()) else { return };
    let options = LinkOptions { reply_timeout: Duration::from_millis(100), ..LinkOptions::default() };
    let mut link = connect(&server.tcp_url(""), &options).unwrap();
    link.set_reply_timeout(Duration::from_secs(5));
    let mut read = cmd("XREAD");
    read.arg("BLOCK").arg(400).arg("STREAMS").arg(KEY).arg("$");
    assert_eq!(link.query::<Option<Vec<String>>>(&read).unwrap(), None);
    link.reconnect().unwrap();
    assert_eq!(link.query::<Option<Vec<String>>>(&read).unwrap(), None, "later connections keep it");
}

#[test]
fn refusals_keep_their_code_and_the_connection() {
    let users = ["narrow on >secret ~intents -@all +xadd +ping"];
    let Some(server) = RedisServer::start(&Options { users: &users, ..Options::default() }) else { return };
    let mut link = link(&server);
    let mut read = cmd("XREADGROUP");
    read.arg("GROUP").arg("g").arg("c").arg("STREAMS").arg(KEY).arg(">");
    assert_eq!(code(link.query::<()>(&read)), "NOGROUP");
    assert_eq!(code(link.query::<()>(cmd("EVALSHA").arg("f".repeat(40)).arg(0))), "NOSCRIPT");
    link.query::<()>(cmd("SET").arg("text").arg("x")).unwrap();
    assert_eq!(code(link.query::<()>(cmd("XLEN").arg("text"))), "WRONGTYPE");
    server.ask::<()>("CONFIG SET maxmemory 1");
    assert_eq!(code(add(&mut link, "1")), "OOM");
    server.ask::<()>("CONFIG SET maxmemory 0");
    server.ask::<()>("REPLICAOF 127.0.0.1 1");
    let trouble = add(&mut link, "1").unwrap_err();
    assert!(trouble.code() == Some("READONLY") && trouble.calls_for_reconnect(), "{trouble:?}");
    assert!(trouble.explain(link.address()).contains("is a replica"), "{trouble:?}");
    server.ask::<()>("REPLICAOF NO ONE");

    // A pipeline names its first refusal; a transaction with one does nothing.
    let mut pipe = redis::pipe();
    pipe.cmd("XLEN").arg(KEY).cmd("XLEN").arg("text").cmd("INCR").arg("count");
    assert_eq!(code(link.pipeline::<Vec<u64>>(&pipe)), "WRONGTYPE");
    assert_eq!(link.query::<u64>(cmd("GET").arg("count")).unwrap(), 1);
    let mut pipe = redis::pipe();
    pipe.atomic().cmd("INCR").arg("count").cmd("XLEN");
    assert_eq!(code(link.pipeline::<Vec<u64>>(&pipe)), "ERR");
    assert_eq!(link.query::<u64>(cmd("GET").arg("count")).unwrap(), 1);

    let mut narrow = connect(&server.tcp_url("narrow:secret@"), &LinkOptions::default()).unwrap();
    add(&mut narrow, "1").unwrap();
    for (command, named) in
        [(cmd("XLEN").arg(KEY), "XLEN"), (cmd("XADD").arg("other").arg("*").arg("a").arg("b"), "XADD")]
    {
        let trouble = narrow.query::<()>(command).unwrap_err();
        assert!(trouble.code() == Some("NOPERM") && !trouble.calls_for_reconnect(), "{trouble:?}");
        let said = trouble.explain(narrow.address());
        assert!(said.contains(named) && said.contains("does not permit"), "{said}");
    }
    assert!(narrow.is_connected());
}

#[test]
fn a_password_in_a_file_is_read_at_each_connection() {
    let users = ["trader on >first ~* +@all"];
    let Some(server) =
        RedisServer::start(&Options { requirepass: Some("top"), users: &users, ..Options::default() })
    else {
        return;
    };
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("password");
    fs::write(&file, "first\n").unwrap();
    let options = LinkOptions { password_file: Some(file.clone()), ..LinkOptions::default() };
    let mut link = connect(&server.tcp_url("trader@"), &options).unwrap();
    assert_eq!(link.query::<String>(cmd("ACL").arg("WHOAMI")).unwrap(), "trader");
    server.ask::<()>("ACL SETUSER trader resetpass >second");
    let trouble = link.reconnect().unwrap_err();
    assert_eq!(trouble.code(), Some("WRONGPASS"));
    fs::write(&file, "second").unwrap();
    link.reconnect().unwrap();

    // The URL's own password is the nearer one; without any, a user is a mistake.
    connect(&server.tcp_url(":top@"), &options).unwrap();
    let error = connect(&server.tcp_url("trader@"), &LinkOptions::default()).err().unwrap().to_string();
    assert!(error.contains("names a user without a password"), "{error}");
    fs::write(&file, "\n").unwrap();
    let error = connect(&server.tcp_url("trader@"), &options).err().unwrap().to_string();
    assert!(error.contains("is empty"), "{error}");
    let missing = LinkOptions { password_file: Some("/nowhere/password".into()), ..LinkOptions::default() };
    let error = connect(&server.tcp_url("trader@"), &missing).err().unwrap().to_string();
    assert!(error.contains("cannot read the password file /nowhere/password"), "{error}");
}

#[test]
fn gates_take_the_password_from_a_file_and_show_it_nowhere() {
    let Some(server) = RedisServer::start(&Options { requirepass: Some("hunter2"), ..Options::default() })
    else {
        return;
    };
    healthy_capture(300).load(&mut server.connection(), "quantum:stream:trade.intent");
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("password");
    fs::write(&file, "hunter2\n").unwrap();
    let (file, reports) = (file.to_str().unwrap(), directory.path().to_str().unwrap());
    let url = server.tcp_url("");
    let arguments = ["quality-gate", "--mode", "canary", "--source", &url, "--report-dir", reports];
    let settings = directory.path().join("qsc.toml");
    fs::write(&settings, format!("redis-password-file = {file:?}\n")).unwrap();
    let by_flag = qsc::run(arguments.into_iter().chain(["--redis-password-file", file]));
    let by_file = qsc::run(arguments.into_iter().chain(["--settings", settings.to_str().unwrap()]));
    for run in [by_flag, by_file] {
        assert_eq!(run.code, Some(0), "{run:?}");
        assert!(!format!("{run:?}").contains("hunter2"));
    }
    let run = qsc::run(arguments);
    run.assert_refused(&["refused the login", "--redis-password-file"]);
    let shown = qsc::run(["config", "show", "quality-gate", "--settings", settings.to_str().unwrap()]);
    assert!(shown.stdout.contains(file) && !shown.stdout.contains("hunter2"), "{shown:?}");
}

#[test]
fn a_server_without_room_or_without_passwords_is_understood() {
    let config = ["maxclients 2"];
    let Some(server) = RedisServer::start(&Options { config: &config, ..Options::default() }) else { return };
    let error =
        connect(&server.tcp_url("someone:hunter2@"), &LinkOptions::default()).err().unwrap().to_string();
    assert!(error.contains("refused the login") && !error.contains("hunter2"), "{error}");
    let _first = link(&server);
    let _second = link(&server);
    let error = connect(&server.tcp_url(""), &LinkOptions::default()).err().unwrap().to_string();
    assert!(error.contains("max number of clients reached"), "{error}");
}
