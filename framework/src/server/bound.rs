//! A server whose listeners are open: it is served, spawned, or dropped.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::bounded;

use crate::error::{Error, Result};
use crate::event::Event;
use crate::fault::Fault;
use crate::peer::Address;
use crate::schedule::{DrainReport, Engine};
use crate::server::handle::ServerHandle;
use crate::server::hooks::{OnTick, tick_of};
#[cfg(feature = "signals")]
use crate::server::{handle::Outcome, signal};
use crate::sys::limits::Descriptors;

/// A server whose listeners are open. Clients can connect already; they are served once
/// [`serve`](BoundServer::serve) or [`spawn`](BoundServer::spawn) runs.
///
/// Dropping it closes the listeners.
#[must_use = "a bound server serves nobody until it is served or spawned"]
pub struct BoundServer {
    engine: Arc<Engine>,
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

    /// Says what it listens on, and with what.
    pub(super) fn announce(&self) {
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
        for listener in &self.engine.sources.datagrams {
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
        self.engine.serve()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CloseReason, Concurrency, ErrorKind, Framing, Next, Server, handler_fn};
    use parking_lot::Mutex;
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::time::{Duration, Instant};

    const PATIENCE: Duration = Duration::from_secs(20);

    /// What an observer has heard: names of events, and what they are about.
    type Heard = Arc<Mutex<Vec<(&'static str, Option<CloseReason>)>>>;

    /// A server that answers lines, and waits for the gate at "wait".
    fn bound(
        concurrency: Concurrency,
        gate: &crossbeam_channel::Receiver<()>,
    ) -> (BoundServer, Heard) {
        let heard = Heard::default();
        let (noted, gate) = (heard.clone(), gate.clone());
        let server = Server::new(move |_peer| {
            let gate = gate.clone();
            handler_fn(move |message, cx| {
                if message == b"wait" {
                    drop(gate.recv_timeout(PATIENCE));
                }
                cx.send(message);
                Ok(Next::Continue)
            })
        });
        let server = server.observer(move |event: &Event<'_>| {
            let reason = match event {
                Event::ConnectionClosed { reason, .. } => Some((*reason).clone()),
                _ => None,
            };
            noted.lock().push((event.name(), reason));
        });
        let server = server.concurrency(concurrency).framing(Framing::lines());
        (server.tcp("127.0.0.1:0").bind().expect("bound"), heard)
    }

    fn count(heard: &Heard, name: &str) -> usize {
        heard.lock().iter().filter(|(heard, _)| *heard == name).count()
    }

    #[track_caller]
    fn eventually(holds: impl Fn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        let ticks = crossbeam_channel::tick(Duration::from_millis(1));
        while !holds() {
            assert!(Instant::now() < deadline, "it never came true");
            drop(ticks.recv());
        }
    }

    fn client(server: &ServerHandle) -> TcpStream {
        let addr = server.addresses()[0].socket_addr().expect("an address");
        let client = TcpStream::connect(addr).expect("connected");
        client.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        client
    }

    fn hear(client: &mut TcpStream, expected: &str) {
        let mut heard = vec![0; expected.len()];
        client.read_exact(&mut heard).expect("an answer");
        assert_eq!(String::from_utf8_lossy(&heard), expected);
    }

    #[test]
    fn a_server_without_a_thread_is_handed_back_and_can_be_spawned_again() {
        let (_open, gate) = crossbeam_channel::bounded(1);
        let (server, heard) = bound(Concurrency::pool(2), &gate);
        server.engine.refuse_threads(1);
        let failed = server.spawn().expect_err("there is no thread");
        assert!(failed.to_string().starts_with("cannot start a thread: "), "{failed}");
        assert_eq!((failed.error().kind(), failed.fault()), (ErrorKind::System, Fault::System));
        let server = failed.into_server().spawn().expect("there is one now");
        let mut client = client(&server);
        client.write_all(b"x\n").expect("sent");
        hear(&mut client, "x\n");
        server.stop();
        let counts = ["listener-started", "listener-stopped", "draining", "drained"];
        assert_eq!(counts.map(|name| count(&heard, name)), [1; 4]);
    }

    #[test]
    fn a_spawn_error_that_is_dropped_closes_the_listeners() {
        let (_open, gate) = crossbeam_channel::bounded(1);
        let (server, heard) = bound(Concurrency::pool(2), &gate);
        server.engine.refuse_threads(1);
        let error = Error::from(server.spawn().expect_err("there is no thread"));
        assert_eq!(error.kind(), ErrorKind::System);
        assert_eq!(count(&heard, "listener-stopped"), 1);
    }

    #[test]
    fn a_pool_without_its_first_worker_serves_nobody_and_says_so() {
        let (_open, gate) = crossbeam_channel::bounded(1);
        let (server, heard) = bound(Concurrency::pool(2), &gate);
        server.engine.refuse_threads(usize::MAX);
        let error = server.serve().expect_err("there is no worker");
        assert!(error.to_string().starts_with("cannot start a worker: "), "{error}");
        assert_eq!(count(&heard, "listener-stopped"), 1);
        assert_eq!(count(&heard, "drained"), 0, "no drain had begun");
    }

    #[test]
    fn a_pool_that_gets_no_more_workers_serves_on_with_those_it_has() {
        let (open, gate) = crossbeam_channel::bounded(6);
        let (server, heard) = bound(Concurrency::pool(8), &gate);
        let engine = server.engine.clone();
        let server = server.spawn().expect("a thread");
        let mut quick = client(&server);
        quick.write_all(b"a\n").expect("sent");
        hear(&mut quick, "a\n");
        engine.refuse_threads(usize::MAX);
        // However many workers have been called in so far, these are more.
        let mut slow: Vec<_> = (0..6).map(|_| client(&server)).collect();
        slow.iter_mut().for_each(|client| client.write_all(b"wait\n").expect("sent"));
        eventually(|| count(&heard, "thread-failed") > 1);
        quick.write_all(b"b\n").expect("sent");
        slow.iter().for_each(|_| open.send(()).expect("the handlers wait"));
        slow.iter_mut().for_each(|client| hear(client, "wait\n"));
        hear(&mut quick, "b\n");
        assert!(server.drain(PATIENCE).is_clean());
        assert_eq!(count(&heard, "connection-opened"), count(&heard, "connection-closed"));
    }

    #[test]
    fn connections_without_a_thread_are_served_once_there_is_one() {
        let (_open, gate) = crossbeam_channel::bounded(1);
        let (server, heard) = bound(Concurrency::threads(4), &gate);
        let engine = server.engine.clone();
        let server = server.spawn().expect("a thread");
        engine.refuse_threads(2);
        let mut clients = [client(&server), client(&server), client(&server)];
        for client in &mut clients {
            client.write_all(b"x\n").expect("sent");
        }
        for client in &mut clients {
            hear(client, "x\n");
        }
        assert_eq!(count(&heard, "thread-failed"), 2);
        assert!(server.drain(PATIENCE).is_clean());
    }

    #[test]
    fn connections_that_never_get_a_thread_are_closed_by_the_drain() {
        let (_open, gate) = crossbeam_channel::bounded(1);
        let (server, heard) = bound(Concurrency::threads(4), &gate);
        let engine = server.engine.clone();
        let server = server.spawn().expect("a thread");
        engine.refuse_threads(usize::MAX);
        let mut clients = [client(&server), client(&server), client(&server)];
        eventually(|| count(&heard, "connection-opened") == 3);
        eventually(|| count(&heard, "thread-failed") > 0);
        let report = server.drain(Duration::from_millis(50));
        assert_eq!((report.forced, report.stuck), (3, 0), "{report}");
        let ends = heard.lock();
        let forced = ends.iter().filter(|(_, reason)| *reason == Some(CloseReason::Forced)).count();
        assert_eq!(forced, 3, "{ends:?}");
        for client in &mut clients {
            assert_eq!(client.read(&mut [0; 8]).unwrap_or(0), 0, "it is closed");
        }
    }
}
