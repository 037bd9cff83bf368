//! The way to one peer: its socket and outbox, shared by its connection and every remote.
//!
//! Who holds the outlet's lock is the one writer. The connection's own turn writes through
//! [`Line::flush`]; a [`Remote`](crate::Remote) writes at once if nothing is pending and no turn runs,
//! else it queues and has a turn made, which writes everything together.

use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use crate::codec::Framing;
use crate::config::Live;
use crate::filter::Filter;
use crate::outbox::lane::Due;
use crate::outbox::share::Memberships;
use crate::outbox::{Chunk, Extent, Outbox, Pushed, SendError};
use crate::peer::{Address, ConnectionId, Peer};
use crate::sys::poll::{Interest, Waited};
use crate::sys::socket::Socket;
use crate::timer::Moment;

/// What a line asks of the schedule that runs its connection.
pub(crate) trait Post: Send + Sync {
    /// Whether a turn of the connection runs at this moment: it will write what is queued.
    fn is_running(&self, id: ConnectionId) -> bool;
    /// Something waits in the outbox: have a turn write it.
    fn deliver(&self, id: ConnectionId);
    /// More waits than may: have a turn end the connection.
    fn overflowed(&self, id: ConnectionId);
    /// Replies of this datagram listener wait for their peers: try again at this moment.
    fn try_again(&self, listener: usize, at: Moment);
    /// A remote has sent so many bytes itself, without a turn.
    fn sent_aside(&self, bytes: usize);
    /// So many messages were dropped instead of being queued.
    fn skipped(&self, messages: usize);
    /// Something waits in each of these outboxes: have turns write it, and wake whoever makes them once.
    fn deliver_all(&self, ids: &mut dyn Iterator<Item = ConnectionId>) {
        ids.for_each(|id| self.deliver(id));
    }
    /// A message to a group was taken by so many of its members here.
    fn fanned_out(&self, taken: usize);
    /// How a message to many peers reaches those of whom nothing is pending.
    fn reach(&self) -> Reach;
}

/// How a message to many peers reaches those of whom nothing is pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// It is queued, and turns write it: what is sent to a peer until then leaves in one write, and the
    /// sender is done sooner.
    ByTurns,
    /// The sender writes it: a turn would cost the switch to a thread for each peer.
    AtOnce,
}

/// A socket that sends datagrams to anybody.
pub(crate) trait DatagramOutlet: Send + Sync {
    fn send(&self, bytes: &[u8], peer: &Address, from: Option<IpAddr>) -> Result<(), SendError>;
    /// As [`DatagramOutlet::send`], but it may leave as late as at the next flush.
    fn queue(&self, bytes: &[u8], peer: &Address, from: Option<IpAddr>) -> Result<(), SendError>;
    /// Sends what was queued.
    fn flush(&self);
    /// The longest datagram, in bytes.
    fn longest(&self) -> usize {
        65_507
    }
}

/// What all lines of one listener have in common.
pub(crate) struct LineSettings {
    pub(crate) framing: Framing,
    /// Who is let in; everybody without one.
    pub(crate) filter: Option<Filter>,
    /// How much may wait for a peer, and what happens beyond.
    pub(crate) live: Arc<Live>,
    pub(crate) post: Weak<dyn Post>,
    /// Sockets of the listener that are open; several may share its port. Its end is that of the last one.
    pub(crate) open_sockets: AtomicUsize,
}

impl LineSettings {
    /// One more socket of this listener is open.
    pub(crate) fn socket_opened(&self) {
        self.open_sockets.fetch_add(1, Ordering::SeqCst);
    }

    /// A socket of this listener was closed. Returns whether it was the last one.
    pub(crate) fn socket_closed(&self) -> bool {
        self.open_sockets.fetch_sub(1, Ordering::SeqCst) == 1
    }
}

/// The way to one peer.
pub(crate) struct Line {
    pub(crate) id: ConnectionId,
    pub(crate) peer: Peer,
    pub(crate) settings: Arc<LineSettings>,
    /// No remote sends any more; what is queued is still written.
    sealed: AtomicBool,
    /// The socket took no more at the last write, and the poller says when it does. Only under the lock.
    full: AtomicBool,
    /// The outbox's cost, to be read without the lock.
    waiting: AtomicUsize,
    /// Bytes that the system has taken, whoever wrote them.
    sent: AtomicU64,
    inner: Mutex<Inner>,
}

/// What whoever writes has to itself.
pub(super) struct Inner {
    pub(super) outlet: Outlet,
    /// The groups that the peer is a member of.
    pub(super) groups: Memberships,
}

pub(super) enum Outlet {
    Stream {
        socket: Arc<Socket>,
        outbox: Outbox,
    },
    Datagram {
        outlet: Arc<dyn DatagramOutlet>,
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
        Self::new(id, peer, settings, Outlet::Datagram { outlet })
    }

    fn new(id: ConnectionId, peer: Peer, settings: Arc<LineSettings>, outlet: Outlet) -> Arc<Self> {
        let (sealed, full) = (AtomicBool::new(false), AtomicBool::new(false));
        let (waiting, sent) = (AtomicUsize::new(0), AtomicU64::new(0));
        let inner = Mutex::new(Inner { outlet, groups: Memberships::default() });
        Arc::new(Self { id, peer, settings, sealed, full, waiting, sent, inner })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }

    /// The socket of a stream that has not ended.
    pub(crate) fn socket(&self) -> Option<Arc<Socket>> {
        match &self.lock().outlet {
            Outlet::Stream { socket, .. } => Some(socket.clone()),
            Outlet::Datagram { .. } | Outlet::Closed => None,
        }
    }

    /// The longest message that it takes, if there is a limit beside the framing's.
    pub(super) fn longest(&self) -> Option<usize> {
        match &self.lock().outlet {
            Outlet::Datagram { outlet, .. } => Some(outlet.longest()),
            Outlet::Stream { .. } | Outlet::Closed => None,
        }
    }

    /// What waits to be written, in bytes.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Bytes that the system has taken so far: of a session, what its remotes have sent.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Takes note of bytes that have left.
    pub(super) fn took(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Takes note of bytes that have left without a turn.
    pub(super) fn sent_aside(&self, bytes: usize, post: &dyn Post) {
        self.took(bytes);
        post.sent_aside(bytes);
    }

    /// Takes no more messages of remotes, and leaves all groups. None is on its way afterwards.
    pub(crate) fn seal(&self) {
        let groups = {
            let mut inner = self.lock();
            self.sealed.store(true, Ordering::Relaxed);
            std::mem::take(&mut inner.groups)
        };
        groups.end(self);
    }

    pub(crate) fn is_open(&self) -> bool {
        !self.sealed.load(Ordering::Relaxed)
    }

    /// Gives the socket up and forgets what is queued: the connection has ended.
    pub(crate) fn close(&self) {
        self.seal();
        let ended = std::mem::replace(&mut self.lock().outlet, Outlet::Closed);
        self.waiting.store(0, Ordering::Relaxed);
        drop(ended);
    }

    /// Queues a reply of the connection's own turn behind what waits already.
    pub(crate) fn append(&self, chunk: Chunk) {
        if let Outlet::Stream { outbox, .. } = &mut self.lock().outlet {
            outbox.append(chunk);
            self.note_waiting(outbox);
        }
    }

    /// Writes as much as the peer takes now: first `own`, the replies that the running turn collected
    /// (it is empty afterwards), then what is queued. Everything goes out in as few writes as possible.
    ///
    /// If the peer missed messages of a group, and takes bytes again, it is told before what is queued.
    pub(crate) fn flush(&self, own: &mut Vec<u8>) -> io::Result<Flushed> {
        let mut flushed = Flushed::default();
        let mut notices = Notices::Wanted;
        while let Some(due) = self.write(own, &mut flushed, notices)? {
            notices = Notices::Made;
            // The texts are made by user code: not under our lock. Nobody else writes meanwhile, since
            // the peer's turn is ours.
            let texts: Vec<Chunk> =
                due.iter().rev().filter_map(|due| due.message(&self.settings.framing)).collect();
            drop(due);
            if let Outlet::Stream { outbox, .. } = &mut self.lock().outlet {
                texts.into_iter().for_each(|text| outbox.put_first(text));
                self.note_waiting(outbox);
            }
        }
        Ok(flushed)
    }

    /// Writes until nothing waits, the peer takes no more, or it is to be told what it missed.
    fn write(
        &self,
        own: &mut Vec<u8>,
        flushed: &mut Flushed,
        notices: Notices,
    ) -> io::Result<Option<Vec<Due>>> {
        let mut inner = self.lock();
        let Outlet::Stream { socket, outbox } = &mut inner.outlet else {
            own.clear();
            return Ok(None);
        };
        if !own.is_empty() {
            if outbox.is_empty() {
                flushed.sent = or_nothing(socket.send(own))?;
                self.took(flushed.sent);
            }
            if flushed.sent < own.len() {
                outbox.put_first(Chunk::Framed(own[flushed.sent..].to_vec()));
            }
            flushed.pending = flushed.sent > 0 && !outbox.is_empty();
            own.clear();
        }
        let mut due = None;
        // A write that took a part has filled the socket: trying again at once would be in vain.
        while !outbox.is_empty() && !flushed.pending {
            let mut slices = Vec::with_capacity(super::GATHERED);
            let extent = match notices {
                Notices::Wanted if !outbox.owes_notices() => Extent::All,
                Notices::Wanted if outbox.is_torn() => Extent::Torn,
                Notices::Wanted if takes_more(socket) => {
                    due = Some(outbox.take_due());
                    break;
                }
                Notices::Wanted => {
                    flushed.pending = true;
                    break;
                }
                Notices::Made => Extent::All,
            };
            outbox.slices(extent, &mut slices);
            let offered: usize = slices.iter().map(|slice| slice.len()).sum();
            let sent = or_nothing(socket.send_gathered(&slices))?;
            drop(slices);
            outbox.advance(sent);
            self.took(sent);
            flushed.sent += sent;
            flushed.pending = sent < offered;
        }
        if outbox.is_empty() && outbox.owes_notices() {
            // More was missed while the texts were made.
            due = Some(outbox.take_due());
        }
        // Until the texts are made nobody else writes: they go first.
        self.set_full(flushed.pending || due.is_some());
        self.note_waiting(outbox);
        Ok(due)
    }

    /// Whether the socket took no more at the last write. To be asked under the lock, as the next two.
    pub(super) fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    pub(super) fn set_full(&self, full: bool) {
        self.full.store(full, Ordering::Relaxed);
    }

    pub(super) fn note_waiting(&self, outbox: &Outbox) {
        self.waiting.store(outbox.cost(), Ordering::Relaxed);
    }

    /// A remote's message: written at once if nothing is in its way, else queued under the cap.
    pub(crate) fn send_from_elsewhere(&self, chunk: Chunk) -> Result<(), SendError> {
        let Some(post) = self.settings.post.upgrade() else { return Err(SendError::Closed) };
        let mut guard = self.lock();
        if !self.is_open() {
            return Err(SendError::Closed);
        }
        let (socket, outbox) = match &mut guard.outlet {
            Outlet::Closed => return Err(SendError::Closed),
            Outlet::Datagram { outlet } => {
                let outlet = outlet.clone();
                // A refusal is logged, and a log is the user's code: not under our lock.
                drop(guard);
                let bytes = chunk.body();
                let sent = outlet.send(bytes, self.peer.address(), self.peer.reached());
                self.took(if sent.is_ok() { bytes.len() } else { 0 });
                return sent;
            }
            Outlet::Stream { socket, outbox } => (socket, outbox),
        };
        let pushed = if outbox.is_empty() && !post.is_running(self.id) {
            let mut slices: Vec<IoSlice<'_>> = Vec::with_capacity(3);
            chunk.slices(0, &mut slices);
            // An error of the socket is the connection's to notice: its turn meets it as well.
            let sent = socket.send_gathered(&slices).unwrap_or(0);
            self.sent_aside(sent, &*post);
            if sent == chunk.len() {
                return Ok(());
            }
            outbox.begin_with(chunk, sent);
            self.set_full(true);
            Pushed::Queued
        } else {
            let live = &self.settings.live;
            outbox.push(chunk, live.overflow(), live.marks().cap)
        };
        self.note_waiting(outbox);
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
            Pushed::Dropped(dropped) => {
                post.skipped(dropped);
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

/// Whether a flush still has to tell the peer what it missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Notices {
    /// Before anything that is queued whole.
    Wanted,
    /// The notices are queued; what is missed from now on is for later.
    Made,
}

/// Whether the socket takes bytes at this moment. (If it is broken the next write says so.)
fn takes_more(socket: &Socket) -> bool {
    let now = Some(Duration::ZERO);
    !matches!(socket.wait(Interest::Write, None, now), Ok(Waited::Timeout))
}

/// A socket that takes nothing now has taken nothing.
fn or_nothing(result: io::Result<usize>) -> io::Result<usize> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        other => other,
    }
}
