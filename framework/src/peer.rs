//! Who is there: the other end of a connection or of datagrams, and the address it came to.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// An address with its transport, as it is written on command lines: `tcp://127.0.0.1:9999`.
///
/// ```
/// use switchboard::Address;
///
/// let address = Address::Udp("[::1]:53".parse().unwrap());
/// assert_eq!(address.to_string(), "udp://[::1]:53");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    /// A TCP listener or connection.
    Tcp(SocketAddr),
    /// A UDP socket.
    Udp(SocketAddr),
}

impl Address {
    /// The internet address, of transports that have one.
    #[must_use]
    pub const fn socket_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(addr) | Self::Udp(addr) => Some(*addr),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => write!(f, "tcp://{addr}"),
            Self::Udp(addr) => write!(f, "udp://{addr}"),
        }
    }
}

/// The other end of a connection, or the sender of datagrams, and the address it came to.
///
/// IPv4 addresses are in their own form, also where an IPv6 listener with `dual_stack` serves them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Peer {
    addr: Address,
    local: SocketAddr,
}

impl Peer {
    pub(crate) fn tcp(addr: SocketAddr, local: SocketAddr) -> Self {
        Self { addr: Address::Tcp(canonical(addr)), local: canonical(local) }
    }

    pub(crate) fn udp(addr: SocketAddr, local: SocketAddr) -> Self {
        Self { addr: Address::Udp(canonical(addr)), local: canonical(local) }
    }

    /// Its address, with the transport.
    #[must_use]
    pub const fn address(&self) -> &Address {
        &self.addr
    }

    /// Its internet address, of transports that have one.
    #[must_use]
    pub const fn socket_addr(&self) -> Option<SocketAddr> {
        self.addr.socket_addr()
    }

    /// Its IP address, of transports that have one.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        self.socket_addr().map(|addr| addr.ip())
    }

    /// The local address that the peer reached.
    #[must_use]
    pub const fn local(&self) -> SocketAddr {
        self.local
    }

    /// Whether messages of this peer are datagrams.
    #[must_use]
    pub const fn is_datagram(&self) -> bool {
        matches!(self.addr, Address::Udp(_))
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.addr, f)
    }
}

fn canonical(addr: SocketAddr) -> SocketAddr {
    match addr.ip().to_canonical() {
        IpAddr::V4(v4) => SocketAddr::from((v4, addr.port())),
        IpAddr::V6(_) => addr,
    }
}

/// The number of a connection or of a datagram session, unique in its server.
///
/// Not guaranteed: any order between numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub(crate) u64);

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The low half is the place (connections and sessions have places of their own), the high half
        // counts who had it before.
        let kind = if self.0 & 1 << 31 == 0 { 'c' } else { 's' };
        write!(f, "{kind}{}.{}", self.0 & 0x7fff_ffff, self.0 >> 32)
    }
}
