//! `over_server`: a word ends the conversation, or the server.

use std::net::SocketAddr;

use crate::support::{Program, ask, connect, datagrams, exchange, rest, say};

fn over(options: &[&str]) -> (Program, SocketAddr) {
    let server =
        Program::example("over_server", &[&["--listen", "tcp://127.0.0.1:0"], options].concat());
    let tcp = server.listening("tcp://");
    (server, tcp)
}

#[test]
fn over_ends_one_conversation_and_the_next_client_is_served() {
    let (mut server, tcp) = over(&[]);
    for _ in 0..2 {
        let mut stream = connect(tcp);
        say(&mut stream, b"is it over?", b"IS IT OVER?");
        say(&mut stream, b"Over", b"OVER");
        say(&mut stream, b" over\r\n", b"");
        assert_eq!(rest(&mut stream), "");
    }
    server.drain();
}

#[test]
fn what_came_before_the_word_is_answered_and_what_comes_after_is_not() {
    let (mut server, tcp) = over(&["--framing", "lines"]);
    assert_eq!(exchange(tcp, b"one\ntwo\nover\nthree\n"), "ONE\nTWO\n");
    server.drain();
}

#[test]
fn other_words_in_any_case() {
    let (mut server, tcp) = over(&["--word", "q", "--word", "再见", "--ignore-case"]);
    for word in ["q", "Q\n", "再见"] {
        let mut stream = connect(tcp);
        say(&mut stream, b"over", b"OVER");
        say(&mut stream, word.as_bytes(), b"");
        assert_eq!(rest(&mut stream), "");
    }
    server.drain();
}

#[test]
fn the_word_stops_the_server_which_is_drained() {
    let (mut server, tcp) = over(&["--stop-server"]);
    let mut other = connect(tcp);
    say(&mut other, b"hello", b"HELLO");
    let mut stream = connect(tcp);
    say(&mut stream, b"hello", b"HELLO");
    say(&mut stream, b"over", b"");
    assert_eq!(rest(&mut stream), "");
    assert_eq!(rest(&mut other), "", "the other client is told");
    let ended = server.end();
    assert_eq!(ended.status.code(), Some(0));
    assert!(ended.stdout[0].starts_with("drained completed="), "{ended:?}");
    assert_eq!(ended.stdout.len(), 1);
}

#[test]
fn over_datagrams_the_word_ends_a_session_and_the_next_datagram_begins_one() {
    let (mut server, _) = over(&["--listen", "udp://127.0.0.1:0"]);
    let udp = server.listening("udp://");
    let socket = datagrams(udp);
    assert_eq!(ask(&socket, b"one"), b"ONE");
    socket.send(b"over").expect("sent");
    assert_eq!(ask(&socket, b"two"), b"TWO");
    server.drain();
}
