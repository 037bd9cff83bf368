//! The models to copy: `custom_protocol`, `conversation`, `datagram_service`.

use std::io::Write;
use std::net::{Shutdown, SocketAddr};

use rustix::process::Signal;

use crate::support::{Program, ask, connect, datagrams, exchange, expect, hear, rest, say};

fn service(name: &str, scheme: &str) -> (Program, SocketAddr) {
    let server = Program::example(name, &["--listen", &format!("{scheme}127.0.0.1:0")]);
    let addr = server.listening(scheme);
    (server, addr)
}

#[test]
fn custom_protocol_keeps_values_for_everybody() {
    let (mut server, addr) = service("custom_protocol", "tcp://");
    let (mut alice, mut bob) = (connect(addr), connect(addr));
    say(&mut alice, b"SET colour sky blue\n", b"OK\n");
    say(&mut bob, b"get colour\r\n", b"= sky blue\n");
    say(&mut bob, b"SET size 7\nKEYS\n", b"OK\n2 KEYS\ncolour\nsize\n");
    say(&mut alice, b"DEL colour\nDEL colour\nGET colour\n", b"OK\nNONE\nNONE\n");
    alice.write_all(b"QUIT\nGET size\n").expect("sent");
    assert_eq!(rest(&mut alice), "BYE\n");
    drop((alice, bob));
    server.drain();
}

#[test]
fn custom_protocol_says_what_is_wrong_and_goes_on() {
    let (mut server, addr) = service("custom_protocol", "tcp://");
    let usage: &[u8] = b"ERR say SET KEY VALUE, GET KEY, DEL KEY, KEYS or QUIT\n";
    let mut stream = connect(addr);
    say(&mut stream, b"PUT a b\n", usage);
    say(&mut stream, b"\n", usage);
    say(&mut stream, b"GET \xff\n", b"ERR this is not UTF-8\n");
    let long = [vec![b'x'; 5000], b"\nSET a b\n".to_vec()].concat();
    say(&mut stream, &long, b"ERR line longer than the maximum of 4096 bytes, skipped\nOK\n");
    server.signal(Signal::TERM);
    assert_eq!(rest(&mut stream), "BYE the server is stopping\n");
    assert_eq!(server.end().status.code(), Some(0));
}

#[test]
fn custom_protocol_is_the_same_over_datagrams() {
    let (mut server, addr) = service("custom_protocol", "udp://");
    let socket = datagrams(addr);
    assert_eq!(ask(&socket, b"SET a b"), b"OK");
    assert_eq!(ask(&datagrams(addr), b"GET a\n"), b"= b");
    server.drain();
}

#[test]
fn custom_protocol_says_goodbye_over_datagrams_too() {
    let (mut server, addr) = service("custom_protocol", "udp://");
    let socket = datagrams(addr);
    assert_eq!(ask(&socket, b"GET a"), b"NONE");
    server.drain();
    assert_eq!(hear(&socket), b"BYE the server is stopping");
}

#[test]
fn conversation_speaks_first_and_counts() {
    let (mut server, addr) = service("conversation", "tcp://");
    let mut stream = connect(addr);
    expect(&mut stream, b"what is your name?\n");
    say(&mut stream, b"bob\n", b"hello, bob; say bye when you have to go\n");
    say(&mut stream, b"one\r\n", b"1: bob says one\n");
    say(&mut stream, b"tw", b"");
    say(&mut stream, b"o\nbye\nthree\n", b"2: bob says two\n");
    assert_eq!(rest(&mut stream), "goodbye, bob\n");
    drop(stream);
    server.drain();
}

#[test]
fn conversation_says_goodbye_to_a_peer_that_has_finished_sending() {
    let (mut server, addr) = service("conversation", "tcp://");
    let expected = "what is your name?\n\
                    hello, bob; say bye when you have to go\n\
                    1: bob says no end\n\
                    goodbye, bob\n";
    assert_eq!(exchange(addr, b"bob\nno end"), expected);
    assert_eq!(exchange(addr, b""), "what is your name?\n");
    server.drain();
}

#[test]
fn conversation_says_goodbye_when_the_server_is_drained() {
    let (mut server, addr) = service("conversation", "tcp://");
    let mut stream = connect(addr);
    expect(&mut stream, b"what is your name?\n");
    say(&mut stream, b"bob\n", b"hello, bob; say bye when you have to go\n");
    server.signal(Signal::TERM);
    assert_eq!(rest(&mut stream), "goodbye, bob\n");
    assert_eq!(server.end().status.code(), Some(0));
}

#[test]
fn a_long_line_of_a_conversation_comes_in_pieces() {
    let (mut server, addr) = service("conversation", "tcp://");
    let mut stream = connect(addr);
    stream.write_all(&[&b"bob\n"[..], &[b'x'; 1500], b"\n"].concat()).expect("sent");
    stream.shutdown(Shutdown::Write).expect("half-closed");
    let said = rest(&mut stream);
    assert!(said.contains(&format!("1: bob says {}\n", "x".repeat(1024))), "{said}");
    assert!(said.contains(&format!("2: bob says {}\n", "x".repeat(476))), "{said}");
    server.drain();
}

#[test]
fn datagram_service_counts_and_tells_the_time() {
    let (mut server, addr) = service("datagram_service", "udp://");
    let socket = datagrams(addr);
    assert_eq!(ask(&socket, b"count to be or not to be\n"), b"words=6 characters=18 bytes=18");
    assert_eq!(ask(&socket, "count 你好".as_bytes()), b"words=1 characters=2 bytes=6");
    let time = String::from_utf8(ask(&socket, b"time")).expect("text");
    assert!(time.parse::<u64>().expect("seconds") > 1_700_000_000);
    assert_eq!(ask(&socket, b""), b"error: say count TEXT, time or answered");
    assert_eq!(ask(&datagrams(addr), b"answered"), b"4");
    server.drain();
}

#[test]
fn a_stream_handler_is_not_served_over_datagrams_nor_the_other_way_round() {
    for (name, url) in
        [("conversation", "udp://127.0.0.1:0"), ("datagram_service", "tcp://[::1]:0")]
    {
        let ended = Program::example(name, &["--listen", url]).end();
        assert_eq!(ended.status.code(), Some(1));
        assert_eq!(ended.stderr.len(), 1, "{ended:?}");
        assert!(ended.stderr[0].contains(url), "{ended:?}");
    }
}
