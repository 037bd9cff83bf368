//! From bind to report: begun, drained, stopped and joined from anywhere, in any order, any number of times.

mod harness;

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use harness::{Client, Gate, Journal, On, PATIENCE, Running, Script, eventually, matrix};
use parking_lot::Mutex;
use switchboard::{
    Address, ConnectionId, ErrorKind, Next, Peer, Server, ServerHandle, TcpServer, UdpServer,
};

matrix! {
    a_drain_called_right_after_spawn_returns: [tcp unix udp unixgram];
    a_server_that_never_served_is_dropped_and_its_port_is_free: [tcp unix udp unixgram];
    a_hundred_drains_at_once_agree: [tcp unix udp unixgram];
    a_handle_answers_after_the_end: [tcp unix udp unixgram];
    a_stuck_handler_is_named_and_the_drain_returns in [threads pool]: [tcp unix udp unixgram];
    a_handler_waiting_for_a_drain_signal_is_told: [tcp unix udp unixgram];
    everybody_is_told_at_once: [tcp unix udp unixgram];
    the_report_adds_up: [tcp unix];
    a_second_drain_brings_the_deadline_forward: [tcp unix udp unixgram];
    serving_on_the_callers_thread_returns_the_report: [tcp unix udp unixgram];
    stop_server_ends_it_from_setup_too: [tcp unix udp unixgram];
    a_drain_from_another_thread_while_a_handler_drains: [tcp unix udp unixgram];
}

fn a_drain_called_right_after_spawn_returns(on: On) {
    let journal = Journal::default();
    for _ in 0..20 {
        let server = on.listening(Script::new(&journal).server()).spawn().expect("it starts");
        assert!(server.drain(PATIENCE).is_clean());
    }
}

fn a_server_that_never_served_is_dropped_and_its_port_is_free(on: On) {
    let journal = Journal::default();
    let bound = on.listening(Script::new(&journal).server()).bind().expect("bound");
    let handle = bound.handle();
    let address = bound.addresses()[0].clone();
    drop(bound);
    assert!(handle.join().is_clean(), "nobody serves any more: nothing to wait for");
    assert!(handle.drain(Duration::from_secs(1)).is_clean());
    rebind(on, &address);
}

/// Binds what a server has left.
fn rebind(on: On, address: &Address) {
    let again = Server::new(|_| switchboard::handler_fn(|_, _| Ok(Next::Close)));
    drop(on.listening_on(again, address).bind().expect("the address is free"));
}

fn a_hundred_drains_at_once_agree(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal));
    server.client().ask("x");
    let reports = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for number in 0..100 {
            let (server, reports) = (&server, &reports);
            scope.spawn(move || {
                let report = match number % 3 {
                    0 => server.drain(Duration::from_secs(5)),
                    1 => {
                        server.begin_drain(Duration::from_secs(5));
                        server.join()
                    }
                    _ => server.stop(),
                };
                reports.lock().push(report);
            });
        }
    });
    let reports = reports.into_inner();
    assert_eq!(reports.len(), 100);
    assert!(reports.iter().all(|report| *report == reports[0]), "{reports:?}");
}

fn a_handle_answers_after_the_end(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal));
    server.client().ask("x");
    let report = server.drain(PATIENCE);
    assert_eq!(server.drain(PATIENCE), report);
    assert_eq!(server.stop(), report);
    assert_eq!(server.join(), report);
    server.begin_drain(PATIENCE);
    let stats = server.stats();
    assert_eq!(stats.messages, 1);
    assert_eq!((stats.connections_open, stats.sessions_open), (0, 0));
    assert_eq!(server.addresses().len(), 1);
}

fn a_stuck_handler_is_named_and_the_drain_returns(on: On) {
    let (journal, gate) = (Journal::default(), Gate::default());
    let _opens = gate.open_at_the_end();
    let at_gate = gate.clone();
    let server = on.play(Script::new(&journal).handle(move |_, _| {
        at_gate.pass();
        Ok(Next::Continue)
    }));
    let mut client = server.client();
    client.say("x");
    gate.wait_for_arrivals(1);
    let began = Instant::now();
    let report = server.drain(Duration::from_millis(50));
    let took = began.elapsed();
    assert!(took < Duration::from_millis(1500), "{took:?}");
    assert_eq!((report.completed, report.told, report.forced, report.stuck), (0, 0, 0, 1));
    let named: Vec<_> = report.stuck_peers.iter().map(Peer::address).collect();
    assert_eq!(named, [&client.address()]);
    assert!(!report.is_clean());
    gate.open();
    journal.wait_for("finish forced");
    eventually("the one that was stuck is gone", || {
        let stats = server.stats();
        stats.connections_open + stats.sessions_open == 0
    });
}

fn a_handler_waiting_for_a_drain_signal_is_told(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal).handle(|_, cx| {
        let ticks = crossbeam_channel::tick(Duration::from_millis(1));
        let deadline = Instant::now() + PATIENCE;
        while !cx.is_draining() && Instant::now() < deadline {
            let _ = ticks.recv();
        }
        cx.send(format!("draining: {}", cx.is_draining()));
        Ok(Next::Close)
    }));
    let mut client = server.client();
    client.say("x");
    journal.wait_for("handle x");
    let report = server.drain(PATIENCE);
    assert_eq!(client.hear(), "draining: true");
    assert_eq!((report.completed, report.told), (1, 0), "{report}");
}

fn everybody_is_told_at_once(on: On) {
    let best = (0..3).map(|_| time_to_tell_everybody(on)).min();
    assert!(best < Some(Duration::from_secs(1)), "{best:?}");
}

/// How long a drain takes that says goodbye to forty.
fn time_to_tell_everybody(on: On) -> Duration {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal).draining(|cx| {
        cx.send("goodbye");
        Ok(Next::Close)
    }));
    let mut clients: Vec<Client> = (0..40).map(|_| server.client()).collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.ask("x"), "X"));
    let began = Instant::now();
    let report = server.drain(PATIENCE);
    let took = began.elapsed();
    for client in &mut clients {
        assert_eq!(client.hear(), "goodbye");
        if !on.is_datagram() {
            client.hears_only("");
        }
    }
    assert_eq!((report.told, report.forced, report.stuck), (40, 0, 0), "{report}");
    took
}

fn the_report_adds_up(on: On) {
    let (journal, gate) = (Journal::default(), Gate::default());
    let _opens = gate.open_at_the_end();
    let at_gate = gate.clone();
    let stay: std::sync::Arc<Mutex<Vec<ConnectionId>>> = std::sync::Arc::default();
    let staying = stay.clone();
    let script = Script::new(&journal).handle(move |message, cx| {
        cx.send(message);
        if message == b"stay" {
            staying.lock().push(cx.id());
        }
        if message == b"busy" {
            cx.flush()?;
            assert!(at_gate.pass());
            return Ok(Next::Close);
        }
        Ok(Next::Continue)
    });
    let script = script.draining(move |cx| {
        let stays = stay.lock().contains(&cx.id());
        Ok(if stays { Next::Continue } else { Next::Close })
    });
    let server = on.play(script);
    let mut idle: Vec<Client> = (0..30).map(|_| server.client()).collect();
    for (client, word) in idle.iter_mut().zip(["idle", "stay", "idle"].iter().cycle()) {
        assert_eq!(client.ask(word), *word);
    }
    let mut busy = server.client();
    assert_eq!(busy.ask("busy"), "busy");
    gate.wait_for_arrivals(1);
    server.begin_drain(Duration::from_secs(2));
    gate.open();
    let report = server.join();
    assert_eq!(report.completed, 1, "{report}");
    assert_eq!((report.told, report.forced, report.stuck), (20, 10, 0), "{report}");
    let line = report.to_string();
    assert!(line.starts_with("drained completed=1 told=20 forced=10 stuck=0 took="), "{line}");
}

fn a_second_drain_brings_the_deadline_forward(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal).draining(|_| Ok(Next::Continue)));
    let mut client = server.client();
    assert_eq!(client.ask("x"), "X");
    server.begin_drain(Duration::from_secs(3600));
    journal.wait_for("draining");
    let began = Instant::now();
    let report = server.drain(Duration::from_millis(10));
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!((report.told, report.forced, report.stuck), (0, 1, 0), "{report}");
}

fn serving_on_the_callers_thread_returns_the_report(on: On) {
    let journal = Journal::default();
    let bound = on.listening(Script::new(&journal).server()).bind().expect("bound");
    let handle = bound.handle();
    let address = bound.addresses()[0].clone();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = Client::of(&address);
            assert_eq!(client.ask("x"), "X");
            handle.begin_drain(PATIENCE);
            if !on.is_datagram() {
                client.hears_only("");
            }
        });
        let report = bound.serve().expect("it serves");
        assert_eq!(report.told, 1, "{report}");
    });
}

fn stop_server_ends_it_from_setup_too(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal).setup(|_| Ok(Next::StopServer)));
    let mut client = server.client();
    if on.is_datagram() {
        client.say("x");
    }
    let report = server.join();
    assert_eq!((report.completed, report.stuck), (1, 0), "{report}");
    journal.wait_for("finish done");
}

fn a_drain_from_another_thread_while_a_handler_drains(on: On) {
    let journal = Journal::default();
    let own: std::sync::Arc<Mutex<Option<ServerHandle>>> = std::sync::Arc::default();
    let known = own.clone();
    let server = on.play(Script::new(&journal).draining(move |_| {
        if let Some(handle) = known.lock().clone() {
            handle.drain(PATIENCE);
            handle.join();
        }
        Ok(Next::Close)
    }));
    *own.lock() = Some((*server).clone());
    assert_eq!(server.client().ask("x"), "X");
    let report = server.drain(PATIENCE);
    assert_eq!(report.stuck, 0, "{report}");
    own.lock().take();
}

#[test]
fn a_busy_port_is_one_clear_line() {
    let taken = Running::of(
        Server::new(|_| switchboard::handler_fn(|_, _| Ok(Next::Close))).tcp("127.0.0.1:0"),
    );
    let error = TcpServer::bind(taken.addr(), |_| switchboard::handler_fn(|_, _| Ok(Next::Close)));
    let error = error.expect_err("the port is busy");
    assert_eq!(error.kind(), ErrorKind::Listen);
    let line = error.to_string();
    let expected = format!("cannot listen on tcp://{}: Address already in use", taken.addr());
    assert!(line.starts_with(&expected) && !line.contains('\n'), "{line}");
    assert_eq!(format!("{error:?}"), line);
    // All listeners open, or none.
    let free = UdpSocket::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address");
    let both = Server::new(|_| switchboard::handler_fn(|_, _| Ok(Next::Close)));
    assert!(both.udp(free).tcp(taken.addr()).bind().is_err());
    drop(UdpSocket::bind(free).expect("the other listener was closed"));
}

#[test]
fn the_front_doors_bind_one_address() {
    let tcp = TcpServer::bind("127.0.0.1:0", |_| switchboard::handler_fn(|_, _| Ok(Next::Close)));
    assert!(tcp.expect("bound").addresses()[0].to_string().starts_with("tcp://127.0.0.1:"));
    let udp = UdpServer::bind("127.0.0.1:0", |_| switchboard::handler_fn(|_, _| Ok(Next::Close)));
    assert!(udp.expect("bound").addresses()[0].to_string().starts_with("udp://127.0.0.1:"));
}
