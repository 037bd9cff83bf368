//! Acceptors: starting and binding (1 to 12), servers beside one another, and what a child inherits.

use std::fs;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::{ForeignRawFd, PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use switchboard::{
    Concurrency, Datagram, DatagramHandler, ErrorKind, Framing, Listen, Next, Replies, Server,
};

use crate::harness::{Footprint, Journal, On, PATIENCE, Running, Script, settled, socket_path};
use crate::row::{ALL, ANY, EVERY, FILES, INLINE, INTERNET, Row, STREAMS, TCP, acceptors};

pub(crate) const ROWS: &[Row] = &[
    acceptors("1", "Port 0 becomes a real one that clients can use", (EVERY, INTERNET), real_port),
    acceptors(
        "2",
        "A second server at the address: said in a line, nothing left",
        (EVERY, ALL),
        busy,
    )
    .alone(),
    acceptors("3", "A port without the right to it: said in a line", (INLINE, INTERNET), forbidden),
    acceptors(
        "4",
        "Settings that make no sense are refused by their names",
        (INLINE, ANY),
        settings,
    ),
    acceptors("5", "A handler that does not fit its listener is refused", (INLINE, ANY), misfits),
    acceptors("6", "Ten servers at one address, one after another", (EVERY, ALL), ten_times),
    acceptors(
        "7",
        "Stopping what has stopped, or never served, is a value",
        (EVERY, ALL),
        stop_twice,
    ),
    acceptors(
        "8",
        "Several sockets share one port, and each is served",
        (EVERY, INTERNET),
        shared_port,
    ),
    acceptors("9", "If one socket cannot be had there is none", (EVERY, INTERNET), all_or_none)
        .alone(),
    acceptors(
        "10",
        "Several sockets at one Unix path are refused by name",
        (INLINE, FILES),
        shared_path,
    ),
    acceptors("11", "A socket is configured before anybody is heard", (EVERY, ALL), configured),
    acceptors("12", "Accepted sockets have the options of their listener", (EVERY, TCP), inherited),
    acceptors("108", "Two servers in one process share nothing", (EVERY, ALL), two_servers),
    acceptors(
        "110",
        "A child of a handler's does not keep connections",
        (EVERY, STREAMS),
        children,
    )
    .alone(),
];

fn server() -> Server {
    Script::new(&Journal::default()).server()
}

fn real_port(on: On) {
    let server = on.spawn(server());
    assert_ne!(server.addr().port(), 0);
    assert_eq!(server.client().ask("x"), "X");
}

fn busy(on: On) {
    let first = on.under(Concurrency::Inline).spawn(server());
    assert_eq!(first.client().ask("x"), "X");
    crate::harness::eventually("the client has left", || first.stats().connections_open == 0);
    let before = Footprint::at_rest();
    let error = on.listening_on(server(), first.address()).bind().expect_err("it is taken");
    assert_eq!(error.kind(), ErrorKind::Listen);
    let line = error.to_string();
    let expected = format!("cannot listen on {}: ", first.address());
    assert!(line.starts_with(&expected) && line.contains("in use"), "{line}");
    assert!(!line.contains('\n') && format!("{error:?}") == line);
    settled(before);
    assert_eq!(first.client().ask("y"), "Y");
}

fn forbidden(on: On) {
    let error = std::thread::scope(|scope| {
        let refused = scope.spawn(|| {
            // This thread alone gives up the right that root has.
            let mut own = capabilities(None).expect("what we may");
            own.effective.remove(CapabilitySet::NET_BIND_SERVICE);
            set_capabilities(None, own).expect("less than that");
            let port = if on.is_datagram() { Listen::udp } else { Listen::tcp };
            server().listen(port("127.0.0.1:1")).bind().expect_err("it is not ours")
        });
        refused.join().expect("it is refused")
    });
    let line = error.to_string();
    assert!(line.contains("127.0.0.1:1: Permission denied") && !line.contains('\n'), "{line}");
}

fn settings(_on: On) {
    let at = "127.0.0.1:0";
    for (senseless, word) in [
        (server(), "nothing to listen on"),
        (server().tcp(at).concurrency(Concurrency::pool(0)), "worker"),
        (server().tcp(at).concurrency(Concurrency::threads(0)), "thread"),
        (server().tcp(at).max_connections(0), "max_connections"),
        (server().tcp(at).idle_timeout(Duration::ZERO), "idle_timeout"),
        (server().udp(at).max_datagram(0), "max_datagram"),
        (server().udp(at).max_sessions(0), "max_sessions"),
        (server().tcp(at).on_tick(Duration::ZERO, |_| ()), "interval"),
    ] {
        let error = senseless.bind().expect_err(word);
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(word), "{error}");
    }
}

struct Silent;

impl DatagramHandler for Silent {
    fn handle(&self, _datagram: &Datagram<'_>, _replies: &mut Replies<'_>) -> io::Result<()> {
        Ok(())
    }
}

fn misfits(_on: On) {
    let refused = server().listen(Listen::tcp("127.0.0.1:0").datagram_handler(Silent)).bind();
    let refused = refused.expect_err("a misfit");
    let said = "a DatagramHandler cannot serve tcp://127.0.0.1:0".to_owned();
    assert_eq!((refused.kind(), refused.to_string()), (ErrorKind::Config, said));
    let refused = Server::datagrams(Silent).unix(socket_path("misfit")).bind();
    assert_eq!(refused.expect_err("a misfit").kind(), ErrorKind::Config);
}

fn ten_times(on: On) {
    let address = on.spawn(server()).address().clone();
    for _ in 0..10 {
        let running = Running::of(on.listening_on(server(), &address));
        assert_eq!(running.client().ask("x"), "X");
        assert!(running.stop().stuck == 0);
        assert_eq!(running.address(), &address, "it still says where it was");
    }
}

fn stop_twice(on: On) {
    let running = on.spawn(server());
    assert_eq!(running.client().ask("x"), "X");
    let report = running.stop();
    assert_eq!(
        [running.stop(), running.drain(PATIENCE), running.join()],
        [report.clone(), report.clone(), report]
    );
    let never = on.listening(server()).bind().expect("bound");
    let handle = never.handle();
    drop(never);
    assert_eq!(handle.stop(), handle.stop());
}

fn shared_port(on: On) {
    let served = Arc::new(AtomicUsize::new(0));
    let count = served.clone();
    let bound = Arc::new(AtomicUsize::new(0));
    let counted = bound.clone();
    let script = Script::new(&Journal::default()).handle(move |message, cx| {
        count.fetch_add(1, Ordering::SeqCst);
        cx.send(message);
        Ok(Next::Continue)
    });
    let listen = if on.is_datagram() { Listen::udp } else { Listen::tcp };
    let listen = listen("127.0.0.1:0").framing(Framing::lines()).reuse_port(4);
    let listen = listen.configure(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        Ok(())
    });
    let server = Running::of(script.server().concurrency(on.concurrency).listen(listen));
    assert_eq!((bound.load(Ordering::SeqCst), server.addresses().len()), (4, 1));
    // The kernel spreads them by their ports: each socket gets some, and none is left unserved.
    for _ in 0..40 {
        assert_eq!(server.client().ask("x"), "x");
    }
    assert_eq!(served.load(Ordering::SeqCst), 40);
}

fn all_or_none(on: On) {
    let taken = on.under(Concurrency::Inline).spawn(server());
    // (Nobody else has ports at this address.)
    let free = UdpSocket::bind("127.0.0.77:0").expect("a port").local_addr().expect("its address");
    let before = Footprint::at_rest();
    let listen = |addr: SocketAddr, sockets: usize| {
        let listen = if on.is_datagram() { Listen::udp(addr) } else { Listen::tcp(addr) };
        listen.reuse_port(sockets)
    };
    // The port of somebody who does not share it.
    assert!(server().listen(listen(taken.addr(), 3)).bind().is_err());
    assert!(server().listen(listen(free, 3)).listen(listen(taken.addr(), 1)).bind().is_err());
    settled(before);
    drop(server().listen(listen(free, 1)).bind().expect("the other listener was closed"));
}

fn shared_path(on: On) {
    let path = socket_path("shared");
    let listen = if on.is_datagram() { Listen::unixgram(&path) } else { Listen::unix(&path) };
    let refused = server().listen(listen.reuse_port(2)).bind().expect_err("refused");
    assert!(refused.to_string().contains("no two sockets share this one"), "{refused}");
    assert!(!path.exists());
}

fn configured(on: On) {
    let address = on.spawn(server()).address().clone();
    let listen = || crate::harness::listen_on(&address).framing(Framing::lines());
    let refused = server().listen(listen().configure(|_| Err(io::Error::other("not like this"))));
    let refused = refused.bind().expect_err("refused");
    assert_eq!(refused.to_string(), format!("cannot listen on {address}: not like this"));
    let journal = Journal::default();
    let noted = journal.clone();
    let configured =
        server().concurrency(on.concurrency).listen(listen().configure(move |socket| {
            noted.note("configured");
            socket2::SockRef::from(&socket).set_recv_buffer_size(100_000)
        }));
    let running = Running::of(configured);
    assert_eq!(journal.all(), ["configured"], "the address is free again");
    assert_eq!(running.client().ask("x"), "X");
}

/// The server's end of a connection, out of this process's own descriptors.
fn other_end(of: SocketAddr) -> socket2::Socket {
    let ourselves = pidfd_open(getpid(), PidfdFlags::empty()).expect("ourselves");
    let entries = fs::read_dir("/proc/self/fd").expect("our descriptors").flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let sockets = numbers.filter_map(|number: ForeignRawFd| {
        let copy = pidfd_getfd(&ourselves, number, PidfdGetfdFlags::empty()).ok()?;
        Some(socket2::Socket::from(copy))
    });
    let mut ends =
        sockets.filter(|socket| socket.peer_addr().is_ok_and(|peer| peer.as_socket() == Some(of)));
    ends.next().expect("it is served")
}

fn inherited(on: On) {
    for nodelay in [true, false] {
        let listen = Listen::tcp("127.0.0.1:0").framing(Framing::lines());
        let listen = listen
            .configure(move |socket| socket2::SockRef::from(&socket).set_tcp_nodelay(nodelay));
        let running = Running::of(server().concurrency(on.concurrency).listen(listen));
        let mut client = running.client();
        assert_eq!(client.ask("x"), "X");
        let end = other_end(client.local());
        assert_eq!(end.tcp_nodelay().expect("an option"), nodelay);
        assert!(end.keepalive().expect("an option"), "as our listeners are");
    }
}

fn two_servers(on: On) {
    let (one, other) = (on.spawn(server()), on.spawn(server().max_connections(1)));
    assert_ne!(one.address(), other.address());
    let (mut client, mut stays) = (one.client(), other.client());
    assert_eq!([client.ask("x"), stays.ask("y"), stays.ask("z")], ["X", "Y", "Z"]);
    crate::harness::eventually("each has counted its own", || {
        (one.stats().messages, other.stats().messages) == (1, 2)
    });
    assert!(one.drain(PATIENCE).is_clean());
    assert_eq!(stays.ask("still here"), "STILL HERE");
}

fn children(on: On) {
    let born: Arc<Mutex<Vec<Child>>> = Arc::default();
    let kept = born.clone();
    let service = Script::new(&Journal::default()).handle(move |_, cx| {
        // It lives for as long as its input is open.
        let mut command = Command::new("cat");
        kept.lock().push(command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?);
        cx.send("born");
        cx.flush()?;
        Ok(Next::Abort)
    });
    let server = on.play(service);
    for _ in 0..3 {
        let mut client = server.client();
        assert_eq!(client.ask("x"), "born");
        // Its socket is closed for good although the children live.
        assert!(client.is_cut_off());
    }
    let address = server.address().clone();
    assert!(server.drain(PATIENCE).is_clean());
    drop(on.listening_on(self::server(), &address).bind().expect("no child holds the listener"));
    for mut child in born.lock().drain(..) {
        assert!(child.try_wait().expect("our child").is_none(), "it has lived through all this");
        drop(child.stdin.take());
        assert!(child.wait().expect("our child").success());
    }
}
