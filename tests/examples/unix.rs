//! Unix sockets, streams and datagrams, in files and in the abstract namespace: every program that takes
//! a URL.

use std::fs;
use std::io::Write;
use std::net::Shutdown;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::Signal;

use crate::client::{Client, printed};
use crate::support::{DEADLINE, Program, ask, expect, hear, load_tester, rest, say};

/// A name that nobody else has: the path of a file that is not there, or an abstract one.
fn name(beginning: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{beginning}switchboard-examples-{}-{count}", std::process::id())
}

pub(crate) fn in_a_file() -> String {
    name(&format!("{}/", std::env::temp_dir().display()))
}

fn in_the_abstract() -> String {
    name("@")
}

fn address(name: &str) -> SocketAddr {
    let address = match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(name),
    };
    address.expect("a name that fits")
}

/// A connection whose every wait has a deadline.
pub(crate) fn connect(name: &str) -> UnixStream {
    let stream = UnixStream::connect_addr(&address(name)).expect("a connection");
    stream.set_read_timeout(Some(DEADLINE)).expect("a deadline");
    stream.set_write_timeout(Some(DEADLINE)).expect("a deadline");
    stream
}

/// A socket that talks to this server alone, and can be answered.
fn datagrams(server: &str) -> UnixDatagram {
    let socket = UnixDatagram::bind_addr(&address(&in_the_abstract())).expect("a socket");
    socket.set_read_timeout(Some(DEADLINE)).expect("a deadline");
    socket.set_write_timeout(Some(DEADLINE)).expect("a deadline");
    socket.connect_addr(&address(server)).expect("a destination");
    socket
}

/// An example that listens on a stream and a datagram socket of these names.
pub(crate) fn on_both(program: &str, stream: &str, gram: &str, options: &[&str]) -> Program {
    let (stream, gram) = (format!("unix:{stream}"), format!("unixgram:{gram}"));
    let both = ["--listen", &stream, "--listen", &gram];
    let server = Program::example(program, &[&both, options].concat());
    server.listens_on(&stream);
    server.listens_on(&gram);
    server
}

/// Two clients at once, one after another on the same connection, and datagrams, an empty one too.
fn echoes(concurrency: &str, stream: &str, gram: &str) {
    let mut server = on_both("echo_server", stream, gram, &["--concurrency", concurrency]);
    let (mut first, mut second) = (connect(stream), connect(stream));
    say(&mut second, "straße".as_bytes(), "STRAßE".as_bytes());
    say(&mut first, b"one", b"ONE");
    say(&mut second, b"two", b"TWO");
    drop(first);

    let socket = datagrams(gram);
    assert_eq!(ask(&socket, b"hello, 1"), b"HELLO, 1");
    assert_eq!(ask(&socket, b""), b"");
    assert_eq!(ask(&datagrams(gram), b"somebody else"), b"SOMEBODY ELSE");

    second.write_all(b"last").expect("sent");
    second.shutdown(Shutdown::Write).expect("half-closed");
    assert_eq!(rest(&mut second), "LAST");
    assert_eq!(server.drain().stdout.len(), 1, "nothing but the report");
}

#[test]
fn echo_server_answers_on_both_kinds_under_each_concurrency() {
    for concurrency in ["inline", "threads", "pool"] {
        let (stream, gram) = (in_a_file(), in_a_file());
        echoes(concurrency, &stream, &gram);
        assert!(!Path::new(&stream).exists() && !Path::new(&gram).exists(), "nothing is left");
        echoes(concurrency, &in_the_abstract(), &in_the_abstract());
    }
}

#[test]
fn over_server_hears_the_word_on_both_kinds() {
    let (stream, gram) = (in_a_file(), in_the_abstract());
    let mut server = on_both("over_server", &stream, &gram, &["--framing", "lines"]);
    for _ in 0..2 {
        let mut stream = connect(&stream);
        say(&mut stream, b"is it over?\n", b"IS IT OVER?\n");
        say(&mut stream, b"over\n", b"");
        assert_eq!(rest(&mut stream), "");
    }
    let socket = datagrams(&gram);
    assert_eq!(ask(&socket, b"one"), b"ONE");
    socket.send(b"over").expect("sent");
    assert_eq!(ask(&socket, b"two"), b"TWO", "another session");
    server.drain();
}

#[test]
fn the_models_to_copy_are_served_as_well() {
    let (stream, gram) = (in_a_file(), in_a_file());
    let mut server = on_both("custom_protocol", &stream, &gram, &[]);
    let socket = datagrams(&gram);
    say(&mut connect(&stream), b"SET a b\n", b"OK\n");
    assert_eq!(ask(&socket, b"GET a"), b"= b");
    server.drain();
    assert_eq!(hear(&socket), b"BYE the server is stopping");

    let url = format!("unix:{}", in_a_file());
    let mut server = Program::example("conversation", &["--listen", &url]);
    server.listens_on(&url);
    let mut stream = connect(&url["unix:".len()..]);
    expect(&mut stream, b"what is your name?\n");
    say(&mut stream, b"bob\n", b"hello, bob; say bye when you have to go\n");
    server.signal(Signal::TERM);
    assert_eq!(rest(&mut stream), "goodbye, bob\n");
    assert_eq!(server.end().status.code(), Some(0));

    let url = format!("unixgram:{}", in_a_file());
    let mut server = Program::example("datagram_service", &["--listen", &url]);
    server.listens_on(&url);
    let socket = datagrams(&url["unixgram:".len()..]);
    assert_eq!(ask(&socket, b"count to be"), b"words=2 characters=5 bytes=5");
    server.drain();
}

#[test]
fn streams_are_not_served_by_what_is_for_datagrams_nor_the_other_way_round() {
    for (program, url) in [("conversation", "unixgram:"), ("datagram_service", "unix:")] {
        let path = in_a_file();
        let url = format!("{url}{path}");
        let ended = Program::example(program, &["--listen", &url]).end();
        assert_eq!((ended.status.code(), ended.stdout), (Some(1), vec![]));
        assert_eq!(ended.stderr.len(), 1, "{:?}", ended.stderr);
        assert!(ended.stderr[0].contains(&url), "{:?}", ended.stderr);
        assert!(!Path::new(&path).exists(), "and nothing is left behind");
    }
}

#[test]
fn the_client_talks_to_both_kinds_by_path_and_by_abstract_name() {
    for names in [in_a_file, in_the_abstract] {
        let (stream, gram) = (names(), names());
        let mut server = on_both("echo_server", &stream, &gram, &["--framing", "lines", "--print"]);
        let url = format!("unix:{stream}");
        assert_eq!(
            printed(&url, &["--framing", "lines"], "one\n\ntwo\nsix"),
            ["ONE", "TWO", "SIX"]
        );
        for said in ["one", "two", "six"] {
            let line = server.line();
            assert!(line.starts_with("unix:(unnamed)[pid "), "{line}");
            assert!(line.ends_with(&format!("]: {said}")), "{line}");
        }
        // It has a name of its own, to be answered by, which leaves no file.
        let mut client = Client::start(&format!("unixgram:{gram}"), &["--linger", "200ms"]);
        client.types("one\n\ntwo\n");
        for answer in ["ONE", "", "TWO"] {
            assert_eq!(client.program.line(), answer);
        }
        assert_eq!(client.leaves().status.code(), Some(0));
        for said in ["one", "", "two"] {
            let line = server.line();
            assert!(line.starts_with("unixgram:@"), "{line}");
            assert!(line.ends_with(&format!(": {said}")), "{line}");
        }
        server.drain();
    }
}

#[test]
fn the_client_and_over_server_part_at_the_word() {
    let (stream, gram) = (in_a_file(), in_a_file());
    let mut server = on_both("over_server", &stream, &gram, &["--stop-server"]);
    let mut client = Client::start(&format!("unix:{stream}"), &[]);
    client.types("hello\n");
    assert_eq!(client.program.line(), "HELLO");
    let mut other = Client::start(&format!("unixgram:{gram}"), &[]);
    other.types("hello\n");
    assert_eq!(other.program.line(), "HELLO");
    // It leaves when the server closes, though its input goes on.
    client.types("over\n");
    assert_eq!(client.program.end().status.code(), Some(0));
    assert_eq!(server.end().status.code(), Some(0));
}

#[test]
fn the_client_says_in_one_line_that_nobody_is_there() {
    let stale = in_a_file();
    drop(UnixListener::bind(&stale).expect("bound"));
    let cases = [
        (format!("unix:{}", in_a_file()), "No such file or directory (os error 2)"),
        (format!("unixgram:{}", in_a_file()), "No such file or directory (os error 2)"),
        (format!("unix:{stale}"), "Connection refused (os error 111)"),
        (format!("unix:{}", in_the_abstract()), "Connection refused (os error 111)"),
        (format!("unix:/tmp/{}", "x".repeat(103)), "path must be shorter than SUN_LEN"),
    ];
    for (url, why) in cases {
        let ended = Client::start(&url, &[]).program.end();
        assert_eq!((ended.status.code(), ended.stdout), (Some(1), vec![]));
        assert_eq!(ended.stderr, [format!("client: {url}: {why}")]);
    }
    fs::remove_file(stale).expect("it was left alone");
}

#[test]
fn the_client_says_that_a_server_of_datagrams_has_gone() {
    let gram = in_a_file();
    let url = format!("unixgram:{gram}");
    let mut server = Program::example("echo_server", &["--listen", &url]);
    server.listens_on(&url);
    let mut client = Client::start(&url, &[]);
    client.types("hello\n");
    assert_eq!(client.program.line(), "HELLO");
    server.drain();
    client.types("are you there?\n");
    let ended = client.program.end();
    assert_eq!(ended.status.code(), Some(1));
    assert_eq!(ended.stderr, [format!("client: {url}: Connection refused (os error 111)")]);
}

#[test]
fn the_load_tester_has_every_reply_proved() {
    for names in [in_a_file, in_the_abstract] {
        let (stream, gram) = (names(), names());
        let mut server = on_both("echo_server", &stream, &gram, &[]);
        for url in [format!("unix:{stream}"), format!("unixgram:{gram}")] {
            let mut load = Command::new(load_tester());
            load.args([&url, "--count", "500", "--connections", "8", "--quiet"]);
            let ended = Program::start(load.stdin(Stdio::null()).stderr(Stdio::piped())).end();
            assert_eq!(ended.status.code(), Some(0), "{ended:?}");
            assert!(ended.stdout.iter().any(|line| line.contains("500 sent, 500 ok")), "{ended:?}");
        }
        server.drain();
    }
}

#[test]
fn the_files_of_a_server_that_was_killed_are_replaced_by_the_next_one() {
    let (stream, gram) = (in_a_file(), in_a_file());
    let mut killed = on_both("echo_server", &stream, &gram, &[]);
    say(&mut connect(&stream), b"one", b"ONE");
    killed.signal(Signal::KILL);
    assert_eq!(killed.end().status.code(), None, "it had no time to clean up");
    let is_socket = |path: &str| fs::metadata(path).is_ok_and(|file| file.file_type().is_socket());
    assert!(is_socket(&stream) && is_socket(&gram));

    let mut next = on_both("echo_server", &stream, &gram, &[]);
    say(&mut connect(&stream), b"two", b"TWO");
    assert_eq!(ask(&datagrams(&gram), b"two"), b"TWO");
    next.drain();
    assert!(!Path::new(&stream).exists() && !Path::new(&gram).exists());
}

#[test]
fn a_name_in_use_is_one_line_that_says_which_and_why() {
    for names in [in_a_file, in_the_abstract] {
        let (stream, gram) = (names(), names());
        let mut first = on_both("echo_server", &stream, &gram, &[]);
        let taken = [
            ("echo_server", format!("unix:{stream}")),
            ("over_server", format!("unixgram:{gram}")),
            ("conversation", format!("unix:{stream}")),
            ("datagram_service", format!("unixgram:{gram}")),
            // A socket of the other kind is in use as well, though names of both kinds are apart in the
            // abstract namespace.
            (
                "custom_protocol",
                format!("unix:{}", if gram.starts_with('@') { &stream } else { &gram }),
            ),
        ];
        for (program, url) in taken {
            let ended = Program::example(program, &["--listen", &url]).end();
            assert_eq!((ended.status.code(), ended.stdout), (Some(1), vec![]), "{program} {url}");
            let why = "Address already in use (os error 98)";
            assert_eq!(ended.stderr, [format!("Error: cannot listen on {url}: {why}")]);
        }
        say(&mut connect(&stream), b"still here", b"STILL HERE");
        assert_eq!(ask(&datagrams(&gram), b"still here"), b"STILL HERE");
        first.drain();
    }
}

#[test]
fn what_is_no_socket_is_left_alone_and_what_cannot_be_bound_is_one_line() {
    let letter = in_a_file();
    fs::write(&letter, "dear").expect("written");
    let cases = [
        (letter.clone(), "there is a file of this name, and it is no socket"),
        (format!("{}/socket", in_a_file()), "No such file or directory (os error 2)"),
        (
            format!("/tmp/{}", "x".repeat(103)),
            "the path is too long for a Unix socket, which takes 107 bytes",
        ),
    ];
    for (path, why) in cases {
        let url = format!("unix:{path}");
        let ended = Program::example("echo_server", &["--listen", &url]).end();
        assert_eq!((ended.status.code(), ended.stdout), (Some(1), vec![]));
        assert_eq!(ended.stderr, [format!("Error: cannot listen on {url}: {why}")]);
    }
    assert_eq!(fs::read_to_string(&letter).expect("there"), "dear");
    fs::remove_file(letter).expect("it was left alone");
}

#[test]
fn settings_of_a_listener_hold_for_unix_sockets_and_permissions_for_their_files() {
    let (stream, gram) = (in_a_file(), in_a_file());
    let urls =
        [format!("unix:{stream}?framing=lines&mode=660"), format!("unixgram:{gram}?mode=600")];
    let mut server = Program::example("echo_server", &["--listen", &urls[0], "--listen", &urls[1]]);
    server.listens_on(&format!("unix:{stream}"));
    server.listens_on(&format!("unixgram:{gram}"));
    let mut client = connect(&stream);
    client.write_all(b"hel").expect("sent");
    say(&mut client, b"lo\r\nwor", b"HELLO\n");
    drop(client);
    let mode = |path: &str| fs::metadata(path).expect("its file").permissions().mode() & 0o777;
    assert_eq!((mode(&stream), mode(&gram)), (0o660, 0o600));
    server.drain();
}
