//! Suspended, a server refuses newcomers and keeps its port; whoever is there goes on, and nobody is reset.

mod harness;

use std::io::{self, ErrorKind as Kind};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use harness::{
    Client, Gate, Journal, On, PATIENCE, Running, Script, assert_conserved, eventually,
    listening_socket, matrix, socket_path,
};
use parking_lot::Mutex;
use socket2::{SockFilter, SockRef};
use switchboard::{
    Datagram, DatagramHandler, ErrorKind, Framing, Listen, ListenerState, Next, Replies, Server,
    ServerHandle, ServerStage, handler_fn,
};

matrix! {
    newcomers_are_refused_and_those_who_are_there_go_on: [tcp udp unixgram];
    the_port_is_kept_and_serves_again: [tcp udp unixgram];
    whoever_was_queued_is_served: [tcp];
    a_handshake_that_was_under_way_completes: [tcp];
    whoever_was_queued_at_a_full_server_is_served: [tcp];
    twice_is_as_good_as_once: [tcp udp unixgram];
    a_handler_suspends_and_resumes: [tcp udp unixgram];
    it_works_before_serving: [tcp udp unixgram];
    whoever_was_queued_before_serving_is_served_then: [tcp];
    whoever_was_let_in_by_a_server_that_never_serves_is_told: [tcp];
    a_drain_while_suspended_ends_as_ever: [tcp udp unixgram];
    after_a_drain_nothing_is_resumed: [tcp udp unixgram];
    a_drain_beside_suspend_and_resume_ends: [tcp udp unixgram];
    threads_that_suspend_and_resume_at_once_agree_in_the_end: [tcp udp unixgram];
    a_session_that_ends_is_not_followed_by_another: [udp unixgram];
    ten_cycles_under_load_reset_nobody: [tcp];
    ten_cycles_under_load_keep_the_sums: [udp];
    newcomers_wait_where_they_cannot_be_refused_and_are_served_then: [tcp unix];
    a_drain_serves_those_who_wait_where_they_cannot_be_refused: [tcp unix];
    one_at_a_time_is_suspended_as_well: [tcp udp unixgram];
}

#[track_caller]
fn is_refused(addr: SocketAddr) {
    let refused = TcpStream::connect_timeout(&addr, PATIENCE).expect_err("nobody listens");
    assert_eq!(refused.kind(), Kind::ConnectionRefused);
}

fn dropped(server: &ServerHandle) -> u64 {
    let of = |name| move |(reason, _): &(&str, u64)| *reason == name;
    server.stats().datagrams_dropped().find(of("suspended")).map_or(0, |(_, count)| count)
}

#[track_caller]
fn is_in_state(server: &ServerHandle, state: &ListenerState) {
    assert_eq!(server.status().listeners[0].state, *state);
}

/// A newcomer gets nowhere.
#[track_caller]
fn turns_newcomers_away(on: On, server: &ServerHandle) {
    if on.is_datagram() {
        let before = dropped(server);
        Client::of(&server.addresses()[0]).say("stranger");
        eventually("it is dropped and counted", || dropped(server) == before + 1);
    } else {
        is_refused(server.addresses()[0].socket_addr().expect("an address"));
    }
}

fn newcomers_are_refused_and_those_who_are_there_go_on(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal));
    let mut stays = server.client();
    assert_eq!(stays.ask("x"), "X");
    server.suspend().expect("it runs");
    assert_eq!(server.status().stage, ServerStage::Suspended);
    is_in_state(&server, &ListenerState::Suspended);
    turns_newcomers_away(on, &server);
    assert_eq!(stays.ask("still here"), "STILL HERE");
    turns_newcomers_away(on, &server);
    assert_eq!(journal.count("setup"), 1);
}

fn the_port_is_kept_and_serves_again(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal));
    let mut stays = server.client();
    assert_eq!(stays.ask("x"), "X");
    for _ in 0..2 {
        server.suspend().expect("it runs");
        if !on.is_datagram() {
            #[expect(clippy::disallowed_methods, reason = "it is somebody else's")]
            let taken = TcpListener::bind(server.addr());
            assert!(taken.is_err(), "the port is kept");
        }
        server.resume().expect("it was suspended");
        assert_eq!(server.status().stage, ServerStage::Serving);
        is_in_state(&server, &ListenerState::Accepting);
        assert_eq!(server.client().ask("new"), "NEW");
        assert_eq!(stays.ask("old"), "OLD");
    }
}

fn whoever_was_queued_is_served(on: On) {
    let (journal, gate) = (Journal::default(), Gate::default());
    let _opens = gate.open_at_the_end();
    let at_gate = gate.clone();
    let script = Script::new(&journal).handle(move |message, cx| {
        if message == b"block" {
            at_gate.pass();
        }
        cx.send(message.to_ascii_uppercase());
        Ok(Next::Continue)
    });
    let server = on.play(script);
    let mut first = server.client();
    first.say("block");
    gate.wait_for_arrivals(1);
    // Inline, nobody accepts now.
    let mut queued: Vec<Client> = (0..20).map(|_| server.client()).collect();
    server.suspend().expect("it runs");
    gate.open();
    queued.iter_mut().for_each(|client| assert_eq!(client.ask("queued"), "QUEUED"));
    assert_eq!(first.hear(), "BLOCK");
    turns_newcomers_away(on, &server);
}

fn a_handshake_that_was_under_way_completes(on: On) {
    /// Drops what only acknowledges: the last packet of a handshake.
    const NO_ACKS: [SockFilter; 5] = [
        SockFilter::new(0x30, 0, 0, 13),
        SockFilter::new(0x54, 0, 0, 0x12),
        SockFilter::new(0x15, 0, 1, 0x10),
        SockFilter::new(0x06, 0, 0, 0),
        SockFilter::new(0x06, 0, 0, u32::MAX),
    ];
    let journal = Journal::default();
    let server = on.play(Script::new(&journal));
    let listener = listening_socket(server.addr());
    SockRef::from(&listener).attach_filter(&NO_ACKS).expect("a filter");
    // For the client it is over: what it says next completes the handshake.
    let mut client = server.client();
    assert_eq!(server.stats().connections_accepted, 0);
    std::thread::scope(|scope| {
        let suspends = scope.spawn(|| server.suspend());
        eventually("it is being suspended", || {
            server.status().listeners[0].state == ListenerState::Suspending
        });
        assert_eq!(client.ask("x"), "X");
        suspends.join().expect("it returns").expect("it ran");
    });
    is_in_state(&server, &ListenerState::Suspended);
    turns_newcomers_away(on, &server);
    assert_eq!(client.ask("y"), "Y");
}

fn whoever_was_queued_at_a_full_server_is_served(on: On) {
    let journal = Journal::default();
    let server = on.spawn(Script::new(&journal).server().max_connections(1));
    let mut first = server.client();
    assert_eq!(first.ask("x"), "X");
    let mut queued: Vec<Client> = (0..3).map(|_| server.client()).collect();
    let began = Instant::now();
    server.suspend().expect("it runs");
    assert!(began.elapsed() < Duration::from_secs(5), "it waits for nobody for ever");
    is_in_state(&server, &ListenerState::Suspending);
    drop(first);
    for mut client in queued.drain(..) {
        assert_eq!(client.ask("queued"), "QUEUED");
    }
    eventually("newcomers are refused then", || {
        server.status().listeners[0].state == ListenerState::Suspended
    });
    turns_newcomers_away(on, &server);
    server.resume().expect("it was suspended");
    assert_eq!(server.client().ask("new"), "NEW");
}

fn twice_is_as_good_as_once(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal));
    server.resume().expect("it is no wonder");
    for _ in 0..2 {
        server.suspend().expect("it runs");
        server.suspend().expect("it is suspended");
        turns_newcomers_away(on, &server);
        server.resume().expect("it was suspended");
        server.resume().expect("it runs");
        assert_eq!(server.client().ask("x"), "X");
    }
    // As fast as it goes: a door that has not been shut yet is opened again.
    std::thread::scope(|scope| {
        let suspends = scope.spawn(|| server.suspend());
        eventually("it is suspended", || server.status().stage == ServerStage::Suspended);
        server.resume().expect("it is suspended");
        suspends.join().expect("it returns").expect("it was running");
    });
    assert_eq!(server.client().ask("y"), "Y");
}

/// A script whose handler has a handle: it suspends, or resumes.
fn commanded(journal: &Journal) -> (Script, Arc<Mutex<Option<ServerHandle>>>) {
    let own: Arc<Mutex<Option<ServerHandle>>> = Arc::default();
    let known = own.clone();
    let script = Script::new(journal).handle(move |message, cx| {
        let handle = known.lock().clone().ok_or_else(|| io::Error::other("no handle"))?;
        match message {
            b"suspend" => handle.suspend().map_err(io::Error::other)?,
            b"resume" => handle.resume().map_err(io::Error::other)?,
            _ => {}
        }
        cx.send(message.to_ascii_uppercase());
        Ok(Next::Continue)
    });
    (script, own)
}

fn a_handler_suspends_and_resumes(on: On) {
    let journal = Journal::default();
    let (script, own) = commanded(&journal);
    let server = on.play(script);
    *own.lock() = Some((*server).clone());
    let mut commands = server.client();
    for _ in 0..3 {
        assert_eq!(commands.ask("suspend"), "SUSPEND");
        eventually("it is suspended", || {
            server.status().listeners[0].state == ListenerState::Suspended
        });
        turns_newcomers_away(on, &server);
        assert_eq!(commands.ask("resume"), "RESUME");
        assert_eq!(server.client().ask("x"), "X");
    }
    own.lock().take();
}

fn it_works_before_serving(on: On) {
    let journal = Journal::default();
    let bound = on.listening(Script::new(&journal).server()).bind().expect("bound");
    let handle = bound.handle();
    handle.suspend().expect("it is bound");
    is_in_state(&handle, &ListenerState::Suspended);
    if !on.is_datagram() {
        turns_newcomers_away(on, &handle);
    }
    handle.resume().expect("it was suspended");
    is_in_state(&handle, &ListenerState::Waiting);
    let mut waits = Client::of(&handle.addresses()[0]);
    waits.say("x");
    if on.is_datagram() {
        // It is in the kernel still, and would be a stranger's.
        let served = bound.spawn().expect("it serves");
        assert_eq!(waits.hear(), "X");
        served.stop();
        return;
    }
    handle.suspend().expect("it is bound");
    let served = bound.spawn().expect("it serves");
    assert_eq!(waits.hear(), "X");
    turns_newcomers_away(on, &served);
    served.resume().expect("it was suspended");
    assert_eq!(Client::of(&served.addresses()[0]).ask("y"), "Y");
    served.stop();
}

fn whoever_was_queued_before_serving_is_served_then(on: On) {
    let journal = Journal::default();
    let bound = on.listening(Script::new(&journal).server()).bind().expect("bound");
    let handle = bound.handle();
    let mut queued: Vec<Client> = (0..5).map(|_| Client::of(&handle.addresses()[0])).collect();
    handle.suspend().expect("it is bound");
    assert_eq!(handle.stats().connections_open, 5, "let in, and not served yet");
    assert_eq!(journal.all(), [""; 0]);
    let served = bound.spawn().expect("it serves");
    queued.iter_mut().for_each(|client| assert_eq!(client.ask("x"), "X"));
    turns_newcomers_away(on, &served);
    served.stop();
    assert_conserved(&served.stats());
}

fn whoever_was_let_in_by_a_server_that_never_serves_is_told(on: On) {
    let journal = Journal::default();
    let bound = on.listening(Script::new(&journal).server()).bind().expect("bound");
    let handle = bound.handle();
    let mut queued = Client::of(&handle.addresses()[0]);
    handle.suspend().expect("it is bound");
    drop(bound);
    assert!(queued.is_cut_off());
    assert_eq!(handle.stats().connections_open, 0);
    assert_conserved(&handle.stats());
    assert_eq!(handle.join().forced, 1);
}

fn a_drain_while_suspended_ends_as_ever(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal).draining(|cx| {
        cx.send("goodbye");
        Ok(Next::Close)
    }));
    let mut stays = server.client();
    assert_eq!(stays.ask("x"), "X");
    server.suspend().expect("it runs");
    let report = server.drain(PATIENCE);
    assert_eq!((report.told, report.forced, report.stuck), (1, 0, 0), "{report}");
    assert_eq!(stays.hear(), "goodbye");
    is_in_state(&server, &ListenerState::Closed);
    if !on.is_datagram() {
        #[expect(clippy::disallowed_methods, reason = "it is somebody else's")]
        let free = TcpListener::bind(server.addr());
        drop(free.expect("the port is free"));
    }
}

fn after_a_drain_nothing_is_resumed(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal).draining(|_| Ok(Next::Continue)));
    let mut stays = server.client();
    assert_eq!(stays.ask("x"), "X");
    server.suspend().expect("it runs");
    server.begin_drain(PATIENCE);
    for _ in 0..2 {
        for refused in [server.resume(), server.suspend()] {
            assert_eq!(refused.expect_err("it is drained").kind(), ErrorKind::Over);
        }
    }
    server.stop();
    assert_eq!(server.resume().expect_err("it is over").kind(), ErrorKind::Over);
    let text = server.suspend().expect_err("it is over").to_string();
    assert_eq!(text, "the server is drained: it cannot be suspended");
}

fn a_drain_beside_suspend_and_resume_ends(on: On) {
    for round in 0..4_u64 {
        let journal = Journal::default();
        let server = on.play(Script::new(&journal));
        assert_eq!(server.client().ask("x"), "X");
        std::thread::scope(|scope| {
            scope.spawn(|| while server.suspend().is_ok() {});
            scope.spawn(|| while server.resume().is_ok() {});
            let _ = crossbeam_channel::after(Duration::from_millis(20 * round)).recv();
            let report = server.drain(PATIENCE);
            assert_eq!((report.forced, report.stuck), (0, 0), "{report}");
        });
        is_in_state(&server, &ListenerState::Closed);
    }
}

fn threads_that_suspend_and_resume_at_once_agree_in_the_end(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal));
    let until = Instant::now() + Duration::from_millis(600);
    std::thread::scope(|scope| {
        for number in 0..4 {
            let server = &server;
            scope.spawn(move || {
                while Instant::now() < until {
                    let changed = if number % 2 == 0 { server.suspend() } else { server.resume() };
                    changed.expect("it runs");
                }
            });
        }
    });
    server.suspend().expect("it runs");
    turns_newcomers_away(on, &server);
    server.resume().expect("it was suspended");
    assert_eq!(server.client().ask("x"), "X");
}

fn a_session_that_ends_is_not_followed_by_another(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal).handle(|message, cx| {
        cx.send(message);
        Ok(if message == b"bye" { Next::Close } else { Next::Continue })
    }));
    let mut stays = server.client();
    assert_eq!(stays.ask("x"), "x");
    server.suspend().expect("it runs");
    assert_eq!(stays.ask("bye"), "bye");
    journal.wait_for("finish done");
    stays.say("a stranger by now");
    eventually("it is dropped", || dropped(&server) == 1);
    server.resume().expect("it was suspended");
    assert_eq!(stays.ask("new"), "new");
    assert_eq!(journal.count("setup"), 2);
}

/// Suspends and resumes ten times. Whoever's first packet is dropped tries again a second later: the
/// cycles are uneven, so that it does not meet the same again.
fn ten_cycles(server: &ServerHandle) {
    for round in 0..10_u64 {
        server.suspend().expect("it runs");
        let _ = crossbeam_channel::after(Duration::from_millis(60 + 17 * round)).recv();
        server.resume().expect("it was suspended");
        let _ = crossbeam_channel::after(Duration::from_millis(240 - 13 * round)).recv();
    }
}

fn ten_cycles_under_load_reset_nobody(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal));
    let (over, served, refused) =
        (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                while !over.load(Ordering::SeqCst) {
                    match TcpStream::connect_timeout(&server.addr(), PATIENCE) {
                        Ok(stream) => {
                            let mut client = Client::over(stream);
                            assert_eq!(client.ask("connected"), "CONNECTED");
                            served.fetch_add(1, Ordering::SeqCst);
                        }
                        Err(error) => {
                            assert_eq!(error.kind(), Kind::ConnectionRefused, "{error}");
                            refused.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                }
            });
        }
        ten_cycles(&server);
        over.store(true, Ordering::SeqCst);
    });
    let (served, refused) = (served.into_inner(), refused.into_inner());
    assert!(served > 10 && refused > 0, "{served} served, {refused} refused");
    eventually("everybody has left", || server.stats().connections_open == 0);
    assert_eq!(server.stats().connections_accepted, served as u64);
}

fn ten_cycles_under_load_keep_the_sums(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal));
    let mut stays = server.client();
    assert_eq!(stays.ask("x"), "X");
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(Ordering::SeqCst) {
                    server.client().say("stranger");
                    let _ = crossbeam_channel::after(Duration::from_millis(1)).recv();
                }
            });
        }
        scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                assert_eq!(stays.ask("y"), "Y");
            }
        });
        ten_cycles(&server);
        over.store(true, Ordering::SeqCst);
    });
    assert!(dropped(&server) > 0, "strangers came while it was suspended");
}

fn one_at_a_time_is_suspended_as_well(on: On) {
    let journal = Journal::default();
    let script = Script::new(&journal).handle(|message, cx| {
        cx.send(message.to_ascii_uppercase());
        Ok(Next::Close)
    });
    let mut bound = on.listening(script.server()).bind().expect("bound");
    let handle = bound.handle();
    handle.suspend().expect("it is bound");
    if !on.is_datagram() {
        turns_newcomers_away(on, &handle);
    }
    let served = bound.serve_one(Duration::from_millis(50)).expect("nothing is refused");
    assert_eq!(served, switchboard::Served::TimedOut);
    handle.resume().expect("it was suspended");
    let mut client = Client::of(&handle.addresses()[0]);
    client.say("x");
    bound.serve_one(PATIENCE).expect("nothing is refused");
    assert_eq!(client.hear(), "X");
}

/// A server at a Unix socket, or at one that the program has bound: there nobody can be refused.
fn holding(on: On, script: Script) -> Running {
    let server = script.server().concurrency(on.concurrency).framing(Framing::lines());
    Running::of(if on.is_unix() {
        server.unix(socket_path("holding"))
    } else {
        #[expect(clippy::disallowed_methods, reason = "it is the program's own")]
        let own = TcpListener::bind("127.0.0.1:0");
        server.listen(own.expect("a port"))
    })
}

/// Clients who connect to a suspended server, and what they say is not heard.
#[track_caller]
fn waiting(server: &Running, stays: &mut Client) -> Vec<Client> {
    let mut wait: Vec<Client> = (0..3).map(|_| server.client()).collect();
    wait.iter_mut().for_each(|client| client.say("x"));
    assert_eq!(stays.ask("still here"), "STILL HERE");
    assert_eq!(server.stats().connections_accepted, 1);
    is_in_state(server, &ListenerState::Holding);
    wait
}

fn newcomers_wait_where_they_cannot_be_refused_and_are_served_then(on: On) {
    let journal = Journal::default();
    let server = holding(on, Script::new(&journal));
    let mut stays = server.client();
    assert_eq!(stays.ask("x"), "X");
    server.suspend().expect("it runs");
    let line = server.status().listeners[0].to_string();
    assert!(line.ends_with(" holding"), "{line}");
    let mut wait = waiting(&server, &mut stays);
    server.resume().expect("it was suspended");
    is_in_state(&server, &ListenerState::Accepting);
    wait.iter_mut().for_each(|client| assert_eq!(client.hear(), "X"));
    assert_eq!(server.client().ask("new"), "NEW");
    assert_eq!(stays.ask("old"), "OLD");
    // And once more.
    server.suspend().expect("it runs");
    is_in_state(&server, &ListenerState::Holding);
    let mut late = server.client();
    server.resume().expect("it was suspended");
    assert_eq!(late.ask("y"), "Y");
}

fn a_drain_serves_those_who_wait_where_they_cannot_be_refused(on: On) {
    let journal = Journal::default();
    let server = holding(on, Script::new(&journal));
    let mut stays = server.client();
    assert_eq!(stays.ask("x"), "X");
    server.suspend().expect("it runs");
    let mut wait = waiting(&server, &mut stays);
    let report = server.drain(PATIENCE);
    assert_eq!((report.forced, report.stuck), (0, 0), "{report}");
    wait.iter_mut().for_each(|client| assert_eq!(client.hear(), "X"));
    assert_eq!(server.stats().connections_accepted, 4);
    is_in_state(&server, &ListenerState::Closed);
}

struct Echo;

impl DatagramHandler for Echo {
    fn handle(&self, datagram: &Datagram<'_>, replies: &mut Replies<'_>) -> io::Result<()> {
        replies.send(datagram.bytes());
        Ok(())
    }
}

#[test]
fn a_raw_handler_gets_nothing_meanwhile() {
    let server = Running::of(Server::datagrams(Echo).udp("127.0.0.1:0"));
    let mut client = server.client();
    assert_eq!(client.ask("x"), "x");
    server.suspend().expect("it runs");
    client.say("lost");
    client.say("lost");
    eventually("both are counted", || dropped(&server) == 2);
    server.resume().expect("it was suspended");
    assert_eq!(client.ask("y"), "y");
}

#[test]
fn every_listener_is_suspended_and_comes_back_to_its_port() {
    let server = Server::new(|_| {
        handler_fn(|message, cx| {
            cx.send(message);
            Ok(Next::Continue)
        })
    });
    let server = server
        .framing(switchboard::Framing::lines())
        .tcp("127.0.0.1:0")
        .listen(Listen::tcp("[::]:0").dual_stack(true))
        .tcp("[::1]:0")
        .tcp("0.0.0.0:0");
    let server = Running::of(server);
    let ways = [(0, "127.0.0.1"), (1, "127.0.0.1"), (1, "::1"), (2, "::1"), (3, "127.0.0.1")];
    let ways = ways.map(|(at, ip)| {
        SocketAddr::new(ip.parse().expect("an address"), server.addr_of(at).port())
    });
    let mut stay: Vec<Client> = ways.iter().map(|addr| Client::tcp(*addr)).collect();
    for _ in 0..2 {
        server.suspend().expect("it runs");
        ways.iter().for_each(|addr| is_refused(*addr));
        server.resume().expect("it was suspended");
        ways.iter().for_each(|addr| assert_eq!(Client::tcp(*addr).ask("x"), "x"));
        stay.iter_mut().for_each(|client| assert_eq!(client.ask("y"), "y"));
    }
}
