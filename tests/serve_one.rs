//! `serve_one`: one connection to its end, or one datagram, on the caller's thread, and nobody else.

mod harness;

use std::io::{self, BufRead, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use harness::{Client, Journal, On, PATIENCE, Script, assert_conserved, eventually, matrix};
use parking_lot::Mutex;
use switchboard::{
    BoundServer, CloseReason, Concurrency, Datagram, DatagramHandler, Next, Replies, Served,
    Server, ServerHandle, ServerStage, Stream, StreamHandler, handler_fn,
};

matrix! {
    one_is_served_and_the_second_stays_queued: [tcp unix udp unixgram];
    whoever_is_queued_is_served_however_short_the_timeout: [tcp unix udp unixgram];
    the_timeout_bounds_the_arrival_only: [tcp unix];
    a_peer_that_says_nothing_was_served: [tcp unix];
    handlers_run_on_the_callers_thread: [tcp unix udp unixgram];
    a_handler_that_waits_is_waited_for: [tcp unix udp unixgram];
    it_serves_again_and_again: [tcp unix udp unixgram];
    serving_goes_on_where_it_left_off: [tcp unix udp unixgram];
    sessions_keep_their_state_between_two_calls: [udp unixgram];
    a_drain_ends_the_wait: [tcp unix udp unixgram];
    a_drain_ends_the_one_that_is_served: [tcp unix];
    a_drain_between_two_calls_serves_those_who_are_queued: [tcp unix];
    a_handler_stops_the_server: [tcp unix udp unixgram];
    a_drain_inside_a_handler_does_not_wait_for_itself: [tcp unix udp unixgram];
    a_message_from_elsewhere_leaves: [tcp unix];
    whoever_was_let_in_before_is_served_one_by_one: [tcp unix];
    a_session_that_is_kept_is_finished_when_the_server_is_dropped: [udp unixgram];
    the_status_tells_when_it_serves: [tcp unix udp unixgram];
    a_limit_is_a_limit_here_too: [tcp unix];
}

fn bound(on: On, script: Script) -> BoundServer {
    on.listening(script.server()).bind().expect("bound")
}

fn client(server: &BoundServer) -> Client {
    Client::of(&server.addresses()[0])
}

/// Serves one who is bound to come.
#[track_caller]
fn one(server: &mut BoundServer) -> Served {
    server.serve_one(PATIENCE).expect("nothing is refused")
}

/// A script that answers once.
fn once(journal: &Journal) -> Script {
    Script::new(journal).handle(|message, cx| {
        cx.send(message.to_ascii_uppercase());
        Ok(Next::Close)
    })
}

/// What serving this client returns.
#[track_caller]
fn assert_served(on: On, served: &Served, client: &Client, why: &CloseReason) {
    match served {
        Served::Connection { peer, reason } if !on.is_datagram() => {
            assert_eq!((peer.address(), reason), (&client.address(), why));
        }
        Served::Datagram { peer } if on.is_datagram() => {
            assert_eq!(*peer.address(), client.address());
        }
        other => panic!("{other:?}"),
    }
}

fn one_is_served_and_the_second_stays_queued(on: On) {
    let journal = Journal::default();
    let mut server = bound(on, once(&journal));
    let (mut first, mut second) = (client(&server), client(&server));
    first.say("first");
    second.say("second");
    let served = one(&mut server);
    assert_served(on, &served, &first, &CloseReason::Done);
    assert_eq!(first.hear(), "FIRST");
    let stats = server.handle().stats();
    assert_eq!((stats.messages, stats.connections_open), (1, 0));
    assert_eq!(
        stats.connections_accepted,
        u64::from(!on.is_datagram()),
        "it is queued in the kernel"
    );
    assert_eq!(stats.datagrams_received, u64::from(on.is_datagram()), "it is queued in the kernel");
    let served = one(&mut server);
    assert_served(on, &served, &second, &CloseReason::Done);
    assert_eq!(second.hear(), "SECOND");
    assert_eq!(server.serve_one(Duration::ZERO).expect("none"), Served::TimedOut);
}

fn whoever_is_queued_is_served_however_short_the_timeout(on: On) {
    let journal = Journal::default();
    let mut server = bound(on, once(&journal));
    let mut queued = client(&server);
    queued.say("x");
    let served = server.serve_one(Duration::ZERO).expect("nothing is refused");
    assert_served(on, &served, &queued, &CloseReason::Done);
    assert_eq!(queued.hear(), "X");
}

fn the_timeout_bounds_the_arrival_only(on: On) {
    let journal = Journal::default();
    let mut server = bound(on, once(&journal));
    let mut slow = client(&server);
    let began = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _ = crossbeam_channel::after(Duration::from_millis(150)).recv();
            slow.say("late");
            assert_eq!(slow.hear(), "LATE");
        });
        let served = server.serve_one(Duration::from_millis(20)).expect("nothing is refused");
        assert!(matches!(served, Served::Connection { .. }), "{served:?}");
    });
    assert!(began.elapsed() >= Duration::from_millis(150));
}

fn a_peer_that_says_nothing_was_served(on: On) {
    let journal = Journal::default();
    let mut server = bound(on, once(&journal));
    drop(client(&server));
    let served = one(&mut server);
    let ended = matches!(served, Served::Connection { reason: CloseReason::PeerEof, .. });
    assert!(ended, "{served:?}");
    if on.is_unix() {
        return;
    }
    client(&server).reset();
    let served = one(&mut server);
    let ended = matches!(served, Served::Connection { reason: CloseReason::PeerReset, .. });
    assert!(ended, "{served:?}");
}

fn handlers_run_on_the_callers_thread(on: On) {
    let journal = Journal::default();
    let threads: Arc<Mutex<Vec<ThreadId>>> = Arc::default();
    let known = threads.clone();
    let mut server = bound(
        on,
        Script::new(&journal).handle(move |message, cx| {
            known.lock().push(std::thread::current().id());
            // Nobody takes over.
            cx.block(|| ());
            cx.send(message);
            Ok(Next::Close)
        }),
    );
    for _ in 0..3 {
        let mut client = client(&server);
        client.say("x");
        one(&mut server);
        assert_eq!(client.hear(), "x");
    }
    let me = std::thread::current().id();
    assert_eq!(*threads.lock(), [me; 3]);
}

fn a_handler_that_waits_is_waited_for(on: On) {
    let journal = Journal::default();
    let mut server = bound(
        on,
        Script::new(&journal).handle(|message, cx| {
            let _ = crossbeam_channel::after(Duration::from_millis(60)).recv();
            cx.send(message);
            Ok(Next::Close)
        }),
    );
    let mut slow = client(&server);
    slow.say("x");
    let served = server.serve_one(Duration::from_millis(1)).expect("nothing is refused");
    assert_served(on, &served, &slow, &CloseReason::Done);
    assert_eq!(slow.hear(), "x");
}

fn it_serves_again_and_again(on: On) {
    let journal = Journal::default();
    let mut server = bound(on, once(&journal));
    let address = server.addresses()[0].clone();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..100 {
                let text = format!("round {round}");
                assert_eq!(Client::of(&address).ask(&text), text.to_uppercase());
            }
        });
        for _ in 0..100 {
            let served = one(&mut server);
            assert_eq!(matches!(served, Served::Datagram { .. }), on.is_datagram(), "{served:?}");
        }
    });
    let handle = server.handle();
    drop(server);
    let stats = handle.stats();
    assert_eq!(stats.messages, 100);
}

fn serving_goes_on_where_it_left_off(on: On) {
    let journal = Journal::default();
    let mut server = bound(on, once(&journal));
    let mut clients: Vec<Client> = (0..4).map(|_| client(&server)).collect();
    clients.iter_mut().for_each(|client| client.say("x"));
    one(&mut server);
    let served = server.spawn().expect("it serves");
    clients.iter_mut().for_each(|client| assert_eq!(client.hear(), "X"));
    assert_eq!(Client::of(&served.addresses()[0]).ask("y"), "Y");
    let report = served.drain(PATIENCE);
    assert_eq!(report.stuck, 0, "{report}");
    assert_conserved(&served.stats());
}

fn sessions_keep_their_state_between_two_calls(on: On) {
    let server = Server::new(|_| {
        let mut count = 0;
        handler_fn(move |_, cx| {
            count += 1;
            cx.send(count.to_string());
            Ok(Next::Continue)
        })
    });
    let mut server = on.listening(server).bind().expect("bound");
    let mut talks = client(&server);
    for expected in ["1", "2"] {
        talks.say("x");
        one(&mut server);
        assert_eq!(talks.hear(), expected);
    }
    let served = server.spawn().expect("it serves");
    assert_eq!(talks.ask("x"), "3");
    served.stop();
}

fn a_drain_ends_the_wait(on: On) {
    let journal = Journal::default();
    let mut server = bound(on, once(&journal));
    let handle = server.handle();
    std::thread::scope(|scope| {
        let drains = scope.spawn(|| {
            eventually("it waits", || handle.status().stage == ServerStage::Serving);
            handle.drain(PATIENCE)
        });
        let served = server.serve_one(None).expect("nothing is refused");
        let Served::Drained(report) = served else { panic!("{served:?}") };
        assert_eq!(drains.join().expect("it returns"), report);
        assert!(report.is_clean(), "{report}");
        assert_eq!(server.serve_one(None).expect("none"), Served::Drained(report.clone()));
        assert_eq!(handle.join(), report);
        assert_eq!(server.serve().expect("it has ended"), report);
    });
    assert_eq!(handle.status().stage, ServerStage::Stopped);
}

fn a_drain_ends_the_one_that_is_served(on: On) {
    let journal = Journal::default();
    let mut server = bound(on, Script::new(&journal));
    let handle = server.handle();
    let mut stays = client(&server);
    std::thread::scope(|scope| {
        let drains = scope.spawn(|| {
            assert_eq!(stays.ask("x"), "X");
            handle.drain(PATIENCE)
        });
        let served = one(&mut server);
        let told = matches!(served, Served::Connection { reason: CloseReason::Draining, .. });
        assert!(told, "{served:?}");
        let served = one(&mut server);
        let Served::Drained(report) = served else { panic!("{served:?}") };
        assert_eq!((report.told, report.stuck), (1, 0), "{report}");
        assert_eq!(drains.join().expect("it returns"), report);
    });
}

fn a_drain_between_two_calls_serves_those_who_are_queued(on: On) {
    let journal = Journal::default();
    let mut server = bound(on, once(&journal));
    let mut queued: Vec<Client> = (0..5).map(|_| client(&server)).collect();
    queued.iter_mut().for_each(|client| client.say("x"));
    one(&mut server);
    server.handle().begin_drain(PATIENCE);
    let served = one(&mut server);
    let Served::Drained(report) = served else { panic!("{served:?}") };
    assert_eq!((report.completed, report.stuck), (4, 0), "{report}");
    queued.iter_mut().for_each(|client| assert_eq!(client.hear(), "X"));
    assert_conserved(&server.handle().stats());
}

fn a_handler_stops_the_server(on: On) {
    let journal = Journal::default();
    let script = Script::new(&journal).handle(|message, cx| {
        cx.send(message);
        Ok(Next::StopServer)
    });
    let mut server = bound(on, script);
    let mut stops = client(&server);
    stops.say("x");
    let served = one(&mut server);
    assert_served(on, &served, &stops, &CloseReason::Done);
    assert_eq!(stops.hear(), "x");
    let served = one(&mut server);
    assert!(matches!(served, Served::Drained(_)), "{served:?}");
}

fn a_drain_inside_a_handler_does_not_wait_for_itself(on: On) {
    let journal = Journal::default();
    let own: Arc<Mutex<Option<ServerHandle>>> = Arc::default();
    let known = own.clone();
    let script = Script::new(&journal).handle(move |message, cx| {
        let handle = known.lock().clone().ok_or_else(|| io::Error::other("no handle"))?;
        handle.drain(PATIENCE);
        handle.join();
        cx.send(message);
        Ok(Next::Close)
    });
    let mut server = bound(on, script);
    *own.lock() = Some(server.handle());
    let mut client = client(&server);
    client.say("x");
    one(&mut server);
    assert_eq!(client.hear(), "x");
    assert!(matches!(one(&mut server), Served::Drained(_)));
    own.lock().take();
}

fn a_message_from_elsewhere_leaves(on: On) {
    let journal = Journal::default();
    let script = Script::new(&journal).setup(|cx| {
        let remote = cx.remote();
        std::thread::Builder::new()
            .spawn(move || {
                let _ = crossbeam_channel::after(Duration::from_millis(20)).recv();
                remote.send("from elsewhere")
            })
            .expect("a thread");
        Ok(Next::Continue)
    });
    let mut server = bound(on, script);
    let mut listens = client(&server);
    std::thread::scope(|scope| {
        scope.spawn(move || assert_eq!(listens.hear(), "from elsewhere"));
        one(&mut server);
    });
}

fn whoever_was_let_in_before_is_served_one_by_one(on: On) {
    let journal = Journal::default();
    let mut server = bound(on, once(&journal));
    let mut clients: Vec<Client> = (0..3).map(|_| client(&server)).collect();
    // They are accepted, so that nobody is reset, and wait.
    server.handle().suspend().expect("it is bound");
    assert_eq!(server.handle().stats().connections_open, 3);
    for (at, asks) in (1..).zip(&mut clients) {
        assert_eq!(journal.count("setup"), at - 1);
        asks.say("x");
        let served = one(&mut server);
        assert_served(on, &served, asks, &CloseReason::Done);
        assert_eq!(asks.hear(), "X");
        assert_eq!(journal.count("setup"), at);
        assert_eq!(server.handle().stats().connections_open, 3 - at);
    }
    assert_eq!(server.serve_one(Duration::ZERO).expect("none"), Served::TimedOut);
    server.handle().resume().expect("it was suspended");
    let mut clients: Vec<Client> = (0..3).map(|_| client(&server)).collect();
    server.handle().suspend().expect("it is bound");
    clients.iter_mut().for_each(|client| client.say("y"));
    one(&mut server);
    let served = server.spawn().expect("it serves");
    clients.iter_mut().for_each(|client| assert_eq!(client.hear(), "Y"));
    served.stop();
    assert_conserved(&served.stats());
}

fn a_session_that_is_kept_is_finished_when_the_server_is_dropped(on: On) {
    let journal = Journal::default();
    let mut server = bound(on, Script::new(&journal));
    let mut talks = client(&server);
    talks.say("x");
    one(&mut server);
    assert_eq!(talks.hear(), "X");
    let handle = server.handle();
    drop(server);
    assert_eq!(journal.count("finish forced"), 1);
    assert_conserved(&handle.stats());
    assert_eq!(handle.join().forced, 1);
}

fn the_status_tells_when_it_serves(on: On) {
    let journal = Journal::default();
    let known: Arc<Mutex<Option<ServerHandle>>> = Arc::default();
    let own = known.clone();
    let script = Script::new(&journal).handle(move |_, cx| {
        let handle = known.lock().clone().ok_or_else(|| io::Error::other("no handle"))?;
        let status = handle.status();
        cx.send(format!("{} {}", status.stage, status.workers));
        Ok(Next::Close)
    });
    let mut server = bound(on, script);
    let handle = server.handle();
    *own.lock() = Some(handle.clone());
    let mut asks = client(&server);
    asks.say("x");
    one(&mut server);
    assert_eq!(asks.hear(), "serving workers=1 running=1 blocked=0");
    assert_eq!(handle.status().stage, ServerStage::Bound);
    assert_eq!(handle.status().workers.started, 0);
    own.lock().take();
}

fn a_limit_is_a_limit_here_too(on: On) {
    let journal = Journal::default();
    let script = once(&journal);
    let mut server = on.listening(script.server().max_connections(1)).bind().expect("bound");
    for _ in 0..3 {
        let mut client = client(&server);
        client.say("x");
        one(&mut server);
        assert_eq!(client.hear(), "X");
    }
}

/// The concurrencies, for servers that are not of the matrix.
fn everywhere() -> [Concurrency; 3] {
    [harness::modes::inline(), harness::modes::threads(), harness::modes::pool()]
}

struct Greeter;

impl StreamHandler for Greeter {
    fn handle(&mut self, stream: &mut Stream<'_>) -> io::Result<Next> {
        let mut name = String::new();
        Read::by_ref(stream).take(100).read_line(&mut name)?;
        write!(stream, "hello, ")?;
        stream.flush()?;
        // It waits for its peer within the call.
        Read::by_ref(stream).take(100).read_line(&mut name)?;
        write!(stream, "{}", name.replace('\n', " "))?;
        Ok(Next::Close)
    }
}

#[test]
fn a_conversation_is_served_to_its_end() {
    for concurrency in everywhere() {
        let server = Server::streams(|_| Greeter).tcp("127.0.0.1:0").concurrency(concurrency);
        let mut server = server.bind().expect("bound");
        let addr = server.addresses()[0].socket_addr().expect("an address");
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let mut stream = TcpStream::connect(addr).expect("a connection");
                stream.write_all(b"Ada\n").expect("sent");
                let mut hello = [0; 7];
                stream.read_exact(&mut hello).expect("a greeting");
                stream.write_all(b"Lovelace\n").expect("sent");
                let mut rest = String::new();
                stream.read_to_string(&mut rest).expect("the rest");
                assert_eq!(rest, "Ada Lovelace ");
            });
            let served = one(&mut server);
            let done = matches!(served, Served::Connection { reason: CloseReason::Done, .. });
            assert!(done, "{served:?}");
        });
    }
}

struct Lengths;

impl DatagramHandler for Lengths {
    fn handle(&self, datagram: &Datagram<'_>, replies: &mut Replies<'_>) -> io::Result<()> {
        replies.send(datagram.bytes().len().to_string());
        Ok(())
    }
}

#[test]
fn a_raw_datagram_is_served_and_the_next_one_waits() {
    for concurrency in everywhere() {
        let server = Server::datagrams(Lengths).udp("127.0.0.1:0").concurrency(concurrency);
        let mut server = server.bind().expect("bound");
        let mut asks = Client::of(&server.addresses()[0]);
        for message in ["", "one", "seventeen"] {
            asks.send_bytes(message.as_bytes());
        }
        for (served, reply) in [(1, "0"), (2, "3"), (3, "9")] {
            assert!(matches!(one(&mut server), Served::Datagram { .. }));
            assert_eq!(asks.hear(), reply);
            assert_eq!(server.handle().stats().datagrams_handled, served);
        }
    }
}

#[test]
fn neither_connections_nor_datagrams_wait_for_ever() {
    for concurrency in everywhere() {
        let journal = Journal::default();
        let server = once(&journal).server().concurrency(concurrency);
        let server = server.framing(switchboard::Framing::lines());
        let mut server =
            server.tcp("127.0.0.1:0").udp("127.0.0.1:0").bind().expect("both are bound");
        let [tcp, udp] = [0, 1].map(|at| server.addresses()[at].clone());
        let mut clients: Vec<Client> = (0..4).flat_map(|_| [&tcp, &udp]).map(Client::of).collect();
        clients.iter_mut().for_each(|client| client.say("x"));
        let kinds: Vec<bool> =
            (0..8).map(|_| matches!(one(&mut server), Served::Datagram { .. })).collect();
        assert_eq!(kinds.iter().filter(|datagram| **datagram).count(), 4, "{kinds:?}");
        assert!(kinds[..4].contains(&true) && kinds[..4].contains(&false), "{kinds:?}");
        clients.iter_mut().for_each(|client| assert_eq!(client.hear(), "X"));
    }
}

#[test]
fn a_signal_ends_the_wait() {
    let server = Server::new(|_| handler_fn(|_, _| Ok(Next::Close))).tcp("127.0.0.1:0");
    let mut server = server.bind().expect("bound").watch_signals().expect("nobody else does");
    let handle = server.handle();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            eventually("it waits", || handle.status().stage == ServerStage::Serving);
            let me = rustix::process::getpid();
            rustix::process::kill_process(me, rustix::process::Signal::TERM).expect("sent");
        });
        let served = server.serve_one(None).expect("nothing is refused");
        assert!(matches!(served, Served::Drained(_)), "{served:?}");
    });
}
