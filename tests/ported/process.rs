//! Rows that look at the whole process: descriptors, threads, memory. Each has a process of its own.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use switchboard::{Concurrency, Event, Next, Server, handler_fn};

use crate::harness::{
    Client, Footprint, Journal, On, PATIENCE, Script, eventually, modes, settled, threads_named,
};
use crate::row::{ALL, EVERY, PARKING, Row, STREAMS, TCP, THREADS, acceptors, beyond, python};

pub(crate) const ROWS: &[Row] = &[
    python("15", "A thousand binds that fail leak nothing", (EVERY, ALL), failing_binds).alone(),
    python("27", "Threads are reaped", (THREADS, STREAMS), threads_are_reaped).alone(),
    beyond(
        "X15",
        "Without a thread the others go on, and the next waits",
        (THREADS, TCP),
        no_thread,
    )
    .alone(),
    beyond(
        "X20",
        "Thousands of idle connections cost no thread and delay nobody",
        (PARKING, STREAMS),
        idle,
    )
    .alone(),
    beyond(
        "X27",
        "A hundred thousand short connections do not grow the process",
        (EVERY, TCP),
        short,
    )
    .alone(),
    acceptors("60", "Ten thousand panics grow nothing, and hurt nobody else", (EVERY, ALL), panics)
        .alone(),
];

fn failing_binds(on: On) {
    let journal = Journal::default();
    // (Inline: to be looked at is a connection to a Unix socket, and none is to start a thread.)
    let taken = on.under(Concurrency::Inline).play(Script::new(&journal));
    assert_eq!(taken.client().ask("x"), "X");
    eventually("the client has left", || taken.stats().connections_open == 0);
    let before = Footprint::at_rest();
    for _ in 0..1_024 {
        let again = on.listening_on(Script::new(&journal).server(), taken.address());
        assert!(again.bind().is_err());
    }
    settled(before);
}

fn threads_are_reaped(on: On) {
    let server = on.play(Script::new(&Journal::default()));
    for _ in 0..10 {
        assert_eq!(server.client().ask("x"), "X");
        eventually("it has left", || server.stats().connections_open == 0);
    }
    let threads = threads_named("switchboard-").len();
    assert!(threads < 10, "{threads} threads for ten clients, one after another");
}

/// What this process takes, in bytes: `VmSize` is mapped, `VmRSS` in memory.
fn memory(what: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("what the kernel says of us");
    let mut lines =
        status.lines().filter_map(|line| line.strip_prefix(what)?.split_whitespace().nth(1));
    lines.next().and_then(|kilobytes| kilobytes.parse::<u64>().ok()).expect("a number") * 1024
}

fn no_thread(on: On) {
    let told = Journal::default();
    let noted = told.clone();
    let server = Script::new(&Journal::default()).server();
    let server = on.spawn(server.observer(move |event: &Event<'_>| noted.note(event.name())));
    let mut first = server.client();
    assert_eq!(first.ask("x"), "X");
    let limits = getrlimit(Resource::As);
    // A thread's stack is 2 MiB.
    let narrow = Rlimit { current: Some(memory("VmSize") + 1024 * 1024), maximum: limits.maximum };
    setrlimit(Resource::As, narrow).expect("a limit of our own");
    let mut waiting: Vec<Client> = (0..8).map(|_| server.client()).collect();
    waiting.iter_mut().for_each(|client| client.say("y"));
    told.wait_for("thread-failed");
    assert_eq!(first.ask("still here"), "STILL HERE");
    setrlimit(Resource::As, limits).expect("what it was");
    waiting.iter_mut().for_each(|client| assert_eq!(client.hear(), "Y"));
    assert!(server.drain(PATIENCE).is_clean());
}

/// As many idle connections as the descriptor limit leaves room for, at most five thousand.
fn room_for_connections() -> usize {
    let most = getrlimit(Resource::Nofile).current.unwrap_or(20_000) as usize;
    // Both ends are in this process.
    (most.saturating_sub(400) / 2).min(5_000)
}

fn idle(on: On) {
    let before = Footprint::now();
    {
        let on = if on.is_inline() { on } else { on.under(Concurrency::pool(4)) };
        let server = on.play(Script::new(&Journal::default()));
        let mut idle: Vec<Client> = (0..room_for_connections()).map(|_| server.client()).collect();
        eventually("all are accepted", || server.stats().connections_open == idle.len());
        let threads = threads_named("switchboard").len();
        assert!(threads <= 4 + 3, "{threads} threads");
        let best = (0..10).map(|_| {
            let began = Instant::now();
            assert_eq!(server.client().ask("new"), "NEW");
            began.elapsed()
        });
        assert!(best.min() < Some(Duration::from_millis(50)), "a newcomer waits");
        for client in idle.iter_mut().step_by(97) {
            assert_eq!(client.ask("still there"), "STILL THERE");
        }
        let began = Instant::now();
        let report = server.drain(PATIENCE);
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        assert!(report.is_clean(), "{report}");
        idle.iter_mut().for_each(|client| client.hears_only(""));
    }
    settled(before);
}

fn short(on: On) {
    // (A `Script` keeps a journal, which grows.)
    let server = on.spawn(Server::new(|_| {
        handler_fn(|message, cx| {
            cx.send(message);
            Ok(Next::Close)
        })
    }));
    let rounds = |count| {
        for _ in 0..count {
            server.client().hears_only_after("x", "x\n");
        }
    };
    rounds(5_000);
    let before = memory("VmRSS");
    rounds(100_000);
    let grown = memory("VmRSS").saturating_sub(before);
    assert!(grown < 4 * 1024 * 1024, "{grown} bytes more");
    assert_eq!(server.stats().connections_accepted, 105_000);
}

fn panics(on: On) {
    let before = Footprint::now();
    {
        let server = on.play(Script::new(&Journal::default()).handle(|message, cx| {
            assert!(message != b"panic", "planned: ten thousand of them");
            cx.send(message);
            Ok(Next::Continue)
        }));
        let most = if on.concurrency == modes::threads() { 40 } else { 100 };
        let mut others: Vec<Client> = (0..most).map(|_| server.client()).collect();
        let mut sender = on.is_datagram().then(|| server.client());
        let panicked = || {
            let stats = server.stats();
            let closed = stats.connections_closed().chain(stats.sessions_closed());
            closed.filter(|(name, _)| *name == "handler-panic").map(|(_, count)| count).sum::<u64>()
        };
        for round in 1..=100 {
            for _ in 0..100 {
                match &mut sender {
                    Some(client) => client.say("panic"),
                    None => server.client().hears_only_after("panic", ""),
                }
            }
            eventually("all have panicked", || panicked() == 100 * round);
            let message = format!("x{round}");
            others.iter_mut().for_each(|client| assert_eq!(client.ask(&message), message));
        }
        let threads = threads_named("switchboard").len();
        let most = if on.concurrency == modes::threads() { 64 + 3 } else { 8 + 3 };
        assert!(threads <= most, "{threads} threads");
        let stats = server.stats();
        assert_eq!(stats.connections_open + stats.sessions_open, others.len(), "the others");
    }
    settled(before);
}
