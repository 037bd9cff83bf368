//! What a test in memory costs: no descriptor, no thread, no time.

use std::time::{Duration, Instant};

use switchboard::testing::{self, MemoryServer};
use switchboard::{Framing, Next, Server, handler_fn};

use crate::harness::threads_named;

fn upper() -> impl switchboard::Handler {
    handler_fn(|message, cx| {
        cx.send(message.to_ascii_uppercase());
        Ok(Next::Continue)
    })
}

fn one_test() {
    let mut client = testing::connect(upper());
    client.send("hello");
    assert_eq!(client.received(), "HELLO");
    client.half_close();
    assert_eq!(client.calls().len(), 4);
}

#[test]
fn a_test_of_an_upper_case_handler_takes_less_than_a_millisecond() {
    one_test();
    // The best of many: others may have the machine.
    let best = (0..200).map(|_| {
        let began = Instant::now();
        one_test();
        began.elapsed()
    });
    let best = best.min().unwrap_or(Duration::MAX);
    let most = Duration::from_micros(if cfg!(debug_assertions) { 1000 } else { 100 });
    assert!(best < most, "{best:?}");
}

#[test]
fn a_message_in_memory_costs_microseconds() {
    let server = Server::new(|_peer| upper()).framing(Framing::lines());
    let mut client = MemoryServer::new(server).connect();
    let began = Instant::now();
    for _ in 0..1000 {
        client.say("hello");
    }
    assert_eq!(client.replies().len(), 1000);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

/// Other tests of this binary have servers and sockets of their own at the same time: so this one looks
/// at what can only be its own. The highest descriptor that a new file gets would be one more for each
/// that a server in memory holds.
#[test]
fn nothing_of_the_systems_is_taken() {
    let exe = std::env::current_exe().expect("this test");
    let alone = std::env::var_os("SWITCHBOARD_COUNTS_ALONE").is_some();
    if !alone {
        // Once more, in a process of its own, in which nothing else runs.
        let status = std::process::Command::new(exe)
            .args(["speed::nothing_of_the_systems_is_taken", "--exact", "--test-threads=1"])
            .env("SWITCHBOARD_COUNTS_ALONE", "1")
            .stdout(std::process::Stdio::null())
            .status()
            .expect("a process");
        assert!(status.success(), "{status}");
        return;
    }
    let count = |what: &str| std::fs::read_dir(what).map_or(0, Iterator::count);
    let before = (count("/proc/self/fd"), count("/proc/self/task"));
    let server = Server::new(|_peer| upper()).framing(Framing::lines()).tcp("127.0.0.1:0");
    let server = MemoryServer::new(server);
    let mut clients: Vec<_> = (0..10).map(|_| server.connect()).collect();
    clients.iter_mut().for_each(|client| client.say("hello"));
    assert_eq!((count("/proc/self/fd"), count("/proc/self/task")), before);
    assert!(threads_named("switchboard").is_empty());
}
