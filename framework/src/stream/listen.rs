//! A listening socket, the factory for those who come, and whether it rests.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::outbox::LineSettings;
use crate::peer::{Address, Peer, UnixName};
use crate::stream::ServiceFactory;
use crate::stream::door::Doorway;
use crate::sys::listener::Listener;
use crate::sys::socket::Socket;
use crate::timer::{Alarm, Moment};

/// A listener of a server for connections.
pub(crate) struct StreamListener {
    pub(crate) address: Address,
    pub(crate) factory: ServiceFactory,
    pub(crate) settings: Arc<LineSettings>,
    /// Wakes the accept loop after a rest.
    pub(crate) alarm: Alarm,
    way_in: Mutex<WayIn>,
    /// How it is announced by the poller.
    rest: Mutex<Rest>,
    pub(crate) door: Doorway,
}

/// Where those who connect come in.
#[derive(Debug)]
enum WayIn {
    /// By the system.
    System(Arc<Listener>),
    /// A test hands them over.
    Memory,
    /// Nowhere any more: the server has stopped, although a stuck handler may keep the rest alive.
    Closed,
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
    /// It takes nobody any more, and nobody is queued: for good.
    Shut,
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
            Self::Full | Self::Shut => None,
            Self::Failed { span, .. } => Some(span),
        }
    }
}

impl StreamListener {
    /// Serves whoever connects to an open socket.
    pub(crate) fn new(
        socket: Listener,
        factory: ServiceFactory,
        settings: Arc<LineSettings>,
    ) -> io::Result<Self> {
        let address = socket.local()?;
        settings.socket_opened();
        Ok(Self {
            address,
            factory,
            settings,
            alarm: Alarm::new(),
            way_in: Mutex::new(WayIn::System(Arc::new(socket))),
            rest: Mutex::default(),
            door: Doorway::new(),
        })
    }

    /// A listener in memory: whoever connects is handed over.
    pub(crate) fn in_memory(
        address: Address,
        factory: ServiceFactory,
        settings: Arc<LineSettings>,
    ) -> Self {
        settings.socket_opened();
        Self {
            address,
            factory,
            settings,
            alarm: Alarm::new(),
            way_in: Mutex::new(WayIn::Memory),
            rest: Mutex::default(),
            door: Doorway::new(),
        }
    }

    pub(crate) fn socket(&self) -> Option<Arc<Listener>> {
        match &*self.way_in.lock() {
            WayIn::System(socket) => Some(socket.clone()),
            WayIn::Memory | WayIn::Closed => None,
        }
    }

    /// Closes the socket: whoever connects from now on is refused. Returns whether this call did it, and
    /// no other socket of this listener is open.
    pub(crate) fn close(&self) -> bool {
        self.door.close();
        let way_in = std::mem::replace(&mut *self.way_in.lock(), WayIn::Closed);
        !matches!(way_in, WayIn::Closed) && self.settings.socket_closed()
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
    ///
    /// A peer that has reset the connection already may have no address any more.
    pub(crate) fn peer_of(&self, addr: Option<Address>, socket: &Socket) -> Peer {
        let everywhere = |addr: SocketAddr| addr.ip().is_unspecified();
        let asked = match self.address.socket_addr() {
            Some(local) if everywhere(local) => socket.local().ok(),
            _ => None,
        };
        let nameless = || without_name(&self.address);
        let peer = Peer::new(addr.unwrap_or_else(nameless), asked.unwrap_or(self.address.clone()));
        peer.with_credentials(socket.credentials())
    }
}

/// Somebody of whom the system does not say the address, at this listener.
fn without_name(listener: &Address) -> Address {
    match listener {
        Address::Unix(_) => Address::Unix(UnixName::unnamed()),
        _ => Address::Tcp(SocketAddr::from(([0, 0, 0, 0], 0))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_without_an_address_is_of_its_listeners_kind() {
        let of = |listener: Address| without_name(&listener).to_string();
        assert_eq!(of(Address::Unix(UnixName::new("/run/echo.sock"))), "unix:(unnamed)");
        assert_eq!(of(Address::Tcp(([127, 0, 0, 1], 80).into())), "tcp://0.0.0.0:0");
    }
}
