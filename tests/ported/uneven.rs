//! What Python's `socketserver` promises, or does wrong, and does not test: X1 to X13.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{after, bounded};
use parking_lot::Mutex;
use rustix::process::{Signal, getpid, kill_process};
use switchboard::{Event, Next, Peer, Served, Server, ServerHandle, Verdict};

use crate::harness::{Client, Journal, On, PATIENCE, Script, eventually};
use crate::row::{ALL, DATAGRAMS, EVERY, INLINE, POOL, Row, STREAMS, TCP, beyond};

pub(crate) const ROWS: &[Row] = &[
    beyond("X6", "Serving one times out when it was told to", (INLINE, ALL), times_out),
    beyond("X1", "An idle server stops at once", (EVERY, ALL), stops_at_once),
    beyond(
        "X2",
        "A drain from a handler, from two threads and twice returns",
        (EVERY, ALL),
        drains,
    ),
    beyond("X2", "A signal drains the server", (POOL, TCP), signal).alone(),
    beyond("X3", "A drain before serving, and of a server that never serves", (EVERY, ALL), early),
    beyond(
        "X4",
        "A panic of factory, filter, observer or tick ends nobody else",
        (EVERY, ALL),
        hooks,
    ),
    beyond("X5", "Nobody is served after the end", (EVERY, STREAMS), after_the_end),
    beyond(
        "X7",
        "A setup that fails: no message, no finish, one report",
        (EVERY, ALL),
        setup_fails,
    ),
    beyond("X8", "A handler that fails is finished once", (EVERY, ALL), handle_fails),
    beyond("X9", "A silent datagram handler sends nothing", (EVERY, DATAGRAMS), silence),
    beyond(
        "X10",
        "A datagram of a byte too much is told and counted",
        (EVERY, DATAGRAMS),
        too_long,
    ),
    beyond("X11", "An empty datagram is a message", (EVERY, DATAGRAMS), empty_datagram),
    beyond("X11", "A read of nothing is the end of the stream", (EVERY, STREAMS), zero_read),
    beyond(
        "X12",
        "A datagram's reply under way arrives during a drain",
        (EVERY, DATAGRAMS),
        under_way,
    ),
    beyond(
        "X13",
        "A drain closes the idle and lets the active finish",
        (EVERY, STREAMS),
        idle_and_active,
    ),
];

fn stops_at_once(on: On) {
    let journal = Journal::default();
    let best = (0..5).map(|_| {
        let server = on.play(Script::new(&journal));
        server.client().ask("x");
        let began = Instant::now();
        let report = server.stop();
        assert_eq!(report.stuck, 0, "{report}");
        began.elapsed()
    });
    let best = best.min().expect("five of them");
    assert!(best < Duration::from_millis(20), "the best of five took {best:?}");
}

fn drains(on: On) {
    let own: Arc<Mutex<Option<ServerHandle>>> = Arc::default();
    let known = own.clone();
    let server = on.play(Script::new(&Journal::default()).handle(move |_, cx| {
        let handle = known.lock().clone().ok_or_else(|| io::Error::other("no handle"))?;
        handle.drain(PATIENCE);
        handle.drain(PATIENCE);
        handle.begin_drain(PATIENCE);
        handle.join();
        cx.send("returned");
        Ok(Next::Close)
    }));
    *own.lock() = Some((*server).clone());
    let mut client = server.client();
    client.say("x");
    assert_eq!(client.hear(), "returned");
    let reports = std::thread::scope(|scope| {
        let drains = [0, 1].map(|_| scope.spawn(|| [server.drain(PATIENCE), server.join()]));
        drains.map(|drain| drain.join().expect("it returns"))
    });
    assert_eq!(reports[0], reports[1]);
    assert_eq!((reports[0][0].completed, reports[0][0].stuck), (1, 0), "{}", reports[0][0]);
    own.lock().take();
}

fn signal(on: On) {
    let bound = on.listening(Script::new(&Journal::default()).server()).bind().expect("bound");
    let bound = bound.watch_signals().expect("it hears of signals");
    let (address, journal) = (bound.addresses()[0].clone(), Journal::default());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = Client::of(&address);
            assert_eq!(client.ask("x"), "X");
            kill_process(getpid(), Signal::TERM).expect("a signal to ourselves");
            client.hears_only("");
            journal.note("told");
        });
        let outcome = bound.run_until_signal().expect("it serves");
        assert_eq!((outcome.exit_status(), outcome.report().told), (0, 1));
    });
    journal.wait_for("told");
}

fn early(on: On) {
    let journal = Journal::default();
    let bound = on.listening(Script::new(&journal).server()).bind().expect("bound");
    let handle = bound.handle();
    assert!(handle.drain(PATIENCE).is_clean(), "nobody serves yet");
    let report = bound.serve().expect("it has nothing to do");
    assert_eq!((report.is_clean(), handle.join() == report), (true, true), "{report}");
    let never = on.listening(Script::new(&journal).server()).bind().expect("bound").handle();
    assert!(never.drain(PATIENCE).is_clean());
    assert!(never.stop().is_clean() && never.join().is_clean());
}

fn hooks(on: On) {
    let count = || {
        let count = AtomicUsize::new(0);
        move || count.fetch_add(1, Ordering::SeqCst)
    };
    let (made, looked, journal) = (count(), count(), Journal::default());
    let server = Server::new(move |_: &Peer| {
        assert!(made() != 0, "planned: the first factory");
        Script::new(&journal)
    });
    let server = server
        .filter(move |_| {
            assert!(looked() != 1, "planned: the second look");
            Verdict::Accept
        })
        .observer(|_: &Event<'_>| panic!("planned: an observer"))
        .on_tick(Duration::from_millis(5), |_| panic!("planned: a tick"));
    let server = on.spawn(server);
    // One of each kind, one after another: whoever meets the panic is gone, and nobody else.
    for _ in 0..2 {
        let before = ended(&server);
        let mut unlucky = server.client();
        if on.is_datagram() {
            unlucky.say("x");
        } else {
            assert!(unlucky.is_cut_off());
        }
        eventually("it has ended", || ended(&server) == before + 1);
    }
    eventually("a tick has panicked", || server.stats().tick_panics > 0);
    for _ in 0..3 {
        assert_eq!(server.client().ask("x"), "X");
    }
    assert!(server.stats().observer_panics > 0);
}

fn ended(server: &ServerHandle) -> u64 {
    let stats = server.stats();
    stats.connections_closed().chain(stats.sessions_closed()).map(|(_, count)| count).sum()
}

fn after_the_end(on: On) {
    let server = on.play(Script::new(&Journal::default()));
    assert_eq!(server.client().ask("x"), "X");
    server.stop();
    assert!(Client::try_of(server.address()).is_err());
}

fn times_out(on: On) {
    let listening = on.listening(Script::new(&Journal::default()).server());
    let mut server = listening.bind().expect("bound");
    let least = Duration::from_millis(200);
    let took = (0..3).map(|_| {
        let began = Instant::now();
        assert_eq!(server.serve_one(least).expect("nothing is refused"), Served::TimedOut);
        began.elapsed()
    });
    let took: Vec<_> = took.collect();
    assert!(took.iter().all(|took| *took >= least), "{took:?}");
    assert!(took.iter().min() < Some(&Duration::from_millis(220)), "{took:?}");
}

fn setup_fails(on: On) {
    let (journal, told) = (Journal::default(), Journal::default());
    let (tried, noted) = (AtomicUsize::new(0), told.clone());
    let script = Script::new(&journal).setup(move |_| match tried.fetch_add(1, Ordering::SeqCst) {
        0 => Err(io::Error::other("not today")),
        _ => Ok(Next::Continue),
    });
    let server = on.spawn(script.server().observer(move |event: &Event<'_>| {
        if let Event::ConnectionClosed { reason, .. } | Event::SessionEnded { reason, .. } = event {
            noted.note(reason.to_string());
        }
    }));
    let mut client = server.client();
    if on.is_datagram() {
        client.say("x");
    } else {
        client.hears_only("");
    }
    told.wait_for("handler-err: not today");
    assert_eq!(server.client().ask("a"), "A");
    drop(server);
    assert_eq!(told.count("handler-err"), 1);
    let all = journal.all();
    assert_eq!(all[..3], ["setup", "setup", "handle a"], "{all:?}");
    assert_eq!(journal.count("finish"), 1, "the second one's");
}

fn handle_fails(on: On) {
    let journal = Journal::default();
    let script = Script::new(&journal).handle(|_, _| Err(io::Error::other("no")));
    let server = on.play(script);
    let mut client = server.client();
    client.say("x");
    journal.wait_for("finish handler-err: no");
    if !on.is_datagram() {
        client.hears_only("");
    }
    drop(server);
    assert_eq!(journal.all(), ["setup", "handle x", "finish handler-err: no"]);
}

fn silence(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal).handle(|message, cx| {
        if message == b"speak" {
            cx.send("spoken");
        }
        Ok(Next::Continue)
    }));
    let mut client = server.client();
    (0..10).for_each(|_| client.say("hush"));
    assert_eq!(client.ask("speak"), "spoken");
    eventually("it is counted", || server.stats().datagrams_sent == 1);
}

pub(crate) fn too_long(on: On) {
    let journal = Journal::default();
    let script = Script::new(&journal).rejected(|_, _| Ok(Next::Continue));
    let server = on.spawn(script.server().max_datagram(1_000));
    let mut client = server.client();
    for length in [1_000, 1_001, 65_507, 999] {
        client.send_bytes(&vec![b'x'; length]);
    }
    assert_eq!([client.hear().len(), client.hear().len()], [1_000, 999]);
    assert_eq!(journal.count("rejected datagram larger than the receive buffer of 1000"), 2);
    let stats = server.stats();
    let truncated = stats.datagrams_dropped().find(|(name, _)| *name == "truncated");
    assert_eq!((stats.datagrams_received, truncated), (4, Some(("truncated", 2))));
    assert_eq!(stats.datagrams_handled, 2);
}

pub(crate) fn empty_datagram(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal).handle(|message, cx| {
        cx.send(format!("{} bytes", message.len()));
        Ok(Next::Continue)
    }));
    let mut client = server.client();
    for _ in 0..3 {
        assert_eq!(client.ask(""), "0 bytes");
    }
    assert_eq!(client.ask("abc"), "3 bytes");
    assert_eq!((journal.count("setup"), journal.count("finish")), (1, 0));
}

fn zero_read(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal));
    let mut client = server.client();
    assert_eq!(client.ask(""), "", "an empty line is none");
    client.finish_sending();
    client.hears_only("");
    journal.wait_for("finish peer-eof");
    assert_eq!(journal.count("handle"), 1);
}

fn under_way(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal).handle(|message, cx| {
        cx.block(|| after(Duration::from_millis(300)).recv()).map_err(io::Error::other)?;
        cx.send(message);
        Ok(Next::Continue)
    }));
    let mut client = server.client();
    client.say("slowly");
    journal.wait_for("handle slowly");
    let report = server.drain(PATIENCE);
    assert!(report.is_clean() && report.took < Duration::from_secs(10), "{report}");
    assert_eq!(client.hear(), "slowly");
}

fn idle_and_active(on: On) {
    let journal = Journal::default();
    let (open, wait) = bounded::<()>(1);
    let server = on.play(Script::new(&journal).handle(move |message, cx| {
        if message == b"work" {
            cx.block(|| wait.recv_timeout(PATIENCE)).map_err(io::Error::other)?;
        }
        cx.send(message);
        Ok(if message == b"work" { Next::Close } else { Next::Continue })
    }));
    let (mut idle, mut active) = (server.client(), server.client());
    assert_eq!(idle.ask("x"), "x");
    active.say("work");
    journal.wait_for("handle work");
    server.begin_drain(PATIENCE);
    open.send(()).expect("it waits");
    let report = server.join();
    assert_eq!((report.completed, report.told, report.forced), (1, 1, 0), "{report}");
    idle.hears_only("");
    active.hears_only("work\n");
}
