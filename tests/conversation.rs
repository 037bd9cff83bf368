//! A `StreamHandler`: plain blocking reads and writes, under the server's deadlines, in every mode.

mod harness;

use std::io::{self, BufRead, Read, Write};
use std::time::{Duration, Instant};

use harness::{Client, Gate, Journal, On, PATIENCE, Running, eventually, matrix};
use switchboard::{CloseReason, Next, Server, Stream, StreamHandler};

matrix! {
    a_conversation_reads_and_writes_like_a_file: [tcp unix];
    bytes_left_unread_come_first_in_the_next_call: [tcp unix];
    a_question_is_out_before_its_answer_is_awaited: [tcp unix];
    the_end_of_the_input_is_read_as_zero_bytes: [tcp unix];
    a_write_of_many_megabytes_is_whole: [tcp unix];
    a_conversation_ends_for_every_reason: [tcp unix];
    a_silent_peer_is_left_at_the_idle_timeout: [tcp unix];
    a_peer_that_takes_nothing_is_left_at_the_write_timeout: [tcp unix];
    a_drain_ends_a_read_between_two_exchanges: [tcp unix];
    a_drain_lets_a_begun_exchange_finish: [tcp unix];
    a_drain_forces_an_exchange_that_never_ends: [tcp unix];
    many_blocked_conversations_do_not_hinder_others in [threads pool]: [tcp unix];
    a_conversation_has_a_remote_and_knows_its_peer: [tcp unix];
}

type Talk = fn(&mut Stream<'_>, &Journal) -> io::Result<Next>;

/// A conversation by its `handle`.
struct Talker(Journal, Talk);

impl StreamHandler for Talker {
    fn setup(&mut self, _stream: &mut Stream<'_>) -> io::Result<Next> {
        self.0.note("setup");
        Ok(Next::Continue)
    }

    fn handle(&mut self, stream: &mut Stream<'_>) -> io::Result<Next> {
        self.0.note("handle");
        (self.1)(stream, &self.0)
    }

    fn finish(&mut self, reason: &CloseReason) {
        self.0.note(format!("finish {reason}"));
    }
}

fn server(journal: &Journal, talk: Talk) -> Server {
    let journal = journal.clone();
    Server::streams(move |_| Talker(journal.clone(), talk))
}

fn spawn(on: On, server: Server) -> Running {
    on.spawn(server)
}

fn line(stream: &mut Stream<'_>) -> io::Result<String> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}

fn a_conversation_reads_and_writes_like_a_file(on: On) {
    let journal = Journal::default();
    let server = spawn(
        on,
        server(&journal, |stream, _| {
            let name = line(stream)?;
            let mut exact = [0; 3];
            stream.read_exact(&mut exact)?;
            writeln!(stream, "{name} {}", String::from_utf8_lossy(&exact))?;
            Ok(Next::Continue)
        }),
    );
    let mut client = server.client();
    for _ in 0..3 {
        client.send_bytes(b"al");
        client.send_bytes(b"ex\n12");
        client.send_bytes(b"3");
        assert_eq!(client.hear(), "alex 123");
    }
    client.finish_sending();
    client.hears_only("");
    journal.wait_for("finish peer-eof");
}

fn bytes_left_unread_come_first_in_the_next_call(on: On) {
    let journal = Journal::default();
    let server = spawn(
        on,
        server(&journal, |stream, _| {
            let mut one = [0; 1];
            stream.read_exact(&mut one)?;
            writeln!(stream, "<{}>", one[0] as char)?;
            Ok(if one == *b"." { Next::Close } else { Next::Continue })
        }),
    );
    let mut client = server.client();
    client.send_bytes(b"abcdefghijklmnopqrstuvwxyz.never read");
    let expected: String = ('a'..='z').chain(['.']).map(|c| format!("<{c}>\n")).collect();
    client.hears_only(&expected);
    journal.wait_for("finish done");
    assert_eq!(journal.count("handle"), 27);
}

fn a_question_is_out_before_its_answer_is_awaited(on: On) {
    let journal = Journal::default();
    let server = spawn(
        on,
        server(&journal, |stream, _| {
            let name = line(stream)?;
            writeln!(stream, "how old is {name}?")?;
            let age = line(stream)?;
            writeln!(stream, "{name} is {age}")?;
            Ok(Next::Close)
        }),
    );
    let mut client = server.client();
    assert_eq!(client.ask("Ann"), "how old is Ann?");
    client.say("44");
    client.hears_only("Ann is 44\n");
}

fn the_end_of_the_input_is_read_as_zero_bytes(on: On) {
    let journal = Journal::default();
    let server = spawn(
        on,
        server(&journal, |stream, _| {
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            assert_eq!(stream.read(&mut [0; 10])?, 0, "the end stays the end");
            writeln!(stream, "{} bytes", text.len())?;
            Ok(Next::Continue)
        }),
    );
    let mut client = server.client();
    client.send_bytes(&[b'x'; 100_000]);
    client.finish_sending();
    client.hears_only("100000 bytes\n");
    journal.wait_for("finish peer-eof");
}

fn a_write_of_many_megabytes_is_whole(on: On) {
    const SIZE: usize = 16 * 1024 * 1024 + 1;
    let journal = Journal::default();
    let server = spawn(
        on,
        server(&journal, |stream, _| {
            line(stream)?;
            stream.write_all(&vec![b'z'; SIZE])?;
            Ok(Next::Close)
        }),
    );
    let mut client = server.client();
    client.say("x");
    let all = client.rest().expect("an orderly end");
    assert!(all.len() == SIZE && all.iter().all(|&byte| byte == b'z'));
}

fn a_conversation_ends_for_every_reason(on: On) {
    let journal = Journal::default();
    let server = spawn(
        on,
        server(&journal, |stream, _| match line(stream)?.as_str() {
            "close" => Ok(Next::Close),
            "abort" => Ok(Next::Abort),
            "panic" => panic!("planned: a conversation"),
            "switch" => Ok(Next::Switch(Box::new(switchboard::handler_fn(|_, _| Ok(Next::Close))))),
            _ => Err(io::Error::other("what?")),
        }),
    );
    for (word, reason) in [
        ("close", "finish done"),
        ("abort", "finish aborted"),
        ("panic", "finish handler-panic"),
        ("x", "finish handler-err: what?"),
        ("switch", "finish handler-err: a StreamHandler"),
    ] {
        let mut client = server.client();
        client.say(word);
        journal.wait_for(reason);
        assert!(client.is_cut_off());
    }
}

fn a_silent_peer_is_left_at_the_idle_timeout(on: On) {
    let journal = Journal::default();
    let server = server(&journal, |stream, journal| {
        line(stream)?;
        let error = line(stream).expect_err("nobody speaks");
        journal.note(format!("error {:?}", error.kind()));
        Err(error)
    });
    let server = spawn(on, server.idle_timeout(Duration::from_millis(80)));
    let (mut parked, mut reading) = (server.client(), server.client());
    reading.say("x");
    assert!(parked.is_cut_off() && reading.is_cut_off());
    journal.wait_for("error TimedOut");
    journal.wait_for_so_many(2, "finish idle-timeout");
}

fn a_peer_that_takes_nothing_is_left_at_the_write_timeout(on: On) {
    let journal = Journal::default();
    let server = server(&journal, |stream, journal| {
        line(stream)?;
        let error = stream.write_all(&vec![0; 64 * 1024 * 1024]).expect_err("nobody reads");
        journal.note(format!("error {:?}", error.kind()));
        Err(error)
    });
    let server = spawn(on, server.write_timeout(Duration::from_millis(80)));
    let mut client = server.client();
    client.say("x");
    journal.wait_for("error TimedOut");
    journal.wait_for("finish slow-write");
}

fn a_drain_ends_a_read_between_two_exchanges(on: On) {
    let journal = Journal::default();
    let server = spawn(
        on,
        server(&journal, |stream, journal| {
            loop {
                let word = line(stream)?;
                if word.is_empty() {
                    journal.note(format!("told {}", stream.is_draining()));
                    writeln!(stream, "goodbye")?;
                    return Ok(Next::Close);
                }
                writeln!(stream, "heard {word}")?;
            }
        }),
    );
    let mut client = server.client();
    assert_eq!(client.ask("one"), "heard one");
    let began = Instant::now();
    let report = server.drain(PATIENCE);
    assert!(began.elapsed() < Duration::from_secs(5));
    client.hears_only("goodbye\n");
    journal.wait_for("told true");
    assert_eq!((report.told, report.forced, report.stuck), (1, 0, 0), "{report}");
}

fn a_drain_lets_a_begun_exchange_finish(on: On) {
    let journal = Journal::default();
    let server = spawn(
        on,
        server(&journal, |stream, journal| {
            let mut first = [0; 5];
            stream.read_exact(&mut first)?;
            journal.note("half");
            let rest = line(stream)?;
            writeln!(stream, "got {rest}")?;
            Ok(Next::Continue)
        }),
    );
    let mut client = server.client();
    client.send_bytes(b"half ");
    journal.wait_for("half");
    server.begin_drain(PATIENCE);
    client.send_bytes(b"the other half\n");
    client.hears_only("got the other half\n");
    let report = server.join();
    assert_eq!((report.forced, report.stuck), (0, 0), "{report}");
}

fn a_drain_forces_an_exchange_that_never_ends(on: On) {
    let journal = Journal::default();
    let server = spawn(
        on,
        server(&journal, |stream, _| {
            let mut first = [0; 5];
            stream.read_exact(&mut first)?;
            let rest = line(stream)?;
            writeln!(stream, "got {rest}")?;
            Ok(Next::Continue)
        }),
    );
    let mut client = server.client();
    client.send_bytes(b"half of");
    journal.wait_for("handle");
    eventually("it waits for the rest", || server.stats().connections_open == 1);
    let began = Instant::now();
    let report = server.drain(Duration::from_millis(100));
    assert!(began.elapsed() < Duration::from_secs(2));
    assert_eq!((report.forced, report.stuck), (1, 0), "{report}");
    journal.wait_for("finish forced");
    assert!(client.is_cut_off());
}

fn many_blocked_conversations_do_not_hinder_others(on: On) {
    let journal = Journal::default();
    let server = spawn(
        on,
        server(&journal, |stream, _| {
            let first = line(stream)?;
            writeln!(stream, "first {first}")?;
            let second = line(stream)?;
            writeln!(stream, "second {second}")?;
            Ok(Next::Close)
        }),
    );
    // One less than the pool has workers.
    let mut waiting: Vec<Client> = (0..7).map(|_| server.client()).collect();
    for client in &mut waiting {
        assert_eq!(client.ask("a"), "first a");
    }
    for _ in 0..20 {
        let mut client = server.client();
        assert_eq!(client.ask("b"), "first b");
        client.say("c");
        client.hears_only("second c\n");
    }
    for client in &mut waiting {
        client.say("d");
        client.hears_only("second d\n");
    }
}

fn a_conversation_has_a_remote_and_knows_its_peer(on: On) {
    let (journal, gate) = (Journal::default(), Gate::default());
    let _opens = gate.open_at_the_end();
    let server = spawn(
        on,
        server(&journal, |stream, _| {
            line(stream)?;
            let remote = stream.remote();
            assert_eq!((remote.id(), remote.peer()), (stream.id(), stream.peer()));
            let peer = stream.peer().address().to_string();
            let other = std::thread::Builder::new().spawn(move || remote.send("unasked\n"))?;
            other.join().expect("it does not panic").map_err(io::Error::other)?;
            writeln!(stream, "{peer}")?;
            Ok(Next::Continue)
        }),
    );
    let mut client = server.client();
    let expected = client.address().to_string();
    client.say("x");
    let heard = [client.hear(), client.hear()];
    assert!(heard.contains(&expected) && heard.contains(&"unasked".to_owned()), "{heard:?}");
}

#[test]
fn a_conversation_needs_a_stream_and_datagrams_need_datagrams() {
    let journal = Journal::default();
    let error = server(&journal, |_, _| Ok(Next::Close)).udp("127.0.0.1:0").bind();
    assert!(error.expect_err("no").to_string().contains("StreamHandler cannot serve udp://"));
}

#[test]
fn a_client_of_the_documentation_is_served() {
    struct Documentation;
    impl StreamHandler for Documentation {
        fn handle(&mut self, stream: &mut Stream<'_>) -> io::Result<Next> {
            let mut data = [0; 1_024];
            let read = stream.read(&mut data)?;
            stream.write_all(&data[..read].to_ascii_uppercase())?;
            Ok(Next::Close)
        }
    }
    let server = Running::of(Server::streams(|_| Documentation).tcp("127.0.0.1:0"));
    let mut client = server.client();
    client.send_bytes(b"hello world with tcp\n");
    client.hears_only("HELLO WORLD WITH TCP\n");
}
