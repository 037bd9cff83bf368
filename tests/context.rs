//! What a callback can do: reply in every way, know its peer, block; and the ways to be a handler.

mod harness;

use std::collections::HashSet;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use harness::{Gate, Journal, On, Running, Script, eventually, matrix};
use parking_lot::Mutex;
use switchboard::{Datagram, DatagramHandler, Framing, Handler, Next, Remote, Replies, SendError};
use switchboard::{Server, handler_fn};

matrix! {
    replies_of_every_kind_leave_in_order: [tcp unix udp unixgram];
    a_written_draft_is_one_message_and_ends_where_promised: [tcp unix udp unixgram];
    a_draft_of_a_failed_callback_is_not_sent: [tcp unix udp unixgram];
    flush_sends_while_the_handler_still_runs: [tcp unix udp unixgram];
    what_was_collected_leaves_before_block_blocks: [tcp unix udp unixgram];
    block_returns_what_the_code_returns_and_survives_its_panic: [tcp unix udp unixgram];
    the_peer_is_known_with_both_addresses: [tcp unix udp unixgram];
    every_peer_has_a_number_of_its_own: [tcp unix udp unixgram];
    a_peer_that_is_gone_is_seen: [tcp unix];
    a_remote_sends_from_any_thread: [tcp unix udp unixgram];
    a_remote_is_harmless_once_its_peer_is_gone: [tcp unix udp unixgram];
    a_remote_is_harmless_once_the_server_is_gone: [tcp unix udp unixgram];
    a_shared_message_reaches_everybody: [tcp unix udp unixgram];
    a_closure_is_a_handler_with_state: [tcp unix udp unixgram];
    a_boxed_handler_is_a_handler_whole: [tcp unix udp unixgram];
}

fn replies_of_every_kind_leave_in_order(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal).handle(|_, cx| {
        let raw: &[u8] = if cx.peer().is_datagram() { b"two" } else { b"two\n" };
        cx.send("one");
        cx.send_raw(raw);
        cx.send_shared(&Arc::from(&b"three"[..]));
        write!(cx, "fo")?;
        write!(cx, "ur")?;
        cx.send("five");
        write!(cx, "six")?;
        Ok(Next::Continue)
    }));
    let mut client = server.client();
    client.say("x");
    for expected in ["one", "two", "three", "four", "five", "six"] {
        assert_eq!(client.hear(), expected);
    }
}

fn a_written_draft_is_one_message_and_ends_where_promised(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal).handle(|message, cx| {
        write!(cx, "a")?;
        write!(cx, "b")?;
        cx.flush()?;
        write!(cx, "c")?;
        io::Write::flush(cx)?;
        write!(cx, "d{}", message.len())?;
        Ok(Next::Continue)
    }));
    let mut client = server.client();
    client.say("xyz");
    for expected in ["ab", "c", "d3"] {
        assert_eq!(client.hear(), expected);
    }
}

fn a_draft_of_a_failed_callback_is_not_sent(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal).handle(|message, cx| {
        write!(cx, "half a mess")?;
        if message == b"fail" {
            return Err(io::Error::other("no more"));
        }
        write!(cx, "age")?;
        Ok(Next::Continue)
    }));
    let mut client = server.client();
    assert_eq!(client.ask("x"), "half a message");
    client.say("fail");
    journal.wait_for("finish handler-err: no more");
    if on.is_datagram() {
        assert_eq!(client.ask("x"), "half a message");
    } else {
        client.hears_only("");
    }
}

fn flush_sends_while_the_handler_still_runs(on: On) {
    let (journal, gate) = (Journal::default(), Gate::default());
    let _opens = gate.open_at_the_end();
    let at_gate = gate.clone();
    let server = on.play(Script::new(&journal).handle(move |_, cx| {
        cx.send("first");
        cx.flush()?;
        assert!(at_gate.pass());
        cx.send("second");
        Ok(Next::Continue)
    }));
    let mut client = server.client();
    client.say("x");
    assert_eq!(client.hear(), "first");
    gate.wait_for_arrivals(1);
    gate.open();
    assert_eq!(client.hear(), "second");
}

fn what_was_collected_leaves_before_block_blocks(on: On) {
    let (journal, gate) = (Journal::default(), Gate::default());
    let _opens = gate.open_at_the_end();
    let at_gate = gate.clone();
    let server = on.play(Script::new(&journal).handle(move |_, cx| {
        cx.send("asking");
        let passed = cx.block(|| at_gate.pass());
        cx.send(format!("answered {passed}"));
        Ok(Next::Continue)
    }));
    let mut client = server.client();
    client.say("x");
    assert_eq!(client.hear(), "asking");
    gate.open();
    assert_eq!(client.hear(), "answered true");
}

fn block_returns_what_the_code_returns_and_survives_its_panic(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal).handle(|message, cx| {
        let text = message.to_vec();
        let upper = cx.block(move || {
            assert!(text != b"panic", "planned: in block");
            text.to_ascii_uppercase()
        });
        cx.send(upper);
        Ok(Next::Continue)
    }));
    for _ in 0..20 {
        let mut client = server.client();
        client.say("panic");
        assert_eq!(server.client().ask("x"), "X");
    }
    journal.wait_for_so_many(20, "finish handler-panic");
}

fn the_peer_is_known_with_both_addresses(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal).handle(|_, cx| {
        let remote = cx.remote();
        assert_eq!((remote.peer(), remote.id()), (cx.peer(), cx.id()));
        cx.send(format!("{} {}", cx.peer(), cx.peer().local()));
        Ok(Next::Continue)
    }));
    let mut client = server.client();
    // The kernel says who a Unix stream's peer is; here it is this process.
    let credentials = if on.is_unix() && !on.is_datagram() {
        let uid = rustix::process::geteuid().as_raw();
        format!("[pid {}, uid {uid}]", std::process::id())
    } else {
        String::new()
    };
    let expected = format!("{}{credentials} {}", client.address(), server.address());
    assert_eq!(client.ask("who am I?"), expected);
}

fn every_peer_has_a_number_of_its_own(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal).handle(|message, cx| {
        cx.send(cx.id().to_string());
        Ok(if message == b"q" { Next::Close } else { Next::Continue })
    }));
    let mut numbers = HashSet::new();
    for _ in 0..50 {
        let mut client = server.client();
        let number = client.ask("x");
        assert_eq!(client.ask("q"), number, "a peer keeps its number");
        assert!(numbers.insert(number), "no number is given twice");
    }
}

fn a_peer_that_is_gone_is_seen(on: On) {
    let (journal, gate) = (Journal::default(), Gate::default());
    let _opens = gate.open_at_the_end();
    let (at_gate, noted) = (gate.clone(), journal.clone());
    let server = on.play(Script::new(&journal).handle(move |_, cx| {
        assert!(!cx.peer_gone());
        at_gate.pass();
        let ticks = crossbeam_channel::tick(Duration::from_millis(1));
        let deadline = Instant::now() + harness::PATIENCE;
        while !cx.peer_gone() && Instant::now() < deadline {
            let _ = ticks.recv();
        }
        noted.note(format!("gone {}", cx.peer_gone()));
        Ok(Next::Continue)
    }));
    let mut client = server.client();
    client.say("x");
    gate.wait_for_arrivals(1);
    client.vanish();
    gate.open();
    journal.wait_for("gone true");
    journal.wait_for(if on.is_unix() { "finish peer-eof" } else { "finish peer-reset" });
}

/// A server that hands out the remote of everybody who speaks.
fn with_remotes(on: On, journal: &Journal) -> (Running, crossbeam_channel::Receiver<Remote>) {
    let (give, take) = crossbeam_channel::bounded(64);
    let server = on.play(Script::new(journal).handle(move |message, cx| {
        if message == b"q" {
            return Ok(Next::Close);
        }
        give.send(cx.remote()).map_err(io::Error::other)?;
        Ok(Next::Continue)
    }));
    (server, take)
}

fn a_remote_sends_from_any_thread(on: On) {
    let journal = Journal::default();
    let (server, remotes) = with_remotes(on, &journal);
    let mut client = server.client();
    client.say("x");
    let remote = remotes.recv_timeout(harness::PATIENCE).expect("a remote");
    std::thread::scope(|scope| {
        for number in 0..4 {
            let remote = remote.clone();
            scope.spawn(move || remote.send(format!("from {number}")).expect("taken"));
        }
    });
    let mut heard: Vec<String> = (0..4).map(|_| client.hear()).collect();
    heard.sort();
    assert_eq!(heard, ["from 0", "from 1", "from 2", "from 3"]);
    assert!(remote.is_open());
}

fn a_remote_is_harmless_once_its_peer_is_gone(on: On) {
    let journal = Journal::default();
    let (server, remotes) = with_remotes(on, &journal);
    let mut client = server.client();
    client.say("x");
    let remote = remotes.recv_timeout(harness::PATIENCE).expect("a remote");
    client.say("q");
    journal.wait_for("finish done");
    eventually("it is closed", || !remote.is_open());
    assert_eq!(remote.send("x"), Err(SendError::Closed));
    assert_eq!(remote.send_shared(&Arc::from(&b"x"[..])), Err(SendError::Closed));
    assert_eq!(remote.clone().peer(), remote.peer());
}

fn a_remote_is_harmless_once_the_server_is_gone(on: On) {
    let journal = Journal::default();
    let (server, remotes) = with_remotes(on, &journal);
    let mut client = server.client();
    client.say("x");
    let remote = remotes.recv_timeout(harness::PATIENCE).expect("a remote");
    drop(server);
    assert_eq!(remote.send("x"), Err(SendError::Closed));
    assert!(!remote.is_open());
}

fn a_shared_message_reaches_everybody(on: On) {
    let journal = Journal::default();
    let (server, remotes) = with_remotes(on, &journal);
    let mut clients: Vec<_> = (0..20).map(|_| server.client()).collect();
    clients.iter_mut().for_each(|client| client.say("x"));
    let remotes: Vec<Remote> = remotes.iter().take(clients.len()).collect();
    let body: Arc<[u8]> = Arc::from("y".repeat(3_000).as_bytes());
    for _ in 0..5 {
        remotes.iter().for_each(|remote| remote.send_shared(&body).expect("taken"));
    }
    for client in &mut clients {
        (0..5).for_each(|_| assert_eq!(client.hear(), "y".repeat(3_000)));
    }
}

fn a_closure_is_a_handler_with_state(on: On) {
    let server = on.spawn(Server::new(|_peer| {
        let mut count = 0;
        handler_fn(move |message, cx| {
            count += 1;
            cx.send(format!("{count}: {} bytes", message.len()));
            Ok(Next::Continue)
        })
    }));
    let (mut one, mut other) = (server.client(), server.client());
    assert_eq!(one.ask("abc"), "1: 3 bytes");
    assert_eq!(one.ask(""), "2: 0 bytes");
    assert_eq!(other.ask("x"), "1: 1 bytes");
}

fn a_boxed_handler_is_a_handler_whole(on: On) {
    let journal = Journal::default();
    let script = Script::new(&journal).setup(|cx| {
        cx.send("set up");
        Ok(Next::Continue)
    });
    let script = script.idle(|cx| {
        cx.send("idle");
        Ok(Next::Close)
    });
    let server = Server::new(move |_| -> Box<dyn Handler> { Box::new(script.clone()) });
    let server = on.spawn(server.idle_timeout(Duration::from_millis(50)));
    let mut client = server.client();
    client.say("x");
    assert_eq!(client.hear(), "set up");
    assert_eq!(client.hear(), "X");
    assert_eq!(client.hear(), "idle");
    journal.wait_for("finish idle-timeout");
}

/// Says what it got, and to whom it came.
struct Raw(Mutex<usize>);

impl DatagramHandler for Raw {
    fn handle(&self, datagram: &Datagram<'_>, replies: &mut Replies<'_>) -> io::Result<()> {
        *self.0.lock() += 1;
        match datagram.bytes() {
            b"fail" => {
                replies.send("never seen");
                Err(io::Error::other("no"))
            }
            b"panic" => panic!("planned: a datagram"),
            b"silence" => Ok(()),
            bytes => {
                replies.send(format!("{} {}", bytes.len(), datagram.is_truncated()));
                replies.send("");
                Ok(())
            }
        }
    }
}

matrix! {
    a_datagram_handler_serves_everybody: [udp unixgram];
}

fn a_datagram_handler_serves_everybody(on: On) {
    let server = on.spawn(Server::datagrams(Raw(Mutex::new(0))).max_datagram(100));
    let mut clients: Vec<_> = (0..5).map(|_| server.client()).collect();
    for client in &mut clients {
        for bad in ["silence", "fail", "panic"] {
            client.say(bad);
        }
        assert_eq!(client.ask("abc"), "3 false");
        assert_eq!(client.hear(), "");
        assert_eq!(client.ask(&"x".repeat(200)), "100 true");
        assert_eq!(client.hear(), "");
        assert_eq!(client.ask(""), "0 false");
        assert_eq!(client.hear(), "");
    }
    eventually("all are counted", || {
        let stats = server.stats();
        let dropped: Vec<_> = stats.datagrams_dropped().filter(|(_, count)| *count > 0).collect();
        stats.datagrams_handled == 15 && dropped == [("truncated", 5), ("failed", 10)]
    });
}

#[test]
fn raw_bytes_are_a_framing_of_their_own() {
    let server = Running::of(
        Server::new(|_| {
            handler_fn(|message, cx| {
                cx.send(message.to_ascii_uppercase());
                Ok(Next::Continue)
            })
        })
        .framing(Framing::raw())
        .tcp("127.0.0.1:0"),
    );
    let mut client = server.client();
    client.send_bytes(b"no line end");
    assert_eq!(client.hear_bytes(11), b"NO LINE END");
}
