//! Tests of a server whose system has no threads left: it serves with what it has, and closes clean.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::codec::Framing;
use crate::error::{Error, ErrorKind};
use crate::event::Event;
use crate::fault::Fault;
use crate::handler::{Next, handler_fn};
use crate::reason::CloseReason;
use crate::schedule::Concurrency;
use crate::server::{BoundServer, Server, ServerHandle};

const PATIENCE: Duration = Duration::from_secs(20);

/// What an observer has heard: names of events, and what they are about.
type Heard = Arc<Mutex<Vec<(&'static str, Option<CloseReason>)>>>;

/// A server that answers lines, and waits for the gate at "wait".
fn bound(concurrency: Concurrency, gate: &crossbeam_channel::Receiver<()>) -> (BoundServer, Heard) {
    let heard = Heard::default();
    let (noted, gate) = (heard.clone(), gate.clone());
    let server = Server::new(move |_peer| {
        let gate = gate.clone();
        handler_fn(move |message, cx| {
            if message == b"wait" {
                let _ = gate.recv_timeout(PATIENCE);
            }
            cx.send(message);
            Ok(Next::Continue)
        })
    });
    let server = server.observer(move |event: &Event<'_>| {
        let reason = match event {
            Event::ConnectionClosed { reason, .. } => Some((*reason).clone()),
            _ => None,
        };
        noted.lock().push((event.name(), reason));
    });
    let server = server.concurrency(concurrency).framing(Framing::lines());
    (server.tcp("127.0.0.1:0").bind().expect("bound"), heard)
}

fn count(heard: &Heard, name: &str) -> usize {
    heard.lock().iter().filter(|(heard, _)| *heard == name).count()
}

#[track_caller]
fn eventually(holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    let ticks = crossbeam_channel::tick(Duration::from_millis(1));
    while !holds() {
        assert!(Instant::now() < deadline, "it never came true");
        let _ = ticks.recv();
    }
}

fn client(server: &ServerHandle) -> TcpStream {
    let addr = server.addresses()[0].socket_addr().expect("an address");
    let client = TcpStream::connect(addr).expect("connected");
    client.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    client
}

fn hear(client: &mut TcpStream, expected: &str) {
    let mut heard = vec![0; expected.len()];
    client.read_exact(&mut heard).expect("an answer");
    assert_eq!(String::from_utf8_lossy(&heard), expected);
}

#[test]
fn a_server_without_a_thread_is_handed_back_and_can_be_spawned_again() {
    let (_open, gate) = crossbeam_channel::bounded(1);
    let (server, heard) = bound(Concurrency::pool(2), &gate);
    server.engine.refuse_threads(1);
    let failed = server.spawn().expect_err("there is no thread");
    assert!(failed.to_string().starts_with("cannot start a thread: "), "{failed}");
    assert_eq!((failed.error().kind(), failed.fault()), (ErrorKind::System, Fault::System));
    let server = failed.into_server().spawn().expect("there is one now");
    let mut client = client(&server);
    client.write_all(b"x\n").expect("sent");
    hear(&mut client, "x\n");
    server.stop();
    let counts = ["listener-started", "listener-stopped", "draining", "drained"];
    assert_eq!(counts.map(|name| count(&heard, name)), [1; 4]);
}

#[test]
fn a_spawn_error_that_is_dropped_closes_the_listeners() {
    let (_open, gate) = crossbeam_channel::bounded(1);
    let (server, heard) = bound(Concurrency::pool(2), &gate);
    server.engine.refuse_threads(1);
    let error = Error::from(server.spawn().expect_err("there is no thread"));
    assert_eq!(error.kind(), ErrorKind::System);
    assert_eq!(count(&heard, "listener-stopped"), 1);
}

#[test]
fn a_pool_without_its_first_worker_serves_nobody_and_says_so() {
    let (_open, gate) = crossbeam_channel::bounded(1);
    let (server, heard) = bound(Concurrency::pool(2), &gate);
    server.engine.refuse_threads(usize::MAX);
    let error = server.serve().expect_err("there is no worker");
    assert!(error.to_string().starts_with("cannot start a worker: "), "{error}");
    assert_eq!(count(&heard, "listener-stopped"), 1);
    assert_eq!(count(&heard, "drained"), 0, "no drain had begun");
}

#[test]
fn a_pool_that_gets_no_more_workers_serves_on_with_those_it_has() {
    let (open, gate) = crossbeam_channel::bounded(6);
    let (server, heard) = bound(Concurrency::pool(8), &gate);
    let engine = server.engine.clone();
    let server = server.spawn().expect("a thread");
    let mut quick = client(&server);
    quick.write_all(b"a\n").expect("sent");
    hear(&mut quick, "a\n");
    engine.refuse_threads(usize::MAX);
    // However many workers have been called in so far, these are more.
    let mut slow: Vec<_> = (0..6).map(|_| client(&server)).collect();
    slow.iter_mut().for_each(|client| client.write_all(b"wait\n").expect("sent"));
    eventually(|| count(&heard, "thread-failed") > 1);
    quick.write_all(b"b\n").expect("sent");
    slow.iter().for_each(|_| open.send(()).expect("the handlers wait"));
    slow.iter_mut().for_each(|client| hear(client, "wait\n"));
    hear(&mut quick, "b\n");
    assert!(server.drain(PATIENCE).is_clean());
    assert_eq!(count(&heard, "connection-opened"), count(&heard, "connection-closed"));
}

#[test]
fn connections_without_a_thread_are_served_once_there_is_one() {
    let (_open, gate) = crossbeam_channel::bounded(1);
    let (server, heard) = bound(Concurrency::threads(4), &gate);
    let engine = server.engine.clone();
    let server = server.spawn().expect("a thread");
    engine.refuse_threads(2);
    let mut clients = [client(&server), client(&server), client(&server)];
    for client in &mut clients {
        client.write_all(b"x\n").expect("sent");
    }
    for client in &mut clients {
        hear(client, "x\n");
    }
    assert_eq!(count(&heard, "thread-failed"), 2);
    assert!(server.drain(PATIENCE).is_clean());
}

#[test]
fn connections_that_never_get_a_thread_are_closed_by_the_drain() {
    let (_open, gate) = crossbeam_channel::bounded(1);
    let (server, heard) = bound(Concurrency::threads(4), &gate);
    let engine = server.engine.clone();
    let server = server.spawn().expect("a thread");
    engine.refuse_threads(usize::MAX);
    let mut clients = [client(&server), client(&server), client(&server)];
    eventually(|| count(&heard, "connection-opened") == 3);
    eventually(|| count(&heard, "thread-failed") > 0);
    let report = server.drain(Duration::from_millis(50));
    assert_eq!((report.forced, report.stuck), (3, 0), "{report}");
    let ends = heard.lock();
    let forced = ends.iter().filter(|(_, reason)| *reason == Some(CloseReason::Forced)).count();
    assert_eq!(forced, 3, "{ends:?}");
    for client in &mut clients {
        assert_eq!(client.read(&mut [0; 8]).unwrap_or(0), 0, "it is closed");
    }
}
