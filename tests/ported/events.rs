//! Acceptors: what changes while it runs, what it says of itself (91 to 99), and quiet errors (50).

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use log::{Level, LevelFilter, Log, Metadata, Record};
use parking_lot::Mutex;
use switchboard::{
    ConnectionId, ErrorKind, Event, Next, Peer, Server, ServerStage, Stream, StreamHandler,
    Traffic, Verdict, handler_fn,
};

use crate::harness::{
    Client, Journal, On, PATIENCE, Running, Script, eventually, modes, threads_named,
};
use crate::row::{ALL, EVERY, INTERNET, Row, STREAMS, acceptors};

pub(crate) const ROWS: &[Row] = &[
    acceptors("50", "A quiet error is no warning; a panic always is", (EVERY, INTERNET), quiet)
        .alone(),
    acceptors("91", "A new factory serves those who come from then on", (EVERY, ALL), new_options),
    acceptors(
        "93",
        "Counters and status: 20 come, ten leave, ten leave, suspended between",
        (EVERY, STREAMS),
        counters,
    ),
    acceptors(
        "94",
        "One start and one stop for each peer, linked by id and listener",
        (EVERY, ALL),
        paired,
    ),
    acceptors("95", "A stop says how long, how many bytes each way, and why", (EVERY, ALL), exact),
    acceptors(
        "96",
        "Listeners start and stop with their address; no event holds payload",
        (EVERY, ALL),
        no_payload,
    ),
    acceptors(
        "97",
        "A logger gets the warnings, at the level of the moment",
        (EVERY, INTERNET),
        logger,
    )
    .alone(),
    acceptors("98", "The events' list is that of the live handlers", (EVERY, ALL), live_list),
    acceptors("98", "Threads are named after the server", (EVERY, INTERNET), thread_names).alone(),
    acceptors("99", "After a tumult the gauge is starts less stops", (EVERY, ALL), gauge),
];

/// Remembers lines of the log.
struct Lines(Mutex<Vec<(Level, String)>>);

static LINES: Lines = Lines(Mutex::new(Vec::new()));

impl Log for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "switchboard"
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            self.0.lock().push((record.level(), record.args().to_string()));
        }
    }

    fn flush(&self) {}
}

/// The lines from now on that contain this, once there is one.
fn levels_of(part: &str) -> Vec<Level> {
    let found = || -> Vec<Level> {
        let lines = LINES.0.lock();
        lines.iter().filter(|(_, line)| line.contains(part)).map(|(level, _)| *level).collect()
    };
    eventually("it is written down", || !found().is_empty());
    found()
}

fn failing() -> Script {
    Script::new(&Journal::default()).handle(|message, cx| match message {
        b"error" => Err(io::Error::other("an error of mine")),
        b"panic" => panic!("planned: a handler"),
        _ => {
            cx.send(message);
            Ok(Next::Continue)
        }
    })
}

fn quiet(on: On) {
    log::set_logger(&LINES).expect("the only logger");
    log::set_max_level(LevelFilter::Trace);
    for (is_quiet, level) in [(false, Level::Warn), (true, Level::Debug)] {
        LINES.0.lock().clear();
        let server = failing().server();
        let server = on.spawn(if is_quiet { server.quiet_errors() } else { server });
        server.client().say("error");
        assert_eq!(levels_of("an error of mine"), [level]);
        server.client().say("panic");
        assert_eq!(levels_of("handler-panic").into_iter().min(), Some(Level::Error));
    }
}

fn logger(on: On) {
    log::set_logger(&LINES).expect("the only logger");
    let server = on.spawn(failing().server());
    for (filter, expected) in [(LevelFilter::Off, 0), (LevelFilter::Warn, 1), (LevelFilter::Off, 0)]
    {
        log::set_max_level(filter);
        LINES.0.lock().clear();
        let before = ended(&server);
        server.client().say("error");
        eventually("it has ended", || ended(&server) == before + 1);
        // Whoever is served after it is served after its line was written.
        assert_eq!(server.client().ask("x"), "x");
        if expected > 0 {
            levels_of("an error of mine");
        }
        let lines = LINES.0.lock().iter().filter(|(_, line)| line.contains("of mine")).count();
        assert_eq!(lines, expected, "{filter}");
    }
}

fn ended(server: &Running) -> u64 {
    let stats = server.stats();
    let closed = stats.connections_closed().chain(stats.sessions_closed());
    closed.filter(|(name, _)| *name == "handler-err").map(|(_, count)| count).sum()
}

struct Other;

impl StreamHandler for Other {
    fn handle(&mut self, _stream: &mut Stream<'_>) -> io::Result<Next> {
        Ok(Next::Close)
    }
}

fn new_options(on: On) {
    let answers = |with: &'static str| {
        handler_fn(move |_, cx| {
            cx.send(with);
            Ok(Next::Continue)
        })
    };
    let server = on.spawn(Server::new(move |_| answers("old")));
    let mut old = server.client();
    assert_eq!(old.ask("x"), "old");
    server.set_factory(move |_| answers("new")).expect("it has a factory");
    let mut new = server.client();
    for _ in 0..3 {
        assert_eq!([new.ask("x"), old.ask("x")], ["new", "old"]);
    }
    let kind = server.set_stream_factory(|_| Other).expect_err("it has another kind").kind();
    assert_eq!(kind, ErrorKind::Config);
}

fn counters(on: On) {
    let server = on.play(Script::new(&Journal::default()));
    let counts = || {
        let stats = server.stats();
        let ended: u64 = stats.connections_closed().map(|(_, count)| count).sum();
        (stats.connections_accepted, ended)
    };
    let come = || -> Vec<Client> { (0..10).map(|_| server.client()).collect() };
    let (first, second) = (come(), come());
    eventually("twenty came", || counts() == (20, 0));
    drop(first);
    eventually("ten have left", || counts() == (20, 10));
    server.suspend().expect("it runs");
    let status = server.status();
    assert_eq!((status.stage, status.connections_open), (ServerStage::Suspended, 10));
    server.resume().expect("it was suspended");
    drop(second);
    eventually("all have left", || counts() == (20, 20));
    let status = server.status();
    assert_eq!((status.stage, status.connections_open), (ServerStage::Serving, 0));
    assert_eq!(status.listeners[0].address, *server.address());
    assert!(status.max_connections >= 20);
}

/// A start or a stop of a peer.
#[derive(Clone, Debug)]
struct Edge {
    id: ConnectionId,
    peer: Peer,
    listener: String,
    /// Of a stop: why, and what was carried.
    end: Option<(String, Traffic)>,
}

/// Starts and stops, in order.
#[derive(Clone, Default)]
struct Edges(Arc<Mutex<Vec<Edge>>>);

impl Edges {
    fn note(&self, event: &Event<'_>) {
        let edge = match *event {
            Event::ConnectionOpened { id, peer, listener }
            | Event::SessionBegun { id, peer, listener } => {
                Edge { id, peer: peer.clone(), listener: listener.to_string(), end: None }
            }
            Event::ConnectionClosed { id, peer, listener, reason, traffic }
            | Event::SessionEnded { id, peer, listener, reason, traffic } => {
                let end = Some((reason.to_string(), traffic));
                Edge { id, peer: peer.clone(), listener: listener.to_string(), end }
            }
            _ => return,
        };
        self.0.lock().push(edge);
    }

    fn observe(&self, server: Server) -> Server {
        let edges = self.clone();
        server.observer(move |event: &Event<'_>| edges.note(event))
    }

    fn stops(&self) -> Vec<Edge> {
        self.0.lock().iter().filter(|edge| edge.end.is_some()).cloned().collect()
    }

    /// Who has begun and not ended.
    fn live(&self) -> Vec<ConnectionId> {
        let mut live = Vec::new();
        for edge in self.0.lock().iter() {
            match edge.end {
                None => live.push(edge.id),
                Some(_) => live.retain(|id| *id != edge.id),
            }
        }
        live
    }
}

fn paired(on: On) {
    let (edges, made, journal) = (Edges::default(), AtomicUsize::new(0), Journal::default());
    let noted = journal.clone();
    let script = Script::new(&Journal::default()).handle(move |message, cx| {
        noted.note(format!("{} {}", cx.id(), cx.peer()));
        cx.send(message);
        Ok(Next::Close)
    });
    // A success, one who is turned away, and a success again.
    let server =
        edges.observe(script.server()).filter(move |_| match made.fetch_add(1, Ordering::SeqCst) {
            1 => Verdict::Reject,
            _ => Verdict::Accept,
        });
    let server = on.spawn(server);
    for round in 1..=3 {
        let mut client = server.client();
        match round {
            // It may be turned away before it has said anything.
            2 => drop(client.try_send(b"x\n")),
            _ => client.say("x"),
        }
        match round {
            2 if on.is_datagram() => {}
            2 => assert!(client.is_cut_off()),
            _ => assert_eq!(client.hear(), "x"),
        }
        eventually("it has ended", || edges.stops().len() == round);
    }
    assert!(server.drain(PATIENCE).is_clean());
    let all = edges.0.lock().clone();
    assert_eq!(all.len(), 6, "{all:?}");
    for pair in all.chunks(2) {
        assert_eq!((pair[0].id, &pair[0].peer), (pair[1].id, &pair[1].peer));
        assert_eq!((pair[0].end.is_none(), pair[1].end.is_some()), (true, true));
        assert_eq!([&pair[0].listener, &pair[1].listener], [&server.address().to_string(); 2]);
    }
    let said = [&all[0], &all[4]].map(|edge| format!("{} {}", edge.id, edge.peer));
    assert_eq!(journal.all(), said, "the handler knows itself by the same names");
}

fn exact(on: On) {
    let edges = Edges::default();
    let script = Script::new(&Journal::default()).handle(|message, cx| {
        cx.send_raw("12345");
        if message == b"bad" {
            return Err(io::Error::other("no"));
        }
        Ok(Next::Close)
    });
    let server = on.spawn(edges.observe(script.server()));
    let began = Instant::now();
    for (round, (said, reason)) in (1..).zip([("good", "done"), ("bad", "handler-err: no")]) {
        let mut client = server.client();
        client.say(said);
        eventually("it has ended", || edges.stops().len() == round);
        let (why, traffic) = edges.stops()[round - 1].end.clone().expect("a stop");
        assert_eq!(why, reason);
        let line_end = u64::from(!on.is_datagram());
        assert_eq!(traffic.received, said.len() as u64 + line_end);
        assert_eq!(traffic.sent, 5, "also of one that fails: what it said before is sent");
        if on.is_datagram() {
            assert_eq!(client.hear(), "12345");
        }
        assert!(traffic.lasted <= began.elapsed() + Duration::from_millis(1), "{traffic:?}");
    }
}

fn no_payload(on: On) {
    let journal = Journal::default();
    let noted = journal.clone();
    let server = failing().server().max_datagram(100).observer(move |event: &Event<'_>| {
        noted.note(format!("{} {event} {event:?}", event.name()));
    });
    let server = on.spawn(server);
    let mut client = server.client();
    assert_eq!(client.ask("a secret"), "a secret");
    if on.is_datagram() {
        client.say(&"a secret".repeat(20));
    } else {
        client.send_bytes("a secret".repeat(2_000).as_bytes());
    }
    server.client().say("panic");
    eventually("it has ended", || journal.all().iter().any(|line| line.contains("HandlerPanic")));
    let address = server.address().to_string();
    drop(client);
    server.drain(PATIENCE);
    let all = journal.all();
    assert!(!all.iter().any(|line| line.contains("secret")), "{all:?}");
    for name in ["listener-started", "listener-stopped"] {
        let lines: Vec<_> = all.iter().filter(|line| line.starts_with(name)).collect();
        assert!(lines.len() == 1 && lines[0].contains(&address), "{lines:?}");
    }
}

fn live_list(on: On) {
    let edges = Edges::default();
    let script = Script::new(&Journal::default()).handle(|message, cx| {
        cx.send(cx.id().to_string());
        Ok(if message == b"q" { Next::Close } else { Next::Continue })
    });
    let server = on.spawn(edges.observe(script.server()));
    let mut clients: Vec<Client> = (0..10).map(|_| server.client()).collect();
    let mut ids: Vec<String> = clients.iter_mut().map(|client| client.ask("x")).collect();
    let live = || {
        let mut live: Vec<String> = edges.live().iter().map(ToString::to_string).collect();
        live.sort();
        live
    };
    while let Some(mut client) = clients.pop() {
        let mut expected = ids.clone();
        expected.sort();
        eventually("the list is right", || live() == expected);
        assert_eq!(Some(client.ask("q")), ids.pop());
    }
    eventually("nobody is left", || live().is_empty());
}

fn thread_names(on: On) {
    let server = on.play(Script::new(&Journal::default()));
    assert_eq!(server.client().ask("x"), "X");
    let serving = threads_named("switchboard").len();
    assert!(serving >= if on.is_inline() { 1 } else { 2 }, "{serving} threads of ours");
    if on.concurrency != modes::inline() {
        assert!(!threads_named("switchboard-").is_empty(), "workers say that they are some");
    }
    drop(server);
    eventually("they are gone", || threads_named("switchboard").is_empty());
}

fn gauge(on: On) {
    let balance = Arc::new(AtomicI64::new(0));
    let counted = balance.clone();
    let server = failing().server().observer(move |event: &Event<'_>| match event.name() {
        "connection-opened" | "session-begun" => drop(counted.fetch_add(1, Ordering::SeqCst)),
        "connection-closed" | "session-ended" => drop(counted.fetch_sub(1, Ordering::SeqCst)),
        _ => {}
    });
    let server = on.spawn(server);
    let stay: Vec<Client> = std::thread::scope(|scope| {
        let tumult = |seed: usize| {
            let server = &server;
            move || {
                let mut stay = Vec::new();
                for round in 0..30 {
                    let mut client = server.client();
                    match (seed + round) % 4 {
                        0 => client.say("error"),
                        1 => client.say("panic"),
                        2 => {
                            assert_eq!(client.ask("x"), "x");
                            client.vanish();
                        }
                        _ if round % 10 == 3 => {
                            assert_eq!(client.ask("stays"), "stays");
                            stay.push(client);
                        }
                        _ => drop(client.ask("x")),
                    }
                }
                stay
            }
        };
        let threads: Vec<_> = (0..4).map(|seed| scope.spawn(tumult(seed))).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("it ends")).collect()
    });
    let open = || {
        let status = server.status();
        (status.connections_open + status.sessions_open) as i64
    };
    // (Sessions of datagrams stay until they are idle.)
    let least = stay.len() as i64;
    eventually("the gauge and the events agree", || {
        open() == balance.load(Ordering::SeqCst) && (on.is_datagram() || open() == least)
    });
    assert!(open() >= least);
}
