//! Receiving: batches, dispatched one datagram at a time, so that nothing is trapped behind a handler.
//!
//! Whoever takes a datagram decides under the intake's lock whose it is, and claims its session or puts
//! it into the session's inbox. Only then, without the lock, does a handler run. So the order of each
//! peer is kept, and while one worker blocks another goes on with the same batch.

use std::io;
use std::sync::Arc;

use crate::datagram::guard;
use crate::datagram::listen::{DatagramListener, DatagramService};
use crate::datagram::sessions::{Session, Sessions, Waiting};
use crate::desk::Why;
use crate::event::{DropReason, Event};
use crate::outbox::Line;
use crate::peer::{Address, ConnectionId, Peer};
use crate::sys::datagrams::{BATCH, Batch, Head};

/// What receiving asks of the schedule, which holds the sessions.
pub(crate) trait SessionHost {
    /// Takes a place for a session, claimed by the caller. `make` builds it.
    fn open(
        &self,
        make: &mut dyn FnMut(ConnectionId) -> Session,
    ) -> Option<(ConnectionId, Box<Session>)>;
    /// Claims a session that nobody runs and that is not queued.
    fn claim(&self, id: ConnectionId) -> Option<(Why, Box<Session>)>;
    /// Puts a claimed session into the ready queue for this reason.
    fn queue(&self, id: ConnectionId, session: Box<Session>, why: Why);
    /// Gives a session a reason for a turn.
    fn notify(&self, id: ConnectionId, why: Why);
}

/// Datagrams that were received and not dispatched yet.
pub(crate) struct Intake {
    batch: Arc<Batch>,
    /// Batches that a handler still read from when the next one was received; as many as workers have
    /// blocked at a time.
    retired: Vec<Arc<Batch>>,
    next: usize,
    /// How many to ask the kernel for: one while there is rarely more, since a batch costs more.
    appetite: usize,
    room: usize,
    pub(super) sessions: Sessions,
}

/// What to do with the datagram that was taken.
pub(crate) enum Taken {
    /// There is none: everything received is dispatched.
    Nothing,
    /// There is nothing to do with it; take the next.
    Settled,
    /// It waits for its peer's turn already; take the next.
    Waits(Peer),
    /// It was dropped; take the next.
    Dropped { peer: Peer, reason: DropReason },
    /// Receiving failed in a way that says nothing of a datagram; take the next.
    Failed(io::Error),
    /// Run this session's turn with it.
    Session { id: ConnectionId, session: Box<Session>, why: Why, datagram: Fetched },
    /// Give it to the raw handler.
    Raw { peer: Peer, datagram: Fetched },
}

/// One datagram in its batch, which lives until all of its datagrams are handled.
pub(crate) struct Fetched {
    batch: Arc<Batch>,
    index: usize,
}

impl Fetched {
    pub(crate) fn bytes(&self) -> &[u8] {
        self.batch.get(self.index).map_or(&[], |(_, bytes)| bytes)
    }

    pub(crate) fn is_truncated(&self) -> bool {
        self.batch.get(self.index).is_some_and(|(head, _)| head.truncated)
    }
}

impl Intake {
    pub(super) fn new(room: usize, max_sessions: usize) -> Self {
        Self {
            batch: Arc::new(Batch::new(room)),
            retired: Vec::new(),
            next: 0,
            appetite: 1,
            room,
            sessions: Sessions::new(max_sessions),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.next >= self.batch.len()
    }

    /// A batch to receive into: the last one, unless a handler still reads from it.
    fn room_for_batch(&mut self) -> &mut Batch {
        if Arc::get_mut(&mut self.batch).is_none() {
            let free = self.retired.iter_mut().position(|batch| Arc::get_mut(batch).is_some());
            let next = match free {
                Some(at) => self.retired.swap_remove(at),
                None => Arc::new(Batch::new(self.room)),
            };
            self.retired.push(std::mem::replace(&mut self.batch, next));
        }
        self.next = 0;
        // Made or found unshared just now.
        Arc::get_mut(&mut self.batch).expect("invariant: nobody else holds this batch")
    }
}

impl DatagramListener {
    /// Takes the next datagram, receiving more if none is left, and decides whose it is.
    pub(crate) fn take(self: &Arc<Self>, host: &dyn SessionHost) -> Taken {
        let mut intake = self.intake.lock();
        if intake.is_empty() {
            match self.receive(&mut intake) {
                Ok(true) => {}
                Ok(false) => {
                    self.found_empty();
                    return Taken::Nothing;
                }
                Err(error) => return Taken::Failed(error),
            }
        }
        let (batch, index) = (intake.batch.clone(), intake.next);
        intake.next += 1;
        let datagram = Fetched { batch, index };
        let Some((head, bytes)) = datagram.batch.get(index) else { return Taken::Settled };
        let peer = Peer::new(head.peer.clone(), self.asked(head));
        if !self.core.config.answer_service_ports && guard::is_service(&head.peer) {
            return Taken::Dropped { peer, reason: DropReason::ServicePort };
        }
        match &self.service {
            DatagramService::Raw(_) if self.core.is_suspended() => {
                Taken::Dropped { peer, reason: DropReason::Suspended }
            }
            DatagramService::Raw(_) => Taken::Raw { peer, datagram },
            DatagramService::Sessions(_) => {
                let waiting = || Waiting { bytes: bytes.into(), truncated: head.truncated };
                match self.dispatch(&mut intake.sessions, host, &peer, waiting) {
                    Ok(Some((id, session, why))) => Taken::Session { id, session, why, datagram },
                    Ok(None) => Taken::Waits(peer),
                    Err(reason) => Taken::Dropped { peer, reason },
                }
            }
        }
    }

    fn asked(&self, head: &Head) -> Address {
        match (&self.address, head.asked) {
            (Address::Udp(local), Some(ip)) => Address::Udp((ip, local.port()).into()),
            (local, _) => local.clone(),
        }
    }

    /// Receives once. Returns whether there is something now.
    fn receive(&self, intake: &mut Intake) -> io::Result<bool> {
        // Taken before the call: what arrives after it is announced anew.
        if !self.take_readable() {
            return Ok(false);
        }
        let Some(socket) = self.socket() else { return Ok(false) };
        let most = intake.appetite;
        match socket.receive(intake.room_for_batch(), most) {
            Ok(received) => {
                let count = received.count;
                let dropped = received.kernel_drops.map_or(0, |drops| self.dropped_since(drops));
                self.core.events.counters.datagrams_received(count, dropped);
                if count == most {
                    // There may be more.
                    self.set_readable();
                }
                intake.appetite = if count > 1 { BATCH } else { 1 };
                Ok(count > 0)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                intake.appetite = 1;
                Ok(false)
            }
            Err(error) => {
                // An ICMP error that somebody's datagram drew ends nothing: having been reported it
                // is off the socket. A shortage waits for the next datagram.
                if error.kind() != io::ErrorKind::OutOfMemory {
                    self.set_readable();
                }
                Err(error)
            }
        }
    }

    /// Finds or begins the session of a peer. It is claimed for the caller, or else the datagram waits
    /// in its inbox.
    fn dispatch(
        self: &Arc<Self>,
        sessions: &mut Sessions,
        host: &dyn SessionHost,
        peer: &Peer,
        waiting: impl FnOnce() -> Waiting,
    ) -> Result<Option<(ConnectionId, Box<Session>, Why)>, DropReason> {
        if let Some(entry) = sessions.find(peer.address()) {
            if entry.inbox.is_empty()
                && let Some((why, session)) = host.claim(entry.id)
            {
                return Ok(Some((entry.id, session, why)));
            }
            if !entry.inbox.push(waiting()) {
                return Err(DropReason::InboxFull);
            }
            host.notify(entry.id, Why::READ);
            return Ok(None);
        }
        if self.core.is_suspended() {
            return Err(DropReason::Suspended);
        }
        let begun = self.begin(sessions, host, peer).ok_or(DropReason::NoRoom)?;
        Ok(Some((begun.0, begun.1, Why::START)))
    }

    /// Begins a session; the one that was used longest ago makes room.
    pub(super) fn begin(
        self: &Arc<Self>,
        sessions: &mut Sessions,
        host: &dyn SessionHost,
        peer: &Peer,
    ) -> Option<(ConnectionId, Box<Session>)> {
        let DatagramService::Sessions(factory) = &self.service else { return None };
        // (Nobody's session takes no place in the table, and so needs none.)
        let takes_a_place = !peer.address().is_nobodys();
        let evicted = if takes_a_place { sessions.make_room() } else { Vec::new() };
        for evicted in evicted {
            host.notify(evicted, Why::EVICT);
        }
        if takes_a_place && !sessions.has_room() {
            // Everybody has datagrams waiting: the newcomer's is dropped.
            return None;
        }
        let now = self.core.clock.now();
        let mut make = |id| {
            let line = Line::datagram(id, peer.clone(), self.clone(), self.settings.clone());
            Session::new(line, self.clone(), factory.clone(), now)
        };
        let (id, session) = host.open(&mut make)?;
        if !peer.address().is_nobodys() {
            sessions.insert(peer.address(), id);
        }
        Some((id, session))
    }

    pub(crate) fn drop_datagram(&self, peer: &Peer, reason: DropReason) {
        let listener = &self.address;
        self.core.events.emit(&Event::DatagramDropped { peer, listener, reason });
    }
}
