//! Datagrams on their way in and out, in batches, and the sockets that take and give them.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::AddressFamily;
use socket2::{SockFilter, SockRef};

use crate::peer::{Address, UnixName};
use crate::sys::inet_datagrams::InetDatagrams;
use crate::sys::listener::Configure;
use crate::sys::memory_datagrams::MemoryDatagrams;
use crate::sys::unix_datagrams::UnixDatagrams;

/// Datagrams fetched or sent by one system call at most.
pub(crate) const BATCH: usize = 32;

/// What a datagram socket is made with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DatagramOptions {
    /// `[::]` serves IPv4 as well.
    pub(crate) dual_stack: bool,
    /// Other sockets of ours are bound to the same port.
    pub(crate) reuse_port: bool,
    /// The permissions of a Unix socket's file; else the umask decides.
    pub(crate) mode: Option<u32>,
    /// The kernel's buffer to ask for, in bytes: to receive into, or over Unix sockets to send from, which
    /// is where the datagrams lie there until they are read.
    pub(crate) buffer: usize,
}

/// A bound datagram socket.
#[derive(Debug)]
pub(crate) enum DatagramSocket {
    Inet(InetDatagrams),
    Unix(UnixDatagrams),
    /// To a test, by memory alone.
    Memory(MemoryDatagrams),
}

/// One received datagram; its bytes are in the [`Batch`].
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) peer: Address,
    /// The address the peer sent to, where the socket is bound to no single one.
    pub(crate) asked: Option<IpAddr>,
    pub(crate) len: usize,
    /// It was longer than the room for it: the rest is lost.
    pub(crate) truncated: bool,
}

/// Room for [`BATCH`] datagrams, and those that the last receive put there.
#[derive(Debug)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    room: usize,
    heads: Vec<Head>,
}

impl Batch {
    /// Room for datagrams of at most `room` bytes. The pages are touched only where data arrives.
    pub(crate) fn new(room: usize) -> Self {
        let room = room.max(1);
        Self { bytes: vec![0; room * BATCH], room, heads: Vec::with_capacity(BATCH) }
    }

    pub(crate) fn get(&self, index: usize) -> Option<(&Head, &[u8])> {
        let head = self.heads.get(index)?;
        let start = index * self.room;
        Some((head, self.bytes.get(start..start + head.len)?))
    }

    pub(crate) fn len(&self) -> usize {
        self.heads.len()
    }

    pub(super) fn clear(&mut self) {
        self.heads.clear();
    }

    /// Where each datagram is put, in order.
    pub(super) fn rooms(&mut self) -> impl Iterator<Item = &mut [u8]> {
        self.bytes.chunks_exact_mut(self.room)
    }

    /// Where the next datagram is put, if there is room for one.
    pub(super) fn next_room(&mut self) -> Option<&mut [u8]> {
        let start = self.heads.len() * self.room;
        self.bytes.get_mut(start..start + self.room)
    }

    /// Takes note of the datagram that was put into the next room.
    pub(super) fn keep(&mut self, head: Head) {
        let len = head.len.min(self.room);
        self.heads.push(Head { len, ..head });
    }
}

/// What a receive has to say beside the datagrams themselves.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Received {
    pub(crate) count: usize,
    /// Datagrams that the kernel has dropped so far for want of buffer, where it said so.
    pub(crate) kernel_drops: Option<u32>,
}

/// A datagram to be sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outgoing<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) peer: &'a Address,
    /// The address it leaves from, where the socket is bound to no single one.
    pub(crate) from: Option<IpAddr>,
}

/// Datagrams to be sent, in order, in one growing buffer.
#[derive(Debug, Default)]
pub(crate) struct SendBatch {
    bytes: Vec<u8>,
    /// To whom, from where, and where its bytes end.
    heads: Vec<(Address, Option<IpAddr>, usize)>,
}

impl SendBatch {
    pub(crate) fn push(&mut self, bytes: &[u8], peer: &Address, from: Option<IpAddr>) {
        self.bytes.extend_from_slice(bytes);
        self.heads.push((peer.clone(), from, self.bytes.len()));
    }

    pub(crate) fn len(&self) -> usize {
        self.heads.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    /// The bytes of all of them together.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Whether so many are together that they are better sent.
    pub(crate) fn is_full(&self) -> bool {
        self.len() >= BATCH || self.bytes.len() >= 64 * 1024
    }

    /// Gives back what a flood of replies made it grow to.
    pub(crate) fn tidy(&mut self) {
        self.heads.shrink_to(4 * BATCH);
        self.bytes.shrink_to(256 * 1024);
    }

    pub(crate) fn clear(&mut self) {
        self.heads.clear();
        self.bytes.clear();
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Outgoing<'_>> {
        let mut start = 0;
        self.heads.iter().map(move |(peer, from, end)| {
            let bytes = &self.bytes[start..*end];
            start = *end;
            Outgoing { bytes, peer, from: *from }
        })
    }

    /// Forgets the first `count`: they have been sent.
    pub(crate) fn forget(&mut self, count: usize) {
        if count >= self.heads.len() {
            return self.clear();
        }
        let Some(&(_, _, gone)) = count.checked_sub(1).and_then(|last| self.heads.get(last)) else {
            return;
        };
        self.heads.drain(..count);
        self.bytes.drain(..gone);
        for head in &mut self.heads {
            head.2 -= gone;
        }
    }
}

impl DatagramSocket {
    pub(crate) fn udp(
        addr: SocketAddr,
        options: &DatagramOptions,
        configure: &Configure,
    ) -> io::Result<Self> {
        InetDatagrams::bind(addr, options, configure).map(Self::Inet)
    }

    pub(crate) fn unix(
        name: &UnixName,
        options: &DatagramOptions,
        configure: &Configure,
    ) -> io::Result<Self> {
        UnixDatagrams::bind(name, options, configure).map(Self::Unix)
    }

    /// Takes over a socket that the program has made, or was given.
    pub(crate) fn adopt(
        fd: OwnedFd,
        options: &DatagramOptions,
        configure: &Configure,
    ) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC)?;
        match rustix::net::sockopt::socket_domain(&fd)? {
            AddressFamily::UNIX => UnixDatagrams::adopt(fd, configure).map(Self::Unix),
            _ => InetDatagrams::adopt(fd, options, configure).map(Self::Inet),
        }
    }

    pub(crate) fn in_memory(local: Address) -> Self {
        Self::Memory(MemoryDatagrams::new(local))
    }

    /// The other side of a socket in memory.
    pub(crate) fn memory(&self) -> Option<&MemoryDatagrams> {
        match self {
            Self::Memory(socket) => Some(socket),
            Self::Inet(_) | Self::Unix(_) => None,
        }
    }

    pub(super) fn descriptor(&self) -> io::Result<BorrowedFd<'_>> {
        match self {
            Self::Inet(socket) => Ok(socket.as_fd()),
            Self::Unix(socket) => Ok(socket.as_fd()),
            Self::Memory(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    pub(crate) fn local(&self) -> Address {
        match self {
            Self::Inet(socket) => Address::Udp(socket.local_addr()),
            Self::Unix(socket) => Address::UnixGram(socket.name().clone()),
            Self::Memory(socket) => socket.local().clone(),
        }
    }

    /// Drops every datagram to come. Those that have arrived can still be received. It sits on the
    /// socket, not on the descriptor: only for sockets that nobody else uses.
    pub(crate) fn refuse_new(&self) -> io::Result<()> {
        const NOTHING: [SockFilter; 1] = [SockFilter::new(0x06, 0, 0, 0)];
        match self {
            Self::Inet(socket) => SockRef::from(&socket.as_fd()).attach_filter(&NOTHING),
            Self::Unix(socket) => socket.refuse_new(&NOTHING),
            Self::Memory(socket) => {
                socket.refuse_new();
                Ok(())
            }
        }
    }

    /// The receive buffer that the kernel granted, in bytes (it doubles what is asked, up to its limit).
    /// Over Unix sockets nothing hangs on it: what waits is charged to its senders, who wait when the
    /// queue is full.
    pub(crate) fn receive_buffer(&self) -> io::Result<usize> {
        match self {
            Self::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
            Self::Inet(_) | Self::Memory(_) => {
                SockRef::from(&self.descriptor()?).recv_buffer_size()
            }
        }
    }

    /// Fetches at most `most` waiting datagrams into an empty batch.
    pub(crate) fn receive(&self, batch: &mut Batch, most: usize) -> io::Result<Received> {
        batch.clear();
        match self {
            Self::Inet(socket) => socket.receive(batch, most),
            Self::Unix(socket) => socket.receive(batch, most),
            Self::Memory(socket) => socket.receive(batch, most),
        }
    }

    /// Sends datagrams in order and returns how many left. The first one that could not is where it
    /// stopped, with the error; the caller decides whether to skip it.
    pub(crate) fn send(&self, datagrams: &[Outgoing<'_>]) -> (usize, io::Result<()>) {
        match self {
            Self::Inet(socket) => socket.send(datagrams),
            Self::Unix(socket) => socket.send(datagrams),
            Self::Memory(socket) => socket.send(datagrams),
        }
    }

    /// Whether a socket that takes no datagram now may take one for somebody else: each Unix peer has a
    /// queue of its own, and nothing says when there is room in it.
    pub(crate) fn fills_up_by_peer(&self) -> bool {
        matches!(self, Self::Unix(_))
    }
}
