//! The way to one peer: its socket and outbox, shared by its connection and every remote.
//!
//! Who holds the outlet's lock is the one writer. The connection's own turn writes through
//! [`Line::flush`]; a [`Remote`](crate::Remote) writes at once if nothing is pending and no turn runs,
//! else it queues and has a turn made, which writes everything together.

use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::codec::Framing;
use crate::config::Live;
use crate::outbox::{Chunk, Outbox, Pushed, SendError};
use crate::peer::{ConnectionId, Peer};
use crate::sys::socket::Socket;

/// What a line asks of the schedule that runs its connection.
pub(crate) trait Post: Send + Sync {
    /// Whether a turn of the connection runs at this moment: it will write what is queued.
    fn is_running(&self, id: ConnectionId) -> bool;
    /// Something waits in the outbox: have a turn write it.
    fn deliver(&self, id: ConnectionId);
    /// More waits than may: have a turn end the connection.
    fn overflowed(&self, id: ConnectionId);
    /// So many messages were dropped instead of being queued.
    fn skipped(&self, messages: usize);
}

/// A socket that sends datagrams to anybody.
pub(crate) trait DatagramOutlet: Send + Sync {
    fn send(&self, bytes: &[u8], peer: SocketAddr, from: Option<IpAddr>) -> Result<(), SendError>;
}

/// What all lines of one listener have in common.
pub(crate) struct LineSettings {
    pub(crate) framing: Framing,
    /// How much may wait for a peer, and what happens beyond.
    pub(crate) live: Arc<Live>,
    pub(crate) post: Weak<dyn Post>,
}

/// The way to one peer.
pub(crate) struct Line {
    pub(crate) id: ConnectionId,
    pub(crate) peer: Peer,
    pub(crate) settings: Arc<LineSettings>,
    /// No remote sends any more; what is queued is still written.
    sealed: AtomicBool,
    /// The outbox's cost, to be read without the lock.
    waiting: AtomicUsize,
    outlet: Mutex<Outlet>,
}

enum Outlet {
    Stream {
        socket: Arc<Socket>,
        outbox: Outbox,
    },
    Datagram {
        outlet: Arc<dyn DatagramOutlet>,
        peer: SocketAddr,
        from: Option<IpAddr>,
    },
    /// The connection has ended.
    Closed,
}

/// What a flush achieved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flushed {
    /// Bytes that left.
    pub(crate) sent: usize,
    /// The peer takes no more now, and something still waits.
    pub(crate) pending: bool,
}

impl Line {
    pub(crate) fn stream(
        id: ConnectionId,
        peer: Peer,
        socket: Arc<Socket>,
        settings: Arc<LineSettings>,
    ) -> Arc<Self> {
        Self::new(id, peer, settings, Outlet::Stream { socket, outbox: Outbox::default() })
    }

    pub(crate) fn datagram(
        id: ConnectionId,
        peer: Peer,
        outlet: Arc<dyn DatagramOutlet>,
        settings: Arc<LineSettings>,
    ) -> Arc<Self> {
        // A peer without an internet address has no datagram line; see `Peer::udp`.
        let addr = peer.socket_addr().unwrap_or(peer.local());
        let from = Some(peer.local().ip()).filter(|ip| !ip.is_unspecified());
        Self::new(id, peer, settings, Outlet::Datagram { outlet, peer: addr, from })
    }

    fn new(id: ConnectionId, peer: Peer, settings: Arc<LineSettings>, outlet: Outlet) -> Arc<Self> {
        let (sealed, waiting) = (AtomicBool::new(false), AtomicUsize::new(0));
        Arc::new(Self { id, peer, settings, sealed, waiting, outlet: Mutex::new(outlet) })
    }

    /// The socket of a stream that has not ended.
    pub(crate) fn socket(&self) -> Option<Arc<Socket>> {
        match &*self.outlet.lock() {
            Outlet::Stream { socket, .. } => Some(socket.clone()),
            Outlet::Datagram { .. } | Outlet::Closed => None,
        }
    }

    /// What waits to be written, in bytes.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Takes no more messages of remotes. None is on its way afterwards.
    pub(crate) fn seal(&self) {
        let _one_writer = self.outlet.lock();
        self.sealed.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_open(&self) -> bool {
        !self.sealed.load(Ordering::Relaxed)
    }

    /// Gives the socket up and forgets what is queued: the connection has ended.
    pub(crate) fn close(&self) {
        self.seal();
        let ended = std::mem::replace(&mut *self.outlet.lock(), Outlet::Closed);
        self.waiting.store(0, Ordering::Relaxed);
        drop(ended);
    }

    /// Queues a reply of the connection's own turn behind what waits already.
    pub(crate) fn append(&self, chunk: Chunk) {
        if let Outlet::Stream { outbox, .. } = &mut *self.outlet.lock() {
            outbox.append(chunk);
            self.waiting.store(outbox.cost(), Ordering::Relaxed);
        }
    }

    /// Writes as much as the peer takes now: first `own`, the replies that the running turn collected
    /// (it is empty afterwards), then what is queued. Everything goes out in as few writes as possible.
    pub(crate) fn flush(&self, own: &mut Vec<u8>) -> io::Result<Flushed> {
        let mut outlet = self.outlet.lock();
        let Outlet::Stream { socket, outbox } = &mut *outlet else {
            own.clear();
            return Ok(Flushed::default());
        };
        let mut flushed = Flushed::default();
        if !own.is_empty() {
            if outbox.is_empty() {
                flushed.sent = or_nothing(socket.send(own))?;
            }
            if flushed.sent < own.len() {
                outbox.put_first(own[flushed.sent..].to_vec());
            }
            flushed.pending = flushed.sent > 0 && !outbox.is_empty();
            own.clear();
        }
        // A write that took a part has filled the socket: trying again at once would be in vain.
        while !outbox.is_empty() && !flushed.pending {
            let mut slices = Vec::with_capacity(super::GATHERED);
            outbox.slices(&mut slices);
            let offered: usize = slices.iter().map(|slice| slice.len()).sum();
            let sent = or_nothing(socket.send_gathered(&slices))?;
            drop(slices);
            outbox.advance(sent);
            flushed.sent += sent;
            flushed.pending = sent < offered;
        }
        self.waiting.store(outbox.cost(), Ordering::Relaxed);
        Ok(flushed)
    }

    /// A remote's message: written at once if nothing is in its way, else queued under the cap.
    pub(crate) fn send_from_elsewhere(&self, chunk: Chunk) -> Result<(), SendError> {
        let Some(post) = self.settings.post.upgrade() else { return Err(SendError::Closed) };
        let mut guard = self.outlet.lock();
        if !self.is_open() {
            return Err(SendError::Closed);
        }
        let (socket, outbox) = match &mut *guard {
            Outlet::Closed => return Err(SendError::Closed),
            Outlet::Datagram { outlet, peer, from } => {
                let (to, peer, from) = (outlet.clone(), *peer, *from);
                // A refusal is logged, and a log is the user's code: not under our lock.
                drop(guard);
                return to.send(&chunk.pieces().concat(), peer, from);
            }
            Outlet::Stream { socket, outbox } => (socket, outbox),
        };
        let pushed = if outbox.is_empty() && !post.is_running(self.id) {
            let mut slices: Vec<IoSlice<'_>> = Vec::with_capacity(3);
            chunk.slices(0, &mut slices);
            // An error of the socket is the connection's to notice: its turn meets it as well.
            let sent = socket.send_gathered(&slices).unwrap_or(0);
            if sent == chunk.len() {
                return Ok(());
            }
            outbox.begin_with(chunk, sent);
            Pushed::Queued
        } else {
            let live = &self.settings.live;
            outbox.push(chunk, live.overflow(), live.marks().cap)
        };
        self.waiting.store(outbox.cost(), Ordering::Relaxed);
        drop(guard);
        self.pushed(pushed, &*post)
    }

    fn pushed(&self, pushed: Pushed, post: &dyn Post) -> Result<(), SendError> {
        match pushed {
            Pushed::Queued => post.deliver(self.id),
            Pushed::MadeRoom(dropped) => {
                post.skipped(dropped);
                post.deliver(self.id);
            }
            Pushed::Dropped => {
                post.skipped(1);
                return Err(SendError::Full);
            }
            Pushed::Overflow => {
                self.seal();
                post.overflowed(self.id);
                return Err(SendError::Full);
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Line").field("id", &self.id).field("peer", &self.peer).finish()
    }
}

/// A socket that takes nothing now has taken nothing.
fn or_nothing(result: io::Result<usize>) -> io::Result<usize> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        other => other,
    }
}
