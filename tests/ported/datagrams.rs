//! Acceptors: datagrams (111 to 117), which neither of them speaks: ours, by analogy.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use crossbeam_channel::bounded;
use switchboard::{Listen, Next, Stats};

use crate::harness::{Client, Journal, On, PATIENCE, Running, Script, eventually, socket_path};
use crate::row::{DATAGRAMS, EVERY, Row, UNIXGRAM, acceptors};
use crate::uneven::{empty_datagram, too_long};

pub(crate) const ROWS: &[Row] = &[
    acceptors(
        "111",
        "What waits for a peer's handler is bounded, the rest counted",
        (EVERY, DATAGRAMS),
        bounded_inbox,
    ),
    acceptors("112", "An empty datagram is data", (EVERY, DATAGRAMS), empty_datagram),
    acceptors("113", "A truncated datagram is told of", (EVERY, DATAGRAMS), too_long),
    acceptors("114", "A peer that has gone ends nothing", (EVERY, DATAGRAMS), gone),
    acceptors("115", "A drain answers what had arrived", (EVERY, DATAGRAMS), queued),
    acceptors("116", "A panic loses its datagram and no other", (EVERY, DATAGRAMS), one_panic),
    acceptors(
        "117",
        "A reply that cannot be sent ends its session alone",
        (EVERY, DATAGRAMS),
        unsendable,
    ),
    acceptors(
        "117",
        "A reply that the system refuses is counted, and ends nothing",
        (EVERY, UNIXGRAM),
        refused,
    ),
];

fn dropped(stats: &Stats, reason: &str) -> u64 {
    stats.datagrams_dropped().filter(|(name, _)| *name == reason).map(|(_, count)| count).sum()
}

fn bounded_inbox(on: On) {
    let server = on.play(Script::new(&Journal::default()).handle(|message, cx| {
        cx.send(message);
        let pause = message == b"pause";
        Ok(if pause { Next::Pause(Duration::from_secs(2)) } else { Next::Continue })
    }));
    let mut client = server.client();
    assert_eq!(client.ask("pause"), "pause");
    for number in 0..300 {
        client.say(&number.to_string());
    }
    eventually("all have arrived", || server.stats().datagrams_received == 301);
    for number in 0..256 {
        assert_eq!(client.hear(), number.to_string());
    }
    eventually("the others are counted", || dropped(&server.stats(), "inbox-full") == 44);
    assert_eq!(client.ask("after"), "after");
}

fn gone(on: On) {
    let (give, take) = bounded(64);
    let server = on.play(Script::new(&Journal::default()).handle(move |message, cx| {
        if message == b"x" {
            give.send(cx.remote()).map_err(io::Error::other)?;
        }
        cx.send(message.to_ascii_uppercase());
        Ok(Next::Continue)
    }));
    let mut bystander = server.client();
    for _ in 0..20 {
        let mut client = server.client();
        client.say("x");
        drop(client);
        let gone = take.recv_timeout(PATIENCE).expect("a remote");
        // The system answers these with "port unreachable", or refuses them.
        (0..5).for_each(|_| drop(gone.send("nobody is there")));
        assert_eq!(bystander.ask("y"), "Y");
    }
}

fn queued(on: On) {
    for _ in 0..10 {
        let server = on.play(Script::new(&Journal::default()));
        let mut clients: Vec<Client> = (0..20).map(|_| server.client()).collect();
        clients.iter_mut().for_each(|client| client.say("just in time"));
        let report = server.drain(PATIENCE);
        assert!(report.is_clean(), "{report}");
        let mut heard = HashMap::new();
        for client in &mut clients {
            *heard.entry(client.hear()).or_insert(0) += 1;
        }
        assert_eq!(heard, HashMap::from([("JUST IN TIME".to_owned(), 20)]));
    }
}

fn one_panic(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal).handle(|message, cx| {
        assert!(message != b"panic", "planned: a datagram");
        cx.send(message);
        Ok(Next::Continue)
    }));
    let mut client = server.client();
    for message in ["before", "panic", "after", "panic", "at last"] {
        client.say(message);
    }
    let heard: Vec<String> = (0..3).map(|_| client.hear()).collect();
    assert_eq!(heard, ["before", "after", "at last"]);
    journal.wait_for_so_many(2, "finish handler-panic");
    assert_eq!(journal.count("setup"), 3, "each panic ends its session");
}

fn unsendable(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal).handle(|message, cx| {
        cx.send("before");
        if message == b"long" {
            cx.send(vec![b'x'; 65_508]);
        }
        Ok(Next::Continue)
    }));
    let (mut client, mut bystander) = (server.client(), server.client());
    assert_eq!(bystander.ask("x"), "before");
    assert_eq!(client.ask("long"), "before");
    journal.wait_for("finish handler-err: 65508 bytes do not fit");
    assert_eq!(client.ask("x"), "before");
    assert_eq!(bystander.ask("x"), "before");
    assert_eq!(journal.count("setup"), 3);
}

fn refused(on: On) {
    let journal = Journal::default();
    let script = Script::new(&journal).handle(|message, cx| {
        cx.send("before");
        if message == b"long" {
            cx.send(vec![b'x'; 60_000]);
        }
        Ok(Next::Continue)
    });
    // EMSGSIZE: it is longer than the send buffer.
    let listen = Listen::unixgram(socket_path("refused"));
    let listen =
        listen.configure(|socket| socket2::SockRef::from(&socket).set_send_buffer_size(10_000));
    let server = Running::of(script.server().concurrency(on.concurrency).listen(listen));
    let mut client = server.client();
    assert_eq!(client.ask("long"), "before");
    eventually("it is counted", || server.stats().replies_failed == 1);
    assert_eq!(client.ask("x"), "before");
    assert_eq!(journal.count("setup"), 1, "the session goes on");
}
