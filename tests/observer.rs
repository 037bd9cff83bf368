//! Observers: every start has its one stop, bytes are exact, ids link, and their panics harm nobody.

mod harness;

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use harness::{Gate, Journal, On, PATIENCE, Running, Script, eventually, matrix};
use parking_lot::Mutex;
use switchboard::{
    Address, ConnectionId, ErrorKind, Event, Listen, Next, Observer, Overflow, Peer, Remote,
    SendError, ServerHandle, ServerStage, Traffic,
};

matrix! {
    every_start_has_exactly_one_stop_in_every_ending: [tcp unix udp unixgram];
    an_idle_end_is_one_stop: [tcp unix udp unixgram];
    an_overflow_is_one_stop: [tcp unix];
    bytes_are_exact_for_a_greeting: [tcp unix udp unixgram];
    bytes_are_exact_whoever_sends: [tcp unix udp unixgram];
    ids_link_the_events_with_the_handler: [tcp unix udp unixgram];
    a_server_begins_and_ends_with_its_own_events: [tcp unix udp unixgram];
    sockets_that_share_a_port_are_one_listener: [tcp udp];
    a_drain_is_told_to_everybody_before_it_can_end: [tcp unix udp unixgram];
    changes_are_told_once_and_in_order: [tcp unix udp unixgram];
    a_server_that_never_serves_tells_of_its_drain_alone: [tcp unix udp unixgram];
    ten_thousand_panics_of_observers_change_nothing: [tcp unix udp unixgram];
    an_observer_may_use_the_server: [tcp unix udp unixgram];
    a_full_server_says_so: [tcp unix];
    a_dropped_datagram_is_told_with_its_reason: [udp unixgram];
    a_replaced_worker_is_told in [pool]: [tcp unix udp unixgram];
    a_stuck_handler_is_named_and_ends_once_it_returns in [threads pool]: [tcp unix udp unixgram];
}

/// What a test wants to know of an event.
#[derive(Clone, Debug)]
struct Entry {
    name: &'static str,
    id: Option<ConnectionId>,
    peer: Option<Peer>,
    listener: Option<Address>,
    reason: String,
    traffic: Traffic,
    line: String,
}

/// Remembers all events.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Vec<Entry>>>);

impl Observer for Recorder {
    fn event(&self, event: &Event<'_>) {
        let mut entry = Entry {
            name: event.name(),
            id: event.id(),
            peer: event.peer().cloned(),
            listener: None,
            reason: String::new(),
            traffic: Traffic::default(),
            line: event.to_string(),
        };
        match event {
            Event::ConnectionOpened { listener, .. } | Event::SessionBegun { listener, .. } => {
                entry.listener = Some((*listener).clone());
            }
            Event::ConnectionClosed { listener, reason, traffic, .. }
            | Event::SessionEnded { listener, reason, traffic, .. } => {
                entry.listener = Some((*listener).clone());
                entry.reason = reason.name().to_owned();
                entry.traffic = *traffic;
            }
            Event::ListenerStarted { address } | Event::ListenerStopped { address } => {
                entry.listener = Some((*address).clone());
            }
            Event::DatagramDropped { listener, reason, .. } => {
                entry.listener = Some((*listener).clone());
                entry.reason = reason.to_string();
            }
            _ => {}
        }
        self.0.lock().push(entry);
    }
}

impl Recorder {
    fn all(&self) -> Vec<Entry> {
        self.0.lock().clone()
    }

    fn named(&self, names: &[&str]) -> Vec<Entry> {
        self.0.lock().iter().filter(|entry| names.contains(&entry.name)).cloned().collect()
    }

    fn starts(&self) -> Vec<Entry> {
        self.named(&["connection-opened", "session-begun"])
    }

    fn stops(&self) -> Vec<Entry> {
        self.named(&["connection-closed", "session-ended"])
    }

    /// Waits for so many ends.
    #[track_caller]
    fn wait_for_stops(&self, count: usize) -> Vec<Entry> {
        eventually("they have ended", || self.stops().len() >= count);
        self.stops()
    }

    /// Each start has one stop, behind it, of the same peer and listener.
    #[track_caller]
    fn is_paired(&self) {
        let mut open: Vec<Entry> = Vec::new();
        for entry in self.all() {
            match entry.name {
                "connection-opened" | "session-begun" => {
                    assert!(open.iter().all(|other| other.id != entry.id), "twice: {entry:?}");
                    open.push(entry);
                }
                "connection-closed" | "session-ended" => {
                    let start = open.iter().position(|start| start.id == entry.id);
                    let start = open.swap_remove(start.expect("a stop has a start"));
                    assert_eq!((start.peer, start.listener), (entry.peer, entry.listener));
                }
                _ => {}
            }
        }
        assert!(open.is_empty(), "without an end: {open:?}");
    }
}

fn observed(on: On, script: Script) -> (Running, Recorder) {
    let recorder = Recorder::default();
    (on.spawn(script.server().observer(recorder.clone())), recorder)
}

/// A script that ends as the message says.
fn ending_as_told(journal: &Journal) -> Script {
    Script::new(journal).handle(|message, cx| {
        cx.send("heard");
        match message {
            b"close" => Ok(Next::Close),
            b"abort" => Ok(Next::Abort),
            b"fail" => Err(io::Error::other("no")),
            b"panic" => panic!("planned: as told"),
            _ => Ok(Next::Continue),
        }
    })
}

fn every_start_has_exactly_one_stop_in_every_ending(on: On) {
    let (server, recorder) = observed(on, ending_as_told(&Journal::default()));
    let mut expected = Vec::new();
    let mut stay: Vec<_> = (0..3).map(|_| server.client()).collect();
    stay.iter_mut().for_each(|client| assert_eq!(client.ask("x"), "heard"));
    let mut endings = vec![
        ("close", "done"),
        ("abort", "aborted"),
        ("fail", "handler-err"),
        ("panic", "handler-panic"),
    ];
    if !on.is_datagram() {
        endings.extend([("reset", "peer-reset"), ("eof", "peer-eof"), ("long", "frame-too-large")]);
    }
    for (ending, reason) in endings {
        for _ in 0..3 {
            expected.push(reason);
            let mut client = server.client();
            assert_eq!(client.ask("x"), "heard");
            match ending {
                "reset" if on.is_unix() => {
                    // Over Unix whoever leaves a reply unread resets.
                    client.say("x");
                    client.wait_for_more();
                    drop(client);
                }
                "reset" => client.reset(),
                "eof" => client.finish_sending(),
                "long" => {
                    client.send_bytes(&[b'x'; 9_000]);
                    client.finish_sending();
                }
                _ => client.say(ending),
            }
            recorder.wait_for_stops(expected.len());
        }
    }
    assert!(server.drain(PATIENCE).is_clean());
    expected.extend(["draining"; 3]);
    let stops = recorder.stops();
    let mut reasons: Vec<&str> = stops.iter().map(|stop| stop.reason.as_str()).collect();
    reasons.sort_unstable();
    expected.sort_unstable();
    assert_eq!(reasons, expected);
    recorder.is_paired();
}

fn an_idle_end_is_one_stop(on: On) {
    let recorder = Recorder::default();
    let script = Script::new(&Journal::default());
    let server = script.server().idle_timeout(Duration::from_millis(30));
    let server = on.spawn(server.observer(recorder.clone()));
    let mut client = server.client();
    assert_eq!(client.ask("x"), "X");
    let stops = recorder.wait_for_stops(1);
    assert_eq!((stops.len(), stops[0].reason.as_str()), (1, "idle-timeout"));
    assert!(stops[0].traffic.lasted >= Duration::from_millis(30), "{stops:?}");
    server.drain(PATIENCE);
    recorder.is_paired();
}

fn an_overflow_is_one_stop(on: On) {
    let remotes: Arc<Mutex<Vec<Remote>>> = Arc::default();
    let (recorder, kept) = (Recorder::default(), remotes.clone());
    let script = Script::new(&Journal::default()).handle(move |_, cx| {
        kept.lock().push(cx.remote());
        cx.send("kept");
        Ok(Next::Continue)
    });
    let server = script.server().outbox_limit(64 * 1024).overflow(Overflow::Disconnect);
    let server = on.spawn(server.observer(recorder.clone()));
    let mut client = server.client();
    assert_eq!(client.ask("x"), "kept");
    let remote = remotes.lock()[0].clone();
    let message = "y".repeat(4 * 1024);
    let is_refused = || remote.send(&message) == Err(SendError::Full);
    eventually("more waits than may", || (0..100).any(|_| is_refused()));
    let stops = recorder.wait_for_stops(1);
    assert_eq!((stops.len(), stops[0].reason.as_str()), (1, "overflow"));
    drop(client);
    server.drain(PATIENCE);
    recorder.is_paired();
}

fn bytes_are_exact_for_a_greeting(on: On) {
    let script = Script::new(&Journal::default()).setup(|cx| {
        cx.send_raw("hello");
        Ok(Next::Close)
    });
    let (server, recorder) = observed(on, script);
    let mut client = server.client();
    if on.is_datagram() {
        assert_eq!(client.ask("xyz"), "hello");
    } else {
        client.hears_only("hello");
    }
    let traffic = recorder.wait_for_stops(1)[0].traffic;
    // (The datagram that began the session was not handled any more.)
    assert_eq!((traffic.received, traffic.sent), (0, 5));
    server.drain(PATIENCE);
    recorder.is_paired();
}

fn bytes_are_exact_whoever_sends(on: On) {
    let remotes: Arc<Mutex<Vec<Remote>>> = Arc::default();
    let kept = remotes.clone();
    let script = Script::new(&Journal::default()).handle(move |message, cx| {
        kept.lock().push(cx.remote());
        cx.send(message);
        Ok(if message == b"bye" { Next::Close } else { Next::Continue })
    });
    let (server, recorder) = observed(on, script);
    let mut client = server.client();
    assert_eq!(client.ask("seven67"), "seven67");
    let remote = remotes.lock()[0].clone();
    remote.send("from elsewhere").expect("taken");
    assert_eq!(client.hear(), "from elsewhere");
    remote.send_shared(&Arc::from(&b"shared"[..])).expect("taken");
    assert_eq!(client.hear(), "shared");
    assert_eq!(client.ask("bye"), "bye");
    let traffic = recorder.wait_for_stops(1)[0].traffic;
    // A line ends with one byte more.
    let ends = if on.is_datagram() { [0, 0] } else { [2, 4] };
    let expected = (7 + 3 + ends[0], 7 + 14 + 6 + 3 + ends[1]);
    assert_eq!((traffic.received, traffic.sent), expected);
    if !on.is_datagram() {
        let stats = server.stats();
        assert_eq!((stats.bytes_received, stats.bytes_sent), expected, "the counters agree");
    }
}

fn ids_link_the_events_with_the_handler(on: On) {
    let journal = Journal::default();
    let noted = journal.clone();
    let script = Script::new(&Journal::default()).handle(move |message, cx| {
        noted.note(format!("{} {}", cx.id(), cx.peer()));
        cx.send(message);
        Ok(Next::Close)
    });
    let (server, recorder) = observed(on, script);
    for count in 1..=5 {
        let mut client = server.client();
        let local = client.address();
        assert_eq!(client.ask("x"), "x");
        let stop = recorder.wait_for_stops(count).pop().expect("it has ended");
        let (id, peer) = (stop.id.expect("an id"), stop.peer.expect("a peer"));
        assert_eq!(journal.all().last(), Some(&format!("{id} {peer}")));
        assert_eq!(*peer.address(), local);
        assert_eq!(stop.listener.as_ref(), Some(&server.addresses()[0]));
        assert!(stop.line.starts_with(&format!("{peer} {id} left: done (")), "{}", stop.line);
    }
}

fn a_server_begins_and_ends_with_its_own_events(on: On) {
    let (server, recorder) = observed(on, Script::new(&Journal::default()));
    let mut client = server.client();
    assert_eq!(client.ask("x"), "X");
    assert!(server.drain(PATIENCE).is_clean());
    let start = if on.is_datagram() { "session-begun" } else { "connection-opened" };
    let stop = if on.is_datagram() { "session-ended" } else { "connection-closed" };
    let own = ["listener-started", start, "draining", stop, "listener-stopped", "drained"];
    let names: Vec<&str> = recorder.named(&own).iter().map(|entry| entry.name).collect();
    assert_eq!(names, own, "each once, in this order");
    for entry in recorder.named(&["listener-started", "listener-stopped"]) {
        assert_eq!(entry.listener.as_ref(), Some(&server.addresses()[0]));
    }
}

fn a_server_that_never_serves_tells_of_its_drain_alone(on: On) {
    let recorder = Recorder::default();
    let script = || Script::new(&Journal::default()).server().observer(recorder.clone());
    drop(on.listening(script()));
    drop(on.listening(script()).bind().expect("bound"));
    assert!(recorder.all().is_empty(), "nobody was served: {:?}", recorder.all());
    let bound = on.listening(script()).bind().expect("bound");
    bound.handle().begin_drain(PATIENCE);
    bound.handle().begin_drain(PATIENCE);
    drop(bound);
    let names: Vec<&str> = recorder.all().iter().map(|entry| entry.name).collect();
    assert_eq!(names, ["draining", "drained"]);
}

fn ten_thousand_panics_of_observers_change_nothing(on: On) {
    let recorder = Recorder::default();
    let script = Script::new(&Journal::default()).handle(|message, cx| {
        cx.send(message);
        Ok(if message == b"stay" { Next::Continue } else { Next::Close })
    });
    let server = script.server().observer(|_: &Event<'_>| panic!("planned: the first observer"));
    let server = server.observer(recorder.clone());
    let server = on.spawn(server.observer(|_: &Event<'_>| panic!("planned: the last observer")));
    let mut bystander = server.client();
    assert_eq!(bystander.ask("stay"), "stay");
    // Two panics at each start, and two at each stop.
    for _ in 0..2_500 {
        assert_eq!(server.client().ask("x"), "x");
    }
    assert_eq!(bystander.ask("stay"), "stay");
    recorder.wait_for_stops(2_500);
    assert!(server.drain(PATIENCE).is_clean());
    recorder.is_paired();
    assert_eq!(recorder.starts().len(), 2_501);
    let reports = recorder.named(&["observer-panicked"]);
    assert_eq!(reports.len(), 2, "each is reported once: {reports:?}");
    assert!(server.stats().observer_panics >= 10_000, "{:?}", server.stats());
}

fn an_observer_may_use_the_server(on: On) {
    let handle: Arc<OnceLock<ServerHandle>> = Arc::default();
    let (recorder, server) = (Recorder::default(), handle.clone());
    let noted = recorder.clone();
    let observer = move |event: &Event<'_>| {
        noted.event(event);
        let Some(server) = server.get() else { return };
        assert_eq!(server.addresses().len(), 1);
        assert!(server.stats().connections_closed().count() > 0);
        if noted.stops().len() == 3 {
            server.begin_drain(PATIENCE);
        }
        // It waits neither for the server that waits for it, nor for the drain that it is told of.
        server.join();
    };
    let script = ending_as_told(&Journal::default());
    let server = on.spawn(script.server().observer(observer));
    assert!(handle.set((*server).clone()).is_ok());
    for _ in 0..3 {
        assert_eq!(server.client().ask("close"), "heard");
    }
    assert!(server.join().is_clean());
    assert_eq!(server.stats().observer_panics, 0);
    recorder.is_paired();
}

fn a_full_server_says_so(on: On) {
    let recorder = Recorder::default();
    let script = Script::new(&Journal::default());
    let server = on.spawn(script.server().max_connections(1).observer(recorder.clone()));
    let mut first = server.client();
    assert_eq!(first.ask("x"), "X");
    let mut second = server.client();
    second.say("y");
    eventually("it is full", || !recorder.named(&["full"]).is_empty());
    assert_eq!(recorder.starts().len(), 1);
    drop(first);
    assert_eq!(second.hear(), "Y");
    assert_eq!(recorder.starts().len(), 2);
}

fn a_dropped_datagram_is_told_with_its_reason(on: On) {
    let recorder = Recorder::default();
    let script = Script::new(&Journal::default()).rejected(|_, _| Ok(Next::Continue));
    let server = on.spawn(script.server().max_datagram(10).observer(recorder.clone()));
    let mut client = server.client();
    client.say("much too long for it");
    assert_eq!(client.ask("x"), "X");
    let dropped = recorder.named(&["datagram-dropped"]);
    assert_eq!(dropped.len(), 1, "{dropped:?}");
    assert_eq!(dropped[0].reason, "truncated");
    assert_eq!(dropped[0].peer.as_ref().map(Peer::address), Some(&client.address()));
    assert_eq!(dropped[0].listener.as_ref(), Some(&server.addresses()[0]));
    assert!(!dropped[0].line.contains("much"), "no payload: {}", dropped[0].line);
}

fn a_replaced_worker_is_told(on: On) {
    let script = Script::new(&Journal::default()).handle(|message, cx| {
        cx.block(|| ());
        cx.send(message);
        Ok(Next::Continue)
    });
    let (server, recorder) = observed(on, script);
    assert_eq!(server.client().ask("x"), "x");
    let replaced = recorder.named(&["worker-replaced"]);
    assert!(!replaced.is_empty());
    assert_eq!(replaced.len() as u64, server.stats().workers_replaced);
}

fn a_stuck_handler_is_named_and_ends_once_it_returns(on: On) {
    let gate = Gate::default();
    let _open = gate.open_at_the_end();
    let blocked = gate.clone();
    let script = Script::new(&Journal::default()).handle(move |_, _| {
        blocked.pass();
        Ok(Next::Continue)
    });
    let (server, recorder) = observed(on, script);
    let server = server.without_sums();
    let mut client = server.client();
    client.say("x");
    gate.wait_for_arrivals(1);
    let report = server.drain(Duration::from_millis(20));
    assert_eq!(report.stuck, 1, "{report}");
    // A busy machine may take longer than `drain` waits.
    server.join();
    let stuck = recorder.named(&["stuck"]);
    assert_eq!(stuck.len(), 1, "{stuck:?}");
    assert_eq!(stuck[0].id, recorder.starts()[0].id);
    assert!(recorder.stops().is_empty());
    gate.open();
    let stops = recorder.wait_for_stops(1);
    assert_eq!((stops.len(), stops[0].reason.as_str()), (1, "forced"));
    recorder.is_paired();
}

fn sockets_that_share_a_port_are_one_listener(on: On) {
    let recorder = Recorder::default();
    let listen = if on.is_datagram() { Listen::udp } else { Listen::tcp };
    let server = Script::new(&Journal::default()).server().concurrency(on.concurrency);
    let server = server.observer(recorder.clone()).listen(listen("127.0.0.1:0").reuse_port(3));
    let server = Running::of(server);
    assert_eq!(server.client().ask("x"), "X");
    assert!(recorder.named(&["listener-stopped"]).is_empty());
    server.drain(PATIENCE);
    let told = recorder.named(&["listener-started", "listener-stopped"]);
    let told: Vec<_> = told.iter().map(|entry| (entry.name, entry.listener.as_ref())).collect();
    let address = server.addresses().first();
    assert_eq!(told, [("listener-started", address), ("listener-stopped", address)]);
    assert!(recorder.named(&["small-receive-buffer"]).len() <= 1);
}

fn a_drain_is_told_to_everybody_before_it_can_end(on: On) {
    let (recorder, gate) = (Recorder::default(), Gate::default());
    let _open = gate.open_at_the_end();
    let blocked = gate.clone();
    let own: Arc<OnceLock<ServerHandle>> = Arc::default();
    let known = own.clone();
    let slow = move |event: &Event<'_>| {
        if let Event::Draining { .. } = event {
            blocked.pass();
            // It is this very call that tells: it waits for nothing here.
            known.get().expect("it is known").drain(PATIENCE);
        }
    };
    let server = Script::new(&Journal::default()).server().observer(slow);
    let server = on.spawn(server.observer(recorder.clone()));
    own.set((*server).clone()).expect("the first");
    assert_eq!(server.client().ask("x"), "X");
    std::thread::scope(|scope| {
        scope.spawn(|| server.begin_drain(PATIENCE));
        gate.wait_for_arrivals(1);
        // Somebody else asks for it and has no patience; but not everybody knows of it yet.
        server.begin_drain(Duration::ZERO);
        server.drain(Duration::ZERO);
        assert!(recorder.named(&["draining", "drained"]).is_empty(), "{:?}", recorder.all());
        assert_eq!(server.status().stage, ServerStage::Serving, "it has not begun");
        assert_eq!(server.suspend().expect_err("it is drained").kind(), ErrorKind::Over);
        gate.open();
    });
    server.join();
    let told = recorder.named(&["draining", "drained"]);
    let told: Vec<_> = told.iter().map(|entry| entry.name).collect();
    assert_eq!(told, ["draining", "drained"]);
}

fn changes_are_told_once_and_in_order(on: On) {
    let recorder = Recorder::default();
    let own: Arc<OnceLock<ServerHandle>> = Arc::default();
    let known = own.clone();
    // It answers before the other one has heard of what it answers to.
    let contrary = move |event: &Event<'_>| {
        let Some(server) = known.get() else { return };
        match event {
            Event::Suspended => server.resume().expect("it runs"),
            Event::Resumed => server.begin_drain(PATIENCE),
            _ => {}
        }
    };
    let server = Script::new(&Journal::default()).server().observer(contrary);
    let server = on.spawn(server.observer(recorder.clone()));
    server.resume().expect("it runs, as it did before");
    server.suspend().expect("it runs");
    server.suspend().expect("it is suspended");
    server.resume().expect("it was suspended");
    own.set((*server).clone()).expect("the first");
    server.suspend().expect("it runs");
    server.join();
    let told = recorder.named(&["suspended", "resumed", "draining", "drained"]);
    let told: Vec<_> = told.iter().map(|entry| entry.name).collect();
    assert_eq!(told, ["suspended", "resumed", "suspended", "resumed", "draining", "drained"]);
}
