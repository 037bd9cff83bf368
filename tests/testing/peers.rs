//! Peers that do not read, peers that talk to each other, and a server that is full, in memory.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use switchboard::testing::{self, End, MemoryServer, Step};
use switchboard::{
    CloseReason, Event, Framing, Group, Next, Overflow, Remote, SendError, Server, handler_fn,
};

/// Answers a number with so many bytes.
fn generous() -> Server {
    Server::new(|_peer| {
        handler_fn(|message, cx| {
            let bytes = std::str::from_utf8(message).ok().and_then(|text| text.parse().ok());
            cx.send_raw(vec![b'x'; bytes.unwrap_or(0)]);
            Ok(Next::Continue)
        })
    })
    .framing(Framing::lines())
    .outbox_limit(64 * 1024)
    .write_timeout(Duration::from_secs(30))
}

#[test]
fn a_peer_that_does_not_read_is_given_up_at_the_write_timeout() {
    let mut client = MemoryServer::new(generous()).connect();
    client.stop_reading();
    client.say("1000");
    assert_eq!(client.received(), "");
    client.advance(Duration::from_secs(29));
    assert_eq!(client.close_reason(), None);
    client.advance(Duration::from_secs(1));
    assert_eq!(client.close_reason(), Some(CloseReason::SlowWrite));
    assert_eq!(client.end(), End::Reset);
}

#[test]
fn a_peer_that_takes_a_little_now_and_then_is_not_given_up() {
    let mut client = MemoryServer::new(generous()).connect();
    client.stop_reading();
    client.say("1000");
    for _ in 0..10 {
        client.advance(Duration::from_secs(29));
        client.play([Step::ReadOnly(100)]);
    }
    assert_eq!(client.close_reason(), None);
    assert_eq!(client.received().len(), 1000);
}

#[test]
fn a_peer_that_does_not_read_is_not_read_above_the_mark_until_it_reads_on() {
    let mut client = MemoryServer::new(generous()).connect();
    client.stop_reading();
    client.say("5000");
    client.say("1");
    assert_eq!(client.calls().len(), 2, "{client:?}");
    client.read_on();
    assert_eq!(client.calls().len(), 3);
    assert_eq!(client.received().len(), 5001);
}

#[test]
fn a_handler_that_sends_beyond_the_limit_waits_for_its_peer() {
    let mut client = MemoryServer::new(generous()).connect();
    client.stop_reading();
    let later = Step::Wait(Duration::from_secs(20));
    client.play([Step::send("100000\n"), later, Step::ReadOn]);
    assert_eq!(client.received().len(), 100_000);

    client.stop_reading();
    client.say("100000");
    assert_eq!(client.close_reason(), Some(CloseReason::SlowWrite));
}

/// Those who have spoken are members; whoever speaks is heard by all others.
fn chat(overflow: Overflow) -> (Server, Arc<Mutex<Vec<SendError>>>) {
    let members: Arc<Mutex<Vec<Remote>>> = Arc::default();
    let failures: Arc<Mutex<Vec<SendError>>> = Arc::default();
    let noted = failures.clone();
    let server = Server::new(move |_peer| {
        let (members, failures) = (members.clone(), noted.clone());
        let mut joined = false;
        handler_fn(move |message, cx| {
            let mut members = members.lock();
            for member in members.iter().filter(|member| member.id() != cx.id()) {
                failures.lock().extend(member.send(message).err());
            }
            if !std::mem::replace(&mut joined, true) {
                members.push(cx.remote());
            }
            Ok(Next::Continue)
        })
    });
    (server.framing(Framing::lines()).outbox_limit(1024).overflow(overflow), failures)
}

#[test]
fn what_handlers_send_to_each_other_arrives() {
    let server = MemoryServer::new(chat(Overflow::Disconnect).0);
    let (mut ada, mut bob) = (server.connect(), server.connect());
    ada.say("I am Ada");
    bob.say("I am Bob");
    ada.say("hello Bob");
    assert_eq!(ada.replies(), ["I am Bob"]);
    assert_eq!(bob.replies(), ["hello Bob"]);
    assert_ne!(ada.address(), bob.address());
}

#[test]
fn what_piles_up_for_a_peer_that_does_not_read_ends_it_or_is_dropped_as_it_was_set() {
    let ends = [
        (Overflow::Disconnect, Some(CloseReason::Overflow)),
        (Overflow::DropOldest, None),
        (Overflow::DropNewest, None),
    ];
    for (overflow, reason) in ends {
        let (server, failures) = chat(overflow);
        let server = MemoryServer::new(server);
        let (mut ada, mut bob) = (server.connect(), server.connect());
        ada.say("I am Ada");
        ada.stop_reading();
        for n in 0..200 {
            bob.say(format!("message {n}"));
        }
        assert_eq!(ada.close_reason(), reason);
        assert!(overflow == Overflow::DropOldest || !failures.lock().is_empty());
        ada.read_on();
        let last = ada.replies().pop();
        let newest = last.as_ref().is_some_and(|last| *last == "message 199");
        assert_eq!(newest, overflow == Overflow::DropOldest, "{overflow:?}: {last:?}");
    }
}

#[test]
fn what_a_group_sends_reaches_its_members_and_nobody_else() {
    let room = Group::new();
    let joined = room.clone();
    let server = Server::new(move |_peer| {
        let room = joined.clone();
        handler_fn(move |message, cx| {
            match message {
                b"join" => drop(room.join(&cx.remote())),
                said => drop(room.send_except(said, cx.id())),
            }
            Ok(Next::Continue)
        })
    });
    let server = server.framing(Framing::lines()).udp("127.0.0.1:0").tcp("127.0.0.1:0");
    let server = MemoryServer::new(server);
    let (mut ada, mut bob, mut far) = (server.connect(), server.connect(), server.correspond());
    ada.say("join");
    far.say("join");
    bob.say("hello");
    assert_eq!(ada.replies(), ["hello"]);
    assert_eq!(far.replies(), ["hello"]);
    assert_eq!(bob.replies(), [""; 0]);
    ada.close();
    assert_eq!(room.len(), 1, "who has left is no member any more");
    room.send("from outside");
    assert_eq!(far.replies(), ["from outside"]);
}

#[test]
fn ticks_come_when_the_clock_is_moved_and_observers_hear_of_everything() {
    let heard: Arc<Mutex<Vec<&'static str>>> = Arc::default();
    let (noted, ticks) = (heard.clone(), Arc::new(Mutex::new(0)));
    let counted = ticks.clone();
    let server = generous()
        .on_tick(Duration::from_secs(60), move |_server| *counted.lock() += 1)
        .observer(move |event: &Event<'_>| noted.lock().push(event.name()));
    let server = MemoryServer::new(server);
    server.advance(Duration::from_secs(59));
    assert_eq!(*ticks.lock(), 0);
    server.advance(Duration::from_secs(3600));
    assert_eq!(*ticks.lock(), 60);
    server.connect().half_close();
    server.drain(Duration::from_secs(1));
    let heard = heard.lock();
    let told = [
        "listener-started",
        "connection-opened",
        "connection-closed",
        "draining",
        "listener-stopped",
        "drained",
    ];
    assert_eq!(*heard, told);
}

#[test]
fn a_full_server_lets_the_next_one_in_when_somebody_leaves() {
    let server = MemoryServer::new(generous().max_connections(1));
    let mut first = server.connect();
    let mut second = server.connect();
    second.say("3");
    assert_eq!(second.calls(), [""; 0]);
    first.half_close();
    assert_eq!(second.received(), "xxx");
    assert_eq!(server.stats().connections_accepted, 2);
}

#[test]
fn a_handler_in_which_something_goes_wrong_is_seen_to() {
    let server = Server::new(|_peer| {
        handler_fn(|message, _cx| match message {
            b"panic" => panic!("planned"),
            _ => Err(std::io::Error::other("no")),
        })
    });
    let server = MemoryServer::new(server.framing(Framing::lines()));
    let mut client = server.connect();
    client.say("panic");
    let expected = ["setup -> Continue", "handle \"panic\" -> Panic", "finish handler-panic"];
    assert_eq!(client.calls(), expected);
    let mut client = server.connect();
    client.say("fail");
    assert_eq!(client.calls()[1], "handle \"fail\" -> Error: no");
    assert_eq!(client.close_reason(), Some(CloseReason::HandlerErr("no".to_owned())));
}

/// Whoever is compared with another line sees both.
#[test]
fn calls_that_differ_from_what_was_expected_are_shown_as_their_lines() {
    let mut client = testing::connect(handler_fn(|_, _| Ok(Next::Close)));
    client.send("hello");
    let lines = r#"["setup -> Continue", "handle \"hello\" -> Close", "finish done"]"#;
    assert_eq!(format!("{:?}", client.calls()), lines);
}

#[test]
fn a_panic_that_a_test_catches_may_pass_a_server_in_memory_and_its_clients() {
    let server = MemoryServer::new(generous());
    let mut client = server.connect();
    let caught = std::panic::catch_unwind(|| {
        let other = server.connect();
        assert!(client.calls().is_empty(), "planned: {other:?}");
    });
    assert!(caught.is_err());
    client.say("5");
    assert_eq!(client.received().to_string(), "xxxxx");
}
