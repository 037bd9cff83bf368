//! Where the load goes: URLs of servers, and sockets to them.
use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs},
    os::fd::OwnedFd,
    path::PathBuf,
};

use rustix::io::Errno;
use socket2::{Domain, SockAddr, Socket, Type};

/// Asked of the kernel for every datagram socket; what it grants is its own affair.
const DATAGRAM_BUFFER: usize = 4 << 20;

/// A server's address. A Unix path that begins with `@` is a name in the abstract namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Tcp(SocketAddr),
    Udp(SocketAddr),
    Unix(PathBuf),
    UnixGram(PathBuf),
}

/// Whether a connect is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    Connected,
    Pending,
}

/// What to do about a failed connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnectFault {
    /// Nobody listens.
    Refused,
    /// The server's backlog is full: again in a moment.
    Busy,
    /// This source address has no port left: take the next.
    NoPorts,
    /// This process has no descriptor left.
    NoDescriptors,
    Other,
}

/// Sorts the errors of `connect`.
pub(crate) fn connect_fault(error: &io::Error) -> ConnectFault {
    match Errno::from_io_error(error) {
        Some(Errno::CONNREFUSED | Errno::NOENT) => ConnectFault::Refused,
        Some(Errno::AGAIN | Errno::INTR) => ConnectFault::Busy,
        Some(Errno::ADDRNOTAVAIL | Errno::ADDRINUSE) => ConnectFault::NoPorts,
        Some(Errno::MFILE | Errno::NFILE) => ConnectFault::NoDescriptors,
        _ => ConnectFault::Other,
    }
}

impl Target {
    /// Reads a URL: `tcp://HOST:PORT`, `udp://HOST:PORT`, `unix:PATH`, `unixgram:PATH`.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub(crate) fn parse(url: &str) -> Result<Self, String> {
        let resolve = |rest: &str| {
            let mut found: Vec<_> = rest
                .to_socket_addrs()
                .map_err(|e| format!("'{url}': {e}; an address is HOST:PORT"))?
                .collect();
            // `localhost` may name both; most servers listen on the first kind only.
            found.sort_by_key(|addr| !addr.is_ipv4());
            found.first().copied().ok_or_else(|| format!("'{url}': no such host"))
        };
        let path = |rest: &str| match rest.strip_prefix("//").unwrap_or(rest) {
            "" | "@" => Err(format!("'{url}': no path")),
            path if path.len() > 107 => {
                Err(format!("'{url}': a socket's path has at most 107 bytes"))
            }
            path => Ok(PathBuf::from(path)),
        };
        match url.split_once(':') {
            Some(("tcp", rest)) => resolve(rest.trim_start_matches('/')).map(Self::Tcp),
            Some(("udp", rest)) => resolve(rest.trim_start_matches('/')).map(Self::Udp),
            Some(("unix", rest)) => path(rest).map(Self::Unix),
            Some(("unixgram", rest)) => path(rest).map(Self::UnixGram),
            _ => Err(format!(
                "'{url}': not tcp://HOST:PORT, udp://HOST:PORT, unix:PATH or unixgram:PATH"
            )),
        }
    }

    /// Whether it is a byte stream.
    pub(crate) fn is_stream(&self) -> bool {
        matches!(self, Self::Tcp(_) | Self::Unix(_))
    }

    /// Whether it is this very machine.
    pub(crate) fn is_local(&self) -> bool {
        self.ip().is_none_or(|ip| ip.is_loopback())
    }

    /// Within a machine there is nothing to congest: a control that paces would only hold bytes back after their write.
    fn do_without_pacing(&self, socket: &Socket) {
        if let Self::Tcp(_) = self
            && self.is_local()
        {
            // Where this control is not to be had, the system's own serves as well.
            let _ = rustix::net::sockopt::set_tcp_congestion(socket, "reno");
        }
    }

    /// Its address, if it has one.
    pub(crate) fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Tcp(addr) | Self::Udp(addr) => Some(addr.ip()),
            Self::Unix(_) | Self::UnixGram(_) => None,
        }
    }

    /// The largest message that one datagram to it can carry.
    pub(crate) fn datagram_max(&self) -> usize {
        match self {
            Self::UnixGram(_) => 128 << 10,
            _ => 65_507,
        }
    }

    /// Where it is, as the system has it.
    ///
    /// # Errors
    /// A name is too long.
    pub(crate) fn sock_addr(&self) -> io::Result<SockAddr> {
        match self {
            Self::Tcp(addr) | Self::Udp(addr) => Ok(SockAddr::from(*addr)),
            Self::Unix(path) | Self::UnixGram(path) => {
                match path.to_str().and_then(|path| path.strip_prefix('@')) {
                    Some(name) => SockAddr::unix(format!("\0{name}")),
                    None => SockAddr::unix(path),
                }
            }
        }
    }

    /// Opens a non-blocking socket and connects it; `name` makes a Unix datagram socket's own address unique.
    ///
    /// # Errors
    /// What the system says; `connect_fault` sorts it.
    pub(crate) fn connect(
        &self,
        source: Option<IpAddr>,
        name: u64,
    ) -> io::Result<(OwnedFd, Progress)> {
        let (domain, kind) = match self {
            Self::Tcp(addr) => (Domain::for_address(*addr), Type::STREAM),
            Self::Udp(addr) => (Domain::for_address(*addr), Type::DGRAM),
            Self::Unix(_) => (Domain::UNIX, Type::STREAM),
            Self::UnixGram(_) => (Domain::UNIX, Type::DGRAM),
        };
        let socket = Socket::new(domain, kind.nonblocking(), None)?;
        match self {
            Self::Tcp(_) => {
                socket.set_tcp_nodelay(true)?;
                self.do_without_pacing(&socket);
            }
            Self::Udp(_) => {
                socket.set_recv_buffer_size(DATAGRAM_BUFFER)?;
            }
            Self::Unix(_) => {}
            Self::UnixGram(_) => {
                // Without an address of its own nobody could answer it.
                let own = format!("\0switchboard-load-{}-{name}", std::process::id());
                socket.bind(&SockAddr::unix(own)?)?;
            }
        }
        if let Some(source) = source {
            // The port is chosen when the other end is known: any pair of ends may exist once. Where the system does not
            // know how, there are merely fewer ports.
            let _ = nix::sys::socket::setsockopt(
                &socket,
                nix::sys::socket::sockopt::IpBindAddressNoPort,
                &true,
            );
            socket.bind(&SockAddr::from(SocketAddr::new(source, 0)))?;
        }
        let progress = match socket.connect(&self.sock_addr()?) {
            Ok(()) => Progress::Connected,
            Err(error) if Errno::from_io_error(&error) == Some(Errno::INPROGRESS) => {
                Progress::Pending
            }
            Err(error) => return Err(error),
        };
        Ok((socket.into(), progress))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => write!(f, "tcp://{addr}"),
            Self::Udp(addr) => write!(f, "udp://{addr}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::UnixGram(path) => write!(f, "unixgram:{}", path.display()),
        }
    }
}

/// Addresses that short connections to loopback come from in turn. With one alone its ports are soon all in TIME_WAIT, and
/// what is measured then is the kernel's search for a free one (it took half the generator's CPU, and 40 ms at p99).
const ROTATION: u8 = 32;

/// Source addresses to go through when one has no port left: those asked for, or for a loopback target 127.0.0.2 and on.
#[derive(Clone, Debug)]
pub(crate) struct Sources {
    asked: Vec<IpAddr>,
    spread: bool,
    /// Every connection takes the next address.
    rotate: bool,
    at: u8,
}

impl Sources {
    /// The sources for this target; `rotate` for connections that come and go.
    pub(crate) fn new(asked: &[IpAddr], target: &Target, rotate: bool) -> Self {
        let v4 = target.ip().is_some_and(|ip| ip.is_ipv4() && ip.is_loopback());
        Self { asked: asked.to_vec(), spread: asked.is_empty() && v4, rotate, at: 0 }
    }

    /// The address to bind next, or none to leave it to the system.
    pub(crate) fn pick(&mut self) -> Option<IpAddr> {
        let picked = match (self.asked.get(usize::from(self.at)), self.spread && self.at > 0) {
            (Some(asked), _) => Some(*asked),
            (None, true) => Some(IpAddr::V4(Ipv4Addr::new(127, 0, 0, self.at + 1))),
            (None, false) => None,
        };
        if self.rotate && (!self.advance() || (self.spread && self.at >= ROTATION)) {
            self.rewind();
        }
        picked
    }

    /// Goes on to the next address; false if there is none.
    pub(crate) fn advance(&mut self) -> bool {
        let more =
            if self.spread { self.at < 250 } else { usize::from(self.at) + 1 < self.asked.len() };
        if more {
            self.at += 1;
        }
        more
    }

    /// Starts over: ports come back as time passes.
    pub(crate) fn rewind(&mut self) {
        self.at = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::{Sources, Target};

    #[test]
    fn urls_name_four_kinds_of_servers_and_nothing_else() {
        for good in ["tcp://127.0.0.1:9", "udp://[::1]:9", "unix:/tmp/s", "unixgram:@s"] {
            assert_eq!(Target::parse(good).expect(good).to_string(), good);
        }
        assert!(Target::parse("tcp://localhost:80").expect("localhost").is_local());
        assert!(!Target::parse("udp://192.0.2.1:80").expect("an address").is_local());
        for bad in
            ["", "http://127.0.0.1:9", "tcp://127.0.0.1", "tcp://127.0.0.1:x", "unix:", "unix:@"]
        {
            assert!(Target::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn loopback_sources_spread_when_ports_run_out() {
        let target = Target::parse("tcp://127.0.0.1:9").expect("good");
        let mut sources = Sources::new(&[], &target, false);
        assert_eq!(sources.pick(), None);
        assert!(sources.advance());
        assert_eq!(sources.pick(), Some("127.0.0.2".parse().expect("good")));
        let mut asked = Sources::new(&["127.0.0.9".parse().expect("good")], &target, false);
        assert_eq!(asked.pick(), Some("127.0.0.9".parse().expect("good")));
        assert!(!asked.advance());
        let mut turning = Sources::new(&[], &target, true);
        let picked: std::collections::HashSet<_> = (0..100).map(|_| turning.pick()).collect();
        assert_eq!(picked.len(), 32);
    }
}
