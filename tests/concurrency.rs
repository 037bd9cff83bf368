//! A handler that blocks or computes does not hinder the others, as far as its concurrency promises.

mod harness;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use harness::{Client, Gate, Journal, On, PATIENCE, Running, Script, eventually, matrix};
use switchboard::{Concurrency, Datagram, DatagramHandler, Next, Replies, Server};

matrix! {
    batch_mates_of_a_handler_that_blocks_are_answered_at_once in [threads pool]: [tcp unix udp unixgram];
    batch_mates_of_a_handler_that_says_it_blocks_are_answered_at_once in [threads pool]: [tcp unix udp unixgram];
    batch_mates_of_a_handler_that_computes_are_answered in [threads pool]: [tcp unix udp unixgram];
    no_more_handlers_run_than_there_are_workers in [pool]: [tcp unix udp unixgram];
    with_all_workers_blocked_the_rest_still_works in [pool]: [tcp unix udp unixgram];
    with_all_workers_blocked_a_drain_is_told in [pool]: [tcp unix udp unixgram];
    with_all_workers_blocked_connections_are_accepted in [pool]: [tcp unix];
    a_blocked_worker_comes_back_and_works_on in [pool]: [tcp unix udp unixgram];
    inline_runs_one_handler_at_a_time in [inline]: [tcp unix udp unixgram];
    many_clients_are_served_at_once: [tcp unix udp unixgram];
    connections_beyond_the_limit_wait_and_are_served: [tcp unix];
    a_hog_that_pipelines_without_pause_leaves_others_their_turn: [tcp unix];
}

/// What the odd one out does while the others wait for their answers.
#[derive(Clone, Copy)]
enum Busy {
    Blocks,
    SaysItBlocks,
    Computes,
}

/// A server on which "busy" is busy until the gate opens.
fn with_busy(on: On, gate: &Gate, busy: Busy) -> Running {
    let (journal, gate) = (Journal::default(), gate.clone());
    let script = Script::new(&journal).handle(move |message, cx| {
        if message == b"busy" {
            let passed = match busy {
                Busy::Blocks => gate.pass(),
                Busy::SaysItBlocks => cx.block(|| gate.pass()),
                Busy::Computes => gate.pass_by_computing(),
            };
            assert!(passed);
        }
        cx.send(message.to_ascii_uppercase());
        Ok(Next::Continue)
    });
    on.play(script.draining(|cx| {
        cx.send("GOODBYE");
        Ok(Next::Close)
    }))
}

/// Is told of a drain, and sees the end of its connection.
fn is_told(on: On, client: &mut Client) {
    assert_eq!(client.hear(), "GOODBYE");
    if !on.is_datagram() {
        client.hears_only("");
    }
}

/// Sends to a busy handler and to all others in one go, so that their events are fetched together, and
/// measures how long the last of the others waits.
fn wait_beside(on: On, busy: Busy) -> Duration {
    let gate = Gate::default();
    let _opens = gate.open_at_the_end();
    let server = with_busy(on, &gate, busy);
    let mut clients: Vec<Client> = (0..32).map(|_| server.client()).collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.ask("hello"), "HELLO"));
    let mut odd_one = server.client();
    assert_eq!(odd_one.ask("hello"), "HELLO");
    let began = Instant::now();
    odd_one.say("busy");
    clients.iter_mut().for_each(|client| client.say("ping"));
    clients.iter_mut().for_each(|client| assert_eq!(client.hear(), "PING"));
    let waited = began.elapsed();
    gate.wait_for_arrivals(1);
    gate.open();
    assert_eq!(odd_one.hear(), "BUSY");
    waited
}

/// The best of up to thirty probes is within the bound: neighbours may keep the processors busy, but not
/// every time.
#[track_caller]
fn assert_answered_within(bound: Duration, on: On, busy: Busy) {
    let probes: Vec<_> =
        (0..30).map(|_| wait_beside(on, busy)).take_while(|w| *w >= bound).collect();
    assert!(probes.len() < 30, "each of thirty took longer than {bound:?}: {probes:?}");
}

fn batch_mates_of_a_handler_that_blocks_are_answered_at_once(on: On) {
    assert_answered_within(Duration::from_millis(10), on, Busy::Blocks);
}

fn batch_mates_of_a_handler_that_says_it_blocks_are_answered_at_once(on: On) {
    assert_answered_within(Duration::from_millis(10), on, Busy::SaysItBlocks);
}

fn batch_mates_of_a_handler_that_computes_are_answered(on: On) {
    assert_answered_within(Duration::from_secs(1), on, Busy::Computes);
}

/// Blocks the workers of a pool of so many, and a few clients more.
fn blocked_pool(on: On, workers: usize, more: usize) -> (Running, Gate, Vec<Client>) {
    let gate = Gate::default();
    let on = on.under(Concurrency::pool(workers));
    let server = with_busy(on, &gate, Busy::SaysItBlocks);
    let mut clients: Vec<Client> = (0..workers + more).map(|_| server.client()).collect();
    clients.iter_mut().for_each(|client| client.say("busy"));
    gate.wait_for_arrivals(workers);
    (server, gate, clients)
}

fn no_more_handlers_run_than_there_are_workers(on: On) {
    let (journal, gate, running) =
        (Journal::default(), Gate::default(), Arc::new(AtomicUsize::new(0)));
    let _opens = gate.open_at_the_end();
    let (most, at_gate) = (Arc::new(AtomicUsize::new(0)), gate.clone());
    let (now, seen) = (running.clone(), most.clone());
    let on = on.under(Concurrency::pool(3));
    let server = on.play(Script::new(&journal).handle(move |message, cx| {
        seen.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        assert!(cx.block(|| at_gate.pass()));
        now.fetch_sub(1, Ordering::SeqCst);
        cx.send(message);
        Ok(Next::Continue)
    }));
    let mut clients: Vec<Client> = (0..10).map(|_| server.client()).collect();
    clients.iter_mut().for_each(|client| client.say("x"));
    gate.wait_for_arrivals(3);
    // Datagrams wait in the kernel: nobody is free to take them.
    eventually("the others wait", || on.is_datagram() || server.stats().connections_open == 10);
    // Whoever would call in a fourth has had the time to.
    let ticks = crossbeam_channel::tick(Duration::from_millis(1));
    for _ in 0..100 {
        assert_eq!(running.load(Ordering::SeqCst), 3);
        let _ = ticks.recv();
    }
    gate.open();
    clients.iter_mut().for_each(|client| assert_eq!(client.hear(), "x"));
    assert_eq!(most.load(Ordering::SeqCst), 3, "never more than there are workers");
}

fn with_all_workers_blocked_the_rest_still_works(on: On) {
    let (server, gate, mut clients) = blocked_pool(on, 2, 3);
    let _opens = gate.open_at_the_end();
    assert_eq!(server.addresses().len(), 1);
    let stats = server.stats();
    assert!(stats.connections_open + stats.sessions_open >= 2, "{stats:?}");
    server.begin_drain(PATIENCE);
    gate.open();
    for client in &mut clients {
        assert_eq!(client.hear(), "BUSY");
    }
    let report = server.join();
    assert_eq!((report.told, report.forced, report.stuck), (5, 0, 0), "{report}");
}

fn with_all_workers_blocked_a_drain_is_told(on: On) {
    let gate = Gate::default();
    let _opens = gate.open_at_the_end();
    let server = with_busy(on.under(Concurrency::pool(2)), &gate, Busy::SaysItBlocks);
    let mut idle: Vec<Client> = (0..10).map(|_| server.client()).collect();
    idle.iter_mut().for_each(|client| assert_eq!(client.ask("hello"), "HELLO"));
    let mut busy = [server.client(), server.client()];
    busy.iter_mut().for_each(|client| client.say("busy"));
    gate.wait_for_arrivals(2);
    // Nobody is free to tell them, and the gate stays shut until they know.
    server.begin_drain(PATIENCE);
    idle.iter_mut().for_each(|client| is_told(on, client));
    gate.open();
    for client in &mut busy {
        assert_eq!(client.hear(), "BUSY");
        is_told(on, client);
    }
    let report = server.join();
    assert_eq!((report.told, report.forced, report.stuck), (12, 0, 0), "{report}");
}

fn with_all_workers_blocked_connections_are_accepted(on: On) {
    let (server, gate, mut clients) = blocked_pool(on, 2, 0);
    let _opens = gate.open_at_the_end();
    let mut waiting: Vec<Client> = (0..20).map(|_| server.client()).collect();
    waiting.iter_mut().for_each(|client| client.say("ping"));
    eventually("all are accepted", || server.stats().connections_open == 22);
    // And a drain reaches those that are parked, while the gate is shut.
    server.begin_drain(PATIENCE);
    for client in &mut waiting {
        assert_eq!(client.hear(), "PING");
        is_told(on, client);
    }
    gate.open();
    for client in &mut clients {
        assert_eq!(client.hear(), "BUSY");
        is_told(on, client);
    }
}

fn a_blocked_worker_comes_back_and_works_on(on: On) {
    for _ in 0..10 {
        let (server, gate, mut clients) = blocked_pool(on, 3, 2);
        let _opens = gate.open_at_the_end();
        gate.open();
        for client in &mut clients {
            assert_eq!(client.hear(), "BUSY");
            assert_eq!(client.ask("again"), "AGAIN");
        }
        assert_eq!(server.client().ask("new"), "NEW");
    }
}

fn inline_runs_one_handler_at_a_time(on: On) {
    let gate = Gate::default();
    let _opens = gate.open_at_the_end();
    let server = with_busy(on, &gate, Busy::SaysItBlocks);
    let (mut busy, mut other) = (server.client(), server.client());
    assert_eq!(other.ask("before"), "BEFORE");
    busy.say("busy");
    gate.wait_for_arrivals(1);
    other.say("meanwhile");
    assert_eq!(server.stats().messages, if on.is_datagram() { 2 } else { 1 });
    gate.open();
    assert_eq!([busy.hear(), other.hear()], ["BUSY", "MEANWHILE"]);
}

fn many_clients_are_served_at_once(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal));
    std::thread::scope(|scope| {
        for client in 0..32 {
            let server = &server;
            scope.spawn(move || {
                let mut peer = server.client();
                for number in 0..50 {
                    let reply = peer.ask(&format!("client {client} message {number}"));
                    assert_eq!(reply, format!("CLIENT {client} MESSAGE {number}"));
                }
            });
        }
    });
    eventually("all are counted", || server.stats().messages == 32 * 50);
}

fn connections_beyond_the_limit_wait_and_are_served(on: On) {
    let journal = Journal::default();
    let script = Script::new(&journal).handle(|message, cx| {
        cx.send(message);
        Ok(if message == b"q" { Next::Close } else { Next::Continue })
    });
    let server = on.spawn(script.server().max_connections(3));
    let mut clients: Vec<Client> = (0..10).map(|_| server.client()).collect();
    clients.iter_mut().for_each(|client| client.say("hello"));
    for client in &mut clients {
        assert_eq!(client.hear(), "hello");
        assert!(server.stats().connections_open <= 3);
        client.say("q");
        client.hears_only("q\n");
    }
    assert_eq!(server.stats().connections_accepted, 10);
}

fn a_hog_that_pipelines_without_pause_leaves_others_their_turn(on: On) {
    let journal = Journal::default();
    let script = Script::new(&journal).handle(|message, cx| {
        if message != b"hog" {
            cx.send(message);
        }
        Ok(Next::Continue)
    });
    let server = on.play(script);
    let (mut hog, mut other) = (server.client(), server.client());
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let much = "hog\n".repeat(10_000);
            while !over.load(Ordering::SeqCst) {
                hog.send_bytes(much.as_bytes());
            }
        });
        let best = (0..20).map(|_| {
            let began = Instant::now();
            assert_eq!(other.ask("ping"), "ping");
            began.elapsed()
        });
        let best = best.min().expect("twenty of them");
        over.store(true, Ordering::SeqCst);
        assert!(best < Duration::from_millis(100), "{best:?}");
    });
}

/// Blocks on "block" until its gate opens.
struct RawBlock(Gate);

impl DatagramHandler for RawBlock {
    fn handle(&self, datagram: &Datagram<'_>, replies: &mut Replies<'_>) -> std::io::Result<()> {
        if datagram.bytes() == b"block" {
            assert!(self.0.pass());
        }
        replies.send(datagram.bytes().to_ascii_uppercase());
        Ok(())
    }
}

matrix! {
    a_raw_handler_that_blocks_does_not_hinder_others in [threads pool]: [udp unixgram];
}

fn a_raw_handler_that_blocks_does_not_hinder_others(on: On) {
    let gate = Gate::default();
    let _opens = gate.open_at_the_end();
    let server = on.spawn(Server::datagrams(RawBlock(gate.clone())));
    let mut blocked: Vec<Client> = (0..5).map(|_| server.client()).collect();
    blocked.iter_mut().for_each(|client| client.say("block"));
    gate.wait_for_arrivals(5);
    let mut client = server.client();
    for _ in 0..50 {
        assert_eq!(client.ask("ping"), "PING");
    }
    gate.open();
    blocked.iter_mut().for_each(|client| assert_eq!(client.hear(), "BLOCK"));
}
