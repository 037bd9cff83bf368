//! Real servers for tests, and the peers that misbehave against them.

use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use switchboard::testing::{End, TestServer, bad};
use switchboard::{CloseReason, Concurrency, Framing, Next, Server, handler_fn};

use crate::harness::{Gate, Journal, Script, socket_path};
use crate::in_a_process_of_its_own;

const WITHIN: Duration = Duration::from_secs(10);

fn upper() -> Server {
    Server::new(|_peer| {
        handler_fn(|message, cx| {
            cx.send(message.to_ascii_uppercase());
            Ok(Next::Continue)
        })
    })
    .framing(Framing::lines())
    .concurrency(Concurrency::pool(4))
}

#[test]
fn it_listens_somewhere_and_its_clients_have_deadlines() {
    let server = TestServer::spawn(upper().tcp("127.0.0.1:0").udp("127.0.0.1:0"));
    let mut client = server.connect();
    client.write_all(b"hello\n").expect("sent");
    let mut reply = [0; 6];
    client.read_exact(&mut reply).expect("a reply");
    assert_eq!(&reply, b"HELLO\n");
    assert!(client.read_timeout().expect("an option").is_some());

    let datagrams = server.correspond();
    datagrams.send(b"hello").expect("sent");
    assert_eq!(datagrams.recv(&mut reply).expect("a reply"), 5);
    assert_eq!(&reply[..5], b"HELLO");
}

#[test]
fn it_is_reached_over_unix_sockets_too_by_a_path_or_an_abstract_name() {
    for (stream, gram) in [
        (socket_path("real"), socket_path("real")),
        ("@switchboard-real-stream".into(), "@switchboard-real-gram".into()),
    ] {
        let server = TestServer::spawn(upper().tcp("127.0.0.1:0").unix(stream).unixgram(gram));
        let mut client = server.connect_unix();
        client.write_all(b"hello\n").expect("sent");
        let mut reply = [0; 6];
        client.read_exact(&mut reply).expect("a reply");
        assert_eq!(&reply, b"HELLO\n");
        assert!(client.read_timeout().expect("an option").is_some());

        let datagrams = server.correspond_unix();
        datagrams.send(b"hello").expect("sent");
        assert_eq!(datagrams.recv(&mut reply).expect("a reply"), 5);
        assert_eq!(&reply[..5], b"HELLO");
        assert!(datagrams.read_timeout().expect("an option").is_some());
    }
}

#[test]
fn a_handler_that_does_not_end_fails_the_test_in_words() {
    let gate = Gate::default();
    let _opens = gate.open_at_the_end();
    let blocked = gate.clone();
    let script = Script::new(&Journal::default()).handle(move |_, _| {
        blocked.pass();
        Ok(Next::Continue)
    });
    let server = TestServer::spawn(script.server().concurrency(Concurrency::pool(2)));
    let mut client = server.connect();
    client.write_all(b"hello").expect("sent");
    gate.wait_for_arrivals(1);
    // A drain that somebody else has begun is over soon.
    server.begin_drain(Duration::from_millis(10));
    let failed = catch_unwind(AssertUnwindSafe(|| drop(server)));
    let text = *failed.expect_err("it fails").downcast::<String>().expect("a text");
    assert!(text.contains("somebody did not end") && text.contains("stuck=1"), "{text}");
}

#[test]
fn a_descriptor_that_is_left_behind_fails_the_test_that_counts_them() {
    if !in_a_process_of_its_own("real::a_descriptor_that_is_left_behind") {
        return;
    }
    let exchange = || {
        let server = TestServer::spawn_alone(upper());
        let met = bad::half_closes(server.addr(), b"hello\n", WITHIN).expect("a connection");
        assert_eq!(met.received, b"HELLO\n");
    };
    exchange();
    let leaks = || {
        let server = TestServer::spawn_alone(upper());
        let client = server.connect();
        drop(server);
        drop(client);
    };
    let failed = catch_unwind(leaks).expect_err("the client's descriptor is still there");
    let text = failed.downcast::<String>().expect("a text");
    assert!(text.contains("the process held"), "{text}");
}

#[test]
fn slow_and_impatient_peers_get_all_their_replies() {
    let server = TestServer::spawn(upper());
    for play in [bad::one_byte_at_a_time, bad::half_closes] {
        let met = play(server.addr(), b"hello\nworld\n", WITHIN).expect("a connection");
        assert_eq!(met.received, b"HELLO\nWORLD\n");
        assert_eq!((met.sent, met.received_in_all, met.end), (12, 12, End::Closed));
    }
}

#[test]
fn a_peer_that_falls_silent_is_closed_and_one_that_resets_is_forgotten() {
    let server = TestServer::spawn(upper().idle_timeout(Duration::from_millis(100)));
    let met = bad::falls_silent(server.addr(), b"hello\n", WITHIN).expect("a connection");
    assert_eq!((met.received.as_slice(), met.end), (&b"HELLO\n"[..], End::Closed));
    let met = bad::resets(server.addr(), b"hello\nhal", WITHIN).expect("a connection");
    assert_eq!(met.sent, 9);
    server.drain(WITHIN);
    assert_eq!(server.stats().closed_for(&CloseReason::IdleTimeout), 1);
}

#[test]
fn a_peer_that_never_reads_is_given_up() {
    let server = TestServer::spawn(upper().write_timeout(Duration::from_millis(100)));
    let began = Instant::now();
    let met = bad::never_reads(server.addr(), &b"x\n".repeat(32 * 1024), WITHIN * 2);
    let met = met.expect("a connection");
    assert_eq!(met.end, End::Reset, "{} bytes in {:?}", met.sent, began.elapsed());
    server.drain(WITHIN);
    assert_eq!(server.stats().closed_for(&CloseReason::SlowWrite), 1);
}

#[test]
fn a_flood_is_served_to_its_end() {
    let server = TestServer::spawn(upper());
    let line = b"0123456789\n";
    let met = bad::floods(server.addr(), &line.repeat(1000), Duration::from_secs(1) * 2);
    let met = met.expect("a connection");
    assert!(met.sent > 11_000 && met.received_in_all > 11_000, "{}", met.sent);
    assert_eq!(met.received[..11], *line);
}
