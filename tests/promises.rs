//! The promises that hold in every mode and on every transport. (Draining, blocking and slow peers: see
//! `drain`, `concurrency` and `writes`.)

mod harness;

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use harness::{Journal, On, Script, eventually, matrix};
use proptest::test_runner::{Config, TestRunner};
use switchboard::{CloseReason, Context, Framing, Handler, Next, Remote, Server};

matrix! {
    callbacks_of_one_peer_never_overlap_and_keep_the_order: [tcp unix udp unixgram];
    setup_runs_once_and_finish_exactly_once: [tcp unix udp unixgram];
    a_failing_handler_ends_its_own_peer_alone: [tcp unix udp unixgram];
    everything_sent_before_close_arrives: [tcp unix udp unixgram];
    everything_sent_before_close_arrives_after_the_peers_fin: [tcp unix];
    everything_sent_before_close_arrives_though_input_is_unread: [tcp unix];
    everything_sent_before_close_arrives_though_the_peer_goes_on_sending: [tcp unix];
    an_empty_message_is_a_message: [tcp unix udp unixgram];
    the_longest_datagram_arrives_whole_and_goes_out_whole: [udp unixgram];
    parking_loses_no_byte_wherever_the_stream_is_split: [tcp unix];
    more_messages_than_a_turn_handles_are_all_handled: [tcp unix udp unixgram];
    messages_behind_a_pause_are_handled_without_further_input: [tcp unix];
    messages_before_fin_are_all_handled: [tcp unix];
}

/// Complains when a callback begins while another one of the same peer runs, or out of order.
struct Exclusive {
    inside: Arc<AtomicBool>,
    next: usize,
    complaints: Journal,
    remotes: crossbeam_channel::Sender<Remote>,
}

impl Exclusive {
    fn alone(&self, callback: &str) -> impl Drop + use<> {
        struct Inside(Arc<AtomicBool>);
        impl Drop for Inside {
            fn drop(&mut self) {
                self.0.store(false, Ordering::SeqCst);
            }
        }
        if self.inside.swap(true, Ordering::SeqCst) {
            self.complaints.note(format!("{callback} overlaps"));
        }
        // Gives others an opportunity to come in between.
        std::thread::yield_now();
        Inside(self.inside.clone())
    }
}

impl Handler for Exclusive {
    fn setup(&mut self, cx: &mut Context<'_>) -> io::Result<Next> {
        let _alone = self.alone("setup");
        self.remotes.send(cx.remote()).map_err(io::Error::other)?;
        Ok(Next::Continue)
    }

    fn handle(&mut self, message: &[u8], cx: &mut Context<'_>) -> io::Result<Next> {
        let _alone = self.alone("handle");
        if message != self.next.to_string().as_bytes() {
            self.complaints.note(format!("{:?} is not {}", message, self.next));
        }
        self.next += 1;
        cx.send([b"reply ", message].concat());
        Ok(if self.next.is_multiple_of(7) {
            Next::Pause(Duration::from_millis(1))
        } else {
            Next::Continue
        })
    }

    fn idle(&mut self, _cx: &mut Context<'_>) -> io::Result<Next> {
        let _alone = self.alone("idle");
        Ok(Next::Continue)
    }

    fn draining(&mut self, _cx: &mut Context<'_>) -> io::Result<Next> {
        let _alone = self.alone("draining");
        Ok(Next::Close)
    }

    fn finish(&mut self, _reason: &CloseReason) {
        let _alone = self.alone("finish");
    }
}

fn callbacks_of_one_peer_never_overlap_and_keep_the_order(on: On) {
    const MESSAGES: usize = 200;
    let (remotes, taken) = crossbeam_channel::bounded(8);
    let complaints = Journal::default();
    let noted = complaints.clone();
    let server = on.spawn(
        Server::new(move |_| Exclusive {
            inside: Arc::default(),
            next: 0,
            complaints: noted.clone(),
            remotes: remotes.clone(),
        })
        .idle_timeout(Duration::from_millis(1)),
    );
    let mut clients = [server.client(), server.client(), server.client()];
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let remotes: Vec<Remote> = taken.iter().take(3).collect();
            let ticks = crossbeam_channel::tick(Duration::from_micros(300));
            while !over.load(Ordering::SeqCst) {
                remotes.iter().for_each(|remote| drop(remote.send("unasked")));
                let _ = ticks.recv();
            }
        });
        for client in &mut clients {
            scope.spawn(|| client_of_exclusive(client, MESSAGES));
        }
        eventually("all are answered", || server.stats().messages == 3 * MESSAGES as u64);
        over.store(true, Ordering::SeqCst);
    });
    drop(server);
    assert_eq!(complaints.all(), [""; 0]);
}

fn client_of_exclusive(client: &mut harness::Client, messages: usize) {
    let mut heard = 0;
    for sent in 0..messages {
        client.say(&sent.to_string());
        while heard + 16 <= sent {
            heard += usize::from(client.hear().starts_with("reply"));
        }
    }
    while heard < messages {
        heard += usize::from(client.hear().starts_with("reply"));
    }
}

fn setup_runs_once_and_finish_exactly_once(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal).handle(|message, cx| {
        cx.send("heard");
        match message {
            b"close" => Ok(Next::Close),
            b"abort" => Ok(Next::Abort),
            b"fail" => Err(io::Error::other("no")),
            b"panic" => panic!("planned"),
            b"half" => Ok(Next::HalfClose),
            _ => Ok(Next::Continue),
        }
    }));
    let endings = ["close", "abort", "fail", "panic", "half", "stay"];
    for round in 0..4 {
        for ending in endings {
            let mut client = server.client();
            client.say("hello");
            assert_eq!(client.hear(), "heard");
            client.say(ending);
            if round % 2 == 0 && !on.is_datagram() {
                client.vanish();
            }
        }
    }
    drop(server);
    assert_eq!(journal.count("setup"), 24);
    assert_eq!(journal.count("finish"), 24, "{:?}", journal.all());
}

fn a_failing_handler_ends_its_own_peer_alone(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal).handle(|message, cx| match message {
        b"panic" => panic!("planned: handle"),
        b"fail" => Err(io::Error::other("on purpose")),
        _ => {
            cx.send(message);
            Ok(Next::Continue)
        }
    }));
    let mut bystander = server.client();
    assert_eq!(bystander.ask("before"), "before");
    for (message, reason) in
        [("panic", "finish handler-panic"), ("fail", "finish handler-err: on purpose")]
    {
        let mut client = server.client();
        client.say(message);
        journal.wait_for(reason);
        if !on.is_datagram() {
            client.hears_only("");
        }
        assert_eq!(bystander.ask("still here"), "still here");
        assert_eq!(server.client().ask("newcomer"), "newcomer");
    }
    assert_eq!(journal.count("finish handler"), 2);
}

fn everything_sent_before_close_arrives(on: On) {
    let replies = if on.is_datagram() { 20 } else { 3_000 };
    let journal = Journal::default();
    let server = on.play(Script::new(&journal).handle(move |_, cx| {
        for number in 0..replies {
            cx.send(format!("{number:0>1000}"));
        }
        Ok(Next::Close)
    }));
    let mut client = server.client();
    client.say("all of it");
    for number in 0..replies {
        assert_eq!(client.hear(), format!("{number:0>1000}"));
    }
    if !on.is_datagram() {
        client.hears_only("");
    }
    journal.wait_for("finish done");
}

/// A handler that answers `all` with a lot, and closes.
fn answers_all(journal: &Journal) -> Script {
    Script::new(journal).handle(|message, cx| {
        if message != b"all" {
            return Ok(Next::Continue);
        }
        cx.send("x".repeat(8_000));
        cx.send("that was all");
        Ok(Next::Close)
    })
}

fn everything_sent_before_close_arrives_after_the_peers_fin(on: On) {
    let journal = Journal::default();
    let server = on.play(answers_all(&journal));
    let mut client = server.client();
    client.say("all");
    client.finish_sending();
    assert_eq!(client.hear().len(), 8_000);
    client.hears_only("that was all\n");
    journal.wait_for("finish done");
}

fn everything_sent_before_close_arrives_though_input_is_unread(on: On) {
    let journal = Journal::default();
    let server = on.play(answers_all(&journal));
    for _ in 0..10 {
        let mut client = server.client();
        let unread = "never read\n".repeat(3_000);
        client.send_bytes(format!("all\n{unread}").as_bytes());
        assert_eq!(client.hear().len(), 8_000);
        client.hears_only("that was all\n");
    }
    drop(server);
    journal.wait_for_so_many(10, "finish done");
}

fn everything_sent_before_close_arrives_though_the_peer_goes_on_sending(on: On) {
    let journal = Journal::default();
    let server = on.play(answers_all(&journal));
    let mut client = server.client();
    client.say("all");
    let mut sender = client.wire().pipe.try_clone().expect("a second handle");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // It goes on while the reply is on its way; less than the lingering read takes.
            for _ in 0..500 {
                if sender.write_all(b"talking on and on\n").is_err() {
                    return;
                }
                std::thread::yield_now();
            }
        });
        assert_eq!(client.hear().len(), 8_000);
        assert_eq!(client.hear(), "that was all");
    });
    journal.wait_for("finish done");
}

fn an_empty_message_is_a_message(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal).handle(|message, cx| {
        cx.send(format!("{} bytes", message.len()));
        Ok(Next::Continue)
    }));
    let mut client = server.client();
    for _ in 0..3 {
        assert_eq!(client.ask(""), "0 bytes");
    }
    assert_eq!(client.ask("abc"), "3 bytes");
    assert_eq!(journal.count("setup"), 1);
}

fn the_longest_datagram_arrives_whole_and_goes_out_whole(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal).handle(|message, cx| {
        cx.send(message.iter().rev().copied().collect::<Vec<u8>>());
        Ok(Next::Continue)
    }));
    let mut client = server.client();
    for length in [65_507, 65_506, 1_473, 1_472, 1] {
        let sent: Vec<u8> = (0..length).map(|at: usize| (at * 31 % 251) as u8).collect();
        client.send_bytes(&sent);
        let mut heard = client.try_hear().expect("a reply");
        heard.reverse();
        assert!(heard == sent, "{length} bytes came back changed, as {}", heard.len());
    }
}

fn parking_loses_no_byte_wherever_the_stream_is_split(on: On) {
    let journal = Journal::default();
    let script = Script::new(&journal);
    let server = harness::Running::of(
        on.framed(script.server(), Framing::length_prefix(switchboard::codec::Width::U16Be)),
    );
    let text = b"\0\x03one\0\0\0\x02ab\0\x05three".to_vec();
    let expected = b"\0\x03ONE\0\0\0\x02AB\0\x05THREE".to_vec();
    let config = Config { cases: 120, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new(config);
    let splits = proptest::collection::vec(proptest::bool::weighted(0.3), text.len());
    let mut client = server.client();
    let client = std::cell::RefCell::new(&mut client);
    let check = |splits: Vec<bool>| {
        let mut piece = Vec::new();
        let mut client = client.borrow_mut();
        for (byte, split) in text.iter().zip(splits) {
            piece.push(*byte);
            if split {
                client.send_bytes(&piece);
                piece.clear();
                std::thread::yield_now();
            }
        }
        client.send_bytes(&piece);
        assert_eq!(client.hear_bytes(expected.len()), expected);
        Ok(())
    };
    runner.run(&splits, check).expect("every split");
}

fn more_messages_than_a_turn_handles_are_all_handled(on: On) {
    let journal = Journal::default();
    let handled = Arc::new(AtomicUsize::new(0));
    let count = handled.clone();
    let server = on.play(Script::new(&journal).handle(move |_, _| {
        count.fetch_add(1, Ordering::SeqCst);
        Ok(Next::Continue)
    }));
    let mut client = server.client();
    if on.is_datagram() {
        (0..200).for_each(|_| client.say("x"));
        eventually("all are handled", || handled.load(Ordering::SeqCst) == 200);
    } else {
        client.send_bytes("x\n".repeat(10_000).as_bytes());
        eventually("all are handled", || handled.load(Ordering::SeqCst) == 10_000);
    }
}

fn messages_behind_a_pause_are_handled_without_further_input(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal).handle(|message, cx| {
        cx.send(message);
        Ok(Next::Pause(Duration::from_millis(5)))
    }));
    let mut client = server.client();
    client.send_bytes(b"a\nb\nc\nd");
    for expected in ["a", "b", "c"] {
        assert_eq!(client.hear(), expected);
    }
    client.finish_sending();
    client.hears_only("d\n");
    journal.wait_for("finish peer-eof");
}

fn messages_before_fin_are_all_handled(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal));
    let mut client = server.client();
    client.send_bytes("x\n".repeat(100).as_bytes());
    client.finish_sending();
    client.hears_only(&"X\n".repeat(100));
    journal.wait_for("finish peer-eof");
    assert_eq!(journal.count("handle"), 100);
}
