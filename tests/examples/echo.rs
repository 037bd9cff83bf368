//! `tiny_echo` and `echo_server`: over TCP and UDP, under each concurrency, with each option.

use std::io::Write;
use std::net::{Shutdown, SocketAddr};

use rustix::process::Signal;

use crate::support::{Program, ask, connect, datagrams, exchange, expect, rest, say};

const BOTH: [&str; 4] = ["--listen", "tcp://127.0.0.1:0", "--listen", "udp://127.0.0.1:0"];

/// An echo server on both transports, with these options.
fn echo(options: &[&str]) -> (Program, SocketAddr, SocketAddr) {
    let server = Program::example("echo_server", &[&BOTH, options].concat());
    let (tcp, udp) = (server.listening("tcp://"), server.listening("udp://"));
    (server, tcp, udp)
}

#[test]
fn tiny_echo_answers_on_both_transports_in_twenty_lines() {
    assert!(include_str!("../../examples/tiny_echo.rs").lines().count() <= 20);
    let mut command = std::process::Command::new(crate::support::example("tiny_echo"));
    command.arg("127.0.0.1:0").env_remove("RUST_LOG").stderr(std::process::Stdio::piped());
    let mut server = Program::start(&mut command);
    let addr = |scheme: &str| -> SocketAddr {
        let line = server.log_line(scheme);
        let (_, addr) = line.split_once(scheme).expect("the scheme");
        addr.parse().expect("an address")
    };
    let (tcp, udp) = (addr("listening on tcp://"), addr("listening on udp://"));
    assert_eq!(exchange(tcp, b"hello"), "HELLO");
    assert_eq!(ask(&datagrams(udp), b"hello"), b"HELLO");
    server.signal(Signal::TERM);
    let ended = server.end();
    assert_eq!((ended.status.code(), ended.stdout), (Some(0), vec![]));
}

/// Two clients at once, one after another on the same connection, and datagrams, an empty one too.
fn echoes_under(concurrency: &str) {
    let (mut server, tcp, udp) = echo(&["--concurrency", concurrency]);
    let (mut first, mut second) = (connect(tcp), connect(tcp));
    say(&mut second, "straße".as_bytes(), "STRAßE".as_bytes());
    say(&mut first, b"one", b"ONE");
    say(&mut second, b"two", b"TWO");
    say(&mut first, b"three", b"THREE");
    drop(first);

    let socket = datagrams(udp);
    assert_eq!(ask(&socket, b"hello, 1"), b"HELLO, 1");
    assert_eq!(ask(&socket, b""), b"");
    assert_eq!(ask(&datagrams(udp), b"somebody else"), b"SOMEBODY ELSE");

    second.write_all(b"last").expect("sent");
    second.shutdown(Shutdown::Write).expect("half-closed");
    assert_eq!(rest(&mut second), "LAST");
    assert_eq!(server.drain().stdout.len(), 1, "nothing but the report");
}

#[test]
fn echo_server_answers_inline() {
    echoes_under("inline");
}

#[test]
fn echo_server_answers_with_threads() {
    echoes_under("threads");
}

#[test]
fn echo_server_answers_with_a_pool() {
    echoes_under("pool");
}

#[test]
fn a_client_that_is_still_there_is_told_of_the_drain() {
    let (mut server, tcp, _) = echo(&[]);
    let mut stream = connect(tcp);
    say(&mut stream, b"hello", b"HELLO");
    let ended = server.drain();
    assert!(ended.stdout[0].starts_with("drained completed=0 told=1 "), "{ended:?}");
    assert_eq!(rest(&mut stream), "");
}

#[test]
fn sigint_drains_as_sigterm_does() {
    let (mut server, tcp, _) = echo(&[]);
    assert_eq!(exchange(tcp, b"hello"), "HELLO");
    server.signal(Signal::INT);
    assert_eq!(server.end().status.code(), Some(0));
}

#[test]
fn a_fixed_answer_whatever_came() {
    let (mut server, tcp, udp) = echo(&["--reply", "谢谢 !"]);
    say(&mut connect(tcp), b"a present", "谢谢 !".as_bytes());
    assert_eq!(ask(&datagrams(udp), b""), "谢谢 !".as_bytes());
    server.drain();
}

#[test]
fn no_reply_and_who_said_what_with_control_characters_escaped() {
    let (mut server, tcp, udp) = echo(&["--no-reply", "--print"]);
    let mut stream = connect(tcp);
    stream.write_all("吃了吗\x1b[31m\r\n".as_bytes()).expect("sent");
    let peer = stream.local_addr().expect("our address");
    assert_eq!(server.line(), format!(r"tcp://{peer}: 吃了吗\u{{1b}}[31m\r\n"));
    stream.shutdown(Shutdown::Write).expect("half-closed");
    assert_eq!(rest(&mut stream), "");

    let socket = datagrams(udp);
    let peer = socket.local_addr().expect("our address");
    for (sent, shown) in [("hello", "hello"), ("world", "world"), ("", "")] {
        socket.send(sent.as_bytes()).expect("sent");
        assert_eq!(server.line(), format!("udp://{peer}: {shown}"));
    }
    server.drain();
}

#[test]
fn printing_does_not_keep_it_from_answering() {
    let (mut server, tcp, _) = echo(&["--print"]);
    assert_eq!(exchange(tcp, b"hello"), "HELLO");
    assert!(server.line().ends_with(": hello"));
    server.drain();
}

#[test]
fn one_exchange_and_then_the_server_closes() {
    let (mut server, tcp, udp) = echo(&["--once", "--reply", "thank you !"]);
    for _ in 0..3 {
        let mut stream = connect(tcp);
        stream.write_all(b"for you").expect("sent");
        assert_eq!(rest(&mut stream), "thank you !");
    }
    let socket = datagrams(udp);
    assert_eq!(ask(&socket, b"one"), b"thank you !");
    assert_eq!(ask(&socket, b"two"), b"thank you !");
    server.drain();
}

#[test]
fn lines_are_messages_however_they_arrive() {
    let (mut server, tcp, _) = echo(&["--framing", "lines", "--max-frame", "16"]);
    let mut stream = connect(tcp);
    stream.write_all(b"hel").expect("sent");
    say(&mut stream, b"lo\r\nwor", b"HELLO\n");
    say(&mut stream, b"ld\n\n", b"WORLD\n\n");
    stream.write_all(b"no end").expect("sent");
    stream.shutdown(Shutdown::Write).expect("half-closed");
    assert_eq!(rest(&mut stream), "NO END\n");
    assert_eq!(exchange(tcp, b"this line is longer than it may be\n"), "");
    server.drain();
}

#[test]
fn a_length_goes_before_each_message() {
    let (mut server, tcp, _) = echo(&["--framing", "len-le32"]);
    let mut stream = connect(tcp);
    say(&mut stream, b"\x02\0\0\0hi\x05\0\0\0there", b"\x02\0\0\0HI\x05\0\0\0THERE");
    say(&mut stream, b"\0\0\0\0", b"\0\0\0\0");
    // Python's struct.pack('i', -1): no length.
    stream.write_all(b"\xff\xff\xff\xff").expect("sent");
    assert_eq!(rest(&mut stream), "");
    drop(stream);
    server.drain();
}

#[test]
fn a_message_ends_at_a_delimiter_or_has_a_fixed_length() {
    let (mut server, tcp, _) = echo(&["--framing", "delimiter:0d0a"]);
    let mut stream = connect(tcp);
    stream.write_all(b"one\r").expect("sent");
    say(&mut stream, b"\ntwo\nlines\r\n", b"ONE\r\nTWO\nLINES\r\n");
    drop(stream);
    server.drain();

    let (mut server, tcp, _) = echo(&["--framing", "fixed:4"]);
    let mut stream = connect(tcp);
    stream.write_all(b"one").expect("sent");
    say(&mut stream, b".two.thr", b"ONE.TWO.");
    drop(stream);
    server.drain();
}

#[test]
fn each_listener_may_have_settings_of_its_own_and_else_has_those_of_the_options() {
    let mut server = Program::example(
        "echo_server",
        &[
            &["--framing", "lines", "--max-frame", "20"][..],
            &["--listen", "tcp://127.0.0.1:0?framing=len-le32"],
            &["--listen", "tcp://127.0.0.1:0?max-frame=5"],
            &["--listen", "tcp://127.0.0.1:0?max-frame=3&framing=delimiter:3b"],
            &["--listen", "tcp://127.0.0.1:0"],
        ]
        .concat(),
    );
    // (What is printed is the address alone.)
    let [prefixed, short, semicolons, plain] = [(); 4].map(|()| server.listening("tcp://"));
    say(&mut connect(prefixed), b"\x02\0\0\0hi", b"\x02\0\0\0HI");
    assert_eq!(exchange(prefixed, b"\x15\0\0\0"), "", "more than 20 bytes");
    assert_eq!(exchange(short, b"12345\n123456\n"), "12345\n");
    assert_eq!(exchange(semicolons, b"abc;d\n;abcd;"), "ABC;D\n;");
    assert_eq!(
        exchange(plain, b"twenty bytes is fine\ntwenty-one bytes isnt\n"),
        "TWENTY BYTES IS FINE\n"
    );
    server.drain();
}

#[test]
fn beyond_the_limit_clients_wait_for_their_turn() {
    let (mut server, tcp, _) = echo(&["--max-connections", "1"]);
    let mut first = connect(tcp);
    say(&mut first, b"one", b"ONE");
    let mut second = connect(tcp);
    second.write_all(b"two").expect("sent");
    say(&mut first, b"still me", b"STILL ME");
    drop(first);
    expect(&mut second, b"TWO");
    server.drain();
}

#[test]
fn a_silent_client_is_sent_away_after_the_idle_timeout() {
    let (mut server, tcp, _) = echo(&["--idle-timeout", "50ms"]);
    assert_eq!(rest(&mut connect(tcp)), "");
    server.drain();
}

#[test]
fn ipv6_has_its_brackets() {
    let mut server = Program::example("echo_server", &["--listen", "tcp://[::1]:0"]);
    let tcp = server.listening("tcp://");
    assert!(tcp.is_ipv6());
    assert_eq!(exchange(tcp, b"hello"), "HELLO");
    server.drain();
}
