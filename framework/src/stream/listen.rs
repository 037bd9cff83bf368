//! A listening socket, the factory for those who come, and whether it rests.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::outbox::LineSettings;
use crate::peer::{Address, Peer};
use crate::stream::ServiceFactory;
use crate::sys::socket::{Listener, Socket};
use crate::timer::Alarm;

/// A listener of a server for connections.
pub(crate) struct StreamListener {
    pub(crate) address: Address,
    pub(crate) factory: ServiceFactory,
    pub(crate) settings: Arc<LineSettings>,
    /// Wakes the accept loop after a rest.
    pub(crate) alarm: Alarm,
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
    /// It takes nobody any more, and nobody is queued: for good.
    Shut,
}

impl StreamListener {
    /// Serves whoever connects to an open socket.
    pub(crate) fn new(
        socket: Listener,
        factory: ServiceFactory,
        settings: Arc<LineSettings>,
    ) -> io::Result<Self> {
        Ok(Self {
            address: socket.local()?,
            factory,
            settings,
            alarm: Alarm::new(),
            socket: Mutex::new(Some(Arc::new(socket))),
            rest: Mutex::default(),
        })
    }

    /// A listener in memory: whoever connects is handed over.
    pub(crate) fn in_memory(
        address: Address,
        factory: ServiceFactory,
        settings: Arc<LineSettings>,
    ) -> Self {
        let (alarm, socket, rest) = (Alarm::new(), Mutex::new(None), Mutex::default());
        Self { address, factory, settings, alarm, socket, rest }
    }

    pub(crate) fn socket(&self) -> Option<Arc<Listener>> {
        self.socket.lock().clone()
    }

    /// Closes the socket: whoever connects from now on is refused. Returns whether this call did it.
    pub(crate) fn close(&self) -> bool {
        let open = self.socket.lock().take();
        open.is_some()
    }

    pub(crate) fn rest(&self) -> Rest {
        *self.rest.lock()
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
        let nobody = || Address::Tcp(SocketAddr::from(([0, 0, 0, 0], 0)));
        let peer = Peer::new(addr.unwrap_or_else(nobody), asked.unwrap_or(self.address.clone()));
        peer.with_credentials(socket.credentials())
    }
}
