//! What each `Next` does, on every transport in every mode.

mod harness;

use std::io;
use std::time::{Duration, Instant};

use harness::{Journal, On, Script, matrix};
use switchboard::{Group, Handler, Next, SendError};

matrix! {
    handlers_that_give_way_to_one_another_for_ever_are_ended: [tcp unix udp unixgram];
    close_flushes_then_ends: [tcp unix udp unixgram];
    abort_resets_and_unsent_replies_are_lost: [tcp unix udp unixgram];
    half_close_finishes_writing_and_reading_goes_on: [tcp unix];
    half_close_ends_a_session: [udp unixgram];
    nothing_can_be_sent_after_half_close: [tcp unix];
    whoever_has_half_closed_is_in_no_group: [tcp unix];
    pause_reads_nothing_for_so_long_and_sending_goes_on: [tcp unix udp unixgram];
    a_drain_is_told_of_in_a_pause: [tcp unix udp unixgram];
    switch_takes_the_unread_bytes_along: [tcp unix];
    switch_replaces_the_handler_of_a_session: [udp unixgram];
    stop_server_drains_the_server: [tcp unix udp unixgram];
}

fn close_flushes_then_ends(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal).handle(|_, cx| {
        cx.send("bye");
        Ok(Next::Close)
    }));
    let mut client = server.client();
    client.say("q");
    if on.is_datagram() {
        assert_eq!(client.hear(), "bye");
        journal.wait_for("finish done");
        assert_eq!(client.ask("again"), "bye");
        journal.wait_for_so_many(2, "finish done");
        assert_eq!(journal.count("setup"), 2, "the next datagram begins a new session");
    } else {
        client.hears_only("bye\n");
        journal.wait_for("finish done");
    }
}

fn abort_resets_and_unsent_replies_are_lost(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal).handle(|message, cx| {
        cx.send(message);
        Ok(if message == b"abort" { Next::Abort } else { Next::Continue })
    }));
    let mut client = server.client();
    assert_eq!(client.ask("one"), "one");
    client.say("abort");
    if on.is_datagram() {
        journal.wait_for("finish aborted");
        assert_eq!(client.ask("two"), "two");
        assert_eq!(journal.count("setup"), 2);
    } else if on.is_unix() {
        // These know no reset, but what was not sent is lost here as well.
        client.hears_only("");
        journal.wait_for("finish aborted");
    } else {
        let error = client.rest().expect_err("a reset");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        journal.wait_for("finish aborted");
    }
}

fn half_close_finishes_writing_and_reading_goes_on(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal).handle(|message, cx| {
        if message == b"last words" {
            cx.send("mine");
            return Ok(Next::HalfClose);
        }
        Ok(Next::Continue)
    }));
    let mut client = server.client();
    client.say("last words");
    client.hears_only("mine\n");
    client.say("more");
    journal.wait_for("handle more");
    client.say("still more");
    journal.wait_for("handle still more");
    drop(client);
    journal.wait_for("finish peer-eof");
}

fn half_close_ends_a_session(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal).handle(|_, cx| {
        cx.send("last");
        Ok(Next::HalfClose)
    }));
    assert_eq!(server.client().ask("x"), "last");
    journal.wait_for("finish done");
}

fn nothing_can_be_sent_after_half_close(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal).handle(|message, cx| {
        if message == b"half" {
            return Ok(Next::HalfClose);
        }
        cx.send("too late");
        Ok(Next::Continue)
    }));
    let mut client = server.client();
    client.say("half");
    client.hears_only("");
    client.say("x");
    journal.wait_for("finish handler-err");
}

fn whoever_has_half_closed_is_in_no_group(on: On) {
    let (journal, room) = (Journal::default(), Group::new());
    let joined = room.clone();
    let server = on.play(Script::new(&journal).handle(move |message, cx| {
        joined.join(&cx.remote());
        Ok(if message == b"half" { Next::HalfClose } else { Next::Continue })
    }));
    let mut client = server.client();
    client.say("join");
    harness::eventually("it is a member", || room.len() == 1);
    let remote = room.members().remove(0);
    client.say("half");
    client.hears_only("");
    assert!(room.is_empty());
    assert_eq!(remote.send("too late"), Err(SendError::Closed));
    client.say("more");
    journal.wait_for("handle more");
    assert!(room.is_empty(), "nobody joins whom nothing can be sent to");
}

fn a_drain_is_told_of_in_a_pause(on: On) {
    let journal = Journal::default();
    let script = Script::new(&journal).handle(|_, cx| {
        cx.send("pausing");
        Ok(Next::Pause(Duration::from_secs(600)))
    });
    let server = on.play(script.draining(|cx| {
        cx.send("goodbye");
        Ok(Next::Close)
    }));
    let mut client = server.client();
    assert_eq!(client.ask("pause"), "pausing");
    let report = server.drain(harness::PATIENCE);
    assert_eq!((report.told, report.forced), (1, 0), "{report}");
    assert_eq!(client.hear(), "goodbye");
    journal.wait_for("finish draining");
}

fn pause_reads_nothing_for_so_long_and_sending_goes_on(on: On) {
    const PAUSE: Duration = Duration::from_millis(120);
    let journal = Journal::default();
    let (give, take) = crossbeam_channel::bounded(1);
    let server = on.play(Script::new(&journal).handle(move |message, cx| {
        if message == b"pause" {
            give.send(cx.remote()).map_err(io::Error::other)?;
            cx.send("pausing");
            return Ok(Next::Pause(PAUSE));
        }
        cx.send("awake");
        Ok(Next::Continue)
    }));
    let mut client = server.client();
    let began = Instant::now();
    client.say("pause");
    client.say("next");
    assert_eq!(client.hear(), "pausing");
    let remote = take.recv_timeout(harness::PATIENCE).expect("a remote");
    remote.send("meanwhile").expect("sending goes on");
    assert_eq!(client.hear(), "meanwhile");
    assert_eq!(client.hear(), "awake");
    // The server's clock counts whole milliseconds.
    let paused = began.elapsed() + Duration::from_millis(1);
    assert!(paused >= PAUSE, "paused for only {paused:?}");
}

/// Echoes with a mark; ends at "q".
struct Successor(Journal);

impl Handler for Successor {
    fn setup(&mut self, cx: &mut switchboard::Context<'_>) -> io::Result<Next> {
        self.0.note("second setup");
        cx.send("switched");
        Ok(Next::Continue)
    }

    fn handle(&mut self, message: &[u8], cx: &mut switchboard::Context<'_>) -> io::Result<Next> {
        cx.send([b"2:", message].concat());
        Ok(if message == b"q" { Next::Close } else { Next::Continue })
    }

    fn finish(&mut self, reason: &switchboard::CloseReason) {
        self.0.note(format!("second finish {reason}"));
    }
}

fn switching(journal: &Journal) -> Script {
    let second = journal.clone();
    Script::new(journal).handle(move |message, cx| {
        if message == b"switch" {
            return Ok(Next::Switch(Box::new(Successor(second.clone()))));
        }
        cx.send([b"1:", message].concat());
        Ok(Next::Continue)
    })
}

fn switch_takes_the_unread_bytes_along(on: On) {
    let journal = Journal::default();
    let server = on.play(switching(&journal));
    let mut client = server.client();
    client.send_bytes(b"a\nswitch\nb\nc\nq\n");
    client.hears_only("1:a\nswitched\n2:b\n2:c\n2:q\n");
    journal.wait_for("second finish done");
    let expected = ["setup", "handle a", "handle switch", "finish switched", "second setup"];
    assert_eq!(journal.all()[..5], expected);
    assert_eq!(journal.count("finish"), 1);
}

fn switch_replaces_the_handler_of_a_session(on: On) {
    let journal = Journal::default();
    let server = on.play(switching(&journal));
    let mut client = server.client();
    assert_eq!(client.ask("a"), "1:a");
    assert_eq!(client.ask("switch"), "switched");
    assert_eq!(client.ask("b"), "2:b");
    assert_eq!(client.ask("q"), "2:q");
    journal.wait_for("second finish done");
    assert_eq!(journal.count("finish switched"), 1);
}

fn stop_server_drains_the_server(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal).handle(|message, cx| {
        cx.send(message);
        Ok(if message == b"stop" { Next::StopServer } else { Next::Continue })
    }));
    let mut bystander = server.client();
    assert_eq!(bystander.ask("hi"), "hi");
    let mut client = server.client();
    assert_eq!(client.ask("stop"), "stop");
    let report = server.join();
    assert!(report.is_clean(), "{report}");
    assert_eq!((report.completed, report.told), (1, 1), "{report}");
    journal.wait_for("finish done");
    journal.wait_for("finish draining");
}

/// Gives way to another one of its kind at once.
struct GivesWay(Journal);

impl switchboard::Handler for GivesWay {
    fn setup(&mut self, _cx: &mut switchboard::Context<'_>) -> io::Result<Next> {
        self.0.note("setup");
        Ok(Next::Switch(Box::new(Self(self.0.clone()))))
    }

    fn handle(&mut self, _: &[u8], _: &mut switchboard::Context<'_>) -> io::Result<Next> {
        Ok(Next::Continue)
    }

    fn finish(&mut self, reason: &switchboard::CloseReason) {
        self.0.note(format!("finish {}", reason.name()));
    }
}

fn handlers_that_give_way_to_one_another_for_ever_are_ended(on: On) {
    let journal = Journal::default();
    let noted = journal.clone();
    let server = on.spawn(switchboard::Server::new(move |_| GivesWay(noted.clone())));
    let mut client = server.client();
    drop(client.try_send(b"x\n"));
    journal.wait_for("finish handler-err");
    assert_eq!(journal.count("setup"), 17);
    assert_eq!(journal.count("finish switched"), 16);
}
