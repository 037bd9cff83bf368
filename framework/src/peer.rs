//! Who is there: the other end of a connection or of datagrams, and the address it came to.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

/// An address with its transport, as it is written on command lines: `tcp://127.0.0.1:9999`,
/// `unix:/run/echo.sock`.
///
/// ```
/// use switchboard::{Address, UnixName};
///
/// let address = Address::Udp("[::1]:53".parse().unwrap());
/// assert_eq!(address.to_string(), "udp://[::1]:53");
/// let address = Address::Unix(UnixName::new("/run/echo.sock"));
/// assert_eq!(address.to_string(), "unix:/run/echo.sock");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Address {
    /// A TCP listener or connection.
    Tcp(SocketAddr),
    /// A UDP socket.
    Udp(SocketAddr),
    /// A Unix stream listener or connection.
    Unix(UnixName),
    /// A Unix datagram socket.
    UnixGram(UnixName),
}

impl Address {
    /// The internet address, of transports that have one.
    ///
    /// ```
    /// use switchboard::{Address, UnixName};
    ///
    /// let addr = "127.0.0.1:9999".parse().unwrap();
    /// assert_eq!(Address::Tcp(addr).socket_addr(), Some(addr));
    /// assert_eq!(Address::Unix(UnixName::new("/run/echo.sock")).socket_addr(), None);
    /// ```
    #[must_use]
    pub const fn socket_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(addr) | Self::Udp(addr) => Some(*addr),
            Self::Unix(_) | Self::UnixGram(_) => None,
        }
    }

    /// The name of the Unix socket, of transports that have one.
    ///
    /// ```
    /// use switchboard::{Address, UnixName};
    ///
    /// let address = Address::UnixGram(UnixName::new("@echo"));
    /// assert!(address.unix_name().is_some_and(UnixName::is_abstract));
    /// ```
    #[must_use]
    pub const fn unix_name(&self) -> Option<&UnixName> {
        match self {
            Self::Tcp(_) | Self::Udp(_) => None,
            Self::Unix(name) | Self::UnixGram(name) => Some(name),
        }
    }

    /// Whether messages come as datagrams here.
    ///
    /// ```
    /// use switchboard::Address;
    ///
    /// let addr = "127.0.0.1:9999".parse().unwrap();
    /// assert!(Address::Udp(addr).is_datagram());
    /// assert!(!Address::Tcp(addr).is_datagram());
    /// ```
    #[must_use]
    pub const fn is_datagram(&self) -> bool {
        matches!(self, Self::Udp(_) | Self::UnixGram(_))
    }

    /// Whether it is a Unix datagram socket without a name: nobody can tell it from others like it, nor
    /// answer it.
    pub(crate) fn is_nobodys(&self) -> bool {
        matches!(self, Self::UnixGram(name) if name.is_unnamed())
    }
}

/// In as few steps as can be: each datagram looks for its peer by this.
impl Hash for Address {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let transport = u32::from(self.is_datagram());
        match self {
            Self::Tcp(addr) | Self::Udp(addr) => {
                let port = u32::from(addr.port()) << 1 | transport;
                match addr.ip() {
                    IpAddr::V4(ip) => {
                        state.write_u64(u64::from(u32::from(ip)) << 32 | u64::from(port));
                    }
                    IpAddr::V6(ip) => {
                        state.write_u128(ip.into());
                        state.write_u32(port);
                    }
                }
            }
            Self::Unix(name) | Self::UnixGram(name) => {
                state.write_u32(transport);
                name.hash(state);
            }
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => write!(f, "tcp://{addr}"),
            Self::Udp(addr) => write!(f, "udp://{addr}"),
            Self::Unix(name) => write!(f, "unix:{name}"),
            Self::UnixGram(name) => write!(f, "unixgram:{name}"),
        }
    }
}

/// The name of a Unix socket: a path, a name in Linux's abstract namespace, or none, as clients of
/// streams mostly have. Cheap to clone.
///
/// It is shown as it is written on command lines, `@` before an abstract name, control characters
/// escaped: a peer chooses its own name.
///
/// ```
/// use switchboard::{Address, UnixName};
///
/// let name = UnixName::new("/run/echo.sock");
/// assert_eq!(Address::Unix(name).to_string(), "unix:/run/echo.sock");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UnixName(Name);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Name {
    Unnamed,
    Path(Arc<Path>),
    Abstract(Arc<[u8]>),
}

impl UnixName {
    /// A path, or an abstract name if it begins with `@`. (Write `./@name` for a file of that name.)
    ///
    /// ```
    /// use std::path::Path;
    /// use switchboard::UnixName;
    ///
    /// assert_eq!(UnixName::new("/run/echo.sock").path(), Some(Path::new("/run/echo.sock")));
    /// assert_eq!(UnixName::new("@echo").to_string(), "@echo");
    /// ```
    #[must_use]
    pub fn new(name: impl AsRef<Path>) -> Self {
        let path = name.as_ref();
        match path.as_os_str().as_encoded_bytes() {
            [] => Self::unnamed(),
            [b'@', name @ ..] => Self::in_abstract(name),
            _ => Self(Name::Path(path.into())),
        }
    }

    pub(crate) const fn unnamed() -> Self {
        Self(Name::Unnamed)
    }

    /// A name in the abstract namespace, which may hold any bytes.
    ///
    /// ```
    /// assert_eq!(switchboard::UnixName::in_abstract(b"a\0b").to_string(), "@a\\0b");
    /// ```
    #[must_use]
    pub fn in_abstract(name: impl AsRef<[u8]>) -> Self {
        Self(Name::Abstract(name.as_ref().into()))
    }

    /// Its path, if it has one.
    ///
    /// ```
    /// assert_eq!(switchboard::UnixName::new("@echo").path(), None);
    /// ```
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match &self.0 {
            Name::Path(path) => Some(path),
            Name::Unnamed | Name::Abstract(_) => None,
        }
    }

    /// Its bytes in the abstract namespace, if it is a name there.
    pub(crate) fn abstract_bytes(&self) -> Option<&[u8]> {
        match &self.0 {
            Name::Abstract(name) => Some(name),
            Name::Unnamed | Name::Path(_) => None,
        }
    }

    /// Whether it is a name in the abstract namespace.
    ///
    /// ```
    /// assert!(switchboard::UnixName::new("@echo").is_abstract());
    /// ```
    #[must_use]
    pub const fn is_abstract(&self) -> bool {
        matches!(self.0, Name::Abstract(_))
    }

    /// Whether the socket has no name.
    ///
    /// ```
    /// assert!(!switchboard::UnixName::new("/run/echo.sock").is_unnamed());
    /// ```
    #[must_use]
    pub const fn is_unnamed(&self) -> bool {
        matches!(self.0, Name::Unnamed)
    }
}

impl fmt::Display for UnixName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match &self.0 {
            Name::Unnamed => return f.write_str("(unnamed)"),
            Name::Path(path) => path.to_string_lossy(),
            Name::Abstract(name) => {
                f.write_str("@")?;
                String::from_utf8_lossy(name)
            }
        };
        for c in text.chars() {
            match c {
                _ if c.is_control() => write!(f, "{}", c.escape_debug())?,
                _ => write!(f, "{c}")?,
            }
        }
        Ok(())
    }
}

/// Who a Unix stream's peer was when it connected, as the kernel says; it cannot be forged.
///
/// ```
/// use switchboard::{Next, Server, handler_fn};
///
/// let server = Server::new(|peer| {
///     let is_root = peer.credentials().is_some_and(|credentials| credentials.uid == 0);
///     handler_fn(move |_message, cx| {
///         cx.send(if is_root { "at your service" } else { "who are you?" });
///         Ok(Next::Continue)
///     })
/// });
/// # let _ = server;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Credentials {
    /// Its process; `None` if that is in a namespace that we do not see.
    pub pid: Option<u32>,
    /// Its effective user.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
}

/// The other end of a connection, or the sender of datagrams, and the address it came to.
///
/// IPv4 addresses are in their own form, also where an IPv6 listener with `dual_stack` serves them.
///
/// ```
/// use switchboard::testing::MemoryServer;
/// use switchboard::{Address, Next, Server, handler_fn};
///
/// let server = Server::new(|peer| {
///     println!("{} has come to {}", peer.address(), peer.local());
///     assert_eq!(peer.ip(), peer.socket_addr().map(|addr| addr.ip()));
///     assert!(!peer.is_datagram());
///     let who = match (peer.socket_addr(), peer.credentials()) {
///         (Some(addr), _) => format!("port {}", addr.port()),
///         (None, Some(credentials)) => format!("user {}", credentials.uid),
///         (None, None) => "nobody".to_owned(),
///     };
///     handler_fn(move |_message, cx| {
///         cx.send(&who);
///         Ok(Next::Continue)
///     })
/// });
/// let ada = Address::Tcp("192.0.2.7:4321".parse().unwrap());
/// let mut client = MemoryServer::new(server).connect_from(ada, 0);
/// assert_eq!(client.ask("who am I?"), "port 4321");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Peer {
    addr: Address,
    local: Address,
    credentials: Option<Credentials>,
}

impl Peer {
    pub(crate) fn new(addr: Address, local: Address) -> Self {
        Self { addr: canonical(addr), local: canonical(local), credentials: None }
    }

    pub(crate) fn with_credentials(self, credentials: Option<Credentials>) -> Self {
        Self { credentials, ..self }
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
    pub const fn local(&self) -> &Address {
        &self.local
    }

    /// Who it is, of Unix streams.
    #[must_use]
    pub const fn credentials(&self) -> Option<Credentials> {
        self.credentials
    }

    /// Whether messages of this peer are datagrams.
    #[must_use]
    pub const fn is_datagram(&self) -> bool {
        self.addr.is_datagram()
    }

    /// The IP address that it reached, if that is known: what it is answered from.
    pub(crate) fn reached(&self) -> Option<IpAddr> {
        self.local.socket_addr().map(|addr| addr.ip()).filter(|ip| !ip.is_unspecified())
    }
}

/// Its address; a Unix peer without a name is shown by its credentials.
impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.addr, f)?;
        match self.credentials {
            Some(Credentials { pid: Some(pid), uid, .. }) => write!(f, "[pid {pid}, uid {uid}]"),
            Some(Credentials { uid, .. }) => write!(f, "[uid {uid}]"),
            None => Ok(()),
        }
    }
}

fn canonical(address: Address) -> Address {
    let in_own_form = |addr: SocketAddr| match addr.ip().to_canonical() {
        IpAddr::V4(v4) => SocketAddr::from((v4, addr.port())),
        IpAddr::V6(_) => addr,
    };
    match address {
        Address::Tcp(addr) => Address::Tcp(in_own_form(addr)),
        Address::Udp(addr) => Address::Udp(in_own_form(addr)),
        unix => unix,
    }
}

/// The number of a connection or of a datagram session, unique in its server.
///
/// Not guaranteed: any order between numbers.
///
/// ```
/// use switchboard::testing::MemoryServer;
/// use switchboard::{Next, Server, handler_fn};
///
/// let server = Server::new(|_peer| {
///     handler_fn(|_message, cx| {
///         cx.send(cx.id().to_string());
///         Ok(Next::Continue)
///     })
/// });
/// let server = MemoryServer::new(server);
/// let (mut ada, mut bob) = (server.connect(), server.connect());
/// assert_ne!(ada.ask("my number?"), bob.ask("my number?").into_bytes());
/// ```
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_a_peer_chose_cannot_forge_a_line_of_a_log() {
        let name = UnixName::new("/tmp/a\nb\u{1b}[31m");
        assert_eq!(name.to_string(), "/tmp/a\\nb\\u{1b}[31m");
    }

    #[test]
    fn names_are_shown_as_they_are_written() {
        for written in ["/run/echo.sock", "echo.sock", "@echo"] {
            assert_eq!(UnixName::new(written).to_string(), written);
        }
        assert!(UnixName::new("").is_unnamed());
    }
}
