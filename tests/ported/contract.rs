//! Acceptors: the contract with a handler (47 to 57), and several messages at once (101).

use std::io::{self, BufRead, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::bounded;
use proptest::test_runner::{Config, TestRunner};
use switchboard::{
    CloseReason, Context, Event, Handler, Next, Server, Stream, StreamHandler, Verdict,
};

use crate::harness::{Gate, Journal, On, PATIENCE, Script, eventually};
use crate::row::{ALL, DATAGRAMS, EVERY, POOL, Row, SEVERAL, STREAMS, TCP, acceptors};

pub(crate) const ROWS: &[Row] = &[
    acceptors("47", "State is kept from callback to callback, up to finish", (EVERY, ALL), state),
    acceptors("48", "Setup: continue, close, error, panic", (EVERY, ALL), setup_endings),
    acceptors("49", "A message: continue, close, error, panic", (EVERY, ALL), handle_endings),
    acceptors(
        "51",
        "A peer that closes is one ending without an error",
        (EVERY, STREAMS),
        peer_closes,
    ),
    acceptors("51", "A peer that resets is one ending, a reset", (EVERY, TCP), peer_resets),
    acceptors(
        "51",
        "A peer that has finished sending can be written to",
        (EVERY, STREAMS),
        half_closed,
    ),
    acceptors("52", "Each ending is told once, whatever happens", (EVERY, ALL), one_ending),
    acceptors("53", "Two clients are answered in inverted order", (SEVERAL, ALL), inverted),
    acceptors(
        "53",
        "With one worker, the parked one is answered meanwhile",
        (POOL, ALL),
        one_worker,
    ),
    acceptors("54", "Reads and returns mix, and no byte is lost between", (EVERY, STREAMS), mixed),
    acceptors(
        "55",
        "A successor is set up before any further message",
        (EVERY, ALL),
        successor_first,
    ),
    acceptors("56", "A push from elsewhere reaches an idle peer", (EVERY, ALL), push),
    acceptors("57", "Unread bytes are the successor's first", (EVERY, STREAMS), switch),
    acceptors(
        "101",
        "Messages in one segment are handled and answered together",
        (EVERY, STREAMS),
        batch,
    ),
    acceptors("101", "A batch of datagrams is handled one by one", (EVERY, DATAGRAMS), gram_batch),
];

/// Counts, and says so at the end.
struct Counter {
    count: usize,
    journal: Journal,
}

impl Handler for Counter {
    fn setup(&mut self, _cx: &mut Context<'_>) -> io::Result<Next> {
        self.count += 10;
        Ok(Next::Continue)
    }

    fn handle(&mut self, message: &[u8], cx: &mut Context<'_>) -> io::Result<Next> {
        self.count += 1;
        cx.send(self.count.to_string());
        Ok(if message == b"q" { Next::Close } else { Next::Continue })
    }

    fn finish(&mut self, reason: &CloseReason) {
        self.journal.note(format!("{reason} {}", self.count));
    }
}

fn state(on: On) {
    let journal = Journal::default();
    let noted = journal.clone();
    let server = on.spawn(Server::new(move |_| Counter { count: 100, journal: noted.clone() }));
    let (mut one, mut other) = (server.client(), server.client());
    assert_eq!(
        [one.ask("x"), one.ask("x"), other.ask("x"), one.ask("q")],
        ["111", "112", "111", "113"]
    );
    journal.wait_for("done 113");
}

/// What a callback does in the round of this number, and how that ends.
fn ending(round: usize) -> (fn() -> io::Result<Next>, &'static str) {
    match round {
        0 => (|| Ok(Next::Close), "done"),
        1 => (|| Err(io::Error::other("no")), "handler-err"),
        2 => (|| panic!("planned: the contract"), "handler-panic"),
        _ => (|| Ok(Next::Continue), "draining"),
    }
}

/// Plays each ending of a callback on a server of its own, which tells what it has seen of it.
fn endings(
    on: On,
    script: impl Fn(&Journal, fn() -> io::Result<Next>) -> Script,
    finishes: [usize; 4],
) {
    for (round, finishes) in finishes.into_iter().enumerate() {
        let (act, reason) = ending(round);
        let (journal, told) = (Journal::default(), Journal::default());
        let noted = told.clone();
        let server = script(&journal, act).server();
        let server = on.spawn(server.observer(move |event: &Event<'_>| match event {
            Event::ConnectionClosed { reason, .. } | Event::SessionEnded { reason, .. } => {
                noted.note(reason.name());
            }
            _ => {}
        }));
        let mut client = server.client();
        client.say("x");
        if reason == "draining" {
            assert_eq!(client.hear(), "X");
            server.begin_drain(PATIENCE);
        } else {
            assert!(on.is_datagram() || client.is_cut_off());
            // (Its question may be unread: the server lingers for as long as it stays.)
            drop(client);
        }
        told.wait_for(reason);
        drop(server);
        assert_eq!(told.all(), [reason], "once");
        assert_eq!(journal.count("finish"), finishes, "{:?}", journal.all());
    }
}

fn setup_endings(on: On) {
    let script = |journal: &Journal, act: fn() -> io::Result<Next>| {
        Script::new(journal).setup(move |_| act())
    };
    // A setup that has failed has no finish.
    endings(on, script, [1, 0, 0, 1]);
}

fn handle_endings(on: On) {
    let script = |journal: &Journal, act: fn() -> io::Result<Next>| {
        Script::new(journal).handle(move |message, cx| {
            let next = act();
            cx.send(message.to_ascii_uppercase());
            next
        })
    };
    endings(on, script, [1, 1, 1, 1]);
}

fn peer_closes(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal));
    assert_eq!(server.client().ask("x"), "X");
    journal.wait_for("finish peer-eof");
    drop(server);
    assert_eq!(journal.all(), ["setup", "handle x", "half_closed", "finish peer-eof"]);
}

fn peer_resets(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal));
    let mut client = server.client();
    assert_eq!(client.ask("x"), "X");
    client.reset();
    journal.wait_for("finish peer-reset");
    drop(server);
    assert_eq!(journal.all(), ["setup", "handle x", "finish peer-reset"]);
}

fn half_closed(on: On) {
    let server = on.play(Script::new(&Journal::default()).half_closed(|cx| {
        cx.send("and goodbye");
        Ok(Next::Close)
    }));
    let mut client = server.client();
    client.say("x");
    client.finish_sending();
    client.hears_only("X\nand goodbye\n");
}

/// Plays clients that end in ways of their own, at random, beside a drain; counts beginnings and ends.
fn one_ending(on: On) {
    let config = Config { cases: 6, failure_persistence: None, ..Config::default() };
    let schedules = proptest::collection::vec(0_usize..8, 1..20);
    let check = |endings: Vec<usize>| {
        let (journal, begun, ended) = (Journal::default(), Journal::default(), Journal::default());
        let script = Script::new(&journal).handle(|message, cx| {
            cx.send("heard");
            match message {
                b"0" => Ok(Next::Close),
                b"1" => Ok(Next::Abort),
                b"2" => Err(io::Error::other("no")),
                b"3" => panic!("planned: at random"),
                b"4" => Ok(Next::HalfClose),
                _ => Ok(Next::Continue),
            }
        });
        let (starts, stops) = (begun.clone(), ended.clone());
        let server = script.server().idle_timeout(Duration::from_millis(30));
        let server = on.spawn(server.observer(move |event: &Event<'_>| match event.name() {
            "connection-opened" | "session-begun" => starts.note(format!("{:?}", event.id())),
            "connection-closed" | "session-ended" => stops.note(format!("{:?}", event.id())),
            _ => {}
        }));
        let mut stay = Vec::new();
        for ending in &endings {
            let mut client = server.client();
            drop(client.try_send(format!("{ending}\n").as_bytes()));
            match ending {
                5 => client.vanish(),
                6 => stay.push(client),
                _ => drop(client.try_hear()),
            }
        }
        drop(server);
        let sorted = |journal: &Journal| {
            let mut ids = journal.all();
            ids.sort();
            ids
        };
        assert_eq!(sorted(&begun), sorted(&ended), "each start has its one stop");
        assert_eq!(journal.count("setup"), journal.count("finish"), "{:?}", journal.all());
        Ok(())
    };
    TestRunner::new(config).run(&schedules, check).expect("every schedule");
}

/// A server on which `first` waits for the gate.
fn gated(gate: &Gate) -> Script {
    let gate = gate.clone();
    Script::new(&Journal::default()).handle(move |message, cx| {
        if message == b"first" {
            assert!(cx.block(|| gate.pass()));
        }
        cx.send(message);
        Ok(Next::Continue)
    })
}

fn inverted(on: On) {
    let gate = Gate::default();
    let _opens = gate.open_at_the_end();
    let server = on.play(gated(&gate));
    let (mut one, mut other) = (server.client(), server.client());
    one.say("first");
    gate.wait_for_arrivals(1);
    assert_eq!(other.ask("second"), "second");
    gate.open();
    assert_eq!(one.hear(), "first");
}

fn one_worker(on: On) {
    // A worker is what runs; who waits between two messages needs none.
    let server = on.under(switchboard::Concurrency::pool(1)).play(gated(&Gate::default()));
    let mut clients: Vec<_> = (0..10).map(|_| server.client()).collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.ask("hello"), "hello"));
    for client in clients.iter_mut().rev() {
        assert_eq!(client.ask("inverted"), "inverted");
    }
}

/// Reads a byte, returns; reads a line, returns; in turn.
struct Mixed(bool);

impl StreamHandler for Mixed {
    fn handle(&mut self, stream: &mut Stream<'_>) -> io::Result<Next> {
        self.0 = !self.0;
        if self.0 {
            let mut one = [0];
            stream.read_exact(&mut one)?;
            writeln!(stream, "byte {}", one[0] as char)?;
        } else {
            let mut line = String::new();
            stream.read_line(&mut line)?;
            writeln!(stream, "line {}", line.trim_end())?;
        }
        Ok(Next::Continue)
    }
}

fn mixed(on: On) {
    let server = on.spawn(Server::streams(|_| Mixed(false)));
    let mut client = server.client();
    // All of it at once: what is left over makes the next call without new bytes.
    client.send_bytes(b"abc\ndef\nghi\n");
    for expected in ["byte a", "line bc", "byte d", "line ef", "byte g", "line hi"] {
        assert_eq!(client.hear(), expected);
    }
}

/// Echoes with a mark, after a greeting.
struct Successor;

impl Handler for Successor {
    fn setup(&mut self, cx: &mut Context<'_>) -> io::Result<Next> {
        cx.send("set up");
        Ok(Next::Continue)
    }

    fn handle(&mut self, message: &[u8], cx: &mut Context<'_>) -> io::Result<Next> {
        cx.send([b"2:", message].concat());
        Ok(if message == b"q" { Next::Close } else { Next::Continue })
    }
}

fn switching(journal: &Journal) -> Script {
    Script::new(journal).handle(|message, cx| {
        cx.send([b"1:", message].concat());
        Ok(if message == b"switch" { Next::Switch(Box::new(Successor)) } else { Next::Continue })
    })
}

fn successor_first(on: On) {
    let server = on.play(switching(&Journal::default()));
    let mut client = server.client();
    client.say("switch");
    client.say("further");
    for expected in ["1:switch", "set up", "2:further"] {
        assert_eq!(client.hear(), expected);
    }
}

fn switch(on: On) {
    let journal = Journal::default();
    let server = on.play(switching(&journal));
    let mut client = server.client();
    client.send_bytes(b"a\nswitch\nb\nc\nq\n");
    client.hears_only("1:a\n1:switch\nset up\n2:b\n2:c\n2:q\n");
    assert_eq!(journal.all(), ["setup", "handle a", "handle switch", "finish switched"]);
}

fn push(on: On) {
    let (give, take) = bounded(1);
    let server = on.play(Script::new(&Journal::default()).handle(move |message, cx| {
        if message == b"here I am" {
            give.send(cx.remote()).map_err(io::Error::other)?;
        }
        cx.send(message);
        Ok(Next::Continue)
    }));
    let (mut client, mut other) = (server.client(), server.client());
    assert_eq!(client.ask("here I am"), "here I am");
    let remote = take.recv_timeout(PATIENCE).expect("a remote");
    for number in 0..10 {
        remote.send(format!("unasked {number}")).expect("taken");
        assert_eq!(client.hear(), format!("unasked {number}"));
        assert_eq!([client.ask("own"), other.ask("other")], ["own", "other"]);
    }
}

fn batch(on: On) {
    let server = on.play(Script::new(&Journal::default()));
    let mut client = server.client();
    client.send_bytes(b"one\ntwo\nthree\n");
    assert_eq!([client.hear(), client.hear(), client.hear()], ["ONE", "TWO", "THREE"]);
    eventually("all are counted", || server.stats().messages == 3);
}

fn gram_batch(on: On) {
    let handled = Arc::new(AtomicUsize::new(0));
    let count = handled.clone();
    let server = Script::new(&Journal::default()).handle(move |message, cx| {
        cx.send(format!("{} {}", count.fetch_add(1, Ordering::SeqCst), message.len()));
        Ok(Next::Continue)
    });
    let server = on.spawn(server.server().filter(|_| Verdict::Accept));
    let mut client = server.client();
    (0..100).for_each(|length| client.say(&"x".repeat(length)));
    for number in 0..100 {
        assert_eq!(client.hear(), format!("{number} {number}"));
    }
}
