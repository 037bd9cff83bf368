//! Limits changed while the server runs: from anywhere, at once, exactly, and without losing anybody.

mod harness;

use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use harness::{Client, Journal, On, PATIENCE, Running, Script, eventually, matrix};
use parking_lot::Mutex;
use switchboard::{
    CloseReason, ErrorKind, Framing, Next, Overflow, Remote, Server, ServerHandle, handler_fn,
};

matrix! {
    a_lowered_limit_drops_nobody_and_admits_nobody_until_fewer_are_open: [tcp unix];
    a_raised_limit_lets_those_in_who_are_queued_at_once: [tcp unix];
    a_shorter_idle_timeout_reaches_those_who_wait_already: [tcp unix udp unixgram];
    a_longer_idle_timeout_spares_those_who_wait_already: [tcp udp];
    a_shorter_message_timeout_reaches_a_message_under_way: [tcp];
    a_shorter_write_timeout_reaches_a_stalled_peer: [tcp unix];
    the_overflow_policy_and_its_limit_change_between_two_messages: [tcp unix];
    a_drain_that_nobody_gave_a_time_takes_the_new_one: [tcp unix udp unixgram];
    fewer_sessions_end_those_used_longest_ago: [udp unixgram];
    a_full_table_of_sessions_in_use_drops_the_newcomer_and_goes_on: [udp unixgram];
    limits_change_from_inside_a_handler: [tcp unix udp unixgram];
    limits_change_before_serving_and_after_the_end: [tcp unix udp unixgram];
    limits_changed_at_random_under_load_are_never_exceeded: [tcp];
}

fn a_lowered_limit_drops_nobody_and_admits_nobody_until_fewer_are_open(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal));
    let mut clients: Vec<Client> = (0..3).map(|_| server.client()).collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.ask("x"), "X"));
    server.set_max_connections(1).expect("a limit");
    let mut next = server.client();
    next.say("let me in");
    for client in &mut clients {
        assert_eq!(client.ask("still here"), "STILL HERE");
    }
    let mut left = |count: usize, closed: u64| {
        clients.truncate(count);
        eventually("one has left", || server.stats().closed_for(&CloseReason::PeerEof) == closed);
    };
    left(2, 1);
    left(1, 2);
    assert_eq!(server.stats().connections_accepted, 3, "one is open, and one may be");
    left(0, 3);
    assert_eq!(next.hear(), "LET ME IN");
}

fn a_raised_limit_lets_those_in_who_are_queued_at_once(on: On) {
    let journal = Journal::default();
    let server = on.spawn(Script::new(&journal).server().max_connections(1));
    let mut first = server.client();
    assert_eq!(first.ask("x"), "X");
    let mut queued: Vec<Client> = (0..3).map(|_| server.client()).collect();
    queued.iter_mut().for_each(|client| client.say("queued"));
    // Twice: the listener has come to rest, and comes to rest again.
    for limit in [2, 4] {
        server.set_max_connections(limit).expect("a limit");
        eventually("as many are in as may be", || server.stats().connections_open == limit);
    }
    queued.iter_mut().for_each(|client| assert_eq!(client.hear(), "QUEUED"));
}

fn a_shorter_idle_timeout_reaches_those_who_wait_already(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal));
    let mut clients: Vec<Client> = (0..3).map(|_| server.client()).collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.ask("x"), "X"));
    let began = Instant::now();
    server.set_idle_timeout(Duration::from_millis(50)).expect("a timeout");
    journal.wait_for_so_many(3, "finish idle-timeout");
    assert!(began.elapsed() < Duration::from_secs(10), "their timers stood at five minutes");
}

fn a_longer_idle_timeout_spares_those_who_wait_already(on: On) {
    let journal = Journal::default();
    let server = on.spawn(Script::new(&journal).server().idle_timeout(Duration::from_millis(1500)));
    let mut spared = server.client();
    assert_eq!(spared.ask("x"), "X");
    server.set_idle_timeout(None).expect("never");
    // For longer than the old timeout there is nothing to hear: no goodbye, no end.
    let old_is_over = crossbeam_channel::after(Duration::from_millis(1800));
    let _ = old_is_over.recv();
    assert_eq!(spared.ask("y"), "Y");
    assert_eq!(journal.count("idle"), 0);
}

fn a_shorter_message_timeout_reaches_a_message_under_way(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal));
    let mut slow = server.client();
    assert_eq!(slow.ask("x"), "X");
    slow.send_bytes(b"no end of l");
    eventually("a part has arrived", || server.stats().bytes_received == 13);
    server.set_message_timeout(Duration::from_millis(50)).expect("a timeout");
    journal.wait_for("finish slow-read");
    assert!(slow.is_cut_off());
}

fn a_shorter_write_timeout_reaches_a_stalled_peer(on: On) {
    let journal = Journal::default();
    let script = Script::new(&journal).handle(|_, cx| {
        cx.send(vec![b'x'; 16 << 20]);
        Ok(Next::Continue)
    });
    // So much may wait that the handler does not: the connection is parked with it.
    let server = script.server().outbox_limit(64 << 20);
    let server = Running::of(on.framed(server, Framing::raw()));
    let mut deaf = server.client();
    deaf.send_bytes(b"everything");
    eventually("it has sent what the peer takes", || server.stats().bytes_sent > 0);
    server.set_write_timeout(Duration::from_millis(50)).expect("a timeout");
    journal.wait_for("finish slow-write");
    assert!(deaf.is_cut_off());
}

fn the_overflow_policy_and_its_limit_change_between_two_messages(on: On) {
    let journal = Journal::default();
    let remotes: Arc<Mutex<Vec<Remote>>> = Arc::default();
    let known = remotes.clone();
    let script = Script::new(&journal).setup(move |cx| {
        known.lock().push(cx.remote());
        Ok(Next::Continue)
    });
    let server = Running::of(on.framed(script.server(), Framing::raw()));
    let _deaf = server.client();
    journal.wait_for("setup");
    eventually("it has a remote", || !remotes.lock().is_empty());
    let remote = remotes.lock()[0].clone();
    server.set_overflow(Overflow::DropNewest);
    server.set_outbox_limit(256 * 1024).expect("a limit");
    let piece = vec![b'y'; 64 * 1024];
    let filled = (0..1000).find(|_| remote.send(&piece).is_err());
    assert!(filled.is_some(), "the outbox has a limit");
    assert!(remote.is_open(), "and only the message is dropped");
    server.set_outbox_limit(1024 * 1024).expect("a limit");
    remote.send(&piece).expect("more may wait now");
    server.set_outbox_limit(256 * 1024).expect("a limit");
    server.set_overflow(Overflow::Disconnect);
    assert!(remote.send(&piece).is_err());
    journal.wait_for("finish overflow");
}

fn a_drain_that_nobody_gave_a_time_takes_the_new_one(on: On) {
    let journal = Journal::default();
    let script = Script::new(&journal).draining(|_| Ok(Next::Continue)).handle(|message, cx| {
        cx.send(message);
        Ok(if message == b"stop" { Next::StopServer } else { Next::Continue })
    });
    let server = on.play(script);
    let mut stays = server.client();
    assert_eq!(stays.ask("x"), "x");
    server.set_drain_timeout(Duration::from_millis(100));
    assert_eq!(server.client().ask("stop"), "stop");
    let began = Instant::now();
    let report = server.join();
    assert_eq!((report.forced, report.stuck), (1, 0), "{report}");
    assert!(began.elapsed() < Duration::from_secs(10), "and not after 20 s");
}

fn fewer_sessions_end_those_used_longest_ago(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal));
    let mut clients: Vec<Client> = (0..4).map(|_| server.client()).collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.ask("x"), "X"));
    server.set_max_sessions(1).expect("a limit");
    journal.wait_for_so_many(3, "finish evicted");
    eventually("one is left", || server.stats().sessions_open == 1);
    server.set_max_sessions(2).expect("a limit");
    assert_eq!(server.client().ask("y"), "Y");
    assert_eq!(clients[3].ask("z"), "Z");
    assert_eq!(journal.count("finish"), 3, "there is room for two again");
}

fn a_full_table_of_sessions_in_use_drops_the_newcomer_and_goes_on(on: On) {
    let journal = Journal::default();
    let script = Script::new(&journal).handle(|message, cx| {
        cx.send(message);
        let span = Duration::from_millis(if message == b"pause" { 300 } else { 0 });
        Ok(if span.is_zero() { Next::Continue } else { Next::Pause(span) })
    });
    let server = on.spawn(script.server().max_sessions(1));
    let mut first = server.client();
    assert_eq!(first.ask("pause"), "pause");
    first.say("waits");
    eventually("it waits", || server.stats().datagrams_received == 2);
    let mut newcomer = server.client();
    newcomer.say("nobody can make room");
    eventually("the newcomer's datagram is dropped", || {
        server.stats().datagrams_dropped().any(|dropped| dropped == ("no-room", 1))
    });
    assert_eq!(first.hear(), "waits");
    assert_eq!(newcomer.ask("now"), "now");
}

/// Sets each of them, to something that hurts nobody.
fn set_everything(handle: &ServerHandle) {
    handle.set_max_connections(20).expect("a limit");
    handle.set_max_sessions(20).expect("a limit");
    handle.set_idle_timeout(Duration::from_secs(60)).expect("a timeout");
    handle.set_message_timeout(None).expect("a timeout");
    handle.set_write_timeout(Duration::from_secs(60)).expect("a timeout");
    handle.set_drain_timeout(Duration::from_secs(1));
    handle.set_outbox_limit(64 * 1024).expect("a limit");
    handle.set_overflow(Overflow::DropOldest);
    for refused in [
        handle.set_max_connections(0),
        handle.set_max_sessions(0),
        handle.set_max_sessions(usize::MAX),
        handle.set_idle_timeout(Duration::ZERO),
        handle.set_message_timeout(Duration::ZERO),
        handle.set_write_timeout(Duration::ZERO),
        handle.set_outbox_limit(31),
    ] {
        assert_eq!(refused.expect_err("it cannot be meant").kind(), ErrorKind::Config);
    }
}

fn limits_change_from_inside_a_handler(on: On) {
    let journal = Journal::default();
    let own: Arc<Mutex<Option<ServerHandle>>> = Arc::default();
    let known = own.clone();
    let server = on.play(Script::new(&journal).handle(move |message, cx| {
        let handle = known.lock().clone().ok_or_else(|| io::Error::other("no handle"))?;
        set_everything(&handle);
        cx.send(message);
        Ok(Next::Continue)
    }));
    *own.lock() = Some((*server).clone());
    let mut clients: Vec<Client> = (0..3).map(|_| server.client()).collect();
    for round in ["one", "two"] {
        clients.iter_mut().for_each(|client| assert_eq!(client.ask(round), round));
    }
    own.lock().take();
}

fn limits_change_before_serving_and_after_the_end(on: On) {
    let journal = Journal::default();
    let bound = on.listening(Script::new(&journal).server()).bind().expect("bound");
    let handle = bound.handle();
    set_everything(&handle);
    handle.set_max_connections(1).expect("a limit");
    handle.set_factory(|_| handler_fn(|_, _| Ok(Next::Close))).expect("a factory");
    let served = bound.spawn().expect("it serves");
    let mut client = Client::of(&served.addresses()[0]);
    client.say("x");
    eventually("somebody was here", || served.stats().messages == 1);
    served.drain(PATIENCE);
    set_everything(&handle);
    set_everything(&served);
    assert_eq!(journal.all(), [""; 0], "the first factory was never asked");
}

/// How many are open, and whether that was ever more than may be.
#[derive(Default)]
struct Census {
    open: AtomicUsize,
    most: AtomicUsize,
}

fn limits_changed_at_random_under_load_are_never_exceeded(on: On) {
    const MOST: usize = 8;
    let census = Arc::new(Census::default());
    let (enters, leaves) = (census.clone(), census.clone());
    let journal = Journal::default();
    let script = Script::new(&journal)
        .setup(move |_| {
            let open = enters.open.fetch_add(1, Ordering::SeqCst) + 1;
            enters.most.fetch_max(open, Ordering::SeqCst);
            Ok(Next::Continue)
        })
        .finish(move |_| {
            leaves.open.fetch_sub(1, Ordering::SeqCst);
        });
    let server = on.spawn(script.server().max_connections(MOST));
    let until = Instant::now() + Duration::from_millis(700);
    let served = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for seed in 1..=3_usize {
            let server = &server;
            scope.spawn(move || {
                let mut random = seed;
                while Instant::now() < until {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(seed);
                    server.set_max_connections(1 + (random >> 33) % MOST).expect("a limit");
                    let span = Duration::from_millis(2000 + (random >> 40) as u64 % 1000);
                    server.set_idle_timeout(span).expect("a timeout");
                    server.set_outbox_limit(4096 + (random >> 35) % 4096).expect("a limit");
                    assert!(server.stats().connections_open <= MOST);
                    let _ = crossbeam_channel::after(Duration::from_millis(1)).recv();
                }
            });
        }
        for _ in 0..12 {
            let (server, served) = (&server, &served);
            scope.spawn(move || {
                while Instant::now() < until {
                    let stream = TcpStream::connect(server.addr()).expect("it is queued");
                    assert_eq!(Client::over(stream).ask("x"), "X");
                    served.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
    });
    // The limit may stand at anything by now; everybody was served all the same.
    assert!(served.load(Ordering::SeqCst) > 12, "{} were served", served.load(Ordering::SeqCst));
    assert!(census.most.load(Ordering::SeqCst) <= MOST, "more were open than ever might be");
    eventually("everybody has left", || server.stats().connections_open == 0);
    assert_eq!(census.open.load(Ordering::SeqCst), 0);
    assert_eq!(server.stats().connections_accepted, served.load(Ordering::SeqCst) as u64);
}

#[test]
fn there_are_never_more_connections_than_threads() {
    let at = "127.0.0.1:0";
    let server = Server::new(|_| handler_fn(|_, _| Ok(Next::Continue))).tcp(at);
    let server = Running::of(server.concurrency(switchboard::Concurrency::threads(2)));
    server.set_max_connections(50).expect("as many as there are threads");
    let _clients: Vec<Client> = (0..3).map(|_| server.client()).collect();
    eventually("two are in", || server.stats().connections_open == 2);
    let _ = crossbeam_channel::after(Duration::from_millis(50)).recv();
    assert_eq!(server.stats().connections_accepted, 2);
}
