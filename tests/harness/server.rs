//! Where a claim is proven: a concurrency, a transport, and a server that checks its sums when it ends.

use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Once;
use std::time::Duration;

use switchboard::{Address, Concurrency, Framing, Listen, Server, ServerHandle, Stats};

use super::{Client, Script, socket_path};

/// The concurrency that a claim is proven under.
pub(crate) mod modes {
    use switchboard::Concurrency;

    pub(crate) fn inline() -> Concurrency {
        Concurrency::Inline
    }

    pub(crate) fn threads() -> Concurrency {
        Concurrency::threads(64)
    }

    pub(crate) fn pool() -> Concurrency {
        Concurrency::pool(8)
    }
}

/// The transport that a claim is proven over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp,
    Unix,
    Udp,
    UnixGram,
}

pub(crate) mod transports {
    use super::Transport;

    pub(crate) fn tcp() -> Transport {
        Transport::Tcp
    }

    pub(crate) fn unix() -> Transport {
        Transport::Unix
    }

    pub(crate) fn udp() -> Transport {
        Transport::Udp
    }

    pub(crate) fn unixgram() -> Transport {
        Transport::UnixGram
    }
}

/// One field of the matrix.
#[derive(Clone, Copy, Debug)]
pub(crate) struct On {
    pub(crate) concurrency: Concurrency,
    transport: Transport,
}

impl On {
    pub(crate) fn new(concurrency: Concurrency, transport: Transport) -> Self {
        Self { concurrency, transport }
    }

    pub(crate) fn is_datagram(self) -> bool {
        matches!(self.transport, Transport::Udp | Transport::UnixGram)
    }

    pub(crate) fn is_unix(self) -> bool {
        !self.is_inet()
    }

    /// Whether peers have internet addresses here.
    pub(crate) fn is_inet(self) -> bool {
        matches!(self.transport, Transport::Tcp | Transport::Udp)
    }

    pub(crate) fn is_inline(self) -> bool {
        self.concurrency == Concurrency::Inline
    }

    /// Here, but under this concurrency.
    pub(crate) fn under(self, concurrency: Concurrency) -> Self {
        Self { concurrency, ..self }
    }

    /// Lets a server listen here; a message is a line, or a datagram.
    pub(crate) fn listening(self, server: Server) -> Server {
        let server = server.concurrency(self.concurrency);
        match self.transport {
            Transport::Tcp => server.listen(Listen::tcp("127.0.0.1:0").framing(Framing::lines())),
            Transport::Unix => {
                server.listen(Listen::unix(socket_path("server")).framing(Framing::lines()))
            }
            Transport::Udp => server.udp("127.0.0.1:0"),
            Transport::UnixGram => server.unixgram(socket_path("server")),
        }
    }

    /// As [`On::listening`], on an address that is known.
    pub(crate) fn listening_on(self, server: Server, address: &Address) -> Server {
        let server = server.concurrency(self.concurrency);
        server.listen(listen_on(address).framing(Framing::lines()))
    }

    /// As [`On::listening`], with another framing.
    pub(crate) fn framed(self, server: Server, framing: Framing) -> Server {
        let server = server.concurrency(self.concurrency).framing(framing);
        match self.transport {
            Transport::Unix => server.unix(socket_path("server")),
            _ => server.tcp("127.0.0.1:0"),
        }
    }

    /// A running server with this script.
    pub(crate) fn play(self, script: Script) -> Running {
        self.spawn(script.server())
    }

    /// A running server, listening here.
    pub(crate) fn spawn(self, server: Server) -> Running {
        spawn(self.listening(server))
    }
}

/// A listener on an address that is known.
pub(crate) fn listen_on(address: &Address) -> Listen {
    match address {
        Address::Tcp(addr) => Listen::tcp(addr),
        Address::Udp(addr) => Listen::udp(addr),
        Address::Unix(name) => Listen::unix(name.path().expect("a path")),
        Address::UnixGram(name) => Listen::unixgram(name.path().expect("a path")),
        other => panic!("no listener on {other}"),
    }
}

/// Spawns a server that listens already.
pub(crate) fn spawn(server: Server) -> Running {
    mute_planned_panics();
    Running { handle: server.spawn().expect("the server starts"), conserves: true }
}

/// A server that runs. When it is dropped it is stopped, and its counters must add up.
pub(crate) struct Running {
    handle: ServerHandle,
    conserves: bool,
}

impl Running {
    pub(crate) fn of(server: Server) -> Self {
        spawn(server)
    }

    /// What it listens on first.
    pub(crate) fn address(&self) -> &Address {
        &self.addresses()[0]
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr_of(0)
    }

    pub(crate) fn addr_of(&self, listener: usize) -> SocketAddr {
        self.addresses()[listener].socket_addr().expect("an internet address")
    }

    /// A new client of the first listener.
    pub(crate) fn client(&self) -> Client {
        Client::of(&self.addresses()[0])
    }

    /// For a server whose handlers are stuck: what they hold is not accounted for.
    pub(crate) fn without_sums(mut self) -> Self {
        self.conserves = false;
        self
    }
}

impl Deref for Running {
    type Target = ServerHandle;

    fn deref(&self) -> &ServerHandle {
        &self.handle
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // What a failed test leaves behind tells why.
            let left = format!("{:?}\n", self.handle.stats());
            drop(std::io::Write::write_all(&mut std::io::stderr(), left.as_bytes()));
        }
        self.handle.drain(Duration::from_secs(5));
        if self.conserves && !std::thread::panicking() {
            assert_conserved(&self.handle.stats());
        }
    }
}

/// The conservation law: everything that was begun has ended for one reason, or is open.
#[track_caller]
pub(crate) fn assert_conserved(stats: &Stats) {
    let closed: u64 = stats.connections_closed().map(|(_, count)| count).sum();
    let open = stats.connections_open as u64;
    assert_eq!(stats.connections_accepted, closed + open, "accepted = closed + open: {stats:?}");
    let closed: u64 = stats.sessions_closed().map(|(_, count)| count).sum();
    let open = stats.sessions_open as u64;
    assert_eq!(stats.sessions_begun, closed + open, "begun = closed + open: {stats:?}");
    let dropped: u64 = stats.datagrams_dropped().map(|(_, count)| count).sum();
    let handled = stats.datagrams_handled;
    assert_eq!(
        stats.datagrams_received,
        handled + dropped,
        "received = handled + dropped: {stats:?}"
    );
}

/// Panics that tests plan are not printed.
fn mute_planned_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            // (No code of ours panics with anything but text.)
            if info.payload_as_str().is_some_and(|text| !text.starts_with("planned")) {
                print(info);
            }
        }));
    });
}
