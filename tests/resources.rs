//! What a server holds of the process: nothing is leaked, threads are bounded, an idle server sleeps. These
//! tests look at the whole process, so each one runs alone.

mod harness;

use std::time::{Duration, Instant};

use harness::{
    Client, Footprint, Journal, On, PATIENCE, Script, alone, context_switches, matrix, settled,
    threads_named,
};
use switchboard::Next;

matrix! {
    descriptors_that_somebody_sends_along_are_not_kept: [unix unixgram];
    a_server_leaves_nothing_behind: [tcp unix udp unixgram];
    servers_come_and_go_without_a_trace: [tcp unix udp unixgram];
    a_server_that_never_serves_leaves_nothing_behind: [tcp unix udp unixgram];
    an_idle_server_makes_no_wake_ups: [tcp unix udp unixgram];
    threads_are_kept_and_reused in [threads]: [tcp unix];
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
