//! A listening socket, the factory for those who come, and whether it rests.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::outbox::LineSettings;
use crate::peer::{Address, Peer};
use crate::stream::ServiceFactory;
use crate::sys::socket::{ListenOptions, Listener, Socket};
use crate::timer::Alarm;

/// A TCP listener of a server.
pub(crate) struct StreamListener {
    pub(crate) address: Address,
    pub(crate) factory: ServiceFactory,
    pub(crate) settings: Arc<LineSettings>,
    /// Wakes the accept loop after a rest.
    pub(crate) alarm: Alarm,
    local: SocketAddr,
    /// Gone once the server has stopped, although a stuck handler may keep the rest alive.
    socket: Mutex<Option<Arc<Listener>>>,
    /// How it is announced by the poller.
    rest: Mutex<Rest>,
}

/// Whether a listener is announced, and why not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Rest {
    /// The poller says when somebody is queued.
    #[default]
    Armed,
    /// As many connections are open as may be; the next close arms it.
    Full,
    /// accept(2) failed for want of something; a timer or the next close arms it. How long it rests
    /// next time.
    Failed(std::time::Duration),
}

impl StreamListener {
    pub(crate) fn bind(
        addr: SocketAddr,
        options: &ListenOptions,
        factory: ServiceFactory,
        settings: Arc<LineSettings>,
    ) -> io::Result<Self> {
        let socket = Listener::bind(addr, options)?;
        let local = socket.local_addr()?;
        Ok(Self {
            address: Address::Tcp(local),
            factory,
            settings,
            alarm: Alarm::new(),
            local,
            socket: Mutex::new(Some(Arc::new(socket))),
            rest: Mutex::default(),
        })
    }

    /// A listener in memory: whoever connects is handed over.
    pub(crate) fn in_memory(
        local: SocketAddr,
        factory: ServiceFactory,
        settings: Arc<LineSettings>,
    ) -> Self {
        Self {
            address: Address::Tcp(local),
            factory,
            settings,
            alarm: Alarm::new(),
            local,
            socket: Mutex::new(None),
            rest: Mutex::default(),
        }
    }

    pub(crate) fn socket(&self) -> Option<Arc<Listener>> {
        self.socket.lock().clone()
    }

    /// Closes the socket: whoever connects from now on is refused.
    pub(crate) fn close(&self) {
        *self.socket.lock() = None;
    }

    pub(crate) fn rest(&self) -> Rest {
        *self.rest.lock()
    }

    pub(crate) fn set_rest(&self, rest: Rest) {
        *self.rest.lock() = rest;
    }

    /// Who has connected, and to which address: a listener of all addresses has to ask.
    pub(crate) fn peer_of(&self, addr: SocketAddr, socket: &Socket) -> Peer {
        let asked = || socket.local_addr().unwrap_or(self.local);
        Peer::tcp(addr, if self.local.ip().is_unspecified() { asked() } else { self.local })
    }
}
