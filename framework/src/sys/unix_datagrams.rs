//! Unix datagram sockets: one datagram a system call, from peers that have a name or none.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvFlags, ReturnFlags, SendFlags, SocketType};
use socket2::{SockFilter, SockRef};

use crate::peer::{Address, UnixName};
use crate::sys::datagrams::{Batch, DatagramOptions, Head, Outgoing, Received};
use crate::sys::listener::Configure;
use crate::sys::unix::{self, SocketFile};

/// A bound Unix datagram socket.
#[derive(Debug)]
pub(crate) struct UnixDatagrams {
    /// Dropped, and so taken away, before the socket is closed.
    _file: Option<SocketFile>,
    fd: OwnedFd,
    name: UnixName,
    /// A filter of ours drops what is to come.
    refuses: AtomicBool,
}

impl UnixDatagrams {
    pub(super) fn bind(
        name: &UnixName,
        options: &DatagramOptions,
        configure: &Configure,
    ) -> io::Result<Self> {
        let bound = unix::bind(name, SocketType::DGRAM, options.mode)?;
        // What peers have not read yet is charged to the sender's buffer: the larger it is, the more
        // of them must leave their replies unread before others go without.
        SockRef::from(&bound.fd).set_send_buffer_size(options.buffer)?;
        let mut socket = Self::adopt(bound.fd, configure)?;
        socket._file = bound.file;
        Ok(socket)
    }

    /// Takes over a socket as it is: its buffer is whoever's choice who made it.
    pub(super) fn adopt(fd: OwnedFd, configure: &Configure) -> io::Result<Self> {
        configure(fd.as_fd())?;
        let name = unix::local_name(&fd)?;
        Ok(Self { _file: None, fd, name, refuses: AtomicBool::new(false) })
    }

    /// Drops every datagram to come, by this filter.
    pub(super) fn refuse_new(&self, filter: &[SockFilter]) -> io::Result<()> {
        SockRef::from(&self.fd).attach_filter(filter)?;
        self.refuses.store(true, Ordering::SeqCst);
        Ok(())
    }

    pub(super) const fn name(&self) -> &UnixName {
        &self.name
    }

    /// (One at a time: there is no batch here that would be safe, and a system call costs 0.1 us.)
    pub(super) fn receive(&self, batch: &mut Batch, most: usize) -> io::Result<Received> {
        while batch.len() < most
            && let Some(room) = batch.next_room()
        {
            match self.receive_one(room) {
                Ok(head) => batch.keep(head),
                // What went before is worth more than the news that it was the last.
                Err(_) if batch.len() > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(Received { count: batch.len(), kernel_drops: None })
    }

    fn receive_one(&self, room: &mut [u8]) -> io::Result<Head> {
        loop {
            // Without room for control messages the kernel closes descriptors that somebody sends along.
            let mut nothing_beside = RecvAncillaryBuffer::default();
            let mut pieces = [IoSliceMut::new(room)];
            let flags = RecvFlags::DONTWAIT;
            match rustix::net::recvmsg(&self.fd, &mut pieces, &mut nothing_beside, flags) {
                Ok(message) => {
                    return Ok(Head {
                        peer: Address::UnixGram(unix::from_system(message.address)),
                        asked: None,
                        len: message.bytes,
                        truncated: message.flags.contains(ReturnFlags::TRUNC),
                    });
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    pub(super) fn send(&self, datagrams: &[Outgoing<'_>]) -> (usize, io::Result<()>) {
        for (sent, datagram) in datagrams.iter().enumerate() {
            if let Err(error) = self.send_one(datagram) {
                return (sent, Err(error));
            }
        }
        (datagrams.len(), Ok(()))
    }

    fn send_one(&self, datagram: &Outgoing<'_>) -> io::Result<()> {
        let name = match datagram.peer {
            Address::UnixGram(name) if !name.is_unnamed() => unix::to_system(name)?,
            other => {
                let text = format!("{other} cannot be answered");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
        };
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        loop {
            match rustix::net::sendto(&self.fd, datagram.bytes, flags, &name) {
                Err(Errno::INTR) => {}
                sent => return Ok(sent.map(|_| ())?),
            }
        }
    }
}

/// A filter outlives the socket for as long as a peer is connected to it, and goes on to take what that
/// one sends, as if somebody were there. Without it the peer learns that nobody is.
impl Drop for UnixDatagrams {
    fn drop(&mut self) {
        if self.refuses.load(Ordering::SeqCst) {
            drop(SockRef::from(&self.fd).detach_filter());
        }
    }
}

impl AsFd for UnixDatagrams {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
