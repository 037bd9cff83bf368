//! A server in memory: a user's own server, with everything but its sockets and threads.

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::time::Duration;

use crate::codec::Framing;
use crate::event::Stats;
use crate::peer::{Address, UnixName};
use crate::schedule::DrainReport;
use crate::server::Server;
use crate::testing::client::Client;
use crate::testing::world::World;

/// A server in memory: built like any other, but it opens no socket and starts no thread, and its clock
/// moves when the test says so.
///
/// Give it the very [`Server`] that `main` serves: framing, limits and timeouts are then tested as well.
/// The addresses that it was told are never opened; but they say who can come: a server that was told
/// none has a TCP listener, and one that was told [`udp`](Server::udp) alone has no listener to
/// [`connect`](MemoryServer::connect) to. The concurrency is not used: everything runs on the thread of the
/// test. It is cheap to clone; clones are the same server.
///
/// ```
/// use std::sync::{Arc, Mutex};
/// use switchboard::testing::MemoryServer;
/// use switchboard::{Framing, Next, Remote, Server, handler_fn};
///
/// // Everybody hears what anybody says.
/// fn chat() -> Server {
///     let everybody: Arc<Mutex<Vec<Remote>>> = Arc::default();
///     Server::new(move |_peer| {
///         let everybody = everybody.clone();
///         let mut joined = false;
///         handler_fn(move |message, cx| {
///             let mut members = everybody.lock().unwrap();
///             if !std::mem::replace(&mut joined, true) {
///                 members.push(cx.remote());
///             }
///             members.retain(|member| member.send(message).is_ok());
///             Ok(Next::Continue)
///         })
///     })
///     .framing(Framing::lines())
/// }
///
/// let server = MemoryServer::new(chat());
/// let (mut ada, mut bob) = (server.connect(), server.connect());
/// ada.say("hello");
/// bob.say("hi");
/// assert_eq!(ada.replies(), ["hello", "hi"]);
/// assert_eq!(bob.replies(), ["hi"]);
/// ```
#[derive(Clone)]
pub struct MemoryServer {
    world: Arc<World>,
}

impl MemoryServer {
    /// A server in memory that serves as this one would.
    ///
    /// # Panics
    /// Its settings contradict each other, as [`Server::bind`] would say.
    #[must_use]
    pub fn new(server: Server) -> Self {
        Self { world: World::around(server) }
    }

    /// Somebody connects, to the first listener for streams.
    ///
    /// Beyond `max_connections` it waits until somebody leaves, as in the kernel's queue: until then its
    /// handler is not called. A server that has stopped lets nobody in.
    ///
    /// # Panics
    /// The server listens for no streams.
    #[must_use]
    #[track_caller]
    pub fn connect(&self) -> Client {
        self.connect_to(0)
    }

    /// Somebody connects to the listener for streams with this number, counted from 0.
    ///
    /// ```
    /// use switchboard::testing::MemoryServer;
    /// use switchboard::{Framing, Listen, Next, Server, handler_fn};
    ///
    /// let server = Server::new(|_peer| handler_fn(|_message, _cx| Ok(Next::Continue)))
    ///     .tcp("127.0.0.1:0")
    ///     .listen(Listen::unix("/run/echo.sock").framing(Framing::lines()));
    /// let mut client = MemoryServer::new(server).connect_to(1);
    /// client.send("a\nb\n");
    /// assert_eq!(client.calls().len(), 3, "the second listener has lines");
    /// ```
    ///
    /// # Panics
    /// There is none.
    #[must_use]
    #[track_caller]
    pub fn connect_to(&self, listener: usize) -> Client {
        let listeners = &self.world.engine.sources.streams;
        let address = match listeners.get(listener).map(|listener| &listener.address) {
            Some(Address::Unix(_)) => Address::Unix(UnixName::new(self.world.free_name())),
            _ => Address::Tcp(self.world.free_addr()),
        };
        self.connect_from(address, listener)
    }

    /// Somebody with this address connects to the listener for streams with this number.
    ///
    /// ```
    /// use switchboard::testing::{End, MemoryServer};
    /// use switchboard::{Address, Next, Server, Verdict, handler_fn};
    ///
    /// let server = Server::new(|_peer| handler_fn(|_message, _cx| Ok(Next::Continue)))
    ///     .filter(|peer| match peer.ip() {
    ///         Some(ip) if ip.is_loopback() => Verdict::Accept,
    ///         _ => Verdict::reject_with("only from this machine"),
    ///     });
    /// let stranger = Address::Tcp("192.0.2.7:4321".parse().unwrap());
    /// let mut client = MemoryServer::new(server).connect_from(stranger, 0);
    /// assert_eq!(client.received(), "only from this machine");
    /// assert_eq!(client.end(), End::Closed);
    /// ```
    ///
    /// # Panics
    /// There is no such listener.
    #[must_use]
    #[track_caller]
    pub fn connect_from(&self, address: Address, listener: usize) -> Client {
        let listeners = &self.world.engine.sources.streams;
        let framing = listeners.get(listener).map(|listener| listener.settings.framing.clone());
        let Some(framing) = framing else {
            panic!("the server has no listener {listener} for streams; it has {}", listeners.len())
        };
        let other = self.world.connect(listener, address);
        Client::new(self.world.clone(), other, framing)
    }

    /// Somebody who will send datagrams, from an address of its own, to the first socket for them.
    ///
    /// ```
    /// use switchboard::testing::MemoryServer;
    /// use switchboard::{Next, Server, handler_fn};
    ///
    /// let server = Server::new(|_peer| {
    ///     let mut count = 0;
    ///     handler_fn(move |_message, cx| {
    ///         count += 1;
    ///         cx.send(count.to_string());
    ///         Ok(Next::Continue)
    ///     })
    /// });
    /// let server = MemoryServer::new(server.udp("127.0.0.1:0"));
    /// let (mut ada, mut bob) = (server.correspond(), server.correspond());
    /// assert_eq!(ada.ask("hello"), "1");
    /// assert_eq!(bob.ask("hello"), "1", "a handler for each peer");
    /// assert_eq!(ada.ask("hello"), "2");
    /// ```
    ///
    /// # Panics
    /// The server listens for no datagrams.
    #[must_use]
    #[track_caller]
    pub fn correspond(&self) -> Client {
        let address = match self.world.engine.sources.datagrams.first().map(|open| &open.address) {
            Some(Address::UnixGram(_)) => Address::UnixGram(UnixName::new(self.world.free_name())),
            _ => Address::Udp(self.world.free_addr()),
        };
        self.correspond_from(address, 0)
    }

    /// Somebody with this address who will send datagrams to the socket with this number, counted from 0.
    ///
    /// ```
    /// use switchboard::testing::MemoryServer;
    /// use switchboard::{Address, Next, Server, handler_fn};
    ///
    /// let server = Server::new(|_peer| handler_fn(|_message, _cx| Ok(Next::Continue)));
    /// let server = MemoryServer::new(server.udp("127.0.0.1:0"));
    /// // Port 53 answers anybody: a server that answered it could be drawn into an endless exchange.
    /// let resolver = Address::Udp("192.0.2.7:53".parse().unwrap());
    /// server.correspond_from(resolver, 0).send("hello");
    /// assert_eq!(server.stats().datagrams_dropped().find(|(_, count)| *count > 0), Some(("service-port", 1)));
    /// ```
    ///
    /// # Panics
    /// There is none.
    #[must_use]
    #[track_caller]
    pub fn correspond_from(&self, address: Address, listener: usize) -> Client {
        let listeners = &self.world.engine.sources.datagrams;
        let Some(socket) = listeners.get(listener).and_then(|listener| listener.socket()) else {
            panic!("the server has no socket {listener} for datagrams; it has {}", listeners.len())
        };
        let other = self.world.correspond(socket, address);
        Client::new(self.world.clone(), other, Framing::raw())
    }

    /// Moves the clock on, and fires what falls due on the way, in order.
    ///
    /// As in a server, a deadline is met when so much time has passed for certain: the clock counts whole
    /// milliseconds, and a step is one of them longer.
    ///
    /// ```
    /// use std::time::Duration;
    /// use switchboard::testing::MemoryServer;
    /// use switchboard::{Next, Server, handler_fn};
    ///
    /// let server = Server::new(|_peer| handler_fn(|_message, _cx| Ok(Next::Continue)))
    ///     .on_tick(Duration::from_secs(60), |_server| ());
    /// let server = MemoryServer::new(server);
    /// server.advance(Duration::from_secs(3600));
    /// assert_eq!(server.stats().ticks, 60);
    /// ```
    pub fn advance(&self, span: Duration) {
        self.world.advance(span);
    }

    /// Begins a drain: everybody is told. What has not ended after `within` is ended once the clock is
    /// there.
    ///
    /// ```
    /// use std::time::Duration;
    /// use switchboard::testing::MemoryServer;
    /// use switchboard::{CloseReason, Context, Handler, Next, Server};
    ///
    /// struct Stubborn;
    ///
    /// impl Handler for Stubborn {
    ///     fn handle(&mut self, _message: &[u8], _cx: &mut Context<'_>) -> std::io::Result<Next> {
    ///         Ok(Next::Continue)
    ///     }
    ///     fn draining(&mut self, _cx: &mut Context<'_>) -> std::io::Result<Next> {
    ///         Ok(Next::Continue)
    ///     }
    /// }
    ///
    /// let server = MemoryServer::new(Server::new(|_peer| Stubborn));
    /// let client = server.connect();
    /// server.begin_drain(Duration::from_secs(20));
    /// assert_eq!(client.close_reason(), None);
    /// server.advance(Duration::from_secs(20));
    /// assert_eq!(client.close_reason(), Some(CloseReason::Forced));
    /// ```
    pub fn begin_drain(&self, within: Duration) {
        self.world.engine.begin_drain(within);
        self.world.settle();
    }

    /// Drains the server to its end: where it would wait the clock moves on, up to `within` and a
    /// little more. Without any patience ([`Duration::ZERO`]) nobody is told: handlers are not asked by
    /// [`draining`](crate::Handler::draining), and whoever is there ends with
    /// [`CloseReason::Forced`](crate::CloseReason::Forced).
    ///
    /// ```
    /// use std::time::Duration;
    /// use switchboard::testing::MemoryServer;
    /// use switchboard::{CloseReason, Next, Server, handler_fn};
    ///
    /// let server = Server::new(|_peer| handler_fn(|_message, _cx| Ok(Next::Continue)));
    /// let server = MemoryServer::new(server);
    /// let client = server.connect();
    /// let report = server.drain(Duration::from_secs(5));
    /// assert!(report.is_clean());
    /// assert_eq!(client.close_reason(), Some(CloseReason::Draining));
    /// ```
    #[expect(clippy::must_use_candidate, reason = "a report may well be of no interest")]
    pub fn drain(&self, within: Duration) -> DrainReport {
        self.begin_drain(within);
        loop {
            if let Some(report) = self.world.engine.report_in_memory() {
                return report;
            }
            if !self.world.advance_to_the_next_deadline() {
                // A drain has a deadline of its own until it is over.
                return DrainReport::default();
            }
        }
    }

    /// What the server has counted so far.
    ///
    /// ```
    /// use switchboard::testing::MemoryServer;
    /// use switchboard::{Next, Server, handler_fn};
    ///
    /// let server = Server::new(|_peer| handler_fn(|_message, _cx| Ok(Next::Continue)));
    /// let server = MemoryServer::new(server);
    /// let _clients = (server.connect(), server.connect());
    /// assert_eq!(server.stats().connections_open, 2);
    /// ```
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.world.engine.stats()
    }
}

/// As of a [`Client`].
impl UnwindSafe for MemoryServer {}
impl RefUnwindSafe for MemoryServer {}

impl fmt::Debug for MemoryServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryServer").finish_non_exhaustive()
    }
}
