//! Stream sockets, TCP and Unix: listening, accepting, reading and writing without ever blocking.

use std::io::{self, IoSlice};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendFlags, SocketAddrAny, SocketFlags,
    SocketType,
};
use socket2::{Domain, Protocol, SockFilter, SockRef, TcpKeepalive, Type};

use crate::peer::{Address, Credentials, UnixName};
use crate::sys::memory::MemorySocket;
use crate::sys::poll::{self, Interest, Waited};
use crate::sys::unix::{self, Bound, SocketFile};
use crate::sys::wake::Wake;

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
    /// Somebody else uses the socket as well, and serves those who are queued.
    shared: bool,
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

/// What a stream socket belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    Tcp,
    Unix,
}

impl Listener {
    pub(crate) fn tcp(
        addr: SocketAddr,
        options: &ListenOptions,
        configure: &Configure,
    ) -> io::Result<Self> {
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
        Ok(Self { file, fd, family, shared: false, refuses: AtomicBool::new(false) })
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
        let shared = shared == Shared::WithOthers;
        Ok(Self { file: None, fd, family, shared, refuses: AtomicBool::new(false) })
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
                Ok((Socket(Way::System { fd, family: self.family }), peer))
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

    /// Whether those who are queued are somebody else's.
    pub(crate) fn is_shared(&self) -> bool {
        self.shared
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

/// Options that accepted connections inherit.
fn set_tcp_options(fd: &OwnedFd, options: &ListenOptions) -> io::Result<()> {
    let socket = SockRef::from(fd);
    socket.set_tcp_nodelay(true)?;
    let (idle, interval, probes) = options.keep_alive;
    let probing = TcpKeepalive::new().with_time(idle).with_interval(interval);
    socket.set_tcp_keepalive(&probing.with_retries(probes))?;
    socket.set_tcp_user_timeout(Some(options.user_timeout))
}

/// A connected stream. Every call but [`Socket::wait`] returns at once (`WouldBlock` where it could not
/// do anything).
#[derive(Debug)]
pub(crate) struct Socket(Way);

/// Where a stream leads.
#[derive(Debug)]
pub(super) enum Way {
    /// Through the system.
    System { fd: OwnedFd, family: Family },
    /// To a test, by memory alone.
    Memory(MemorySocket),
}

impl From<MemorySocket> for Socket {
    fn from(memory: MemorySocket) -> Self {
        Self(Way::Memory(memory))
    }
}

impl Socket {
    pub(super) fn way(&self) -> &Way {
        &self.0
    }

    /// Reads what is there, at most `buffer.len()` bytes; 0 is the peer's FIN.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let fd = match &self.0 {
            Way::System { fd, .. } => fd,
            Way::Memory(memory) => return memory.receive(buffer),
        };
        loop {
            match rustix::net::recv(fd, &mut *buffer, RecvFlags::DONTWAIT) {
                Ok((read, _)) => return Ok(read),
                Err(Errno::INTR) => {}
                Err(other) => return Err(other.into()),
            }
        }
    }

    /// Writes as much of `bytes` as fits now.
    pub(crate) fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        let fd = match &self.0 {
            Way::System { fd, .. } => fd,
            Way::Memory(memory) => return memory.send(&[IoSlice::new(bytes)]),
        };
        loop {
            match rustix::net::send(fd, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Err(Errno::INTR) => {}
                result => return Ok(result?),
            }
        }
    }

    /// Writes as much of several pieces as fits now, in one system call.
    pub(crate) fn send_gathered(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let fd = match &self.0 {
            Way::System { fd, .. } => fd,
            Way::Memory(memory) => return memory.send(pieces),
        };
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        loop {
            let mut nothing_beside = SendAncillaryBuffer::default();
            match rustix::net::sendmsg(fd, pieces, &mut nothing_beside, flags) {
                Err(Errno::INTR) => {}
                result => return Ok(result?),
            }
        }
    }

    /// Sends FIN once what was written has left; reading goes on.
    pub(crate) fn finish_writing(&self) -> io::Result<()> {
        match &self.0 {
            Way::System { fd, .. } => SockRef::from(fd).shutdown(Shutdown::Write),
            Way::Memory(memory) => memory.finish_writing(),
        }
    }

    /// Makes the close that follows a reset: what was not sent is thrown away.
    pub(crate) fn reset_on_close(&self) -> io::Result<()> {
        match &self.0 {
            Way::System { fd, .. } => SockRef::from(fd).set_linger(Some(Duration::ZERO))?,
            Way::Memory(memory) => memory.reset_on_close(),
        }
        Ok(())
    }

    /// Whether bytes of the peer wait to be read. Closing on them would reset the connection, and the
    /// peer might lose what it was sent last.
    pub(crate) fn has_unread(&self) -> bool {
        match &self.0 {
            Way::System { fd, .. } => rustix::io::ioctl_fionread(fd).is_ok_and(|bytes| bytes > 0),
            Way::Memory(memory) => memory.has_unread(),
        }
    }

    /// Whether the peer is gone for good: it reset the connection, or both directions are closed.
    pub(crate) fn is_gone(&self) -> bool {
        match &self.0 {
            Way::System { fd, .. } => poll::is_gone(fd),
            Way::Memory(memory) => memory.is_gone(),
        }
    }

    /// Waits until the stream is ready, or for the wake-up beside it, for at most `timeout`. Where both
    /// are ready the wake-up wins. In memory nothing is waited for: the test says what happens.
    pub(crate) fn wait(
        &self,
        interest: Interest,
        wake: Option<&Wake>,
        timeout: Option<Duration>,
    ) -> io::Result<Waited> {
        match &self.0 {
            Way::System { fd, .. } => poll::wait_one(fd, interest, wake, timeout),
            Way::Memory(memory) => Ok(memory.wait(interest, timeout)),
        }
    }

    pub(crate) fn local(&self) -> io::Result<Address> {
        Ok(match &self.0 {
            Way::System { fd, family: Family::Tcp } => Address::Tcp(local_addr(fd)?),
            Way::System { fd, family: Family::Unix } => Address::Unix(unix::local_name(fd)?),
            Way::Memory(_) => return Err(io::ErrorKind::Unsupported.into()),
        })
    }

    /// Who connected, as the kernel says; of Unix sockets only.
    pub(crate) fn credentials(&self) -> Option<Credentials> {
        let Way::System { fd, family: Family::Unix } = &self.0 else { return None };
        let peer = getsockopt(fd, PeerCredentials).ok()?;
        let pid = u32::try_from(peer.pid()).ok().filter(|&pid| pid > 0);
        Some(Credentials { pid, uid: peer.uid(), gid: peer.gid() })
    }

    /// Whether the poller is to be asked for room to write only when there is need for it: a Unix
    /// socket announces room at every read of its peer, TCP only after it was full.
    pub(crate) fn announces_much_room(&self) -> bool {
        matches!(&self.0, Way::System { family: Family::Unix, .. })
    }
}

/// Makes the close that follows a reset, of a client's connection.
pub(crate) fn reset_at_close(client: &TcpStream) -> io::Result<()> {
    SockRef::from(client).set_linger(Some(Duration::ZERO))
}

fn inet(addr: SocketAddrAny) -> Option<SocketAddr> {
    SocketAddr::try_from(addr).ok()
}

/// The address that an internet socket is bound to.
pub(crate) fn local_addr(socket: impl AsFd) -> io::Result<SocketAddr> {
    let addr = rustix::net::getsockname(socket)?;
    SocketAddr::try_from(addr).map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;

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

        let Way::System { fd, .. } = &socket.0 else { panic!("it came from the system") };
        let accepted = SockRef::from(fd);
        assert!(accepted.tcp_nodelay().expect("an option"));
        assert!(accepted.keepalive().expect("an option"));
        assert_eq!(accepted.tcp_keepalive_time().expect("an option"), Duration::from_secs(60));
        assert_eq!(accepted.tcp_keepalive_retries().expect("an option"), 3);
        let user_timeout = accepted.tcp_user_timeout().expect("an option");
        assert_eq!(user_timeout, Some(Duration::from_secs(60)));
        assert!(accepted.nonblocking().expect("an option"));
    }
}
