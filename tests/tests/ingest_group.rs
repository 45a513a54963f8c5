//! Whoever may touch the consumer group sets it back and forward, removes it, and claims what is not theirs: `qsc run` neither
//! doubles an intent for it nor passes an event over.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use qsc_tests::bundle;
use qsc_tests::ingest::{
    DEAD, Events, FEATURES, INTENTS, OWNER, Proxy, Server, Worker, assert_undisturbed, id, verify, wait_for,
    wait_for_intents,
};
use tempfile::TempDir;

/// All four bundled models: two of them keep windows of every symbol.
fn all_models() -> PathBuf {
    bundle::file("MODELS.toml")
}

#[test]
fn a_group_that_is_gone_begins_where_it_ended() {
    let Some(server) = Server::start() else { return };
    let events = Events::new(800, 2, 7);
    let expected = events.undisturbed(&all_models());
    let mut connection = server.connection();
    let worker = Worker::start(&server.url(), &all_models(), "a", &[]);
    events.add(&mut connection, 0..200).unwrap();
    wait_for_intents(&server, 200);
    server.ask::<i64>(&["XGROUP", "DESTROY", FEATURES, "qsc"]);
    events.add(&mut connection, 200..400).unwrap();
    wait_for_intents(&server, 400);
    worker.wait_for(&format!("created again at {}", id(199)));
    drop(worker.end());

    // While nobody runs; then set back, so that everything would come again.
    server.ask::<i64>(&["XGROUP", "DESTROY", FEATURES, "qsc"]);
    events.add(&mut connection, 400..600).unwrap();
    let worker = Worker::start(&server.url(), &all_models(), "a", &[]);
    wait_for_intents(&server, 600);
    worker.wait_for(&format!("created again at {}", id(399)));
    drop(worker.end());
    server.ask::<String>(&["XGROUP", "SETID", FEATURES, "qsc", "0"]);
    let worker = Worker::start(&server.url(), &all_models(), "a", &[]);
    worker.wait_for("set back");
    // Set back under way: what comes again is settled without an intent.
    server.ask::<String>(&["XGROUP", "SETID", FEATURES, "qsc", &id(500)]);
    events.add(&mut connection, 600..800).unwrap();
    wait_for_intents(&server, 800);
    drop(worker.end());
    assert_undisturbed(&server, &expected);
    assert_eq!(verify(&server).0, Some(0));
}

/// Set back under load: what comes again is pending when the batch in hand is settled.
#[test]
fn a_group_set_back_under_load_doubles_nothing() {
    let Some(server) = Server::start() else { return };
    let events = Events::new(6000, 2, 20);
    let expected = events.undisturbed(&all_models());
    events.add_all(&server);
    let worker = Worker::start(&server.url(), &all_models(), "a", &[]);
    for count in [700, 2000, 3500] {
        wait_for_intents(&server, count);
        server.ask::<String>(&["XGROUP", "SETID", FEATURES, "qsc", "0"]);
    }
    worker.wait_for("the group was set back");
    wait_for_intents(&server, 4500);
    // Into what is in hand; then killed while what comes again is pending.
    let last: String = server.ask(&["HGET", OWNER, "last"]);
    server.ask::<String>(&["XGROUP", "SETID", FEATURES, "qsc", &last]);
    wait_for_intents(&server, 5000);
    server.ask::<String>(&["XGROUP", "SETID", FEATURES, "qsc", "0"]);
    worker.kill();
    let worker = Worker::start(&server.url(), &all_models(), "a", &[]);
    wait_for_intents(&server, 6000);
    drop(worker.end());
    assert_undisturbed(&server, &expected);
    let (code, proof) = verify(&server);
    assert_eq!((code, server.length(DEAD)), (Some(0), 0), "{proof}");
}

/// A batch that begins before what is settled and ends after it, and the group gone afterwards.
#[test]
fn a_group_set_back_a_little_and_then_gone_doubles_nothing() {
    let Some(server) = Server::start() else { return };
    let events = Events::new(140, 1, 21);
    let expected = events.undisturbed(&all_models());
    let mut connection = server.connection();
    events.add(&mut connection, 0..100).unwrap();
    let worker = Worker::start(&server.url(), &all_models(), "a", &[]);
    wait_for_intents(&server, 100);
    worker.signal("STOP");
    server.ask::<String>(&["XGROUP", "SETID", FEATURES, "qsc", &id(89)]);
    events.add(&mut connection, 100..120).unwrap();
    worker.signal("CONT");
    wait_for_intents(&server, 120);
    wait_for("everything is settled", || {
        let last: Option<String> = server.ask(&["HGET", OWNER, "last"]);
        (last == Some(id(119))).then_some(())
    });
    server.ask::<i64>(&["XGROUP", "DESTROY", FEATURES, "qsc"]);
    events.add(&mut connection, 120..140).unwrap();
    wait_for_intents(&server, 140);
    thread::sleep(Duration::from_millis(300));
    drop(worker.end());
    assert_undisturbed(&server, &expected);
    assert_eq!(verify(&server).0, Some(0));
}

/// Set forward while the worker is idle, while it works, and while nobody does: what was passed over is decided in its place.
#[test]
fn a_group_set_forward_passes_nothing_over() {
    let Some(server) = Server::start() else { return };
    let events = Events::new(1200, 2, 22);
    let expected = events.undisturbed(&all_models());
    let mut connection = server.connection();
    let worker = Worker::start(&server.url(), &all_models(), "a", &[]);
    events.add(&mut connection, 0..100).unwrap();
    wait_for_intents(&server, 100);
    worker.signal("STOP");
    events.add(&mut connection, 100..400).unwrap();
    server.ask::<String>(&["XGROUP", "SETID", FEATURES, "qsc", "$"]);
    events.add(&mut connection, 400..500).unwrap();
    worker.signal("CONT");
    wait_for_intents(&server, 500);
    worker.wait_for("was passed over");
    drop(worker.end());
    events.add(&mut connection, 500..900).unwrap();
    server.ask::<String>(&["XGROUP", "SETID", FEATURES, "qsc", "$"]);
    let worker = Worker::start(&server.url(), &all_models(), "a", &[]);
    wait_for_intents(&server, 900);
    worker.wait_for("set forward");
    // A gap would be found now.
    thread::sleep(Duration::from_millis(1200));
    // Nothing comes after what is passed over.
    worker.signal("STOP");
    events.add(&mut connection, 900..1200).unwrap();
    server.ask::<String>(&["XGROUP", "SETID", FEATURES, "qsc", "$"]);
    worker.signal("CONT");
    wait_for_intents(&server, 1200);
    let result = worker.end();
    assert_eq!(result["stream"]["lost"], 0, "{result}");
    assert_undisturbed(&server, &expected);
    assert_eq!(verify(&server).0, Some(0));
}

/// Set beyond the end of the stream, where nothing that comes is handed out: while nobody works, and while the worker is idle.
#[test]
fn a_group_set_beyond_the_stream_still_gets_what_comes() {
    let Some(server) = Server::start() else { return };
    let events = Events::new(300, 1, 31);
    let expected = events.undisturbed(&all_models());
    let mut connection = server.connection();
    let worker = Worker::start(&server.url(), &all_models(), "a", &[]);
    events.add(&mut connection, 0..100).unwrap();
    wait_for_intents(&server, 100);
    drop(worker.end());
    let set = || server.ask::<String>(&["XGROUP", "SETID", FEATURES, "qsc", &id(1000)]);
    set();
    let worker = Worker::start(&server.url(), &all_models(), "a", &[]);
    worker.wait_for(&format!("was set to {}, beyond {}", id(1000), id(99)));
    events.add(&mut connection, 100..200).unwrap();
    wait_for_intents(&server, 200);
    set();
    events.add(&mut connection, 200..300).unwrap();
    wait_for_intents(&server, 300);
    drop(worker.end());
    assert_undisturbed(&server, &expected);
    assert_eq!(verify(&server).0, Some(0));
}

/// Entries up to the last one settled that are pending: with an intent, without one, and where nobody can tell.
#[test]
fn what_is_pending_again_is_decided_only_if_it_never_was() {
    let Some(server) = Server::start() else { return };
    let events = Events::new(300, 1, 23);
    let two = TempDir::new().unwrap();
    let models = bundle::write_models(two.path(), "", "");
    events.add(&mut server.connection(), 0..100).unwrap();
    let worker = Worker::start(&server.url(), &models, "a", &[]);
    wait_for_intents(&server, 100);
    drop(worker.end());
    let claim = |index| {
        let claimed: Vec<String> =
            server.ask(&["XCLAIM", FEATURES, "qsc", "b", "0", &id(index), "FORCE", "JUSTID"]);
        assert_eq!(claimed, [id(index)]);
    };
    // Of a group that somebody else worked on before, 20 and 40 were never settled.
    let intents = server.entries(INTENTS);
    server.ask::<String>(&["RENAME", INTENTS, "kept"]);
    for (index, (_, fields)) in intents.iter().enumerate().filter(|(index, _)| ![20, 40].contains(index)) {
        let add = ["XADD", INTENTS, "*", "event_type", "trade.intent", "payload", &fields["payload"]];
        assert!(!server.ask::<String>(&add).is_empty(), "{index}");
    }
    // Its account did not see these begin.
    server.ask::<i64>(&["HDEL", OWNER, "intents_from"]);
    [10, 20, 30, 40].into_iter().for_each(claim);
    let worker = Worker::start(&server.url(), &models, "a", &[]);
    wait_for_intents(&server, 100);
    drop(worker.end());
    let (code, proof) = verify(&server);
    assert_eq!((code, &proof["intents"], &proof["disordered"]), (Some(0), &100.into(), &2.into()), "{proof}");
    assert_eq!(server.ask::<String>(&["HGET", OWNER, "seen"]), "100", "none is accounted for twice");
    // The oldest intents are gone: a second one of 10 would be a second position, so it gets none.
    server.ask::<i64>(&["XTRIM", INTENTS, "MAXLEN", "50"]);
    [10, 80].into_iter().for_each(claim);
    let worker = Worker::start(&server.url(), &models, "a", &[]);
    worker.wait_for(&format!("DOUBTFUL: the entry {}", id(10)));
    events.add(&mut server.connection(), 100..101).unwrap();
    wait_for_intents(&server, 51);
    drop(worker.end());
    let letters = server.entries(DEAD);
    assert_eq!((letters.len(), letters[0].1["source_id"].as_str()), (1, id(10).as_str()), "{letters:?}");
    assert_eq!(server.length(INTENTS), 51);
}

/// Somebody else created it there: what was in the stream by then counts as settled, what comes does not.
#[test]
fn a_group_created_beyond_the_stream_still_gets_what_comes() {
    let Some(server) = Server::start() else { return };
    let events = Events::new(100, 1, 46);
    events.add(&mut server.connection(), 0..50).unwrap();
    server.ask::<String>(&["XGROUP", "CREATE", FEATURES, "qsc", &id(1000)]);
    let worker = Worker::start(&server.url(), &all_models(), "a", &[]);
    worker.wait_for(&format!("was set to {}, beyond {}", id(1000), id(49)));
    events.add(&mut server.connection(), 50..100).unwrap();
    wait_for_intents(&server, 50);
    drop(worker.end());
    let last: String = server.ask(&["HGET", OWNER, "last"]);
    assert_eq!((server.length(INTENTS), last), (50, id(99)), "it goes on where it was set back to");
}

/// Pending again right after it was looked through what the pending ones became.
#[test]
fn an_entry_that_becomes_pending_while_a_shift_begins_is_not_doubled() {
    let Some(server) = Server::start() else { return };
    let events = Events::new(100, 1, 32);
    let expected = events.undisturbed(&all_models());
    events.add_all(&server);
    let worker = Worker::start(&server.url(), &all_models(), "a", &[]);
    wait_for_intents(&server, 100);
    drop(worker.end());
    take_by_z(&server, 30);
    let proxy = Proxy::start(server.port);
    // The last stream that is looked through.
    proxy.hold_at(&format!("XRANGE\r\n${}\r\n{DEAD}\r\n", DEAD.len()));
    let worker = Worker::start(&proxy.url(), &all_models(), "a", &[]);
    wait_until_held(&proxy);
    take_by_z(&server, 60);
    proxy.release();
    wait_until_nothing_is_pending(&server);
    let logged = worker.logged();
    drop(worker.end());
    assert_undisturbed(&server, &expected);
    assert_eq!(verify(&server).0, Some(0));
    let again = format!("the entry {} is settled and became pending again", id(60));
    assert!(logged.contains(&again), "{logged}");
}

/// What is settled again does not hide what is lost.
#[test]
fn a_group_set_back_hides_no_gap() {
    let Some(server) = Server::start() else { return };
    let events = Events::new(600, 1, 24);
    events.add(&mut server.connection(), 0..200).unwrap();
    let worker = Worker::start(&server.url(), &all_models(), "a", &[]);
    wait_for_intents(&server, 200);
    server.ask::<String>(&["XGROUP", "SETID", FEATURES, "qsc", &id(99)]);
    events.add(&mut server.connection(), 200..300).unwrap();
    wait_for_intents(&server, 300);
    drop(worker.end());
    events.add(&mut server.connection(), 300..400).unwrap();
    server.ask::<i64>(&["XTRIM", FEATURES, "MINID", &id(350)]);
    let worker = Worker::start(&server.url(), &all_models(), "a", &[]);
    worker.wait_for(&format!("GAP: 50 entries of {FEATURES} were removed"));
    wait_for_intents(&server, 350);
    drop(worker.end());
}

#[test]
fn an_entry_taken_by_another_consumer_is_decided_in_its_place() {
    let Some(server) = Server::start() else { return };
    let events = Events::new(600, 2, 10);
    let expected = events.undisturbed(&all_models());
    let mut connection = server.connection();
    let worker = Worker::start(&server.url(), &all_models(), "a", &["--lease", "600ms"]);
    events.add(&mut connection, 0..300).unwrap();
    wait_for_intents(&server, 300);
    // The worker sleeps while somebody else reads; awake, it must notice before it decides anything later.
    worker.signal("STOP");
    events.add(&mut connection, 300..310).unwrap();
    server.ask::<redis::Value>(&[
        "XREADGROUP",
        "GROUP",
        "qsc",
        "other",
        "COUNT",
        "5",
        "STREAMS",
        FEATURES,
        ">",
    ]);
    events.add(&mut connection, 310..600).unwrap();
    worker.signal("CONT");
    wait_for_intents(&server, 600);
    drop(worker.end());
    assert_undisturbed(&server, &expected);
}

/// Entries read by `z`, a consumer that never settles anything.
fn read_by_z(server: &Server, count: usize) {
    let count = count.to_string();
    let read = ["XREADGROUP", "GROUP", "qsc", "z", "COUNT", &count, "STREAMS", FEATURES, ">"];
    server.ask::<redis::Value>(&read);
}

/// An entry that was delivered before becomes pending again, for `z`.
fn take_by_z(server: &Server, index: usize) {
    let claim = ["XCLAIM", FEATURES, "qsc", "z", "0", &id(index), "FORCE", "JUSTID"];
    assert_eq!(server.ask::<Vec<String>>(&claim), [id(index)]);
}

fn wait_until_nothing_is_pending(server: &Server) {
    wait_for("nothing is pending", || {
        let pending: redis::Value = server.ask(&["XPENDING", FEATURES, "qsc"]);
        matches!(pending, redis::Value::Array(summary) if summary[0] == redis::Value::Int(0)).then_some(())
    });
}

/// Waits until a worker behind `proxy` is stopped at its next call with these words.
fn wait_until_held(proxy: &Proxy) {
    wait_for("the call is held up", || proxy.holds().then_some(()));
}

/// The scene of what happens while a shift begins: ten events are settled, and `pending` more were read by another
/// consumer; the worker is held up before it rebuilds its windows.
fn held_before_rebuilding(server: &Server, events: &Events, pending: usize) -> (Proxy, Worker) {
    events.add(&mut server.connection(), 0..10).unwrap();
    let worker = Worker::start(&server.url(), &all_models(), "a", &[]);
    wait_for_intents(server, 10);
    drop(worker.end());
    events.add(&mut server.connection(), 10..25).unwrap();
    read_by_z(server, pending);
    let proxy = Proxy::start(server.port);
    proxy.hold_at("XREVRANGE");
    let worker = Worker::start(&proxy.url(), &all_models(), "a", &[]);
    wait_until_held(&proxy);
    (proxy, worker)
}

/// Somebody else reads on while a shift begins, and then sets the group back among what the worker settled for them.
#[test]
fn what_others_read_while_a_shift_begins_is_not_decided_twice() {
    let Some(server) = Server::start() else { return };
    let events = Events::new(26, 1, 35);
    let expected = events.undisturbed(&all_models());
    let (proxy, worker) = held_before_rebuilding(&server, &events, 5);
    read_by_z(&server, 10);
    proxy.release();
    wait_for_intents(&server, 25);
    server.ask::<String>(&["XGROUP", "SETID", FEATURES, "qsc", &id(17)]);
    worker.wait_for("the group was set back");
    events.add(&mut server.connection(), 25..26).unwrap();
    wait_for_intents(&server, 26);
    drop(worker.end());
    assert_undisturbed(&server, &expected);
    assert_eq!(verify(&server).0, Some(0));
}

/// Nothing comes afterwards that would show it.
#[test]
fn what_is_acknowledged_by_others_while_a_shift_begins_is_decided() {
    let Some(server) = Server::start() else { return };
    let events = Events::new(25, 1, 36);
    let expected = events.undisturbed(&all_models());
    let (proxy, worker) = held_before_rebuilding(&server, &events, 15);
    assert_eq!(server.ask::<i64>(&["XACK", FEATURES, "qsc", &id(24)]), 1);
    proxy.release();
    wait_for_intents(&server, 25);
    drop(worker.end());
    assert_undisturbed(&server, &expected);
    assert_eq!(verify(&server).0, Some(0));
}

/// Entries that are decided and on their way when they are taken off the pending list, in every way there is.
#[test]
fn what_is_taken_off_the_list_in_hand_is_decided_all_the_same() {
    let Some(server) = Server::start() else { return };
    let events = Events::new(30, 1, 37);
    let expected = events.undisturbed(&all_models());
    let proxy = Proxy::start(server.port);
    let worker = Worker::start(&proxy.url(), &all_models(), "a", &[]);
    worker.wait_for("created the group");
    let ways: [(usize, &[&[&str]]); 3] = [
        (9, &[&["XGROUP", "DESTROY", FEATURES, "qsc"], &["XGROUP", "CREATE", FEATURES, "qsc", "$"]]),
        (19, &[&["XGROUP", "DELCONSUMER", FEATURES, "qsc", "a"]]),
        (29, &[&["XACK", FEATURES, "qsc", &id(29)]]),
    ];
    for (last, commands) in ways {
        events.add(&mut server.connection(), last - 9..last).unwrap();
        wait_for_intents(&server, last);
        proxy.hold_at("trade.intent");
        events.add(&mut server.connection(), last..last + 1).unwrap();
        wait_until_held(&proxy);
        for command in commands {
            server.ask::<redis::Value>(command);
        }
        proxy.release();
        wait_for_intents(&server, last + 1);
    }
    drop(worker.end());
    assert_undisturbed(&server, &expected);
    assert_eq!(verify(&server).0, Some(0));
}

/// Removed after it was read back and before it is claimed: Redis itself would forget that it was pending.
#[test]
fn a_pending_entry_that_is_removed_before_it_is_claimed_has_a_dead_letter() {
    let Some(server) = Server::start() else { return };
    let events = Events::new(20, 1, 38);
    events.add_all(&server);
    server.ask::<String>(&["XGROUP", "CREATE", FEATURES, "qsc", "0"]);
    read_by_z(&server, 20);
    let proxy = Proxy::start(server.port);
    proxy.hold_at("XCLAIM");
    let worker = Worker::start(&proxy.url(), &all_models(), "a", &[]);
    wait_until_held(&proxy);
    server.ask::<i64>(&["XDEL", FEATURES, &id(6)]);
    proxy.release();
    wait_for_intents(&server, 19);
    drop(worker.end());
    let letters = server.entries(DEAD);
    assert_eq!(letters.len(), 1, "a dead letter for what was removed: {letters:?}");
    assert_eq!(letters[0].1["source_id"], id(6));
    assert!(letters[0].1["reason"].contains("removed from the stream"), "{letters:?}");
}

/// Pending again and then removed while the streams of outcomes are looked through: its intent is its outcome.
#[test]
fn a_settled_entry_that_is_pending_again_and_removed_has_no_dead_letter() {
    let Some(server) = Server::start() else { return };
    let events = Events::new(50, 1, 39);
    events.add_all(&server);
    let worker = Worker::start(&server.url(), &all_models(), "a", &[]);
    wait_for_intents(&server, 50);
    drop(worker.end());
    take_by_z(&server, 30);
    let proxy = Proxy::start(server.port);
    proxy.hold_at(&format!("XRANGE\r\n${}\r\n{DEAD}\r\n", DEAD.len()));
    let worker = Worker::start(&proxy.url(), &all_models(), "a", &[]);
    wait_until_held(&proxy);
    take_by_z(&server, 40);
    server.ask::<i64>(&["XDEL", FEATURES, &id(40)]);
    proxy.release();
    worker.wait_for(&format!("the entry {} is settled and became pending again", id(40)));
    wait_until_nothing_is_pending(&server);
    drop(worker.end());
    assert_eq!((server.length(INTENTS), server.length(DEAD)), (50, 0));
}

/// Moved into an archive: that an intent is not found says nothing then.
#[test]
fn intents_that_were_moved_away_are_not_made_again() {
    let Some(server) = Server::start() else { return };
    let events = Events::new(50, 1, 40);
    events.add_all(&server);
    let worker = Worker::start(&server.url(), &all_models(), "a", &[]);
    wait_for_intents(&server, 50);
    drop(worker.end());
    server.ask::<String>(&["RENAME", INTENTS, "archive"]);
    server.ask::<String>(&["XGROUP", "SETID", FEATURES, "qsc", &id(40)]);
    read_by_z(&server, 5);
    let worker = Worker::start(&server.url(), &all_models(), "a", &[]);
    for index in 41..46 {
        worker.wait_for(&format!("DOUBTFUL: the entry {}", id(index)));
    }
    drop(worker.end());
    assert_eq!((server.length(INTENTS), server.length(DEAD)), (0, 5));
}

/// There is no intent to doubt of what is no event.
#[test]
fn an_entry_of_another_type_that_comes_again_has_no_dead_letter() {
    let Some(server) = Server::start() else { return };
    let events = Events::new(50, 1, 48);
    events.add(&mut server.connection(), 0..20).unwrap();
    server.ask::<String>(&["XADD", FEATURES, &id(20), "event_type", "market.ticks", "payload", "x"]);
    events.add(&mut server.connection(), 21..50).unwrap();
    let worker = Worker::start(&server.url(), &all_models(), "a", &[]);
    wait_for_intents(&server, 49);
    drop(worker.end());
    server.ask::<i64>(&["XTRIM", INTENTS, "MAXLEN", "10"]);
    server.ask::<String>(&["XGROUP", "SETID", FEATURES, "qsc", &id(18)]);
    read_by_z(&server, 3);
    let worker = Worker::start(&server.url(), &all_models(), "a", &[]);
    worker.wait_for(&format!("DOUBTFUL: the entry {}", id(19)));
    wait_until_nothing_is_pending(&server);
    let result = worker.end();
    assert_eq!(result["other_types"], 1, "{result}");
    let letters = server.entries(DEAD);
    let of: Vec<&str> = letters.iter().map(|(_, letter)| letter["source_id"].as_str()).collect();
    assert_eq!(of, [id(19), id(21)], "{letters:?}");
}

/// Removed and begun again with higher ids while nobody looked: what was trimmed of it was never read.
#[test]
fn what_is_trimmed_of_another_stream_is_told() {
    let Some(server) = Server::start() else { return };
    let events = Events::new(220, 1, 49);
    events.add(&mut server.connection(), 0..100).unwrap();
    let worker = Worker::start(&server.url(), &all_models(), "a", &[]);
    wait_for_intents(&server, 100);
    drop(worker.end());
    server.ask::<i64>(&["DEL", FEATURES]);
    // More than the old one had.
    events.add(&mut server.connection(), 100..210).unwrap();
    server.ask::<i64>(&["XTRIM", FEATURES, "MINID", &id(160)]);
    let worker = Worker::start(&server.url(), &all_models(), "a", &[]);
    worker.wait_for("it is another stream under the same name");
    worker.wait_for(&format!("GAP: 60 entries of {FEATURES} were removed"));
    wait_for_intents(&server, 150);
    assert_eq!(worker.end()["stream"]["lost"], 60);
    // It is accounted for as any other from then on.
    events.add(&mut server.connection(), 210..220).unwrap();
    server.ask::<i64>(&["XTRIM", FEATURES, "MINID", &id(215)]);
    let worker = Worker::start(&server.url(), &all_models(), "a", &[]);
    wait_for_intents(&server, 155);
    assert_eq!(worker.end()["stream"]["lost"], 5);
}

/// Removed and begun again with lower ids, with a group that somebody else created.
#[test]
fn another_stream_under_the_same_name_is_read_from_its_beginning() {
    let Some(server) = Server::start() else { return };
    let events = Events::new(200, 1, 41);
    events.add(&mut server.connection(), 100..200).unwrap();
    let worker = Worker::start(&server.url(), &all_models(), "a", &[]);
    wait_for_intents(&server, 100);
    drop(worker.end());
    server.ask::<i64>(&["DEL", FEATURES]);
    server.ask::<String>(&["XGROUP", "CREATE", FEATURES, "qsc", "0", "MKSTREAM"]);
    events.add(&mut server.connection(), 0..50).unwrap();
    let worker = Worker::start(&server.url(), &all_models(), "a", &[]);
    worker.wait_for("it is another stream under the same name");
    wait_for_intents(&server, 150);
    drop(worker.end());
}

/// Moved away and put back, after a worker has met an empty one in its place.
#[test]
fn a_stream_that_was_away_is_not_decided_twice() {
    let Some(server) = Server::start() else { return };
    let events = Events::new(160, 1, 50);
    events.add(&mut server.connection(), 100..150).unwrap();
    let worker = Worker::start(&server.url(), &all_models(), "a", &[]);
    wait_for_intents(&server, 50);
    drop(worker.end());
    server.ask::<String>(&["RENAME", FEATURES, "away"]);
    server.ask::<i64>(&["XTRIM", INTENTS, "MAXLEN", "10"]);
    for _ in 0..2 {
        let worker = Worker::start(&server.url(), &all_models(), "a", &[]);
        wait_for("the group", || (server.ask::<i64>(&["EXISTS", FEATURES]) == 1).then_some(()));
        // It looks around once a second.
        thread::sleep(Duration::from_millis(1500));
        drop(worker.end());
    }
    server.ask::<String>(&["RENAME", "away", FEATURES]);
    events.add(&mut server.connection(), 150..160).unwrap();
    let worker = Worker::start(&server.url(), &all_models(), "a", &[]);
    wait_for("the last event is settled", || {
        let last: Option<String> = server.ask(&["HGET", OWNER, "last"]);
        (last == Some(id(159))).then_some(())
    });
    assert_eq!((server.length(INTENTS), server.length(DEAD)), (20, 0));
    // One that stays empty until lower ids come.
    server.ask::<i64>(&["DEL", FEATURES]);
    worker.wait_for("created again");
    events.add(&mut server.connection(), 0..10).unwrap();
    worker.wait_for("it is another stream under the same name");
    wait_for_intents(&server, 30);
    assert_eq!(worker.end()["stream"]["lost"], 0);
}

/// A consumer's name is any bytes.
#[test]
fn a_foreign_consumer_may_have_any_name() {
    let Some(server) = Server::start() else { return };
    let events = Events::new(20, 1, 42);
    events.add_all(&server);
    server.ask::<String>(&["XGROUP", "CREATE", FEATURES, "qsc", "0"]);
    let mut read = redis::cmd("XREADGROUP");
    read.arg("GROUP").arg("qsc").arg(b"\xff\xfe").arg(&["COUNT", "5", "STREAMS", FEATURES, ">"]);
    read.exec(&mut server.connection()).unwrap();
    let worker = Worker::start(&server.url(), &all_models(), "a", &[]);
    wait_for_intents(&server, 20);
    drop(worker.end());
    assert_eq!(verify(&server).0, Some(0));
}
