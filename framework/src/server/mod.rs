//! The server as its user sees it: a builder, a bound server, and a handle to a running one.

mod adjust;
mod bound;
mod front;
mod handle;
mod hooks;
mod listen;
mod memory;
mod open;
mod services;
#[cfg(feature = "signals")]
mod signal;
#[cfg(test)]
mod starved;

pub use bound::{BoundServer, SpawnError};
pub use front::{TcpServer, UdpServer};
pub use handle::{Outcome, ServerHandle};
pub use listen::Listen;

pub(crate) use services::Services;

use std::fmt;
use std::net::ToSocketAddrs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::codec::Framing;
use crate::config::{Config, Overflow, connections_beside_nothing};
use crate::error::{Error, Result};
use crate::filter::Verdict;
use crate::handler::{DatagramHandler, Handler, StreamHandler};
use crate::peer::Peer;
use crate::schedule::{Concurrency, DrainReport, Engine, Sources};
use crate::server::open::{Defaults, Opening};
use crate::stage::Core;
use crate::sys::limits::raise_descriptors;

/// A server to be: who serves, on what, and how.
///
/// Setters consume and return it; [`bind`](Server::bind) opens the listeners,
/// [`serve`](BoundServer::serve) runs on the calling thread until the server is drained,
/// [`spawn`](BoundServer::spawn) on its own.
///
/// ```
/// use std::io::{self, Read, Write};
/// use switchboard::{Context, Handler, Next, Server};
///
/// struct Upper;
///
/// impl Handler for Upper {
///     fn handle(&mut self, message: &[u8], cx: &mut Context<'_>) -> io::Result<Next> {
///         cx.send(message.to_ascii_uppercase());
///         Ok(Next::Continue)
///     }
/// }
///
/// let server = Server::new(|_peer| Upper).tcp("127.0.0.1:0").udp("127.0.0.1:0").spawn()?;
/// let mut client = std::net::TcpStream::connect(server.addresses()[0].socket_addr().unwrap())?;
/// client.write_all(b"hello")?;
/// let mut reply = [0; 5];
/// client.read_exact(&mut reply)?;
/// assert_eq!(&reply, b"HELLO");
/// server.drain(std::time::Duration::from_secs(5));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Every setting at once, and the life of the server step by step:
///
/// ```
/// use std::time::Duration;
/// use switchboard::{Concurrency, Framing, Listen, Next, Overflow, Server, Verdict, handler_fn};
///
/// let name = format!("@front-desk-{}", std::process::id());
/// let bound = Server::new(|_peer| handler_fn(|_line, _cx| Ok(Next::Continue)))
///     .tcp("127.0.0.1:0")
///     .udp("127.0.0.1:0")
///     .unix(&name)
///     .unixgram(name + "-datagrams")
///     .listen(Listen::tcp("127.0.0.1:0").framing(Framing::raw()))
///     .framing(Framing::lines())
///     .filter(|peer| match peer.ip() {
///         Some(ip) if !ip.is_loopback() => Verdict::Reject,
///         _ => Verdict::Accept,
///     })
///     .concurrency(Concurrency::pool(8))
///     .max_connections(100)
///     .max_sessions(1000)
///     .backlog(128)
///     .idle_timeout(Duration::from_secs(60))
///     .message_timeout(None)
///     .write_timeout(Duration::from_secs(10))
///     .drain_timeout(Duration::from_secs(5))
///     .outbox_limit(256 * 1024)
///     .overflow(Overflow::DropOldest)
///     .max_datagram(1500)
///     .answer_service_ports(false)
///     .bind()?;
/// assert_eq!(bound.addresses().len(), 5);
/// // Whoever has a handle stops it; here somebody has already.
/// bound.handle().begin_drain(Duration::ZERO);
/// assert!(bound.serve()?.is_clean());
/// # Ok::<(), switchboard::Error>(())
/// ```
///
/// # Defaults
/// | setting | default |
/// |---|---|
/// | `concurrency` | a pool, four workers for each core, at least 16 |
/// | `framing` | raw: a message is what one read returned |
/// | `max_connections` | the descriptor limit, less a quarter of it or 64, whichever is less |
/// | `max_sessions` | 10,000 for each datagram listener |
/// | `idle_timeout` | 5 min |
/// | `message_timeout` | 30 s |
/// | `write_timeout` | 30 s |
/// | `drain_timeout` | 20 s |
/// | `outbox_limit` | 1 MiB; reading stops above 64 KiB until 32 KiB are left |
/// | `overflow` | `Overflow::Disconnect` |
/// | `max_datagram` | 65,535 bytes |
/// | `backlog` | 4,096 |
/// | `answer_service_ports` | no |
/// | `filter`, `observer`, `on_tick` | none; errors of handlers are warnings in the log (`quiet_errors`) |
#[must_use = "a server does nothing until it is served or spawned"]
pub struct Server {
    defaults: Defaults,
    listeners: Vec<Listen>,
    concurrency: Concurrency,
    config: Config,
    hooks: hooks::Hooks,
}

impl Server {
    /// A server whose factory makes a [`Handler`] for each peer, on any transport.
    ///
    /// State that handlers share travels in the factory's captures.
    pub fn new<F, H>(factory: F) -> Self
    where
        F: Fn(&Peer) -> H + Send + Sync + 'static,
        H: Handler,
    {
        Self::serving(Services::messages(factory))
    }

    /// A server whose factory makes a [`StreamHandler`] for each connection. It cannot listen for
    /// datagrams.
    ///
    /// A conversation that waits for its peer within a call of `handle` holds a worker. Where more of
    /// them wait at a time than a pool has workers, choose [`Concurrency::threads`].
    ///
    /// ```
    /// use std::io::{self, BufRead, Write};
    /// use switchboard::{Next, Server, Stream, StreamHandler};
    ///
    /// struct Echo;
    ///
    /// impl StreamHandler for Echo {
    ///     fn handle(&mut self, stream: &mut Stream<'_>) -> io::Result<Next> {
    ///         let there = stream.fill_buf()?.to_vec();
    ///         stream.consume(there.len());
    ///         stream.write_all(&there)?;
    ///         Ok(if there.is_empty() { Next::Close } else { Next::Continue })
    ///     }
    /// }
    ///
    /// let server = Server::streams(|_peer| Echo);
    /// assert!(server.udp("127.0.0.1:0").bind().is_err(), "these are for streams");
    /// ```
    pub fn streams<F, H>(factory: F) -> Self
    where
        F: Fn(&Peer) -> H + Send + Sync + 'static,
        H: StreamHandler,
    {
        Self::serving(Services::bytes(factory))
    }

    /// A server whose [`DatagramHandler`] gets every datagram. It cannot listen for connections.
    ///
    /// ```
    /// use std::io;
    /// use switchboard::{Datagram, DatagramHandler, Replies, Server};
    ///
    /// struct Echo;
    ///
    /// impl DatagramHandler for Echo {
    ///     fn handle(&self, datagram: &Datagram<'_>, replies: &mut Replies<'_>) -> io::Result<()> {
    ///         replies.send(datagram.bytes());
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let server = Server::datagrams(Echo);
    /// assert!(server.tcp("127.0.0.1:0").bind().is_err(), "these are for datagrams");
    /// ```
    pub fn datagrams(handler: impl DatagramHandler) -> Self {
        Self::serving(Services::Datagrams(Arc::new(handler)))
    }

    fn serving(services: Services) -> Self {
        Self {
            defaults: Defaults { services, framing: Framing::raw(), filter: None },
            listeners: Vec::new(),
            concurrency: Concurrency::default(),
            config: Config::default(),
            hooks: hooks::Hooks::default(),
        }
    }

    /// Listens for TCP connections. Port 0 takes any free port; see [`BoundServer::addresses`].
    pub fn tcp(self, addr: impl ToSocketAddrs + fmt::Display) -> Self {
        self.listen(Listen::tcp(addr))
    }

    /// Listens for UDP datagrams.
    pub fn udp(self, addr: impl ToSocketAddrs + fmt::Display) -> Self {
        self.listen(Listen::udp(addr))
    }

    /// Listens for connections on a Unix socket: a path, or an abstract name if it begins with `@`; see
    /// [`Listen::unix`].
    pub fn unix(self, name: impl AsRef<Path>) -> Self {
        self.listen(Listen::unix(name))
    }

    /// Listens for datagrams on a Unix socket; see [`Listen::unixgram`].
    pub fn unixgram(self, name: impl AsRef<Path>) -> Self {
        self.listen(Listen::unixgram(name))
    }

    /// Listens on one more address, or on a socket that the program has bound (a listener or datagram
    /// socket of the standard library). All listeners share the limits, the workers and the drain.
    pub fn listen(mut self, listener: impl Into<Listen>) -> Self {
        self.listeners.push(listener.into());
        self
    }

    /// How messages are cut out of streams, and framed when they are sent; its
    /// [`max_frame`](Framing::max_frame) bounds both. Listeners may differ: [`Listen::framing`].
    pub fn framing(mut self, framing: Framing) -> Self {
        self.defaults.framing = framing;
        self
    }

    /// Who is let in: it looks at each peer before a handler is made for it, on a worker, so that it may
    /// take its time. A panic turns the peer away. Listeners may differ: [`Listen::filter`].
    ///
    /// Whoever is turned away has ended with [`CloseReason::Filtered`](crate::CloseReason::Filtered); a
    /// text for it arrives whole, also if it was sending something itself. See [`Verdict`].
    pub fn filter(mut self, filter: impl Fn(&Peer) -> Verdict + Send + Sync + 'static) -> Self {
        self.defaults.filter = Some(Arc::new(filter));
        self
    }

    /// How handlers are run.
    pub fn concurrency(mut self, concurrency: Concurrency) -> Self {
        self.concurrency = concurrency;
        self
    }

    /// Connections that may be open at a time, exactly. The next ones wait in the kernel's queue.
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.config.initial.max_connections = Some(connections);
        self
    }

    /// Sessions of datagrams that each listener holds at a time, 1 to 1,048,576. The one used longest
    /// ago makes room, with [`CloseReason::Evicted`](crate::CloseReason::Evicted).
    pub fn max_sessions(mut self, sessions: usize) -> Self {
        self.config.initial.max_sessions = sessions;
        self
    }

    /// Finished handshakes that may wait to be accepted. The kernel clips it to `net.core.somaxconn`.
    pub fn backlog(mut self, connections: u32) -> Self {
        self.config.backlog = connections;
        self
    }

    /// Asks [`Handler::idle`] after so long without a byte of the peer; `None`: never.
    pub fn idle_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.config.initial.idle_timeout = timeout.into();
        self
    }

    /// Closes a connection on which a message takes longer, from its first byte to its last; `None`:
    /// never.
    pub fn message_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.config.initial.message_timeout = timeout.into();
        self
    }

    /// Closes a connection whose peer takes none of the bytes that wait for it for so long; `None`:
    /// never.
    pub fn write_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.config.initial.write_timeout = timeout.into();
        self
    }

    /// How long a drain that nobody gave a time waits: at a signal, or after
    /// [`Next::StopServer`](crate::Next::StopServer).
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.config.initial.drain_timeout = timeout;
        self
    }

    /// Bytes that may wait for one peer. From a sixteenth of it on, the peer's connection is not read,
    /// until half of that is left.
    pub fn outbox_limit(mut self, bytes: usize) -> Self {
        self.config.initial.outbox_limit = bytes;
        self
    }

    /// What happens when a [`Remote`](crate::Remote) sends to a peer for whom as much waits as may.
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.config.initial.overflow = overflow;
        self
    }

    /// The longest datagram that is received whole, 1 to 65,535 bytes. Of a longer one the handler
    /// hears through [`Handler::rejected`].
    pub fn max_datagram(mut self, bytes: usize) -> Self {
        self.config.max_datagram = bytes;
        self
    }

    /// Whether datagrams from ports of services that answer anybody (echo, DNS, NTP, …) are handled.
    /// Default: they are dropped, since a forged one can begin an endless exchange.
    pub fn answer_service_ports(mut self, answer: bool) -> Self {
        self.config.answer_service_ports = answer;
        self
    }

    /// Opens all listeners, or none.
    ///
    /// # Errors
    /// An address is busy, foreign, forbidden or not an address; a setting makes no sense; the system
    /// has no descriptor left. Nothing is open then.
    pub fn bind(self) -> Result<BoundServer> {
        self.config.check()?;
        self.check()?;
        let descriptors = raise_descriptors();
        let each = self.concurrency.descriptors_each();
        let max_connections = self.config.connections_under(descriptors.now, each);
        let room = connections_beside_nothing(descriptors.now, each);
        let failed = |error| Error::system("cannot make a wake-up", error);
        let Self { mut defaults, listeners, concurrency, config, mut hooks } = self;
        let factories = defaults.services.make_replaceable();
        let core = Arc::new(Core::new(config, hooks.observers()).map_err(failed)?);
        let mut addresses = Vec::new();
        let limits = (max_connections, room);
        let engine = Engine::new(core.clone(), concurrency, limits, |post| {
            let (sources, core) = (Sources { factories, ..Sources::default() }, &core);
            let mut opening =
                Opening { core, post, defaults: &defaults, sources, addresses: Vec::new() };
            listeners.into_iter().try_for_each(|listen| opening.open(listen))?;
            addresses = opening.addresses;
            Ok(opening.sources)
        })?;
        let bound = BoundServer::new(engine, addresses, descriptors, max_connections);
        bound.attach(hooks.take_ticks());
        Ok(bound)
    }

    fn check(&self) -> Result<()> {
        if self.listeners.is_empty() {
            return Err(Error::config("the server has nothing to listen on"));
        }
        self.listeners.iter().try_for_each(|listen| self.defaults.check(listen))?;
        match self.concurrency {
            Concurrency::Pool { workers: 0 } => Err(Error::config("a pool needs a worker")),
            Concurrency::Threads { max: 0 } => Err(Error::config("no thread could serve anybody")),
            _ => Ok(()),
        }
    }

    /// Binds, and serves on this thread until the server was drained.
    ///
    /// ```
    /// use std::time::Duration;
    /// use switchboard::{Next, Server, handler_fn};
    ///
    /// let server = Server::new(|_peer| handler_fn(|_message, _cx| Ok(Next::Continue)))
    ///     .tcp("127.0.0.1:0")
    ///     .on_tick(Duration::from_millis(1), |server| server.begin_drain(Duration::ZERO));
    /// assert!(server.serve()?.is_clean());
    /// # Ok::<(), switchboard::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`bind`](Server::bind) and [`BoundServer::serve`]. Nothing is open then.
    pub fn serve(self) -> Result<DrainReport> {
        self.bind()?.serve()
    }

    /// Binds, and serves on a thread of its own.
    ///
    /// # Errors
    /// As [`bind`](Server::bind) and [`BoundServer::spawn`]. Nothing is open then.
    pub fn spawn(self) -> Result<ServerHandle> {
        Ok(self.bind()?.spawn()?)
    }

    /// Binds, and serves on this thread until SIGINT or SIGTERM arrives and the server was drained.
    ///
    /// ```
    /// use std::time::Duration;
    /// use switchboard::{Next, Server, handler_fn};
    ///
    /// let server = Server::new(|_peer| handler_fn(|_message, _cx| Ok(Next::Continue)))
    ///     .tcp("127.0.0.1:0");
    /// # // No signal comes here.
    /// # let server = server.on_tick(Duration::from_millis(1), |server| server.begin_drain(Duration::ZERO));
    /// let outcome = server.run_until_signal()?;
    /// assert_eq!(outcome.exit_status(), 0);
    /// # Ok::<(), switchboard::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`bind`](Server::bind) and [`BoundServer::run_until_signal`]. Nothing is open then.
    #[cfg(feature = "signals")]
    pub fn run_until_signal(self) -> Result<Outcome> {
        self.bind()?.run_until_signal()
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("listeners", &self.listeners)
            .field("framing", &self.defaults.framing)
            .field("concurrency", &self.concurrency)
            .finish_non_exhaustive()
    }
}
