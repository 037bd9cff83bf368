//! Whatever fails in user code costs its own peer and nothing else, in every callback, in every mode.

mod harness;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use harness::{Journal, On, Script, eventually, matrix};
use switchboard::{CloseReason, Context, Handler, Next, Peer, Server};

matrix! {
    a_panic_in_any_callback_ends_its_own_peer_alone: [tcp unix udp unixgram];
    an_error_in_any_callback_ends_its_own_peer_alone: [tcp unix udp unixgram];
    a_panic_in_finish_is_contained: [tcp unix udp unixgram];
    a_panic_in_a_destructor_is_contained: [tcp unix udp unixgram];
    a_panic_in_the_successor_of_a_switch_is_contained: [tcp unix udp unixgram];
    a_peer_that_resets_costs_itself_alone: [tcp];
    a_peer_that_leaves_its_reply_unread_costs_itself_alone: [unix];
    replies_collected_before_a_panic_are_flushed_before_the_end: [tcp unix];
}

/// Which callback is to go wrong: the one whose name the first message says.
const CALLBACKS: [&str; 6] = ["setup", "handle", "idle", "rejected", "half_closed", "draining"];

/// A script in which one callback does this instead.
fn going_wrong(journal: &Journal, callback: &str, wrong: fn() -> io::Result<Next>) -> Script {
    let script = Script::new(journal);
    match callback {
        "setup" => script.setup(move |_| wrong()),
        "handle" => script.handle(move |_, _| wrong()),
        "idle" => script.idle(move |_| wrong()),
        "rejected" => script.rejected(move |_, _| wrong()),
        "half_closed" => script.half_closed(move |_| wrong()),
        _ => script.draining(move |_| wrong()),
    }
}

/// Has every callback go wrong in turn, on a server each whose other peers are well.
fn every_callback(on: On, wrong: fn() -> io::Result<Next>, reason: &CloseReason) {
    for callback in CALLBACKS {
        if on.is_datagram() && callback == "half_closed" {
            continue;
        }
        let (bad, good) = (Journal::default(), Journal::default());
        let (faulty, sound) =
            (going_wrong(&bad, callback, wrong), Script::new(&good).idle(|_| Ok(Next::Continue)));
        let first = Arc::new(AtomicUsize::new(0));
        let server = Server::new(move |_: &Peer| match first.fetch_add(1, Ordering::SeqCst) {
            0 => faulty.clone(),
            _ => sound.clone(),
        });
        let server = on.spawn(server.idle_timeout(Duration::from_millis(40)).max_datagram(9_000));
        let mut client = server.client();
        if on.is_datagram() || callback == "handle" {
            client.say("x");
        }
        bad.wait_for("setup");
        let mut bystander = server.client();
        assert_eq!(bystander.ask("before"), "BEFORE");
        match callback {
            "rejected" => client.say(&"x".repeat(9_001)),
            "half_closed" => client.finish_sending(),
            "draining" => server.begin_drain(harness::PATIENCE),
            _ => {}
        }
        if !on.is_datagram() {
            assert!(client.is_cut_off(), "{callback}");
        }
        drop(client);
        let sessions = |stats: &switchboard::Stats| -> u64 {
            stats.sessions_closed().filter(|(name, _)| *name == reason.name()).map(|(_, n)| n).sum()
        };
        eventually(callback, || {
            let stats = server.stats();
            if on.is_datagram() { sessions(&stats) == 1 } else { stats.closed_for(reason) == 1 }
        });
        if callback != "draining" {
            assert_eq!(bystander.ask("after"), "AFTER");
            assert_eq!(server.client().ask("new"), "NEW");
        }
        let owed = usize::from(callback != "setup");
        assert_eq!(bad.count("finish"), owed, "{callback}: {:?}", bad.all());
        assert_eq!(bad.count(&format!("finish {}", reason.name())), owed);
    }
}

fn a_panic_in_any_callback_ends_its_own_peer_alone(on: On) {
    every_callback(on, || panic!("planned: everywhere"), &CloseReason::HandlerPanic);
}

fn an_error_in_any_callback_ends_its_own_peer_alone(on: On) {
    let reason = CloseReason::HandlerErr("on purpose".to_owned());
    every_callback(on, || Err(io::Error::other("on purpose")), &reason);
}

fn a_panic_in_finish_is_contained(on: On) {
    let journal = Journal::default();
    let script = Script::new(&journal).finish(|_| panic!("planned: finish"));
    let server = on.play(script.handle(|message, cx| {
        cx.send(message);
        Ok(Next::Close)
    }));
    for _ in 0..20 {
        assert_eq!(server.client().ask("x"), "x");
    }
    journal.wait_for_so_many(20, "finish done");
    eventually("all are gone", || {
        let stats = server.stats();
        stats.connections_open + stats.sessions_open == 0
    });
}

/// Panics when it is dropped.
struct Explosive(Journal);

impl Handler for Explosive {
    fn handle(&mut self, message: &[u8], cx: &mut Context<'_>) -> io::Result<Next> {
        cx.send(message);
        match message {
            b"panic" => std::panic::panic_any(Payload(self.0.clone())),
            b"switch" => Ok(Next::Switch(Box::new(Self(self.0.clone())))),
            _ => Ok(Next::Close),
        }
    }
}

impl Drop for Explosive {
    fn drop(&mut self) {
        self.0.note("dropped");
        assert!(std::thread::panicking(), "planned: a destructor");
    }
}

/// A panic's payload that panics when it is dropped.
struct Payload(Journal);

impl Drop for Payload {
    fn drop(&mut self) {
        self.0.note("payload dropped");
        panic!("planned: a payload");
    }
}

fn a_panic_in_a_destructor_is_contained(on: On) {
    let journal = Journal::default();
    let noted = journal.clone();
    let server = on.spawn(Server::new(move |_| Explosive(noted.clone())));
    for message in ["x", "switch"] {
        for _ in 0..10 {
            assert_eq!(server.client().ask(message), message);
        }
    }
    drop(server);
    assert_eq!(journal.count("dropped"), 30, "each handler is dropped once");
}

fn a_panic_in_the_successor_of_a_switch_is_contained(on: On) {
    let journal = Journal::default();
    let second = Script::new(&Journal::default()).setup(|_| panic!("planned: the successor"));
    let server = on.play(Script::new(&journal).handle(move |message, cx| {
        cx.send(message);
        match message {
            b"switch" => Ok(Next::Switch(Box::new(second.clone()))),
            _ => Ok(Next::Continue),
        }
    }));
    let mut bystander = server.client();
    assert_eq!(bystander.ask("x"), "x");
    let mut client = server.client();
    client.say("switch");
    journal.wait_for("finish switched");
    if !on.is_datagram() {
        client.hears_only("switch\n");
    }
    assert_eq!(bystander.ask("y"), "y");
}

fn a_peer_that_resets_costs_itself_alone(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal));
    let mut bystander = server.client();
    for round in 0..50 {
        let mut client = server.client();
        match round % 3 {
            0 => {}
            1 => client.send_bytes(b"half a line"),
            _ => assert_eq!(client.ask("x"), "X"),
        }
        client.reset();
        assert_eq!(bystander.ask("still there"), "STILL THERE");
    }
    // (The last one may not even have been accepted yet.)
    eventually("all were reset", || server.stats().closed_for(&CloseReason::PeerReset) == 50);
    eventually("all are gone", || server.stats().connections_open == 1);
}

/// Over Unix sockets this is what a reset is.
fn a_peer_that_leaves_its_reply_unread_costs_itself_alone(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal));
    let mut bystander = server.client();
    for _ in 0..50 {
        let mut client = server.client();
        client.say("x");
        client.wait_for_more();
        drop(client);
        assert_eq!(bystander.ask("still there"), "STILL THERE");
    }
    eventually("all are gone", || server.stats().connections_open == 1);
    assert_eq!(server.stats().closed_for(&CloseReason::PeerReset), 50);
}

fn replies_collected_before_a_panic_are_flushed_before_the_end(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal).handle(|message, cx| {
        cx.send(message.to_ascii_uppercase());
        assert!(message != b"c", "planned: the third one");
        Ok(Next::Continue)
    }));
    let mut client = server.client();
    client.send_bytes(b"a\nb\nc\nd\n");
    let heard = client.rest().expect("an orderly end");
    drop(client);
    assert!(heard.starts_with(b"A\nB\n"), "{:?}", String::from_utf8_lossy(&heard));
    journal.wait_for("finish handler-panic");
}
