//! A real server for a test: it listens somewhere, ends with the test, and its end is checked.

use std::fmt;
use std::fs;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::ops::Deref;
use std::time::{Duration, Instant};

use crossbeam_channel::tick;

use crate::event::Stats;
use crate::peer::{Address, UnixName};
use crate::server::{Server, ServerHandle};
use crate::sys::{UnixDatagram, UnixStream, connect_unix, correspond_unix};

/// How long anything is waited for that is bound to come. Generous: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long what was given back may take to be gone.
const SETTLED: Duration = Duration::from_secs(3);

/// How often the system is asked whether what was given back is gone.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// A real server that a test has to itself: it runs on threads of its own, and everything that is waited
/// for has a deadline of 10 s.
///
/// When it is dropped it is drained, and the test fails if somebody had to be forced to end, or if its
/// numbers do not add up: what was accepted, begun or received has ended for a reason. That nothing of the
/// process leaked, descriptors or threads, only [`spawn_alone`](TestServer::spawn_alone) looks at. It is a
/// [`ServerHandle`] as well.
///
/// ```
/// use std::io::{Read, Write};
/// use switchboard::testing::TestServer;
/// use switchboard::{Concurrency, Next, Server, handler_fn};
///
/// let server = TestServer::spawn(
///     Server::new(|_peer| {
///         handler_fn(|message, cx| {
///             cx.send(message.to_ascii_uppercase());
///             Ok(Next::Continue)
///         })
///     })
///     .concurrency(Concurrency::pool(4)),
/// );
/// assert!(server.addr().ip().is_loopback());
/// let mut client = server.connect();
/// client.write_all(b"hello")?;
/// let mut reply = [0; 5];
/// client.read_exact(&mut reply)?;
/// assert_eq!(&reply, b"HELLO");
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct TestServer {
    handle: ServerHandle,
    checks: Checks,
    /// Dropped last: by then the handle has given up all that it held.
    balance: Balance,
}

/// What is looked at when the server ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Checks {
    All,
    /// Nothing: the test leaves somebody stuck on purpose.
    None,
}

impl TestServer {
    /// Spawns a server. One that was told no address listens on a free port of 127.0.0.1.
    ///
    /// # Panics
    /// It cannot be bound, or the system has no thread left.
    #[must_use]
    #[track_caller]
    pub fn spawn(server: Server) -> Self {
        let spawned = server.listening_anywhere().spawn();
        let handle = spawned.unwrap_or_else(|error| panic!("the server does not start: {error}"));
        Self { handle, checks: Checks::All, balance: Balance { before: None } }
    }

    /// As [`spawn`](TestServer::spawn). At its end the process must have as many descriptors and threads
    /// of servers as before: nothing leaked.
    ///
    /// Only for a test that has the process to itself: another one that opens a file at the same time
    /// would be taken for a leak. (Put it into a file of its own in `tests/`.) Connections of the test
    /// count as well, and so do clones of the server's handle: drop them before the server.
    ///
    /// # Panics
    /// As [`spawn`](TestServer::spawn).
    ///
    /// ```
    /// use switchboard::testing::TestServer;
    /// use switchboard::{Next, Server, handler_fn};
    ///
    /// let server = Server::new(|_peer| handler_fn(|_message, _cx| Ok(Next::Continue)));
    /// let server = TestServer::spawn_alone(server);
    /// let client = server.connect();
    /// drop((client, server));
    /// ```
    #[must_use]
    #[track_caller]
    pub fn spawn_alone(server: Server) -> Self {
        let before = Census::now();
        let mut server = Self::spawn(server);
        server.balance.before = Some(before);
        server
    }

    /// For a test that leaves a handler stuck on purpose: nothing is looked at when it ends.
    ///
    /// ```
    /// use switchboard::testing::TestServer;
    /// use switchboard::{Next, Server, handler_fn};
    ///
    /// let server = Server::new(|_peer| handler_fn(|_message, _cx| Ok(Next::Continue)));
    /// let server = TestServer::spawn(server).without_checks();
    /// # drop(server);
    /// ```
    #[must_use]
    pub fn without_checks(mut self) -> Self {
        self.checks = Checks::None;
        self.balance.before = None;
        self
    }

    /// The first internet address that it listens on.
    ///
    /// # Panics
    /// It listens on none.
    #[must_use]
    #[track_caller]
    pub fn addr(&self) -> SocketAddr {
        let addr = self.addresses().iter().find_map(|address| address.socket_addr());
        addr.unwrap_or_else(|| panic!("no internet address among {:?}", self.addresses()))
    }

    /// Connects to its first TCP listener. Reads and writes fail after 10 s.
    ///
    /// # Panics
    /// It has none, or the connection is refused.
    #[must_use]
    #[track_caller]
    pub fn connect(&self) -> TcpStream {
        let addr = self.first(Kind::Streams);
        let connected = TcpStream::connect_timeout(&addr, PATIENCE).and_then(|stream| {
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            Ok(stream)
        });
        connected.unwrap_or_else(|error| panic!("no connection to {addr}: {error}"))
    }

    /// A UDP socket that talks to its first UDP listener alone. Receiving fails after 10 s.
    ///
    /// ```
    /// use switchboard::testing::TestServer;
    /// use switchboard::{Next, Server, handler_fn};
    ///
    /// let server = Server::new(|_peer| {
    ///     handler_fn(|message, cx| {
    ///         cx.send(message);
    ///         Ok(Next::Continue)
    ///     })
    /// });
    /// let server = TestServer::spawn(server.udp("127.0.0.1:0"));
    /// let socket = server.correspond();
    /// socket.send(b"hello")?;
    /// assert_eq!(socket.recv(&mut [0; 64])?, 5);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Panics
    /// It has none, or the system has no socket left.
    #[must_use]
    #[track_caller]
    pub fn correspond(&self) -> UdpSocket {
        let addr = self.first(Kind::Datagrams);
        let any: SocketAddr =
            if addr.is_ipv4() { ([0; 4], 0).into() } else { ([0_u16; 8], 0).into() };
        let socket = UdpSocket::bind(any).and_then(|socket| {
            socket.connect(addr)?;
            socket.set_read_timeout(Some(PATIENCE))?;
            Ok(socket)
        });
        socket.unwrap_or_else(|error| panic!("no socket for {addr}: {error}"))
    }

    /// Connects to its first listener for Unix streams. Reads and writes fail after 10 s.
    ///
    /// ```
    /// use std::io::{Read, Write};
    /// use switchboard::testing::TestServer;
    /// use switchboard::{Next, Server, handler_fn};
    ///
    /// let server = Server::new(|_peer| {
    ///     handler_fn(|message, cx| {
    ///         cx.send(message);
    ///         Ok(Next::Close)
    ///     })
    /// });
    /// // An abstract name: no file is made.
    /// let name = format!("@connect-{}", std::process::id());
    /// let server = TestServer::spawn(server.unix(name));
    /// let mut client = server.connect_unix();
    /// client.write_all(b"hello")?;
    /// let mut replies = String::new();
    /// client.read_to_string(&mut replies)?;
    /// assert_eq!(replies, "hello");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Panics
    /// It has none, or the connection is refused.
    #[must_use]
    #[track_caller]
    pub fn connect_unix(&self) -> UnixStream {
        let name = self.first_unix(Kind::Streams);
        let connected = connect_unix(name, PATIENCE);
        connected.unwrap_or_else(|error| panic!("no connection to {name}: {error}"))
    }

    /// A socket that talks to its first listener for Unix datagrams alone, under an abstract name of its
    /// own, so that it is answered. Receiving fails after 10 s.
    ///
    /// ```
    /// use switchboard::testing::TestServer;
    /// use switchboard::{Next, Server, handler_fn};
    ///
    /// let server = Server::new(|_peer| {
    ///     handler_fn(|message, cx| {
    ///         cx.send(message);
    ///         Ok(Next::Continue)
    ///     })
    /// });
    /// let name = format!("@correspond-{}", std::process::id());
    /// let server = TestServer::spawn(server.unixgram(name));
    /// let socket = server.correspond_unix();
    /// socket.send(b"hello")?;
    /// assert_eq!(socket.recv(&mut [0; 64])?, 5);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Panics
    /// It has none, or the system has no socket left.
    #[must_use]
    #[track_caller]
    pub fn correspond_unix(&self) -> UnixDatagram {
        let name = self.first_unix(Kind::Datagrams);
        let socket = correspond_unix(name, PATIENCE);
        socket.unwrap_or_else(|error| panic!("no socket for {name}: {error}"))
    }

    #[track_caller]
    fn first_unix(&self, kind: Kind) -> &UnixName {
        let name = self.addresses().iter().find_map(|address| match (kind, address) {
            (Kind::Streams, Address::Unix(name)) | (Kind::Datagrams, Address::UnixGram(name)) => {
                Some(name)
            }
            _ => None,
        });
        name.unwrap_or_else(|| panic!("nothing that fits among {:?}", self.addresses()))
    }

    #[track_caller]
    fn first(&self, kind: Kind) -> SocketAddr {
        let fits = self.addresses().iter().filter(|address| match kind {
            Kind::Streams => !address.is_datagram(),
            Kind::Datagrams => address.is_datagram(),
        });
        let addr = fits.filter_map(|address| address.socket_addr()).next();
        addr.unwrap_or_else(|| panic!("nothing that fits among {:?}", self.addresses()))
    }

    /// Everything that is looked at when it ends, in words.
    fn faults(&self) -> Vec<String> {
        let report = self.handle.drain(PATIENCE);
        let mut faults = Vec::new();
        if !report.is_clean() {
            faults.push(format!("somebody did not end within {PATIENCE:?} ({report})"));
        }
        faults.extend(sums_that_differ(&self.handle.stats()));
        faults
    }
}

/// What a client wants of a listener.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Streams,
    Datagrams,
}

impl Deref for TestServer {
    type Target = ServerHandle;

    fn deref(&self) -> &ServerHandle {
        &self.handle
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if std::thread::panicking() || self.checks == Checks::None {
            // The test has failed already: what it left behind says no more.
            self.handle.stop();
            return;
        }
        let faults = self.faults();
        assert!(faults.is_empty(), "the server has ended, but: {}", faults.join("; "));
    }
}

impl fmt::Debug for TestServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestServer").field("addresses", &self.addresses()).finish_non_exhaustive()
    }
}

/// The law of conservation: everything that was begun has ended for one reason.
fn sums_that_differ(stats: &Stats) -> Vec<String> {
    let sum = |counts: &mut dyn Iterator<Item = (&'static str, u64)>| -> u64 {
        counts.map(|(_, count)| count).sum()
    };
    let laws = [
        (
            "connections accepted, and closed or open",
            stats.connections_accepted,
            sum(&mut stats.connections_closed()) + stats.connections_open as u64,
        ),
        (
            "sessions begun, and ended or open",
            stats.sessions_begun,
            sum(&mut stats.sessions_closed()) + stats.sessions_open as u64,
        ),
        (
            "datagrams received, and handled or dropped",
            stats.datagrams_received,
            stats.datagrams_handled + sum(&mut stats.datagrams_dropped()),
        ),
    ];
    let broken = laws.into_iter().filter(|(_, begun, ended)| begun != ended);
    broken.map(|(what, begun, ended)| format!("{what}: {begun} is not {ended}")).collect()
}

/// What the process held before, if that is to be compared with what it holds when this is dropped.
struct Balance {
    before: Option<Census>,
}

impl Drop for Balance {
    fn drop(&mut self) {
        let before = self.before.filter(|_| !std::thread::panicking());
        if let Some(leaked) = before.and_then(Census::leaked) {
            panic!("the server has ended, but {leaked}");
        }
    }
}

/// What the process holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Census {
    descriptors: usize,
    /// Threads of servers; those of the test harness come and go.
    threads: usize,
}

impl Census {
    fn now() -> Self {
        // The listing has a descriptor of its own, every time.
        let descriptors = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
        let names = tasks.map(|task| fs::read_to_string(task.path().join("comm")));
        let ours = |name: &String| name.starts_with("switchboard");
        Self { descriptors, threads: names.flatten().filter(ours).count() }
    }

    /// What is there that was not, once it had time to go.
    fn leaked(self) -> Option<String> {
        let deadline = Instant::now() + SETTLED;
        let ticks = tick(LOOK_AGAIN);
        loop {
            let now = Self::now();
            if now == self {
                return None;
            }
            if Instant::now() > deadline {
                return Some(format!("the process held {self:?} before, and now {now:?}"));
            }
            // (The tick comes for ever.)
            let _ = ticks.recv();
        }
    }
}
