//! Datagrams in memory: sessions, the loop guard, the table's bounds, as over UDP.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use switchboard::testing::{self, MemoryServer, Step};
use switchboard::{
    Address, CloseReason, Datagram, DatagramHandler, Handler, Next, Peer, Replies, Server,
    handler_fn,
};

use crate::harness::{Client, Journal, Running, Script};

/// Counts what its peer sends, and says so.
fn counting() -> impl Handler {
    let mut count = 0;
    handler_fn(move |message, cx| {
        count += 1;
        cx.send(format!("{count}: {}", String::from_utf8_lossy(message)));
        Ok(if message == b"close" { Next::Close } else { Next::Continue })
    })
}

#[test]
fn the_same_datagrams_in_memory_and_over_udp_have_the_same_replies_and_callbacks() {
    let script = ["one", "", "two", "close", "three"];
    let server = |journal: &Journal| {
        Script::new(journal)
            .handle(|message, cx| {
                cx.send(message.to_ascii_uppercase());
                cx.send("and this");
                Ok(if message == b"close" { Next::Close } else { Next::Continue })
            })
            .server()
            .udp("127.0.0.1:0")
    };
    let there = Journal::default();
    let udp = Running::of(server(&there));
    let here = Journal::default();
    let memory = MemoryServer::new(server(&here));
    let (mut far, mut near) = (Client::udp(udp.addr()), memory.correspond());
    for message in script {
        near.say(message);
        far.say(message);
        assert_eq!(near.replies(), [far.hear().as_str(), far.hear().as_str()]);
    }
    memory.drain(Duration::from_secs(5));
    udp.drain(Duration::from_secs(5));
    assert_eq!(here.all(), there.all());
}

#[test]
fn a_session_begins_with_a_datagram_and_ends_when_nothing_comes() {
    let server =
        Server::new(|_peer| counting()).udp("127.0.0.1:0").idle_timeout(Duration::from_secs(60));
    let mut client = MemoryServer::new(server).correspond();
    assert_eq!(client.calls(), [""; 0]);
    assert_eq!(client.ask("a"), "1: a");
    client.advance(Duration::from_secs(60));
    assert_eq!(client.close_reason(), Some(CloseReason::IdleTimeout));
    assert_eq!(client.ask("b"), "1: b", "a new session");
    assert_eq!(client.close_reason(), None);
}

#[test]
fn a_full_table_makes_room_for_the_next_peer() {
    let server = Server::new(|_peer| counting()).udp("127.0.0.1:0").max_sessions(2);
    let server = MemoryServer::new(server);
    let mut clients: Vec<_> = (0..3).map(|_| server.correspond()).collect();
    clients.iter_mut().for_each(|client| client.say("hello"));
    let evicted = clients.iter().filter(|c| c.close_reason() == Some(CloseReason::Evicted));
    assert_eq!(evicted.count(), 1);
    assert_eq!(server.stats().sessions_open, 2);
}

#[test]
fn the_guard_ends_a_loop_and_keeps_service_ports_away() {
    let echo = |_: &Peer| {
        handler_fn(|message, cx| {
            cx.send(message);
            Ok(Next::Continue)
        })
    };
    let server = MemoryServer::new(Server::new(echo).udp("127.0.0.1:0"));
    let mut client = server.correspond();
    client.send("ping");
    let mut bounces = 0;
    while let Some(reply) = client.replies().pop() {
        bounces += 1;
        assert!(bounces < 1000, "the loop does not end");
        client.send(reply.into_bytes());
    }
    assert_eq!(bounces, 64);

    let echo_service = Address::Udp("192.0.2.1:7".parse().expect("an address"));
    let mut client = server.correspond_from(echo_service, 0);
    client.send("ping");
    assert!(client.replies().is_empty() && client.calls().is_empty());
}

#[test]
fn a_datagram_that_is_too_long_is_rejected() {
    let server = Server::new(|_peer| counting()).udp("127.0.0.1:0").max_datagram(4);
    let mut client = MemoryServer::new(server).correspond();
    client.send("12345");
    assert_eq!(client.close_reason(), Some(CloseReason::FrameTooLarge));
    assert!(client.calls()[1].to_string().starts_with("rejected ("), "{client:?}");
}

/// Says how long each datagram was.
struct Lengths;

impl DatagramHandler for Lengths {
    fn handle(&self, datagram: &Datagram<'_>, replies: &mut Replies<'_>) -> io::Result<()> {
        if datagram.bytes() == b"fail" {
            return Err(io::Error::other("as it was told"));
        }
        replies.send(datagram.bytes().len().to_string());
        Ok(())
    }
}

#[test]
fn a_raw_handler_is_called_for_everybody() {
    let mut client = testing::datagrams(Lengths);
    client.play([Step::send("hello"), Step::send(""), Step::send("fail")]);
    assert_eq!(client.replies(), ["5", "0"]);
    let calls = ["handle \"hello\"", "handle \"\"", "handle \"fail\" -> Error: as it was told"];
    assert_eq!(client.calls(), calls);
}

#[test]
#[should_panic(expected = "HalfClose is for streams")]
fn a_step_that_datagrams_do_not_have_fails_the_test() {
    testing::datagrams(Lengths).play([Step::HalfClose]);
}

#[test]
fn what_datagrams_do_not_have_is_complained_of_by_the_name_that_was_called() {
    type Does = fn(&mut testing::Client);
    let steps: [(&str, Does); 5] = [
        ("half_close", testing::Client::half_close),
        ("close", testing::Client::close),
        ("reset", testing::Client::reset),
        ("stop_reading", testing::Client::stop_reading),
        ("read_on", testing::Client::read_on),
    ];
    for (name, step) in steps {
        let mut client = testing::datagrams(Lengths);
        let failed = catch_unwind(AssertUnwindSafe(|| step(&mut client)));
        let text = failed.expect_err("it fails").downcast::<String>().expect("a text");
        assert_eq!(*text, format!("Client::{name} is for streams, not for datagrams"));
    }
}
