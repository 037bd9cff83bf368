//! The tests of Python's `socketserver` itself, under the numbers of our list of them.

use std::io::{self, BufRead, Read, Write};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use switchboard::{
    CloseReason, Event, Handler, Next, Served, Server, Stream, StreamHandler, TcpServer, Verdict,
};

use crate::harness::{Client, Journal, On, PATIENCE, Running, Script, eventually};
use crate::row::{
    ALL, ANY, EVERY, INLINE, POOL, Row, SEVERAL, STREAMS, TCP, THREADS, UDP, UNIX, UNIXGRAM, python,
};

pub(crate) const ROWS: &[Row] = &[
    python("1", "Three clients, one after another: TCP, one at a time", (INLINE, TCP), clients),
    python(
        "2",
        "Three clients, one after another: TCP, several at a time",
        (SEVERAL, TCP),
        clients,
    ),
    python("3", "A child of the program is not reaped: TCP", (EVERY, TCP), foreign_child).alone(),
    python("4", "Three clients: Unix streams, one at a time", (INLINE, UNIX), clients),
    python("5", "Three clients: Unix streams, several at a time", (SEVERAL, UNIX), clients),
    python("6", "A child of the program is not reaped: Unix streams", (EVERY, UNIX), foreign_child)
        .alone(),
    python("7", "Three clients: UDP, one at a time", (INLINE, UDP), clients),
    python("8", "Three clients: UDP, several at a time", (SEVERAL, UDP), clients),
    python("9", "A child of the program is not reaped: UDP", (EVERY, UDP), foreign_child).alone(),
    python("10", "Three clients: Unix datagrams, one at a time", (INLINE, UNIXGRAM), clients),
    python("11", "Three clients: Unix datagrams, several at a time", (SEVERAL, UNIXGRAM), clients),
    python("12", "A child is not reaped: Unix datagrams", (EVERY, UNIXGRAM), foreign_child).alone(),
    python("13", "Twenty servers are stopped right after their start", (EVERY, ALL), stop_at_once),
    python("14", "A server that has never served is closed", (EVERY, ALL), close_immediately),
    python("16", "Leaving the scope closes the listener", (EVERY, ALL), leave_the_scope),
    python("17", "An error is reported once: one at a time", (INLINE, ALL), error_is_reported),
    python("17", "An error is what serving one returns", (INLINE, ALL), one_error),
    python("18", "A panic ends its peer alone: one at a time", (INLINE, ALL), panic_is_reported),
    python("18", "A panic is what serving one returns", (INLINE, ALL), one_panic),
    python("19", "An error is reported once: threads", (THREADS, ALL), error_is_reported),
    python("20", "A panic ends its peer alone: threads", (THREADS, ALL), panic_is_reported),
    python("21", "An error is reported once: a pool", (POOL, ALL), error_is_reported),
    python("22", "A panic ends its peer alone: a pool", (POOL, ALL), panic_is_reported),
    python("23", "A conversation reads and writes as a file does", (EVERY, STREAMS), writer_basics),
    python("24", "A write is never short", (EVERY, STREAMS), write_is_never_short),
    python("25", "Every public name can be named", (INLINE, ANY), every_name),
    python("26", "Who is turned away is closed exactly once", (EVERY, STREAMS), turned_away),
];

fn echo(journal: &Journal) -> Script {
    Script::new(journal).handle(|message, cx| {
        cx.send(message);
        Ok(Next::Continue)
    })
}

fn clients(on: On) {
    let server = on.play(echo(&Journal::default()));
    assert!(!server.address().to_string().ends_with(":0"), "the real address is known");
    for _ in 0..3 {
        assert_eq!(server.client().ask("hello world"), "hello world");
    }
    server.stop();
    assert_eq!(server.stats().messages, 3);
}

fn foreign_child(on: On) {
    let child = Command::new("sh").args(["-c", "exit 72"]).spawn();
    let mut child = child.expect("a child of ours, not of the server");
    clients(on);
    assert_eq!(child.wait().expect("it can still be waited for").code(), Some(72));
}

fn stop_at_once(on: On) {
    let journal = Journal::default();
    let servers: Vec<Running> = (0..20).map(|_| on.play(Script::new(&journal))).collect();
    for server in &servers {
        let report = server.stop();
        assert!(report.is_clean(), "{report}");
        assert_eq!(server.join(), report);
    }
}

fn close_immediately(on: On) {
    let server = Server::new(|_| -> Script { panic!("planned: a factory that is never asked") });
    drop(on.listening(server).bind().expect("bound"));
}

fn leave_the_scope(on: On) {
    let journal = Journal::default();
    let address = {
        let bound = on.listening(Script::new(&journal).server()).bind().expect("bound");
        bound.addresses()[0].clone()
    };
    let again = on.listening_on(Script::new(&journal).server(), &address);
    drop(again.bind().expect("the address is free"));
}

fn error_is_reported(on: On) {
    is_reported_once(on, "error", "handler-err: E");
}

fn panic_is_reported(on: On) {
    is_reported_once(on, "panic", "handler-panic");
}

fn failing(journal: &Journal) -> Script {
    Script::new(journal).handle(|message, _| match message {
        b"error" => Err(io::Error::other("E")),
        _ => panic!("planned: as SystemExit"),
    })
}

fn is_reported_once(on: On, message: &str, reason: &str) {
    let (journal, told) = (Journal::default(), Journal::default());
    let noted = told.clone();
    let server = on.spawn(failing(&journal).server().observer(move |event: &Event<'_>| {
        if let Event::ConnectionClosed { reason, .. } | Event::SessionEnded { reason, .. } = event {
            noted.note(reason.to_string());
        }
    }));
    // A client that connects and leaves at once does no harm either.
    drop(server.client());
    let mut client = server.client();
    client.say(message);
    journal.wait_for(&format!("finish {reason}"));
    if !on.is_datagram() {
        client.hears_only("");
    }
    told.wait_for(reason);
    drop(server);
    assert_eq!((journal.count("finish handler"), told.count("handler")), (1, 1), "reported once");
    assert_eq!(journal.count("handle"), 1);
}

fn one_error(on: On) {
    is_served_one(on, "error", &CloseReason::HandlerErr("E".to_owned()));
}

fn one_panic(on: On) {
    is_served_one(on, "panic", &CloseReason::HandlerPanic);
}

/// Python's tests serve one, and look at what became of it.
fn is_served_one(on: On, message: &str, why: &CloseReason) {
    let journal = Journal::default();
    let mut server = on.listening(failing(&journal).server()).bind().expect("bound");
    let mut client = Client::of(&server.addresses()[0]);
    client.say(message);
    match server.serve_one(PATIENCE).expect("nothing is refused") {
        Served::Connection { reason, .. } => assert_eq!(reason, *why),
        served => assert!(on.is_datagram() && matches!(served, Served::Datagram { .. })),
    }
    if !on.is_datagram() {
        client.hears_only("");
    }
    assert_eq!(journal.all()[2..], [format!("finish {why}")]);
}

/// Whatever takes a file takes a conversation.
struct Copier;

impl StreamHandler for Copier {
    fn handle(&mut self, stream: &mut Stream<'_>) -> io::Result<Next> {
        fn read(from: &mut dyn BufRead) -> io::Result<String> {
            let mut line = String::new();
            from.read_line(&mut line)?;
            Ok(line)
        }
        fn write(to: &mut dyn Write, line: &str) -> io::Result<()> {
            to.write_all(line.as_bytes())?;
            to.flush()
        }
        let line = read(stream)?;
        let mut rest = String::new();
        stream.take(4).read_to_string(&mut rest)?;
        write(stream, &line)?;
        write(stream, &rest)?;
        Ok(Next::Close)
    }
}

fn writer_basics(on: On) {
    let server = on.spawn(Server::streams(|_| Copier));
    let mut client = server.client();
    client.send_bytes(b"one line\nfour");
    client.hears_only("one line\nfour");
}

/// Writes a line, reads one, writes 16 MiB and a byte; each write says how much it was.
struct Writer(Journal);

impl StreamHandler for Writer {
    fn setup(&mut self, stream: &mut Stream<'_>) -> io::Result<Next> {
        // It arrives without a flush.
        stream.write_all(b"write data\n")?;
        Ok(Next::Continue)
    }

    fn handle(&mut self, stream: &mut Stream<'_>) -> io::Result<Next> {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let written = stream.write(&vec![0; 16 * 1024 * 1024 + 1])?;
        self.0.note(format!("{} {written}", line.trim_end()));
        Ok(Next::Close)
    }
}

fn write_is_never_short(on: On) {
    let journal = Journal::default();
    let noted = journal.clone();
    let server = on.spawn(Server::streams(move |_| Writer(noted.clone())));
    let mut client = server.client();
    assert_eq!(client.hear(), "write data");
    client.say("client response");
    assert_eq!(client.hear_bytes(100), [0; 100]);
    let rest = client.rest().expect("an orderly end");
    assert_eq!(rest.len(), 16 * 1024 * 1024 + 1 - 100);
    journal.wait_for("client response 16777217");
}

fn every_name(_on: On) {
    use switchboard::{
        Address, BoundServer, ConnectionId, Credentials, Datagram, DropReason, Error,
    };
    use switchboard::{Group, Histogram, Listen, Outcome, Overflow, Peer, Remote, Replies};
    use switchboard::{SendError, ServerHandle, Stats, Traffic, UdpServer, UnixName};
    fn named<T>() -> usize {
        std::mem::size_of::<T>()
    }
    let _ = named::<(Address, BoundServer, ConnectionId, Credentials, DropReason, Error)>();
    let _ = named::<(Group, Histogram, Listen, Outcome, Overflow, Peer, Remote, SendError)>();
    let _ = named::<(ServerHandle, Stats, Traffic, UdpServer, UnixName, TcpServer, Verdict)>();
    let _ = named::<(Datagram<'_>, Replies<'_>, Event<'_>, Box<dyn Handler>)>();
}

fn turned_away(on: On) {
    let (journal, closed) = (Journal::default(), Arc::new(AtomicUsize::new(0)));
    let counted = closed.clone();
    let server = Script::new(&journal).server().filter(|_| Verdict::Reject);
    let server = on.spawn(server.observer(move |event: &Event<'_>| {
        if let Event::ConnectionClosed { reason, .. } = event {
            assert_eq!(reason.name(), "filtered");
            counted.fetch_add(1, Ordering::SeqCst);
        }
    }));
    server.client().hears_only("");
    eventually("it is closed", || closed.load(Ordering::SeqCst) == 1);
    assert!(server.drain(PATIENCE).is_clean());
    assert_eq!(closed.load(Ordering::SeqCst), 1, "once");
    assert!(journal.all().is_empty(), "no handler was made");
}
