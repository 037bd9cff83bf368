//! What may differ from one listener to the next: who serves, who is let in, and where the socket is from.

#![expect(
    clippy::disallowed_methods,
    reason = "the listeners that are taken over are the program's own"
)]

mod harness;

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use harness::{Client, Journal, On, PATIENCE, Running, Script, eventually, matrix, socket_path};
use switchboard::{
    Address, CloseReason, Datagram, DatagramHandler, ErrorKind, Framing, Listen, Next, Replies,
    Server, Stream, StreamHandler, Verdict, handler_fn,
};

matrix! {
    who_is_not_let_in_is_not_served: [tcp unix udp unixgram];
    whoever_is_turned_away_reads_the_whole_text: [tcp unix];
    whoever_is_turned_away_over_datagrams_gets_one: [udp unixgram];
    a_filter_that_panics_turns_away_and_harms_nobody: [tcp unix udp unixgram];
    a_filter_that_takes_its_time_delays_nobody in [threads pool]: [tcp unix];
    each_listener_has_a_service_of_its_own: [tcp];
}

/// Lets in who comes when the count is even.
fn every_second(verdict: Verdict) -> impl Fn(&switchboard::Peer) -> Verdict + Send + Sync {
    let count = AtomicUsize::new(0);
    move |_peer| match count.fetch_add(1, Ordering::SeqCst) % 2 {
        0 => verdict.clone(),
        _ => Verdict::Accept,
    }
}

fn who_is_not_let_in_is_not_served(on: On) {
    let journal = Journal::default();
    let server = Script::new(&journal).server().filter(every_second(Verdict::Reject));
    let server = on.spawn(server);
    let mut rejected = server.client();
    if on.is_datagram() {
        rejected.say("x");
        eventually("it was dropped", || {
            server.stats().datagrams_dropped().any(|(name, count)| (name, count) == ("filtered", 1))
        });
    } else {
        rejected.hears_only("");
    }
    let closed = if on.is_datagram() {
        server.stats().sessions_closed().find(|(name, _)| *name == "filtered").map(|(_, n)| n)
    } else {
        eventually("it was counted", || server.stats().closed_for(&CloseReason::Filtered) == 1);
        Some(1)
    };
    assert_eq!(closed, Some(1));
    assert_eq!(server.client().ask("x"), "X");
    assert_eq!(journal.count("setup"), 1, "no handler was made for the other one");
}

fn whoever_is_turned_away_reads_the_whole_text(on: On) {
    let journal = Journal::default();
    let text = "you are not on the list\n".repeat(20_000);
    let verdict = Verdict::reject_with(&text);
    let server = on.spawn(Script::new(&journal).server().filter(move |_| verdict.clone()));
    for _ in 0..20 {
        let mut client = server.client();
        // It is sending something itself, which nobody reads.
        drop(client.try_send(&[b'x'; 10_000]));
        client.hears_only(&text);
    }
    assert!(journal.all().is_empty());
}

fn whoever_is_turned_away_over_datagrams_gets_one(on: On) {
    let journal = Journal::default();
    let filter = every_second(Verdict::reject_with("not you"));
    let server = on.spawn(Script::new(&journal).server().filter(filter));
    let mut client = server.client();
    assert_eq!(client.ask("x"), "not you");
    assert_eq!(client.ask("x"), "X");

    /// Answers everybody who is let in.
    struct Raw;
    impl DatagramHandler for Raw {
        fn handle(&self, datagram: &Datagram<'_>, replies: &mut Replies<'_>) -> io::Result<()> {
            replies.send(datagram.bytes());
            Ok(())
        }
    }
    let filter = every_second(Verdict::reject_with("not you"));
    let server = on.spawn(Server::datagrams(Raw).filter(filter));
    let mut client = server.client();
    assert_eq!(client.ask("x"), "not you");
    assert_eq!(client.ask("x"), "x");
}

fn a_filter_that_panics_turns_away_and_harms_nobody(on: On) {
    let journal = Journal::default();
    let count = AtomicUsize::new(0);
    let server = on.spawn(Script::new(&journal).server().filter(move |_| {
        assert!(count.fetch_add(1, Ordering::SeqCst) >= 100, "planned: a filter that panics");
        Verdict::Accept
    }));
    for _ in 0..100 {
        let mut client = server.client();
        client.try_send(b"x\n").ok();
        if on.is_datagram() {
            let before = server.stats().sessions_begun;
            eventually("it was looked at", || server.stats().sessions_begun >= before.max(1));
        } else {
            assert!(client.is_cut_off());
        }
    }
    eventually("all were turned away", || {
        let stats = server.stats();
        let closed = stats.connections_closed().chain(stats.sessions_closed());
        closed.filter(|(name, _)| *name == "handler-panic").map(|(_, n)| n).sum::<u64>() == 100
    });
    assert_eq!(server.client().ask("x"), "X");
}

fn a_filter_that_takes_its_time_delays_nobody(on: On) {
    let journal = Journal::default();
    let gate = harness::Gate::default();
    let _opened = gate.open_at_the_end();
    let (first, behind) = (AtomicUsize::new(0), gate.clone());
    let server = on.spawn(Script::new(&journal).server().filter(move |_| {
        if first.fetch_add(1, Ordering::SeqCst) == 0 {
            behind.pass();
        }
        Verdict::Accept
    }));
    let mut slow = server.client();
    gate.wait_for_arrivals(1);
    assert_eq!(server.client().ask("x"), "X");
    gate.open();
    assert_eq!(slow.ask("y"), "Y");
}

struct Greeter;

impl StreamHandler for Greeter {
    fn setup(&mut self, stream: &mut Stream<'_>) -> io::Result<Next> {
        use io::Write;
        writeln!(stream, "a conversation")?;
        Ok(Next::Close)
    }

    fn handle(&mut self, _stream: &mut Stream<'_>) -> io::Result<Next> {
        Ok(Next::Close)
    }
}

struct Lengths;

impl DatagramHandler for Lengths {
    fn handle(&self, datagram: &Datagram<'_>, replies: &mut Replies<'_>) -> io::Result<()> {
        replies.send(datagram.bytes().len().to_string());
        Ok(())
    }
}

fn each_listener_has_a_service_of_its_own(on: On) {
    let journal = Journal::default();
    let backwards = Listen::tcp("127.0.0.1:0").framing(Framing::lines()).handler(|_peer| {
        handler_fn(|message, cx| {
            cx.send(message.iter().rev().copied().collect::<Vec<u8>>());
            Ok(Next::Continue)
        })
    });
    let closed_door = Listen::tcp("127.0.0.1:0").filter(|_| Verdict::reject_with("closed\n"));
    let server = on
        .listening(Script::new(&journal).server())
        .listen(backwards)
        .listen(Listen::tcp("127.0.0.1:0").stream_handler(|_peer| Greeter))
        .listen(Listen::udp("127.0.0.1:0").datagram_handler(Lengths))
        .listen(closed_door);
    let server = Running::of(server);
    let at = |index: usize| Client::of(&server.addresses()[index]);
    assert_eq!(at(0).ask("abc"), "ABC");
    assert_eq!(at(1).ask("abc"), "cba");
    assert_eq!(at(2).hear(), "a conversation");
    assert_eq!(at(3).ask("abc"), "3");
    assert_eq!(at(4).hear(), "closed");
}

#[test]
fn a_service_that_does_not_fit_its_listener_is_refused_by_name() {
    let journal = Journal::default();
    let misfits = [
        Listen::tcp("127.0.0.1:0").datagram_handler(Lengths),
        Listen::udp("127.0.0.1:0").stream_handler(|_peer| Greeter),
        Listen::unixgram("@misfit").stream_handler(|_peer| Greeter),
    ];
    for (misfit, said) in misfits.into_iter().zip([
        "a DatagramHandler cannot serve tcp://127.0.0.1:0",
        "a StreamHandler cannot serve udp://127.0.0.1:0",
        "a StreamHandler cannot serve unixgram:@misfit",
    ]) {
        let refused = Script::new(&journal).server().listen(misfit).bind().expect_err("a misfit");
        assert_eq!((refused.kind(), refused.to_string()), (ErrorKind::Config, said.to_owned()));
    }
}

#[test]
fn sockets_of_the_standard_library_are_taken_over() {
    let journal = Journal::default();
    let (stream, gram) = (socket_path("own"), socket_path("own"));
    let tcp = TcpListener::bind("127.0.0.1:0").expect("bound");
    let udp = UdpSocket::bind("0.0.0.0:0").expect("bound");
    let (tcp_addr, udp_addr) = (tcp.local_addr(), udp.local_addr().expect("an address"));
    let server = Script::new(&journal)
        .server()
        .framing(Framing::lines())
        .listen(tcp)
        .listen(udp)
        .listen(UnixListener::bind(&stream).expect("bound"))
        .listen(UnixDatagram::bind(&gram).expect("bound"));
    let server = Running::of(server);
    assert_eq!(server.addresses()[0], Address::Tcp(tcp_addr.expect("an address")));
    // A socket of all addresses answers from the one that was asked, also if it was taken over.
    let asked = SocketAddr::from(([127, 0, 0, 2], udp_addr.port()));
    assert_eq!(Client::udp_from("127.0.0.1", asked).ask("x"), "X");
    for index in [0, 2, 3] {
        assert_eq!(Client::of(&server.addresses()[index]).ask("x"), "X");
    }
    drop(server);
    for file in [stream, gram] {
        assert!(file.exists(), "the file is the program's");
        std::fs::remove_file(file).expect("removed");
    }
}

#[test]
fn whoever_is_queued_on_a_shared_socket_is_left_to_the_other_one() {
    let journal = Journal::default();
    let ours = TcpListener::bind("127.0.0.1:0").expect("bound");
    let theirs = ours.try_clone().expect("a second handle");
    let server = Script::new(&journal).server().framing(Framing::lines());
    let server = server.listen(Listen::from(ours).shared_with_others());
    let server = Running::of(server);
    assert_eq!(server.client().ask("x"), "X");
    let addr = server.addr();
    assert!(server.drain(PATIENCE).is_clean());
    // It still listens, for the other one.
    let mut client = Client::tcp(addr);
    theirs.set_nonblocking(false).expect("a mode");
    let (mut stream, _) = theirs.accept().expect("the client");
    io::Write::write_all(&mut stream, b"from the other one\n").expect("sent");
    assert_eq!(client.hear(), "from the other one");
}

#[test]
fn several_sockets_share_one_port_and_each_is_served() {
    let journal = Journal::default();
    for listen in [Listen::tcp("127.0.0.1:0"), Listen::udp("127.0.0.1:0")] {
        let bound = Arc::new(AtomicUsize::new(0));
        let count = bound.clone();
        let listen = listen.framing(Framing::lines()).reuse_port(4).configure(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            Ok(())
        });
        let server = Running::of(Script::new(&journal).server().listen(listen));
        assert_eq!(bound.load(Ordering::SeqCst), 4);
        assert_eq!(server.addresses().len(), 1);
        // The kernel spreads them by their ports: with 64 clients each socket gets some.
        let mut clients: Vec<Client> = (0..64).map(|_| server.client()).collect();
        for client in &mut clients {
            assert_eq!(client.ask("x"), "X");
        }
        drop(clients);
        assert!(server.drain(PATIENCE).is_clean());
    }
}

#[test]
fn sockets_that_cannot_share_are_refused_by_name() {
    let journal = Journal::default();
    let own = TcpListener::bind("127.0.0.1:0").expect("bound");
    for (listen, said) in [
        (Listen::unix("@one").reuse_port(2), "no two sockets share this one"),
        (Listen::from(own).reuse_port(2), "no two sockets share this one"),
        (Listen::tcp("127.0.0.1:0").reuse_port(0), "nobody would listen"),
        (Listen::udp("127.0.0.1:0").reuse_port(65), "at most 64"),
    ] {
        let refused = Script::new(&journal).server().listen(listen).bind().expect_err("refused");
        assert!(refused.to_string().contains(said), "{refused}");
    }
}

#[test]
fn a_socket_is_configured_before_anybody_is_heard_and_its_error_ends_the_start() {
    let journal = Journal::default();
    let listen = Listen::tcp("127.0.0.1:0")
        .framing(Framing::lines())
        .configure(|socket| socket2::SockRef::from(&socket).set_tcp_nodelay(false));
    let server = Running::of(Script::new(&journal).server().listen(listen));
    assert_eq!(server.client().ask("x"), "X");

    let busy = server.addr();
    drop(server);
    let refuses = Listen::tcp(busy).configure(|_| Err(io::Error::other("not like this")));
    let refused = Script::new(&journal).server().listen(refuses).bind().expect_err("refused");
    assert_eq!(refused.to_string(), format!("cannot listen on tcp://{busy}: not like this"));
    drop(Script::new(&journal).server().tcp(busy).bind().expect("the port is free"));
}
