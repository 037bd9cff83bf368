//! Datagram sockets: received and sent in batches, with the address that was asked and what the kernel
//! dropped.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, RecvMsg, SockaddrStorage,
    recvmmsg, recvmsg, sendmmsg, sendmsg, setsockopt, sockopt,
};
use socket2::{Domain, Protocol, SockFilter, SockRef, Type};

/// Datagrams fetched or sent by one system call at most.
pub(crate) const BATCH: usize = 32;

/// What a datagram socket is made with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DatagramOptions {
    /// `[::]` serves IPv4 as well.
    pub(crate) dual_stack: bool,
    /// The kernel's receive buffer to ask for, in bytes. What was granted is reported.
    pub(crate) receive_buffer: usize,
}

/// A bound datagram socket.
#[derive(Debug)]
pub(crate) struct DatagramSocket {
    fd: OwnedFd,
    addr: SocketAddr,
    /// Bound to no single address: replies must name the one that was asked.
    wildcard: bool,
}

/// One received datagram; its bytes are in the [`Batch`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    pub(crate) peer: SocketAddr,
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

    fn keep(&mut self, message: &Arrived) {
        self.heads.push(Head {
            peer: message.peer,
            asked: message.asked,
            len: message.len.min(self.room),
            truncated: message.truncated,
        });
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
    pub(crate) peer: SocketAddr,
    /// The address it leaves from, where the socket is bound to no single one.
    pub(crate) from: Option<IpAddr>,
}

/// Datagrams to be sent, in order, in one growing buffer.
#[derive(Debug, Default)]
pub(crate) struct SendBatch {
    bytes: Vec<u8>,
    /// To whom, from where, and where its bytes end.
    heads: Vec<(SocketAddr, Option<IpAddr>, usize)>,
}

impl SendBatch {
    pub(crate) fn push(&mut self, bytes: &[u8], peer: SocketAddr, from: Option<IpAddr>) {
        self.bytes.extend_from_slice(bytes);
        self.heads.push((peer, from, self.bytes.len()));
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
        self.heads.iter().map(move |&(peer, from, end)| {
            let bytes = &self.bytes[start..end];
            start = end;
            Outgoing { bytes, peer, from }
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
    /// Binds. SO_REUSEADDR stays off: on datagram sockets it would let a second process steal the port.
    pub(crate) fn bind(addr: SocketAddr, options: &DatagramOptions) -> io::Result<Self> {
        let kind = Type::DGRAM.nonblocking().cloexec();
        let socket = socket2::Socket::new(Domain::for_address(addr), kind, Some(Protocol::UDP))?;
        if addr.is_ipv6() {
            socket.set_only_v6(!options.dual_stack)?;
        }
        socket.set_recv_buffer_size(options.receive_buffer)?;
        let fd = OwnedFd::from(socket);
        setsockopt(&fd, sockopt::RxqOvfl, &1)?;
        let wildcard = addr.ip().is_unspecified();
        if wildcard && addr.is_ipv6() {
            setsockopt(&fd, sockopt::Ipv6RecvPacketInfo, &true)?;
        } else if wildcard {
            setsockopt(&fd, sockopt::Ipv4PacketInfo, &true)?;
        }
        SockRef::from(&fd).bind(&addr.into())?;
        let addr = crate::sys::socket::local_addr(&fd)?;
        Ok(Self { fd, addr, wildcard })
    }

    /// Drops every datagram to come. Those that have arrived can still be received. It sits on the
    /// socket, not on the descriptor: only for sockets that nobody else uses.
    pub(crate) fn refuse_new(&self) -> io::Result<()> {
        const NOTHING: [SockFilter; 1] = [SockFilter::new(0x06, 0, 0, 0)];
        SockRef::from(&self.fd).attach_filter(&NOTHING)
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// The receive buffer that the kernel granted, in bytes (it doubles what is asked, up to its limit).
    pub(crate) fn receive_buffer(&self) -> io::Result<usize> {
        SockRef::from(&self.fd).recv_buffer_size()
    }

    /// Fetches at most `most` waiting datagrams into an empty batch. For one datagram recvmsg(2) is
    /// used: it costs 281 ns where a batch of 32 costs 666.
    pub(crate) fn receive(&self, batch: &mut Batch, most: usize) -> io::Result<Received> {
        batch.heads.clear();
        if most <= 1 { self.receive_one(batch) } else { self.receive_many(batch, most) }
    }

    fn receive_one(&self, batch: &mut Batch) -> io::Result<Received> {
        let mut control = nix::cmsg_space!(libc::in6_pktinfo, u32);
        control.resize(control.capacity(), 0);
        let room = batch.room;
        let mut pieces = [IoSliceMut::new(&mut batch.bytes[..room])];
        let flags = MsgFlags::MSG_DONTWAIT;
        let fd = self.fd.as_raw_fd();
        let arrived = retry(|| {
            recvmsg::<SockaddrStorage>(fd, &mut pieces, Some(&mut control), flags)
                .map(|message| Arrived::read(&message))
        })?;
        let kernel_drops = arrived.and_then(|arrived| arrived.drops);
        arrived.iter().for_each(|arrived| batch.keep(arrived));
        Ok(Received { count: batch.heads.len(), kernel_drops })
    }

    fn receive_many(&self, batch: &mut Batch, most: usize) -> io::Result<Received> {
        let most = most.min(BATCH);
        let control = nix::cmsg_space!(libc::in6_pktinfo, u32);
        // Fresh headers for every call: reused ones lose control messages for good after a datagram
        // that came without.
        let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(most, Some(control));
        let mut arrived: [Option<Arrived>; BATCH] = [const { None }; BATCH];
        {
            let mut pieces: Vec<[IoSliceMut<'_>; 1]> = batch
                .bytes
                .chunks_exact_mut(batch.room)
                .take(most)
                .map(|room| [IoSliceMut::new(room)])
                .collect();
            let flags = MsgFlags::MSG_DONTWAIT;
            let fd = self.fd.as_raw_fd();
            let messages = recvmmsg(fd, &mut headers, pieces.iter_mut(), flags, None)?;
            for (message, place) in messages.zip(arrived.iter_mut()) {
                *place = Arrived::read(&message);
            }
        }
        let kernel_drops = arrived.iter().flatten().filter_map(|arrived| arrived.drops).max();
        arrived.iter().flatten().for_each(|arrived| batch.keep(arrived));
        Ok(Received { count: batch.heads.len(), kernel_drops })
    }

    /// Sends datagrams in order and returns how many left. The first one that could not is where it
    /// stopped, with the error; the caller decides whether to skip it.
    pub(crate) fn send(&self, datagrams: &[Outgoing<'_>]) -> (usize, io::Result<()>) {
        let mut sent = 0;
        while sent < datagrams.len() {
            let rest = &datagrams[sent..];
            // One call carries one set of control messages: as many as leave from the same address.
            let same = rest.iter().take(BATCH).take_while(|d| d.from == rest[0].from).count();
            match self.send_from_one_address(&rest[..same]) {
                Ok(0) => return (sent, Err(io::ErrorKind::WriteZero.into())),
                Ok(left) => sent += left,
                Err(error) => return (sent, Err(error)),
            }
        }
        (sent, Ok(()))
    }

    fn send_from_one_address(&self, datagrams: &[Outgoing<'_>]) -> io::Result<usize> {
        let from = if self.wildcard { datagrams[0].from } else { None };
        let (v4, v6) = (from.and_then(packet_info_v4), from.map(packet_info_v6));
        let control: &[ControlMessage<'_>] = match (&v4, &v6) {
            (Some(info), _) if self.addr.is_ipv4() => &[ControlMessage::Ipv4PacketInfo(info)],
            (_, Some(info)) if self.addr.is_ipv6() => &[ControlMessage::Ipv6PacketInfo(info)],
            _ => &[],
        };
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        let fd = self.fd.as_raw_fd();
        if let [only] = datagrams {
            let to = self.wire(only.peer);
            let pieces = [IoSlice::new(only.bytes)];
            return retry(|| sendmsg(fd, &pieces, control, flags, Some(&to)).map(|_| 1));
        }
        let addrs: Vec<_> = datagrams.iter().map(|d| Some(self.wire(d.peer))).collect();
        let pieces: Vec<_> = datagrams.iter().map(|d| [IoSlice::new(d.bytes)]).collect();
        let space = nix::cmsg_space!(libc::in6_pktinfo);
        let space = if control.is_empty() { None } else { Some(space) };
        let mut headers = MultiHeaders::preallocate(datagrams.len(), space);
        Ok(sendmmsg(fd, &mut headers, &pieces, addrs, control, flags)?.count())
    }

    /// An address as this socket's family wants it: an IPv6 socket names IPv4 peers in mapped form.
    fn wire(&self, peer: SocketAddr) -> SockaddrStorage {
        match peer {
            SocketAddr::V4(v4) if self.addr.is_ipv6() => {
                SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0).into()
            }
            other => other.into(),
        }
    }
}

impl AsFd for DatagramSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What recvmsg(2) said of one datagram, copied out of its buffers.
#[derive(Clone, Copy, Debug)]
struct Arrived {
    peer: SocketAddr,
    asked: Option<IpAddr>,
    len: usize,
    truncated: bool,
    drops: Option<u32>,
}

impl Arrived {
    fn read(message: &RecvMsg<'_, '_, SockaddrStorage>) -> Option<Self> {
        let peer = message.address.as_ref().and_then(socket_addr)?;
        let mut arrived = Self {
            peer,
            asked: None,
            len: message.bytes,
            truncated: message.flags.contains(MsgFlags::MSG_TRUNC),
            drops: None,
        };
        // Control messages that did not fit are an error of ours, never of the datagram.
        for control in message.cmsgs().into_iter().flatten() {
            match control {
                ControlMessageOwned::Ipv4PacketInfo(info) => {
                    let addr = Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr));
                    arrived.asked = Some(addr.into());
                }
                ControlMessageOwned::Ipv6PacketInfo(info) => {
                    arrived.asked = Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).to_canonical());
                }
                ControlMessageOwned::RxqOvfl(drops) => arrived.drops = Some(drops),
                _ => {}
            }
        }
        Some(arrived)
    }
}

/// The peer's address; IPv4 in its own form, also where an IPv6 socket received it.
fn socket_addr(storage: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = storage.as_sockaddr_in() {
        return Some(SocketAddr::from((v4.ip(), v4.port())));
    }
    let v6 = storage.as_sockaddr_in6()?;
    Some(match v6.ip().to_canonical() {
        IpAddr::V4(mapped) => SocketAddr::from((mapped, v6.port())),
        IpAddr::V6(ip) => SocketAddrV6::new(ip, v6.port(), v6.flowinfo(), v6.scope_id()).into(),
    })
}

fn packet_info_v4(from: IpAddr) -> Option<libc::in_pktinfo> {
    let IpAddr::V4(from) = from else { return None };
    let addr = libc::in_addr { s_addr: u32::from(from).to_be() };
    let any = libc::in_addr { s_addr: 0 };
    Some(libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: addr, ipi_addr: any })
}

fn packet_info_v6(from: IpAddr) -> libc::in6_pktinfo {
    let from = match from {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    let addr = libc::in6_addr { s6_addr: from.octets() };
    libc::in6_pktinfo { ipi6_addr: addr, ipi6_ifindex: 0 }
}

fn retry<T>(mut call: impl FnMut() -> nix::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            result => return Ok(result?),
        }
    }
}
