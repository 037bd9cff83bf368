//! Stream sockets: listening, accepting, reading and writing without ever blocking.

use std::io::{self, IoSlice};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, SocketFlags};
use socket2::{Domain, Protocol, SockFilter, SockRef, TcpKeepalive, Type};

/// What a listening TCP socket is made with. Accepted connections inherit all of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ListenOptions {
    /// Finished handshakes that may wait for accept(2); the kernel clips it to `somaxconn`.
    pub(crate) backlog: u32,
    /// `[::]` serves IPv4 as well.
    pub(crate) dual_stack: bool,
    /// Silence after which the kernel probes a connection, the probes' interval and their number.
    pub(crate) keep_alive: (Duration, Duration, u32),
    /// How long sent data may stay unacknowledged: keep-alive does nothing while some does.
    pub(crate) user_timeout: Duration,
}

/// A listening TCP socket.
#[derive(Debug)]
pub(crate) struct Listener(OwnedFd);

impl Listener {
    pub(crate) fn bind(addr: SocketAddr, options: &ListenOptions) -> io::Result<Self> {
        let mut socket = Self::prepare(addr, options)?;
        socket.bind(&addr.into())?;
        if addr.port() == 0 {
            // A port that the system chose is lost when the socket stops listening, one that was asked for
            // is kept. So it is asked for now, by a second socket while the first one holds it.
            let named = Self::prepare(addr, options)?;
            named.bind(&socket.local_addr()?)?;
            socket = named;
        }
        socket.listen(i32::try_from(options.backlog).unwrap_or(i32::MAX))?;
        Ok(Self(socket.into()))
    }

    /// A socket with all options, not bound yet.
    fn prepare(addr: SocketAddr, options: &ListenOptions) -> io::Result<socket2::Socket> {
        let kind = Type::STREAM.nonblocking().cloexec();
        let socket = socket2::Socket::new(Domain::for_address(addr), kind, Some(Protocol::TCP))?;
        if addr.is_ipv6() {
            socket.set_only_v6(!options.dual_stack)?;
        }
        // Without it a restart fails while connections of the last run are in TIME_WAIT.
        socket.set_reuse_address(true)?;
        socket.set_tcp_nodelay(true)?;
        let (idle, interval, probes) = options.keep_alive;
        let probing = TcpKeepalive::new().with_time(idle).with_interval(interval);
        socket.set_tcp_keepalive(&probing.with_retries(probes))?;
        socket.set_tcp_user_timeout(Some(options.user_timeout))?;
        Ok(socket)
    }

    /// The next queued connection and the address accept(2) returned: asking the socket for it later
    /// fails when the peer has reset the connection meanwhile.
    pub(crate) fn accept(&self) -> io::Result<(Socket, Option<SocketAddr>)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (fd, peer) = rustix::net::acceptfrom_with(&self.0, flags)?;
        Ok((Socket(fd), peer.and_then(|peer| SocketAddr::try_from(peer).ok())))
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        local_addr(&self.0)
    }

    /// Drops the first packet of every connection to come, and nothing else, so that handshakes under
    /// way complete and those who are queued can be accepted. Closing at once reset every queued
    /// client, and `listen(fd, 0)` reset 27 of 200; with this filter it was none. It sits on the
    /// socket, not on the descriptor: only for sockets that nobody else uses.
    pub(crate) fn refuse_new(&self) -> io::Result<()> {
        // A filter on a listening TCP socket sees the TCP header at offset 0; byte 13 has the flags.
        const ONLY_NEW: [SockFilter; 5] = [
            SockFilter::new(0x30, 0, 0, 13),       // load the byte with the flags
            SockFilter::new(0x54, 0, 0, 0x12),     // keep SYN and ACK
            SockFilter::new(0x15, 0, 1, 0x02),     // SYN alone? the next line, else skip it
            SockFilter::new(0x06, 0, 0, 0),        // drop
            SockFilter::new(0x06, 0, 0, u32::MAX), // pass whole
        ];
        SockRef::from(&self.0).attach_filter(&ONLY_NEW)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A connected stream. Every call returns at once (`WouldBlock` where it could not do anything).
#[derive(Debug)]
pub(crate) struct Socket(OwnedFd);

impl Socket {
    /// Reads what is there, at most `buffer.len()` bytes; 0 is the peer's FIN.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match rustix::net::recv(&self.0, &mut *buffer, RecvFlags::DONTWAIT) {
                Ok((read, _)) => return Ok(read),
                Err(rustix::io::Errno::INTR) => {}
                Err(other) => return Err(other.into()),
            }
        }
    }

    /// Writes as much of `bytes` as fits now.
    pub(crate) fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match rustix::net::send(&self.0, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Err(rustix::io::Errno::INTR) => {}
                result => return Ok(result?),
            }
        }
    }

    /// Writes as much of several pieces as fits now, in one system call.
    pub(crate) fn send_gathered(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        loop {
            let mut nothing_beside = SendAncillaryBuffer::default();
            match rustix::net::sendmsg(&self.0, pieces, &mut nothing_beside, flags) {
                Err(rustix::io::Errno::INTR) => {}
                result => return Ok(result?),
            }
        }
    }

    /// Sends FIN once what was written has left; reading goes on.
    pub(crate) fn finish_writing(&self) -> io::Result<()> {
        SockRef::from(&self.0).shutdown(Shutdown::Write)
    }

    /// Makes the close that follows a reset: what was not sent is thrown away.
    pub(crate) fn reset_on_close(&self) -> io::Result<()> {
        SockRef::from(&self.0).set_linger(Some(Duration::ZERO))
    }

    /// Whether bytes of the peer wait to be read. Closing on them would reset the connection, and the
    /// peer might lose what it was sent last.
    pub(crate) fn has_unread(&self) -> bool {
        rustix::io::ioctl_fionread(&self.0).is_ok_and(|bytes| bytes > 0)
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        local_addr(&self.0)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The address a socket is bound to.
pub(crate) fn local_addr(socket: impl AsFd) -> io::Result<SocketAddr> {
    let addr = rustix::net::getsockname(socket)?;
    SocketAddr::try_from(addr).map_err(io::Error::from)
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
            keep_alive: (Duration::from_secs(60), Duration::from_secs(10), 3),
            user_timeout: Duration::from_secs(60),
        };
        let listener = Listener::bind(([127, 0, 0, 1], 0).into(), &options).expect("a port");
        let addr = listener.local_addr().expect("its address");
        let client = TcpStream::connect(addr).expect("a connection");
        let waited = crate::sys::poll::wait_one(
            &listener,
            crate::sys::poll::Interest::Read,
            None,
            Some(Duration::from_secs(10)),
        );
        assert_eq!(waited.expect("a wait"), crate::sys::poll::Waited::Socket);
        let (socket, peer) = listener.accept().expect("the connection");
        assert_eq!(peer, client.local_addr().ok());

        let accepted = SockRef::from(&socket.0);
        assert!(accepted.tcp_nodelay().expect("an option"));
        assert!(accepted.keepalive().expect("an option"));
        assert_eq!(accepted.tcp_keepalive_time().expect("an option"), Duration::from_secs(60));
        assert_eq!(accepted.tcp_keepalive_retries().expect("an option"), 3);
        let user_timeout = accepted.tcp_user_timeout().expect("an option");
        assert_eq!(user_timeout, Some(Duration::from_secs(60)));
        assert!(accepted.nonblocking().expect("an option"));
    }
}
