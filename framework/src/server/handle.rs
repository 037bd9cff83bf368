//! A handle to a running server: stop it, ask it, wait for it, from anywhere.

use std::fmt;
use std::process::{ExitCode, Termination};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::config::FORCE_GRACE;
use crate::error::Result;
use crate::event::Stats;
use crate::peer::Address;
use crate::schedule::{DrainReport, Engine, Status};

/// A handle to a server: to stop it, to ask it, to wait for it. Cheap to clone; dropping it stops
/// nothing.
///
/// Every call may come from any thread, from a handler, before the server serves and after it has
/// ended, and twice.
///
/// ```
/// use std::io::{Read, Write};
/// use std::time::Duration;
/// use switchboard::{Next, Server, handler_fn};
///
/// let server = Server::new(|_peer| {
///     handler_fn(|message, cx| {
///         cx.send(message);
///         Ok(Next::Close)
///     })
/// });
/// let server = server.tcp("127.0.0.1:0").spawn()?;
/// let mut client = std::net::TcpStream::connect(server.addresses()[0].socket_addr().unwrap())?;
/// client.write_all(b"hello")?;
/// client.read_to_string(&mut String::new())?;
/// assert_eq!(server.stats().messages, 1);
///
/// // From any thread: `begin_drain` does not wait, `join` and `drain` do.
/// let elsewhere = server.clone();
/// let waits = std::thread::spawn(move || elsewhere.join());
/// server.begin_drain(Duration::from_secs(5));
/// assert!(server.drain(Duration::from_secs(5)).is_clean());
/// assert!(waits.join().unwrap().is_clean());
/// assert!(server.stop().is_clean(), "it has ended long since");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct ServerHandle {
    pub(super) engine: Arc<Engine>,
    addresses: Arc<[Address]>,
    thread: Arc<Mutex<Option<JoinHandle<Result<DrainReport>>>>>,
}

#[expect(clippy::must_use_candidate, reason = "a report may well be of no interest")]
impl ServerHandle {
    pub(super) fn new(engine: Arc<Engine>, addresses: Arc<[Address]>) -> Self {
        Self { engine, addresses, thread: Arc::default() }
    }

    pub(super) fn adopt(&self, thread: JoinHandle<Result<DrainReport>>) {
        *self.thread.lock() = Some(thread);
    }

    /// What the server listens on, in the order in which it was told to, with the real ports.
    #[must_use]
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// What the server has counted so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.engine.stats()
    }

    /// What the server does at this moment: its stage, what each listener does with newcomers, who is there,
    /// and its workers. Each part prints as one line.
    ///
    /// ```
    /// use switchboard::{ListenerState, Next, Server, ServerStage, handler_fn};
    ///
    /// let server = Server::new(|_peer| handler_fn(|_message, _cx| Ok(Next::Continue)));
    /// let bound = server.tcp("127.0.0.1:0").bind()?;
    /// let handle = bound.handle();
    /// assert_eq!(handle.status().stage, ServerStage::Bound);
    /// assert_eq!(handle.status().listeners[0].state, ListenerState::Waiting);
    /// drop(bound);
    /// assert_eq!(handle.status().stage, ServerStage::Stopped);
    /// assert!(handle.status().listeners[0].to_string().ends_with(" closed"));
    /// # Ok::<(), switchboard::Error>(())
    /// ```
    #[must_use]
    pub fn status(&self) -> Status {
        self.engine.status(&self.addresses)
    }

    /// Turns newcomers away until [`resume`](ServerHandle::resume) is called, and keeps the ports: whoever
    /// connects is refused by the system, also on a port that was chosen by it, and nobody else can take it.
    /// Connections that are open go on. Clients whose `connect` had succeeded before are let in and served.
    ///
    /// Unix sockets, and sockets that the program has bound itself, cannot refuse and listen again: there
    /// newcomers connect, and wait in the system's queue until it is resumed.
    ///
    /// Datagrams: no new session begins; sessions that are there go on. Whatever strangers send, and
    /// everything that a [`DatagramHandler`](crate::DatagramHandler) would get, is dropped and counted as
    /// `suspended`.
    ///
    /// It takes effect within some milliseconds, or 0.2 s if handshakes are under way: they have as long to
    /// complete, and whoever connects meanwhile is refused once its system tries again, a second later.
    /// Where as many connections are open as may be, those who are queued are let in first, as others leave;
    /// until then the listener is
    /// [`Suspending`](crate::ListenerState::Suspending). This call waits until newcomers are refused, for
    /// half a second at most; on a thread that runs a handler of this server it returns at once. Twice is
    /// as good as once.
    ///
    /// ```
    /// use std::net::TcpStream;
    /// use switchboard::{Next, Server, ServerStage, handler_fn};
    ///
    /// let server = Server::new(|_peer| handler_fn(|_message, _cx| Ok(Next::Continue)));
    /// let server = server.tcp("127.0.0.1:0").spawn()?;
    /// let addr = server.addresses()[0].socket_addr().unwrap();
    /// server.suspend()?;
    /// assert_eq!(server.status().stage, ServerStage::Suspended);
    /// assert!(TcpStream::connect(addr).is_err());
    /// server.resume()?;
    /// assert!(TcpStream::connect(addr).is_ok());
    /// server.stop();
    /// assert!(server.resume().is_err());
    /// # Ok::<(), switchboard::Error>(())
    /// ```
    ///
    /// # Errors
    /// The server is being drained or has ended ([`ErrorKind::Over`](crate::ErrorKind::Over)).
    pub fn suspend(&self) -> Result<()> {
        self.engine.suspend()
    }

    /// Lets newcomers in again, on the same ports. Twice is as good as once.
    ///
    /// ```
    /// use switchboard::{Next, Server, ServerStage, handler_fn};
    ///
    /// let server = Server::new(|_peer| handler_fn(|_message, _cx| Ok(Next::Continue)));
    /// let server = server.tcp("127.0.0.1:0").spawn()?;
    /// server.suspend()?;
    /// server.resume()?;
    /// assert_eq!(server.status().stage, ServerStage::Serving);
    /// # server.stop();
    /// # Ok::<(), switchboard::Error>(())
    /// ```
    ///
    /// # Errors
    /// The server is being drained or has ended ([`ErrorKind::Over`](crate::ErrorKind::Over)); or the system
    /// does not let a listener listen again: it stays suspended, the others do not, and this may be called
    /// again.
    pub fn resume(&self) -> Result<()> {
        self.engine.resume()
    }

    /// Begins to drain the server and returns at once: nobody new is let in beside those who are queued
    /// already, everybody is told, and what has not ended after `within` is ended. A second call can only
    /// bring that deadline forward.
    ///
    /// With [`Duration::ZERO`] nobody is told: it forces everybody at once, as [`stop`](Self::stop) does.
    pub fn begin_drain(&self, within: Duration) {
        self.engine.begin_drain(within);
    }

    /// Begins a drain with the server's own drain timeout.
    #[cfg(feature = "signals")]
    pub(super) fn begin_default_drain(&self) {
        self.engine.begin_drain(self.engine.core.live.drain_timeout());
    }

    /// Drains the server and waits for the end: at most `within` and half a second.
    ///
    /// Called from one of the server's own handlers, ticks or observers it cannot wait for that: it begins
    /// the drain and returns what is known, with everybody who is still there counted as stuck. So it does for a
    /// server that does not serve.
    pub fn drain(&self, within: Duration) -> DrainReport {
        self.engine.begin_drain(within);
        let most = within.saturating_add(FORCE_GRACE + Duration::from_millis(200));
        let report = self.engine.await_report(Instant::now().checked_add(most));
        self.end_thread();
        report
    }

    /// Ends everything at once: a drain without patience. Handlers are not asked by
    /// [`draining`](crate::Handler::draining); whoever is there ends with
    /// [`CloseReason::Forced`](crate::CloseReason::Forced).
    pub fn stop(&self) -> DrainReport {
        self.drain(Duration::ZERO)
    }

    /// Waits until the server was drained, by whomever.
    pub fn join(&self) -> DrainReport {
        let report = self.engine.await_report(None);
        self.end_thread();
        report
    }

    /// The thread that `spawn` started has made its report: it ends.
    fn end_thread(&self) {
        if self.engine.has_ended()
            && let Some(thread) = self.thread.lock().take()
        {
            // What it returned is in the report; it runs no user code that could panic.
            drop(thread.join());
        }
    }
}

impl fmt::Debug for ServerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerHandle").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

/// How a server that ran until a signal has ended. `main` can return it: the exit status is 0, 3 or 130.
///
/// ```
/// use switchboard::{DrainReport, Outcome};
///
/// let outcome = Outcome::Drained(DrainReport::default());
/// assert_eq!(outcome.exit_status(), 0);
/// assert!(outcome.report().is_clean());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// Everybody left in time: status 0.
    Drained(DrainReport),
    /// Something was forced to end, or is stuck: status 3.
    Forced(DrainReport),
    /// A second signal cut the drain short: status 130.
    Aborted(DrainReport),
}

impl Outcome {
    #[cfg(feature = "signals")]
    pub(super) fn new(report: DrainReport, signals: usize) -> Self {
        match signals {
            0 | 1 if report.is_clean() => Self::Drained(report),
            0 | 1 => Self::Forced(report),
            _ => Self::Aborted(report),
        }
    }

    /// What became of everybody.
    #[must_use]
    pub const fn report(&self) -> &DrainReport {
        match self {
            Self::Drained(report) | Self::Forced(report) | Self::Aborted(report) => report,
        }
    }

    /// The exit status that says so: 0, 3 or 130.
    #[must_use]
    pub const fn exit_status(&self) -> u8 {
        match self {
            Self::Drained(_) => 0,
            Self::Forced(_) => 3,
            Self::Aborted(_) => 130,
        }
    }
}

impl Termination for Outcome {
    fn report(self) -> ExitCode {
        ExitCode::from(self.exit_status())
    }
}
