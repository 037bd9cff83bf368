//! What goes wrong around a server: wrong options, a busy port, an impatient person, a reader that is gone.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;
use socket2::{Domain, Socket, Type};

use crate::support::{DEADLINE, Program, ask, connect, datagrams, example, exchange, expect, say};

const SERVERS: [&str; 6] = [
    "echo_server",
    "over_server",
    "custom_protocol",
    "conversation",
    "datagram_service",
    "broadcast",
];

/// Exit status 2, a line on stderr that says this, and nothing on stdout.
fn refused(name: &str, args: &[&str], because: &str) {
    let ended = Program::example(name, args).end();
    let said = ended.stderr.join("\n");
    assert_eq!(ended.status.code(), Some(2), "{name} {args:?}: {said}");
    assert!(said.contains(because), "{name} {args:?}: {said}");
    assert_eq!(ended.stdout, [""; 0]);
}

#[test]
fn wrong_addresses_are_refused_with_a_reason() {
    let cases = [
        ("127.0.0.1", "write tcp://HOST:PORT, udp://HOST:PORT, unix:PATH or unixgram:PATH"),
        ("127.0.0.1:9999", "unknown scheme \"127.0.0.1\""),
        ("tls://127.0.0.1:0", "unknown scheme \"tls\""),
        ("unix", "unix:PATH or unixgram:PATH"),
        ("unix:", "the path is missing"),
        ("unixgram:", "the path is missing"),
        ("unix:@", "the abstract name is missing"),
        ("Unix:/tmp/socket", "unknown scheme \"Unix\""),
        ("tcp:127.0.0.1:0", "write tcp://HOST:PORT"),
        ("tcp://127.0.0.1", "\"127.0.0.1\" has no port"),
        ("tcp://127.0.0.1:", "\"\" is no port"),
        ("tcp://127.0.0.1:65536", "\"65536\" is no port"),
        ("tcp://:9999", "the host is missing"),
        ("tcp://::1:0", "put an IPv6 address in brackets"),
        ("tcp://[::x]:0", "\"::x\" is no IPv6 address"),
        ("tcp://127.0.0.1:0/", "\"0/\" is no port"),
        ("tcp://a/b:0", "\"a/b\" is no host"),
    ];
    for (url, because) in cases {
        refused("echo_server", &["--listen", url], because);
        refused("client", &[url], because);
    }
    for name in ["custom_protocol", "conversation", "datagram_service"] {
        let url = "tcp://127.0.0.1:0?framing=lines";
        refused(name, &["--listen", url], "no settings are taken from an address here");
    }
    let why = "no settings are taken from an address here";
    refused("client", &["tcp://127.0.0.1:1?framing=lines"], why);
    refused("client", &["unix:/tmp/is-it-here?"], why);
    refused("conversation", &["--listen", "unix:/tmp/socket?mode=660"], why);
}

#[test]
fn wrong_settings_of_a_listener_are_refused_with_a_reason() {
    let cases = [
        ("", "\"\": write settings as ?framing=lines&max-frame=512"),
        ("lines", "\"lines\": write settings as ?framing=lines&max-frame=512"),
        ("framing=lines&", "\"\": write settings as"),
        ("encoding=gbk", "unknown setting \"encoding\"; there are framing, max-frame and mode"),
        ("Framing=lines", "unknown setting \"Framing\""),
        ("framing=line", "unknown framing \"line\"; choose one of raw, lines"),
        ("framing=", "unknown framing \"\""),
        ("framing=delimiter:zz", "two hexadecimal digits, as in delimiter:0d0a"),
        ("framing=lines&framing=lines", "framing is said twice"),
        ("max-frame=1&framing=lines&max-frame=1", "max-frame is said twice"),
        ("max-frame=0", "max-frame: \"0\" is no number of bytes above 0"),
        ("max-frame=1k", "max-frame: \"1k\" is no number of bytes above 0"),
        ("framing=lines?max-frame=1", "unknown framing \"lines?max-frame=1\""),
    ];
    for (query, because) in cases {
        let url = format!("tcp://127.0.0.1:0?{query}");
        refused("echo_server", &["--listen", &url], because);
        refused("over_server", &["--listen", &url], because);
    }
    for url in ["udp://127.0.0.1:0?framing=lines", "unixgram:/tmp/socket?max-frame=5"] {
        refused("echo_server", &["--listen", url], "a datagram is a message as it is");
    }
    for mode in ["", "66", "+66", "0o660", "668", "1777", "00660", "rw-"] {
        let url = format!("unix:/tmp/socket?mode={mode}");
        let because = format!("mode: \"{mode}\" is no permissions; write them in octal, as in 660");
        refused("echo_server", &["--listen", &url], &because);
    }
    for url in ["tcp://127.0.0.1:0", "udp://127.0.0.1:0", "unix:@name", "unixgram:@name"] {
        let because = "mode is for the file of a Unix socket, and there is none";
        refused("over_server", &["--listen", &format!("{url}?mode=660")], because);
    }
    refused("echo_server", &["--listen", "unix:?framing=lines"], "the path is missing");
    refused("echo_server", &["--listen", "tcp://127.0.0.1?framing=lines"], "has no port");
}

#[test]
fn wrong_values_are_refused_with_a_reason() {
    let cases: [(&[&str], &str); 18] = [
        (&["--concurrency", "fork"], "[possible values: inline, threads, pool]"),
        (&["--workers", "0"], "--workers <N>"),
        (&["--concurrency", "inline", "--workers", "4"], "no meaning with --concurrency inline"),
        (&["--max-connections", "many"], "--max-connections <N>"),
        (&["--framing", "line"], "unknown framing \"line\"; choose one of raw, lines"),
        (&["--framing", "delimiter:0"], "as two hexadecimal digits, as in delimiter:0d0a"),
        (&["--framing", "delimiter:"], "a delimiter has 1 to 16 bytes"),
        (&["--framing", "fixed:0"], "a message of fixed length has 1 to 1073741824 bytes"),
        (&["--framing", "fixed:many"], "how many bytes every message has, as in fixed:16"),
        (&["--max-frame", "-1"], "unexpected argument '-1'"),
        (&["--idle-timeout", "5"], "write 50us, 500ms, 30s, 2m or none"),
        (&["--idle-timeout", "0s"], "none means never"),
        (&["--drain-timeout", "1h"], "write 50us, 500ms, 30s, 2m or none"),
        (&["--write-timeout", "99999999999999999m"], "write 50us"),
        (&["--encoding", "gbk"], "unexpected argument '--encoding'"),
        (&["--busy-poll", "50us"], "unexpected argument '--busy-poll'"),
        (&["tcp://127.0.0.1:0"], "unexpected argument 'tcp://127.0.0.1:0'"),
        (&["--listen"], "a value is required for '--listen <URL>'"),
    ];
    for (args, because) in cases {
        refused("echo_server", args, because);
        refused("over_server", args, because);
        if args[0] == "--framing" {
            refused("client", &[&["tcp://127.0.0.1:1"], args].concat(), because);
        }
    }
    refused("echo_server", &["--reply", "yes", "--no-reply"], "cannot be used with '--no-reply'");
    refused("over_server", &["--word", ""], "--word <WORD>");
    refused("client", &[], "<URL>");
    refused("client", &["tcp://127.0.0.1:1", "--linger", "soon"], "write 50us");
}

#[test]
fn help_says_every_default() {
    for name in SERVERS.into_iter().chain(["client"]) {
        let ended = Program::example(name, &["--help"]).end();
        assert_eq!(ended.status.code(), Some(0));
        let said = ended.stdout.join("\n");
        // From one option to the next; the first piece is what stands before them.
        for option in said.split("      --").skip(1).filter(|option| takes_a_value(option)) {
            let without = option.starts_with("reply ");
            assert!(without || option.contains("[default: "), "{name} --{option}");
        }
        assert!(name == "client" || said.contains("://127.0.0.1:99"), "{said}");
    }
}

fn takes_a_value(option: &str) -> bool {
    option.split_whitespace().nth(1).is_some_and(|value| value.starts_with('<'))
}

#[test]
fn a_busy_port_is_one_line_that_says_which_and_why() {
    let mut first = Program::example("echo_server", &["--listen", "tcp://127.0.0.1:0"]);
    let tcp = first.listening("tcp://");
    for name in ["echo_server", "over_server", "custom_protocol", "conversation"] {
        let ended = Program::example(name, &["--listen", &format!("tcp://{tcp}")]).end();
        assert_eq!(ended.status.code(), Some(1));
        let why = "Address already in use (os error 98)";
        assert_eq!(ended.stderr, [format!("Error: cannot listen on tcp://{tcp}: {why}")]);
        assert_eq!(ended.stdout, [""; 0]);
    }
    assert_eq!(exchange(tcp, b"still here"), "STILL HERE");
    first.drain();
}

#[test]
fn a_busy_udp_port_is_no_different() {
    let mut first = Program::example("echo_server", &["--listen", "udp://127.0.0.1:0"]);
    let udp = first.listening("udp://");
    let ended = Program::example("datagram_service", &["--listen", &format!("udp://{udp}")]).end();
    assert_eq!(ended.status.code(), Some(1));
    let why = "Address already in use (os error 98)";
    assert_eq!(ended.stderr, [format!("Error: cannot listen on udp://{udp}: {why}")]);
    assert_eq!(ask(&datagrams(udp), b"still here"), b"STILL HERE");
    first.drain();
}

#[test]
fn the_port_is_free_as_soon_as_the_server_has_ended() {
    let mut first = Program::example("echo_server", &["--listen", "tcp://127.0.0.1:0"]);
    let tcp = first.listening("tcp://");
    assert_eq!(exchange(tcp, b"one"), "ONE");
    first.drain();
    let mut second = Program::example("echo_server", &["--listen", &format!("tcp://{tcp}")]);
    assert_eq!(second.listening("tcp://"), tcp);
    assert_eq!(exchange(tcp, b"two"), "TWO");
    second.drain();
}

#[test]
fn the_first_line_of_the_log_says_how_to_stop() {
    for name in SERVERS {
        let scheme = if name == "datagram_service" { "udp" } else { "tcp" };
        let server = Program::example(name, &["--listen", &format!("{scheme}://127.0.0.1:0")]);
        let first = server.log_line("");
        assert!(first.contains("Ctrl-C or SIGTERM"), "{name}: {first}");
    }
    let mut tiny = Command::new(example("tiny_echo"));
    tiny.arg("127.0.0.1:0").env_remove("RUST_LOG").stderr(Stdio::piped());
    let tiny = Program::start(&mut tiny);
    let first = tiny.log_line("");
    assert!(first.contains("Ctrl-C or SIGTERM"), "tiny_echo: {first}");
}

#[test]
fn a_signal_right_after_the_first_line_drains() {
    for _ in 0..20 {
        let mut server = Program::example("echo_server", &["--listen", "tcp://127.0.0.1:0"]);
        server.listening("tcp://");
        server.drain();
    }
}

/// A client that asks for much and reads nothing: the server can neither send it all nor end the
/// conversation by itself.
fn stalled(server: &Program, tcp: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a small buffer");
    socket.connect_timeout(&tcp.into(), DEADLINE).expect("a connection");
    let mut stream = TcpStream::from(socket);
    stream.set_write_timeout(Some(DEADLINE)).expect("a deadline");
    stream.write_all(&[vec![b'x'; 16 << 20], b"\n".to_vec()].concat()).expect("sent");
    assert!(server.line().ends_with("xxx"), "the message is whole, and about to be answered");
    stream
}

const STALLING: [&str; 8] = [
    "--listen",
    "tcp://127.0.0.1:0",
    "--framing",
    "lines",
    "--max-frame",
    "20000000",
    "--print",
    "--drain-timeout",
];

#[test]
fn who_cannot_be_served_in_time_is_forced_and_the_status_says_so() {
    let mut server = Program::example("echo_server", &[&STALLING[..], &["100ms"]].concat());
    let tcp = server.listening("tcp://");
    let stream = stalled(&server, tcp);
    server.signal(Signal::TERM);
    let ended = server.end();
    assert_eq!(ended.status.code(), Some(3), "{:?}", ended.stdout);
    assert!(ended.stdout[0].contains(" forced=1 stuck=0 "), "{:?}", ended.stdout);
    drop(stream);
}

#[test]
fn a_second_signal_ends_the_drain_at_once() {
    let mut server = Program::example("echo_server", &[&STALLING[..], &["none"]].concat());
    let tcp = server.listening("tcp://");
    let stream = stalled(&server, tcp);
    server.signal(Signal::TERM);
    server.log_line("draining");
    server.signal(Signal::TERM);
    let ended = server.end();
    assert_eq!(ended.status.code(), Some(130), "{:?}", ended.stdout);
    assert!(ended.stdout[0].starts_with("drained completed="), "{:?}", ended.stdout);
    drop(stream);
}

#[test]
fn a_stdout_that_nobody_reads_any_more_stops_nobody() {
    let mut command = Command::new(example("echo_server"));
    command.args(["--listen", "tcp://127.0.0.1:0", "--print"]).stderr(Stdio::piped());
    let mut server = Program::start_and_hear(&mut command, 1);
    let tcp = server.listening("tcp://");
    for _ in 0..3 {
        assert_eq!(exchange(tcp, b"hello"), "HELLO");
    }
    server.signal(Signal::TERM);
    assert_eq!(server.end().status.code(), Some(0));
}

#[test]
fn a_stderr_that_nobody_reads_stops_nobody() {
    let (reader, writer) = io::pipe().expect("a pipe");
    drop(reader);
    let mut command = Command::new(example("echo_server"));
    command.args(["--listen", "tcp://127.0.0.1:0"]).env("RUST_LOG", "trace").stderr(writer);
    let mut server = Program::start(&mut command);
    let tcp = server.listening("tcp://");
    assert_eq!(exchange(tcp, b"hello"), "HELLO");
    server.drain();
}

/// The example, with this limit of descriptors.
fn with_descriptors(limit: usize, args: &[&str]) -> Program {
    let mut command = Command::new("sh");
    let script = format!("ulimit -n {limit} && exec \"$0\" \"$@\"");
    command.args(["-c", &script]).arg(example("echo_server")).args(args);
    command.env_remove("RUST_LOG").stdin(Stdio::null()).stderr(Stdio::piped());
    Program::start(&mut command)
}

/// Those of the clients that have been answered by now, until nobody was for a while.
fn answered(clients: &mut Vec<TcpStream>) -> Vec<TcpStream> {
    let while_ = Timespec { tv_sec: 1, tv_nsec: 0 };
    let mut found = Vec::new();
    loop {
        let mut polled: Vec<_> = clients.iter().map(|c| PollFd::new(c, PollFlags::IN)).collect();
        if polled.is_empty() || poll(&mut polled, Some(&while_)).expect("a look") == 0 {
            return found;
        }
        let ready: Vec<bool> = polled.iter().map(|client| !client.revents().is_empty()).collect();
        let (heard, still) =
            clients.drain(..).zip(ready).partition::<Vec<_>, _>(|(_, ready)| *ready);
        clients.extend(still.into_iter().map(|(client, _)| client));
        for (mut client, _) in heard {
            expect(&mut client, b"HELLO");
            found.push(client);
        }
    }
}

#[test]
fn whoever_finds_no_descriptor_free_waits_and_is_served_later() {
    for concurrency in ["inline", "pool"] {
        let args = ["--listen", "tcp://127.0.0.1:0", "--max-connections", "1000"];
        let args = [&args[..], &["--concurrency", concurrency]].concat();
        let mut server = with_descriptors(64, &args);
        let tcp = server.listening("tcp://");
        let mut waiting: Vec<TcpStream> = (0..100).map(|_| connect(tcp)).collect();
        waiting.iter_mut().for_each(|client| client.write_all(b"hello").expect("sent"));
        let deadline = Instant::now() + DEADLINE;
        let (mut inside, mut rounds) = (Vec::new(), 0);
        while !waiting.is_empty() {
            let served = answered(&mut waiting);
            assert!(served.len() < 64, "{concurrency}: {} at once", served.len());
            assert!(!served.is_empty() || Instant::now() < deadline, "{concurrency}: {waiting:?}");
            rounds += usize::from(!served.is_empty());
            // Those inside are still answered while others wait; then they make room.
            inside.extend(served);
            if !waiting.is_empty() {
                inside.drain(..).for_each(|mut client| say(&mut client, b"again", b"AGAIN"));
            }
        }
        assert!(rounds > 1, "{concurrency}: there was room for everybody");
        inside.iter_mut().for_each(|client| say(client, b"the last", b"THE LAST"));
        server.drain();
    }
}
