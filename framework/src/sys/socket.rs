//! Connected streams, TCP and Unix: reading and writing without ever blocking.

use std::io::{self, IoSlice};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags};
use socket2::SockRef;

use crate::peer::{Address, Credentials};
use crate::sys::memory::MemorySocket;
use crate::sys::poll::{self, Interest, Waited};
use crate::sys::unix;
use crate::sys::wake::Wake;

/// What a stream socket belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    Tcp,
    Unix,
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
    pub(super) fn accepted(fd: OwnedFd, family: Family) -> Self {
        Self(Way::System { fd, family })
    }

    /// Its descriptor, for a look at its options.
    #[cfg(test)]
    pub(super) fn descriptor(&self) -> &OwnedFd {
        match &self.0 {
            Way::System { fd, .. } => fd,
            Way::Memory(_) => panic!("it came from the system"),
        }
    }

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

/// The address that an internet socket is bound to.
pub(crate) fn local_addr(socket: impl AsFd) -> io::Result<SocketAddr> {
    let addr = rustix::net::getsockname(socket)?;
    SocketAddr::try_from(addr).map_err(io::Error::from)
}
