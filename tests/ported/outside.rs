//! What meets Python's `socketserver` from outside, and it does not test: X17 to X33.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use switchboard::{Address, CloseReason, Event, Framing, Listen, Next, Server, UnixName};

use crate::harness::{
    Client, Footprint, Journal, On, PATIENCE, Running, Script, eventually, modes, settled,
    socket_path,
};
use crate::row::{ALL, ANY, DATAGRAMS, EVERY, FILES, INTERNET, Row, STREAMS, TCP, UDP, beyond};

pub(crate) const ROWS: &[Row] = &[
    beyond(
        "X17",
        "A Unix socket's file: replaced when dead, gone at the end",
        (EVERY, FILES),
        path,
    ),
    beyond("X17", "A live server's file is not stolen", (EVERY, FILES), live_path),
    beyond("X18", "A server restarts at once at its address", (EVERY, ALL), restart),
    beyond(
        "X19",
        "`[::]` serves both families if told to, else IPv6 alone",
        (EVERY, INTERNET),
        families,
    ),
    beyond("X23", "Fifty resets are fifty counts and no warning", (EVERY, TCP), resets),
    beyond("X25", "A reply is whole although input is left unread", (EVERY, STREAMS), unread_input),
    beyond(
        "X26",
        "A peer that has finished sending gets the whole reply",
        (EVERY, STREAMS),
        half_close,
    ),
    beyond("X28", "A tick comes at every interval, under load and idle", (EVERY, ALL), ticks),
    beyond("X29", "All listeners in one server, one pool, one shutdown", (EVERY, ANY), all_at_once)
        .alone(),
    beyond("X31", "The order of each peer is kept", (EVERY, DATAGRAMS), order),
    beyond("X32", "A reply leaves from the address that was asked", (EVERY, UDP), asked_address),
    beyond("X33", "A burst of 256 connections is served whole", (EVERY, STREAMS), burst),
];

fn at(path: &std::path::Path, on: On) -> Server {
    let address = match on.is_datagram() {
        true => Address::UnixGram(UnixName::new(path)),
        false => Address::Unix(UnixName::new(path)),
    };
    on.listening_on(Script::new(&Journal::default()).server(), &address)
}

fn path(on: On) {
    let path = socket_path("ported");
    match on.is_datagram() {
        true => drop(UnixDatagram::bind(&path).expect("bound")),
        false => drop(UnixListener::bind(&path).expect("bound")),
    }
    for _ in 0..2 {
        let server = Running::of(at(&path, on));
        assert_eq!(server.client().ask("x"), "X", "a dead one's file is replaced");
        assert!(server.drain(PATIENCE).is_clean());
        assert!(!path.exists(), "it is gone");
    }
    drop(at(&path, on).bind().expect("bound"));
    assert!(!path.exists(), "also if it never served");
}

fn live_path(on: On) {
    let path = socket_path("ported");
    let first = Running::of(at(&path, on));
    let inode = fs::metadata(&path).expect("its file").ino();
    let refused = at(&path, on).bind().expect_err("it is in use").to_string();
    assert!(refused.contains(&*path.to_string_lossy()) && refused.contains("in use"), "{refused}");
    assert_eq!(fs::metadata(&path).expect("its file").ino(), inode, "untouched");
    assert_eq!(first.client().ask("still here"), "STILL HERE");
}

fn restart(on: On) {
    let server = || Script::new(&Journal::default()).server();
    let first = on.spawn(server());
    let address = first.address().clone();
    let mut client = first.client();
    assert_eq!(client.ask("x"), "X");
    // The server closes first: over TCP its side is in TIME_WAIT now.
    assert!(first.drain(PATIENCE).is_clean());
    drop((first, client));
    for _ in 0..3 {
        let again = Running::of(on.listening_on(server(), &address));
        assert_eq!(again.client().ask("again"), "AGAIN");
    }
}

fn families(on: On) {
    let served = |dual_stack: bool| {
        let listen = if on.is_datagram() { Listen::udp("[::]:0") } else { Listen::tcp("[::]:0") };
        let listen = listen.framing(Framing::lines()).dual_stack(dual_stack);
        let server = Script::new(&Journal::default()).server().concurrency(on.concurrency);
        Running::of(server.listen(listen))
    };
    let ask = |server: &Running, ip: &str| {
        let addr =
            (ip.parse::<std::net::IpAddr>().expect("an address"), server.addr().port()).into();
        let mut client = match on.is_datagram() {
            true => Client::udp_from(ip, addr),
            false => Client::try_of(&Address::Tcp(addr))?,
        };
        client.set_patience(if ip == "::1" { PATIENCE } else { Duration::from_millis(200) });
        client.try_send(b"x\n").and_then(|()| client.try_hear())
    };
    let both = served(true);
    assert!(ask(&both, "::1").is_ok());
    eventually("IPv4 is served", || ask(&both, "127.0.0.1").is_ok());
    let alone = served(false);
    assert!(ask(&alone, "::1").is_ok());
    assert!(ask(&alone, "127.0.0.1").is_err(), "nobody is there");
}

fn resets(on: On) {
    let warned = Arc::new(AtomicBool::new(false));
    let seen = warned.clone();
    let server = Script::new(&Journal::default()).server();
    let server = on.spawn(server.observer(move |event: &Event<'_>| {
        // Who reads the lines of an event as bad as this is worried.
        let is_bad = ["failed", "panicked", "stuck"].iter().any(|word| event.name().contains(word));
        seen.fetch_or(is_bad, Ordering::SeqCst);
    }));
    for _ in 0..50 {
        let mut client = server.client();
        assert_eq!(client.ask("x"), "X");
        client.reset();
    }
    eventually("all are counted", || server.stats().closed_for(&CloseReason::PeerReset) == 50);
    assert!(!warned.load(Ordering::SeqCst));
}

fn unread_input(on: On) {
    let journal = Journal::default();
    let server = on.play(Script::new(&journal).handle(|_, cx| {
        cx.send("x".repeat(8_000));
        Ok(Next::Close)
    }));
    for _ in 0..5 {
        let mut client = server.client();
        client.send_bytes(format!("all\n{}", "never read\n".repeat(3_000)).as_bytes());
        client.hears_only(&format!("{}\n", "x".repeat(8_000)));
    }
}

fn half_close(on: On) {
    let server = on.play(Script::new(&Journal::default()).handle(|_, cx| {
        (0..1_000).for_each(|_| cx.send("y".repeat(4_000)));
        Ok(Next::Continue)
    }));
    let mut client = server.client();
    client.say("x");
    client.finish_sending();
    assert_eq!(client.rest().expect("an orderly end").len(), 1_000 * 4_001);
}

fn ticks(on: On) {
    const INTERVAL: Duration = Duration::from_millis(10);
    let runs: Arc<Mutex<Vec<Instant>>> = Arc::default();
    let noted = runs.clone();
    let server = Script::new(&Journal::default()).server();
    let began = Instant::now();
    let server = on.spawn(server.on_tick(INTERVAL, move |_| noted.lock().push(Instant::now())));
    eventually("it runs while nobody is there", || runs.lock().len() >= 10);
    let before = runs.lock().len();
    let mut client = server.client();
    while runs.lock().len() < before + 10 {
        assert_eq!(client.ask("load"), "LOAD");
        assert!(began.elapsed() < PATIENCE, "it does not run under load");
    }
    for (count, at) in (1..).zip(runs.lock().iter()) {
        assert!(*at - began >= INTERVAL * count, "run {count} came too early");
    }
}

fn all_at_once(on: On) {
    let before = Footprint::now();
    {
        let (stream, gram) = (socket_path("all"), socket_path("all"));
        let server = Script::new(&Journal::default()).server().concurrency(on.concurrency);
        let server = server.framing(Framing::lines()).tcp("127.0.0.1:0").udp("127.0.0.1:0");
        let server = server.tcp("[::1]:0").unix(&stream).unixgram(&gram);
        let server = Running::of(server.listen(Listen::tcp("[::]:0").dual_stack(true)));
        let beginnings =
            ["tcp://127.", "udp://127.", "tcp://[::1]", "unix:/", "unixgram:/", "tcp://[::]"];
        for (address, beginning) in server.addresses().iter().zip(beginnings) {
            assert!(address.to_string().starts_with(beginning), "{address}");
        }
        let mut clients: Vec<Client> = server.addresses().iter().map(Client::of).collect();
        clients.iter_mut().for_each(|client| assert_eq!(client.ask("hello"), "HELLO"));
        let report = server.drain(PATIENCE);
        assert_eq!((report.told, report.forced), (6, 0), "{report}");
        assert!(!stream.exists() && !gram.exists());
    }
    settled(before);
}

fn order(on: On) {
    let server = on.play(Script::new(&Journal::default()));
    let mut clients: Vec<Client> = (0..10).map(|_| server.client()).collect();
    for window in 0..10 {
        for number in 0..20 {
            for client in &mut clients {
                client.say(&format!("{}", window * 20 + number));
            }
        }
        for client in &mut clients {
            for number in 0..20 {
                assert_eq!(client.hear(), format!("{}", window * 20 + number));
            }
        }
    }
}

fn asked_address(on: On) {
    let script = Script::new(&Journal::default()).handle(|_, cx| {
        cx.send(cx.peer().local().to_string());
        Ok(Next::Continue)
    });
    let server = Running::of(script.server().concurrency(on.concurrency).udp("0.0.0.0:0"));
    for last in [2, 3] {
        let asked = ([127, 0, 0, last], server.addr().port()).into();
        // A connected socket hears nobody else.
        let mut client = Client::udp_from("127.0.0.1", asked);
        for question in ["x", "y"] {
            assert_eq!(client.ask(question), format!("udp://{asked}"));
        }
    }
}

fn burst(on: On) {
    let served = Arc::new(AtomicUsize::new(0));
    let count = served.clone();
    let server = Script::new(&Journal::default()).handle(move |message, cx| {
        count.fetch_add(1, Ordering::SeqCst);
        cx.send(message);
        // There are fewer threads than clients.
        Ok(Next::Close)
    });
    let bound = on.listening(server.server()).bind().expect("bound");
    let address = bound.addresses()[0].clone();
    // All are there before anybody accepts.
    let mut clients: Vec<Client> = (0..256).map(|_| Client::of(&address)).collect();
    let server = bound.spawn().expect("it serves");
    clients.iter_mut().for_each(|client| client.say("x"));
    clients.iter_mut().for_each(|client| client.hears_only("x\n"));
    assert_eq!(served.load(Ordering::SeqCst), 256);
    assert!(on.concurrency != modes::threads() || server.stats().connections_accepted == 256);
    server.stop();
}
