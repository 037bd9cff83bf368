//! What holds over datagrams beyond the contract: sessions, order, addresses, loops, errors, policies.

mod harness;

use std::io;
use std::net::{SocketAddr, UdpSocket};

use harness::{Client, Gate, Journal, On, Running, Script, eventually, matrix};
use switchboard::{
    Address, Datagram, DatagramHandler, Event, Group, Listen, Next, Remote, Replies, SendError,
    Server, Stats, UnixName, Verdict,
};

matrix! {
    the_order_of_a_peer_is_kept_behind_a_handler_that_blocks in [threads pool]: [udp unixgram];
    a_burst_of_many_peers_is_answered_whole: [udp unixgram];
    every_peer_has_a_session_of_its_own: [udp unixgram];
    the_session_used_longest_ago_makes_room: [udp unixgram];
    a_thousand_peers_hold_no_more_sessions_than_allowed: [udp unixgram];
    a_remote_sends_from_the_address_that_was_asked: [udp];
    a_server_on_ipv6_answers: [udp];
    a_dual_stack_server_answers_both_families: [udp];
    a_loop_between_two_servers_dies_out: [udp unixgram];
    a_loop_of_two_datagrams_dies_out: [udp unixgram];
    a_second_server_on_the_port_is_refused: [udp unixgram];
    service_ports_are_not_answered_unless_told_to: [udp];
    a_session_that_closes_with_datagrams_waiting_begins_anew: [udp unixgram];
    what_the_loop_guard_withholds_is_told_to_a_remote_and_not_counted_as_sent: [udp unixgram];
    what_the_loop_guard_withholds_is_told_to_a_group_and_not_counted_as_sent: [udp unixgram];
    what_a_filter_says_is_counted_as_sent: [udp unixgram];
}

fn dropped(stats: &Stats, reason: &str) -> u64 {
    stats.datagrams_dropped().filter(|(name, _)| *name == reason).map(|(_, count)| count).sum()
}

fn ended(stats: &Stats, reason: &str) -> u64 {
    stats.sessions_closed().filter(|(name, _)| *name == reason).map(|(_, count)| count).sum()
}

fn the_order_of_a_peer_is_kept_behind_a_handler_that_blocks(on: On) {
    let (journal, gate) = (Journal::default(), Gate::default());
    let _opens = gate.open_at_the_end();
    let at_gate = gate.clone();
    let server = on.play(Script::new(&journal).handle(move |message, cx| {
        if message == b"block" {
            assert!(at_gate.pass());
        }
        cx.send([b"did ", message].concat());
        Ok(Next::Continue)
    }));
    let (mut blocked, mut other) = (server.client(), server.client());
    blocked.say("block");
    gate.wait_for_arrivals(1);
    for number in 0..100 {
        blocked.say(&number.to_string());
        assert_eq!(other.ask("ping"), "did ping");
    }
    gate.open();
    assert_eq!(blocked.hear(), "did block");
    for number in 0..100 {
        assert_eq!(blocked.hear(), format!("did {number}"));
    }
}

fn a_burst_of_many_peers_is_answered_whole(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal));
    let mut clients: Vec<Client> = (0..200).map(|_| server.client()).collect();
    for round in 0..5 {
        clients.iter_mut().for_each(|client| client.say(&format!("round {round}")));
        for client in &mut clients {
            assert_eq!(client.hear(), format!("ROUND {round}"));
        }
    }
    let stats = server.stats();
    assert_eq!((stats.datagrams_handled, stats.sessions_begun), (1_000, 200));
}

fn every_peer_has_a_session_of_its_own(on: On) {
    let server = on.spawn(Server::new(|_| {
        let mut sum = 0_usize;
        switchboard::handler_fn(move |message, cx| {
            sum += message.len();
            cx.send(sum.to_string());
            Ok(Next::Continue)
        })
    }));
    let (mut one, mut other) = (server.client(), server.client());
    assert_eq!([one.ask("aa"), one.ask("bbb"), one.ask("")], ["2", "5", "5"]);
    assert_eq!([other.ask("c"), one.ask("d")], ["1", "6"]);
    assert_eq!(server.stats().sessions_open, 2);
}

fn the_session_used_longest_ago_makes_room(on: On) {
    let journal = Journal::default();
    let server = on.spawn(Script::new(&journal).server().max_sessions(2));
    let mut clients = [server.client(), server.client(), server.client()];
    assert_eq!(clients[0].ask("a"), "A");
    assert_eq!(clients[1].ask("b"), "B");
    assert_eq!(clients[0].ask("used"), "USED");
    assert_eq!(clients[2].ask("c"), "C");
    journal.wait_for("finish evicted");
    assert_eq!(clients[0].ask("kept"), "KEPT");
    assert_eq!(journal.count("setup"), 3);
    assert_eq!(clients[1].ask("again"), "AGAIN");
    assert_eq!(journal.count("setup"), 4, "the one that was evicted begins anew");
}

fn a_thousand_peers_hold_no_more_sessions_than_allowed(on: On) {
    let journal = Journal::default();
    let server = on.spawn(Script::new(&journal).server().max_sessions(10));
    for _ in 0..1_000 {
        assert_eq!(server.client().ask("x"), "X");
        // Those that were told to make room may be a few.
        assert!(server.stats().sessions_open <= 10 + 64);
    }
    eventually("all others have ended", || {
        let stats = server.stats();
        // (A port may come twice.)
        (ended(&stats, "evicted"), stats.sessions_open) == (stats.sessions_begun - 10, 10)
    });
}

/// A server of all addresses, and one of them.
fn on_all_addresses(on: On, script: Script, ip: [u8; 4]) -> (Running, SocketAddr) {
    let server = Running::of(script.server().concurrency(on.concurrency).udp("0.0.0.0:0"));
    let asked = SocketAddr::from((ip, server.addr().port()));
    (server, asked)
}

fn a_remote_sends_from_the_address_that_was_asked(on: On) {
    let journal = Journal::default();
    let (give, take) = crossbeam_channel::bounded(1);
    let script = Script::new(&journal).handle(move |_, cx| {
        give.send(cx.remote()).map_err(io::Error::other)?;
        Ok(Next::Continue)
    });
    let (_server, asked) = on_all_addresses(on, script, [127, 0, 0, 3]);
    let mut client = Client::udp_from("127.0.0.1", asked);
    client.say("x");
    let remote = take.recv_timeout(harness::PATIENCE).expect("a remote");
    remote.send("unasked").expect("taken");
    assert_eq!(client.hear(), "unasked");
    assert!(matches!(remote.send(vec![0; 65_508]), Err(SendError::Refused(_))));
    remote.send("still well").expect("taken");
    assert_eq!(client.hear(), "still well");
}

fn a_server_on_ipv6_answers(on: On) {
    let journal = Journal::default();
    let server = Script::new(&journal).server().concurrency(on.concurrency).udp("[::1]:0");
    let server = Running::of(server);
    assert_eq!(Client::udp_from("::1", server.addr()).ask("x"), "X");
}

fn a_dual_stack_server_answers_both_families(on: On) {
    let journal = Journal::default();
    let script = Script::new(&journal).handle(|_, cx| {
        cx.send(
            cx.peer().local().socket_addr().map_or_else(String::new, |addr| addr.ip().to_string()),
        );
        Ok(Next::Continue)
    });
    let listen = Listen::udp("[::]:0").dual_stack(true);
    let server = Running::of(script.server().concurrency(on.concurrency).listen(listen));
    let port = server.addr().port();
    for (from, asked) in [("127.0.0.1", "127.0.0.2"), ("::1", "::1")] {
        let addr = SocketAddr::new(asked.parse().expect("an address"), port);
        assert_eq!(Client::udp_from(from, addr).ask("x"), asked);
    }
}

/// Sends everything back; `begin` makes it send to somebody else, as a forged datagram would.
struct Echo;

impl DatagramHandler for Echo {
    fn handle(&self, datagram: &Datagram<'_>, replies: &mut Replies<'_>) -> io::Result<()> {
        let text = String::from_utf8_lossy(datagram.bytes()).into_owned();
        match text.strip_prefix("begin ").map(address) {
            Some(victim) => {
                replies.send_to(&victim, "X");
                replies.send("begun");
            }
            None => replies.send(datagram.bytes()),
        }
        Ok(())
    }
}

/// An address as a forger writes it: of the internet, or a path.
fn address(written: &str) -> Address {
    match written.parse() {
        Ok(addr) => Address::Udp(addr),
        Err(_) => Address::UnixGram(UnixName::new(written)),
    }
}

/// Begins so many loops between two echo servers, and counts what they exchange.
fn exchanged_in_loops(on: On, loops: u64) -> u64 {
    let one = on.spawn(Server::datagrams(Echo));
    let other = on.spawn(Server::datagrams(Echo));
    let target = match other.address() {
        Address::UnixGram(name) => name.to_string(),
        _ => other.addr().to_string(),
    };
    for _ in 0..loops {
        let mut forger = one.client();
        assert_eq!(forger.ask(&format!("begin {target}")), "begun");
    }
    let withheld = || one.stats().replies_withheld + other.stats().replies_withheld;
    eventually("every loop has died", || withheld() == loops);
    one.stats().datagrams_received + other.stats().datagrams_received - loops
}

fn a_loop_between_two_servers_dies_out(on: On) {
    let exchanged = exchanged_in_loops(on, 1);
    assert!(exchanged < 200, "{exchanged} datagrams");
}

fn a_loop_of_two_datagrams_dies_out(on: On) {
    let exchanged = exchanged_in_loops(on, 2);
    assert!(exchanged < 400, "{exchanged} datagrams");
}

fn a_second_server_on_the_port_is_refused(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal));
    let again = on.listening_on(Script::new(&journal).server(), server.address());
    let error = again.bind().expect_err("the port is taken");
    assert!(error.to_string().contains("Address already in use"), "{error}");
    assert_eq!(server.client().ask("x"), "X");
    if on.is_unix() {
        return;
    }
    let foreign = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None);
    let foreign = foreign.expect("a socket");
    foreign.set_reuse_address(true).expect("an option");
    assert!(foreign.bind(&server.addr().into()).is_err(), "nobody can steal the port");
    assert_eq!(server.client().ask("x"), "X");
}

fn service_ports_are_not_answered_unless_told_to(on: On) {
    static ONE_AT_A_TIME: parking_lot::Mutex<()> = parking_lot::Mutex::new(());
    let _alone = ONE_AT_A_TIME.lock();
    let journal = Journal::default();
    let careful = on.play(Script::new(&journal));
    let answers = on.spawn(Script::new(&journal).server().answer_service_ports(true));
    let socket = [11_211, 1_900].iter().find_map(|port| UdpSocket::bind(("127.0.0.1", *port)).ok());
    let socket = socket.expect("a service's port that is free here");
    socket.set_read_timeout(Some(harness::PATIENCE)).expect("a deadline");
    socket.send_to(b"x", careful.addr()).expect("sent");
    eventually("it is counted", || dropped(&careful.stats(), "service-port") == 1);
    socket.send_to(b"x", answers.addr()).expect("sent");
    let (_, from) = socket.recv_from(&mut [0; 10]).expect("an answer");
    assert_eq!(from, answers.addr(), "the other one has not answered");
}

fn a_session_that_closes_with_datagrams_waiting_begins_anew(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal).handle(|message, cx| {
        cx.send(message);
        Ok(Next::Close)
    }));
    let mut client = server.client();
    (0..50).for_each(|number| client.say(&number.to_string()));
    for number in 0..50 {
        assert_eq!(client.hear(), number.to_string());
    }
    journal.wait_for_so_many(50, "finish done");
    assert_eq!(journal.count("setup"), 50);
}

/// Notes how many bytes each session has sent, once it has ended.
fn noting_ends(server: Server, journal: &Journal) -> Server {
    let journal = journal.clone();
    server.observer(move |event: &Event<'_>| {
        if let Event::SessionEnded { reason, traffic, .. } = event {
            journal.note(format!("ended {reason}, sent {}", traffic.sent));
        }
    })
}

/// A peer that says again and again what it is answered. `send` answers, and says whether it was let out.
fn withheld_now_and_then(on: On, send: impl Fn(&Remote) -> bool + Send + Sync + 'static) {
    const ROUNDS: usize = 100;
    let journal = Journal::default();
    let noted = journal.clone();
    let script = Script::new(&Journal::default()).handle(move |message, cx| {
        if message == b"bye" {
            return Ok(Next::Close);
        }
        noted.note(if send(&cx.remote()) { "let out" } else { "withheld" });
        Ok(Next::Continue)
    });
    let server = on.spawn(noting_ends(script.server(), &journal));
    let mut client = server.client();
    for round in 1..=ROUNDS {
        client.say("echo");
        eventually("it was handled", || journal.all().len() == round);
    }
    client.say("bye");
    // One of 64 is withheld.
    journal.wait_for(&format!("ended done, sent {}", (ROUNDS - 1) * "echo".len()));
    assert_eq!((journal.count("let out"), journal.count("withheld")), (ROUNDS - 1, 1));
    assert_eq!(server.stats().replies_withheld, 1);
}

fn what_the_loop_guard_withholds_is_told_to_a_remote_and_not_counted_as_sent(on: On) {
    withheld_now_and_then(on, |remote| match remote.send("echo") {
        Ok(()) => true,
        Err(why) => {
            assert_eq!(why, SendError::Withheld);
            false
        }
    });
}

fn what_the_loop_guard_withholds_is_told_to_a_group_and_not_counted_as_sent(on: On) {
    let group = Group::new();
    withheld_now_and_then(on, move |remote| {
        group.join(remote);
        let sent = group.send("echo");
        assert_eq!(sent.taken + sent.refused, 1, "{sent:?}");
        sent.taken == 1
    });
}

fn what_a_filter_says_is_counted_as_sent(on: On) {
    let journal = Journal::default();
    let server = Script::new(&Journal::default()).server().filter(|_| Verdict::reject_with("no!"));
    let server = on.spawn(noting_ends(server, &journal));
    assert_eq!(server.client().ask("x"), "no!");
    journal.wait_for("ended filtered, sent 3");
}
