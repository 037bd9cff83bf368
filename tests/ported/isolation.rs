//! Acceptors: what fails costs itself alone (58, 59), and what comes unexpected is ignored (102).

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::bounded;
use switchboard::{CloseReason, Event, Handler, Next, Peer, SendError, Server};

use crate::harness::{Journal, On, PATIENCE, Script, eventually};
use crate::row::{ALL, EVERY, Row, acceptors};

pub(crate) const ROWS: &[Row] = &[
    acceptors("58", "A factory that panics six times costs six peers", (EVERY, ALL), factory),
    acceptors(
        "59",
        "A panic in finish, in a destructor, in a payload is contained",
        (EVERY, ALL),
        last_panics,
    ),
    acceptors(
        "102",
        "Messages for who is gone and drains asked twice are ignored",
        (EVERY, ALL),
        unexpected,
    ),
];

fn factory(on: On) {
    let (made, told) = (Arc::new(AtomicUsize::new(0)), Journal::default());
    let (count, noted) = (made.clone(), told.clone());
    let server = Server::new(move |_: &Peer| {
        assert!(count.fetch_add(1, Ordering::SeqCst) >= 6, "planned: a factory");
        Script::new(&Journal::default())
    });
    let server = on.spawn(server.observer(move |event: &Event<'_>| {
        if let Event::ConnectionClosed { reason, .. } | Event::SessionEnded { reason, .. } = event {
            noted.note(reason.name());
        }
    }));
    for round in 1..=6 {
        let mut unlucky = server.client();
        if on.is_datagram() {
            unlucky.say("x");
        } else {
            unlucky.hears_only("");
        }
        told.wait_for_so_many(round, "handler-panic");
    }
    let mut client = server.client();
    assert_eq!(client.ask("x"), "X");
    eventually("the places are given back", || {
        let stats = server.stats();
        stats.connections_open + stats.sessions_open == 1
    });
    assert_eq!((made.load(Ordering::SeqCst), told.all().len()), (7, 6));
}

/// Panics wherever it still can: in finish, as it is dropped, and as its panic's payload is dropped.
struct Explosive(Journal);

impl Handler for Explosive {
    fn handle(&mut self, message: &[u8], cx: &mut switchboard::Context<'_>) -> io::Result<Next> {
        cx.send(message);
        match message {
            b"panic" => std::panic::panic_any(Payload(self.0.clone())),
            _ => Ok(Next::Close),
        }
    }

    fn finish(&mut self, _reason: &CloseReason) {
        self.0.note("finish");
        panic!("planned: finish");
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
        self.0.note("payload");
        panic!("planned: a payload");
    }
}

fn last_panics(on: On) {
    let journal = Journal::default();
    let noted = journal.clone();
    let server = on.spawn(Server::new(move |_| Explosive(noted.clone())));
    for _ in 0..10 {
        server.client().say("panic");
        assert_eq!(server.client().ask("x"), "x");
    }
    journal.wait_for_so_many(10, "payload");
    journal.wait_for_so_many(20, "dropped");
    eventually("the places are given back", || {
        let stats = server.stats();
        stats.connections_open + stats.sessions_open == 0
    });
    drop(server);
    assert_eq!((journal.count("finish"), journal.count("dropped")), (20, 20));
}

fn unexpected(on: On) {
    let (give, take) = bounded(1);
    let server = on.play(Script::new(&Journal::default()).handle(move |message, cx| {
        if message == b"leave" {
            give.send(cx.remote()).map_err(io::Error::other)?;
        }
        cx.send(message);
        Ok(if message == b"leave" { Next::Close } else { Next::Continue })
    }));
    let mut stays = server.client();
    assert_eq!(stays.ask("x"), "x");
    assert_eq!(server.client().ask("leave"), "leave");
    let gone = take.recv_timeout(PATIENCE).expect("a remote");
    eventually("it is closed", || !gone.is_open());
    for _ in 0..100 {
        assert_eq!(gone.send("nobody is there"), Err(SendError::Closed));
    }
    assert_eq!(stays.ask("y"), "y");
    let handle = (*server).clone();
    for _ in 0..10 {
        handle.begin_drain(Duration::from_secs(3600));
    }
    assert!(handle.drain(PATIENCE).is_clean());
    handle.begin_drain(PATIENCE);
    assert_eq!(gone.send("nobody is there"), Err(SendError::Closed));
}
