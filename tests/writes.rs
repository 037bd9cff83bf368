//! What waits to be sent is bounded, ordered and never torn, and a peer that does not read costs itself.

mod harness;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use harness::{Client, Journal, On, Running, Script, eventually, matrix};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use switchboard::codec::Width;
use switchboard::{CloseReason, Framing, Next, Overflow, Remote, SendError, Server};

matrix! {
    frames_from_sixteen_threads_are_never_torn_and_keep_each_threads_order: [tcp unix];
    datagrams_from_sixteen_threads_all_leave: [udp unixgram];
    the_handlers_replies_and_a_remotes_do_not_mix_within_a_message: [tcp unix];
    a_remote_never_blocks_and_overflow_disconnects_by_default: [tcp unix];
    overflow_may_drop_the_newest: [tcp unix];
    overflow_may_drop_the_oldest: [tcp unix];
    a_message_longer_than_the_limit_passes_when_nothing_waits: [tcp unix];
    a_peer_that_does_not_read_is_not_read_either: [tcp unix];
    a_peer_that_never_reads_costs_itself_alone in [threads pool]: [tcp];
    a_peer_that_never_reads_a_remote_costs_itself_alone: [tcp unix];
    a_handlers_flood_is_whole_once_the_peer_reads: [tcp unix];
    a_thousand_small_replies_leave_together: [tcp unix];
    a_reset_while_much_waits_ends_the_connection_alone: [tcp unix];
    what_waits_at_a_drain_is_flushed_to_a_slow_reader: [tcp unix];
    what_waits_at_a_drain_for_a_peer_that_never_reads_is_given_up: [tcp unix];
}

/// A running server that hands out a remote for every connection.
fn with_remotes(
    on: On,
    server: impl FnOnce(Server) -> Server,
    framing: Framing,
) -> (Running, Receiver<Remote>) {
    let (give, take) = crossbeam_channel::bounded(64);
    let journal = Journal::default();
    let script = Script::new(&journal).setup(move |cx| {
        give.send(cx.remote()).map_err(io::Error::other)?;
        Ok(Next::Continue)
    });
    let script = script.handle(|message, cx| {
        cx.send([b"own ", message].concat());
        Ok(Next::Continue)
    });
    let server = server(script.server());
    let running =
        if on.is_datagram() { on.spawn(server) } else { Running::of(on.framed(server, framing)) };
    (running, take)
}

fn sixteen_threads(remote: &Remote, each: usize) {
    std::thread::scope(|scope| {
        for thread in 0..16_u32 {
            let remote = remote.clone();
            scope.spawn(move || {
                for number in 0..each as u32 {
                    let length = (number % 97) as usize;
                    let mut frame = [thread.to_be_bytes(), number.to_be_bytes()].concat();
                    frame.resize(8 + length, thread as u8);
                    while remote.send(&frame) == Err(SendError::Full) {
                        std::thread::yield_now();
                    }
                }
            });
        }
    });
}

fn frames_from_sixteen_threads_are_never_torn_and_keep_each_threads_order(on: On) {
    const EACH: usize = 1_000;
    let framing = Framing::length_prefix(Width::U16Be);
    let (server, remotes) =
        with_remotes(on, |server| server.overflow(Overflow::DropNewest), framing);
    let mut client = server.client();
    let remote = remotes.recv_timeout(harness::PATIENCE).expect("a remote");
    std::thread::scope(|scope| {
        scope.spawn(|| sixteen_threads(&remote, EACH));
        let mut next = [0_u32; 16];
        for _ in 0..16 * EACH {
            let head = client.hear_bytes(2);
            let body = client.hear_bytes(usize::from(u16::from_be_bytes([head[0], head[1]])));
            let thread = u32::from_be_bytes([body[0], body[1], body[2], body[3]]) as usize;
            let number = u32::from_be_bytes([body[4], body[5], body[6], body[7]]);
            assert_eq!(number, next[thread], "in the order of thread {thread}");
            assert_eq!(body.len(), 8 + (number % 97) as usize);
            assert!(body[8..].iter().all(|&byte| byte == thread as u8), "a torn frame");
            next[thread] += 1;
        }
    });
}

fn datagrams_from_sixteen_threads_all_leave(on: On) {
    let (server, remotes) = with_remotes(on, |server| server, Framing::raw());
    let mut client = server.client();
    client.say("x");
    let remote = remotes.recv_timeout(harness::PATIENCE).expect("a remote");
    assert_eq!(client.hear(), "own x");
    // Few enough that the client's receive buffer holds them all.
    sixteen_threads(&remote, 10);
    let mut next = [0_u8; 16];
    for _ in 0..160 {
        let datagram = client.try_hear().expect("a datagram");
        let thread = usize::from(datagram[3]);
        assert_eq!(datagram[7], next[thread], "in the order of thread {thread}");
        next[thread] += 1;
    }
}

fn the_handlers_replies_and_a_remotes_do_not_mix_within_a_message(on: On) {
    let (server, remotes) = with_remotes(on, |server| server, Framing::lines());
    let mut client = server.client();
    let remote = remotes.recv_timeout(harness::PATIENCE).expect("a remote");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..500 {
                remote.send(format!("unasked {number}")).expect("taken");
            }
        });
        let mut sender = client.wire().pipe.try_clone().expect("a second handle");
        scope.spawn(move || {
            for number in 0..500 {
                io::Write::write_all(&mut sender, format!("{number}\n").as_bytes()).expect("sent");
            }
        });
        let (mut own, mut unasked) = (0, 0);
        while own + unasked < 1_000 {
            let line = client.hear();
            let next = if line.starts_with("own") { &mut own } else { &mut unasked };
            let expected = [format!("own {next}"), format!("unasked {next}")];
            assert!(expected.contains(&line), "{line:?} is none of {expected:?}");
            *next += 1;
        }
    });
}

/// Sends until something else than Ok comes back, and says what; no call may take long.
fn until_it_is_full(remote: &Remote) -> SendError {
    let message = vec![b'm'; 10_000];
    for _ in 0..100_000 {
        let began = Instant::now();
        let sent = remote.send(&message);
        assert!(began.elapsed() < Duration::from_secs(2), "a send blocked");
        if let Err(error) = sent {
            return error;
        }
    }
    panic!("a gigabyte is taken for a peer that does not read");
}

fn a_remote_never_blocks_and_overflow_disconnects_by_default(on: On) {
    let (server, remotes) = with_remotes(on, |server| server, Framing::raw());
    let mut client = server.client();
    let remote = remotes.recv_timeout(harness::PATIENCE).expect("a remote");
    assert_eq!(until_it_is_full(&remote), SendError::Full);
    eventually("the connection ends", || server.stats().closed_for(&CloseReason::Overflow) == 1);
    assert_eq!(remote.send("x"), Err(SendError::Closed));
    assert!(client.is_cut_off());
}

fn overflow_may_drop_the_newest(on: On) {
    let settings = |server: Server| server.overflow(Overflow::DropNewest).outbox_limit(200_000);
    let (server, remotes) = with_remotes(on, settings, Framing::lines().max_frame(20_000));
    let mut client = server.client();
    let remote = remotes.recv_timeout(harness::PATIENCE).expect("a remote");
    assert_eq!(until_it_is_full(&remote), SendError::Full);
    assert!(server.stats().messages_skipped >= 1);
    client.say("still here");
    loop {
        let line = client.hear();
        if line == "own still here" {
            break;
        }
        assert_eq!(line.len(), 10_000);
    }
    eventually("there is room again", || remote.send("again").is_ok());
    assert_eq!(client.hear(), "again");
}

fn overflow_may_drop_the_oldest(on: On) {
    let settings = |server: Server| server.overflow(Overflow::DropOldest).outbox_limit(200_000);
    let (server, remotes) = with_remotes(on, settings, Framing::lines().max_frame(20_000));
    let mut client = server.client();
    let remote = remotes.recv_timeout(harness::PATIENCE).expect("a remote");
    let mut sent = 0;
    while server.stats().messages_skipped < 100 {
        remote.send(format!("{sent:0>10000}")).expect("the oldest makes room");
        sent += 1;
        assert!(sent < 100_000, "a gigabyte is taken");
    }
    remote.send("end").expect("taken");
    let skipped = server.stats().messages_skipped;
    let (mut heard, mut last) = (0, None);
    loop {
        let line = client.hear();
        if line == "end" {
            break;
        }
        let number: u64 = line.parse().expect("a number, whole");
        assert!(last < Some(number), "in order");
        last = Some(number);
        heard += 1;
    }
    assert_eq!(last, Some(sent - 1), "the newest is never the one to go");
    assert_eq!(heard + skipped, sent, "each one arrived or was counted");
}

fn a_message_longer_than_the_limit_passes_when_nothing_waits(on: On) {
    let settings = |server: Server| server.outbox_limit(64 * 1024);
    let (server, remotes) = with_remotes(on, settings, Framing::raw());
    let mut client = server.client();
    let remote = remotes.recv_timeout(harness::PATIENCE).expect("a remote");
    remote.send(vec![b'l'; 8_000_000]).expect("taken");
    assert!(client.hear_bytes(8_000_000).iter().all(|&byte| byte == b'l'));
}

/// Whether a full socket takes more within a while.
fn becomes_writable(stream: &harness::Pipe) -> bool {
    let while_ = Timespec { tv_sec: 0, tv_nsec: 500_000_000 };
    poll(&mut [PollFd::new(stream, PollFlags::OUT)], Some(&while_)).expect("a look") > 0
}

fn a_peer_that_does_not_read_is_not_read_either(on: On) {
    let handled = Arc::new(AtomicUsize::new(0));
    let count = handled.clone();
    let journal = Journal::default();
    let server = on.play(Script::new(&journal).handle(move |message, cx| {
        count.fetch_add(1, Ordering::SeqCst);
        cx.send([message; 10].concat());
        Ok(Next::Continue)
    }));
    let mut client = server.client();
    let line = format!("{}\n", "x".repeat(99));
    client.wire().pipe.set_nonblocking(true).expect("a mode");
    let mut sent = 0;
    // Until nothing is taken and nothing is handled any more: everything on the way is full.
    let deadline = Instant::now() + harness::PATIENCE;
    let stopped = loop {
        let unsent = &line.as_bytes()[sent % line.len()..];
        if let Ok(bytes) = io::Write::write(&mut client.wire().pipe, unsent) {
            sent += bytes;
            assert!(sent < 100_000_000, "the server reads on and on");
            continue;
        }
        let before = handled.load(Ordering::SeqCst);
        if !becomes_writable(&client.wire().pipe) && handled.load(Ordering::SeqCst) == before {
            break before;
        }
        assert!(Instant::now() < deadline, "the server reads on and on");
    };
    assert!(stopped < sent / line.len(), "something is left unread");
    let stream = &mut client.wire().pipe;
    stream.set_nonblocking(false).expect("a mode");
    let mut sender = stream.try_clone().expect("a second handle");
    let rest = line.as_bytes()[sent % line.len()..].to_vec();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            io::Write::write_all(&mut sender, &rest).expect("sent");
            sender.shutdown(std::net::Shutdown::Write).expect("finished");
        });
        let heard = io::copy(stream, &mut io::sink()).expect("an orderly end");
        let lines = sent / line.len() + 1;
        assert_eq!(heard as usize, lines * 991, "everything was answered in the end");
    });
}

fn a_peer_that_never_reads_costs_itself_alone(on: On) {
    let journal = Journal::default();
    let server = on.spawn(
        Script::new(&journal)
            .handle(|message, cx| {
                if message == b"flood" {
                    (0..10_000).for_each(|_| cx.send("f".repeat(8_000)));
                }
                cx.send(message);
                Ok(Next::Continue)
            })
            .server()
            .write_timeout(Duration::from_secs(2)),
    );
    let mut silent: Vec<Client> = (0..4).map(|_| server.client()).collect();
    silent.iter_mut().for_each(|client| client.say("flood"));
    journal.wait_for_so_many(4, "handle flood");
    let mut client = server.client();
    let best = (0..50).map(|_| {
        let began = Instant::now();
        assert_eq!(client.ask("ping"), "ping");
        began.elapsed()
    });
    assert!(best.min() < Some(Duration::from_millis(10)));
    journal.wait_for_so_many(4, "finish slow-write");
    assert_eq!(client.ask("ping"), "ping");
}

fn a_peer_that_never_reads_a_remote_costs_itself_alone(on: On) {
    let (server, remotes) = with_remotes(on, |server| server, Framing::lines().max_frame(20_000));
    let _silent = server.client();
    let flooded = remotes.recv_timeout(harness::PATIENCE).expect("a remote");
    let mut client = server.client();
    let heard = remotes.recv_timeout(harness::PATIENCE).expect("a remote");
    std::thread::scope(|scope| {
        scope.spawn(|| until_it_is_full(&flooded));
        for number in 0..100 {
            heard.send(format!("{number}")).expect("taken");
            assert_eq!(client.hear(), number.to_string());
            assert_eq!(client.ask("ping"), "own ping");
        }
    });
}

fn a_handlers_flood_is_whole_once_the_peer_reads(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal).handle(|_, cx| {
        (0..20_000).for_each(|number| cx.send(format!("{number:0>500}")));
        Ok(Next::Close)
    }));
    let mut client = server.client();
    client.say("x");
    for number in 0..20_000 {
        assert_eq!(client.hear(), format!("{number:0>500}"));
    }
    client.hears_only("");
}

fn a_thousand_small_replies_leave_together(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal).handle(|_, cx| {
        (0..1_000).for_each(|_| cx.send("y"));
        Ok(Next::Continue)
    }));
    let mut client = server.client();
    client.say("x");
    assert_eq!(client.hear_bytes(2_000), b"y\n".repeat(1_000));
    eventually("the turn is counted", || server.stats().bytes_sent == 2_000);
}

fn a_reset_while_much_waits_ends_the_connection_alone(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal).handle(|message, cx| {
        if message == b"flood" {
            (0..100).for_each(|_| cx.send("f".repeat(8_000)));
        }
        cx.send(message);
        Ok(Next::Continue)
    }));
    for _ in 0..10 {
        let mut client = server.client();
        client.say("flood");
        client.say("flood");
        journal.wait_for("handle flood");
        client.vanish();
        assert_eq!(server.client().ask("ping"), "ping");
    }
    journal.wait_for_so_many(10, "finish peer-reset");
}

/// A server with much waiting for its one client.
fn much_waits(on: On) -> (Running, Client) {
    let (server, remotes) = with_remotes(
        on,
        |server| server.outbox_limit(16_000_000),
        Framing::lines().max_frame(20_000),
    );
    let client = server.client();
    let remote = remotes.recv_timeout(harness::PATIENCE).expect("a remote");
    (0..1_000).for_each(|number| remote.send(format!("{number:0>10000}")).expect("taken"));
    (server, client)
}

fn what_waits_at_a_drain_is_flushed_to_a_slow_reader(on: On) {
    let (server, mut client) = much_waits(on);
    server.begin_drain(harness::PATIENCE);
    let ticks = crossbeam_channel::tick(Duration::from_millis(1));
    for number in 0..1_000 {
        assert_eq!(client.hear(), format!("{number:0>10000}"));
        if number % 10 == 0 {
            let _ = ticks.recv();
        }
    }
    client.hears_only("");
    let report = server.join();
    assert_eq!((report.told, report.forced, report.stuck), (1, 0, 0), "{report}");
}

fn what_waits_at_a_drain_for_a_peer_that_never_reads_is_given_up(on: On) {
    let (server, _client) = much_waits(on);
    let began = Instant::now();
    let report = server.drain(Duration::from_millis(200));
    assert!(began.elapsed() < Duration::from_secs(3));
    assert_eq!((report.told, report.forced, report.stuck), (0, 1, 0), "{report}");
}
