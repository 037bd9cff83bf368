//! The counters add up: everything that began has ended for one reason, or is there.

mod harness;

use std::io;
use std::time::Duration;

use harness::{Journal, On, PATIENCE, Running, Script, assert_conserved, eventually, matrix};
use switchboard::{CloseReason, Next};

matrix! {
    connections_are_accepted_closed_for_one_reason_or_open: [tcp unix];
    sessions_and_datagrams_add_up: [udp unixgram];
    messages_and_bytes_are_counted: [tcp unix];
    the_gauge_follows_every_way_to_leave: [tcp unix];
}

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

fn connections_are_accepted_closed_for_one_reason_or_open(on: On) {
    let journal = Journal::default();
    let server = on.spawn(ending_as_told(&journal).server().idle_timeout(Duration::from_secs(60)));
    let mut stay: Vec<_> = (0..5).map(|_| server.client()).collect();
    stay.iter_mut().for_each(|client| assert_eq!(client.ask("x"), "heard"));
    for ending in ["close", "abort", "fail", "panic", "reset", "eof", "too long"] {
        for _ in 0..3 {
            let mut client = server.client();
            assert_eq!(client.ask("x"), "heard");
            match ending {
                "reset" if on.is_unix() => {
                    client.say("x");
                    client.wait_for_more();
                    continue;
                }
                "reset" => {
                    client.reset();
                    continue;
                }
                "eof" => client.finish_sending(),
                "too long" => client.send_bytes(&[b'x'; 9_000]),
                _ => client.say(ending),
            }
            assert!(client.is_cut_off());
        }
    }
    let expected = [
        CloseReason::Done,
        CloseReason::Aborted,
        CloseReason::HandlerErr(String::new()),
        CloseReason::HandlerPanic,
        CloseReason::PeerReset,
        CloseReason::PeerEof,
        CloseReason::FrameTooLarge,
    ];
    eventually("all have left", || server.stats().connections_open == 5);
    eventually("all are counted", || {
        expected.iter().all(|reason| server.stats().closed_for(reason) == 3)
    });
    let stats = server.stats();
    assert_eq!((stats.connections_accepted, stats.connections_open), (26, 5));
    assert_conserved(&stats);
    server.drain(PATIENCE);
    let stats = server.stats();
    assert_eq!((stats.closed_for(&CloseReason::Draining), stats.connections_open), (5, 0));
    assert_eq!(stats.lifetimes.count(), 26);
    assert_conserved(&stats);
}

fn sessions_and_datagrams_add_up(on: On) {
    let journal = Journal::default();
    let script = ending_as_told(&journal).rejected(|_, _| Ok(Next::Continue));
    let server = on.spawn(script.server().max_datagram(100));
    for ending in ["close", "abort", "fail", "panic", "stay"] {
        for _ in 0..3 {
            let mut client = server.client();
            assert_eq!(client.ask("x"), "heard");
            client.say(ending);
            client.say(&"t".repeat(200));
        }
    }
    eventually("all have arrived", || server.stats().datagrams_received == 45);
    eventually("all add up", || {
        let stats = server.stats();
        let dropped: u64 = stats.datagrams_dropped().map(|(_, count)| count).sum();
        (stats.datagrams_handled, dropped) == (30, 15)
    });
    assert_conserved(&server.stats());
}

fn messages_and_bytes_are_counted(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal));
    let mut client = server.client();
    for _ in 0..100 {
        assert_eq!(client.ask("0123456789"), "0123456789");
    }
    eventually("all are counted", || {
        let stats = server.stats();
        (stats.messages, stats.bytes_received, stats.bytes_sent) == (100, 1_100, 1_100)
    });
    let stats = server.stats();
    assert!(stats.turns.count() >= 100);
    assert!(stats.turns.quantile(0.5) <= stats.turns.quantile(0.99));
}

/// Waits until so many connections are open.
fn open(server: &Running, count: usize) {
    eventually("the gauge is right", || server.stats().connections_open == count);
}

fn the_gauge_follows_every_way_to_leave(on: On) {
    let journal = Journal::default();
    let server = on.play(ending_as_told(&journal));
    for ending in ["close", "abort", "fail", "panic"] {
        let mut clients: Vec<_> = (0..10).map(|_| server.client()).collect();
        open(&server, 10);
        clients.iter_mut().for_each(|client| client.say(ending));
        clients.iter_mut().for_each(|client| assert!(client.is_cut_off()));
        open(&server, 0);
    }
    let clients: Vec<_> = (0..10).map(|_| server.client()).collect();
    open(&server, 10);
    drop(clients);
    open(&server, 0);
}
