//! Acceptors: stopping (75 to 86): in order, in time, and whoever asks for it.

use std::cell::Cell;
use std::hint::black_box;
use std::io::{self, BufRead, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use parking_lot::Mutex;
use switchboard::{Address, Event, Next, Server, ServerHandle, Stream, StreamHandler};

use crate::harness::{Client, Gate, Journal, On, PATIENCE, Running, Script, alone, eventually};
use crate::row::{ALL, EVERY, Row, SEVERAL, STREAMS, acceptors};

pub(crate) const ROWS: &[Row] = &[
    acceptors(
        "75",
        "A stop refuses newcomers first, and what runs completes",
        (EVERY, STREAMS),
        stop,
    ),
    acceptors(
        "76",
        "Everybody is told with the socket open, also after suspend and resume",
        (EVERY, ALL),
        goodbye,
    ),
    acceptors(
        "77",
        "A conversation that waits in a read is told at once",
        (EVERY, STREAMS),
        blocked_read,
    ),
    acceptors(
        "77",
        "One that waits within a message may finish it",
        (EVERY, STREAMS),
        blocked_within,
    ),
    acceptors(
        "77",
        "One that waits in a write is told, and may finish it",
        (EVERY, STREAMS),
        blocked_write,
    ),
    acceptors(
        "78",
        "A stop is now, a drain as long as it takes, a stubborn peer is forced",
        (EVERY, ALL),
        modes,
    ),
    acceptors(
        "79",
        "A handler that computes and never looks up is named as stuck",
        (SEVERAL, ALL),
        computing,
    ),
    acceptors(
        "82",
        "Who is accepted at the instant of the drain is counted and served",
        (EVERY, STREAMS),
        at_the_instant,
    ),
    acceptors(
        "83",
        "A request that crosses the close is served whole or not at all",
        (EVERY, STREAMS),
        crossing,
    ),
    acceptors(
        "84",
        "Connections that never sent a byte are closed at once",
        (EVERY, STREAMS),
        never_spoke,
    ),
    acceptors(
        "85",
        "The drain goes on when the thread that began it dies",
        (EVERY, ALL),
        dead_caller,
    ),
    acceptors(
        "86",
        "What ends a server is told once, after its listeners have closed",
        (EVERY, ALL),
        in_order,
    ),
];

fn stop(on: On) {
    let gate = Gate::default();
    let _opens = gate.open_at_the_end();
    let at_gate = gate.clone();
    let server = on.play(Script::new(&Journal::default()).handle(move |message, cx| {
        assert!(cx.block(|| at_gate.pass()));
        cx.send(message);
        Ok(Next::Continue)
    }));
    let mut client = server.client();
    client.say("long work");
    gate.wait_for_arrivals(1);
    server.begin_drain(PATIENCE);
    gate.open();
    client.hears_only("long work\n");
    let report = server.join();
    assert_eq!((report.told, report.forced, report.stuck), (1, 0, 0), "{report}");
    assert!(Client::try_of(server.address()).is_err(), "the server is gone");
}

fn goodbye(on: On) {
    let server = on.play(Script::new(&Journal::default()).draining(|cx| {
        cx.send("GOODBYE");
        Ok(Next::Close)
    }));
    let mut clients: Vec<Client> = (0..10).map(|_| server.client()).collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.ask("x"), "X"));
    server.suspend().expect("it runs");
    server.resume().expect("it was suspended");
    clients.extend((0..10).map(|_| server.client()));
    clients.iter_mut().for_each(|client| assert_eq!(client.ask("y"), "Y"));
    let report = server.drain(PATIENCE);
    for client in &mut clients {
        assert_eq!(client.hear(), "GOODBYE");
        if !on.is_datagram() {
            client.hears_only("");
        }
    }
    assert_eq!((report.told, report.forced, report.stuck), (20, 0, 0), "{report}");
    assert!(report.took < Duration::from_secs(5), "it ends as they end: {report}");
}

/// As fast as other frameworks are asked to be.
const AT_ONCE: Duration = Duration::from_millis(100);

/// A machine that is busy is slow now and then; a server that waits for something is slow each time.
fn best_of_three(took: impl Fn() -> Duration) -> Duration {
    (0..3).map(|_| took()).min().expect("three of them")
}

type Talk = fn(&mut Stream<'_>, &Journal) -> io::Result<Next>;

/// A conversation by its `handle`.
struct Talker(Journal, Talk);

impl StreamHandler for Talker {
    fn handle(&mut self, stream: &mut Stream<'_>) -> io::Result<Next> {
        self.0.note("handle");
        (self.1)(stream, &self.0)
    }
}

fn talks(on: On, journal: &Journal, talk: Talk) -> Running {
    let journal = journal.clone();
    on.spawn(Server::streams(move |_| Talker(journal.clone(), talk)))
}

fn blocked_read(on: On) {
    let took = best_of_three(|| {
        let journal = Journal::default();
        let server = talks(on, &journal, |stream, journal| {
            let mut line = String::new();
            while stream.read_line(&mut line)? > 0 {
                write!(stream, "heard {line}")?;
                stream.flush()?;
                journal.note("heard");
                line.clear();
            }
            assert!(stream.is_draining());
            journal.note("awake");
            writeln!(stream, "goodbye")?;
            Ok(Next::Close)
        });
        let mut client = server.client();
        assert_eq!(client.ask("x"), "heard x");
        journal.wait_for("heard");
        let began = Instant::now();
        server.begin_drain(PATIENCE);
        journal.wait_for("awake");
        let took = began.elapsed();
        client.hears_only("goodbye\n");
        let report = server.join();
        assert_eq!((report.told, report.forced), (1, 0), "{report}");
        took
    });
    assert!(took < AT_ONCE, "the best of three took {took:?}");
}

fn blocked_within(on: On) {
    let journal = Journal::default();
    let server = talks(on, &journal, |stream, journal| {
        let mut first = [0; 5];
        stream.read_exact(&mut first)?;
        journal.note("half");
        let mut rest = String::new();
        stream.read_line(&mut rest)?;
        // It is not woken within its message; it can see it.
        write!(stream, "got {rest}, draining: {}", stream.is_draining())?;
        Ok(Next::Continue)
    });
    let mut client = server.client();
    client.send_bytes(b"half ");
    journal.wait_for("half");
    server.begin_drain(PATIENCE);
    client.send_bytes(b"the other half\n");
    client.hears_only("got the other half\n, draining: true");
    let report = server.join();
    assert_eq!((report.told, report.forced, report.stuck), (1, 0, 0), "{report}");
}

fn blocked_write(on: On) {
    const SIZE: usize = 16 * 1024 * 1024;
    let journal = Journal::default();
    let server = talks(on, &journal, |stream, _| {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        stream.write_all(&vec![0; SIZE])?;
        assert!(stream.is_draining(), "it is told");
        Ok(Next::Close)
    });
    let mut client = server.client();
    client.say("x");
    // It is in the middle of its write: more than the kernel holds is under way.
    client.wait_for_more();
    server.begin_drain(PATIENCE);
    assert_eq!(client.rest().expect("an orderly end").len(), SIZE);
    let report = server.join();
    assert_eq!((report.completed, report.forced, report.stuck), (1, 0, 0), "{report}");
}

/// Whether somebody gets in. (Over TCP a drain answers newcomers nothing until it ends, so that whoever is on
/// the way gets in; over Unix sockets they are refused.)
fn lets_in(address: &Address) -> bool {
    match address.socket_addr() {
        Some(addr) => TcpStream::connect_timeout(&addr, Duration::from_millis(50)).is_ok(),
        None => Client::try_of(address).is_ok(),
    }
}

fn modes(on: On) {
    let server = || {
        let server = on.play(Script::new(&Journal::default()).draining(|_| Ok(Next::Continue)));
        let mut client = server.client();
        assert_eq!(client.ask("x"), "X");
        (server, client)
    };
    let now = best_of_three(|| {
        let (now, mut client) = server();
        let began = Instant::now();
        assert_eq!(now.stop().forced, 1);
        let took = began.elapsed();
        assert!(on.is_datagram() || client.is_cut_off());
        took
    });
    assert!(now < AT_ONCE, "now is now: the best of three took {now:?}");

    let within = Duration::from_millis(400);
    let closed = Cell::new(Duration::MAX);
    let late = best_of_three(|| {
        let (at_deadline, _client) = server();
        let began = Instant::now();
        at_deadline.begin_drain(within);
        // Only the listeners of connections refuse anybody.
        if !on.is_datagram() {
            eventually("nobody is let in any more", || !lets_in(at_deadline.address()));
            closed.set(closed.get().min(began.elapsed()));
        }
        assert_eq!(at_deadline.join().forced, 1);
        let took = began.elapsed();
        assert!(took >= within, "{took:?}");
        took - within
    });
    assert!(late < AT_ONCE, "the best of three came {late:?} after the deadline");
    assert!(on.is_datagram() || closed.get() < within, "not meanwhile: {:?}", closed.get());

    let (unlimited, client) = server();
    unlimited.begin_drain(Duration::from_secs(3600));
    // As it leaves, so the drain ends. (Nobody notices that of who sends datagrams.)
    drop(client);
    if on.is_datagram() {
        assert_eq!(unlimited.stop().forced, 1);
    } else {
        assert_eq!(unlimited.join().completed, 1);
    }
}

fn computing(on: On) {
    // One at a time: it takes a processor.
    let _alone = alone();
    let over = Arc::new(AtomicBool::new(false));
    let (journal, enough) = (Journal::default(), over.clone());
    let server = on.play(Script::new(&journal).handle(move |_, _| {
        let deadline = Instant::now() + PATIENCE;
        let mut number = 0_u64;
        while !enough.load(Ordering::Relaxed) && Instant::now() < deadline {
            number = black_box(number.wrapping_mul(31).wrapping_add(7));
        }
        Ok(Next::Continue)
    }));
    let mut client = server.client();
    client.say("compute");
    journal.wait_for("handle compute");
    let began = Instant::now();
    let report = server.drain(Duration::from_millis(50));
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert_eq!((report.forced, report.stuck), (0, 1), "{report}");
    assert_eq!(report.stuck_peers.len(), 1);
    over.store(true, Ordering::Relaxed);
    journal.wait_for("finish forced");
    eventually("it is gone", || {
        let stats = server.stats();
        stats.connections_open + stats.sessions_open == 0
    });
}

fn at_the_instant(on: On) {
    for _ in 0..10 {
        let server = on.play(Script::new(&Journal::default()));
        let mut clients: Vec<Client> = (0..10).map(|_| server.client()).collect();
        clients.iter_mut().for_each(|client| client.say("just now"));
        let report = server.drain(PATIENCE);
        clients.iter_mut().for_each(|client| client.hears_only("JUST NOW\n"));
        assert_eq!((report.told, report.forced, report.stuck), (10, 0, 0), "{report}");
    }
}

fn crossing(on: On) {
    for _ in 0..10 {
        let handled = Arc::new(AtomicUsize::new(0));
        let count = handled.clone();
        let server = on.play(Script::new(&Journal::default()).handle(move |message, cx| {
            if message == b"crossing" {
                count.fetch_add(1, Ordering::SeqCst);
            }
            cx.send(message);
            Ok(Next::Continue)
        }));
        let mut clients: Vec<Client> = (0..8).map(|_| server.client()).collect();
        clients.iter_mut().for_each(|client| assert_eq!(client.ask("x"), "x"));
        let answered = std::thread::scope(|scope| {
            let (begin, begun) = bounded::<()>(0);
            let asks = scope.spawn(move || {
                let _ = begun.recv_timeout(PATIENCE);
                let answered = |client: &mut Client| {
                    drop(client.try_send(b"crossing\n"));
                    let rest = client.rest().unwrap_or_default();
                    assert!(rest.is_empty() || rest == b"crossing\n", "torn: {rest:?}");
                    !rest.is_empty()
                };
                clients.iter_mut().map(answered).filter(|answered| *answered).count()
            });
            let _ = begin.send(());
            assert!(server.drain(PATIENCE).is_clean());
            asks.join().expect("they hear")
        });
        assert_eq!(handled.load(Ordering::SeqCst), answered, "what was handled was answered");
    }
}

fn never_spoke(on: On) {
    let server = on.play(Script::new(&Journal::default()));
    let mut clients: Vec<Client> = (0..20).map(|_| server.client()).collect();
    eventually("all are accepted", || server.stats().connections_open == 20);
    let began = Instant::now();
    let report = server.drain(PATIENCE);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!((report.told, report.forced), (20, 0), "{report}");
    clients.iter_mut().for_each(|client| client.hears_only(""));
}

fn dead_caller(on: On) {
    let server = on.play(Script::new(&Journal::default()));
    let mut client = server.client();
    assert_eq!(client.ask("x"), "X");
    let handle = (*server).clone();
    let caller = std::thread::Builder::new().spawn(move || {
        handle.begin_drain(PATIENCE);
        panic!("planned: the thread that stops the server");
    });
    assert!(caller.expect("a thread").join().is_err());
    let report = server.join();
    assert_eq!((report.told, report.is_clean()), (1, true), "{report}");
    assert_eq!(server.drain(PATIENCE), report, "and it can be asked again");
}

fn in_order(on: On) {
    let handle: Arc<Mutex<Option<ServerHandle>>> = Arc::default();
    let (journal, known) = (Journal::default(), handle.clone());
    let noted = journal.clone();
    let server = Script::new(&Journal::default()).server();
    let server = on.spawn(server.observer(move |event: &Event<'_>| {
        let name = event.name();
        if ["draining", "listener-stopped", "drained"].contains(&name) {
            noted.note(name);
        }
        if let ("listener-stopped", Some(server)) = (name, &*known.lock()) {
            let left = (server.addresses()[0].clone(), server.stats());
            noted.note(format!("open {}", left.1.connections_open + left.1.sessions_open));
        }
    }));
    *handle.lock() = Some((*server).clone());
    assert_eq!(server.client().ask("x"), "X");
    server.drain(PATIENCE);
    server.drain(PATIENCE);
    server.stop();
    assert_eq!(journal.all(), ["draining", "listener-stopped", "open 0", "drained"]);
    handle.lock().take();
}
