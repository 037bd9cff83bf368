//! What a server holds of the process: nothing is leaked, threads are bounded, an idle server sleeps. These
//! tests look at the whole process, so each one runs alone.

mod harness;

use std::time::{Duration, Instant};

use harness::{
    Client, Footprint, Journal, On, PATIENCE, Running, Script, alone, context_switches, eventually,
    matrix, settled, threads_named,
};
use switchboard::{Concurrency, Framing, Listen, Next};

matrix! {
    descriptors_that_somebody_sends_along_are_not_kept: [unix unixgram];
    a_server_leaves_nothing_behind: [tcp unix udp unixgram];
    servers_come_and_go_without_a_trace: [tcp unix udp unixgram];
    a_server_that_never_serves_leaves_nothing_behind: [tcp unix udp unixgram];
    ten_thousand_panics_change_nothing: [tcp unix udp unixgram];
    an_idle_server_makes_no_wake_ups: [tcp unix udp unixgram];
    thousands_of_idle_connections_cost_no_thread in [inline pool]: [tcp unix];
    threads_are_kept_and_reused in [threads]: [tcp unix];
    t15_a_bind_that_fails_leaks_nothing: [tcp unix udp unixgram];
    t27_threads_are_reaped in [threads]: [tcp unix];
}

fn a_server_leaves_nothing_behind(on: On) {
    let _alone = alone();
    let before = Footprint::now();
    {
        let journal = Journal::default();
        let server = on.play(Script::new(&journal).handle(|message, cx| {
            cx.send(message.to_ascii_uppercase());
            match message {
                b"panic" => panic!("planned: resources"),
                b"close" => Ok(Next::Close),
                b"abort" => Ok(Next::Abort),
                b"block" => cx.block(|| Ok(Next::Continue)),
                _ => Ok(Next::Continue),
            }
        }));
        let mut clients: Vec<Client> = (0..50).map(|_| server.client()).collect();
        for (client, message) in
            clients.iter_mut().zip(["panic", "close", "abort", "block", "x"].iter().cycle())
        {
            client.say(message);
        }
        journal.wait_for_so_many(50, "handle");
        for client in clients.drain(..25) {
            client.vanish();
        }
        server.drain(PATIENCE);
    }
    settled(before);
}

fn servers_come_and_go_without_a_trace(on: On) {
    let _alone = alone();
    let before = Footprint::now();
    for _ in 0..30 {
        let journal = Journal::default();
        let server = on.play(Script::new(&journal));
        assert_eq!(server.client().ask("x"), "X");
    }
    settled(before);
}

fn a_server_that_never_serves_leaves_nothing_behind(on: On) {
    let _alone = alone();
    let before = Footprint::now();
    let journal = Journal::default();
    for _ in 0..30 {
        drop(on.listening(Script::new(&journal).server()).bind().expect("bound"));
        drop(on.listening(Script::new(&journal).server()));
    }
    settled(before);
}

fn ten_thousand_panics_change_nothing(on: On) {
    let _alone = alone();
    let before = Footprint::now();
    {
        let journal = Journal::default();
        let server = on.play(Script::new(&journal).handle(|message, cx| {
            assert!(message != b"panic", "planned: ten thousand of them");
            cx.send(message);
            Ok(Next::Continue)
        }));
        let mut bystander = server.client();
        let mut sender = on.is_datagram().then(|| server.client());
        let panicked = || {
            let stats = server.stats();
            let closed = stats.connections_closed().chain(stats.sessions_closed());
            closed.filter(|(name, _)| *name == "handler-panic").map(|(_, count)| count).sum::<u64>()
        };
        for round in 1..=100 {
            for _ in 0..100 {
                match &mut sender {
                    Some(client) => client.say("panic"),
                    None => {
                        let mut client = server.client();
                        client.say("panic");
                        client.hears_only("");
                    }
                }
            }
            eventually("all have panicked", || panicked() == 100 * round);
            let message = format!("x{round}");
            assert_eq!(bystander.ask(&message), message);
        }
        let threads = threads_named("switchboard").len();
        let most = if on.concurrency == harness::modes::threads() { 64 + 3 } else { 8 + 3 };
        assert!(threads <= most, "{threads} threads");
        let stats = server.stats();
        assert_eq!(stats.connections_open + stats.sessions_open, 1, "the bystander");
    }
    settled(before);
}

fn an_idle_server_makes_no_wake_ups(on: On) {
    let _alone = alone();
    let journal = Journal::default();
    let server = on.play(Script::new(&journal));
    let mut clients: Vec<Client> = (0..20).map(|_| server.client()).collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.ask("x"), "X"));
    let switches = || -> Vec<u64> {
        threads_named("switchboard").iter().map(|task| context_switches(task)).collect()
    };
    // It comes to rest first: two looks, a while apart, say the same.
    let while_ = Duration::from_millis(200);
    let deadline = Instant::now() + PATIENCE;
    let mut before = switches();
    loop {
        let _ = crossbeam_channel::after(while_).recv();
        let now = switches();
        if now == before {
            break;
        }
        assert!(Instant::now() < deadline, "it never comes to rest: {before:?}, {now:?}");
        before = now;
    }
    let _ = crossbeam_channel::after(Duration::from_secs(1)).recv();
    assert_eq!(switches(), before, "an idle server sleeps");
    clients.iter_mut().for_each(|client| assert_eq!(client.ask("y"), "Y"));
}

/// As many idle connections as the descriptor limit leaves room for, at most five thousand.
fn room_for_connections() -> usize {
    let limits = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let most = limits.current.unwrap_or(20_000) as usize;
    // Both ends are in this process.
    (most.saturating_sub(400) / 2).min(5_000)
}

fn thousands_of_idle_connections_cost_no_thread(on: On) {
    let _alone = alone();
    let before = Footprint::now();
    {
        let journal = Journal::default();
        let on = if on.is_inline() { on } else { on.under(Concurrency::pool(16)) };
        let server = on.play(Script::new(&journal));
        let mut idle: Vec<Client> = (0..room_for_connections()).map(|_| server.client()).collect();
        eventually("all are accepted", || server.stats().connections_open == idle.len());
        let threads = threads_named("switchboard").len();
        assert!(threads <= 16 + 3, "{threads} threads");
        let best = (0..10).map(|_| {
            let began = Instant::now();
            assert_eq!(server.client().ask("new"), "NEW");
            began.elapsed()
        });
        assert!(best.min() < Some(Duration::from_millis(50)), "a newcomer waits");
        for client in idle.iter_mut().step_by(97) {
            assert_eq!(client.ask("still there"), "STILL THERE");
        }
        let began = Instant::now();
        let report = server.drain(PATIENCE);
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        assert!(report.is_clean(), "{report}");
        idle.iter_mut().for_each(|client| client.hears_only(""));
    }
    settled(before);
}

fn threads_are_kept_and_reused(on: On) {
    let _alone = alone();
    let journal = Journal::default();
    let server = on.play(Script::new(&journal).handle(|message, cx| {
        cx.send(message);
        Ok(Next::Close)
    }));
    for _ in 0..300 {
        assert_eq!(server.client().ask("x"), "x");
    }
    let threads = threads_named("switchboard").len();
    assert!(threads < 12, "{threads} threads for 300 connections, one at a time");
}

#[test]
fn all_listeners_share_one_server() {
    let _alone = alone();
    let before = Footprint::now();
    {
        let journal = Journal::default();
        let server = Script::new(&journal).server().framing(Framing::lines());
        let server = server.tcp("127.0.0.1:0").udp("127.0.0.1:0").tcp("[::1]:0");
        let server = server.listen(Listen::tcp("[::]:0").dual_stack(true)).udp("[::1]:0");
        let server = Running::of(server);
        let addresses = server.addresses().to_vec();
        let names: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        let expected = ["tcp://127", "udp://127", "tcp://[::1]", "tcp://[::]", "udp://[::1]"];
        for (name, expected) in names.iter().zip(expected) {
            assert!(name.starts_with(expected), "{name}");
        }
        let dual = addresses[3].socket_addr().expect("an address").port();
        let mut clients = [
            Client::of(&addresses[0]),
            Client::of(&addresses[1]),
            Client::of(&addresses[2]),
            Client::tcp(([127, 0, 0, 1], dual).into()),
            Client::tcp(([0, 0, 0, 0, 0, 0, 0, 1], dual).into()),
            Client::udp_from("::1", addresses[4].socket_addr().expect("an address")),
        ];
        clients.iter_mut().for_each(|client| assert_eq!(client.ask("x"), "X"));
        let report = server.drain(PATIENCE);
        assert_eq!((report.told, report.forced), (6, 0), "{report}");
    }
    settled(before);
}

fn t15_a_bind_that_fails_leaks_nothing(on: On) {
    let _alone = alone();
    let journal = Journal::default();
    // (Inline: to be looked at is a connection to a Unix socket, and none is to start a thread.)
    let taken = on.under(Concurrency::Inline).play(Script::new(&journal));
    assert_eq!(taken.client().ask("x"), "X");
    eventually("the client has left", || taken.stats().connections_open == 0);
    let before = Footprint::at_rest();
    for _ in 0..1_024 {
        let again = on.listening_on(Script::new(&journal).server(), taken.address());
        assert!(again.bind().is_err());
    }
    settled(before);
}

fn t27_threads_are_reaped(on: On) {
    let _alone = alone();
    let journal = Journal::default();
    let server = on.play(Script::new(&journal));
    for _ in 0..10 {
        assert_eq!(server.client().ask("x"), "X");
        eventually("it has left", || server.stats().connections_open == 0);
    }
    let threads = threads_named("switchboard-").len();
    assert!(threads < 10, "{threads} threads for ten clients, one after another");
}

fn descriptors_that_somebody_sends_along_are_not_kept(on: On) {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    use std::mem::MaybeUninit;
    use std::os::fd::AsFd;

    let _alone = alone();
    let server = on.play(Script::new(&Journal::default()));
    let mut client = server.client();
    assert_eq!(client.ask("warm"), "WARM");
    let before = std::fs::read_dir("/proc/self/fd").expect("a listing").count();
    let own = std::fs::File::open("/dev/null").expect("a file");
    let given = [own.as_fd(); 8];
    for _ in 0..16 {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        assert!(beside.push(SendAncillaryMessage::ScmRights(&given)));
        let bytes = if on.is_datagram() { &b"x"[..] } else { &b"x\n"[..] };
        let pieces = [std::io::IoSlice::new(bytes)];
        let flags = SendFlags::empty();
        match &client {
            Client::UnixGram(own) => sendmsg(&own.socket, &pieces, &mut beside, flags),
            Client::Unix(wire) => sendmsg(&wire.pipe, &pieces, &mut beside, flags),
            _ => panic!("this is about Unix sockets"),
        }
        .expect("sent");
        assert_eq!(client.hear(), "X");
    }
    drop(own);
    let after = std::fs::read_dir("/proc/self/fd").expect("a listing").count();
    assert_eq!(after, before);
}
