//! A listening socket, the factory for those who come, and whether it rests.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::outbox::LineSettings;
use crate::peer::{Address, Peer};
use crate::stream::ServiceFactory;
use crate::stream::door::Doorway;
use crate::sys::socket::{ListenOptions, Listener, Socket};
use crate::timer::{Alarm, Moment};

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
    pub(crate) door: Doorway,
}

/// Whether a listener is announced, and why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    /// The poller says when somebody is queued. If accept(2) failed at the last try: how long it rested.
    Armed { before: Option<Duration> },
    /// As many connections are open as may be; the next close arms it.
    Full,
    /// accept(2) failed for want of something, with this error; a timer or the next close arms it.
    Failed { errno: i32, span: Duration, until: Moment },
}

impl Default for Rest {
    fn default() -> Self {
        Self::Armed { before: None }
    }
}

impl Rest {
    /// How long the last rest was, if it was not enough so far.
    pub(crate) fn span(self) -> Option<Duration> {
        match self {
            Self::Armed { before } => before,
            Self::Full => None,
            Self::Failed { span, .. } => Some(span),
        }
    }
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
            door: Doorway::new(),
        })
    }

    pub(crate) fn socket(&self) -> Option<Arc<Listener>> {
        self.socket.lock().clone()
    }

    /// Closes the socket: whoever connects from now on is refused.
    pub(crate) fn close(&self) {
        self.door.close();
        *self.socket.lock() = None;
    }

    pub(crate) fn rest(&self) -> Rest {
        *self.rest.lock()
    }

    /// It is announced again.
    pub(crate) fn end_rest(&self) {
        let mut rest = self.rest.lock();
        *rest = Rest::Armed { before: rest.span() };
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
