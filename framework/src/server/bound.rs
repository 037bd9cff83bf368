//! A server whose listeners are open: it is served, spawned, or dropped.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::bounded;

use crate::datagram::DatagramListener;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::fault::Fault;
use crate::peer::Address;
use crate::schedule::{DrainReport, Engine, Served};
use crate::server::handle::ServerHandle;
use crate::server::hooks::{OnTick, tick_of};
#[cfg(feature = "signals")]
use crate::server::{handle::Outcome, signal};
use crate::sys::limits::Descriptors;

/// A server whose listeners are open. Clients can connect already; they are served once
/// [`serve`](BoundServer::serve) or [`spawn`](BoundServer::spawn) runs.
///
/// Dropping it closes the listeners.
///
/// ```
/// use std::time::Duration;
/// use switchboard::{Next, Server, handler_fn};
///
/// let server = Server::new(|_peer| handler_fn(|_message, _cx| Ok(Next::Continue)));
/// let bound = server.tcp("127.0.0.1:0").bind()?;
/// let handle = bound.handle();
/// assert_eq!(bound.addresses(), handle.addresses());
/// // Somebody stops it, mostly later and from elsewhere; then `serve` returns.
/// handle.begin_drain(Duration::from_secs(5));
/// let report = bound.serve()?;
/// assert!(report.is_clean());
/// # Ok::<(), switchboard::Error>(())
/// ```
#[must_use = "a bound server serves nobody until it is served or spawned"]
pub struct BoundServer {
    pub(super) engine: Arc<Engine>,
    addresses: Arc<[Address]>,
    descriptors: Descriptors,
    max_connections: usize,
    served: AtomicBool,
    #[cfg(feature = "signals")]
    watch: Option<signal::Watch>,
}

impl BoundServer {
    pub(super) fn new(
        engine: Arc<Engine>,
        addresses: Vec<Address>,
        descriptors: Descriptors,
        max_connections: usize,
    ) -> Self {
        let (addresses, served) = (addresses.into(), AtomicBool::new(false));
        Self {
            engine,
            addresses,
            descriptors,
            max_connections,
            served,
            #[cfg(feature = "signals")]
            watch: None,
        }
    }

    /// Gives the ticks the server that they belong to.
    pub(super) fn attach(&self, ticks: Vec<OnTick>) {
        let of_this = |tick| tick_of(tick, Arc::downgrade(&self.engine), self.addresses.clone());
        self.engine.set_ticks(ticks.into_iter().map(of_this));
    }

    /// Says what it serves on, and with what; once.
    fn announce(&self) {
        if !self.engine.is_first_to_tell_of_listeners() {
            return;
        }
        let _in_turn = self.engine.in_turn();
        let Descriptors { before, now } = self.descriptors;
        let max_connections = self.max_connections;
        let events = &self.engine.core.events;
        if now > before {
            events.emit(&Event::DescriptorsRaised { before, now, max_connections });
        }
        if max_connections as u64 > now {
            events.emit(&Event::DescriptorsShort { descriptors: now, max_connections });
        }
        for address in &*self.addresses {
            events.emit(&Event::ListenerStarted { address });
        }
        let asked = self.engine.core.config.receive_buffer;
        // (What a Unix socket holds is its senders' memory.)
        let internet = |listener: &&Arc<DatagramListener>| listener.address.socket_addr().is_some();
        for listener in one_of_each(&self.engine.sources.datagrams).filter(internet) {
            let granted = listener.socket().and_then(|socket| socket.receive_buffer().ok());
            if let Some(granted) = granted.filter(|&granted| granted < asked) {
                let address = &listener.address;
                events.emit(&Event::SmallReceiveBuffer { address, asked, granted });
            }
        }
    }

    /// What it listens on, in the order in which it was told to, with the real ports.
    #[must_use]
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// A handle to stop it with, also before it serves.
    #[must_use]
    pub fn handle(&self) -> ServerHandle {
        ServerHandle::new(self.engine.clone(), self.addresses.clone())
    }

    /// Serves on this thread until the server was drained: by a [`ServerHandle`], by
    /// [`Next::StopServer`](crate::Next::StopServer). Then the listeners are closed and the report says
    /// what became of everybody.
    ///
    /// # Errors
    /// The system refused a thread or a registration. Nobody was served then, and the listeners are
    /// closed.
    pub fn serve(self) -> Result<DrainReport> {
        self.served.store(true, Ordering::SeqCst);
        self.announce();
        self.engine.serve()
    }

    /// Serves one connection to its end, or one datagram, on this thread, and returns what became of it. It
    /// may be called again and again, and [`serve`](BoundServer::serve) after it.
    ///
    /// Only the arrival is bounded by `timeout` (`None` waits for ever): whoever has come is served for as
    /// long as its handler and the server's timeouts let it. Handlers run on this thread, one at a time,
    /// whichever concurrency was selected. Whoever comes meanwhile stays queued in the kernel. Between two
    /// calls nobody is served and no deadline is looked at; sessions of datagrams are kept. No
    /// [tick](crate::Server::on_tick) runs, neither meanwhile nor in between.
    ///
    /// A connection that a filter turns away was served, too, and so was a datagram that was dropped. A
    /// drain, by a handle or by a signal that is [watched](BoundServer::watch_signals) for, ends the wait:
    /// those who are queued are served, and the report is returned, now and from then on.
    ///
    /// ```
    /// use std::io::Write;
    /// use std::net::TcpStream;
    /// use std::time::Duration;
    /// use switchboard::{CloseReason, Next, Served, TcpServer, handler_fn};
    ///
    /// let mut server = TcpServer::bind("127.0.0.1:0", |_peer| {
    ///     handler_fn(|_message, _cx| Ok(Next::Close))
    /// })?;
    /// assert_eq!(server.serve_one(Duration::from_millis(10))?, Served::TimedOut);
    ///
    /// let mut client = TcpStream::connect(server.addresses()[0].socket_addr().unwrap())?;
    /// client.write_all(b"hello")?;
    /// match server.serve_one(Duration::from_secs(5))? {
    ///     Served::Connection { peer, reason } => {
    ///         assert_eq!(peer.socket_addr(), client.local_addr().ok());
    ///         assert_eq!(reason, CloseReason::Done);
    ///     }
    ///     other => panic!("{other:?}"),
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The system refused a registration.
    pub fn serve_one(&mut self, timeout: impl Into<Option<Duration>>) -> Result<Served> {
        self.announce();
        self.engine.serve_one(timeout.into())
    }

    /// Serves on a thread of its own.
    ///
    /// # Errors
    /// The system has no thread left. The error hands the server back, with its listeners open: it can be
    /// spawned again, or served on this thread.
    ///
    /// ```
    /// use switchboard::{Next, Server, handler_fn};
    ///
    /// let server = Server::new(|_peer| handler_fn(|_message, _cx| Ok(Next::Continue)));
    /// match server.tcp("127.0.0.1:0").bind()?.spawn() {
    ///     Ok(handle) => drop(handle.stop()),
    ///     Err(no_thread) => drop(no_thread.into_server().serve()?),
    /// }
    /// # Ok::<(), switchboard::Error>(())
    /// ```
    pub fn spawn(self) -> std::result::Result<ServerHandle, SpawnError> {
        let handle = self.handle();
        // The server follows once there is a thread: it must not get lost with one that never was.
        let (hand_over, handed) = bounded::<Self>(1);
        let serve = move || {
            let server = handed.recv().expect("invariant: the server follows its thread");
            server.serve()
        };
        match self.engine.start_thread("switchboard".to_owned(), serve) {
            Ok(thread) => {
                self.engine.will_serve();
                handle.adopt(thread);
                drop(hand_over.send(self));
                Ok(handle)
            }
            Err(error) => {
                let why = Error::system("cannot start a thread", error);
                Err(SpawnError { server: Box::new(self), why })
            }
        }
    }

    /// Watches for signals from now on, and not only once it serves: a program that tells others where
    /// it listens calls this first, since whoever was told may also tell it to stop.
    ///
    /// ```
    /// use switchboard::{Next, Server, handler_fn};
    ///
    /// let server = Server::new(|_peer| handler_fn(|_message, _cx| Ok(Next::Close)));
    /// let bound = server.tcp("127.0.0.1:0").bind()?.watch_signals()?;
    /// println!("listening on {}", bound.addresses()[0]);
    /// // and then: bound.run_until_signal()
    /// # Ok::<(), switchboard::Error>(())
    /// ```
    ///
    /// # Errors
    /// The program watches for signals itself. The listeners are closed then.
    #[cfg(feature = "signals")]
    pub fn watch_signals(mut self) -> Result<Self> {
        if self.watch.is_none() {
            self.watch = Some(signal::watch(self.handle())?);
        }
        Ok(self)
    }

    /// Serves on this thread until SIGINT or SIGTERM arrives and the server was drained, within the
    /// drain timeout. A second signal ends what is left at once.
    ///
    /// SIGHUP counts as well; under `nohup` it therefore ends the server. The process is not ended here:
    /// return the [`Outcome`] from `main`, and the exit status says how it went.
    ///
    /// ```
    /// use std::time::Duration;
    /// use switchboard::{Next, Outcome, Server, handler_fn};
    ///
    /// let server = Server::new(|_peer| handler_fn(|_message, _cx| Ok(Next::Continue)));
    /// let bound = server.tcp("127.0.0.1:0").bind()?;
    /// # // No signal comes here.
    /// # bound.handle().begin_drain(Duration::ZERO);
    /// match bound.run_until_signal()? {
    ///     Outcome::Drained(report) => assert!(report.is_clean()),
    ///     forced => panic!("somebody did not leave: {}", forced.report()),
    /// }
    /// # Ok::<(), switchboard::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`serve`](BoundServer::serve); or the program watches for signals itself. The listeners are
    /// closed then.
    #[cfg(feature = "signals")]
    pub fn run_until_signal(mut self) -> Result<Outcome> {
        let watch = match self.watch.take() {
            Some(watch) => watch,
            None => signal::watch(self.handle())?,
        };
        let report = self.serve()?;
        Ok(Outcome::new(report, watch.count()))
    }
}

/// The first socket of each listener: several may share its port, and stand side by side.
fn one_of_each(
    sockets: &[Arc<DatagramListener>],
) -> impl Iterator<Item = &Arc<DatagramListener>> + '_ {
    let same = |one: &Arc<DatagramListener>, next: &Arc<DatagramListener>| {
        Arc::ptr_eq(&one.settings, &next.settings)
    };
    sockets.chunk_by(same).filter_map(|listener| listener.first())
}

impl Drop for BoundServer {
    fn drop(&mut self) {
        if !self.served.load(Ordering::SeqCst) {
            self.engine.abandon();
        }
    }
}

impl fmt::Debug for BoundServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoundServer").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

/// There was no thread to serve on: why, and the server itself, whose listeners are still open.
///
/// Dropping it closes them. It becomes an [`Error`] by `?`, and drops the server then.
///
/// ```
/// use switchboard::{ErrorKind, Next, Server, ServerHandle, handler_fn};
///
/// let server = Server::new(|_peer| handler_fn(|_message, _cx| Ok(Next::Continue)));
/// match server.tcp("127.0.0.1:0").bind()?.spawn() {
///     Ok(running) => drop(running.stop()),
///     Err(failed) => {
///         assert_eq!(failed.error().kind(), ErrorKind::System);
///         eprintln!("{failed}: the {}'s fault. Serving on this thread.", failed.fault());
///         drop(failed.into_server().serve()?);
///     }
/// }
/// # Ok::<(), switchboard::Error>(())
/// ```
pub struct SpawnError {
    server: Box<BoundServer>,
    why: Error,
}

impl SpawnError {
    /// The server, as it was.
    pub fn into_server(self) -> BoundServer {
        *self.server
    }

    /// Why it does not run.
    #[must_use]
    pub const fn error(&self) -> &Error {
        &self.why
    }

    /// Whose fault it is: the system's.
    #[must_use]
    pub fn fault(&self) -> Fault {
        self.why.fault()
    }
}

impl From<SpawnError> for Error {
    fn from(failed: SpawnError) -> Self {
        failed.why
    }
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.why, f)
    }
}

impl fmt::Debug for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.why, f)
    }
}

impl std::error::Error for SpawnError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.why)
    }
}
