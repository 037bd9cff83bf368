//! Listening sockets, TCP and Unix: bound or taken over, accepting, refusing newcomers.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrAny, SocketFlags, SocketType};
use socket2::{Domain, Protocol, SockFilter, SockRef, TcpKeepalive, Type};

use crate::peer::{Address, UnixName};
use crate::sys::socket::{Family, Socket, local_addr};
use crate::sys::unix::{self, Bound, SocketFile};

/// What a listening socket is made with. Accepted connections inherit all of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ListenOptions {
    /// Finished handshakes that may wait for accept(2); the kernel clips it to `somaxconn`.
    pub(crate) backlog: u32,
    /// `[::]` serves IPv4 as well.
    pub(crate) dual_stack: bool,
    /// Other sockets of ours listen on the same port.
    pub(crate) reuse_port: bool,
    /// The permissions of a Unix socket's file; else the umask decides.
    pub(crate) mode: Option<u32>,
    /// Silence after which the kernel probes a connection, the probes' interval and their number.
    pub(crate) keep_alive: (Duration, Duration, u32),
    /// How long sent data may stay unacknowledged: keep-alive does nothing while some does.
    pub(crate) user_timeout: Duration,
}

/// What the program does to a socket once it is bound, before anybody is heard.
pub(crate) type Configure = dyn Fn(BorrowedFd<'_>) -> io::Result<()> + Send + Sync;

/// A listening socket, TCP or Unix.
#[derive(Debug)]
pub(crate) struct Listener {
    /// Dropped, and so taken away, before the socket is closed.
    file: Option<SocketFile>,
    fd: OwnedFd,
    family: Family,
    origin: Origin,
    /// It takes nobody any more.
    refuses: AtomicBool,
}

/// Who has a socket that was taken over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Shared {
    /// This server alone.
    #[default]
    WithNobody,
    /// Another process as well: what is queued is as much the other's.
    WithOthers,
}

/// Where a listening socket is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// We have bound it.
    Ours,
    /// The program has bound it.
    TakenOver,
    /// Somebody else uses it as well, and serves those who are queued.
    Shared,
}

impl Listener {
    pub(crate) fn tcp(
        addr: SocketAddr,
        options: &ListenOptions,
        configure: &Configure,
    ) -> io::Result<Self> {
        let mut fd = bind_tcp(addr, options)?;
        if addr.port() == 0 {
            // A port that the system chose is lost when the socket stops listening, one that was asked for
            // is kept. So it is asked for now, by a second socket while the first one holds it.
            fd = bind_tcp(local_addr(&fd)?, options)?;
        }
        configure(fd.as_fd())?;
        Self::listen(Bound { fd, file: None }, Family::Tcp, options)
    }

    pub(crate) fn unix(
        name: &UnixName,
        options: &ListenOptions,
        configure: &Configure,
    ) -> io::Result<Self> {
        let bound = unix::bind(name, SocketType::STREAM, options.mode)?;
        configure(bound.fd.as_fd())?;
        Self::listen(bound, Family::Unix, options)
    }

    fn listen(bound: Bound, family: Family, options: &ListenOptions) -> io::Result<Self> {
        let backlog = i32::try_from(options.backlog).unwrap_or(i32::MAX);
        rustix::net::listen(&bound.fd, backlog)?;
        let Bound { fd, file } = bound;
        Ok(Self { file, fd, family, origin: Origin::Ours, refuses: AtomicBool::new(false) })
    }

    /// Takes over a listening socket that the program has made, or was given.
    pub(crate) fn adopt(
        fd: OwnedFd,
        options: &ListenOptions,
        configure: &Configure,
        shared: Shared,
    ) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC)?;
        let family = match rustix::net::sockopt::socket_domain(&fd)? {
            AddressFamily::UNIX => Family::Unix,
            _ => Family::Tcp,
        };
        if family == Family::Tcp {
            set_tcp_options(&fd, options)?;
        }
        configure(fd.as_fd())?;
        let origin = match shared {
            Shared::WithNobody => Origin::TakenOver,
            Shared::WithOthers => Origin::Shared,
        };
        Ok(Self { file: None, fd, family, origin, refuses: AtomicBool::new(false) })
    }

    /// The next queued connection and the address accept(2) returned: asking the socket for it later
    /// fails when the peer has reset the connection meanwhile.
    pub(crate) fn accept(&self) -> io::Result<(Socket, Option<Address>)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        match rustix::net::acceptfrom_with(&self.fd, flags) {
            Ok((fd, peer)) => {
                let peer = match self.family {
                    Family::Tcp => peer.and_then(inet).map(Address::Tcp),
                    Family::Unix => Some(Address::Unix(unix::from_system(peer))),
                };
                Ok((Socket::accepted(fd, self.family), peer))
            }
            // A Unix listener that was shut down says so once nobody is queued any more.
            Err(Errno::INVAL) if self.is_shut() => Err(io::ErrorKind::WouldBlock.into()),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn local(&self) -> io::Result<Address> {
        Ok(match self.family {
            Family::Tcp => Address::Tcp(local_addr(&self.fd)?),
            Family::Unix => Address::Unix(unix::local_name(&self.fd)?),
        })
    }

    /// Whether it was shut down, as a Unix listener is that refuses newcomers: it is announced for
    /// ever, and once its queue is empty nobody comes any more.
    pub(crate) fn is_shut(&self) -> bool {
        self.family == Family::Unix && self.refuses.load(Ordering::Relaxed)
    }

    /// Whether it can listen no more and then again, under the same name: a TCP socket that we have bound.
    pub(crate) fn can_refuse(&self) -> bool {
        self.family == Family::Tcp && self.origin == Origin::Ours
    }

    /// Whether those who are queued are somebody else's.
    pub(crate) fn is_shared(&self) -> bool {
        self.origin == Origin::Shared
    }

    /// Takes nobody any more beside those who are queued: these can still be accepted. For sockets that
    /// nobody else uses, since it acts on the socket and not on the descriptor.
    pub(crate) fn refuse_new(&self) -> io::Result<()> {
        self.refuses.store(true, Ordering::Relaxed);
        match self.family {
            Family::Tcp => self.drop_new_handshakes(),
            Family::Unix => {
                // While it is still alive; see there.
                self.file.iter().for_each(SocketFile::remove);
                SockRef::from(&self.fd).shutdown(Shutdown::Read)
            }
        }
    }

    /// Drops the first packet of every connection to come, and nothing else, so that handshakes under
    /// way complete and those who are queued can be accepted. Closing at once reset every queued
    /// client, and `listen(fd, 0)` reset 27 of 200; with this filter it was none.
    fn drop_new_handshakes(&self) -> io::Result<()> {
        // A filter on a listening TCP socket sees the TCP header at offset 0; byte 13 has the flags.
        const ONLY_NEW: [SockFilter; 5] = [
            SockFilter::new(0x30, 0, 0, 13),       // load the byte with the flags
            SockFilter::new(0x54, 0, 0, 0x12),     // keep SYN and ACK
            SockFilter::new(0x15, 0, 1, 0x02),     // SYN alone? the next line, else skip it
            SockFilter::new(0x06, 0, 0, 0),        // drop
            SockFilter::new(0x06, 0, 0, u32::MAX), // pass whole
        ];
        SockRef::from(&self.fd).attach_filter(&ONLY_NEW)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A TCP socket with all options, bound.
fn bind_tcp(addr: SocketAddr, options: &ListenOptions) -> io::Result<OwnedFd> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = socket2::Socket::new(Domain::for_address(addr), kind, Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(!options.dual_stack)?;
    }
    // Without it a restart fails while connections of the last run are in TIME_WAIT.
    socket.set_reuse_address(true)?;
    if options.reuse_port {
        socket.set_reuse_port(true)?;
    }
    let fd = OwnedFd::from(socket);
    set_tcp_options(&fd, options)?;
    SockRef::from(&fd).bind(&addr.into())?;
    Ok(fd)
}

/// Options that accepted connections inherit.
fn set_tcp_options(fd: &OwnedFd, options: &ListenOptions) -> io::Result<()> {
    let socket = SockRef::from(fd);
    socket.set_tcp_nodelay(true)?;
    let (idle, interval, probes) = options.keep_alive;
    let probing = TcpKeepalive::new().with_time(idle).with_interval(interval);
    socket.set_tcp_keepalive(&probing.with_retries(probes))?;
    socket.set_tcp_user_timeout(Some(options.user_timeout))
}

fn inet(addr: SocketAddrAny) -> Option<SocketAddr> {
    SocketAddr::try_from(addr).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    #[test]
    fn accepted_connections_inherit_the_listeners_options() {
        let options = ListenOptions {
            backlog: 16,
            dual_stack: false,
            reuse_port: false,
            mode: None,
            keep_alive: (Duration::from_secs(60), Duration::from_secs(10), 3),
            user_timeout: Duration::from_secs(60),
        };
        let listener =
            Listener::tcp(([127, 0, 0, 1], 0).into(), &options, &|_| Ok(())).expect("a port");
        let addr =
            listener.local().ok().and_then(|local| local.socket_addr()).expect("its address");
        let client = TcpStream::connect(addr).expect("a connection");
        let waited = crate::sys::poll::wait_one(
            &listener,
            crate::sys::poll::Interest::Read,
            None,
            Some(Duration::from_secs(10)),
        );
        assert_eq!(waited.expect("a wait"), crate::sys::poll::Waited::Socket);
        let (socket, peer) = listener.accept().expect("the connection");
        assert_eq!(peer, client.local_addr().ok().map(Address::Tcp));

        let accepted = SockRef::from(socket.descriptor());
        assert!(accepted.tcp_nodelay().expect("an option"));
        assert!(accepted.keepalive().expect("an option"));
        assert_eq!(accepted.tcp_keepalive_time().expect("an option"), Duration::from_secs(60));
        assert_eq!(accepted.tcp_keepalive_retries().expect("an option"), 3);
        let user_timeout = accepted.tcp_user_timeout().expect("an option");
        assert_eq!(user_timeout, Some(Duration::from_secs(60)));
        assert!(accepted.nonblocking().expect("an option"));
    }
}
