//! The tests of Python's `socketserver` that concern TCP and UDP, under their numbers, in the modes that they
//! apply to. (3, 6 and 9 speak of processes: their point here is that nobody else's children are reaped. 15 and
//! 27 look at the whole process, and are in `resources`.)

mod harness;

use std::io::{self, BufRead, Read, Write};
use std::process::Command;
use std::time::{Duration, Instant};

use harness::{Client, Journal, On, PATIENCE, Running, Script, eventually, matrix};
use switchboard::{CloseReason, Next, Server, Stream, StreamHandler, TcpServer};

matrix! {
    t01_tcp_server in [inline]: [tcp unix];
    t02_threading_tcp_server in [threads pool]: [tcp unix];
    t03_a_foreign_child_is_not_reaped: [tcp unix udp unixgram];
    t07_udp_server in [inline]: [udp unixgram];
    t08_threading_udp_server in [threads pool]: [udp unixgram];
    t13_shutdown_right_after_start: [tcp unix udp unixgram];
    t14_close_immediately: [tcp unix udp unixgram];
    t16_leaving_the_scope_closes_the_listener: [tcp unix udp unixgram];
    t17_to_22_errors_and_panics_are_reported_once: [tcp unix udp unixgram];
    t24_a_write_is_never_short: [tcp unix];
}

/// Tests 1 to 12: three clients one after another send a line and read it back.
fn three_clients_one_after_another(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal).handle(|message, cx| {
        cx.send(message);
        Ok(Next::Continue)
    }));
    assert!(!server.address().to_string().ends_with(":0"), "the real address is known");
    for _ in 0..3 {
        assert_eq!(server.client().ask("hello world"), "hello world");
    }
    server.stop();
    assert_eq!(server.stats().messages, 3);
}

fn t01_tcp_server(on: On) {
    three_clients_one_after_another(on);
}

fn t02_threading_tcp_server(on: On) {
    three_clients_one_after_another(on);
}

fn t07_udp_server(on: On) {
    three_clients_one_after_another(on);
}

fn t08_threading_udp_server(on: On) {
    three_clients_one_after_another(on);
}

fn t03_a_foreign_child_is_not_reaped(on: On) {
    let child = Command::new("sh").args(["-c", "exit 72"]).spawn();
    let mut child = child.expect("a child of ours, not of the server");
    let journal = Journal::default();
    let server = on.play(Script::new(&journal));
    assert_eq!(server.client().ask("x"), "X");
    drop(server);
    assert_eq!(child.wait().expect("it can still be waited for").code(), Some(72));
}

fn t13_shutdown_right_after_start(on: On) {
    let journal = Journal::default();
    let servers: Vec<Running> = (0..20).map(|_| on.play(Script::new(&journal))).collect();
    for server in &servers {
        let report = server.stop();
        assert!(report.is_clean(), "{report}");
        assert_eq!(server.join(), report);
    }
}

fn t14_close_immediately(on: On) {
    let server = Server::new(|_| -> Script { panic!("planned: a factory that is never asked") });
    drop(on.listening(server).bind().expect("bound"));
}

fn t16_leaving_the_scope_closes_the_listener(on: On) {
    let journal = Journal::default();
    let address = {
        let bound = on.listening(Script::new(&journal).server()).bind().expect("bound");
        bound.addresses()[0].clone()
    };
    let again = on.listening_on(Script::new(&journal).server(), &address);
    drop(again.bind().expect("the address is free"));
}

fn t17_to_22_errors_and_panics_are_reported_once(on: On) {
    for (message, reason) in [("error", "finish handler-err: E"), ("panic", "finish handler-panic")]
    {
        let journal = Journal::default();
        let server = on.play(Script::new(&journal).handle(|message, _| match message {
            b"error" => Err(io::Error::other("E")),
            _ => panic!("planned: as SystemExit"),
        }));
        // A client that connects and leaves at once does no harm either.
        drop(server.client());
        let mut client = server.client();
        client.say(message);
        journal.wait_for(reason);
        if !on.is_datagram() {
            client.hears_only("");
        }
        drop(server);
        assert_eq!(journal.count(reason), 1, "reported once");
        assert_eq!(journal.count("handle"), 1);
    }
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

fn t24_a_write_is_never_short(on: On) {
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

matrix! {
    x01_an_idle_server_stops_at_once: [tcp unix udp unixgram];
    x05_nobody_is_served_after_the_end: [tcp unix];
    x12_a_reply_under_way_arrives_during_a_drain: [udp unixgram];
    x13_one_idle_and_one_active_client: [tcp unix];
    x23_fifty_resets_are_counted: [tcp];
    x33_a_burst_of_connections_is_served_whole: [tcp unix];
}

fn x01_an_idle_server_stops_at_once(on: On) {
    let journal = Journal::default();
    let best = (0..5).map(|_| {
        let server = on.play(Script::new(&journal));
        let began = Instant::now();
        server.stop();
        began.elapsed()
    });
    let best = best.min().expect("five of them");
    assert!(best < Duration::from_millis(20), "{best:?}");
}

fn x05_nobody_is_served_after_the_end(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal));
    assert_eq!(server.client().ask("x"), "X");
    server.stop();
    assert!(Client::try_of(server.address()).is_err());
}

fn x12_a_reply_under_way_arrives_during_a_drain(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal).handle(|message, cx| {
        let (_never, wait) = crossbeam_channel::bounded::<()>(0);
        cx.block(|| wait.recv_timeout(Duration::from_millis(300))).expect_err("nobody calls");
        cx.send(message);
        Ok(Next::Continue)
    }));
    let mut client = server.client();
    client.say("slowly");
    journal.wait_for("handle slowly");
    let report = server.drain(Duration::from_secs(5));
    assert!(report.is_clean(), "{report}");
    assert_eq!(client.hear(), "slowly");
}

fn x13_one_idle_and_one_active_client(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal).handle(|message, cx| {
        if message == b"work" {
            let (_never, wait) = crossbeam_channel::bounded::<()>(0);
            cx.block(|| wait.recv_timeout(Duration::from_millis(100))).expect_err("nobody calls");
        }
        cx.send(message);
        Ok(if message == b"work" { Next::Close } else { Next::Continue })
    }));
    let (mut idle, mut active) = (server.client(), server.client());
    assert_eq!(idle.ask("x"), "x");
    active.say("work");
    journal.wait_for("handle work");
    let report = server.drain(PATIENCE);
    assert_eq!((report.completed, report.told, report.forced), (1, 1, 0), "{report}");
    idle.hears_only("");
    active.hears_only("work\n");
}

fn x23_fifty_resets_are_counted(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal));
    for _ in 0..50 {
        let mut client = server.client();
        assert_eq!(client.ask("x"), "X");
        client.reset();
    }
    let resets = || server.stats().closed_for(&CloseReason::PeerReset);
    eventually("all are counted", || resets() == 50);
}

fn x33_a_burst_of_connections_is_served_whole(on: On) {
    let journal = Journal::default();
    let bound = on.listening(Script::new(&journal).server()).bind().expect("bound");
    let count = if on.concurrency == harness::modes::threads() { 60 } else { 256 };
    let mut clients: Vec<Client> = (0..count).map(|_| Client::of(&bound.addresses()[0])).collect();
    let server = bound.spawn().expect("it serves");
    clients.iter_mut().for_each(|client| client.say("x"));
    clients.iter_mut().for_each(|client| assert_eq!(client.hear(), "X"));
    server.stop();
}

#[test]
fn t25_every_public_name_can_be_named() {
    use switchboard::{Address, BoundServer, ConnectionId, Datagram, Error, Histogram, Listen};
    use switchboard::{
        Outcome, Overflow, Peer, Remote, Replies, SendError, ServerHandle, Stats, UdpServer,
    };
    fn named<T>() -> usize {
        std::mem::size_of::<T>()
    }
    let _ = named::<(Address, BoundServer, ConnectionId, Error, Histogram, Listen)>();
    let _ = named::<(Outcome, Overflow, Peer, Remote, SendError, ServerHandle, Stats)>();
    let _ = named::<(UdpServer, TcpServer, Datagram<'_>, Replies<'_>)>();
}

#[test]
fn a_client_of_the_documentation_is_served_by_a_conversation() {
    struct Documentation;
    impl StreamHandler for Documentation {
        fn handle(&mut self, stream: &mut Stream<'_>) -> io::Result<Next> {
            let mut data = [0; 1_024];
            let read = stream.read(&mut data)?;
            stream.write_all(&data[..read].to_ascii_uppercase())?;
            Ok(Next::Close)
        }
    }
    let server = Running::of(Server::streams(|_| Documentation).tcp("127.0.0.1:0"));
    let mut client = server.client();
    client.send_bytes(b"hello world with tcp\n");
    client.hears_only("HELLO WORLD WITH TCP\n");
}
