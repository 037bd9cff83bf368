//! A server whose listeners are open: it is served, spawned, or dropped.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};
use crate::event::Event;
use crate::peer::Address;
use crate::schedule::{DrainReport, Engine};
use crate::server::handle::ServerHandle;
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

    /// Says what it serves on, and with what.
    fn announce(&self) {
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
            events.emit(&Event::Listening { address });
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
    /// The system refused a thread or a registration. Nobody was served then.
    pub fn serve(self) -> Result<DrainReport> {
        self.served.store(true, Ordering::SeqCst);
        self.announce();
        self.engine.serve()
    }

    /// Serves on a thread of its own.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn spawn(self) -> Result<ServerHandle> {
        let handle = self.handle();
        self.engine.will_serve();
        let thread = std::thread::Builder::new().name("switchboard".to_owned());
        let thread = thread.spawn(move || self.serve());
        handle.adopt(thread.map_err(|error| Error::system("cannot start a thread", error))?);
        Ok(handle)
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
    /// The program watches for signals itself.
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
    /// As [`serve`](BoundServer::serve); or the program watches for signals itself.
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
