//! What a server listens on: an address, and what differs from one listener to the next.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

use crate::codec::Framing;

/// What a server is to listen on, and how.
///
/// [`Server::tcp`](crate::Server::tcp) and [`Server::udp`](crate::Server::udp) say the same in fewer
/// words where an address is enough.
///
/// ```
/// use switchboard::{Framing, Listen, Next, Server, handler_fn};
///
/// let server = Server::new(|_peer| handler_fn(|_message, _cx| Ok(Next::Continue)))
///     .listen(Listen::tcp("[::]:0").dual_stack(true).framing(Framing::lines()))
///     .listen(Listen::udp("127.0.0.1:0"));
/// # let _ = server;
/// ```
#[derive(Debug)]
#[must_use = "a listener is opened by the server that it is given to"]
pub struct Listen {
    pub(super) transport: Transport,
    /// As it was written, for messages.
    pub(super) name: String,
    pub(super) addrs: io::Result<Vec<SocketAddr>>,
    pub(super) dual_stack: bool,
    pub(super) framing: Option<Framing>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Tcp,
    Udp,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

impl Listen {
    /// A TCP listener. Port 0 takes any free port. A name that has several addresses is bound to the
    /// first one that is free.
    pub fn tcp(addr: impl ToSocketAddrs + fmt::Display) -> Self {
        Self::new(Transport::Tcp, &addr)
    }

    /// A UDP socket.
    pub fn udp(addr: impl ToSocketAddrs + fmt::Display) -> Self {
        Self::new(Transport::Udp, &addr)
    }

    fn new(transport: Transport, addr: &(impl ToSocketAddrs + fmt::Display)) -> Self {
        let name = format!("{transport}://{addr}");
        let addrs = addr.to_socket_addrs().map(Iterator::collect);
        Self { transport, name, addrs, dual_stack: false, framing: None }
    }

    /// Whether an IPv6 listener of all addresses, `[::]`, serves IPv4 as well. Default: it does not,
    /// whatever the system's default is, so that `0.0.0.0` can be bound beside it.
    pub fn dual_stack(mut self, dual_stack: bool) -> Self {
        self.dual_stack = dual_stack;
        self
    }

    /// How messages are cut out of the streams of this listener; default: as the server says. Without
    /// effect on datagrams, which are messages as they are.
    pub fn framing(mut self, framing: Framing) -> Self {
        self.framing = Some(framing);
        self
    }

    /// Binds to the first address that is free.
    pub(super) fn bind<T>(
        &self,
        bind: impl Fn(SocketAddr) -> io::Result<T>,
    ) -> crate::error::Result<T> {
        let failed = |error| crate::Error::listen(&self.name, error);
        let addrs = match &self.addrs {
            Ok(addrs) => addrs,
            Err(error) => return Err(failed(io::Error::new(error.kind(), error.to_string()))),
        };
        let mut last = io::Error::new(io::ErrorKind::InvalidInput, "the name has no address");
        for addr in addrs {
            match bind(*addr) {
                Ok(bound) => return Ok(bound),
                Err(error) => last = error,
            }
        }
        Err(failed(last))
    }
}
