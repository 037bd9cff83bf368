//! The contract: when each callback runs, on every transport in every mode.

mod harness;

use std::io;
use std::time::{Duration, Instant};

use harness::{Journal, On, Script, matrix};
use switchboard::Next;

matrix! {
    setup_runs_first_and_may_speak_first: [tcp unix udp unixgram];
    messages_of_a_peer_are_handled_in_order: [tcp unix udp unixgram];
    idle_may_continue_and_then_close: [tcp unix udp unixgram];
    rejected_may_answer_before_the_connection_ends: [tcp unix];
    rejected_hears_of_a_truncated_datagram_and_the_session_goes_on: [udp unixgram];
    half_closed_may_continue_for_a_remote: [tcp unix];
    draining_may_say_goodbye: [tcp unix udp unixgram];
    draining_may_continue_to_the_deadline: [tcp unix udp unixgram];
    setup_may_close: [tcp unix];
    a_message_the_framing_cannot_carry_ends_the_connection: [tcp unix];
}

fn setup_runs_first_and_may_speak_first(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal).setup(|cx| {
        cx.send("hello");
        Ok(Next::Continue)
    }));
    let mut client = server.client();
    if on.is_datagram() {
        client.say("one");
    }
    assert_eq!(client.hear(), "hello");
    if !on.is_datagram() {
        client.say("one");
    }
    assert_eq!(client.hear(), "ONE");
    assert_eq!(client.ask("two"), "TWO");
    assert_eq!(journal.all(), ["setup", "handle one", "handle two"]);
}

fn messages_of_a_peer_are_handled_in_order(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal));
    let mut client = server.client();
    for number in 0..100 {
        client.say(&format!("message {number}"));
    }
    for number in 0..100 {
        assert_eq!(client.hear(), format!("MESSAGE {number}"));
    }
    assert_eq!(journal.count("handle"), 100);
}

fn idle_may_continue_and_then_close(on: On) {
    const IDLE: Duration = Duration::from_millis(60);
    let journal = Journal::default();
    let asked = journal.clone();
    let script = Script::new(&journal).idle(move |cx| {
        if asked.count("idle") < 3 {
            cx.send("still there?");
            return Ok(Next::Continue);
        }
        cx.send("good night");
        Ok(Next::Close)
    });
    let server = on.spawn(script.server().idle_timeout(IDLE));
    let mut client = server.client();
    let began = Instant::now();
    assert_eq!(client.ask("hi"), "HI");
    assert_eq!(client.hear(), "still there?");
    assert_eq!(client.hear(), "still there?");
    assert_eq!(client.hear(), "good night");
    assert!(began.elapsed() >= 3 * IDLE, "{:?}", began.elapsed());
    journal.wait_for("finish idle-timeout");
}

fn rejected_may_answer_before_the_connection_ends(on: On) {
    let journal = Journal::default();
    let script = Script::new(&journal).rejected(|why, cx| {
        cx.send(format!("no: {why}"));
        Ok(Next::Continue)
    });
    let framing = switchboard::Framing::lines().max_frame(8);
    let framing = switchboard::Listen::tcp("127.0.0.1:0").framing(framing.max_frame(60));
    let server = script.server().concurrency(on.concurrency).listen(framing);
    let server = harness::Running::of(server);
    let mut client = server.client();
    client.send_bytes(&[b"ok\n", &[b'x'; 100][..], b"\nnot reached\n"].concat());
    client.hears_only("OK\nno: frame longer than the maximum of 60 bytes\n");
    drop(client);
    journal.wait_for("finish frame-too-large");
    assert_eq!(journal.count("handle"), 1);
}

fn rejected_hears_of_a_truncated_datagram_and_the_session_goes_on(on: On) {
    let journal = Journal::default();
    let script = Script::new(&journal).rejected(|why, cx| {
        cx.send(format!("no: {why}"));
        Ok(Next::Continue)
    });
    let server = on.spawn(script.server().max_datagram(100));
    let mut client = server.client();
    assert_eq!(client.ask(&"y".repeat(100)), "Y".repeat(100));
    let reply = client.ask(&"y".repeat(101));
    assert_eq!(reply, "no: datagram larger than the receive buffer of 100 bytes");
    assert_eq!(client.ask("after"), "AFTER");
    assert_eq!(journal.count("setup"), 1);
}

fn half_closed_may_continue_for_a_remote(on: On) {
    let journal = Journal::default();
    let (give, take) = crossbeam_channel::bounded(1);
    let server = on.play(Script::new(&journal).half_closed(move |cx| {
        give.send(cx.remote()).map_err(io::Error::other)?;
        Ok(Next::Continue)
    }));
    let mut client = server.client();
    client.say("a");
    client.finish_sending();
    let remote = take.recv_timeout(harness::PATIENCE).expect("a remote");
    assert_eq!(client.hear(), "A");
    for number in 0..3 {
        remote.send(format!("late {number}")).expect("it is open");
        assert_eq!(client.hear(), format!("late {number}"));
    }
    drop(client);
    // The next message meets the reset that the vanished peer sends.
    harness::eventually("the remote is closed", || remote.send("x").is_err());
    journal.wait_for("finish peer-reset");
}

fn draining_may_say_goodbye(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal).draining(|cx| {
        assert!(cx.is_draining());
        cx.send("goodbye");
        Ok(Next::Close)
    }));
    let mut client = server.client();
    assert_eq!(client.ask("a"), "A");
    let report = server.drain(Duration::from_secs(10));
    assert_eq!(client.hear(), "goodbye");
    assert_eq!((report.completed, report.told, report.forced, report.stuck), (0, 1, 0, 0));
    assert!(report.took < Duration::from_secs(5), "it ends as they end: {report}");
    journal.wait_for("finish draining");
}

fn draining_may_continue_to_the_deadline(on: On) {
    let journal = Journal::default();
    let script = Script::new(&journal).draining(|_| Ok(Next::Continue));
    let server = on.play(script);
    let mut client = server.client();
    assert_eq!(client.ask("a"), "A");
    server.begin_drain(Duration::from_millis(300));
    journal.wait_for("draining");
    if !on.is_datagram() {
        assert_eq!(client.ask("b"), "B");
    }
    let report = server.join();
    assert_eq!((report.told, report.forced, report.stuck), (0, 1, 0), "{report}");
    journal.wait_for("finish forced");
}

fn setup_may_close(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal).setup(|cx| {
        cx.send("busy");
        Ok(Next::Close)
    }));
    let mut client = server.client();
    client.hears_only("busy\n");
    journal.wait_for("finish done");
}

fn a_message_the_framing_cannot_carry_ends_the_connection(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal).handle(|_, cx| {
        cx.send("fits");
        cx.send(vec![b'x'; 10_000]);
        cx.send("is not sent");
        Ok(Next::Continue)
    }));
    let mut client = server.client();
    client.say("a");
    client.hears_only("fits\n");
    journal.wait_for("finish handler-err: message of 10000 bytes");
}
