//! The server as its user sees it: a builder, a bound server, and a handle to a running one.

mod bound;
mod front;
mod handle;
mod hooks;
mod listen;
#[cfg(feature = "signals")]
mod signal;
#[cfg(test)]
mod starved;

pub use bound::{BoundServer, SpawnError};
pub use front::{TcpServer, UdpServer};
pub use handle::{Outcome, ServerHandle};
pub use listen::Listen;

use std::fmt;
use std::net::ToSocketAddrs;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::codec::Framing;
use crate::config::{Config, Overflow};
use crate::datagram::{DatagramListener, DatagramService};
use crate::error::{Error, Result};
use crate::handler::{DatagramHandler, Factory, Handler, StreamHandler};
use crate::outbox::{LineSettings, Post};
use crate::peer::{Address, Peer};
use crate::schedule::{Concurrency, DrainReport, Engine, Sources};
use crate::server::listen::Transport;
use crate::stage::Core;
use crate::stream::ServiceFactory;
use crate::stream::listen::StreamListener;
use crate::sys::limits::raise_descriptors;
use crate::sys::socket::ListenOptions;

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
/// | `observer`, `on_tick` | none; errors of handlers are warnings in the log (`quiet_errors`) |
#[must_use = "a server does nothing until it is served or spawned"]
pub struct Server {
    services: Services,
    listeners: Vec<Listen>,
    framing: Framing,
    concurrency: Concurrency,
    config: Config,
    hooks: hooks::Hooks,
}

/// Who serves: a factory for each kind of transport that the server may listen on.
enum Services {
    Messages(Factory<dyn Handler>),
    Bytes(Factory<dyn StreamHandler>),
    Datagrams(Arc<dyn DatagramHandler>),
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
        Self::serving(Services::Messages(Arc::new(move |peer| Box::new(factory(peer)))))
    }

    /// A server whose factory makes a [`StreamHandler`] for each connection. It cannot listen for
    /// datagrams.
    ///
    /// A conversation that waits for its peer within a call of `handle` holds a worker. Where more of
    /// them wait at a time than a pool has workers, choose [`Concurrency::threads`].
    pub fn streams<F, H>(factory: F) -> Self
    where
        F: Fn(&Peer) -> H + Send + Sync + 'static,
        H: StreamHandler,
    {
        Self::serving(Services::Bytes(Arc::new(move |peer| Box::new(factory(peer)))))
    }

    /// A server whose [`DatagramHandler`] gets every datagram. It cannot listen for connections.
    pub fn datagrams(handler: impl DatagramHandler) -> Self {
        Self::serving(Services::Datagrams(Arc::new(handler)))
    }

    fn serving(services: Services) -> Self {
        Self {
            services,
            listeners: Vec::new(),
            framing: Framing::raw(),
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

    /// Listens on one more address. All listeners share the limits, the workers and the drain.
    pub fn listen(mut self, listener: Listen) -> Self {
        self.listeners.push(listener);
        self
    }

    /// How messages are cut out of streams. Listeners may differ: [`Listen::framing`].
    pub fn framing(mut self, framing: Framing) -> Self {
        self.framing = framing;
        self
    }

    /// How handlers are run.
    pub fn concurrency(mut self, concurrency: Concurrency) -> Self {
        self.concurrency = concurrency;
        self
    }

    /// Connections that may be open at a time, exactly. The next ones wait in the kernel's queue.
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.config.max_connections = Some(connections);
        self
    }

    /// Sessions of datagrams that each listener holds at a time, 1 to 1,048,576. The one used longest
    /// ago makes room, with [`CloseReason::Evicted`](crate::CloseReason::Evicted).
    pub fn max_sessions(mut self, sessions: usize) -> Self {
        self.config.max_sessions = sessions;
        self
    }

    /// Finished handshakes that may wait to be accepted. The kernel clips it to `net.core.somaxconn`.
    pub fn backlog(mut self, connections: u32) -> Self {
        self.config.backlog = connections;
        self
    }

    /// Asks [`Handler::idle`] after so long without a byte of the peer; `None`: never.
    pub fn idle_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.config.idle_timeout = timeout.into();
        self
    }

    /// Closes a connection on which a message takes longer, from its first byte to its last; `None`:
    /// never.
    pub fn message_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.config.message_timeout = timeout.into();
        self
    }

    /// Closes a connection whose peer takes none of the bytes that wait for it for so long; `None`:
    /// never.
    pub fn write_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.config.write_timeout = timeout.into();
        self
    }

    /// How long a drain that nobody gave a time waits: at a signal, or after
    /// [`Next::StopServer`](crate::Next::StopServer).
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.config.drain_timeout = timeout;
        self
    }

    /// Bytes that may wait for one peer. From a sixteenth of it on, the peer's connection is not read,
    /// until half of that is left.
    pub fn outbox_limit(mut self, bytes: usize) -> Self {
        let (high, low) = (bytes / 16, bytes / 32);
        self.config.marks = crate::config::Marks { low, high, cap: bytes };
        self
    }

    /// What happens when a [`Remote`](crate::Remote) sends to a peer for whom as much waits as may.
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.config.overflow = overflow;
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
    pub fn bind(mut self) -> Result<BoundServer> {
        self.config.check()?;
        self.check()?;
        let descriptors = raise_descriptors();
        let max_connections =
            self.config.connections_under(descriptors.now, self.concurrency.descriptors_each());
        let failed = |error| Error::system("cannot make a wake-up", error);
        let core =
            Arc::new(Core::new(self.config.clone(), self.hooks.observers()).map_err(failed)?);
        let engine = Engine::new(core.clone(), self.concurrency, max_connections, |post| {
            self.open(&core, &post)
        })?;
        let streams = engine.sources.streams.iter().map(|listener| listener.address.clone());
        let datagrams = engine.sources.datagrams.iter().map(|listener| listener.address.clone());
        let opened: Vec<_> = streams.chain(datagrams).collect();
        let addresses = in_order(&self.listeners, &opened);
        let bound = BoundServer::new(engine, addresses, descriptors, max_connections);
        bound.attach(self.hooks.take_ticks());
        Ok(bound)
    }

    fn check(&self) -> Result<()> {
        if self.listeners.is_empty() {
            return Err(Error::config("the server has nothing to listen on"));
        }
        for listener in &self.listeners {
            match (&self.services, listener.transport) {
                (Services::Bytes(_), Transport::Udp) => {
                    let name = &listener.name;
                    return Err(Error::config(format!("a StreamHandler cannot serve {name}")));
                }
                (Services::Datagrams(_), Transport::Tcp) => {
                    let name = &listener.name;
                    return Err(Error::config(format!("a DatagramHandler cannot serve {name}")));
                }
                _ => {}
            }
        }
        match self.concurrency {
            Concurrency::Pool { workers: 0 } => Err(Error::config("a pool needs a worker")),
            Concurrency::Threads { max: 0 } => Err(Error::config("no thread could serve anybody")),
            _ => Ok(()),
        }
    }

    /// Opens the listeners.
    fn open(&self, core: &Arc<Core>, post: &Weak<dyn Post>) -> Result<Sources> {
        let mut sources = Sources { streams: Vec::new(), datagrams: Vec::new() };
        let config = &core.config;
        for listener in &self.listeners {
            let framing = match &self.services {
                // Whoever reads and writes bytes as they are has no framing, nor have its remotes.
                Services::Bytes(_) => Framing::raw(),
                _ => listener.framing.as_ref().unwrap_or(&self.framing).clone(),
            };
            let (marks, overflow, post) = (config.marks, config.overflow, post.clone());
            let settings = Arc::new(LineSettings { framing, marks, overflow, post });
            match listener.transport {
                Transport::Tcp => {
                    let bound = self.open_stream(listener, config, &settings)?;
                    sources.streams.push(Arc::new(bound));
                }
                Transport::Udp => {
                    let bound = self.open_datagrams(listener, core, &settings)?;
                    sources.datagrams.push(Arc::new(bound));
                }
            }
        }
        Ok(sources)
    }

    fn open_stream(
        &self,
        listener: &Listen,
        config: &Config,
        settings: &Arc<LineSettings>,
    ) -> Result<StreamListener> {
        let options = ListenOptions {
            backlog: config.backlog,
            dual_stack: listener.dual_stack,
            keep_alive: config.keep_alive,
            user_timeout: config.user_timeout,
        };
        let factory = match &self.services {
            Services::Messages(factory) => ServiceFactory::Messages(factory.clone()),
            Services::Bytes(factory) => ServiceFactory::Bytes(factory.clone()),
            Services::Datagrams(_) => {
                return Err(Error::config("datagrams need a datagram socket"));
            }
        };
        listener
            .bind(|addr| StreamListener::bind(addr, &options, factory.clone(), settings.clone()))
    }

    fn open_datagrams(
        &self,
        listener: &Listen,
        core: &Arc<Core>,
        settings: &Arc<LineSettings>,
    ) -> Result<DatagramListener> {
        let service = || match &self.services {
            Services::Messages(factory) => Some(DatagramService::Sessions(factory.clone())),
            Services::Datagrams(handler) => Some(DatagramService::Raw(handler.clone())),
            Services::Bytes(_) => None,
        };
        listener.bind(|addr| {
            let service = service().ok_or(std::io::ErrorKind::Unsupported)?;
            let (settings, core) = (settings.clone(), core.clone());
            DatagramListener::bind(addr, listener.dual_stack, service, settings, core)
        })
    }

    /// Binds, and serves on this thread until the server was drained.
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
    /// # Errors
    /// As [`bind`](Server::bind) and [`BoundServer::run_until_signal`]. Nothing is open then.
    #[cfg(feature = "signals")]
    pub fn run_until_signal(self) -> Result<Outcome> {
        self.bind()?.run_until_signal()
    }
}

/// The addresses in the order in which the listeners were given: streams and datagrams are kept apart
/// inside.
fn in_order(listeners: &[Listen], opened: &[Address]) -> Vec<Address> {
    let of = |tcp: bool| {
        opened.iter().filter(move |address| matches!(address, Address::Tcp(_)) == tcp).cloned()
    };
    let (mut streams, mut datagrams) = (of(true), of(false));
    listeners
        .iter()
        .filter_map(|listener| match listener.transport {
            Transport::Tcp => streams.next(),
            Transport::Udp => datagrams.next(),
        })
        .collect()
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("listeners", &self.listeners)
            .field("framing", &self.framing)
            .field("concurrency", &self.concurrency)
            .finish_non_exhaustive()
    }
}
