//! Every wait has a deadline, and each is met: idle, whole message, write stall, linger.

mod harness;

use std::time::{Duration, Instant};

use harness::{Journal, On, Script, eventually, matrix};
use switchboard::{CloseReason, Next};

const SHORT: Duration = Duration::from_millis(100);

/// Longer than a busy machine keeps a client from speaking.
const LONG: Duration = Duration::from_secs(1);

/// Deadlines may be late on a busy machine; they are never early, and never forgotten.
const LATEST: Duration = Duration::from_secs(10);

matrix! {
    a_silent_peer_is_closed_at_the_idle_timeout: [tcp unix udp unixgram];
    speaking_renews_the_idle_timeout: [tcp udp];
    what_the_server_sends_does_not_renew_the_idle_timeout: [tcp unix];
    a_handler_that_takes_long_is_not_the_peers_silence: [tcp udp];
    a_byte_now_and_then_does_not_outlive_the_message_timeout: [tcp];
    the_message_timeout_begins_with_the_message: [tcp unix];
    no_timeout_is_no_timeout: [tcp unix udp unixgram];
    a_peer_that_does_not_read_is_reset_at_the_write_timeout: [tcp unix];
    a_peer_that_reads_slowly_keeps_its_connection: [tcp];
    lingering_ends_although_the_peer_stays: [tcp unix];
    a_pause_is_not_silence: [tcp unix udp unixgram];
    hundreds_of_deadlines_are_all_met: [tcp unix udp unixgram];
}

fn a_silent_peer_is_closed_at_the_idle_timeout(on: On) {
    let journal = Journal::default();
    let server = on.spawn(Script::new(&journal).server().idle_timeout(SHORT));
    let mut client = server.client();
    let began = Instant::now();
    if on.is_datagram() {
        assert_eq!(client.ask("x"), "X");
    } else {
        client.hears_only("");
    }
    journal.wait_for("finish idle-timeout");
    let took = began.elapsed();
    assert!(took >= SHORT && took < LATEST, "{took:?}");
    assert_eq!(journal.count("idle"), 1);
}

fn speaking_renews_the_idle_timeout(on: On) {
    let journal = Journal::default();
    let server = on.spawn(Script::new(&journal).server().idle_timeout(LONG));
    let mut client = server.client();
    let began = Instant::now();
    let ticks = crossbeam_channel::tick(SHORT / 2);
    while began.elapsed() < 2 * LONG {
        assert_eq!(client.ask("x"), "X");
        let _ = ticks.recv();
    }
    assert_eq!(journal.count("idle"), 0, "it spoke all the time");
    journal.wait_for("finish idle-timeout");
    assert_eq!(journal.count("setup"), 1);
}

fn what_the_server_sends_does_not_renew_the_idle_timeout(on: On) {
    let journal = Journal::default();
    let (give, take) = crossbeam_channel::bounded(1);
    let script = Script::new(&journal).setup(move |cx| {
        give.send(cx.remote()).map_err(std::io::Error::other)?;
        Ok(Next::Continue)
    });
    let server = on.spawn(script.server().idle_timeout(SHORT));
    let _client = server.client();
    let remote = take.recv_timeout(harness::PATIENCE).expect("a remote");
    let began = Instant::now();
    let ticks = crossbeam_channel::tick(SHORT / 10);
    while remote.send("are you there?").is_ok() {
        assert!(began.elapsed() < LATEST, "sending keeps the connection alive");
        let _ = ticks.recv();
    }
    journal.wait_for("finish idle-timeout");
}

fn a_handler_that_takes_long_is_not_the_peers_silence(on: On) {
    let journal = Journal::default();
    let script = Script::new(&journal).handle(|message, cx| {
        if message == b"long" {
            // Longer than the idle timeout: a wait that nobody ends.
            let (_never, wait) = crossbeam_channel::bounded::<()>(0);
            cx.block(|| wait.recv_timeout(LONG + 5 * SHORT)).expect_err("nobody calls");
        }
        cx.send(message);
        Ok(Next::Continue)
    });
    let server = on.spawn(script.server().idle_timeout(LONG));
    let mut client = server.client();
    assert_eq!(client.ask("long"), "long");
    assert_eq!(client.ask("short"), "short");
    assert_eq!(journal.count("setup"), 1);
}

fn a_byte_now_and_then_does_not_outlive_the_message_timeout(on: On) {
    let journal = Journal::default();
    let server = on.spawn(Script::new(&journal).server().message_timeout(2 * SHORT));
    let mut client = server.client();
    let began = Instant::now();
    let ticks = crossbeam_channel::tick(SHORT / 10);
    while client.try_send(b"x").is_ok() {
        assert!(began.elapsed() < LATEST, "every byte renewed the deadline");
        let _ = ticks.recv();
    }
    assert!(began.elapsed() >= 2 * SHORT);
    journal.wait_for("finish slow-read");
}

fn the_message_timeout_begins_with_the_message(on: On) {
    let journal = Journal::default();
    let server = on.spawn(Script::new(&journal).server().message_timeout(4 * SHORT));
    let mut client = server.client();
    let ticks = crossbeam_channel::tick(SHORT);
    for _ in 0..4 {
        // Each message takes half of what it may, and together they take longer.
        client.send_bytes(b"he");
        let _ = ticks.recv();
        client.send_bytes(b"ll");
        let _ = ticks.recv();
        client.send_bytes(b"o\n");
        assert_eq!(client.hear(), "HELLO");
    }
    assert_eq!(journal.count("finish"), 0);
}

fn no_timeout_is_no_timeout(on: On) {
    let journal = Journal::default();
    let server = Script::new(&journal).server().idle_timeout(None);
    let server = on.spawn(server.message_timeout(None).write_timeout(None));
    let mut client = server.client();
    assert_eq!(client.ask("x"), "X");
    if !on.is_datagram() {
        client.send_bytes(b"half ");
    }
    let _ = crossbeam_channel::after(SHORT).recv();
    assert_eq!(client.ask("y").chars().last(), Some('Y'));
}

/// A script that answers with more than the kernel holds for a peer.
fn flood(journal: &Journal) -> Script {
    Script::new(journal).handle(|_, cx| {
        (0..2_000).for_each(|_| cx.send("z".repeat(8_000)));
        Ok(Next::Continue)
    })
}

fn a_peer_that_does_not_read_is_reset_at_the_write_timeout(on: On) {
    let journal = Journal::default();
    let server = on.spawn(flood(&journal).server().write_timeout(2 * SHORT));
    let mut client = server.client();
    let began = Instant::now();
    client.say("x");
    journal.wait_for("finish slow-write");
    let took = began.elapsed();
    assert!(took >= 2 * SHORT && took < LATEST, "{took:?}");
    eventually("it is counted", || server.stats().closed_for(&CloseReason::SlowWrite) == 1);
    match client.rest() {
        // No reset here: what has reached the peer's own queue stays there.
        Ok(heard) if on.is_unix() => assert!(heard.len() < 2_000 * 8_000, "{}", heard.len()),
        heard => assert!(heard.is_err(), "what it has not read is gone with the connection"),
    }
}

fn a_peer_that_reads_slowly_keeps_its_connection(on: On) {
    let journal = Journal::default();
    let server = on.spawn(flood(&journal).server().write_timeout(20 * SHORT));
    let mut client = server.client();
    client.say("x");
    let began = Instant::now();
    let ticks = crossbeam_channel::tick(SHORT / 2);
    // It takes longer for all than the timeout.
    for number in 0..2_000 {
        assert_eq!(client.hear().len(), 8_000, "message {number}");
        if number % 40 == 0 {
            let _ = ticks.recv();
        }
    }
    assert!(began.elapsed() > 20 * SHORT);
    assert_eq!(journal.count("finish"), 0);
}

fn lingering_ends_although_the_peer_stays(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal).handle(|_, cx| {
        cx.send("bye");
        Ok(Next::Close)
    }));
    let mut client = server.client();
    // Unread input makes it linger; the client neither reads nor closes.
    client.send_bytes(b"q\nunread\nunread\n");
    let began = Instant::now();
    eventually("it is gone", || server.stats().closed_for(&CloseReason::Done) == 1);
    assert!(began.elapsed() < LATEST);
    client.hears_only("bye\n");
}

fn a_pause_is_not_silence(on: On) {
    let journal = Journal::default();
    let script = Script::new(&journal).handle(|message, cx| {
        cx.send(message);
        Ok(if message == b"pause" { Next::Pause(3 * SHORT) } else { Next::Continue })
    });
    let server = on.spawn(script.server().idle_timeout(2 * SHORT));
    let mut client = server.client();
    assert_eq!(client.ask("pause"), "pause");
    client.say("behind");
    assert_eq!(client.hear(), "behind");
    let all = journal.all();
    assert_eq!(all[..3], ["setup", "handle pause", "handle behind"], "idle does not count a pause");
}

fn hundreds_of_deadlines_are_all_met(on: On) {
    let journal = Journal::default();
    let clients = if on.concurrency == harness::modes::threads() { 60 } else { 400 };
    let server = on.spawn(Script::new(&journal).server().idle_timeout(3 * SHORT));
    let mut clients: Vec<_> = (0..clients).map(|_| server.client()).collect();
    clients.iter_mut().for_each(|client| client.say("x"));
    journal.wait_for_so_many(clients.len(), "finish idle-timeout");
}
