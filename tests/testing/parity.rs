//! The same script in memory and over TCP: the same callbacks, the same replies, the same end.

use std::io::{self, BufRead, Read, Write};
use std::time::{Duration, Instant};

use switchboard::codec::Width;
use switchboard::testing::{End, MemoryServer, Step};
use switchboard::{
    CloseReason, Concurrency, Context, Framing, Next, Server, Stream, StreamHandler, handler_fn,
};

use crate::harness::{Client, Journal, PATIENCE, Running, Script};

/// What one run shows.
#[derive(Debug, PartialEq, Eq)]
struct Transcript {
    callbacks: Vec<String>,
    received: String,
    end: End,
}

/// A server and what its client does.
struct Play {
    server: Box<dyn Fn(&Journal) -> Server>,
    steps: Vec<Step>,
}

fn play(server: impl Fn(&Journal) -> Server + 'static, steps: impl Into<Vec<Step>>) -> Play {
    Play { server: Box::new(server), steps: steps.into() }
}

impl Play {
    /// Plays it in memory; returns also how many callbacks and bytes there were after each step.
    fn in_memory(&self) -> (Transcript, Vec<(usize, usize)>) {
        let journal = Journal::default();
        let mut client = MemoryServer::new((self.server)(&journal)).connect();
        let (mut counts, mut received) = (Vec::new(), Vec::new());
        received.extend(client.received().into_bytes());
        for step in &self.steps {
            client.play([step.clone()]);
            received.extend(client.received().into_bytes());
            counts.push((journal.all().len(), received.len()));
        }
        let received = String::from_utf8_lossy(&received).into_owned();
        let transcript = Transcript { callbacks: journal.all(), received, end: client.end() };
        (transcript, counts)
    }

    /// Plays it over TCP. Before each step it waits for as many callbacks as there were in memory.
    fn over_tcp(&self, concurrency: Concurrency, counts: &[(usize, usize)]) -> Transcript {
        let journal = Journal::default();
        let server = (self.server)(&journal).concurrency(concurrency).tcp("127.0.0.1:0");
        let server = Running::of(server);
        let mut client = Some(server.client());
        let mut sent = 0;
        for (index, (step, (callbacks, bytes))) in self.steps.iter().zip(counts).enumerate() {
            match (step, client.as_mut()) {
                // What crosses the server's end is lost, here as there.
                (Step::Send(bytes), Some(client)) => drop(client.try_send(bytes)),
                (Step::HalfClose, Some(client)) => client.finish_sending(),
                (Step::Reset, Some(_)) => client.take().into_iter().for_each(Client::reset),
                (Step::Close, Some(open)) => {
                    // A close on bytes that were not read would be a reset.
                    open.hear_bytes(sent);
                    drop(client.take());
                }
                (Step::Drain(within), _) => server.begin_drain(*within),
                // The time passes by itself: what is waited for is what it brings about.
                (Step::Wait(_), _) => {}
                (step, _) => panic!("{step:?} is not for this test"),
            }
            // Behind the last step the client reads to the end, and closes: that ends a server's lingering.
            if index + 1 < self.steps.len() {
                wait_for(&journal, *callbacks);
            }
            sent = *bytes;
        }
        let (received, end) = match client.as_mut().map(Client::rest) {
            None => (String::new(), End::Open),
            Some(Ok(bytes)) => (String::from_utf8_lossy(&bytes).into_owned(), End::Closed),
            Some(Err(_)) => (String::new(), End::Reset),
        };
        drop(client);
        wait_for(&journal, counts.last().map_or(0, |(callbacks, _)| *callbacks));
        drop(server);
        Transcript { callbacks: journal.all(), received, end }
    }

    /// Plays it everywhere, to an end, and compares.
    #[track_caller]
    fn is_the_same_everywhere(&self) {
        let (memory, counts) = self.in_memory();
        let finished = memory.callbacks.iter().any(|entry| entry.starts_with("finish"));
        assert!(finished || memory.end != End::Open, "the script comes to an end: {memory:?}");
        for concurrency in [Concurrency::Inline, Concurrency::threads(8), Concurrency::pool(4)] {
            let mut tcp = self.over_tcp(concurrency, &counts);
            let left = self.steps.iter().any(|step| matches!(step, Step::Reset | Step::Close));
            if left || memory.end == End::Reset {
                // Whoever has left sees nothing, and a reset takes along what had not been read.
                tcp.received.clone_from(&memory.received);
            }
            if left {
                tcp.end = memory.end;
            }
            assert_eq!(memory, tcp, "in memory, and under {concurrency:?}");
        }
    }
}

#[track_caller]
fn wait_for(journal: &Journal, count: usize) {
    let deadline = Instant::now() + PATIENCE;
    let ticks = crossbeam_channel::tick(Duration::from_millis(1));
    while journal.all().len() < count {
        assert!(Instant::now() < deadline, "{count} callbacks: {:?}", journal.all());
        let _ = ticks.recv();
    }
}

fn lines(script: impl Fn(Script) -> Script + 'static) -> impl Fn(&Journal) -> Server {
    framed(Framing::lines(), script)
}

fn framed(
    framing: Framing,
    script: impl Fn(Script) -> Script + 'static,
) -> impl Fn(&Journal) -> Server {
    move |journal| script(Script::new(journal)).server().framing(framing.clone())
}

fn as_it_is(script: Script) -> Script {
    script
}

/// Does what the message says.
fn obedient(script: Script) -> Script {
    script.handle(|message, cx| {
        cx.send(message);
        Ok(match message {
            b"close" => Next::Close,
            b"abort" => Next::Abort,
            b"half" => Next::HalfClose,
            b"pause" => Next::Pause(Duration::from_millis(30)),
            b"stop" => Next::StopServer,
            b"error" => return Err(io::Error::other("as it was told")),
            b"panic" => panic!("planned"),
            b"switch" => Next::Switch(Box::new(handler_fn(|message, cx: &mut Context<'_>| {
                cx.send([b"new: ", message].concat());
                Ok(Next::Continue)
            }))),
            _ => Next::Continue,
        })
    })
}

#[test]
fn bytes_split_anywhere_are_the_same_messages() {
    let pieces = ["he", "llo\nwor", "ld\r\n\n", "end"].map(Step::send);
    let steps = pieces.into_iter().chain([Step::HalfClose]).collect::<Vec<_>>();
    play(lines(as_it_is), steps).is_the_same_everywhere();
}

#[test]
fn a_burst_beyond_the_budget_of_a_turn_is_the_same() {
    let burst: String = (0..100).map(|n| format!("line {n}\n")).collect();
    play(lines(as_it_is), [Step::send(burst), Step::HalfClose]).is_the_same_everywhere();
}

#[test]
fn everything_that_a_handler_may_return_does_the_same() {
    for what in ["close", "abort", "error", "panic", "stop"] {
        let steps = [Step::send("first\n"), Step::send(format!("{what}\n"))];
        play(lines(obedient), steps).is_the_same_everywhere();
    }
    let steps = [Step::send("half\n"), Step::send("close\n"), Step::HalfClose];
    let silent = |script: Script| {
        script
            .handle(|message, _| Ok(if message == b"half" { Next::HalfClose } else { Next::Close }))
    };
    play(lines(silent), steps).is_the_same_everywhere();
    let steps = [Step::send("switch\nover\n"), Step::send("to you\n"), Step::HalfClose];
    play(lines(obedient), steps).is_the_same_everywhere();
    let wait = Step::Wait(Duration::from_millis(30));
    let steps = [Step::send("pause\n"), Step::send("later\n"), wait, Step::HalfClose];
    play(lines(obedient), steps).is_the_same_everywhere();
}

#[test]
fn a_close_with_unread_bytes_behind_it_is_the_same() {
    play(lines(obedient), [Step::send("close\nunread\n")]).is_the_same_everywhere();
}

#[test]
fn bytes_that_are_no_message_are_rejected_the_same() {
    let long = Framing::lines().max_frame(4);
    let steps = [Step::send("ok\n"), Step::send("too long\n")];
    play(framed(long.clone(), as_it_is), steps).is_the_same_everywhere();

    let goes_on = |script: Script| script.rejected(|_, _| Ok(Next::Continue));
    let steps = [Step::send("much too "), Step::send("long\nok\n"), Step::HalfClose];
    play(framed(long.skip_overlong(), goes_on), steps).is_the_same_everywhere();

    let prefix = Framing::length_prefix(Width::I32Le);
    play(framed(prefix.clone(), as_it_is), [Step::send(b"\xff\xff\xff\xff")])
        .is_the_same_everywhere();
    let steps = [Step::send(b"\x02\0\0\0hi\x05\0"), Step::send(b"\0\0hel"), Step::HalfClose];
    play(framed(prefix, as_it_is), steps).is_the_same_everywhere();
}

#[test]
fn a_handler_that_fails_at_the_beginning_fails_the_same() {
    let fails = |script: Script| script.setup(|_| Err(io::Error::other("not today")));
    play(lines(fails), []).is_the_same_everywhere();
    let greets = |script: Script| {
        script.setup(|cx| {
            cx.send("welcome");
            Ok(Next::Continue)
        })
    };
    play(lines(greets), [Step::HalfClose]).is_the_same_everywhere();
    let panics =
        |_: &Journal| Server::new(|_peer| -> Box<dyn switchboard::Handler> { panic!("planned") });
    play(panics, []).is_the_same_everywhere();
}

#[test]
fn a_peer_that_goes_away_is_the_same() {
    for leaves in [Step::Reset, Step::Close, Step::HalfClose] {
        let steps = [Step::send("hello\nhal"), leaves];
        play(lines(as_it_is), steps).is_the_same_everywhere();
    }
    let stays = |script: Script| script.half_closed(|_| Ok(Next::Continue));
    let steps = [Step::send("hello\n"), Step::HalfClose, Step::Drain(Duration::from_secs(5))];
    play(lines(stays), steps).is_the_same_everywhere();
}

#[test]
fn a_drain_is_the_same() {
    let within = Duration::from_secs(5);
    let says_so = |script: Script| {
        script.draining(|cx| {
            cx.send("the server is stopping");
            Ok(Next::Close)
        })
    };
    play(lines(says_so), [Step::send("hello\n"), Step::Drain(within)]).is_the_same_everywhere();
    let goes_on = |script: Script| script.draining(|_| Ok(Next::Continue));
    let steps = [Step::Drain(within), Step::send("one more\n"), Step::HalfClose];
    play(lines(goes_on), steps).is_the_same_everywhere();
    let short = Duration::from_millis(50);
    let steps = [Step::send("hello\n"), Step::Drain(short), Step::Wait(short)];
    play(lines(goes_on), steps).is_the_same_everywhere();
}

#[test]
fn deadlines_that_pass_end_it_the_same() {
    let span = Duration::from_millis(60);
    let idle = move |journal: &Journal| lines(as_it_is)(journal).idle_timeout(span);
    play(idle, [Step::send("hello\n"), Step::Wait(span)]).is_the_same_everywhere();
    let partial = move |journal: &Journal| lines(as_it_is)(journal).message_timeout(span);
    play(partial, [Step::send("hel"), Step::Wait(span)]).is_the_same_everywhere();
}

/// A conversation that asks three questions in one call.
struct Interview(Journal);

impl StreamHandler for Interview {
    fn setup(&mut self, stream: &mut Stream<'_>) -> io::Result<Next> {
        self.0.note("setup");
        writeln!(stream, "welcome")?;
        Ok(Next::Continue)
    }

    fn handle(&mut self, stream: &mut Stream<'_>) -> io::Result<Next> {
        self.0.note("handle");
        for question in ["name", "age"] {
            writeln!(stream, "{question}?")?;
            let mut answer = String::new();
            Read::by_ref(stream).take(100).read_line(&mut answer)?;
            self.0.note(answer.clone());
            if answer.is_empty() {
                return Ok(Next::Close);
            }
            write!(stream, "{answer}")?;
        }
        Ok(Next::Continue)
    }

    fn finish(&mut self, reason: &CloseReason) {
        self.0.note(format!("finish {reason}"));
    }
}

fn interview(journal: &Journal) -> Server {
    let journal = journal.clone();
    Server::streams(move |_peer| Interview(journal.clone()))
}

/// In memory a call that reads on has to find what comes: the steps are played in one script.
#[test]
fn a_conversation_is_the_same() {
    let scripts: [&[Step]; 5] = [
        &[Step::send("Ada\n"), Step::send("36\n"), Step::HalfClose],
        &[Step::send("A"), Step::send("da\n3"), Step::send("6\nBob\n40\n"), Step::HalfClose],
        &[Step::send("Ada\n"), Step::HalfClose],
        &[Step::send("Ada"), Step::Reset],
        &[Step::send("Ada\n"), Step::Drain(Duration::from_secs(5))],
    ];
    for steps in scripts {
        let journal = Journal::default();
        let mut client = MemoryServer::new(interview(&journal)).connect();
        client.play(steps.to_vec());
        let received = String::from_utf8_lossy(&client.received()).into_owned();
        let memory = Transcript { callbacks: journal.all(), received, end: client.end() };

        // Over TCP every step but the last is taken as soon as may be; the last one when all that comes
        // before it was read.
        let journal = Journal::default();
        let server = Running::of(interview(&journal).tcp("127.0.0.1:0"));
        let mut client = Some(server.client());
        let before = memory.callbacks.iter().filter(|entry| entry.ends_with('\n')).count();
        for (index, step) in steps.iter().enumerate() {
            if index + 1 == steps.len() {
                journal.wait_for("handle");
                wait_for(&journal, 2 + before);
            }
            match (step, client.as_mut()) {
                (Step::Send(bytes), Some(client)) => client.send_bytes(bytes),
                (Step::HalfClose, Some(client)) => client.finish_sending(),
                (Step::Reset, _) => client.take().into_iter().for_each(Client::reset),
                (Step::Drain(within), _) => server.begin_drain(*within),
                (step, _) => panic!("{step:?} is not for this test"),
            }
        }
        let rest = client.as_mut().map(Client::rest);
        journal.wait_for_so_many(1, "finish");
        assert_eq!(journal.all(), memory.callbacks, "{steps:?}");
        if let Some(rest) = rest {
            let rest = rest.expect("an orderly end");
            assert_eq!(String::from_utf8_lossy(&rest), memory.received, "{steps:?}");
            assert_eq!(memory.end, End::Closed);
        }
    }
}
