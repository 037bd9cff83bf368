//! `client`: against the servers, and against servers that misbehave.

use std::io::Write;
use std::net::{SocketAddr, UdpSocket};
use std::process::{ChildStdin, Command, Stdio};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use crate::support::{DEADLINE, Ended, Program, example};

/// A client whose input is ours.
pub(crate) struct Client {
    pub(crate) program: Program,
    input: Option<ChildStdin>,
}

impl Client {
    pub(crate) fn start(url: &str, options: &[&str]) -> Self {
        let mut command = Command::new(example("client"));
        command.arg(url).args(options).stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut program = Program::start(&mut command);
        let input = program.input();
        Self { program, input }
    }

    pub(crate) fn types(&mut self, text: &str) {
        let input = self.input.as_mut().expect("the input is open");
        input.write_all(text.as_bytes()).expect("typed");
    }

    /// Nothing more is typed.
    pub(crate) fn leaves(mut self) -> Ended {
        self.input = None;
        self.program.end()
    }
}

/// Types all at once, and returns what was printed.
pub(crate) fn printed(url: &str, options: &[&str], typed: &str) -> Vec<String> {
    let mut client = Client::start(url, options);
    client.types(typed);
    let ended = client.leaves();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert_eq!(ended.stderr, [""; 0]);
    ended.stdout
}

fn echo(options: &[&str]) -> (Program, SocketAddr, SocketAddr) {
    let both = ["--listen", "tcp://127.0.0.1:0", "--listen", "udp://127.0.0.1:0"];
    let server = Program::example("echo_server", &[&both, options].concat());
    let (tcp, udp) = (server.listening("tcp://"), server.listening("udp://"));
    (server, tcp, udp)
}

#[test]
fn what_is_typed_is_sent_as_it_is_and_the_answer_printed() {
    let (mut server, tcp, _) = echo(&["--print"]);
    let mut client = Client::start(&format!("tcp://{tcp}"), &[]);
    for (typed, answer) in [("hello\n", "HELLO"), ("\n\n wörld\n", " WöRLD")] {
        client.types(typed);
        assert_eq!(client.program.line(), answer);
        // Neither a line feed nor the empty lines went over the wire.
        assert!(server.line().ends_with(&format!(": {}", typed.trim_matches('\n'))));
    }
    client.types("no end");
    let ended = client.leaves();
    assert_eq!((ended.status.code(), ended.stdout), (Some(0), vec!["NO END".to_owned()]));
    server.drain();
}

#[test]
fn framings_keep_lines_apart_and_empty_lines_are_skipped() {
    let lengths = ["len-le32", "len-be32", "len-be16", "len-le16", "len-u8", "len-varint"];
    for framing in ["lines", "delimiter:0d0a", "delimiter:00", "fixed:3"].iter().chain(&lengths) {
        let (mut server, tcp, _) = echo(&["--framing", framing]);
        let url = format!("tcp://{tcp}");
        let answers = printed(&url, &["--framing", framing], "one\n\ntwo\nsix");
        assert_eq!(answers, ["ONE", "TWO", "SIX"], "{framing}");
        server.drain();
    }
}

#[test]
fn over_datagrams_empty_lines_are_sent_and_the_client_lingers() {
    let (mut server, _, udp) = echo(&[]);
    let mut client = Client::start(&format!("udp://{udp}"), &["--linger", "200ms"]);
    client.types("one\n\ntwo\n");
    for answer in ["ONE", "", "TWO"] {
        assert_eq!(client.program.line(), answer);
    }
    assert_eq!(client.leaves().status.code(), Some(0));
    server.drain();
}

#[test]
fn what_the_server_says_unasked_appears_at_once() {
    let mut server = Program::example("conversation", &["--listen", "tcp://127.0.0.1:0"]);
    let tcp = server.listening("tcp://");
    let mut client = Client::start(&format!("tcp://{tcp}"), &["--framing", "lines"]);
    assert_eq!(client.program.line(), "what is your name?");
    client.types("bob\n");
    assert_eq!(client.program.line(), "hello, bob; say bye when you have to go");
    // It leaves when the server closes, though its input goes on.
    client.types("bye\n");
    assert_eq!(client.program.line(), "goodbye, bob");
    assert_eq!(client.program.end().status.code(), Some(0));
    server.drain();
}

#[test]
fn at_the_end_of_the_input_it_half_closes_and_prints_what_still_comes() {
    let mut server = Program::example("conversation", &["--listen", "tcp://127.0.0.1:0"]);
    let tcp = server.listening("tcp://");
    let printed = printed(&format!("tcp://{tcp}"), &["--framing", "lines"], "bob\nwell\n");
    assert_eq!(printed.last().map(String::as_str), Some("goodbye, bob"));
    server.drain();
}

#[test]
fn much_in_both_directions_at_once_does_not_lock_up() {
    let (mut server, tcp, _) = echo(&["--framing", "lines"]);
    let mut client = Client::start(&format!("tcp://{tcp}"), &["--framing", "lines"]);
    let lines: Vec<String> = (0..3000).map(|n| format!("{n:06}{}", "x".repeat(4000))).collect();
    let mut input = client.input.take().expect("the input");
    let typed = lines.join("\n");
    let write = move || input.write_all(typed.as_bytes());
    let writer = std::thread::Builder::new().spawn(write).expect("a thread");
    for line in &lines {
        assert_eq!(client.program.line(), line.to_ascii_uppercase());
    }
    writer.join().expect("no panic").expect("all typed");
    assert_eq!(client.leaves().status.code(), Some(0));
    server.drain();
}

#[test]
fn a_message_that_the_framing_cannot_carry_costs_itself_alone() {
    let (mut server, tcp, _) = echo(&["--framing", "lines"]);
    let options = ["--framing", "lines", "--max-frame", "5"];
    let mut client = Client::start(&format!("tcp://{tcp}"), &options);
    client.types("too long\nshort\n");
    let ended = client.leaves();
    assert_eq!((ended.status.code(), ended.stdout), (Some(0), vec!["SHORT".to_owned()]));
    let why = "client: message of 8 bytes is longer than the maximum of 5";
    assert_eq!(ended.stderr, [why]);
    server.drain();

    let (mut server, tcp, _) = echo(&["--framing", "fixed:5"]);
    let mut client = Client::start(&format!("tcp://{tcp}"), &["--framing", "fixed:5"]);
    client.types("two\nshort\n");
    let ended = client.leaves();
    assert_eq!((ended.status.code(), ended.stdout), (Some(0), vec!["SHORT".to_owned()]));
    assert_eq!(ended.stderr, ["client: message of 3 bytes where every message has 5"]);
    server.drain();
}

#[test]
fn an_answer_that_is_cut_short_is_one_line_and_status_1() {
    let (mut server, tcp, _) = echo(&["--reply", "\u{2}hi\u{5}hel", "--once"]);
    let url = format!("tcp://{tcp}");
    let mut client = Client::start(&url, &["--framing", "len-u8"]);
    client.types("hello\n");
    let ended = client.leaves();
    assert_eq!((ended.status.code(), ended.stdout), (Some(1), vec!["hi".to_owned()]));
    let why = "stream ended in the middle of a frame, after 4 bytes of it";
    assert_eq!(ended.stderr, [format!("client: {url}: {why}")]);
    server.drain();
}

#[test]
fn it_leaves_when_nobody_reads_what_it_prints() {
    let (mut server, tcp, _) = echo(&["--framing", "lines"]);
    let mut command = Command::new(example("client"));
    command.args([&format!("tcp://{tcp}"), "--framing", "lines"]).stdin(Stdio::piped());
    let mut client = Program::start_and_hear(command.stderr(Stdio::piped()), 1);
    let mut input = client.input().expect("its input");
    input.write_all(b"one\n").expect("typed");
    assert_eq!(client.line(), "ONE");
    assert!(client.has_hung_up(), "the reading end is closed after one line");
    // More than once: a program that another test is starting at this moment may hold the reading end,
    // too, until it has begun.
    for _ in 0..100 {
        if input.write_all(b"two\n").is_err() || client.ends_within(Duration::from_millis(100)) {
            break;
        }
    }
    let ended = client.end();
    assert_eq!((ended.status.code(), ended.stderr), (Some(0), vec![]));
    drop(input);
    server.drain();
}

#[test]
fn nobody_there_is_one_line_and_status_1() {
    // A port of ours that listens to nobody.
    let socket = UdpSocket::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a socket");
    let silent = socket.local_addr().expect("its address");
    drop(socket);
    for scheme in ["tcp", "udp"] {
        let url = format!("{scheme}://{silent}");
        let mut client = Client::start(&url, &[]);
        if scheme == "udp" {
            client.types("hello\n");
        }
        let ended = client.program.end();
        assert_eq!(ended.status.code(), Some(1), "{ended:?}");
        assert_eq!(ended.stderr, [format!("client: {url}: Connection refused (os error 111)")]);
    }
}

#[test]
fn a_server_that_vanishes_is_one_line_and_status_1() {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
    listener.listen(1).expect("a listener");
    let tcp = listener.local_addr().expect("its address").as_socket().expect("of the internet");
    let client = Client::start(&format!("tcp://{tcp}"), &[]);
    listener.set_read_timeout(Some(DEADLINE)).expect("a deadline");
    let (stream, _) = listener.accept().expect("the client in time");
    SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO)).expect("a reset");
    drop(stream);
    let mut program = client.program;
    let ended = program.end();
    assert_eq!(ended.status.code(), Some(1));
    let why = "Connection reset by peer (os error 104)";
    assert_eq!(ended.stderr, [format!("client: tcp://{tcp}: {why}")]);
}
